//! TLS on all three runtimes: authorities that nobody else trusts, client certificates, and certificates that nobody looks at.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;
use std::time::Duration;

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::flow::{Destination, Pinging, Push, PushOptions, Pushed};
use registry_proto::job::FailureKind;
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::{ClientIdentity, Config, Error, Event, Scheme};
use registry_tests::authority::Authority;
use registry_tests::docker_registry::DockerRegistry;
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Server};
use tempfile::TempDir;

fn config() -> Config {
    let mut config = Config::default();
    config.scheme = Scheme::Https;
    config.retries = 1;
    (config.backoff, config.backoff_limit) = (Duration::from_millis(5), Duration::from_millis(10));
    config
}

fn trusting(authority: &Authority) -> Config {
    let mut config = config();
    config.tls.authorities.push(authority.root());
    config
}

/// Pushes an image there; what came of it, and what the user was told.
fn push(runtime: Runtime, config: Config, host: &str) -> (Result<Pushed, Error>, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let archive = folder.path().join("app.tar");
    let layers: [&[u8]; 2] = [b"a layer", &[7; 300_000]];
    fs::write(&archive, make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &layers)])).unwrap();
    let to = Destination::Reference(format!("{host}/app:v1").parse().unwrap());
    let mut notices = Vec::new();
    let result = runtime.run_with(config, Push::new(archive.as_path(), to, PushOptions::default()), |event| {
        if let Event::Notice(what) = event {
            notices.push(what);
        }
    });
    (result, notices)
}

fn in_memory() -> Registry {
    Registry::new(Profile::distribution_3())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: &Result<T, Error>) {
    match result {
        Err(Error::Transport { last, .. }) if last.kind() == FailureKind::Tls => {}
        other => panic!("not refused by TLS: {other:?}"),
    }
}

fn only_known_authorities_are_trusted(runtime: Runtime) {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Server::start_as(&authority.identity(), in_memory(), |_| Answer::registry());
    for config in [config(), trusting(&stranger)] {
        let (result, notices) = push(runtime, config, &server.host());
        refused(&result);
        let why = result.unwrap_err().to_string();
        assert!(why.contains("is its authority known here"), "{why}");
        assert_eq!(notices, [""; 0]);
    }
    assert_eq!(server.log().len(), 0, "nothing is said to strangers");
    let (result, notices) = push(runtime, trusting(&authority), &server.host());
    result.unwrap();
    assert_eq!(notices, [""; 0]);
    let mut broken = trusting(&authority);
    broken.tls.authorities.push(b"no certificate".to_vec());
    let result = runtime.run(broken, Pinging::new(server.host().parse().unwrap()));
    assert!(matches!(&result, Err(Error::Misuse(why)) if why.contains("root certificate")), "{result:?}");
}

fn who_asks_is_shown(runtime: Runtime) {
    let (authority, clients, stranger) = (Authority::new(), Authority::new(), Authority::new());
    let tls = authority.identity().server_config_for_clients_of(&clients);
    let server = Server::start_speaking(tls, in_memory(), |_| Answer::registry());
    let real = DockerRegistry::with_client_certificates(&authority.identity(), &clients);
    for host in [server.host(), real.host()] {
        let with = |identity: Option<ClientIdentity>| {
            let mut config = trusting(&authority);
            config.tls.identity = identity;
            push(runtime, config, &host).0
        };
        // Under TLS 1.3 the server's refusal comes after the handshake, and may meet a connection that is over already.
        for identity in [None, Some(stranger.identity().of_a_client())] {
            let result = with(identity);
            assert!(matches!(result, Err(Error::Transport { .. })), "{host}: {result:?}");
        }
        with(Some(clients.identity().of_a_client())).unwrap();
    }
}

fn what_does_not_belong_together_is_refused(runtime: Runtime) {
    let (one, other) = (Authority::new().identity().of_a_client(), Authority::new().identity().of_a_client());
    let key = |identity: &ClientIdentity| identity.expose_key().to_vec();
    for wrong in [
        ClientIdentity::new(one.chain().to_vec(), key(&other)),
        ClientIdentity::new(one.chain().to_vec(), b"hunter2".to_vec()),
        ClientIdentity::new(Vec::new(), key(&one)),
        ClientIdentity::new(vec![b"no certificate".to_vec()], key(&one)),
    ] {
        let mut config = config();
        config.tls.identity = Some(wrong);
        let result = runtime.run(config, Pinging::new("127.0.0.1:1".parse().unwrap()));
        let Err(Error::Misuse(why)) = &result else { panic!("{result:?}") };
        assert!(why.contains("client certificate and its key can't be used") && !why.contains("hunter2"), "{why}");
    }
}

fn whom_nobody_looks_at_is_announced(runtime: Runtime) {
    let authority = Authority::new();
    let server = Server::start_as(&authority.identity(), in_memory(), |_| Answer::registry());
    let mut careless = config();
    careless.tls.unverified = true;
    let (result, notices) = push(runtime, careless.clone(), &server.host());
    result.unwrap();
    let [notice] = &notices[..] else { panic!("not once: {notices:?}") };
    assert!(notice.contains(&format!("certificate of https://{} is not verified", server.host())), "{notice}");

    // With a certificate of one's own, too.
    let tls = authority.identity().server_config_for_clients_of(&authority);
    let server = Server::start_speaking(tls, in_memory(), |_| Answer::registry());
    careless.tls.identity = Some(authority.identity().of_a_client());
    push(runtime, careless.clone(), &server.host()).0.unwrap();

    // Where nothing is encrypted, nothing is to be verified.
    let server = Server::start(in_memory(), |_| Answer::registry());
    careless.scheme = Scheme::Http;
    let (result, notices) = push(runtime, careless, &server.host());
    result.unwrap();
    assert_eq!(notices, [""; 0]);
}

on_all_runtimes!(
    only_known_authorities_are_trusted,
    who_asks_is_shown,
    what_does_not_belong_together_is_refused,
    whom_nobody_looks_at_is_announced,
);
