//! `--resume`: killed at any moment, the next run goes on, and transfers nothing again that was complete.
//!
//! Moments are numbers of bytes that have gone through a proxy, so that they don't depend on how fast this machine is.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::spec::Digest;
use registry_proto::testing::registry::{Profile, Registry};
use registry_tokio::serve::Server;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::run::{command, err, json, out, runtime, tug};

/// Layers, and how large each is.
const LAYERS: usize = 6;
const LAYER: usize = 1 << 20;

/// Bytes that are all different, so that nothing goes unnoticed; another layer, other bytes.
fn layer(which: usize) -> Vec<u8> {
    let first = 1 + (which * LAYER) as u32;
    (first..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(LAYER).collect()
}

fn sample() -> SampleImage {
    let layers: Vec<Vec<u8>> = (0..LAYERS).map(layer).collect();
    SampleImage::new(&["app:v1"], &layers.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Passes everything on, counts it, and stops doing so after so many bytes until it is told otherwise.
struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: SocketAddr,
    moved: AtomicU64,
    most: AtomicU64,
    /// Connections of an earlier age are closed.
    age: AtomicU64,
    over: AtomicBool,
}

impl Proxy {
    fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let [moved, most, age] = [const { AtomicU64::new(0) }; 3];
        let shared = Arc::new(Shared { upstream, moved, most, age, over: AtomicBool::new(false) });
        let this = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if this.over.load(Ordering::SeqCst) {
                    break;
                }
                let age = this.age.load(Ordering::SeqCst);
                let (client, server) = (client.unwrap(), TcpStream::connect(this.upstream).unwrap());
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to, this) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&this));
                    thread::spawn(move || this.pass(age, from, to));
                }
            }
        });
        Self { address, shared }
    }

    /// Lets so many more bytes through.
    fn allow(&self, bytes: u64) {
        let most = self.moved().saturating_add(bytes);
        self.shared.most.store(most, Ordering::SeqCst);
    }

    /// Closes all connections. What was on its way is gone, as it is when a machine is.
    fn cut(&self) {
        self.shared.age.fetch_add(1, Ordering::SeqCst);
    }

    fn moved(&self) -> u64 {
        self.shared.moved.load(Ordering::SeqCst)
    }

    fn is_used_up(&self) -> bool {
        self.moved() >= self.shared.most.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // It waits for somebody to come.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn pass(&self, age: u64, mut from: TcpStream, mut to: TcpStream) {
        from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut buffer = vec![0; 16 << 10];
        let is_cut = || self.age.load(Ordering::SeqCst) != age || self.over.load(Ordering::SeqCst);
        loop {
            let got = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => got,
                Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) && !is_cut() => continue,
                Err(_) => break,
            };
            // What is here when nothing more is allowed waits.
            while !is_cut() && self.moved.load(Ordering::SeqCst) >= self.most.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            if is_cut() {
                break;
            }
            self.moved.fetch_add(got as u64, Ordering::SeqCst);
            if to.write_all(&buffer[..got]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(if is_cut() { Shutdown::Both } else { Shutdown::Write });
    }
}

/// A registry behind a proxy, and a folder.
struct Place {
    runtime: Runtime,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { runtime: runtime(), folder: TempDir::new().unwrap() }
    }

    fn serve(&self, registry: Registry) -> (Server, Proxy) {
        let server = self.runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
        let proxy = Proxy::before(server.address());
        (server, proxy)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Starts it, and kills it once so many bytes have gone through; or a moment later, when all that has come is written down.
fn kill_after(proxy: &Proxy, bytes: u64, settled: bool, arguments: &[&str]) {
    proxy.allow(bytes);
    let mut child = command().args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while !proxy.is_used_up() {
        assert!(child.try_wait().unwrap().is_none(), "it was done before");
        assert!(began.elapsed() < Duration::from_secs(120), "{} of {bytes} bytes", proxy.moved());
        thread::sleep(Duration::from_millis(1));
    }
    if settled {
        thread::sleep(Duration::from_millis(500));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    proxy.cut();
    // The registry hears of it.
    thread::sleep(Duration::from_millis(100));
}

/// Ten moments, somewhere in the transfer.
fn moments(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    (0..10).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        5_000 + (state >> 33) % ((LAYERS * LAYER) as u64 - 50_000)
    })
}

/// What may be sent again, in bytes: what came to the registry while it was asked how much had come; and it was sent the
/// configuration, too.
const SLACK: u64 = 100_000;

#[test]
fn a_push_killed_at_ten_moments_goes_on() {
    let (place, sample) = (Place::new(), sample());
    let archive = place.path("app.tar");
    fs::write(&archive, make::docker_save_legacy(std::slice::from_ref(&sample))).unwrap();
    let whole = (LAYERS * LAYER) as u64;
    let (mut resumed, mut most) = (0, 0);
    for (at, moment) in moments(5).enumerate() {
        let (server, proxy) = place.serve(Registry::new(Profile::distribution_3()));
        let state = place.path("state");
        let reference = format!("{}/app:v1", proxy.address);
        let arguments = ["push", text(&archive), &reference, "--resume", text(&state), "--format", "json"];
        let settled = at % 2 == 0;
        kill_after(&proxy, moment, settled, &arguments);
        let before = server.registry(|registry| registry.ledger().commits.len());
        if let Ok(kept) = fs::metadata(&state) {
            assert_eq!(kept.permissions().mode() & 0o777, 0o600);
        }
        proxy.allow(u64::MAX);
        let told = json(&tug(&arguments));
        assert!(!state.exists() && !place.path("state.partial").exists(), "{moment}: something was left behind");
        server.registry(|registry| {
            for blob in &sample.layers {
                let digest = Digest::of(blob);
                assert_eq!(registry.ledger().commits_of("app", &digest), 1, "{moment}: {digest} was sent twice");
                assert!(registry.blob("app", digest.as_str()).unwrap() == *blob);
            }
            assert!(registry.manifest("app", "v1").is_some());
            if settled {
                most = most.max(registry.ledger().bytes_received().saturating_sub(whole));
            }
        });
        let number = |key: &str| told[key].as_u64().unwrap() as usize;
        assert_eq!((number("existed"), number("sent") + before), (before, LAYERS + 1), "{moment}: {told}");
        resumed += told["resumedBytes"].as_u64().unwrap();
    }
    assert!(most < SLACK, "{most} bytes were sent again");
    assert!(resumed > whole / 4, "only {resumed} bytes of blobs under way were of use");
}

#[test]
fn a_pull_killed_at_ten_moments_goes_on() {
    let (place, sample) = (Place::new(), sample());
    let mut registry = Registry::new(Profile::distribution_3());
    let digest = registry.insert_image("app", Some("v1"), &sample);
    let (whole, mut most) = ((LAYERS * LAYER) as u64, 0);
    for (at, moment) in moments(7).enumerate() {
        let (_server, proxy) = place.serve(registry.clone());
        let (state, tar) = (place.path("state"), place.path(&format!("{at}.tar")));
        let reference = format!("{}/app:v1", proxy.address);
        let arguments = ["pull", &reference, text(&tar), "--resume", text(&state), "--format", "json"];
        let arguments = [&arguments[..], &["--platform", "linux/amd64"]].concat();
        kill_after(&proxy, moment, at % 2 == 0, &arguments);
        assert!(!tar.exists(), "half of it has its name");
        let complete = complete(&place.path(&format!("{at}.tar.partial")), &sample);
        proxy.allow(u64::MAX);
        let told = json(&tug(&arguments));
        assert!(!state.exists(), "{moment}: the state is still there");
        assert_eq!(out(&tug(&["validate", text(&tar)])), "ok\n");
        assert_eq!(told["images"][0]["digest"], digest.to_string());
        let (fetched, kept) = (told["fetchedBytes"].as_u64().unwrap(), told["keptBytes"].as_u64().unwrap());
        assert_eq!(fetched + kept, whole + sample.config().len() as u64, "{told}");
        assert!(told["kept"].as_u64().unwrap() >= complete, "{moment}: {complete} blobs were there, but: {told}");
        most = most.max(complete);
    }
    assert!(most > 1, "it was never killed with anything complete");
}

/// How many layers are there whole in what will be an archive.
fn complete(partial: &Path, sample: &SampleImage) -> u64 {
    let content = fs::read(partial).unwrap_or_default();
    let is_there = |layer: &&[u8]| {
        let found = content.windows(16).position(|window| window == &layer[..16]);
        found.is_some_and(|at| content[at..].starts_with(layer))
    };
    sample.layers.iter().map(|layer| &layer[..]).filter(is_there).count() as u64
}

/// Ctrl-C says how to go on, and what is said is true.
#[test]
fn ctrl_c_says_how_to_go_on() {
    let (place, sample) = (Place::new(), sample());
    let archive = place.path("app.tar");
    fs::write(&archive, make::docker_save_oci(&[sample])).unwrap();
    let state = place.path("state");
    let (server, proxy) = place.serve(Registry::new(Profile::distribution_3()));
    let reference = format!("{}/app:v1", proxy.address);
    // The one that is gone on from comes last: a run between would send whole what it had left in part.
    for (more, says) in [
        (&[][..], "the same command sends only what is missing; with --resume".to_owned()),
        (&["--resume", text(&state)], format!("the same command goes on from {}", state.display())),
    ] {
        let arguments = [&["push", text(&archive), &reference], more].concat();
        // However that is shared out among the layers, one of them is left in part.
        proxy.allow(LAYER as u64 * 3 / 2);
        let child = command().args(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while !proxy.is_used_up() {
            thread::sleep(Duration::from_millis(1));
        }
        interrupt(&child);
        thread::sleep(Duration::from_millis(200));
        // Giving its sessions back needs the line.
        proxy.allow(if more.is_empty() { u64::MAX } else { 0 });
        let stopped = child.wait_with_output().unwrap();
        proxy.cut();
        assert_eq!(stopped.status.code(), Some(130), "{stopped:?}");
        assert!(err(&stopped).contains(&says), "{}", err(&stopped));
    }
    proxy.allow(u64::MAX);
    assert!(state.exists());
    let told = json(&tug(&["push", text(&archive), &reference, "--resume", text(&state), "--format", "json"]));
    assert!(told["resumedBytes"].as_u64().unwrap() > 0, "{told}");
    assert!(!state.exists());
    server.registry(|registry| assert!(registry.ledger().commits.values().all(|times| *times == 1)));
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

/// What a state is not of is refused, and it stays for whom it is of.
#[test]
fn a_state_of_something_else_is_refused() {
    let (place, sample) = (Place::new(), sample());
    let (archive, state) = (place.path("app.tar"), place.path("state"));
    fs::write(&archive, make::oci_archive(std::slice::from_ref(&sample))).unwrap();
    let (_server, proxy) = place.serve(Registry::new(Profile::distribution_3()));
    let to = |name: &str| format!("{}/{name}", proxy.address);
    kill_after(&proxy, 3 << 20, true, &["push", text(&archive), &to("app:v1"), "--resume", text(&state)]);
    proxy.allow(u64::MAX);
    let kept = fs::read(&state).unwrap();
    let refused = |arguments: &[&str], says: &str| {
        let failed = tug(&[arguments, &["--resume", text(&state)]].concat());
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        assert!(err(&failed).contains(says) && err(&failed).contains("remove it or name another file"), "{failed:?}");
    };
    refused(&["push", text(&archive), &to("app:v2")], "it is of a push to");
    refused(&["pull", &to("app:v1"), text(&place.path("out.tar"))], "it is of a push, not of a pull");
    // Another archive in its place, and the same one with a byte changed where the table of contents doesn't tell.
    fs::rename(&archive, place.path("before.tar")).unwrap();
    fs::write(&archive, make::oci_archive(&[SampleImage::new(&["app:v1"], &[b"other"])])).unwrap();
    refused(&["push", text(&archive), &to("app:v1")], "it was begun with another archive");
    fs::rename(place.path("before.tar"), &archive).unwrap();
    assert_eq!(fs::read(&state).unwrap(), kept, "it was touched");
    let modified = fs::metadata(&archive).unwrap().modified().unwrap();
    let before = fs::read(&archive).unwrap();
    let mut changed = before.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fs::write(&archive, changed).unwrap();
    refused(&["push", text(&archive), &to("app:v1")], "was changed since");
    // Whatever was damaged.
    fs::write(&archive, before).unwrap();
    fs::File::options().write(true).open(&archive).unwrap().set_modified(modified).unwrap();
    fs::write(&state, &kept[..kept.len() - 9]).unwrap();
    refused(&["push", text(&archive), &to("app:v1")], "or was damaged");
    fs::write(&state, String::from_utf8(kept.clone()).unwrap().replace("\"version\":1", "\"version\":9")).unwrap();
    refused(&["push", text(&archive), &to("app:v1")], "it has version 9");
    fs::write(&state, kept).unwrap();
    let told = json(&tug(&["push", text(&archive), &to("app:v1"), "--resume", text(&state), "--format", "json"]));
    assert!(told["resumedBytes"].as_u64().unwrap() > 0, "{told}");
    // A place that can't be written is known before anything is sent.
    let failed = tug(&["push", text(&archive), &to("new:v1"), "--resume", text(&place.path("none/state"))]);
    assert!(failed.status.code() == Some(1) && err(&failed).contains("none/state"), "{failed:?}");
}
