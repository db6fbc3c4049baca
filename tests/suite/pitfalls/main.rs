//! What HTTP stacks stumble over, on all three runtimes: early answers, cuts, stale connections, odd framing, silence.
//!
//! Each test runs under a watchdog: where a stack is wrong about such things it mostly hangs.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

mod cuts;
mod early_answers;
mod file;
mod handshakes;
mod kept;
mod no_limits;
mod odd_replies;
mod redirects;
mod supplied;
mod time_limits;

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::flow::{Destination, Flow, Pinging, Push, PushOptions, Pushed};
use registry_proto::job::{FailureKind, Phase};
use registry_proto::spec::Digest;
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::{Config, Credential, Error, Event, Ping, Scheme, UploadPolicy};
use registry_tests::images::noise;
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::series::Series;
use registry_tests::server::{Answer, Asked, Server, Then, reply};
use tempfile::TempDir;

const REPOSITORY: &str = "demo/app";
/// More than the kernel takes in for a peer that doesn't read.
const BIG: usize = 12 << 20;
/// No test comes near this, unless something hangs.
const WATCHDOG: Duration = Duration::from_secs(20);

/// How a flow ended, what it told, how long it took.
#[derive(Debug)]
struct Ran<T> {
    result: Result<T, Error>,
    events: Vec<Event>,
    took: Duration,
}

impl<T> Ran<T> {
    /// Why things were tried again.
    fn retries(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| if let Event::Retrying { why, .. } = event { Some(why.as_str()) } else { None })
            .collect()
    }
}

fn run<F>(runtime: Runtime, config: Config, flow: F) -> Ran<F::Output>
where
    F: Flow + Send + 'static,
    F::Output: Send + 'static,
{
    run_trusting(runtime, None, config, flow)
}

fn run_trusting<F>(runtime: Runtime, root: Option<Vec<u8>>, config: Config, flow: F) -> Ran<F::Output>
where
    F: Flow + Send + 'static,
    F::Output: Send + 'static,
{
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (began, mut events) = (Instant::now(), Vec::new());
        let result = runtime.run_trusting(root, config, flow, |event| events.push(event));
        let _ = sender.send(Ran { result, events, took: began.elapsed() });
    });
    receiver.recv_timeout(WATCHDOG).unwrap_or_else(|_| panic!("{runtime} hangs"))
}

/// Retries come at once, or nearly so: what is tested is whether they are needed.
fn quick() -> Config {
    let mut config = Config::default();
    config.backoff = Duration::from_millis(10);
    config.backoff_limit = Duration::from_millis(20);
    (config.timeouts.connect, config.timeouts.head, config.timeouts.idle) = (secs(5), secs(5), secs(5));
    config
}

/// Retries never.
fn once() -> Config {
    let mut config = quick();
    config.retries = 0;
    config
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An archive with one image.
struct Sample {
    image: SampleImage,
    archive: PathBuf,
    _folder: TempDir,
}

impl Sample {
    fn new(layers: &[&[u8]]) -> Self {
        let folder = TempDir::new().unwrap();
        let image = SampleImage::new(&["localhost/demo/app:v1"], layers);
        let archive = folder.path().join("image.tar");
        fs::write(&archive, make::docker_save_oci(std::slice::from_ref(&image))).unwrap();
        Self { image, archive, _folder: folder }
    }

    fn small() -> Self {
        Self::new(&[b"hello"])
    }

    fn big() -> Self {
        Self::new(&[&noise(BIG)])
    }

    fn push(&self, runtime: Runtime, mut config: Config, server: &Server) -> Ran<Pushed> {
        let root = server.root();
        config.scheme = if root.is_some() { Scheme::Https } else { Scheme::Http };
        run_trusting(runtime, root, config, push_of(&self.archive, server))
    }

    /// Checks that the registry has all of the image, and nothing else was tried on it.
    fn check(&self, server: &Server) {
        let registry = server.registry();
        for content in self.image.layers.iter().cloned().chain([self.image.config()]) {
            let digest = Digest::of(&content);
            assert_eq!(registry.blob(REPOSITORY, digest.as_str()), Some(content), "{digest}");
        }
        assert!(registry.manifest(REPOSITORY, "v1").is_some());
        assert_eq!(registry.ledger().mismatches, []);
        assert_eq!(registry.ledger().early_manifests, []);
    }
}

fn push_of(archive: &Path, server: &Server) -> Push {
    let to = Destination::Reference(format!("{}/{REPOSITORY}:v1", server.host()).parse().unwrap());
    Push::new(archive, to, PushOptions::default())
}

fn registry() -> Registry {
    Registry::new(Profile::distribution_3())
}

fn serve(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(registry(), script)
}

fn serve_over(tls: bool, script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
    if tls { Server::start_tls(registry(), script) } else { serve(script) }
}

fn ping(server: &Server) -> Pinging {
    Pinging::new(server.host().parse().unwrap())
}

/// Pings so many times, on one client.
fn pings(runtime: Runtime, config: Config, server: &Server, times: usize) -> Ran<Vec<Result<Ping, Error>>> {
    run(runtime, config, Series::new((0..times).map(|_| ping(server))))
}

const OK: &str = "200 OK";
const VERSION: &str = "Docker-Distribution-Api-Version: registry/2.0";

/// What a ping is to be answered with, if nothing is wrong.
fn pong() -> String {
    reply(OK, &[VERSION], "{}")
}

fn is_pong(ping: &Result<Ping, Error>) -> bool {
    ping.as_ref().is_ok_and(|ping| ping.status == 200 && ping.api_version.as_deref() == Some("registry/2.0"))
}

/// The kind of the failure that an operation ended with.
fn kind_of<T: std::fmt::Debug>(result: &Result<T, Error>) -> FailureKind {
    match result {
        Err(Error::Transport { last, .. } | Error::Local(last)) => last.kind(),
        other => panic!("that is no failure to transport anything: {other:?}"),
    }
}

fn is_blob_put(asked: &Asked) -> bool {
    asked.is("PUT", "/blobs/uploads/")
}

/// Short enough to wait for, long enough to be told from the others.
const fn limit_of(phase: Phase) -> Duration {
    match phase {
        Phase::Connect => millis(1200),
        Phase::Head => millis(600),
        Phase::Body => millis(700),
        Phase::Whole => millis(800),
    }
}

/// Checks that a flow failed for want of time, and when.
fn timed_out<T: std::fmt::Debug>(what: &str, ran: &Ran<T>, phase: Phase) {
    let limit = limit_of(phase);
    assert_eq!(kind_of(&ran.result), FailureKind::Timeout(phase), "{what}: {:?}", ran.result);
    assert!(ran.took >= limit, "{what}: after {:?}", ran.took);
    // Several requests may run into it one after another; but that is far from FAR.
    assert!(ran.took < limit * 3 + secs(2), "{what}: after {:?}", ran.took);
    let named = match phase {
        Phase::Connect => "timed out connecting",
        Phase::Head => "timed out waiting for the reply",
        Phase::Body => "stalled",
        Phase::Whole => "took too long",
    };
    let text = ran.result.as_ref().unwrap_err().to_string();
    assert!(text.contains(named), "{what}: {text}");
}

/// One limit is what it is about; the others are far off, or (`others`) even shorter, which must not matter.
fn limits(phase: Phase, others: Duration) -> Config {
    let mut config = once();
    // One place: what was given up must not keep it from what comes after.
    config.requests_per_registry = NonZeroUsize::MIN;
    let timeouts = &mut config.timeouts;
    (timeouts.connect, timeouts.head, timeouts.idle) = (others, others, others);
    *match phase {
        Phase::Connect => &mut timeouts.connect,
        Phase::Head => &mut timeouts.head,
        Phase::Body => &mut timeouts.idle,
        Phase::Whole => &mut timeouts.whole,
    } = limit_of(phase);
    config
}

/// Cases that mostly wait, side by side.
fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, case: impl Fn(T) + Sync) {
    let case = &case;
    thread::scope(|scope| {
        for one in cases {
            scope.spawn(move || case(one));
        }
    });
}

const FAR: Duration = secs(15);
const NEAR: Duration = millis(300);
