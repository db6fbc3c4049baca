//! Real faults under real traffic: a `docker-registry` that is killed again and again, and relays that cut what is large.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use registry_proto::Config;
use registry_proto::flow::{Destination, Push, PushOptions, Pushed};
use registry_proto::testing::registry::{Profile, Registry};
use registry_tests::docker_registry::DockerRegistry;
use registry_tests::memory::holes;
use registry_tests::on_all_runtimes;
use registry_tests::relay::{Cut, Passed, Relay};
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Server};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// Pushes layers of these sizes, and checks that the push says that they were sent.
fn push(runtime: Runtime, config: Config, sizes: &[u64], host: &str) -> Pushed {
    let folder = TempDir::new().unwrap();
    let to = Destination::Reference(format!("{host}/app:v1").parse().unwrap());
    let flow = Push::new(holes(folder.path(), sizes), to, PushOptions::default());
    let pushed = runtime.run(config, flow).unwrap_or_else(|why| panic!("{runtime}: {why}"));
    assert!(pushed.totals.sent_bytes >= sizes.iter().sum(), "{runtime}: {:?}", pushed.totals);
    pushed
}

/// The digest that a request ends an upload with.
fn commits(passed: &Passed) -> Option<&str> {
    let digest = passed.target.split_once("digest=")?.1;
    (passed.method == "PUT").then_some(digest)
}

/// No blob was sent any more once its upload had ended well.
#[track_caller]
fn check_nothing_finished_is_sent_again(runtime: Runtime, passed: &[Passed]) {
    for (at, one) in passed.iter().enumerate() {
        if let (Some(digest), Some(201)) = (commits(one), one.status) {
            let again = passed[at + 1..].iter().find(|later| commits(later) == Some(digest));
            assert!(again.is_none(), "{runtime}: {digest} was there already: {again:?}");
        }
    }
}

#[track_caller]
fn check_is_there(host: &str, digest: &str) {
    let raw = registry_tests::docker_registry::raw_manifest(&format!("{host}/app:v1"));
    assert_eq!(registry_proto::spec::Digest::of(&raw).as_str(), digest);
}

/// Kills the registry so many times, each time after some more traffic, and starts it again.
fn killed(registry: &mut DockerRegistry, relay: &Relay, times: u32, over: &AtomicBool) -> u32 {
    let mut random = 7_u64;
    for time in 0..times {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let next = relay.bytes() + (random >> 33) % (100 * MIB);
        while relay.bytes() < next {
            if over.load(Ordering::Relaxed) {
                return time;
            }
            sleep(Duration::from_millis(1));
        }
        registry.kill();
        registry.start_again();
    }
    times
}

/// Tells that the push is over, however it ended.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn a_registry_that_is_killed_again_and_again(runtime: Runtime) {
    // One runtime goes the whole way, the others a part of it.
    let (layer, times) = if runtime == Runtime::Tokio { (205 * MIB, 20) } else { (40 * MIB, 5) };
    let sizes: Vec<u64> = (0..5).map(|nth| layer + nth * MIB).collect();
    let mut registry = DockerRegistry::of_small_things();
    let host = registry.host();
    let relay = Relay::before(&host, Cut::Never);
    let (over, began) = (AtomicBool::new(false), Instant::now());
    let (pushed, kills) = thread::scope(|scope| {
        let killer = scope.spawn(|| killed(&mut registry, &relay, times, &over));
        let ended = Ended(&over);
        let pushed = push(runtime, Config::default(), &sizes, &relay.host());
        drop(ended);
        (pushed, killer.join().unwrap())
    });
    let passed = relay.passed();
    let sent: u64 = passed.iter().map(|one| one.body).sum();
    println!(
        "{runtime}: {kills} kills, {} MiB of {} sent, {:?}",
        sent / MIB,
        sizes.iter().sum::<u64>() / MIB,
        began.elapsed()
    );
    assert_eq!(kills, times, "{runtime}: it was over before");
    check_nothing_finished_is_sent_again(runtime, &passed);
    check_is_there(&host, pushed.references[0].digest.as_str());
}

/// A registry that keeps what it got of a request is sent the rest.
fn connections_that_are_cut_after_64_mib(runtime: Runtime) {
    let server = Server::start(Registry::new(Profile::distribution_3()), |_| Answer::registry());
    let relay = Relay::before(&server.host(), Cut::Connections(64 * MIB));
    let sizes = [200 * MIB, 201 * MIB];
    push(runtime, Config::default(), &sizes, &relay.host());
    let (sent, size): (u64, u64) = (relay.passed().iter().map(|one| one.body).sum(), sizes.iter().sum());
    let cut = relay.passed().iter().filter(|one| one.status.is_none()).count();
    println!("{runtime}: {} MiB of {} sent, {cut} cuts", sent / MIB, size / MIB);
    assert!(cut >= 3 && sent * 100 <= size * 105, "{runtime}: {sent} bytes for {size}");
}

/// A registry that loses a session when its body is cut gets chunks that come through, and the next blob gets them at once.
fn requests_that_are_cut_after_64_mib(runtime: Runtime) {
    let registry = DockerRegistry::of_small_things();
    let relay = Relay::before(&registry.host(), Cut::Requests(64 * MIB));
    let mut config = Config::default();
    config.transfers = std::num::NonZeroUsize::MIN;
    let pushed = push(runtime, config, &[150 * MIB, 151 * MIB], &relay.host());
    let passed = relay.passed();
    let learned = passed.iter().position(|one| one.method == "PATCH" && one.status == Some(202)).unwrap();
    let cut = |some: &[Passed]| some.iter().filter(|one| one.status.is_none()).count();
    println!("{runtime}: {} cuts, {} requests", cut(&passed), passed.len());
    assert!(cut(&passed[..learned]) > 0, "{runtime}: nothing was cut");
    assert_eq!(cut(&passed[learned..]), 0, "{runtime}: what was learned is forgotten");
    check_is_there(&registry.host(), pushed.references[0].digest.as_str());
}

on_all_runtimes!(
    a_registry_that_is_killed_again_and_again,
    connections_that_are_cut_after_64_mib,
    requests_that_are_cut_after_64_mib,
);
