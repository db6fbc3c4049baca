//! Credentials as `tug`'s users keep them: in files, with helpers, and for a moment on standard input.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::{Duration, Instant};

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::testing::registry::{Profile, Registry};
use registry_tokio::serve::Server;
use serde_json::{Value, json};

use crate::home::{Home, PAIR, archive, failed, fine, push_and_pull, with_basic, with_tokens};
use crate::run::{err, printed, runtime};

#[test]
fn logged_in_with_a_file() {
    for registry in [with_tokens(), with_basic()] {
        let (home, host) = (Home::new(), registry.host.as_str());
        let config = home.write(".docker/config.json", r#"{"auths":{"other.example":{"auth":"eDp5"}},"psFormat":"t"}"#);
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
        let login = home.tug_with(&[], &["login", host, "-u", "user", "--password-stdin"], "swordfish\n");
        assert!(
            fine(&login).contains(&format!("logged in to {host} as user; kept by {}", config.display())),
            "{login:?}"
        );
        assert_eq!(printed(&login), "");
        let expected = json!({"auths": {"other.example": {"auth": "eDp5"}, host: {"auth": PAIR}}, "psFormat": "t"});
        assert_eq!(home.json(".docker/config.json"), expected);
        assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
        let beside: Vec<_> = fs::read_dir(home.path(".docker")).unwrap().collect();
        assert_eq!(beside.len(), 1, "nothing is left beside it: {beside:?}");
        push_and_pull(&home, &[], host);
        // Every verb finds it.
        let image = format!("{host}/app:v1");
        for arguments in [
            &["inspect", &image][..],
            &["digest", &image],
            &["manifest", &image],
            &["config", &image],
            &["tags", &format!("{host}/app")],
            &["catalog", host],
            &["tag", &image, "v2"],
            &["copy", &image, &format!("{host}/copy:v1")],
        ] {
            fine(&home.tug(arguments));
        }
        let logout = home.tug(&["logout", host, "--format", "json"]);
        fine(&logout);
        let said: Value = serde_json::from_str(printed(&logout)).unwrap();
        assert_eq!(said["forgottenBy"], json!([config.to_str().unwrap()]));
        assert_eq!(home.json(".docker/config.json")["auths"], json!({"other.example": {"auth": "eDp5"}}));
        assert!(failed(&home.tug(&["digest", &image])).contains("log in first"));
        assert!(fine(&home.tug(&["logout", host])).contains("nothing is stored"));
    }
}

#[test]
fn a_password_is_tried_before_it_is_kept() {
    for registry in [with_tokens(), with_basic()] {
        let (home, host) = (Home::new(), registry.host.as_str());
        let login = home.tug_with(&[], &["login", host, "-u", "user", "--password-stdin"], "wrong\n");
        let why = failed(&login);
        assert!(why.contains("the credentials were refused") && why.contains(&format!("http://{host}/")), "{why}");
        assert!(!why.contains("wrong"), "{why}");
        assert!(!home.path(".docker").exists(), "nothing was kept");
    }
    // Nobody to ask, and nothing said.
    let home = Home::new();
    let login = home.tug(&["login", "127.0.0.1:1"]);
    assert_eq!(login.status.code(), Some(2), "{login:?}");
    assert!(err(&login).contains("--password-stdin"), "{login:?}");
}

#[test]
fn a_registry_that_asks_nothing_says_so() {
    let home = Home::new();
    let runtime = runtime();
    let open = Registry::new(Profile::distribution_3());
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), open)).unwrap();
    let host = server.address().to_string();
    let login = home.tug_with(&[], &["login", &host, "-u", "user", "-p", "x", "--format", "json"], "");
    assert!(fine(&login).contains("could not be tried out"), "{login:?}");
    let said: Value = serde_json::from_str(printed(&login)).unwrap();
    assert_eq!((&said["tried"], &said["username"]), (&json!(false), &json!("user")));
}

#[test]
fn logged_in_with_a_helper() {
    for names in [r#""credsStore":"keep""#.to_owned(), String::new()] {
        let (registry, home) = (with_tokens(), Home::new());
        let host = registry.host.as_str();
        home.keeping_helper("keep");
        let names = if names.is_empty() { format!(r#""credHelpers":{{"{host}":"keep"}}"#) } else { names };
        home.write(".docker/config.json", format!("{{{names}}}"));
        let login = home.tug_with(&[], &["login", host, "-u", "user", "--password-stdin"], "swordfish");
        assert!(fine(&login).contains("kept by docker-credential-keep"), "{login:?}");
        assert_eq!(home.json(".docker/config.json")["auths"], json!({ host: {} }));
        push_and_pull(&home, &[], host);
        fine(&home.tug(&["logout", host]));
        assert_eq!(fs::read_dir(home.path("kept")).unwrap().count(), 0, "{}", home.read("log"));
        assert!(failed(&home.tug(&["digest", &format!("{host}/app:v1")])).contains("log in first"));
        let asked = home.read("log");
        assert!(asked.starts_with("store\nget\n") && asked.contains("erase"), "{asked}");
    }
}

#[test]
fn the_places_where_credentials_are() {
    let registry = with_tokens();
    let host = registry.host.as_str();
    let right = format!(r#"{{"auths":{{"{host}":{{"auth":"{PAIR}"}}}}}}"#);
    let wrong = format!(r#"{{"auths":{{"{host}":{{"auth":"dXNlcjp3cm9uZw=="}}}}}}"#);
    // The right one in one place, a wrong one in all that come after it.
    let order = ["run/containers/auth.json", ".config/containers/auth.json", ".docker/config.json"];
    for (at, place) in order.iter().enumerate() {
        let home = Home::new();
        home.write(place, &right);
        for later in &order[at + 1..] {
            home.write(later, &wrong);
        }
        push_and_pull(&home, &[], host);
    }
    let home = Home::new();
    home.write("run/containers/auth.json", &wrong);
    let named = home.write("elsewhere/auth.json", &right);
    push_and_pull(&home, &[("REGISTRY_AUTH_FILE", named.to_str().unwrap())], host);
    push_and_pull(&home, &[("DOCKER_AUTH_CONFIG", &right)], host);
    let image = format!("{host}/app:v1");
    fine(&home.tug(&["digest", &image, "--authfile", named.to_str().unwrap()]));
    let home = Home::new();
    home.write("other/config.json", &right);
    home.write(".docker/config.json", &wrong);
    push_and_pull(&home, &[("DOCKER_CONFIG", home.path("other").to_str().unwrap())], host);
    let home = Home::new();
    home.write(".dockercfg", format!(r#"{{"{host}":{{"auth":"{PAIR}"}}}}"#));
    push_and_pull(&home, &[], host);

    // What is known in podman's file is replaced there, since it is looked for there first.
    let home = Home::new();
    home.write("run/containers/auth.json", &wrong);
    fine(&home.tug_with(&[], &["login", host, "-u", "user", "--password-stdin"], "swordfish"));
    assert!(home.read("run/containers/auth.json").contains(PAIR));
    assert!(!home.path(".docker").exists());
    push_and_pull(&home, &[], host);
    // A file that is named is the only one.
    let named = home.path("new/folder/auth.json");
    let login = ["login", host, "-u", "user", "--password-stdin", "--authfile", named.to_str().unwrap()];
    fine(&home.tug_with(&[], &login, "swordfish"));
    assert_eq!(fs::metadata(&named).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(named.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    fine(&home.tug(&["logout", host, "--authfile", named.to_str().unwrap()]));
    assert!(!home.read("new/folder/auth.json").contains(PAIR));
    assert!(home.read("run/containers/auth.json").contains(PAIR));
}

#[test]
fn credentials_for_a_part_of_a_registry() {
    let (registry, home) = (with_tokens(), Home::new());
    let host = registry.host.as_str();
    home.write(
        "run/containers/auth.json",
        format!(r#"{{"auths":{{"{host}/team":{{"auth":"{PAIR}"}},"{host}":{{"auth":"dXNlcjp3cm9uZw=="}}}}}}"#),
    );
    let archive = archive(&home);
    fine(&home.tug(&["push", &archive, &format!("{host}/team/app:v1")]));
    fine(&home.tug(&["push", &archive, "--prefix", &format!("{host}/team")]));
    assert!(
        failed(&home.tug(&["push", &archive, &format!("{host}/teams/app:v1")])).contains("credentials were refused")
    );
}

#[test]
fn an_archive_that_says_itself_where_it_goes() {
    let (registry, home) = (with_tokens(), Home::new());
    let host = registry.host.as_str();
    home.write(".docker/config.json", format!(r#"{{"auths":{{"{host}":{{"auth":"{PAIR}"}}}}}}"#));
    let name = format!("{host}/own/app:v1");
    let tar = home.write("own.tar", make::docker_save_legacy(&[SampleImage::new(&[&name], &[b"a layer"])]));
    fine(&home.tug(&["push", tar.to_str().unwrap()]));
    fine(&home.tug(&["digest", &name]));
}

#[test]
fn a_link_to_the_file_stays_one() {
    let (registry, home) = (with_basic(), Home::new());
    let real = home.write("dotfiles/config.json", "{}");
    fs::create_dir_all(home.path(".docker")).unwrap();
    std::os::unix::fs::symlink(&real, home.path(".docker/config.json")).unwrap();
    fine(&home.tug_with(&[], &["login", &registry.host, "-u", "user", "--password-stdin"], "swordfish"));
    assert!(fs::symlink_metadata(home.path(".docker/config.json")).unwrap().is_symlink());
    assert!(home.read("dotfiles/config.json").contains(PAIR));
}

/// What `tug digest` says when the helper is this script.
fn with_helper(script: &str, flags: &[&str]) -> (Output, Duration) {
    let home = Home::new();
    home.helper("odd", script);
    home.write(".docker/config.json", r#"{"credsStore":"odd"}"#);
    let began = Instant::now();
    // Nobody listens there: what goes wrong with the helper shows first.
    (home.tug(&[&["digest", "127.0.0.1:1/app:v1", "--retries", "0"], flags].concat()), began.elapsed())
}

#[test]
fn a39_helpers_that_misbehave() {
    // Endless output, slow, slow after its answer, and a child that keeps the pipe open.
    let endless = with_helper("while :; do echo 0123456789012345678901234567890123456789; done", &[]);
    assert!(failed(&endless.0).contains("it says more than a megabyte"), "{endless:?}");
    let ended = "printf '{\"Username\":\"user\",\"Secret\":\"swordfish\"}'";
    for slow in ["sleep 30", &format!("{ended}; exec 1>&-; sleep 30"), "sleep 30 & wait"] {
        let (output, took) = with_helper(slow, &["--timeout", "0.3"]);
        assert!(
            failed(&output).contains("docker-credential-odd") && err(&output).contains("was stopped"),
            "{output:?}"
        );
        assert!(took < Duration::from_secs(10), "{slow}: {took:?}");
    }
    let (output, _) = with_helper("echo 'the keychain is locked'; echo swordfish >&2; exit 1", &[]);
    assert!(failed(&output).contains("for 127.0.0.1:1: it says: the keychain is locked"), "{output:?}");
    let (output, _) = with_helper("echo swordfish", &[]);
    assert!(failed(&output).contains("its answer is not the JSON of a credential"), "{output:?}");
    assert!(!err(&output).contains("swordfish"), "{output:?}");
    // It reads nothing of what it is given, and has nothing: nobody in particular goes on.
    let (output, _) = with_helper("echo 'credentials not found in native keychain'; exit 1", &[]);
    assert!(failed(&output).contains("could not connect"), "{output:?}");
    let (output, _) = with_helper(ended, &[]);
    assert!(failed(&output).contains("could not connect"), "{output:?}");

    let home = Home::new();
    home.write(".docker/config.json", r#"{"credHelpers":{"127.0.0.1:1":"nowhere"}}"#);
    let missing = home.tug(&["digest", "127.0.0.1:1/app:v1"]);
    assert!(
        failed(&missing).contains("docker-credential-nowhere") && err(&missing).contains("install it"),
        "{missing:?}"
    );
    home.write(".docker/config.json", r#"{"credsStore":"../evil"}"#);
    assert!(failed(&home.tug(&["digest", "127.0.0.1:1/app:v1"])).contains("is no name of a credential helper"));
    // What it says to whoever sits there is passed on.
    let (output, _) = with_helper("echo 'touch your key' >&2; echo locked; exit 1", &[]);
    assert!(failed(&output).contains("touch your key"), "{output:?}");
    // Who says himself who he is needs no helper.
    let output = home.tug(&["digest", "127.0.0.1:1/app:v1", "-u", "user", "-p", "x", "--retries", "0"]);
    assert!(failed(&output).contains("could not connect"), "{output:?}");
    home.write(".docker/config.json", "{\"auths\": hunter2");
    let output = home.tug(&["digest", "127.0.0.1:1/app:v1"]);
    assert!(failed(&output).contains("config.json: it is no JSON") && !err(&output).contains("hunter2"), "{output:?}");
    home.write(".docker/config.json", vec![b' '; 2 << 20]);
    assert!(failed(&home.tug(&["digest", "127.0.0.1:1/app:v1"])).contains("larger than a megabyte"));
}

#[test]
fn a_helper_is_asked_once() {
    let (registry, home) = (with_tokens(), Home::new());
    let host = registry.host.as_str();
    home.keeping_helper("keep");
    home.write(".docker/config.json", r#"{"credsStore":"keep"}"#);
    fine(&home.tug_with(&[], &["login", host, "-u", "user", "--password-stdin"], "swordfish"));
    fine(&home.tug(&["push", &archive(&home), &format!("{host}/app:v1")]));
    fs::write(home.path("log"), "").unwrap();
    fine(&home.tug(&["copy", &format!("{host}/app:v1"), &format!("{host}/copy:v1")]));
    let references = [format!("{host}/app:v1"), format!("{host}/copy:v1")];
    let out = home.path("both.tar");
    fine(&home.tug(&["pull", &references[0], &references[1], out.to_str().unwrap(), "--all-platforms"]));
    assert_eq!(home.read("log").lines().count(), 3, "{}", home.read("log"));
}

#[test]
fn what_the_helper_gives_is_what_is_shown() {
    // An identity token, which goes to the token server in a form.
    let (registry, home) = (with_tokens(), Home::new());
    let host = registry.host.as_str();
    home.helper("token", r#"printf '{"ServerURL":"x","Username":"<token>","Secret":"no-such-token"}'"#);
    home.write(".docker/config.json", r#"{"credsStore":"token"}"#);
    let refused = home.tug(&["digest", &format!("{host}/app:v1")]);
    let why = failed(&refused);
    assert!(why.contains("POST") && why.contains("expired or was revoked: log in again"), "{why}");
    assert!(why.contains("asked for `repository:app:pull`") && !why.contains("no-such-token"), "{why}");
}
