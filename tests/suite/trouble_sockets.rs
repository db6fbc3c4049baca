//! A registry in which every third request comes to nothing, over sockets: what was begun is ended, and nobody is asked before
//! the pause is over that was asked for.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::archive::{Archive, Limits};
use registry_proto::flow::{
    Copy, CopyOptions, Destination, FetchManifest, Platforms, Pull, PullOptions, Push, PushOptions,
};
use registry_proto::spec::Digest;
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::{Config, Error, Event};
use registry_tests::hostile::{Ran, run};
use registry_tests::images::noise;
use registry_tests::images::{put, reference};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Server, reply};

/// What a registry asks for when it is too much.
const PAUSE: Duration = Duration::from_secs(1);

/// What was asked of a registry, and when.
#[derive(Debug, Default)]
struct Told {
    requests: u32,
    /// How many were answered 503, and 429 with a pause.
    refused: (u32, u32),
    /// Until when it wants to be left alone.
    quiet: Option<Instant>,
    /// Who didn't wait.
    early: Vec<String>,
}

/// Answers each third request with 503 and with 429 in turn.
fn overloaded(registry: Registry) -> (Server, Arc<Mutex<Told>>) {
    let told = Arc::new(Mutex::new(Told::default()));
    let inside = Arc::clone(&told);
    let server = Server::start(registry, move |asked| {
        let mut told = inside.lock().unwrap();
        if told.quiet.take().is_some_and(|quiet| Instant::now() < quiet) {
            told.early.push(format!("{} {}", asked.head.method, asked.head.uri));
        }
        told.requests += 1;
        match told.requests % 6 {
            3 => {
                told.refused.0 += 1;
                Answer::raw(reply("503 Service Unavailable", &[], "<html>down</html>"))
            }
            0 => {
                told.refused.1 += 1;
                // The client counts from when it hears of it, which is later.
                told.quiet = Some(Instant::now() + PAUSE);
                Answer::raw(reply("429 Too Many Requests", &["Retry-After: 1"], "{}"))
            }
            _ => Answer::registry(),
        }
    });
    (server, told)
}

/// One request at a time, so that none is under way when a pause is asked for.
fn config() -> Config {
    let mut config = Config::default();
    config.requests_per_registry = NonZeroUsize::MIN;
    (config.backoff, config.backoff_limit) = (Duration::from_millis(20), Duration::from_millis(40));
    config
}

fn layers() -> [Vec<u8>; 3] {
    [noise(700_000), b"small".to_vec(), noise(3000)]
}

fn image(tags: &[&str]) -> SampleImage {
    SampleImage::new(tags, &layers().each_ref().map(Vec::as_slice))
}

/// It went right, in spite of trouble of both kinds; nobody came before the time, and nobody waited for much longer.
#[track_caller]
fn check<T: std::fmt::Debug>(what: &str, ran: &Ran<T>, registries: &[&Mutex<Told>]) {
    assert!(ran.result.is_ok(), "{what}: {:?}", ran.result);
    let mut pauses = 0;
    for told in registries {
        let told = told.lock().unwrap();
        assert_eq!(told.early, [""; 0], "{what}");
        pauses += told.refused.1;
        assert!(told.refused.0 > 0 && told.refused.1 > 0, "{what}: too few requests to be in trouble: {told:?}");
    }
    let asked_for = PAUSE * pauses;
    assert!(ran.took >= PAUSE, "{what}: {:?}", ran.took);
    assert!(ran.took < asked_for + Duration::from_secs(5), "{what}: {:?} for {asked_for:?}", ran.took);
    let told =
        ran.events.iter().filter(|event| matches!(event, Event::Retrying { .. } | Event::Waiting { .. })).count();
    assert!(told >= pauses as usize, "{what}: each pause has a reason that is told");
}

fn holds_all(server: &Server, repository: &str) {
    let registry = server.registry();
    for content in layers() {
        assert_eq!(registry.blob(repository, Digest::of(&content).as_str()).map(Vec::from), Some(content));
    }
    assert!(registry.manifest(repository, "v1").is_some());
    let ledger = registry.ledger();
    assert!(ledger.mismatches.is_empty() && ledger.early_manifests.is_empty());
    assert!(ledger.commits.values().all(|commits| *commits == 1), "{:?}", ledger.commits);
}

fn push_pull_and_copy_end_right(runtime: Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let (archive, back) = (folder.path().join("image.tar"), folder.path().join("back.tar"));
    fs::write(&archive, make::docker_save_oci(&[image(&["app:v1"])])).unwrap();

    let (server, told) = overloaded(Registry::new(Profile::distribution_3()));
    let to = Destination::Reference(reference(&server.host(), "app:v1"));
    let ran = run(runtime, config(), Push::new(archive.as_path(), to, PushOptions::default()));
    check("push", &ran, &[&told]);
    holds_all(&server, "app");

    let filled = || {
        let mut registry = Registry::new(Profile::distribution_3());
        put(&mut registry, "app", Some("v1"), &image(&[]));
        registry
    };
    let (server, told) = overloaded(filled());
    let mut options = PullOptions::default();
    options.platforms = Platforms::All;
    let ran = run(runtime, config(), Pull::new([reference(&server.host(), "app:v1")], back.as_path(), options));
    check("pull", &ran, &[&told]);
    let read = MemoryDisk::with("back.tar", fs::read(&back).unwrap());
    let read = Archive::read(&read, &std::path::Path::new("back.tar").into(), &Limits::default()).unwrap();
    assert_eq!(read.images()[0].blob_digests().len(), 4);

    let (source, here) = overloaded(filled());
    let (server, there) = overloaded(Registry::new(Profile::distribution_3()));
    let flow =
        Copy::new(reference(&source.host(), "app:v1"), reference(&server.host(), "copied:v1"), CopyOptions::default());
    let ran = run(runtime, config(), flow);
    check("copy", &ran, &[&here, &there]);
    holds_all(&server, "copied");
}

/// Every driver runs what it is given as an operation, whose patience has an end.
fn nobody_waits_for_ever(runtime: Runtime) {
    let server = Server::start(Registry::new(Profile::distribution_3()), |_| {
        Answer::raw(reply("429 Too Many Requests", &["Retry-After: 60"], "{}"))
    });
    let mut config = Config::default();
    config.patience = Duration::from_secs(30);
    let ran = run(runtime, config, FetchManifest::new(&reference(&server.host(), "app:v1")));
    assert!(matches!(ran.result, Err(Error::GivenUp { .. })), "{:?}", ran.result);
    assert!(ran.took < Duration::from_secs(5) && server.log().len() == 1, "{:?}", ran.took);
}

on_all_runtimes!(push_pull_and_copy_end_right, nobody_waits_for_ever);
