//! Copies from registry to registry: seeded ones under faults in the simulator, and over sockets on all runtimes.
//!
//! ```text
//! SIM_SEED=4711 cargo test -p registry-tests --test copy copies_end      replays one seed and shows what happened
//! SIM_SEEDS=1000000 cargo test -p registry-tests --test copy copies_end  runs that many
//! ```

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::num::{NonZeroU64, NonZeroUsize};

use bytes::Bytes;
use http::StatusCode;
use registry_proto::archive::make::MemoryDisk;
use registry_proto::flow::{Copied, Copy, CopyOptions, Each, Fleet};
use registry_proto::spec::{Descriptor, Digest, ImageManifest, MediaType};
use registry_proto::testing::registry::{Auth, Mount, Profile, Registry, Support};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Error, Session, UploadPolicy};
use registry_tests::copies::{CopyScenario, HERE, THERE};
use registry_tests::images::{image, put};
use registry_tests::seeds::{for_every_seed, number};

/// How many seeds are run where nobody says otherwise.
const SEEDS: u64 = 5_000;

#[test]
fn copies_end_right_or_with_a_clear_error() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let succeeded = for_every_seed("copy", "copies_end_right_or_with_a_clear_error", seeds, |seed| {
        let scenario = CopyScenario::new(seed);
        let mut world = scenario.world();
        let ran = world.run(&mut scenario.session(), scenario.copy());
        if number("SIM_SEED").is_some() {
            let (from, to, config) = (&scenario.source, &scenario.destination, &scenario.config);
            println!("{from} to {to}\n{config:#?}\n{:#?}\n{:#?}\n{:?}", ran.requests, ran.events, ran.result);
        }
        scenario.check(&mut world, &ran);
        ran.result.is_ok()
    });
    println!("{succeeded} of {seeds} copies succeeded; the others ended with a clear error");
    assert!(number("SIM_SEED").is_some() || succeeded > seeds * 7 / 10, "only {succeeded} of {seeds} succeeded");
}

#[test]
fn a_second_copy_looks_and_sends_nothing() {
    for seed in (0..1000).step_by(10) {
        let scenario = CopyScenario::new(seed);
        let mut world = scenario.world();
        world.run(&mut scenario.session(), scenario.copy()).result.unwrap();
        let again = world.run(&mut scenario.session(), scenario.copy());
        again.result.unwrap();
        for request in &again.requests {
            let harmless = request.line.contains("/token")
                || request.line.starts_with("HEAD") && request.line.contains("/manifests/")
                || request.line.starts_with("GET") && request.line.contains("/from/here/manifests/");
            assert!(harmless, "seed {seed}: {}", request.line);
        }
    }
}

#[test]
fn a_killed_copy_is_simply_done_again() {
    for seed in 0..1000 {
        let mut scenario = CopyScenario::new(seed);
        scenario.faults = Faults::default();
        let mut world = scenario.world();
        let _ = world.run_until(&mut scenario.session(), scenario.copy(), 1 + seed % 40);
        let ran = world.run(&mut scenario.session(), scenario.copy());
        scenario.check(&mut world, &ran);
    }
}

/// A source with one image of one layer, and an empty destination.
struct Pair {
    world: Simulation,
    config: Config,
    seed: u64,
    layer: Digest,
}

impl Pair {
    const SIZE: usize = 10_000;

    fn new(here: Profile, there: Profile) -> Self {
        Self::of_seed(1, here, there)
    }

    fn of_seed(seed: u64, here: Profile, there: Profile) -> Self {
        let mut source = Registry::new(here);
        let bytes: Vec<u8> = (0..Self::SIZE).map(|at| ((at * at) >> 3) as u8).collect();
        let layer = source.insert_blob("a", bytes.into());
        let config = source.insert_blob("a", Bytes::from_static(b"{}"));
        let manifest = ImageManifest {
            media_type: None,
            artifact_type: None,
            config: Descriptor::new(MediaType::OCI_CONFIG, config, 2),
            layers: vec![Descriptor::new(MediaType::OCI_LAYER, layer.clone(), Self::SIZE as u64)],
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        }
        .to_manifest();
        source.insert_manifest("a", Some("v1"), manifest.bytes().clone(), MediaType::OCI_MANIFEST.as_str()).unwrap();
        let world = Simulation::new(seed, source, MemoryDisk::default()).with_registry(THERE, Registry::new(there));
        let mut config = Config::default();
        config.piece = NonZeroU64::new(1000).unwrap();
        Self { world, config, seed, layer }
    }

    fn copy(&mut self) -> Ran<Copied> {
        let (from, to) = (format!("{HERE}/a:v1"), format!("{THERE}/b:v1"));
        let copy = Copy::new(from.parse().unwrap(), to.parse().unwrap(), CopyOptions::default());
        self.world.run(&mut Session::new(self.config.clone(), self.seed), copy)
    }

    /// Copies, in vain: nothing of the layer is committed, and its session is given up. (A registry that finds out only afterwards
    /// that a request was broken off may not let go of it at once.)
    fn copy_in_vain(&mut self) -> Error {
        let ran = self.copy();
        let there = self.world.registry_of(THERE);
        assert_eq!(there.ledger().commits_of("b", &self.layer), 0);
        assert_eq!(there.ledger().mismatches, []);
        assert_eq!(there.tags("b"), Vec::<String>::new());
        let end = format!("DELETE http://{THERE}/v2/b/blobs/uploads/");
        assert!(ran.requests.iter().any(|asked| asked.line.starts_with(&end)), "{:#?}", ran.requests);
        ran.result.unwrap_err()
    }
}

#[test]
fn a_large_blob_goes_in_pieces_one_ahead() {
    let mut pair = Pair::new(Profile::distribution_3(), Profile::strict());
    pair.config.upload = UploadPolicy::Chunked(NonZeroU64::new(1000).unwrap());
    let ran = pair.copy();
    ran.result.unwrap();
    let count = |start: &str| ran.requests.iter().filter(|asked| asked.line.starts_with(start)).count();
    // One more for the configuration; each chunk of the layer is a piece.
    assert_eq!(count(&format!("GET http://{HERE}/v2/a/blobs/")), 11, "{:#?}", ran.requests);
    assert_eq!((count("PATCH "), count("POST ")), (10, 2));
    // The first piece is asked for before there is a session to send it to, the second before the first is there.
    let at = |part: &str| ran.requests.iter().position(|asked| asked.line.contains(part)).unwrap();
    assert!(at("PATCH ") > at("/a/blobs/"), "{:#?}", ran.requests);
}

/// Sixty layers within a registry: nothing is asked but whether the image is there and whether they can be mounted, and that
/// of many at a time.
#[test]
fn mounts_are_asked_for_many_at_a_time() {
    for (mount, moves) in [(Mount::Works, false), (Mount::Ignored, true)] {
        let mut registry = Registry::new(Profile { mount, ..Profile::distribution_2_8() });
        let layers: Vec<Vec<u8>> = (0..60u8).map(|at| vec![at; 100]).collect();
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        put(&mut registry, "a", Some("v1"), &image(&layers));
        let mut world = Simulation::new(1, registry, MemoryDisk::default());
        let (from, to) = (format!("{HERE}/a:v1"), format!("{HERE}/b:v1"));
        let copy = Copy::new(from.parse().unwrap(), to.parse().unwrap(), CopyOptions::default());
        let ran = world.run(&mut Session::new(Config::default(), 1), copy);
        let totals = ran.result.unwrap().totals;
        let count = |start: &str| ran.requests.iter().filter(|asked| asked.line.starts_with(start)).count();
        assert_eq!(count("POST "), 61);
        assert!(ran.most_at_once >= 16, "{} at a time", ran.most_at_once);
        if moves {
            assert_eq!((totals.sent, totals.mounted), (61, 0));
            assert!(ran.most_sending <= 4, "{} blobs at a time", ran.most_sending);
        } else {
            assert_eq!((totals.sent, totals.mounted), (0, 61));
            // The image's manifest, whether it is there, and putting it there.
            assert_eq!(ran.requests.len(), 61 + 3, "{:#?}", ran.requests);
        }
    }
}

#[test]
fn wrong_bytes_are_not_passed_on() {
    for (at, piece) in [(0, 1000), (9999, 1000), (5000, 20_000)] {
        let mut pair = Pair::new(Profile::distribution_3(), Profile::distribution_3());
        pair.config.piece = NonZeroU64::new(piece).unwrap();
        let layer = pair.layer.to_string();
        assert!(pair.world.registry().damage_blob("a", &layer, at));
        let why = pair.copy_in_vain();
        assert!(matches!(&why, Error::Integrity { expected, .. } if *expected == pair.layer), "{why}");
        assert!(why.to_string().contains(&format!("GET http://{HERE}/v2/a/blobs/sha256:")), "{why}");
    }
}

#[test]
fn a_registry_that_takes_no_notice_of_range() {
    let mut here = Profile::distribution_3();
    here.serves_ranges = false;
    for (piece, good) in [(1000, false), (5000, true), (20_000, true)] {
        let mut pair = Pair::new(here.clone(), Profile::distribution_3());
        pair.config.piece = NonZeroU64::new(piece).unwrap();
        if good {
            pair.copy().result.unwrap();
            continue;
        }
        let why = pair.copy_in_vain();
        assert!(matches!(why, Error::Protocol { .. }), "{why}");
        assert!(why.to_string().contains("takes no notice of Range"), "{why}");
    }
}

/// What does not fit into memory is sent while it is fetched.
#[test]
fn a_registry_that_takes_no_chunks() {
    let mut there = Profile::distribution_3();
    there.patch = Support::No(StatusCode::METHOD_NOT_ALLOWED);
    for (piece, pieces) in [(999, 11), (1000, 10), (5000, 2), (9999, 2), (20_000, 1)] {
        let mut pair = Pair::new(Profile::distribution_3(), there.clone());
        pair.config.piece = NonZeroU64::new(piece).unwrap();
        // It is offered a chunk first, and says no.
        pair.config.upload = UploadPolicy::Chunked(pair.config.piece);
        let ran = pair.copy();
        ran.result.unwrap();
        let there = pair.world.registry_of(THERE);
        let bytes = there.blob("b", pair.layer.as_str()).unwrap();
        assert_eq!((Digest::of(&bytes), there.ledger().commits_of("b", &pair.layer)), (pair.layer.clone(), 1));
        // (The configuration is sent beside it.)
        assert!(ran.most_in_memory <= piece + 2, "{} bytes in memory", ran.most_in_memory);
        // (Only by asking is it found out that no chunks are taken, so that a piece can have been fetched twice.)
        let layer = format!("GET http://{HERE}/v2/a/blobs/{}", pair.layer);
        let fetched = ran.requests.iter().filter(|asked| asked.line == layer).count();
        assert!((pieces..=pieces + 3).contains(&fetched), "{piece}: {:#?}", ran.requests);
    }
}

/// One request for all of it is the fastest, as long as nothing goes wrong.
#[test]
fn a_blob_that_is_not_too_large_goes_in_one_request() {
    let mut pair = Pair::new(Profile::distribution_3(), Profile::strict());
    let ran = pair.copy();
    ran.result.unwrap();
    let count = |start: &str| ran.requests.iter().filter(|asked| asked.line.starts_with(start)).count();
    assert_eq!((count("PATCH "), count("PUT "), count("POST ")), (0, 3, 2), "{:#?}", ran.requests);
    let sent: Vec<u64> = ran.requests.iter().map(|asked| asked.got).filter(|got| *got > 1000).collect();
    assert_eq!(sent, [Pair::SIZE as u64]);
    let fetched = ran.requests.iter().filter(|asked| asked.line.starts_with(&format!("GET http://{HERE}/v2/a/blobs/")));
    assert_eq!(fetched.count(), 11, "ten pieces and the configuration");
}

/// After a cut it goes in chunks, of which each is kept: it is not begun again and again.
#[test]
fn what_was_cut_once_goes_in_chunks() {
    let (mut again, mut cut) = (0, 0);
    for seed in 0..300 {
        let mut pair = Pair::of_seed(seed, Profile::distribution_3(), Profile::strict());
        let mut faults = Faults::default();
        faults.requests = 80;
        pair.world = pair.world.with_faults(faults);
        let ran = pair.copy();
        if ran.result.is_err() {
            continue;
        }
        let layers = ran.requests.iter().filter(|asked| asked.line.starts_with("PUT ") && asked.got > 1000).count();
        assert!(layers <= 1, "{seed}: {:#?}", ran.requests);
        cut += usize::from(ran.requests.iter().any(|asked| asked.line.starts_with("PATCH ")));
        again += layers;
    }
    assert!(cut > 10 && again > 100, "{cut} were cut, {again} were not");
}

/// Wherever it breaks off, it starts again from its beginning, and what the registry has is right.
#[test]
fn one_request_is_made_again_when_it_was_cut_or_its_token_expired() {
    let mut there = Profile::distribution_3();
    there.patch = Support::No(StatusCode::METHOD_NOT_ALLOWED);
    there.requires_auth = Some(Auth::bearer("/token", "r"));
    let (mut right, mut again) = (0, 0);
    for seed in 0..400 {
        let mut pair = Pair::of_seed(seed, Profile::distribution_3(), there.clone());
        pair.config.upload = if seed % 2 == 0 { UploadPolicy::Monolithic } else { UploadPolicy::Auto };
        let mut faults = Faults::default();
        (faults.requests, faults.revoked_tokens) = (60, 15);
        pair.world = pair.world.with_faults(faults);
        let ran = pair.copy();
        let puts =
            ran.requests.iter().filter(|asked| asked.line.starts_with("PUT ") && asked.line.contains("/uploads/"));
        again += puts.count().saturating_sub(2);
        let there = pair.world.registry_of(THERE);
        assert_eq!(there.ledger().mismatches, [], "{seed}");
        match ran.result {
            Ok(_) => {
                right += 1;
                assert_eq!(Digest::of(&there.blob("b", pair.layer.as_str()).unwrap()), pair.layer, "{seed}");
            }
            Err(Error::Transport { .. } | Error::Registry(_) | Error::Denied(_)) => {}
            Err(why) => panic!("{seed}: {why}"),
        }
    }
    assert!(right > 380 && again > 100, "{right} of 400 were right; {again} requests were made again");
}

/// Each of two registries holds all its places for requests that wait for pieces from the other one.
#[test]
fn requests_that_wait_for_pieces_do_not_keep_them_from_being_fetched() {
    let mut one = Profile::distribution_3();
    one.patch = Support::No(StatusCode::METHOD_NOT_ALLOWED);
    let mut here = Registry::new(one.clone());
    let mut there = Registry::new(one);
    let layers: Vec<Vec<u8>> = (0..8u8).map(|at| vec![at; 9000]).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    put(&mut here, "a", Some("v1"), &image(&layers));
    let others: Vec<Vec<u8>> = (100..108u8).map(|at| vec![at; 9000]).collect();
    let others: Vec<&[u8]> = others.iter().map(Vec::as_slice).collect();
    put(&mut there, "c", Some("v1"), &image(&others));
    let mut world = Simulation::new(1, here, MemoryDisk::default()).with_registry(THERE, there);
    let mut config = Config::default();
    config.piece = NonZeroU64::new(1000).unwrap();
    config.upload = UploadPolicy::Monolithic;
    config.requests_per_registry = NonZeroUsize::new(2).unwrap();
    let copy = |from: String, to: String| {
        Each::new(Copy::new(from.parse().unwrap(), to.parse().unwrap(), CopyOptions::default()))
    };
    let both =
        [copy(format!("{HERE}/a:v1"), format!("{THERE}/b:v1")), copy(format!("{THERE}/c:v1"), format!("{HERE}/d:v1"))];
    let ran = world.run(&mut Session::new(config, 1), Fleet::new(both, NonZeroUsize::new(2).unwrap()));
    assert!(ran.result.unwrap().iter().all(Result::is_ok));
}

#[test]
fn a_registry_that_hands_out_less_than_was_asked_for() {
    let mut here = Profile::distribution_3();
    here.range_max = Some(333);
    let mut pair = Pair::new(here, Profile::strict());
    pair.copy().result.unwrap();
    let bytes = pair.world.registry_of(THERE).blob("b", pair.layer.as_str()).unwrap();
    assert_eq!(Digest::of(&bytes), pair.layer);
}

#[test]
fn a_blob_that_is_gone_is_an_error_that_names_it() {
    let mut pair = Pair::new(Profile::distribution_3(), Profile::distribution_3());
    let layer = pair.layer.to_string();
    assert!(pair.world.registry().remove_blob("a", &layer));
    let why = pair.copy_in_vain();
    assert!(why.to_string().contains(&layer) && why.to_string().contains("it is not there"), "{why}");
}
