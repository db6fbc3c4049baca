//! Proxies on all three runtimes: who is reached by way of them, what is shown to whom, and what becomes of it when they don't
//! do as they should.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::flow::{Destination, Pinging, Platforms, Pull, PullOptions, Push, PushOptions, SaveBlob};
use registry_proto::job::{FailureKind, ProxyFault};
use registry_proto::spec::{Digest, Repository};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_proto::{Config, Credential, Error, Proxies, Scheme};
use registry_tests::authority::{Authority, NAME};
use registry_tests::on_all_runtimes;
use registry_tests::proxy::{Answer, Proxy};
use registry_tests::runtimes::Runtime;
use registry_tests::secrets;
use registry_tests::server::{self, Server};
use tempfile::TempDir;

/// What the proxies that want credentials want: the user `guest`, with this password.
const PASSWORD: &str = "let-me-through";
/// Both, as `Basic` gives them.
const PAIR: &str = "Z3Vlc3Q6bGV0LW1lLXRocm91Z2g=";

fn config(scheme: Scheme, proxies: Proxies) -> Config {
    let mut config = Config::default();
    (config.scheme, config.proxies) = (scheme, proxies);
    config.retries = 1;
    (config.backoff, config.backoff_limit) = (Duration::from_millis(5), Duration::from_millis(10));
    config
}

fn by(proxy: &Proxy) -> Proxies {
    Proxies::all(proxy.host().parse().unwrap())
}

fn with_password(proxy: &Proxy, password: &str) -> Proxies {
    secrets::register(PASSWORD);
    secrets::register(PAIR);
    Proxies::all(format!("http://guest:{password}@{}", proxy.host()).parse().unwrap())
}

fn registry() -> Registry {
    Registry::new(Profile::distribution_3())
}

/// Where a registry by [`NAME`] is, as a proxy is asked for it.
fn behind(port: u16) -> String {
    format!("{NAME}:{port}")
}

/// Pushes an image there, and pulls it back.
fn there_and_back(runtime: Runtime, config: &Config, host: &str) -> Result<(), Error> {
    let folder = TempDir::new().unwrap();
    let (archive, out) = (folder.path().join("app.tar"), folder.path().join("out.tar"));
    let layers: [&[u8]; 2] = [b"a layer", &[7; 300_000]];
    fs::write(&archive, make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &layers)])).unwrap();
    let to = Destination::Reference(format!("{host}/app:v1").parse().unwrap());
    let pushed = runtime.run(config.clone(), Push::new(archive.as_path(), to, PushOptions::default()))?;
    let mut options = PullOptions::default();
    options.platforms = Platforms::All;
    let from = format!("{host}/app:v1").parse().unwrap();
    let pulled = runtime.run(config.clone(), Pull::new([from], out, options))?;
    assert_eq!(pulled.images[0].digest, pushed.references[0].digest);
    Ok(())
}

fn ping(runtime: Runtime, config: Config, host: &str) -> Result<(), Error> {
    runtime.run(config, Pinging::new(host.parse().unwrap())).map(drop)
}

#[track_caller]
fn fault<T: std::fmt::Debug>(result: Result<T, Error>) -> (ProxyFault, u32, String) {
    let Err(error) = result else { panic!("not the proxy's fault: {result:?}") };
    match &error {
        Error::Transport { last, tries, .. } => match last.kind() {
            FailureKind::Proxy(fault) => (fault, *tries, error.to_string()),
            _ => panic!("not the proxy's fault: {error:?}"),
        },
        _ => panic!("not the proxy's fault: {error:?}"),
    }
}

// ── ways ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

fn https_goes_through_by_name(runtime: Runtime) {
    let authority = Authority::new();
    let server = Server::start_as(&authority.identity(), registry(), |_| server::Answer::registry());
    let proxy = Proxy::to(&[(&behind(443), &server.host())]);
    let mut config = config(Scheme::Auto, by(&proxy));
    config.tls.authorities.push(authority.root());
    there_and_back(runtime, &config, NAME).unwrap();
    assert_eq!(proxy.asked_for(), [behind(443)]);
    assert_eq!(server.accepted(), proxy.log().len() as u64, "each connection came through the proxy");

    // Who is behind it shows who he is, as he does without: a proxy can't pretend to be the registry.
    config.tls.authorities.clear();
    let refused = ping(runtime, config, NAME);
    assert!(matches!(&refused, Err(Error::Transport { last, .. }) if last.kind() == FailureKind::Tls), "{refused:?}");
}

fn http_goes_through_like_that(runtime: Runtime) {
    let server = Server::start(registry(), |_| server::Answer::registry());
    let proxy = Proxy::to(&[(&behind(80), &server.host()), (&behind(5000), &server.host())]);
    let config = config(Scheme::Http, by(&proxy));
    there_and_back(runtime, &config, NAME).unwrap();
    there_and_back(runtime, &config, &behind(5000)).unwrap();
    assert_eq!(proxy.asked_for(), [behind(5000), behind(80)]);
    // The requests themselves are those that would have been sent without.
    assert!(server.log().iter().all(|asked| asked.head.uri.authority().is_none()));
    assert!(server.log().iter().all(|asked| [NAME, &behind(5000)].contains(&asked.header("host"))));
}

fn who_needs_none_goes_straight(runtime: Runtime) {
    let server = Server::start(registry(), |_| server::Answer::registry());
    let host = server.host();
    let proxy = Proxy::to(&[(&host, &host)]);
    for proxies in [
        by(&proxy),
        by(&proxy).with_loopback().except("127.0.0.1"),
        by(&proxy).with_loopback().except(&host),
        by(&proxy).with_loopback().except("x.example,127.0.0.0/8"),
        by(&proxy).with_loopback().except("*"),
        Proxies::default().with_loopback().https(proxy.host().parse().unwrap()),
    ] {
        there_and_back(runtime, &config(Scheme::Auto, proxies), &host).unwrap();
        assert_eq!(proxy.asked_for(), [""; 0]);
    }
    let through = by(&proxy).with_loopback().except("127.0.0.2, 127.0.0.1:1");
    there_and_back(runtime, &config(Scheme::Auto, through), &host).unwrap();
    assert_eq!(proxy.asked_for(), [host]);
}

/// A storage that blobs are redirected to, each origin by its own way.
fn redirects_find_their_own_way(runtime: Runtime) {
    let storage = Server::start(registry(), |_| server::Answer::raw(server::reply("200 OK", &[], "a layer")));
    let elsewhere = format!("Location: http://{}/it", storage.host());
    let mut holds_it = registry();
    holds_it.insert_blob("app", "a layer".into());
    let server = Server::start(holds_it, move |asked| {
        if asked.is("GET", "/v2/app/blobs/") {
            return server::Answer::raw(server::reply("307 Temporary Redirect", &[&elsewhere], ""));
        }
        server::Answer::registry()
    });
    let proxy = Proxy::to(&[(&server.host(), &server.host()), (&storage.host(), &storage.host())]);
    let digest = Digest::of(b"a layer");
    let repository: Repository = format!("{}/app", server.host()).parse().unwrap();
    let blob = |proxies: Proxies| {
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("layer");
        let flow = SaveBlob::new(repository.clone(), digest.clone(), &out);
        runtime.run(config(Scheme::Auto, proxies), flow).unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"a layer");
    };
    blob(by(&proxy).with_loopback());
    let mut both = [server.host(), storage.host()];
    both.sort();
    assert_eq!(proxy.asked_for(), both);

    let proxy = Proxy::to(&[(&server.host(), &server.host())]);
    blob(by(&proxy).with_loopback().except(&storage.host()));
    assert_eq!(proxy.asked_for(), [server.host()]);
}

/// What the environment says, in a process of its own: this one's is everybody's.
fn the_environment_is_read_on_demand(runtime: Runtime) {
    const CHILD: &str = "PROXIES_TEST_CHILD";
    let http = |proxies| config(Scheme::Http, proxies);
    if std::env::var_os(CHILD).is_some() {
        runtime.run_by_environment(http(Proxies::default()), Pinging::new(NAME.parse().unwrap())).unwrap();
        let direct = ping(runtime, http(Proxies::default()), NAME);
        assert!(
            matches!(&direct, Err(Error::Transport { last, .. }) if last.kind() == FailureKind::Connect),
            "{direct:?}"
        );
        return;
    }
    let server = Server::start(registry(), |_| server::Answer::registry());
    let proxy = Proxy::to(&[(&behind(80), &server.host())]);
    let output = Command::new(std::env::current_exe().unwrap())
        .args([std::thread::current().name().unwrap(), "--exact", "--nocapture"])
        .env(CHILD, "")
        .env("http_proxy", proxy.host())
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((proxy.log().len(), server.log().len()), (1, 1), "once, by the client that was to");
}

// ── what is shown to whom ────────────────────────────────────────────────────────────────────────────────────────────

fn everybody_sees_his_own_credentials(runtime: Runtime) {
    for scheme in [Scheme::Http, Scheme::Https] {
        let authority = Authority::new();
        let profile = Profile { requires_auth: Some(Auth::basic("user", "swordfish")), ..Profile::distribution_3() };
        let script = |_: &server::Asked| server::Answer::registry();
        let (server, port) = match scheme {
            Scheme::Https => (Server::start_as(&authority.identity(), Registry::new(profile), script), 443),
            _ => (Server::start(Registry::new(profile), script), 80),
        };
        let proxy = Proxy::guarded(&[(&behind(port), &server.host())], PAIR);
        let mut config = config(scheme, with_password(&proxy, PASSWORD));
        config.tls.authorities.push(authority.root());
        config.log_in(&NAME.parse().unwrap(), Credential::password("user", "swordfish"));
        there_and_back(runtime, &config, NAME).unwrap();
        assert!(server.log().iter().any(|asked| asked.header("authorization").starts_with("Basic ")));
        for asked in server.log() {
            let head = format!("{:?}", asked.head.headers);
            assert!(asked.header("proxy-authorization").is_empty() && !head.contains(PAIR), "{head}");
        }
        for asked in proxy.log() {
            let fields = asked.head.lines().filter(|line| line.to_ascii_lowercase().contains("authorization"));
            let expected = format!("Proxy-Authorization: Basic {PAIR}");
            assert_eq!(fields.collect::<Vec<_>>(), [expected], "nothing of the registry's");
        }
    }
}

fn a_proxy_that_wants_credentials(runtime: Runtime) {
    let server = Server::start(registry(), |_| server::Answer::registry());
    let proxy = Proxy::guarded(&[(&behind(80), &server.host())], PAIR);
    let (is, tries, why) = fault(ping(runtime, config(Scheme::Http, by(&proxy)), NAME));
    assert_eq!((is, tries), (ProxyFault::Credentials, 1), "{why}");
    for words in [&proxy.host(), NAME, "407", "it was shown none", "user and password in the proxy's address"] {
        assert!(why.contains(words), "{words}: {why}");
    }
    let wrong = with_password(&proxy, "hunter2");
    let (is, tries, why) = fault(ping(runtime, config(Scheme::Http, wrong), NAME));
    assert_eq!((is, tries), (ProxyFault::Credentials, 1), "{why}");
    assert!(why.contains("doesn't take those it was shown"), "{why}");
    assert_eq!(server.accepted(), 0);
    ping(runtime, config(Scheme::Http, with_password(&proxy, PASSWORD)), NAME).unwrap();
}

/// An upload's chunk is nothing that may be sent twice; but nobody got it here.
fn what_a_proxy_refuses_is_not_tried_again(runtime: Runtime) {
    let server = Server::start(registry(), |_| server::Answer::registry());
    let proxy = Proxy::start(&[(&behind(80), &server.host())], |_| Answer::status("403 Forbidden", &[]));
    let (is, tries, why) = fault(there_and_back(runtime, &config(Scheme::Http, by(&proxy)), NAME));
    assert_eq!((is, tries), (ProxyFault::Refused, 1), "{why}");
    assert!(why.contains("403 Forbidden") && why.contains(&proxy.host()) && why.contains("no_proxy"), "{why}");
}

// ── proxies that don't do as they should ─────────────────────────────────────────────────────────────────────────────

fn it_is_told_what_is_wrong_with_a_proxy(runtime: Runtime) {
    type Make = fn() -> Answer;
    let ssh: Make = || Answer::Holds(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec());
    let endless: Make =
        || Answer::Repeats([b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 8000]].concat(), Duration::ZERO);
    for (answer, expected, tries, words) in [
        (ssh, ProxyFault::Protocol, 1, "not HTTP/1"),
        (endless, ProxyFault::Protocol, 1, "does not end"),
        (
            || Answer::Says(b"HTTP/1.1 200 OK\r\n\r\nand more".to_vec()),
            ProxyFault::Protocol,
            1,
            "more than it was asked",
        ),
        (|| Answer::Says(Vec::new()), ProxyFault::Silent, 2, "closed the connection"),
        (|| Answer::status("502 Bad Gateway", &[]), ProxyFault::Beyond, 2, "502 Bad Gateway"),
        (|| Answer::status("405 Method Not Allowed", &[]), ProxyFault::Refused, 1, "405"),
    ] {
        let proxy = Proxy::start(&[], move |_| answer());
        let (is, tried, why) = fault(ping(runtime, config(Scheme::Http, by(&proxy)), NAME));
        assert_eq!((is, tried), (expected, tries), "{why}");
        assert!(why.contains(words) && why.contains(&proxy.host()) && why.contains(&behind(80)), "{words}: {why}");
    }
    let nobody = server::listen().local_addr().unwrap();
    let proxies = Proxies::all(nobody.to_string().parse().unwrap());
    let (is, tries, why) = fault(ping(runtime, config(Scheme::Http, proxies), NAME));
    assert_eq!((is, tries), (ProxyFault::Unreachable, 2), "{why}");
    assert!(why.contains(&nobody.to_string()) && why.contains("refused"), "{why}");
    let proxies = Proxies::all("proxy.invalid:3128".parse().unwrap());
    let (is, _, why) = fault(ping(runtime, config(Scheme::Http, proxies), NAME));
    assert!(is == ProxyFault::Unreachable && why.contains("http://proxy.invalid:3128"), "{why}");
    let proxies = Proxies::from_env(|name| (name == "all_proxy").then(|| "socks5://127.0.0.1:1080".to_owned()));
    let (is, tries, why) = fault(ping(runtime, config(Scheme::Http, proxies), NAME));
    assert_eq!((is, tries), (ProxyFault::Unusable, 1), "{why}");
    assert!(why.contains("all_proxy") && why.contains("`socks5`"), "{why}");
}

fn a31_a_proxy_that_stalls_or_drips(runtime: Runtime) {
    type Make = fn() -> Answer;
    let mute: Make = || Answer::Holds(Vec::new());
    for answer in [
        mute,
        || Answer::Holds(b"HTTP/1.1 200 Conn".to_vec()),
        || Answer::Repeats(b"HTTP/1.1 200 OK\r\nX: y\r\n".to_vec(), Duration::from_millis(50)),
    ] {
        let proxy = Proxy::start(&[], move |_| answer());
        let mut config = config(Scheme::Http, by(&proxy));
        config.timeouts.connect = Duration::from_millis(400);
        let began = Instant::now();
        let (is, tries, why) = fault(ping(runtime, config, NAME));
        assert_eq!((is, tries), (ProxyFault::Silent, 2), "{why}");
        assert!(why.contains(&proxy.host()) && why.contains("nothing came in time"), "{why}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

/// The proxy did what it should: it is who is behind it that doesn't answer.
fn who_is_behind_a_proxy_has_his_own_faults(runtime: Runtime) {
    let server = Server::start(registry(), |_| server::Answer::stall(0));
    let proxy = Proxy::to(&[(&behind(80), &server.host())]);
    let mut config = config(Scheme::Http, by(&proxy));
    config.timeouts.head = Duration::from_millis(300);
    let why = ping(runtime, config, NAME).unwrap_err();
    assert!(matches!(&why, Error::Transport { last, .. } if matches!(last.kind(), FailureKind::Timeout(_))), "{why:?}");
}

/// What the registry itself says with a status of the proxies' is no proxy's word, and its password is nobody else's.
fn a_407_of_the_registry_is_its_own(runtime: Runtime) {
    let wants = server::reply("407 Proxy Authentication Required", &["Proxy-Authenticate: Basic realm=\"r\""], "");
    let server = Server::start(registry(), move |_| server::Answer::raw(&wants));
    let proxy = Proxy::guarded(&[(&behind(80), &server.host())], PAIR);
    let result = ping(runtime, config(Scheme::Http, with_password(&proxy, PASSWORD)), NAME);
    assert!(!matches!(result, Err(Error::Transport { .. })), "{result:?}");
    assert!(server.log().iter().all(|asked| asked.header("proxy-authorization").is_empty()));
}

on_all_runtimes!(
    https_goes_through_by_name,
    http_goes_through_like_that,
    who_needs_none_goes_straight,
    redirects_find_their_own_way,
    the_environment_is_read_on_demand,
    everybody_sees_his_own_credentials,
    a_proxy_that_wants_credentials,
    what_a_proxy_refuses_is_not_tried_again,
    it_is_told_what_is_wrong_with_a_proxy,
    a31_a_proxy_that_stalls_or_drips,
    who_is_behind_a_proxy_has_his_own_faults,
    a_407_of_the_registry_is_its_own,
);
