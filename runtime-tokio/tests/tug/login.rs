//! Credentials as `tug`'s users keep them: in files, with helpers, and for a moment on standard input.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_tokio::serve::Server;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::run::{err, printed, runtime};

/// Somebody's home, with programs of his own.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::create_dir_all(home.path("bin")).unwrap();
        fs::create_dir_all(home.path("run")).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// A helper that is this shell script.
    fn helper(&self, name: &str, script: &str) {
        let path = self.write(&format!("bin/docker-credential-{name}"), format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A helper that keeps credentials in a folder, one file each.
    fn keeping_helper(&self, name: &str) {
        let kept = self.path("kept");
        fs::create_dir_all(&kept).unwrap();
        let script = format!(
            r#"
cd '{}'
echo "$1" >> ../log
input=$(cat)
case "$1" in
store) name=$(echo "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' | tr ':/' '__'); echo "$input" > "$name" ;;
get) name=$(echo "$input" | tr ':/' '__'); cat "$name" 2>/dev/null || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;
erase) name=$(echo "$input" | tr ':/' '__'); rm "$name" 2>/dev/null || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;
esac"#,
            kept.display()
        );
        self.helper(name, &script);
    }

    fn tug_with(&self, env: &[(&str, &str)], arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tug"));
        for name in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "DOCKER_AUTH_CONFIG", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut child = command
            .args(arguments)
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("PATH", path)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that takes no notice of its input may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn tug(&self, arguments: &[&str]) -> Output {
        self.tug_with(&[], arguments, "")
    }
}

/// What it said, if it went well.
fn fine(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    err(output)
}

/// Why it failed.
fn failed(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    err(output)
}

struct Closed {
    _runtime: Runtime,
    _server: Server,
    host: String,
}

/// A registry that lets `user` in, who knows the word `swordfish`.
fn closed(auth: Auth) -> Closed {
    let runtime = runtime();
    let profile = Profile { requires_auth: Some(auth), ..Profile::distribution_3() };
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), Registry::new(profile))).unwrap();
    let host = server.address().to_string();
    Closed { _runtime: runtime, _server: server, host }
}

fn with_tokens() -> Closed {
    closed(Auth::bearer_for("/token", "registry.test", "user", "swordfish"))
}

fn with_basic() -> Closed {
    closed(Auth::basic("user", "swordfish"))
}

const PAIR: &str = "dXNlcjpzd29yZGZpc2g=";

fn archive(home: &Home) -> String {
    let tar = make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &[b"a layer"])]);
    home.write("app.tar", tar).to_str().unwrap().to_owned()
}

/// Pushes and pulls with what is stored, and looks whether it is the same.
fn push_and_pull(home: &Home, env: &[(&str, &str)], host: &str) {
    let (archive, image) = (archive(home), format!("{host}/app:v1"));
    let pushed = home.tug_with(env, &["push", "-v", &archive, &image], "");
    let told = fine(&pushed);
    assert!(!told.contains("swordfish") && !told.contains(PAIR), "{told}");
    let out_file = home.path("out.tar");
    let _ = fs::remove_file(&out_file);
    let pulled = home.tug_with(env, &["pull", "-q", "--all-platforms", &image, out_file.to_str().unwrap()], "");
    fine(&pulled);
    assert_eq!(printed(&pulled), printed(&pushed));
}

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
