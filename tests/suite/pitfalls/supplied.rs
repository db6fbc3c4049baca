//! Requests that are sent while their bodies are fetched: whatever happens at either end, the blob arrives, and nobody hangs.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use registry_proto::flow::{Copied, Copy, CopyOptions};
use registry_proto::spec::{Descriptor, ImageManifest, MediaType};
use registry_proto::testing::registry::{Mount, Support};
use registry_tests::on_hand_made_runtimes_too;
use registry_tests::server::listen;

use super::*;

/// A registry with an image, from which it is copied to one that takes no chunks.
struct Pair {
    source: Server,
    layer: Digest,
}

impl Pair {
    fn new(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let mut registry = registry();
        let content = noise(BIG);
        let layer = registry.insert_blob("a", content.into());
        let config = registry.insert_blob("a", bytes::Bytes::from_static(b"{}"));
        let manifest = ImageManifest {
            media_type: None,
            artifact_type: None,
            config: Descriptor::new(MediaType::OCI_CONFIG, config, 2),
            layers: vec![Descriptor::new(MediaType::OCI_LAYER, layer.clone(), BIG as u64)],
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        }
        .to_manifest();
        registry.insert_manifest("a", Some("v1"), manifest.bytes().clone(), MediaType::OCI_MANIFEST.as_str()).unwrap();
        Self { source: Server::start(registry, script), layer }
    }

    fn copy(&self, runtime: Runtime, config: Config, to: &Server) -> Ran<Copied> {
        let (from, to) = (format!("{}/a:v1", self.source.host()), format!("{}/b:v1", to.host()));
        run(runtime, config, Copy::new(from.parse().unwrap(), to.parse().unwrap(), CopyOptions::default()))
    }

    fn check(&self, ran: &Ran<Copied>, to: &Server) {
        assert!(ran.result.is_ok(), "{:?} {:?}", ran.result, ran.events);
        let registry = to.registry();
        let there = registry.blob("b", self.layer.as_str()).unwrap();
        assert_eq!((Digest::of(&there), registry.ledger().mismatches.len()), (self.layer.clone(), 0));
        assert_eq!(to.count("PATCH", ""), usize::from(to.count("PATCH", "") > 0), "it had said that it takes none");
    }
}

fn without_chunks(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
    let mut profile = Profile::distribution_3();
    profile.patch = Support::No(http::StatusCode::METHOD_NOT_ALLOWED);
    Server::start(Registry::new(profile), script)
}

fn is_layer(asked: &Asked) -> bool {
    is_blob_put(asked) && asked.length() == BIG as u64
}

/// Pieces of this size.
fn in_pieces() -> Config {
    let mut config = quick();
    config.piece = (1 << 20).try_into().unwrap();
    config
}

fn all_of_it_goes_in_one_request(runtime: Runtime) {
    let (pair, to) = (Pair::new(|_| Answer::registry()), without_chunks(|_| Answer::registry()));
    let ran = pair.copy(runtime, in_pieces(), &to);
    pair.check(&ran, &to);
    let log = to.log();
    let puts: Vec<_> = log.iter().filter(|asked| is_layer(asked)).collect();
    assert_eq!(puts.len(), 1, "{runtime}");
    assert_eq!(puts[0].header("transfer-encoding"), "", "{runtime}: its length is known");
    // (Before that one, the registry was offered a chunk.)
    assert!(
        (12..16).contains(&pair.source.count("GET", "/blobs/")),
        "{runtime}: {}",
        pair.source.count("GET", "/blobs/")
    );
}

/// A peer that breaks off, or says no before it has read everything.
fn a_request_that_is_broken_off_is_made_again(runtime: Runtime) {
    let busy = reply("503 Service Unavailable", &[], "");
    let ends: [fn(&str) -> Answer; 5] = [
        |_| Answer::cut(5 << 20),
        |_| Answer::cut(0),
        |_| Answer::lost(),
        |busy| Answer::early(busy).then(Then::Close),
        |busy| Answer::early(busy).then(Then::Linger),
    ];
    for (case, end) in ends.into_iter().enumerate() {
        let (tries, busy) = (AtomicUsize::new(0), busy.clone());
        let to = without_chunks(move |asked| match tries.fetch_add(usize::from(is_layer(asked)), Ordering::SeqCst) {
            0 if is_layer(asked) => end(&busy),
            _ => Answer::registry(),
        });
        let pair = Pair::new(|_| Answer::registry());
        let ran = pair.copy(runtime, in_pieces(), &to);
        pair.check(&ran, &to);
        let puts = to.log().iter().filter(|asked| is_layer(asked)).count();
        assert_eq!(puts, if case == 2 { 1 } else { 2 }, "{runtime}: {case}: what was taken is not sent again");
    }
}

/// Whoever hands the blob out breaks off: the rest of the piece is asked for, and the request goes on.
fn a_source_that_breaks_off_is_no_matter(runtime: Runtime) {
    let cuts = AtomicUsize::new(0);
    let pair = Pair::new(move |asked| {
        let is_piece = asked.is("GET", "/blobs/") && asked.header("range").contains('-');
        if is_piece && cuts.fetch_add(1, Ordering::SeqCst) % 3 == 1 {
            return Answer::edited(|reply| {
                let all = reply.body().clone();
                reply.headers_mut().insert("content-length", all.len().into());
                *reply.body_mut() = all.slice(..all.len() / 2);
            })
            .then(Then::Close);
        }
        Answer::registry()
    });
    let to = without_chunks(|_| Answer::registry());
    let ran = pair.copy(runtime, in_pieces(), &to);
    pair.check(&ran, &to);
    assert_eq!(to.log().iter().filter(|asked| is_layer(asked)).count(), 1, "{runtime}: {:?}", ran.retries());
    assert!(!ran.retries().is_empty());
}

/// The source is slow: the other side is not to blame for that, however long it takes.
fn whoever_waits_for_pieces_is_not_stalled(runtime: Runtime) {
    let mut config = in_pieces();
    (config.timeouts.idle, config.timeouts.head, config.piece) =
        (millis(700), millis(3000), (4 << 20).try_into().unwrap());
    let pair = Pair::new(|asked| {
        if asked.is("GET", "/blobs/") && asked.header("range").contains('-') {
            thread::sleep(millis(1200));
        }
        Answer::registry()
    });
    let to = without_chunks(|_| Answer::registry());
    let ran = pair.copy(runtime, config, &to);
    pair.check(&ran, &to);
    assert_eq!(ran.retries(), Vec::<&str>::new(), "{runtime}");
}

/// Passes on what goes to a server, 64 KiB every 25 ms; each connection has room for little more.
fn slow_line_to(server: &Server) -> String {
    let (listener, to) = (listen(), server.host());
    let host = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&to) else { return };
            let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || _ = io::copy(&mut &back, &mut &forth));
            thread::spawn(move || {
                let mut some = vec![0; 64 << 10];
                while let Ok(got) = (&client).read(&mut some) {
                    if got == 0 || (&server).write_all(&some[..got]).is_err() {
                        break;
                    }
                    if got == some.len() {
                        thread::sleep(millis(25));
                    }
                }
                let _ = server.shutdown(Shutdown::Write);
            });
        }
    });
    host
}

/// A piece takes longer than anybody may be stalled; but it does get ahead.
fn a_slow_line_is_not_stalled(runtime: Runtime) {
    let mut config = once();
    (config.timeouts.idle, config.piece) = (millis(700), (4 << 20).try_into().unwrap());
    let (pair, to) = (Pair::new(|_| Answer::registry()), Server::start(registry(), |_| Answer::registry()));
    let (from, line) = (format!("{}/a:v1", pair.source.host()), format!("{}/b:v1", slow_line_to(&to)));
    let copy = Copy::new(from.parse().unwrap(), line.parse().unwrap(), CopyOptions::default());
    pair.check(&run(runtime, config, copy), &to);
    assert_eq!(to.log().iter().filter(|asked| is_layer(asked)).count(), 1, "{runtime}");
}

/// A request and those that it waits for go to the same registry, which is to be asked one thing at a time.
fn whoever_waits_is_not_in_the_way_of_what_it_waits_for(runtime: Runtime) {
    let mut pair = Pair::new(|_| Answer::registry());
    pair.source.registry().profile_mut().mount = Mount::Ignored;
    let mut config = in_pieces();
    config.requests_per_registry = NonZeroUsize::MIN;
    let to = std::mem::replace(&mut pair.source, Server::start(registry(), |_| Answer::registry()));
    let (from, there) = (format!("{}/a:v1", to.host()), format!("{}/b:v1", to.host()));
    let copy = Copy::new(from.parse().unwrap(), there.parse().unwrap(), CopyOptions::default());
    pair.check(&run(runtime, config, copy), &to);
    assert_eq!(to.log().iter().filter(|asked| is_layer(asked)).count(), 1, "{runtime}");
}

/// Bytes that are not the blob's never become one.
fn wrong_bytes_are_not_passed_on(runtime: Runtime) {
    let pair = Pair::new(|asked| {
        if !asked.header("range").contains(&format!("-{}", BIG - 1)) {
            return Answer::registry();
        }
        Answer::edited(|reply| {
            let mut body = reply.body().to_vec();
            *body.last_mut().unwrap() ^= 1;
            *reply.body_mut() = body.into();
        })
    });
    let to = without_chunks(|_| Answer::registry());
    let ran = pair.copy(runtime, in_pieces(), &to);
    assert!(matches!(ran.result, Err(Error::Integrity { .. })), "{runtime}: {:?}", ran.result);
    assert!(to.registry().blob("b", pair.layer.as_str()).is_none());
    assert_eq!(to.registry().ledger().mismatches, [], "{runtime}: the registry was given all of a wrong blob");
    // (Whether the registry can close the session at once depends on what it notices first.)
    assert_eq!(to.count("DELETE", "/blobs/uploads/"), 1, "{runtime}");
}

on_hand_made_runtimes_too!(
    all_of_it_goes_in_one_request,
    a_request_that_is_broken_off_is_made_again,
    a_source_that_breaks_off_is_no_matter,
    whoever_waits_for_pieces_is_not_stalled,
    a_slow_line_is_not_stalled,
    whoever_waits_is_not_in_the_way_of_what_it_waits_for,
    wrong_bytes_are_not_passed_on,
);
