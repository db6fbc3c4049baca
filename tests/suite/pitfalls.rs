//! What HTTP stacks stumble over, on all three runtimes: early answers, cuts, stale connections, odd framing, silence.
//!
//! Each test runs under a watchdog: where a stack is wrong about such things it mostly hangs.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
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

// ── the bench ────────────────────────────────────────────────────────────────────────────────────────────────────────

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

/// Bytes that don't compress and don't repeat.
fn noise(length: usize) -> Vec<u8> {
    (0u32..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(length).collect()
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

// ── early answers ────────────────────────────────────────────────────────────────────────────────────────────────────

fn early_answers(runtime: Runtime, ending: Then, over_tls: bool) {
    let sample = Sample::big();
    for header in [&[][..], &["Connection: close"]] {
        let headers = [header, &["WWW-Authenticate: Basic realm=\"here\""]].concat();
        let (refused, too_large) =
            (reply("401 Unauthorized", &headers, "{}"), reply("413 Content Too Large", header, "<html>no</html>"));
        // In a hurry where the server holds on: whoever sends can't know that nobody reads before the limit is over.
        let mut config = quick();
        config.timeouts.idle = millis(700);
        // One place: a connection that is held must not keep it.
        config.requests_per_registry = NonZeroUsize::MIN;

        let server =
            serve_over(over_tls, move |asked| match is_blob_put(asked) && asked.header("authorization").is_empty() {
                true => Answer::early(&refused).then(ending),
                false => Answer::registry(),
            });
        let mut with_password = config.clone();
        with_password.log_in(&server.host().parse().unwrap(), Credential::password("user", "secret"));
        let ran = sample.push(runtime, with_password, &server);
        assert!(ran.result.is_ok(), "401, {ending:?}: {:?}", ran.result);
        assert_eq!(ran.retries(), [""; 0], "401, {ending:?}: the answer was not heard");
        assert!(ran.took < secs(4), "401, {ending:?}: it took {:?}", ran.took);
        sample.check(&server);

        let server = serve_over(over_tls, move |asked| match asked.length() > 8 << 20 {
            true => Answer::early(&too_large).then(ending),
            false => Answer::registry(),
        });
        let ran = sample.push(runtime, config, &server);
        assert!(ran.result.is_ok(), "413, {ending:?}: {:?}", ran.result);
        let heard = ran.retries().iter().all(|why| why.contains("takes no bodies of this size"));
        assert!(heard, "413, {ending:?}: {:?}", ran.retries());
        assert!(ran.took < secs(6), "413, {ending:?}: it took {:?}", ran.took);
        sample.check(&server);
    }
}

fn c94_early_answer_and_go_on(runtime: Runtime) {
    early_answers(runtime, Then::Go, false);
}

fn early_answer_and_drain(runtime: Runtime) {
    early_answers(runtime, Then::Drain, false);
}

fn early_answer_and_linger(runtime: Runtime) {
    early_answers(runtime, Then::Linger, false);
}

fn early_answer_and_close(runtime: Runtime) {
    early_answers(runtime, Then::Close, false);
}

fn early_answer_and_hold(runtime: Runtime) {
    early_answers(runtime, Then::Hold, false);
}

fn early_answers_over_tls(runtime: Runtime) {
    // Linger is Close, later; and Go is Drain to whoever sends.
    for ending in [Then::Drain, Then::Close, Then::Hold] {
        early_answers(runtime, ending, true);
    }
}

fn cuts_and_stalls_over_tls(runtime: Runtime) {
    let sample = Sample::big();
    let cuts = AtomicUsize::new(0);
    let server = serve_over(true, move |asked| {
        let first = is_blob_put(asked) && asked.length() > 1 << 20 && cuts.fetch_add(1, Ordering::SeqCst) < 1;
        if first { Answer::cut(asked.length() / 2) } else { Answer::registry() }
    });
    let ran = sample.push(runtime, quick(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    let all = (BIG + sample.image.config().len()) as u64;
    assert_eq!(server.registry().ledger().bytes_received(), all, "no byte that had arrived was sent again");

    let server = serve_over(true, |asked| match is_blob_put(asked) && asked.length() > 1 << 20 {
        true => Answer::stall(64 << 10),
        false => Answer::registry(),
    });
    timed_out("an upload", &sample.push(runtime, limits(Phase::Body, FAR), &server), Phase::Body);
    let server = serve_over(true, |asked| match asked.is("PUT", "/manifests/") {
        true => Answer::stall(u64::MAX),
        false => Answer::registry(),
    });
    timed_out("a manifest", &Sample::small().push(runtime, limits(Phase::Head, FAR), &server), Phase::Head);
}

fn connections_are_kept_over_tls(runtime: Runtime) {
    let layers: Vec<Vec<u8>> = (0..20u32).map(|n| noise(n as usize + 1)).collect();
    let sample = Sample::new(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let server = serve_over(true, |_| Answer::registry());
    let mut config = quick();
    config.requests_per_registry = NonZeroUsize::MIN;
    let ran = sample.push(runtime, config, &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    assert_eq!(server.accepted(), 1);
    // Whose certificate nobody vouches for isn't spoken to, however often.
    let mut config = quick();
    config.scheme = Scheme::Https;
    let ran = run(runtime, config, ping(&server));
    assert_eq!(kind_of(&ran.result), FailureKind::Tls, "{:?}", ran.result);
    assert_eq!(ran.retries(), [""; 0]);
}

// ── cuts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

fn a_body_cut_halfway_is_resumed(runtime: Runtime) {
    let sample = Sample::big();
    let cuts = AtomicUsize::new(0);
    let server = serve(move |asked| {
        let cut = is_blob_put(asked) && asked.length() > 1 << 20 && cuts.fetch_add(1, Ordering::SeqCst) < 1;
        if cut { Answer::cut(asked.length() / 2) } else { Answer::registry() }
    });
    let ran = sample.push(runtime, quick(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    assert_eq!(ran.retries().len(), 1, "{:?}", ran.retries());
    sample.check(&server);
    let all = (BIG + sample.image.config().len()) as u64;
    assert_eq!(server.registry().ledger().bytes_received(), all, "no byte that had arrived was sent again");
}

fn a_chunk_cut_halfway_is_resumed(runtime: Runtime) {
    let sample = Sample::big();
    let cuts = AtomicUsize::new(0);
    let server = serve(move |asked| {
        let cut = asked.is("PATCH", "") && cuts.fetch_add(1, Ordering::SeqCst) % 2 == 1;
        if cut { Answer::cut(asked.length() / 3) } else { Answer::registry() }
    });
    let mut config = quick();
    config.upload = UploadPolicy::classic();
    let ran = sample.push(runtime, config, &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    assert!(!ran.retries().is_empty());
    sample.check(&server);
}

fn a_lost_reply_sends_nothing_twice(runtime: Runtime) {
    let sample = Sample::big();
    let cuts = AtomicUsize::new(0);
    let server = serve(move |asked| {
        let cut = is_blob_put(asked) && asked.length() > 1 << 20 && cuts.fetch_add(1, Ordering::SeqCst) < 1;
        // The registry takes the blob, but its reply is lost on the way.
        if cut { Answer::lost() } else { Answer::registry() }
    });
    let ran = sample.push(runtime, quick(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    assert_eq!(server.registry().ledger().commits.values().max(), Some(&1));
}

fn c42_a_short_reply_is_a_cut(runtime: Runtime) {
    let short = [
        format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nContent-Length: 100\r\n\r\n{{}}"),
        format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nContent-Le"),
        String::new(),
    ];
    for short in short {
        let told = short.clone();
        let server = serve(move |asked| match asked.number {
            0 | 1 => Answer::raw(&told).then(Then::Close),
            _ => Answer::raw(pong()),
        });
        let ran = run(runtime, once(), ping(&server));
        assert_eq!(kind_of(&ran.result), FailureKind::Cut, "{short:?}: {:?}", ran.result);
        let ran = run(runtime, quick(), ping(&server));
        assert!(is_pong(&ran.result), "{short:?}: {:?}", ran.result);
        assert_eq!(ran.retries().len(), 1, "{short:?}: {:?}", ran.retries());
    }
}

// ── connections that are kept ────────────────────────────────────────────────────────────────────────────────────────

fn extra_bytes_are_nobodys_answer(runtime: Runtime) {
    let extra = reply("500 Oops", &[], "not for you");
    let server = serve(move |asked| match asked.nth {
        0 => Answer::raw(pong() + &extra),
        _ => Answer::raw(pong()),
    });
    let ran = pings(runtime, once(), &server, 3);
    let results = ran.result.unwrap();
    assert!(results.iter().all(is_pong), "{results:?}");
    assert_eq!(server.count("GET", "/v2/"), 3);
}

fn a_connection_closed_while_idle_is_not_used(runtime: Runtime) {
    // A promise to keep the connection, broken at once.
    let server = Arc::new(serve(|_| Answer::raw(pong()).then(Then::Close)));
    let watched = Arc::clone(&server);
    let flow = Series::new((0..20).map(|_| ping(&server))).between(move |_| watched.wait_for_closing());
    let ran = run(runtime, quick(), flow);
    assert!(ran.result.as_ref().unwrap().iter().all(is_pong), "{:?}", ran.result);
    // Between looking and sending there is a gap in which a connection may still go: at most now and then.
    assert!(ran.retries().len() <= 2, "{:?}", ran.retries());
    // With requests that change something, too.
    let sample = Sample::new(&[b"one", b"two", b"three"]);
    let server = serve(|_| Answer::registry().then(Then::Close));
    let ran = sample.push(runtime, quick(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
}

fn a_connection_that_dies_when_it_is_used_again(runtime: Runtime) {
    for over_tls in [false, true] {
        let server = serve_over(over_tls, |asked| if asked.nth == 0 { Answer::raw(pong()) } else { Answer::cut(0) });
        // It counts as no try, and nobody waits. One place, so that there is only one connection that can be dead, and the
        // next is a new one.
        let mut config = once();
        config.requests_per_registry = NonZeroUsize::MIN;
        config.scheme = if over_tls { Scheme::Https } else { Scheme::Http };
        let ran = run_trusting(runtime, server.root(), config, Series::new((0..5).map(|_| ping(&server))));
        assert!(ran.result.as_ref().unwrap().iter().all(is_pong), "{:?}", ran.result);
        assert_eq!(ran.retries(), [""; 0], "TLS: {over_tls}");
        assert_eq!(server.log().len(), 1 + 2 * 4, "each was asked once more");
    }
    // What has said a word is not dead, but cut.
    let server = serve(|asked| match asked.nth {
        0 => Answer::raw(pong()),
        _ => Answer::raw("HTTP/1.1 200 OK\r\nContent-Le").then(Then::Close),
    });
    let mut config = once();
    config.requests_per_registry = NonZeroUsize::MIN;
    let ran = pings(runtime, config, &server, 2);
    assert_eq!(kind_of(&ran.result.unwrap()[1]), FailureKind::Cut);
    // What changes something is asked about before it is sent again.
    for (sample, mut config) in [(Sample::small(), once()), (Sample::big(), quick())] {
        let died = AtomicBool::new(false);
        let server =
            serve(move |asked| match is_blob_put(asked) && asked.nth > 0 && !died.swap(true, Ordering::SeqCst) {
                true => Answer::cut(0),
                false => Answer::registry(),
            });
        config.requests_per_registry = NonZeroUsize::MIN;
        let ran = sample.push(runtime, config, &server);
        // (How much of a large body was taken on before it showed, the kernel says: it may look like a cut.)
        assert!(ran.result.is_ok() && ran.retries().len() <= 1, "{:?}: {:?}", ran.result, ran.retries());
        sample.check(&server);
        assert_eq!(server.registry().ledger().commits.values().max(), Some(&1));
    }
    // And a registry that does so all the time gets no further than one in trouble.
    let sample = Sample::small();
    let server = serve(|asked| match asked.nth > 0 && asked.connection < 5 {
        true => Answer::cut(0),
        false => Answer::registry(),
    });
    let ran = sample.push(runtime, quick(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    let server = serve(|asked| if asked.nth > 0 { Answer::cut(0) } else { Answer::registry() });
    let mut config = quick();
    (config.retries, config.requests_per_registry) = (2, NonZeroUsize::MIN);
    let ran = sample.push(runtime, config, &server);
    assert!(ran.result.is_err() && server.log().len() < 50, "{:?}: {} requests", ran.result, server.log().len());
}

fn three_hundred_layers_on_few_connections(runtime: Runtime) {
    let layers: Vec<Vec<u8>> = (0..300u32).map(|n| noise(n as usize + 1)).collect();
    let sample = Sample::new(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let server = serve(|_| Answer::registry());
    server.limit(6);
    let mut config = quick();
    config.transfers = NonZeroUsize::new(16).unwrap();
    config.requests_per_registry = NonZeroUsize::new(6).unwrap();
    let ran = sample.push(runtime, config, &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    assert!(!server.exceeded(), "there were more than six connections at a time");
    // They are kept. (Now and then hyper loses one that it hands to a request that has just found another.)
    assert!(server.accepted() < 20, "{} connections for {} requests", server.accepted(), server.log().len());
    assert_eq!(ran.retries(), [""; 0]);
}

fn refusals_keep_their_connection(runtime: Runtime) {
    let server = serve(|_| Answer::raw(reply("404 Not Found", &[], "{\"errors\": []}")));
    let mut config = once();
    // One place: otherwise hyper may open a second connection while the first is about to come back.
    config.requests_per_registry = NonZeroUsize::MIN;
    let ran = pings(runtime, config, &server, 5);
    assert!(ran.result.unwrap().iter().all(Result::is_err));
    assert_eq!(server.accepted(), 1);
}

// ── replies that are odd, but right ──────────────────────────────────────────────────────────────────────────────────

fn replies_without_a_body_that_announce_one(runtime: Runtime) {
    // Blobs that are there: HEAD says how large they are.
    let sample = Sample::new(&[&noise(1 << 20), b"small"]);
    let server = serve(|_| Answer::registry());
    let mut config = quick();
    config.requests_per_registry = NonZeroUsize::MIN;
    for layer in sample.image.layers.iter().cloned().chain([sample.image.config()]) {
        server.registry().insert_blob(REPOSITORY, layer);
    }
    let ran = sample.push(runtime, config, &server);
    assert_eq!(ran.result.as_ref().unwrap().totals.existed, 3);
    assert_eq!(server.accepted(), 1, "the connection is good for another request");

    for status in ["204 No Content", "304 Not Modified"] {
        let bare = format!("HTTP/1.1 {status}\r\nContent-Length: 1234\r\n\r\n");
        let server = serve(move |asked| if asked.number == 0 { Answer::raw(&bare) } else { Answer::raw(pong()) });
        let ran = pings(runtime, once(), &server, 2);
        let results = ran.result.unwrap();
        assert_eq!(results[0].as_ref().unwrap_err().status().unwrap().to_string(), status);
        assert!(is_pong(&results[1]), "{status}: {results:?}");
        assert!(ran.took < secs(2), "{status}: it took {:?}", ran.took);
    }
}

fn c94_interim_replies_are_passed_over(runtime: Runtime) {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let server = serve(move |_| Answer::raw(interim.to_owned() + &pong()));
    let ran = pings(runtime, once(), &server, 3);
    assert!(ran.result.as_ref().unwrap().iter().all(is_pong), "{:?}", ran.result);
    // So many that there is no sense in them may be passed over as well, or be an error; but they end.
    let many = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(17);
    let server = serve(move |_| Answer::raw(many.clone() + &pong()));
    let ran = run(runtime, once(), ping(&server));
    assert!(is_pong(&ran.result) || kind_of(&ran.result) == FailureKind::Protocol, "{:?}", ran.result);
    // In the middle of an upload, too.
    let sample = Sample::big();
    let server = serve(move |_| Answer::registry().first(interim));
    let ran = sample.push(runtime, once(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
}

fn old_and_endless_replies(runtime: Runtime) {
    for told in [
        format!("HTTP/1.0 200 OK\r\n{VERSION}\r\n\r\n{{}}"),
        format!("HTTP/1.0 200 OK\r\n{VERSION}\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nConnection: close\r\n\r\n{{}}"),
    ] {
        let server = serve(move |_| Answer::raw(&told).then(Then::Close));
        let ran = pings(runtime, once(), &server, 2);
        assert!(ran.result.as_ref().unwrap().iter().all(is_pong), "{:?}", ran.result);
    }
    // What such a reply says is heard.
    let body = r#"{"errors":[{"code":"DENIED","message":"until the end"}]}"#;
    let server = serve(move |_| Answer::raw(format!("HTTP/1.0 404 Nope\r\n\r\n{body}")).then(Then::Close));
    let why = run(runtime, once(), ping(&server)).result.unwrap_err();
    assert!(why.to_string().contains("until the end"), "{why}");
}

fn a_location_of_eight_kilobytes(runtime: Runtime) {
    let sample = Sample::small();
    let server = serve(|asked| match asked.is("POST", "/blobs/uploads/") {
        true => Answer::edited(|reply| {
            let location = reply.headers()["location"].to_str().unwrap();
            let long = format!("{location}&pad={}", "x".repeat(8 << 10));
            reply.headers_mut().insert("location", long.parse().unwrap());
        }),
        false => Answer::registry(),
    });
    let ran = sample.push(runtime, once(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    let longest = server.log().iter().map(|asked| asked.head.uri.to_string().len()).max();
    assert!(longest > Some(8 << 10), "it comes back whole");
}

fn many_headers(runtime: Runtime) {
    let with = |headers: usize| {
        let lines: Vec<String> = (0..headers).map(|n| format!("X-Number-{n}: {n}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).chain([VERSION]).collect();
        reply(OK, &lines, "{}")
    };
    let few = with(90);
    let server = serve(move |_| Answer::raw(&few));
    let ran = run(runtime, once(), ping(&server));
    assert!(is_pong(&ran.result), "{:?}", ran.result);
    let many = with(300);
    let server = serve(move |_| Answer::raw(&many));
    let ran = run(runtime, once(), ping(&server));
    assert!(is_pong(&ran.result) || kind_of(&ran.result) == FailureKind::Protocol, "{:?}", ran.result);
    assert!(ran.took < secs(2), "it took {:?}", ran.took);
}

fn headers_beyond_ascii(runtime: Runtime) {
    let mut told = b"HTTP/1.1 200 OK\r\nX-Latin: K\xe4se\r\nX-Utf: ".to_vec();
    told.extend_from_slice(format!("Käse\r\n{VERSION}\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes());
    let server = serve(move |_| Answer::raw(&told));
    let ran = pings(runtime, once(), &server, 2);
    assert!(ran.result.as_ref().unwrap().iter().all(is_pong), "{:?}", ran.result);
}

fn what_is_no_http(runtime: Runtime) {
    for told in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 banana\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"]
    {
        let server = serve(move |_| Answer::raw(told).then(Then::Close));
        let ran = run(runtime, once(), ping(&server));
        assert_eq!(kind_of(&ran.result), FailureKind::Protocol, "{told:?}: {:?}", ran.result);
    }
}

fn content_encodings_are_left_alone(runtime: Runtime) {
    // If anybody undid the coding, there would be nothing to be read: it is not really there.
    let body = r#"{"errors":[{"code":"DENIED","message":"as it is"}]}"#;
    for coding in ["gzip", "deflate", "br"] {
        let header = format!("Content-Encoding: {coding}");
        let server = serve(move |_| Answer::raw(reply("404 Not Found", &[&header], body)));
        let why = run(runtime, once(), ping(&server)).result.unwrap_err();
        assert!(why.to_string().contains("as it is"), "{coding}: {why}");
        assert_eq!(server.log()[0].header("accept-encoding"), "identity");
    }
}

// ── redirects ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn redirects_are_the_cores_business(runtime: Runtime) {
    let elsewhere = Arc::new(serve(|_| Answer::raw(pong())));
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let to = format!("Location: http://{}/v2/", elsewhere.host());
        let server = serve(move |_| Answer::raw(reply(status, &[&to], "")));
        let mut config = once();
        config.limits.redirects = 0;
        let before = elsewhere.log().len();
        let why = run(runtime, config, ping(&server)).result.unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{why:?}");
        assert_eq!(elsewhere.log().len(), before, "{status}: nobody but the core may follow");
        let ran = run(runtime, once(), ping(&server));
        assert!(is_pong(&ran.result), "{status}: {:?}", ran.result);
    }
    // An upload is never redirected to another origin, whoever would follow.
    let sample = Sample::small();
    let to = format!("Location: http://{}/v2/upload", elsewhere.host());
    let server = serve(move |asked| match is_blob_put(asked) {
        true => Answer::raw(reply("307 Temporary Redirect", &[&to], "")),
        false => Answer::registry(),
    });
    let ran = sample.push(runtime, once(), &server);
    assert!(matches!(ran.result, Err(Error::Protocol { .. })), "{:?}", ran.result);
    assert_eq!(elsewhere.count("PUT", ""), 0);
}

fn credentials_stay_at_home(runtime: Runtime) {
    let elsewhere = serve(|_| Answer::raw(reply("404 Not Found", &[], "")));
    let to = format!("http://{}", elsewhere.host());
    let server = serve(move |asked| {
        if asked.header("authorization").is_empty() {
            return Answer::raw(reply("401 Unauthorized", &["WWW-Authenticate: Basic realm=\"here\""], ""));
        }
        match asked.is("HEAD", "/blobs/") {
            true => Answer::raw(reply("307 Temporary Redirect", &[&format!("Location: {to}{}", asked.head.uri)], "")),
            false => Answer::registry(),
        }
    });
    let sample = Sample::small();
    let mut config = once();
    config.log_in(&server.host().parse().unwrap(), Credential::password("user", "secret"));
    let ran = sample.push(runtime, config, &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    assert!(elsewhere.count("HEAD", "/blobs/") >= 2, "the redirect was followed");
    for asked in elsewhere.log() {
        assert_eq!(asked.header("authorization"), "", "{asked:?}");
        assert_eq!(asked.header("cookie"), "");
        assert_eq!(asked.header("host"), elsewhere.host());
    }
}

/// Storage behind a URL that is signed for `GET` only: whether a blob is there can be told all the same, and what is known of
/// one blob is not found out again for the next.
fn c54_storage_that_takes_no_head(runtime: Runtime) {
    let sample = Sample::new(&[b"one", b"another", b""]);
    let storage = serve(|asked| match (asked.head.method.as_str(), asked.header("range")) {
        ("GET", "bytes=0-0") if asked.head.uri.path().ends_with(Digest::of(b"").encoded()) => {
            Answer::raw(reply("416 Range Not Satisfiable", &["Content-Range: bytes */0"], ""))
        }
        ("GET", "bytes=0-0") => {
            let size = asked.head.uri.query().unwrap();
            Answer::raw(reply("206 Partial Content", &[&format!("Content-Range: bytes 0-0/{size}")], "?"))
        }
        _ => Answer::raw(reply("403 Forbidden", &[], "<Error><Code>SignatureDoesNotMatch</Code></Error>")),
    });
    let to = storage.host();
    let sizes: std::collections::BTreeMap<String, usize> = sample
        .image
        .layers
        .iter()
        .chain([&sample.image.config()])
        .map(|content| (Digest::of(content).to_string(), content.len()))
        .collect();
    let server = serve(move |asked| {
        let blob = asked.head.uri.path().strip_prefix(&format!("/v2/{REPOSITORY}/blobs/")).unwrap_or_default();
        let Some(size) = sizes.get(blob).filter(|_| blob != Digest::of(b"another").as_str()) else {
            return Answer::registry();
        };
        // A digest as a path would be for the storage to refuse.
        let target = format!("Location: http://{to}/{}?{size}", blob.replace(':', "/"));
        Answer::raw(reply("307 Temporary Redirect", &[&target], ""))
    });
    for content in [sample.image.layers[0].clone(), sample.image.layers[2].clone(), sample.image.config()] {
        server.registry().insert_blob(REPOSITORY, content);
    }
    let mut config = once();
    config.transfers = NonZeroUsize::MIN;
    let ran = sample.push(runtime, config, &server);
    let totals = ran.result.unwrap().totals;
    assert_eq!((totals.existed, totals.sent), (3, 1));
    sample.check(&server);
    assert_eq!(storage.count("HEAD", "/"), 1, "it was tried once");
    assert_eq!(storage.count("GET", "/"), 3);
}

// ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

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

fn connecting_has_a_limit(runtime: Runtime) {
    at_once([FAR, NEAR], |others| {
        let (listener, _full) = deaf();
        let flow = Pinging::new(listener.local_addr().unwrap().to_string().parse().unwrap());
        timed_out("TCP", &run(runtime, limits(Phase::Connect, others), flow), Phase::Connect);
    });
    at_once([FAR, NEAR], |others| {
        // Accepted by the kernel, but nobody is there to shake hands with.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let flow = Pinging::new(listener.local_addr().unwrap().to_string().parse().unwrap());
        let mut config = limits(Phase::Connect, others);
        config.scheme = Scheme::Https;
        timed_out("TLS", &run(runtime, config, flow), Phase::Connect);
    });
}

/// A listener whose backlog is full: whoever connects now waits.
fn deaf() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    loop {
        match TcpStream::connect_timeout(&address, millis(200)) {
            Ok(stream) => waiting.push(stream),
            Err(why) if why.kind() == io::ErrorKind::TimedOut => return (listener, waiting),
            Err(why) => panic!("after {} connections: {why}", waiting.len()),
        }
    }
}

fn waiting_for_a_reply_has_a_limit(runtime: Runtime) {
    at_once([FAR, NEAR], |others| {
        let server = serve(|_| Answer::stall(u64::MAX));
        let ran = run(runtime, limits(Phase::Head, others), ping(&server));
        timed_out("GET", &ran, Phase::Head);
        at_once([("PUT", "/blobs/uploads/"), ("PUT", "/manifests/"), ("POST", "/blobs/uploads/")], |(method, path)| {
            let server = serve(move |asked| match asked.is(method, path) {
                true => Answer::stall(u64::MAX),
                false => Answer::registry(),
            });
            let ran = Sample::small().push(runtime, limits(Phase::Head, others), &server);
            timed_out(&format!("{method} {path}"), &ran, Phase::Head);
        });
    });
}

fn a_reply_that_stops_has_a_limit(runtime: Runtime) {
    at_once([FAR, NEAR], |others| {
        let half = format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nContent-Length: 9\r\n\r\n{{}}");
        let server = serve(move |_| Answer::raw(&half).then(Then::Hold));
        let ran = run(runtime, limits(Phase::Body, others), ping(&server));
        timed_out("a reply", &ran, Phase::Body);
    });
}

fn an_upload_that_stops_has_a_limit(runtime: Runtime) {
    let sample = Sample::big();
    at_once([FAR, NEAR], |others| {
        // (Not much more: the kernel would come to take in the rest for a peer that it has seen reading.)
        at_once([0, 64 << 10], |after| {
            let server = serve(move |asked| match is_blob_put(asked) && asked.length() > 1 << 20 {
                true => Answer::stall(after),
                false => Answer::registry(),
            });
            let ran = sample.push(runtime, limits(Phase::Body, others), &server);
            timed_out(&format!("an upload, after {after}"), &ran, Phase::Body);
        });
    });
}

fn slow_is_not_stalled(runtime: Runtime) {
    let mut config = once();
    (config.timeouts.head, config.timeouts.idle) = (millis(500), millis(500));
    // By default that would be: this is slower than a kilobyte a second.
    config.timeouts.idle_bytes = 1;
    let server = serve(|_| {
        let head = format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nContent-Length: 15\r\n\r\n");
        Answer::drip(head, "{ \"slow\": true }".get(..15).unwrap(), millis(80))
    });
    let ran = run(runtime, config, ping(&server));
    assert!(is_pong(&ran.result), "{:?}", ran.result);
    assert!(ran.took > millis(1000), "{:?}", ran.took);
}

fn a_failure_does_not_wait_for_others(runtime: Runtime) {
    // One blob is refused while another's request is never answered, or never read to its end.
    for stall in [u64::MAX, 0] {
        let sample = Sample::new(&[&noise(BIG), b"refused"]);
        let server = serve(move |asked| match (is_blob_put(asked), asked.length()) {
            (true, 7) => Answer::raw(reply("403 Forbidden", &[], "")),
            (true, length) if length == BIG as u64 => Answer::stall(stall),
            _ => Answer::registry(),
        });
        let mut config = once();
        (config.timeouts.head, config.timeouts.idle) = (FAR, FAR);
        let ran = sample.push(runtime, config, &server);
        assert_eq!(ran.result.as_ref().unwrap_err().status().unwrap(), 403, "{:?}", ran.result);
        assert!(ran.took < secs(3), "it took {:?}", ran.took);
    }
}

// ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────

fn a_file_that_changes_is_an_error_of_its_own(runtime: Runtime) {
    type Change = fn(&Path);
    let shorter: Change = |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(6 << 20).unwrap();
    let empty: Change = |path| fs::write(path, "").unwrap();
    let gone: Change = |path| fs::remove_file(path).unwrap();
    let other: Change = |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[(6 << 20) + 1] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    for (what, change, expected) in [
        ("shorter", shorter, FailureKind::Source),
        ("empty", empty, FailureKind::Source),
        ("gone", gone, FailureKind::Source),
        ("other", other, FailureKind::Mismatch),
    ] {
        let sample = Sample::big();
        let (archive, changed) = (sample.archive.clone(), AtomicBool::new(false));
        // The archive's table of contents was read, and its blobs are about to be.
        let server = serve(move |asked| {
            if asked.is("POST", "/blobs/uploads/") && !changed.swap(true, Ordering::SeqCst) {
                change(&archive);
            }
            Answer::registry()
        });
        let mut config = quick();
        config.transfers = NonZeroUsize::MIN;
        let ran = sample.push(runtime, config, &server);
        assert!(matches!(ran.result, Err(Error::Local(_))), "{what}: {:?}", ran.result);
        assert_eq!(kind_of(&ran.result), expected, "{what}: {:?}", ran.result);
        assert!(ran.took < secs(3), "{what}: it took {:?}", ran.took);
        let digest = Digest::of(&sample.image.layers[0]);
        assert_eq!(server.registry().ledger().commits_of(REPOSITORY, &digest), 0);
        assert_eq!(server.registry().ledger().mismatches, [], "{what}: not even the whole of a wrong blob is sent");
    }
}

on_all_runtimes!(
    c94_early_answer_and_go_on,
    early_answer_and_drain,
    early_answer_and_linger,
    early_answer_and_close,
    early_answer_and_hold,
    early_answers_over_tls,
    cuts_and_stalls_over_tls,
    connections_are_kept_over_tls,
    a_body_cut_halfway_is_resumed,
    a_chunk_cut_halfway_is_resumed,
    a_lost_reply_sends_nothing_twice,
    c42_a_short_reply_is_a_cut,
    extra_bytes_are_nobodys_answer,
    a_connection_closed_while_idle_is_not_used,
    a_connection_that_dies_when_it_is_used_again,
    three_hundred_layers_on_few_connections,
    refusals_keep_their_connection,
    replies_without_a_body_that_announce_one,
    c94_interim_replies_are_passed_over,
    old_and_endless_replies,
    a_location_of_eight_kilobytes,
    many_headers,
    headers_beyond_ascii,
    what_is_no_http,
    content_encodings_are_left_alone,
    redirects_are_the_cores_business,
    credentials_stay_at_home,
    c54_storage_that_takes_no_head,
    connecting_has_a_limit,
    waiting_for_a_reply_has_a_limit,
    a_reply_that_stops_has_a_limit,
    an_upload_that_stops_has_a_limit,
    slow_is_not_stalled,
    a_failure_does_not_wait_for_others,
    a_file_that_changes_is_an_error_of_its_own,
);
