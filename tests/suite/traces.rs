//! The same push asks the same questions in the same order in the simulator and over sockets on every runtime: whatever a
//! runtime decided by itself would show here.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeMap;
use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;

use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{Destination, Push, PushOptions};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_proto::testing::simulation::Simulation;
use registry_proto::{Config, Credential, Event, Session, UploadPolicy};
use registry_tests::on_hand_made_runtimes_too;
use registry_tests::runtimes::Runtime;
use registry_tokio::serve::Server;

/// A push that is traced.
struct Case {
    profile: Profile,
    config: Config,
    /// How often the same is pushed, each time by a new client.
    rounds: usize,
}

/// Method, path and status of each request, with what differs from run to run taken out.
type Trace = Vec<String>;

fn cases() -> BTreeMap<&'static str, Case> {
    let mut one_by_one = Config::default();
    // Side by side, the order of requests is up to the network.
    one_by_one.transfers = NonZeroUsize::MIN;
    let chunked = |size| {
        let mut config = one_by_one.clone();
        config.upload = UploadPolicy::Chunked(NonZeroU64::new(size).unwrap());
        config
    };
    let mut token = Profile::distribution_2_8();
    token.requires_auth = Some(Auth::bearer_for("/token", "registry.test", "me", "secret"));
    let mut small = Profile::strict();
    small.max_body = Some(100_000);
    BTreeMap::from([
        ("plain", Case { profile: Profile::distribution_3(), config: one_by_one.clone(), rounds: 2 }),
        ("chunks", Case { profile: Profile::distribution_2_8(), config: chunked(10_000), rounds: 1 }),
        ("strict chunks", Case { profile: Profile::strict(), config: chunked(30_000), rounds: 1 }),
        ("tokens", Case { profile: token, config: one_by_one.clone(), rounds: 2 }),
        // Refused with 413 in one piece, and learned from.
        ("small bodies", Case { profile: small, config: one_by_one, rounds: 1 }),
    ])
}

fn archive() -> bytes::Bytes {
    let layers: Vec<Vec<u8>> = [300_000, 25_000, 3, 0].map(|size| vec![7; size]).into();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let other: Vec<&[u8]> = vec![&layers[1], b"of its own"];
    make::docker_save_legacy(&[
        SampleImage::new(&["app:v1", "app:v2"], &layers),
        SampleImage::new(&["other:v1"], &other),
    ])
}

fn config(case: &Case, address: &str) -> Config {
    let mut config = case.config.clone();
    if case.profile.requires_auth.is_some() {
        config.log_in(&address.parse().unwrap(), Credential::password("me", "secret"));
    }
    config
}

fn push(archive: &Path, address: &str) -> Push {
    Push::new(archive, Destination::Below(address.to_owned()), PushOptions::default())
}

fn trace(events: &[Event], address: &str) -> Trace {
    let lines = events.iter().filter_map(|event| match event {
        Event::Asked { request, reply, .. } => Some((request.to_string(), reply.as_ref().unwrap().as_u16())),
        _ => None,
    });
    lines.map(|(request, status)| format!("{} {status}", request.replace(address, "registry"))).collect()
}

fn simulated(case: &Case) -> Trace {
    let disk = MemoryDisk::with("app.tar", archive());
    let mut world = Simulation::new(1, Registry::new(case.profile.clone()), disk);
    let mut found = Trace::new();
    for _ in 0..case.rounds {
        let mut session = Session::new(config(case, "localhost:5000"), 1);
        let ran = world.run(&mut session, push(Path::new("app.tar"), "localhost:5000"));
        ran.result.unwrap();
        found.extend(trace(&ran.events, "localhost:5000"));
    }
    assert_eq!(found.len() as u64, requests(world.registry()), "the events tell of every request");
    found
}

fn requests(registry: &Registry) -> u64 {
    // Requests for a token are not counted as requests to the registry.
    registry.ledger().requests + registry.ledger().tokens_issued
}

fn the_trace_is_the_simulators(runtime: Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.tar");
    fs::write(&path, archive()).unwrap();
    let tokio = ::tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for (name, case) in cases() {
        let registry = Registry::new(case.profile.clone());
        let server = tokio.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
        let address = server.address().to_string();
        let mut found = Trace::new();
        for _ in 0..case.rounds {
            let mut events = Vec::new();
            runtime.run_with(config(&case, &address), push(&path, &address), |event| events.push(event)).unwrap();
            found.extend(trace(&events, &address));
        }
        assert_eq!(found, simulated(&case), "{name} on {runtime}");
        assert_eq!(
            server.registry(|registry| requests(registry)),
            found.len() as u64,
            "{name} on {runtime}: nothing unseen"
        );
    }
}

on_hand_made_runtimes_too!(the_trace_is_the_simulators);
