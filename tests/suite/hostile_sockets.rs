//! Attackers on the wire (PROTOCOL §6, A12, A31, A41, A43), against all three runtimes: peers that drip, never end, say more
//! than they announced, or speak without encryption where it was asked for.
//!
//! What is merely slow, early or cut is in `pitfalls/`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use registry_proto::archive::make;
use registry_proto::flow::{
    Destination, FetchManifest, ListTags, Pinging, Platforms, Pull, PullOptions, Push, PushOptions,
};
use registry_proto::job::{FailureKind, Phase};
use registry_proto::spec::{Descriptor, Digest, MediaType};
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::{Config, Error, Scheme};
use registry_tests::hostile::{Ran, image, quick, run};
use registry_tests::images::noise;
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Server, Then, listen, reply};

const OK: &str = "200 OK";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Retries never, and gives up after less than a second of whatever it is.
fn impatient() -> Config {
    let mut config = quick();
    config.retries = 0;
    let limits = &mut config.timeouts;
    (limits.connect, limits.head, limits.idle, limits.whole) = (millis(900), millis(900), millis(900), millis(900));
    config
}

fn registry() -> Registry {
    Registry::new(Profile::distribution_3())
}

fn fetch(server: &Server) -> FetchManifest {
    FetchManifest::new(&format!("{}/n:v1", server.host()).parse().unwrap())
}

fn ping(server: &Server) -> Pinging {
    Pinging::new(server.host().parse().unwrap())
}

/// An image that is handed out as it should be, but for its layer, which is as a test has it.
fn pull_of(runtime: Runtime, config: Config, layer: impl Fn() -> Answer + Send + Sync + 'static) -> Ran<()> {
    let (content, folder) = (image(), tempfile::tempdir().unwrap());
    let (manifest, digest) = (content.manifest(false), Digest::of(&content.layers[0]));
    let server = Server::start(registry(), move |asked| {
        let path = asked.head.uri.path();
        if path.contains("/manifests/") {
            let text = std::str::from_utf8(manifest.bytes()).unwrap();
            return Answer::raw(reply(OK, &[&format!("Content-Type: {}", manifest.media_type())], text));
        }
        match path.contains(digest.encoded()) {
            true => layer(),
            false => Answer::raw(reply(OK, &[], std::str::from_utf8(&content.config()).unwrap())),
        }
    });
    let mut options = PullOptions::default();
    options.platforms = Platforms::All;
    let out = folder.path().join("out.tar");
    let flow = Pull::new([format!("{}/n:v1", server.host()).parse().unwrap()], &out, options);
    let ran = run(runtime, config, flow);
    assert_eq!(out.exists(), ran.result.is_ok());
    Ran { result: ran.result.map(drop), events: ran.events, took: ran.took }
}

#[track_caller]
fn timed_out<T: std::fmt::Debug>(ran: &Ran<T>, phases: &[Phase]) {
    match &ran.result {
        Err(Error::Transport { last, .. }) if matches!(last.kind(), FailureKind::Timeout(phase) if phases.contains(&phase)) =>
            {}
        other => panic!("it should have run out of patience: {other:?}"),
    }
    assert!(ran.took >= millis(800) && ran.took < millis(6000), "after {:?}", ran.took);
}

// ── peers that drip ──────────────────────────────────────────────────────────────────────────────────────────────────

/// A reply that comes a byte at a time is not for ever, though never a second passes without a byte.
fn a31_a_reply_that_drips(runtime: Runtime) {
    let drip = |head: &str| {
        let head = head.to_owned();
        Server::start(registry(), move |_| Answer::drip(&head, "x".repeat(4096), millis(40)))
    };
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nContent-Length: 4096\r\n\r\n");
    // By what comes in a while, and by how long it takes as a whole: each for itself is enough.
    let mut slow_is_fine = impatient();
    slow_is_fine.timeouts.idle_bytes = 1;
    let mut whole_is_fine = impatient();
    whole_is_fine.timeouts.whole = Duration::from_secs(3600);
    let server = drip(&endless);
    timed_out(&run(runtime, slow_is_fine, fetch(&server)), &[Phase::Whole]);
    let server = drip(&endless);
    timed_out(&run(runtime, whole_is_fine, fetch(&server)), &[Phase::Body]);
    // What a refusal has to say is as long.
    let server = drip(&endless.replace("200 OK", "404 Not Found"));
    timed_out(&run(runtime, impatient(), fetch(&server)), &[Phase::Body, Phase::Whole]);
    // The head of a reply.
    let server = Server::start(registry(), |_| {
        Answer::drip("HTTP/1.1 200 OK\r\nX-Slow: ", format!("{}\r\n\r\n", "x".repeat(4096)), millis(40))
    });
    timed_out(&run(runtime, impatient(), ping(&server)), &[Phase::Head, Phase::Whole]);
}

/// A blob has no limit for the whole of it: but it has to get ahead.
fn a31_a_blob_that_drips(runtime: Runtime) {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n";
    let ran = pull_of(runtime, impatient(), move || Answer::drip(head, noise(300_000), millis(40)));
    timed_out(&ran, &[Phase::Body]);
    // Slowly, but it does: as much in each second as the limit says.
    let mut config = impatient();
    (config.timeouts.idle_bytes, config.timeouts.whole) = (10, millis(900));
    let wanted = image().layers[0].clone();
    let (start, rest) = (wanted[..wanted.len() - 60].to_vec(), wanted[wanted.len() - 60..].to_vec());
    let ran = pull_of(runtime, config, move || Answer::drip([head.as_bytes(), &start].concat(), &rest, millis(40)));
    ran.result.unwrap();
    assert!(ran.took > millis(2000), "{:?}", ran.took);
}

/// A registry that takes an upload a little at a time.
fn a31_an_upload_that_is_taken_in_sips(runtime: Runtime) {
    let listener = listen();
    let host = listener.local_addr().unwrap().to_string();
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    let registry = Arc::new(Mutex::new(registry()));
    // By hand, since nothing of a body is to be read but what is read of it here.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (registry, ended) = (Arc::clone(&registry), Arc::clone(&ended));
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut head = Vec::new();
                while !ended.load(Ordering::SeqCst) {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
                    let line: Vec<&str> = text.lines().next().unwrap().split(' ').collect();
                    if line[0] == "PUT" || line[0] == "PATCH" {
                        while !ended.load(Ordering::SeqCst) && stream.read(&mut byte).unwrap_or(0) > 0 {
                            thread::sleep(millis(20));
                        }
                        return;
                    }
                    let host = stream.local_addr().unwrap();
                    let (mut parts, ()) = http::Request::new(()).into_parts();
                    parts.method = line[0].parse().unwrap();
                    parts.uri = format!("http://{host}{}", line[1]).parse().unwrap();
                    let reply = registry.lock().unwrap().handle(&parts, bytes::Bytes::new());
                    let mut out = format!("HTTP/1.1 {}\r\nContent-Length: {}\r\n", reply.status(), reply.body().len());
                    for (name, value) in reply.headers() {
                        if name != "content-length" {
                            out.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
                        }
                    }
                    let _ = stream.write_all(format!("{out}\r\n").as_bytes());
                    let _ = stream.write_all(reply.body());
                }
            });
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("app.tar");
    let big = make::SampleImage::new(&["x:v1"], &[&noise(16 << 20)]);
    fs::write(&archive, make::docker_save_oci(&[big])).unwrap();
    let to = Destination::Reference(format!("{host}/n:v1").parse().unwrap());
    let mut config = impatient();
    config.scheme = Scheme::Http;
    config.timeouts.head = Duration::from_secs(30);
    config.timeouts.idle_bytes = 4 << 20;
    let ran = run(runtime, config, Push::new(archive, to, PushOptions::default()));
    over.store(true, Ordering::SeqCst);
    timed_out(&ran, &[Phase::Body]);
}

// ── peers that never end ─────────────────────────────────────────────────────────────────────────────────────────────

/// Bodies without end, announced or not, of every kind that is kept in memory: only as much is read as is taken.
fn a12_a31_bodies_without_end(runtime: Runtime) {
    let piece = "x".repeat(6 << 20);
    let announced = format!("Content-Length: 1099511627776\r\n\r\n{piece}");
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n40000000\r\n{piece}");
    let until_closed = format!("Connection: close\r\n\r\n{piece}");
    for framing in [announced, chunked, until_closed] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\n{framing}");
        let server = Server::start(registry(), move |_| Answer::raw(&text).then(Then::Go));
        let ran = run(runtime, impatient(), fetch(&server));
        let is_too_large =
            |why: &Error| matches!(why, Error::Transport { last, .. } if last.kind() == FailureKind::TooLarge);
        assert!(ran.result.as_ref().is_err_and(is_too_large), "{:?}", ran.result.map(drop));
        assert!(ran.took < millis(5000), "{:?}", ran.took);
        // Nobody goes on listening.
        server.wait_for_closing();
    }
    // What a refusal says is cut off, and what nobody wants isn't waited for.
    for status in ["404 Not Found", "200 OK"] {
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: 1099511627776\r\n\r\n{piece}");
        let server = Server::start(registry(), move |_| Answer::raw(&text).then(Then::Go));
        let ran = run(runtime, impatient(), ping(&server));
        assert!(ran.took < millis(5000), "{status}: {:?}", ran.took);
        assert_eq!(ran.result.is_ok(), status == OK, "{:?}", ran.result);
        server.wait_for_closing();
    }
    // A blob that is longer than its manifest says.
    let long = [b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n".as_slice(), &noise(6 << 20)].concat();
    let ran = pull_of(runtime, impatient(), move || Answer::raw(&long).then(Then::Hold));
    let why = ran.result.unwrap_err();
    assert!(matches!(why, Error::Protocol { .. }), "{why}");
    assert!(ran.took < millis(5000), "{:?}", ran.took);
}

/// Heads without end: of one reply, and of replies that are none yet.
fn a31_c94_heads_without_end(runtime: Runtime) {
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(2 << 20));
    let many: String = (0..100_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 2\r\n\r\n{{}}");
    for head in [long, many] {
        let server = Server::start(registry(), move |_| Answer::raw(&head).then(Then::Close));
        let ran = run(runtime, impatient(), ping(&server));
        match &ran.result {
            Err(Error::Transport { last, .. }) if matches!(last.kind(), FailureKind::TooLarge | FailureKind::Cut) => {}
            other => panic!("{other:?}"),
        }
        assert!(ran.took < millis(3000), "{:?}", ran.took);
    }
    // 100 Continue, and again, for as long as it is listened to.
    let server = Server::start(registry(), |_| {
        Answer::drip("", "HTTP/1.1 100 Continue\r\n\r\n".repeat(2000), Duration::ZERO).then(Then::Hold)
    });
    let ran = run(runtime, impatient(), ping(&server));
    assert!(ran.result.is_err());
    assert!(ran.took < millis(6000), "{:?}", ran.took);
}

/// How much of a head is taken is configuration.
fn a31_the_limit_of_heads_can_be_set(runtime: Runtime) {
    let with = |bytes: usize| {
        let text = reply(
            OK,
            &[&format!("X-Long: {}", "x".repeat(bytes)), "Docker-Distribution-Api-Version: registry/2.0"],
            "{}",
        );
        Server::start(registry(), move |_| Answer::raw(&text))
    };
    for (limit, bytes, fine) in [(256 << 10, 60 << 10, true), (16 << 10, 60 << 10, false), (16 << 10, 4 << 10, true)] {
        let mut config = impatient();
        config.limits.head = limit;
        let server = with(bytes);
        let ran = run(runtime, config, ping(&server));
        assert_eq!(ran.result.is_ok(), fine, "{bytes} bytes, where {limit} are allowed: {:?}", ran.result);
    }
}

/// How many headers, too; it is no accident, and nobody asks again.
fn a31_the_limit_of_headers_can_be_set(runtime: Runtime) {
    for (limit, count, fine) in [(100, 60, true), (50, 60, false), (200, 300, false)] {
        let headers: Vec<String> = (0..count).map(|n| format!("X-{n}: {n}")).collect();
        let mut headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        headers.push("Docker-Distribution-Api-Version: registry/2.0");
        let text = reply(OK, &headers, "{}");
        let server = Server::start(registry(), move |_| Answer::raw(&text));
        let mut config = quick();
        config.limits.headers = limit;
        let ran = run(runtime, config, ping(&server));
        match &ran.result {
            Ok(_) if fine => {}
            Err(Error::Transport { last, .. }) if !fine && last.kind() == FailureKind::TooLarge => {}
            other => panic!("{count} headers, where {limit} are allowed: {other:?}"),
        }
        assert_eq!(server.log().len(), 1);
    }
}

// ── peers that say one thing and mean another ────────────────────────────────────────────────────────────────────────

/// Two framings in one reply: whoever believes one of them leaves the rest to be taken for the next reply.
fn a43_replies_with_two_framings(runtime: Runtime) {
    let smuggled = reply(OK, &["Docker-Distribution-Api-Version: evil/1.0"], "{}");
    for told in [
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{smuggled}"
        ),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 0\r\n\r\n{{}}{smuggled}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{}}{smuggled}"),
        format!("HTTP/1.1 204 No Content\r\n\r\n{smuggled}"),
    ] {
        let server = Server::start(registry(), move |asked| match asked.number {
            0 => Answer::raw(&told),
            _ => Answer::raw(reply(OK, &["Docker-Distribution-Api-Version: registry/2.0"], "{}")),
        });
        let flow = registry_tests::series::Series::new([ping(&server), ping(&server), ping(&server)]);
        let mut config = quick();
        config.requests_per_registry = std::num::NonZeroUsize::MIN;
        let ran = run(runtime, config, flow);
        for ping in ran.result.unwrap().into_iter().flatten() {
            assert_ne!(ping.api_version.as_deref(), Some("evil/1.0"), "somebody else's answer was taken");
        }
    }
}

/// What we send has one framing: a length, announced, and exactly so many bytes.
fn a26_a43_requests_with_one_framing(runtime: Runtime) {
    let server = Server::start(registry(), |_| Answer::registry());
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("app.tar");
    fs::write(&archive, make::docker_save_oci(&[image()])).unwrap();
    let to = Destination::Reference(format!("{}/n:v1", server.host()).parse().unwrap());
    let mut config = quick();
    config.user_agent = "agent\r\nX-Evil: 1".to_owned();
    run(runtime, config, Push::new(archive, to, PushOptions::default())).result.unwrap();
    for asked in server.log() {
        assert_eq!(asked.header("transfer-encoding"), "", "{asked:?}");
        assert!(asked.head.headers.get_all("content-length").iter().count() <= 1, "{asked:?}");
        assert_eq!(asked.head.headers.get_all("host").iter().count(), 1, "{asked:?}");
        assert_eq!(asked.header("x-evil"), "", "{asked:?}");
        let may_have_a_body = ["POST", "PUT", "PATCH"].contains(&asked.head.method.as_str());
        assert_eq!(asked.head.headers.contains_key("content-length"), may_have_a_body, "{asked:?}");
    }
}

/// No HTTP stack unpacks what a peer has packed, asked for or not: the size that counts is that of what came.
fn a46_nobody_unpacks(runtime: Runtime) {
    let page = format!(r#"{{"name":"n","tags":["a"]{}}}"#, " ".repeat(30_000));
    let packed = make::gzip_stored(page.as_bytes());
    for coding in ["Content-Encoding: gzip", "Transfer-Encoding: gzip", "Content-Encoding: gzip, gzip"] {
        let head = format!("HTTP/1.1 200 OK\r\n{coding}\r\nContent-Length: {}\r\n\r\n", packed.len());
        let text = [head.as_bytes(), &packed].concat();
        let server = Server::start(registry(), move |_| Answer::raw(&text).then(Then::Close));
        let flow = ListTags::new(format!("{}/n", server.host()).parse().unwrap());
        let ran = run(runtime, impatient(), flow);
        assert!(ran.result.is_err(), "{coding}: it was unpacked");
        for asked in server.log() {
            assert_eq!(asked.header("accept-encoding"), "identity", "{asked:?}");
            assert_eq!(asked.header("te"), "", "{asked:?}");
        }
    }
}

/// Where TLS was asked for nothing is ever said without it, whatever comes of it.
fn a41_no_encryption_no_conversation(runtime: Runtime) {
    let server = Server::start(registry(), |_| Answer::registry());
    let mut config = impatient();
    (config.scheme, config.retries) = (Scheme::Https, 2);
    let flow = ListTags::new(format!("{}/n", server.host()).parse().unwrap());
    let ran = run(runtime, config, flow);
    assert!(matches!(ran.result, Err(Error::Transport { .. })), "{:?}", ran.result);
    assert_eq!(server.log().len(), 0, "a request went out in the clear");
}

/// A size is a number until the bytes are there: no disk is filled by it.
fn a13_a_blob_larger_than_any_disk(runtime: Runtime) {
    for size in [u64::MAX, i64::MAX as u64, 1 << 60] {
        let blob = Descriptor::new(MediaType::OCI_LAYER, Digest::of(b"layer"), size);
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"layers":[{}]}}"#,
            Digest::of(b"{}"),
            serde_json::to_string(&blob).unwrap()
        );
        let server = Server::start(registry(), move |asked| match asked.head.uri.path().contains("/manifests/") {
            true => Answer::raw(reply(OK, &[&format!("Content-Type: {MANIFEST}")], &text)),
            false => Answer::raw(reply(OK, &[], "{}")),
        });
        let folder = tempfile::tempdir().unwrap();
        let mut options = PullOptions::default();
        options.platforms = Platforms::All;
        let out = folder.path().join("out.tar");
        let flow = Pull::new([format!("{}/n:v1", server.host()).parse().unwrap()], &out, options);
        let ran = run(runtime, impatient(), flow);
        assert!(ran.result.is_err(), "{size}");
        assert!(!out.exists() && ran.took < millis(5000), "{size}: {:?}", ran.took);
    }
}

on_all_runtimes!(
    a31_a_reply_that_drips,
    a31_a_blob_that_drips,
    a31_an_upload_that_is_taken_in_sips,
    a12_a31_bodies_without_end,
    a31_c94_heads_without_end,
    a31_the_limit_of_heads_can_be_set,
    a31_the_limit_of_headers_can_be_set,
    a43_replies_with_two_framings,
    a26_a43_requests_with_one_framing,
    a46_nobody_unpacks,
    a41_no_encryption_no_conversation,
    a13_a_blob_larger_than_any_disk,
);
