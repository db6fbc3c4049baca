//! `Warning` headers: shown, each text once per registry, whatever operation meets them (C92).

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;

use registry_proto::archive::make::{self, MemoryDisk};
use registry_proto::flow::{
    Copy, CopyOptions, DeleteRepository, Destination, FetchConfig, Flow, Inspect, ListCatalog, ListTags, Pinging, Push,
    PushOptions, Retag,
};
use registry_proto::spec::Reference;
use registry_proto::testing::registry::{Auth, Profile, Registry, Support};
use registry_proto::testing::simulation::{Faults, Simulation};
use registry_proto::{Config, Credential, Event, Session};
use registry_tests::images::{image, put, reference};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{self, Answer, Server};

const HOST: &str = "localhost:5000";

/// What is told of warnings.
fn told(events: impl IntoIterator<Item = Event>) -> Vec<String> {
    let notices = events.into_iter().filter_map(|event| match event {
        Event::Notice(what) => what.contains("warns").then_some(what),
        _ => None,
    });
    notices.collect()
}

fn run<F: Flow>(runtime: Runtime, flow: F) -> Vec<String> {
    let mut events = Vec::new();
    runtime.run_with(Config::default(), flow, |event| events.push(event)).ok();
    told(events)
}

/// A registry with an image at `app:v1` that warns twice on each reply, and of one thing in two ways.
fn warning() -> Registry {
    let warnings = [r#"299 - "this registry moves""#, r#"299 - "read only soon", 299 - "this registry moves""#];
    let mut registry = Registry::new(Profile {
        warnings: warnings.map(str::to_owned).into(),
        tag_page: Some(1),
        delete: Support::Yes,
        ..Profile::distribution_3()
    });
    put(&mut registry, "app", Some("v1"), &image(&[b"a layer", b"another"]));
    put(&mut registry, "app", Some("v2"), &image(&[b"a layer"]));
    registry
}

fn every_operation_shows_each_once(runtime: Runtime) {
    let (server, folder) = (Server::start(warning(), |_| Answer::registry()), tempfile::tempdir().unwrap());
    let (host, archive) = (server.host(), folder.path().join("image.tar"));
    fs::write(&archive, make::docker_save_legacy(&[image(&[b"x", b"y", b"z"])])).unwrap();
    let expected = ["this registry moves", "read only soon"].map(|text| format!("http://{host} warns: {text}"));
    let app = |rest: &str| reference(&host, rest);
    let repository = app("app").repository().clone();
    let push = Push::new(archive.as_path(), Destination::Below(host.clone()), PushOptions::default());
    assert_eq!(run(runtime, push), expected, "push");
    assert_eq!(run(runtime, Pinging::new(host.parse().unwrap())), expected, "ping");
    assert_eq!(run(runtime, Inspect::new(app("app:v1"))), expected, "inspect");
    assert_eq!(run(runtime, ListTags::new(repository.clone())), expected, "tags");
    assert_eq!(run(runtime, ListCatalog::new(host.parse().unwrap())), expected, "catalog");
    let copy = Copy::new(app("app:v1"), app("other:v1"), CopyOptions::default());
    assert_eq!(run(runtime, copy), expected, "copy");
    assert_eq!(run(runtime, Retag::new(&app("app:v1"), ["v3".parse().unwrap()])), expected, "tag");
    assert_eq!(run(runtime, DeleteRepository::new(repository)), expected, "delete");
    assert_eq!(run(runtime, Inspect::new(app("app:gone"))), expected, "also of what fails");
}

fn others_have_nothing_to_say(runtime: Runtime) {
    // Storage that the registry redirects to, and a token server.
    let sample = image(&[b"a layer"]);
    let config = String::from_utf8(sample.config().to_vec()).unwrap();
    let storage = Server::start(Registry::new(Profile::distribution_3()), move |_| {
        Answer::raw(server::reply("200 OK", &["Warning: 299 - \"from storage\""], &config))
    });
    let mut registry = Registry::new(Profile::distribution_3());
    put(&mut registry, "app", Some("v1"), &sample);
    let to = format!("Location: http://{}/blob", storage.host());
    let server = Server::start(registry, move |asked| match asked.head.uri.path() {
        path if path.contains("/blobs/") => {
            Answer::raw(server::reply("307 Temporary Redirect", &[&to, "Warning: 299 - \"from the registry\""], ""))
        }
        "/token" => {
            Answer::raw(server::reply("200 OK", &["Warning: 299 - \"from the token server\""], r#"{"token":"t"}"#))
        }
        _ if asked.header("authorization").is_empty() => {
            let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"", asked.header("host"));
            Answer::raw(server::reply("401 Unauthorized", &[&challenge], ""))
        }
        _ => Answer::registry(),
    });
    let flow = FetchConfig::new(reference(&server.host(), "app:v1"), sample.platform.clone());
    assert_eq!(run(runtime, flow), [format!("http://{} warns: from the registry", server.host())]);
    assert_eq!(storage.log().len(), 1);
}

fn no_more_is_shown_than_anybody_reads(runtime: Runtime) {
    // More than the specification allows a reply to carry: what fits is shown.
    let long = "x".repeat(3000);
    let mut registry = Registry::new(Profile { tag_page: Some(1), ..Profile::distribution_3() });
    for n in 0..100 {
        put(&mut registry, "app", Some(&format!("v{n:02}")), &image(&[b"a layer"]));
    }
    let chatty = Server::start(registry, move |asked| {
        let texts = [format!("expires in {} s", 500 - asked.number), long.clone(), long.clone(), "beyond".to_owned()];
        Answer::edited(move |reply| {
            for text in &texts {
                reply.headers_mut().append("warning", format!("299 - \"{text}\"").parse().unwrap());
            }
        })
    });
    let shown = run(runtime, ListTags::new(reference(&chatty.host(), "app").repository().clone()));
    assert_eq!(chatty.log().len(), 100);
    assert_eq!(shown.len(), 51, "a hundred texts, of which fifty are shown");
    assert!(shown[0].ends_with("expires in 500 s") && shown[1].len() < 600, "{}", shown[1]);
    assert!(shown[50].contains("further warnings are not shown"), "{}", shown[50]);
    assert!(!shown.iter().any(|text| text.contains("beyond")));
}

on_all_runtimes!(every_operation_shows_each_once, others_have_nothing_to_say, no_more_is_shown_than_anybody_reads);

/// Once for all operations of a session, and once for each registry of a copy, also when much goes wrong.
#[test]
fn a_session_shows_each_once() {
    for seed in 0..500 {
        let mut registry = warning();
        let mut config = Config::default();
        config.retries = 20;
        if seed % 2 == 0 {
            registry.profile_mut().requires_auth =
                Some(Auth::bearer_for("http://localhost:5001/token", "registry", "me", "secret"));
            config.log_in(&HOST.parse().unwrap(), Credential::password("me", "secret"));
        }
        let mut other = Registry::new(Profile::distribution_3());
        other.profile_mut().warnings = vec![r#"299 - "this registry moves""#.to_owned()];
        let mut faults = Faults::default();
        faults.requests = seed % 300;
        let mut world = Simulation::new(seed, registry, MemoryDisk::default())
            .with_registry("other.example", other)
            .with_faults(faults);
        let mut session = Session::new(config, seed);
        let app: Reference = reference(HOST, "app:v1");
        let listed = world.run(&mut session, ListTags::new(app.repository().clone()));
        let copied =
            world.run(&mut session, Copy::new(app, reference("other.example", "app:v1"), CopyOptions::default()));
        let (first, then) = (told(listed.events), told(copied.events));
        let texts = [
            "http://localhost:5000 warns: this registry moves",
            "http://localhost:5000 warns: read only soon",
            "https://other.example warns: this registry moves",
        ];
        let mut all = [&first[..], &then[..]].concat();
        if listed.result.is_ok() && copied.result.is_ok() {
            assert_eq!(
                (&first[..], &then[..]),
                (&texts.map(String::from)[..2], &texts.map(String::from)[2..]),
                "{seed}"
            );
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "seed {seed}: something is shown twice");
    }
}
