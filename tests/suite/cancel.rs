//! Operations that are stopped: from another thread or task, by dropping their future, and before they have begun. Nothing goes
//! on behind anybody's back.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use registry_proto::archive::Feed;
use registry_proto::archive::make::{self, SampleImage};
use registry_proto::flow::{Destination, Pinging, Push, PushFeed, PushOptions, Resumable, VerifyArchive};
use registry_proto::testing::registry::{Outcome, Profile, Registry};
use registry_proto::{Error, Flow};
use registry_tests::clients::Client;
use registry_tests::images::noise;
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Asked, Server, Then};
use serde_json::json;
use tempfile::TempDir;

/// How long anything may take that has to end at once, on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(10);

/// Threads are counted here: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[track_caller]
fn soon(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A registry that takes a layer and then doesn't come to an end with its answer. All other connections are closed when they
/// have served, so that what is left of an operation can be told from what is kept for the next one.
fn holding() -> Server {
    holding_while(&Arc::new(AtomicBool::new(true)))
}

/// As [`holding`], until it comes to itself.
fn holding_while(holds: &Arc<AtomicBool>) -> Server {
    let holds = Arc::clone(holds);
    Server::start(Registry::new(Profile::distribution_3()), move |asked: &Asked| {
        if holds.load(Ordering::SeqCst) && is_layer(asked) {
            return Answer::drip("HTTP/1.1 201 Created\r\nX-Long: ", "a".repeat(100_000), Duration::from_millis(10));
        }
        let close = |reply: &mut http::Response<bytes::Bytes>| {
            reply.headers_mut().insert("connection", "close".parse().unwrap());
        };
        Answer::edited(close).then(Then::Close)
    })
}

fn layer() -> Vec<u8> {
    noise(8 << 20)
}

fn push(folder: &TempDir, server: &Server) -> Push {
    let archive = folder.path().join("app.tar");
    if !archive.exists() {
        // (Written once more, it would be another one.)
        std::fs::write(&archive, make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &[&layer()])])).unwrap();
    }
    let to = format!("{}/app:v1", server.host()).parse().unwrap();
    Push::new(archive, Destination::Reference(to), PushOptions::default())
}

fn is_layer(asked: &Asked) -> bool {
    asked.is("PUT", "/blobs/uploads/") && asked.length() > 100_000
}

/// The configuration is there, and the layer on its way.
fn is_sending(server: &Server) -> bool {
    server.log().iter().any(is_layer) && !server.registry().ledger().commits.is_empty()
}

fn open_sessions(server: &Server) -> usize {
    server.registry().ledger().sessions.values().filter(|one| one.outcome == Outcome::Open).count()
}

/// Cancels from another thread as soon as the layer is on its way, and yields how the operation ended.
fn cancelled<F: Flow>(client: &Client, server: &Server, flow: F) -> Result<F::Output, Error> {
    let stopping = client.clone();
    thread::scope(|scope| {
        let stopped = scope.spawn(move || {
            soon("nothing is sent", || is_sending(server));
            stopping.cancel();
            Instant::now()
        });
        let result = client.run(flow);
        let ended = Instant::now();
        assert!(ended.duration_since(stopped.join().unwrap()) < SOON, "it took its time");
        result
    })
}

fn an_operation_is_cancelled_from_another_thread(runtime: Runtime) {
    let _alone = alone();
    let (server, folder) = (holding(), TempDir::new().unwrap());
    let client = Client::new(runtime);
    let pushing = client.branch();
    let result = cancelled(&pushing, &server, push(&folder, &server));
    assert!(matches!(result, Err(Error::Cancelled)), "{runtime}: {:?}", result.err());
    // The session was given back, and what is started later ends before it has begun. (The configuration's session may have
    // been given back as well: the registry had committed it, but the cancel can have come before its answer was read.)
    let asked: Vec<_> =
        server.log().iter().map(|asked| format!("{} {}", asked.head.method, asked.head.uri.path())).collect();
    let layer = server.log().iter().find(|asked| is_layer(asked)).unwrap().head.uri.path().to_owned();
    let given_back = |path: &str| asked.iter().filter(|asked| **asked == format!("DELETE {path}")).count();
    assert_eq!(given_back(&layer), 1, "{runtime}: {asked:?}");
    assert!(server.log().iter().all(|one| given_back(one.head.uri.path()) <= 1), "{runtime}: {asked:?}");
    assert_eq!(open_sessions(&server), 0, "{runtime}");
    let asked = server.log().len();
    let ping = || Pinging::new(server.host().parse().unwrap());
    assert!(matches!(pushing.run(ping()), Err(Error::Cancelled)), "{runtime}");
    assert_eq!(server.log().len(), asked, "{runtime}: something was asked all the same");
    soon("tasks are left behind", || pushing.tasks() == 0);
    // The client that it is a branch of knows nothing of that.
    client.run(ping()).unwrap();
}

/// What somebody will go on with is left as it is, and gone on with.
fn a_resumable_operation_keeps_its_session(runtime: Runtime) {
    let _alone = alone();
    let holds = Arc::new(AtomicBool::new(true));
    let (server, folder) = (holding_while(&holds), TempDir::new().unwrap());
    let state = folder.path().join("state");
    let client = Client::new(runtime);
    let flow = || Resumable::new(push(&folder, &server), &state);
    let result = cancelled(&client.branch(), &server, flow());
    assert!(matches!(result, Err(Error::Cancelled)), "{runtime}: {:?}", result.err());
    assert_eq!(server.count("DELETE", "/blobs/uploads/"), 0, "{runtime}");
    assert_eq!(open_sessions(&server), 1, "{runtime}");
    let kept = std::fs::read_to_string(&state).unwrap();
    assert!(kept.contains("/v2/app/blobs/uploads/"), "{runtime}: {kept}");

    // The registry has kept some of it.
    let sent = server.log().into_iter().find(is_layer).unwrap();
    server.registry().cut(&sent.head, layer()[..3_000_000].to_vec().into());
    holds.store(false, Ordering::SeqCst);
    let totals = client.run(flow()).unwrap().totals;
    assert_eq!((totals.resumed_bytes, totals.sent, totals.existed), (3_000_000, 1, 1), "{runtime}");
    let ledger = server.registry().ledger().clone();
    assert!(ledger.commits.values().all(|times| *times == 1), "{runtime}: {:?}", ledger.commits);
    assert_eq!(ledger.sessions.len(), 2, "{runtime}: the session that was open has not been used");
    assert!(!state.exists(), "{runtime}");
}

fn a_dropped_future_leaves_nothing_behind(runtime: Runtime) {
    let _alone = alone();
    let (server, folder) = (holding(), TempDir::new().unwrap());
    let client = Client::new(runtime);
    client.drop_when(push(&folder, &server), || is_sending(&server));
    // Its connections go, and with them whatever it had under way; what it had in use, others can use.
    soon("tasks are left behind", || client.tasks() == 0);
    server.wait_for_closing();
    client.run(Pinging::new(server.host().parse().unwrap())).unwrap();
}

#[test]
fn a_dropped_future_of_tokio_leaves_nothing_behind() {
    a_dropped_future_leaves_nothing_behind(Runtime::Tokio);
}

#[test]
fn a_dropped_future_of_async_std_leaves_nothing_behind() {
    a_dropped_future_leaves_nothing_behind(Runtime::AsyncStd);
}

/// An archive with a layer so large that it takes minutes to be read.
fn endless(folder: &TempDir) -> std::path::PathBuf {
    let path = folder.path().join("endless.tar");
    let image = SampleImage::new(&["app:v1"], &[b"a layer"]);
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).unwrap();
    };
    let manifest = json!([{"Config": "c.json", "RepoTags": ["app:v1"], "Layers": ["layer.tar"]}]);
    add("manifest.json", manifest.to_string().as_bytes());
    add("c.json", &image.config());
    let mut header = tar::Header::new_gnu();
    header.set_path("layer.tar").unwrap();
    header.set_size(1 << 39);
    header.set_mode(0o644);
    header.set_cksum();
    let mut file = tar.get_ref();
    file.write_all(header.as_bytes()).unwrap();
    let length = file.metadata().unwrap().len() + (1 << 39) + 1024;
    file.set_len(length).unwrap();
    path
}

/// Reading a file can't be aborted from outside; it ends soon all the same, and no thread goes on with it.
fn what_reads_a_large_file_ends_soon(runtime: Runtime) {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let path = endless(&folder);
    let client = Client::new(runtime);
    let stopping = client.clone();
    let watcher = thread::spawn(move || {
        // (It may as well come before anything is read: then there is nothing to stop.)
        thread::sleep(Duration::from_millis(500));
        stopping.cancel();
        Instant::now()
    });
    let result = client.run(VerifyArchive::new(path.as_path()));
    let ended = Instant::now();
    assert!(matches!(result, Err(Error::Cancelled)), "{runtime}: {result:?}");
    assert!(ended.duration_since(watcher.join().unwrap()) < SOON, "{runtime}");
    soon("a thread reads on", || !is_open(&path));
    // (A tokio runtime waits for its threads when it is dropped.)
    let began = Instant::now();
    drop(client);
    assert!(began.elapsed() < SOON, "{runtime}");
}

/// Standard input that says nothing, for as long as somebody holds the other end.
struct Quiet(std::sync::mpsc::Receiver<()>);

impl std::io::Read for Quiet {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        let _ = self.0.recv();
        Ok(0)
    }
}

/// Nobody waits for a pipe that says nothing: neither the operation, nor the program that ends after it.
fn a_quiet_pipe_keeps_nobody(runtime: Runtime) {
    let _alone = alone();
    let (holding, quiet) = std::sync::mpsc::channel();
    let client = Client::new(runtime);
    let stopping = client.clone();
    let stopped = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        stopping.cancel();
        Instant::now()
    });
    let feed = Feed::new("standard input", Quiet(quiet));
    let flow = PushFeed::new(feed, "127.0.0.1:1/app:v1".parse().unwrap(), PushOptions::default());
    let result = client.run(flow);
    let stopped = stopped.join().unwrap();
    // (tokio's runtime goes with its last client.)
    drop(client);
    assert!(stopped.elapsed() < SOON, "{runtime}");
    assert!(matches!(result, Err(Error::Cancelled)), "{runtime}: {:?}", result.err());
    drop(holding);
}

/// Whether this process has a file open.
fn is_open(path: &Path) -> bool {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return false };
    open.flatten().any(|one| std::fs::read_link(one.path()).is_ok_and(|to| to == path))
}

/// Operations of the blocking client run on threads of their own, and are over when these are.
#[cfg(target_os = "linux")]
#[test]
fn no_thread_is_left_behind() {
    let _alone = alone();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let (server, folder) = (holding(), TempDir::new().unwrap());
    let client = Client::new(Runtime::Blocking);
    let flow = push(&folder, &server);
    let before = threads();
    let result = cancelled(&client, &server, flow);
    assert!(matches!(result, Err(Error::Cancelled)), "{:?}", result.err());
    // (The server has one for each connection, until that is closed.)
    drop(client);
    soon("there are more threads than before", || threads() <= before);
}

on_all_runtimes!(
    an_operation_is_cancelled_from_another_thread,
    a_resumable_operation_keeps_its_session,
    what_reads_a_large_file_ends_soon,
    a_quiet_pipe_keeps_nobody,
);
