//! Archives that go by once: standard input, or what a decompressor makes of a file. What arrives is what a push of the same
//! archive from a file brings, with a few pieces of it in memory, or there is an error and no manifest.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::io::{self, Cursor, Read};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage, TarMaker};
use registry_proto::archive::{Archive, ArchiveFault, Compressor, Feed, Limits, Squeeze};
use registry_proto::flow::{Destination, Push, PushFeed, PushOptions, Pushed, ReadFeed};
use registry_proto::spec::{Descriptor, Digest, ImageManifest, Manifest, MediaType, Reference};
use registry_proto::testing::registry::{Mount, Profile, Registry};
use registry_proto::testing::script::{Request, Script};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Error, Event, Session, UploadPolicy};
use registry_tests::hostile::by;
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::scenario::Scenario;
use registry_tests::seeds::{for_every_seed, number};

const SEEDS: u64 = 3_000;

fn feed(archive: &Bytes) -> Feed {
    Feed::new("standard input", Cursor::new(archive.clone()))
}

fn reference() -> Reference {
    "localhost:5000/app:v1".parse().unwrap()
}

fn config(piece: u64) -> Config {
    let mut config = Config::default();
    config.piece = NonZeroU64::new(piece).unwrap();
    // Otherwise the layers of these tests would be kept, not sent as they go by.
    config.archive.small = 100;
    config
}

fn large(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed) ^ (at >> 8) as u8).collect()
}

/// An image that is larger than a few pieces.
fn image() -> SampleImage {
    SampleImage::new(&["localhost:5000/app:v1"], &[&large(1, 50_000), &large(2, 3000), b"small"])
}

fn world(disk: MemoryDisk) -> Simulation {
    Simulation::new(1, Registry::new(Profile::strict()), disk)
}

/// All that a registry holds, to be compared.
fn held(world: &mut Simulation, archive: &Bytes) -> Vec<(String, Option<Bytes>)> {
    let read = Archive::read(&MemoryDisk::with("a", archive.clone()), &Path::new("a").into(), &Limits::default());
    let digests = read.unwrap().images()[0].blob_digests();
    let registry = world.registry();
    let manifest = registry.manifest("app", "v1").map(|(bytes, _)| bytes);
    let blobs = digests.iter().map(|digest| (digest.to_string(), registry.blob("app", digest.as_str())));
    blobs.chain([("manifest".to_owned(), manifest)]).collect()
}

#[test]
fn every_format_arrives_as_from_a_file() {
    let image = || vec![image()];
    for (format, archive) in [
        ("docker save", make::docker_save_legacy(&image())),
        ("docker save with OCI", make::docker_save_oci(&image())),
        ("containerd", make::docker_save_containerd(&image(), 1)),
        ("podman save", make::podman_save(&image())),
        ("crane", make::crane_save(&image())),
        ("oci-archive", make::oci_archive(&image())),
    ] {
        let mut there = world(MemoryDisk::with("a", archive.clone()));
        let push = Push::new(Path::new("a"), Destination::Reference(reference()), PushOptions::default());
        let pushed = there.run(&mut Session::new(config(4096), 1), push).result.unwrap();
        let mut here = world(MemoryDisk::default());
        let ran = here.run(
            &mut Session::new(config(4096), 1),
            PushFeed::new(feed(&archive), reference(), PushOptions::default()),
        );
        let fed = ran.result.unwrap();
        assert_eq!(fed.references, pushed.references, "{format}");
        assert_eq!(fed.totals, pushed.totals, "{format}");
        assert_eq!(held(&mut here, &archive), held(&mut there, &archive), "{format}");
        assert_eq!(here.registry().open_uploads(), 0, "{format}");
        let passing = ran.events.iter().filter(|event| matches!(event, Event::Passing { .. })).count();
        assert!(passing >= 2, "{format}: the layers were to be sent as they went by, not afterwards");

        // Once more: what names tell to be there is not sent, and the manifest is there.
        let again = here.run(
            &mut Session::new(config(4096), 2),
            PushFeed::new(feed(&archive), reference(), PushOptions::default()),
        );
        let named = !["docker save"].contains(&format);
        let sent = again.requests.iter().any(|asked| asked.line.starts_with("PATCH"));
        assert_eq!(sent, !named, "{format}: {:?}", again.requests);
        again.result.unwrap();
    }
}

/// The pushes of the scenarios, of archives that go by. Where they go under their own tags, they go by twice.
fn run(scenario: &Scenario, world: &mut Simulation, tar: &Bytes) -> Ran<Pushed> {
    let mut session = scenario.session();
    match &scenario.destination {
        Destination::Reference(reference) => {
            world.run(&mut session, PushFeed::new(feed(tar), reference.clone(), PushOptions::default()))
        }
        to => {
            let archive = world.run(&mut session, ReadFeed::new(feed(tar))).result.unwrap().into_result().unwrap();
            world.run(&mut session, PushFeed::again(feed(tar), archive, to.clone(), PushOptions::default()))
        }
    }
}

#[test]
fn what_goes_by_arrives_or_ends_with_a_clear_error() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let succeeded = for_every_seed("feeds", "what_goes_by_arrives_or_ends_with_a_clear_error", seeds, |seed| {
        let mut scenario = Scenario::new(seed);
        let Some(tar) = scenario.disk.get(&scenario.path).cloned() else { return true };
        scenario.config.archive.small = if seed % 3 == 0 { 1000 } else { 0 };
        // What goes in one request and has no name yet needs pieces as large as the largest layer.
        let whole = scenario.config.upload == UploadPolicy::Monolithic;
        scenario.config.piece = NonZeroU64::new(if whole { 10_000 } else { 200 + seed % 2500 }).unwrap();
        let mut world = scenario.world();
        let ran = run(&scenario, &mut world, &tar);
        if number("SIM_SEED").is_some() {
            println!("{scenario:#?}\n{:#?}\n{:#?}\n{:?}", ran.requests, ran.events, ran.result);
        }
        match ran.result {
            // The one thing that can't be helped: the bytes are gone.
            Err(Error::Local(ref why)) if scenario.faults.lost_sessions > 0 || scenario.faults.requests > 0 => {
                assert!(why.to_string().contains("has gone by"), "{why}");
                scenario.check_registry(&mut world);
                return false;
            }
            _ => scenario.check(&mut world, &ran),
        }
        if scenario.faults == Faults::default() {
            assert_eq!(world.registry().open_uploads(), 0);
        }
        ran.result.is_ok()
    });
    println!("{succeeded} of {seeds} pushes succeeded; the others ended with a clear error");
    assert!(number("SIM_SEED").is_some() || succeeded > seeds * 6 / 10, "only {succeeded} of {seeds} succeeded");
}

/// Tells how far it was read.
struct Told<R>(R, Arc<AtomicU64>);

impl<R: Read> Read for Told<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.0.read(buffer)?;
        self.1.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

#[test]
fn a_few_pieces_are_ahead_of_the_registry_and_no_more() {
    const PIECE: u64 = 4096;
    let (read, archive) = (Arc::new(AtomicU64::new(0)), make::docker_save_legacy(&[image()]));
    let feed = Feed::new("standard input", Told(Cursor::new(archive), Arc::clone(&read)));
    let mut registry = Registry::new(Profile::strict());
    let (mut got, mut most) = (0, 0);
    let mut script = Script::new(|request: &Request| {
        most = most.max(read.load(Ordering::Relaxed).saturating_sub(got));
        assert!(request.body.len() as u64 <= PIECE.max(2000), "{} bytes in one request", request.body.len());
        got += request.body.len() as u64;
        Ok(by(&mut registry, request))
    });
    let to = "r.example/n:v1".parse().unwrap();
    script.run(&mut Session::new(config(PIECE), 1), PushFeed::new(feed, to, PushOptions::default())).unwrap();
    drop(script);
    assert!(got > 50_000, "{got}");
    // Two pieces, the one that is being sent, and headers.
    assert!(most < 4 * PIECE, "{most} bytes were in memory");
}

#[test]
fn an_archive_that_is_not_what_it_says_gets_no_manifest() {
    let archive = make::oci_archive(&[image()]);
    let push = |archive: Bytes| {
        let mut world = world(MemoryDisk::default());
        let push = PushFeed::new(feed(&archive), reference(), PushOptions::default());
        let result = world.run(&mut Session::new(config(4096), 1), push).result;
        assert_eq!((world.registry().tags("app"), world.registry().open_uploads()), (vec![], 0));
        assert!(world.registry().ledger().mismatches.is_empty());
        result.unwrap_err()
    };
    let mut damaged = archive.to_vec();
    let at = damaged.windows(100).position(|window| window == &large(1, 50_000)[1000..1100]).unwrap();
    damaged[at] ^= 1;
    let Error::Archive(why) = push(damaged.into()) else { panic!("that is the archive's fault") };
    assert!(matches!(why.fault(), ArchiveFault::Mismatch { .. }), "{why}");
    assert!(why.to_string().starts_with("`standard input` "), "{why}");

    // Cut anywhere, also in the middle of an upload.
    let end = archive.len() - 1024;
    // (What is cut off in the padding of the last file is not missed.)
    for cut in (0..end - 512).step_by(997) {
        let why = push(archive.slice(..cut));
        assert!(matches!(why, Error::Archive(_)), "cut at {cut}: {why}");
    }
    // Without a last word it is whole.
    assert!(
        world(MemoryDisk::default())
            .run(&mut Session::new(config(4096), 1), ReadFeed::new(feed(&archive.slice(..end))))
            .result
            .is_ok_and(|found| found.into_result().is_ok())
    );
}

#[test]
fn a_reader_that_fails_says_why() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is on fire"))
        }
    }
    let half = make::docker_save_legacy(&[image()]).slice(..30_000);
    let feed = Feed::new("app.tar.gz", Cursor::new(half).chain(Failing));
    let mut world = world(MemoryDisk::default());
    let push = PushFeed::new(feed, reference(), PushOptions::default());
    let why = world.run(&mut Session::new(config(4096), 1), push).result.unwrap_err().to_string();
    assert!(why.contains("`app.tar.gz` breaks off at byte ") && why.contains("the disk is on fire"), "{why}");
    assert_eq!(world.registry().open_uploads(), 0, "the session was given back");
}

/// What the registry had confirmed and then forgot is gone: nothing is made up, and nothing is sent without end.
#[test]
fn a_session_that_is_lost_ends_it() {
    let mut registry = Registry::new(Profile::strict());
    let mut patches = 0;
    let mut script = Script::new(|request: &Request| {
        if request.method == "PATCH" {
            patches += 1;
            if patches == 4 {
                registry.lose_uploads();
            }
        }
        Ok(by(&mut registry, request))
    });
    let to = "r.example/n:v1".parse().unwrap();
    let push = PushFeed::new(feed(&make::docker_save_legacy(&[image()])), to, PushOptions::default());
    let why = script.run(&mut Session::new(config(4096), 1), push).unwrap_err().to_string();
    drop(script);
    assert!(why.contains("has gone by") && why.contains("start the push again"), "{why}");
    assert_eq!(registry.open_uploads(), 0);
}

#[test]
fn what_goes_by_twice_goes_where_it_belongs() {
    let shared = large(9, 20_000);
    let images = [
        SampleImage::new(&["one:v1", "two/three:v1"], &[&shared, &large(3, 9000)]),
        SampleImage::new(&["four:v1"], &[&shared, &large(4, 9000)]),
    ];
    let archive = make::docker_save_legacy(&images);
    let mut world = world(MemoryDisk::default());
    let mut session = Session::new(config(4096), 1);
    let first = world.run(&mut session, ReadFeed::new(feed(&archive))).result.unwrap().into_result().unwrap();
    let to = Destination::Below("localhost:5000/below".to_owned());
    let again = PushFeed::again(feed(&archive), first.clone(), to.clone(), PushOptions::default());
    let ran = world.run(&mut session, again);
    let pushed = ran.result.unwrap();
    assert_eq!(pushed.references.len(), 3);
    assert_eq!((pushed.totals.sent, pushed.totals.sent_bytes > 38_000), (5, true), "three layers, two configurations");
    for repository in ["below/one", "below/two/three", "below/four"] {
        assert_eq!(world.registry().tags(repository), ["v1"]);
    }
    // Only one of them, by its name: nothing else is sent anywhere.
    let mut options = PushOptions::default();
    options.image = Some("four:v1".to_owned());
    let mut elsewhere = self::world(MemoryDisk::default());
    let only = PushFeed::again(feed(&archive), first, to, options);
    let ran = elsewhere.run(&mut Session::new(config(4096), 1), only);
    assert_eq!(ran.result.unwrap().totals.sent, 3);
    assert_eq!(elsewhere.registry().repositories(), ["below/four"]);
}

/// A request names the digest of its body before that is sent, which of what goes by nobody knows.
#[test]
fn where_no_chunks_are_taken_what_goes_by_has_to_fit_into_a_piece() {
    let archive = make::docker_save_legacy(&[image()]);
    for (piece, fits) in [(4096, false), (60_000, true)] {
        let mut world = Simulation::new(1, Registry::new(Profile::gar()), MemoryDisk::default());
        let push = PushFeed::new(feed(&archive), reference(), PushOptions::default());
        match world.run(&mut Session::new(config(piece), 1), push).result {
            Ok(pushed) => assert_eq!((fits, pushed.totals.sent), (true, 4)),
            Err(why) => assert!(!fits && why.to_string().contains("in one request, from memory"), "{why}"),
        }
    }
}

/// Whoever writes may keep its pipe open for as long as it likes: the archive is complete.
#[test]
fn nobody_waits_for_what_comes_after_the_end() {
    struct Held;
    impl Read for Held {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("somebody waits for it")
        }
    }
    let archive = make::docker_save_oci(&[image()]);
    let held = || Feed::new("standard input", Cursor::new(archive.clone()).chain(Held));
    let mut world = world(MemoryDisk::default());
    let mut session = Session::new(config(4096), 1);
    world.run(&mut session, ReadFeed::new(held())).result.unwrap().into_result().unwrap();
    world.run(&mut session, PushFeed::new(held(), reference(), PushOptions::default())).result.unwrap();
    assert_eq!(world.registry().tags("app"), ["v1"]);
}

/// Every other byte, as if that could be undone.
struct Half;

impl Squeeze for Half {
    fn squeeze(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.extend(bytes.iter().step_by(2));
        Ok(())
    }

    fn finish(self: Box<Self>, _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

fn compressor() -> Compressor {
    Compressor::gzip(|| Ok(Box::new(Half)))
}

fn one_layer(media_type: MediaType, layer: &Bytes) -> Manifest {
    ImageManifest {
        media_type: Some(MediaType::OCI_MANIFEST),
        artifact_type: None,
        config: Descriptor::new(MediaType::OCI_EMPTY, Digest::of(b"{}"), 2),
        layers: vec![Descriptor::new(media_type, Digest::of(layer), layer.len() as u64)],
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    }
    .to_manifest()
}

/// An OCI archive of this root.
fn oci_archive(root: &Manifest, blobs: &[&Bytes]) -> Bytes {
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [root.descriptor()]}).to_string();
    let maker =
        TarMaker::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", index.as_bytes());
    let blobs = blobs.iter().copied().chain([root.bytes()]);
    blobs.fold(maker, |maker, blob| maker.file(&format!("blobs/sha256/{}", Digest::of(blob).encoded()), blob)).finish()
}

/// What is a tar, but no layer, stays what it is; where nobody can know in time, that is an error.
#[test]
fn only_layers_are_compressed() {
    let tar = TarMaker::new().file("a", &large(1, 9000)).finish();
    let root = one_layer(MediaType::new("application/vnd.example.files.tar"), &tar);
    let archive = oci_archive(&root, &[&Bytes::from_static(b"{}"), &tar]);
    let mut world = world(MemoryDisk::default());
    let mut session = Session::new(config(4096), 1);
    let push = PushFeed::new(feed(&archive), reference(), PushOptions::default()).compressing(compressor());
    let why = world.run(&mut session, push).result.unwrap_err().to_string();
    assert!(why.contains("push without compressing"), "{why}");

    let first = world.run(&mut session, ReadFeed::new(feed(&archive)).compressing(compressor()));
    let first = first.result.unwrap().into_result().unwrap();
    let to = Destination::Reference(reference());
    let push = PushFeed::again(feed(&archive), first, to, PushOptions::default()).compressing(compressor());
    world.run(&mut session, push).result.unwrap();
    assert_eq!(world.registry().manifest("app", "v1").unwrap().0, root.bytes());
    assert_eq!(world.registry().blob("app", Digest::of(&tar).as_str()), Some(tar));
}

/// What an index says about a manifest that was made anew is about the new one.
#[test]
fn an_index_follows_its_compressed_images() {
    let tar = TarMaker::new().file("a", &large(1, 9000)).finish();
    let image = one_layer(MediaType::OCI_LAYER, &tar);
    let said = one_layer(MediaType::new("application/vnd.in-toto+json"), &Bytes::from_static(b"{}"));
    let described = Descriptor { data: Some("e30=".to_owned()), ..image.descriptor() };
    let mut attests = said.descriptor();
    attests.platform = Some("unknown/unknown".parse().unwrap());
    attests.annotations.insert("vnd.docker.reference.digest".to_owned(), image.digest().to_string());
    let root = serde_json::json!({"schemaVersion": 2, "manifests": [described, attests]}).to_string();
    let root = Manifest::parse(root.into(), Some(MediaType::OCI_INDEX.as_str()), None).unwrap();
    let archive = oci_archive(&root, &[&Bytes::from_static(b"{}"), &tar, image.bytes(), said.bytes()]);
    let mut world = world(MemoryDisk::default());
    let push = PushFeed::new(feed(&archive), reference(), PushOptions::default()).compressing(compressor());
    world.run(&mut Session::new(config(4096), 1), push).result.unwrap();
    let (bytes, media_type) = world.registry().manifest("app", "v1").unwrap();
    let found = Manifest::parse(bytes, Some(&media_type), None).unwrap();
    let [child, attests] = &found.index().unwrap().manifests[..] else { panic!("{found:?}") };
    assert!(child.digest != *image.digest() && child.data.is_none(), "{child:?}");
    assert_eq!(attests.attests().as_ref(), Some(&child.digest));
}

/// What went to one place can't go to another that doesn't take it over from there: nobody has it any more.
#[test]
fn what_would_have_to_be_sent_twice_is_refused() {
    let push = |world: &mut Simulation, tags: &[&str]| {
        let archive = make::docker_save_legacy(&[SampleImage::new(tags, &[&large(9, 20_000)])]);
        let mut session = Session::new(config(4096), 1);
        let first = world.run(&mut session, ReadFeed::new(feed(&archive))).result.unwrap().into_result().unwrap();
        world.run(
            &mut session,
            PushFeed::again(feed(&archive), first, Destination::OriginalTags, PushOptions::default()),
        )
    };
    let mut two = world(MemoryDisk::default()).with_registry("localhost:6000", Registry::new(Profile::strict()));
    let ran = push(&mut two, &["localhost:5000/app:v1", "localhost:6000/app:v1"]);
    let why = ran.result.unwrap_err();
    assert!(matches!(why, Error::Misuse(_)) && why.to_string().contains("one registry after the other"), "{why}");
    assert!(ran.requests.is_empty(), "{:?}", ran.requests);

    let mut profile = Profile::strict();
    profile.mount = Mount::Ignored;
    let mut one = Simulation::new(1, Registry::new(profile), MemoryDisk::default());
    let ran = push(&mut one, &["localhost:5000/app:v1", "localhost:5000/other:v1"]);
    let why = ran.result.unwrap_err().to_string();
    assert!(why.contains("one repository after the other"), "{why}");
    assert_eq!(one.registry().open_uploads(), 0);
}

/// C101: a little that becomes more than there is room for. That it says to be is of no use to it.
#[test]
fn a20_c101_bombs_go_off_in_bounds() {
    // A tar whose layer has a TiB of zeros, as a decompressor makes it out of next to nothing.
    let tar = |size: u64| {
        let header = TarMaker::new().pax(&[("size", &size.to_string())]).file("layer.tar", b"").unfinished();
        Cursor::new(header).chain(io::repeat(0))
    };
    let limits = Limits { unpacked: 1 << 20, ..Limits::default() };
    let bomb = |size: u64| Feed::unpacked("bomb.tar.gz", io::empty(), &limits, |_| tar(size));
    let mut world = world(MemoryDisk::default());
    let mut config = config(4096);
    config.archive = Limits { small: 0, ..limits };
    let push = PushFeed::new(bomb(1 << 40), reference(), PushOptions::default());
    let why = world.run(&mut Session::new(config.clone(), 1), push).result.unwrap_err();
    assert!(matches!(why, Error::Archive(_)) && why.to_string().contains("200 times its own size"), "{why}");
    assert_eq!((world.registry().tags("app").len(), world.registry().open_uploads()), (0, 0));
    let read = world.run(&mut Session::new(config, 1), ReadFeed::new(bomb(1 << 40)));
    assert!(read.result.unwrap_err().to_string().contains("decompress it first"));
}

fn over_sockets(runtime: Runtime) {
    let serving = tokio_runtime();
    let bind =
        registry_tokio::serve::Server::bind(([127, 0, 0, 1], 0).into(), Registry::new(Profile::distribution_3()));
    let server = serving.block_on(bind).unwrap();
    let to: Reference = format!("{}/app:v1", server.address()).parse().unwrap();
    // A pipe, whose other end writes as it likes.
    let (reader, mut writer) = io::pipe().unwrap();
    let archive = make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &[&large(1, 3_000_000), b"small"])]);
    let written = archive;
    let writing = std::thread::spawn(move || {
        for piece in written.chunks(70_001) {
            io::Write::write_all(&mut writer, piece).unwrap();
        }
    });
    let pushed = runtime
        .run(config(1 << 20), PushFeed::new(Feed::new("standard input", reader), to, PushOptions::default()))
        .unwrap();
    writing.join().unwrap();
    assert_eq!((pushed.totals.sent, server.registry(|registry| registry.tags("app"))), (3, vec!["v1".to_owned()]));
}

fn tokio_runtime() -> ::tokio::runtime::Runtime {
    ::tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

on_all_runtimes!(over_sockets);
