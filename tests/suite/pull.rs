//! Pulls into archives and folders: seeded ones under faults in the simulator, killed and gone on with, and what registries may
//! answer to a request for the rest of a blob (PROTOCOL C48 to C55).
//!
//! ```text
//! SIM_SEED=4711 cargo test -p registry-tests --test pull pulls_end      replays one seed and shows what happened
//! SIM_SEEDS=1000000 cargo test -p registry-tests --test pull pulls_end  runs that many
//! ```

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use registry_proto::archive::ArchiveFormat;
use registry_proto::archive::make::MemoryDisk;
use registry_proto::flow::{Platforms, Pull, PullOptions, ReadBlob, SaveBlob};
use registry_proto::spec::{Digest, Repository};
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::simulation::{Faults, Simulation};
use registry_proto::{Config, Event, Session};
use registry_tests::dialogue::{Line, hold, line};
use registry_tests::hostile::reply;
use registry_tests::images::{image, put, reference};
use registry_tests::pulls::PullScenario;
use registry_tests::seeds::{for_every_seed, number};

/// How many seeds are run where nobody says otherwise.
const SEEDS: u64 = 5_000;

#[test]
fn pulls_end_right_or_with_a_clear_error() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let succeeded = for_every_seed("pull", "pulls_end_right_or_with_a_clear_error", seeds, |seed| {
        let scenario = PullScenario::new(seed);
        let mut world = scenario.world();
        let ran = world.run(&mut scenario.session(), scenario.pull());
        if number("SIM_SEED").is_some() {
            let (what, config) = (&scenario.references, &scenario.config);
            println!(
                "{what:?}\n{:?}\n{config:#?}\n{:#?}\n{:#?}\n{:?}",
                scenario.options, ran.requests, ran.events, ran.result
            );
        }
        scenario.check(&mut world, &ran);
        ran.result.is_ok()
    });
    println!("{succeeded} of {seeds} pulls succeeded; the others ended with a clear error");
    assert!(number("SIM_SEED").is_some() || succeeded > seeds * 7 / 10, "only {succeeded} of {seeds} succeeded");
}

#[test]
fn a_killed_pull_goes_on_where_it_stopped() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS) / 4;
    let kept = [AtomicU64::new(0), AtomicU64::new(0)];
    for_every_seed("pull", "a_killed_pull_goes_on_where_it_stopped", seeds, |seed| {
        let mut scenario = PullScenario::new(seed);
        scenario.faults = Faults::default();
        let mut world = scenario.world();
        for kill in 0..3 {
            // Sooner or later it comes to its end before.
            let _ = world.run_until(&mut scenario.session(), scenario.pull(), 2 + (seed >> kill) % 40);
            scenario.check_names(&world);
        }
        let ran = world.run(&mut scenario.session(), scenario.pull());
        scenario.check(&mut world, &ran);
        // (A folder keeps whole blobs anyway.)
        let form = usize::from(scenario.options.format == ArchiveFormat::OciFolder);
        kept[form].fetch_add(ran.result.unwrap().totals.kept_bytes, Ordering::Relaxed);
        true
    });
    let kept = kept.map(AtomicU64::into_inner);
    let enough = kept.iter().all(|kept| *kept > seeds * 100);
    assert!(number("SIM_SEED").is_some() || enough, "killed pulls left hardly anything that was of use: {kept:?}");
}

#[test]
fn a_folder_keeps_what_it_has() {
    for seed in 0..400 {
        let mut scenario = PullScenario::new(seed);
        scenario.options.format = ArchiveFormat::OciFolder;
        scenario.out = "/out/folder".into();
        scenario.faults = Faults::default();
        let mut world = scenario.world();
        world.run(&mut scenario.session(), scenario.pull()).result.unwrap();
        let again = world.run(&mut scenario.session(), scenario.pull());
        scenario.check(&mut world, &again);
        assert_eq!(again.result.unwrap().totals.fetched, 0);
        let blobs = again.requests.iter().filter(|asked| asked.line.contains("/blobs/")).count();
        // (The configurations of images by themselves, to see which platform they are for.)
        let most = if scenario.options.platforms == Platforms::All { 0 } else { scenario.references.len() };
        assert!(blobs <= most, "seed {seed}: {:#?}", again.requests);
    }
}

/// Another tool's index of the same images, say, which is longer than ours.
#[test]
fn a_folder_with_longer_documents_is_pulled_into() {
    let mut scenario = PullScenario::new(0);
    scenario.options.format = ArchiveFormat::OciFolder;
    scenario.out = "/out/folder".into();
    scenario.faults = Faults::default();
    let mut world = scenario.world();
    world.run(&mut scenario.session(), scenario.pull()).result.unwrap();
    for name in ["index.json", "oci-layout"] {
        let path = scenario.out.join(name);
        let longer = [&world.files().snapshot().0[&path][..], b"\n\n"].concat();
        world.files().put(path, Some(longer.into()));
    }
    let again = world.run(&mut scenario.session(), scenario.pull());
    scenario.check(&mut world, &again);
}

#[test]
fn an_image_is_for_its_platform() {
    let mut registry = Registry::new(Profile::distribution_3());
    put(&mut registry, "app", Some("s390x"), &image(&[b"a layer"]).on("linux", "s390x"));
    let mut world = Simulation::new(1, registry, MemoryDisk::default());
    let mut pull = |platforms: Platforms| {
        let mut options = PullOptions::default();
        options.platforms = platforms;
        let pull = Pull::new([reference("localhost:5000", "app:s390x")], "/out.tar", options);
        world.run(&mut Session::new(Config::default(), 1), pull).result
    };
    pull(Platforms::Only("linux/s390x".parse().unwrap())).unwrap();
    // Where nothing was said, what there is will do.
    pull(Platforms::ThisMachine).unwrap();
    let why = pull(Platforms::Only("linux/arm64".parse().unwrap())).unwrap_err();
    assert_eq!(why.to_string(), "localhost:5000/app:s390x has no image for linux/arm64; it is one for linux/s390x");
}

/// Reading hands out the right bytes in order, and never all of a wrong blob; saving never gives a wrong one its name.
#[test]
fn blobs_are_read_and_saved_right_or_with_a_clear_error() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS) / 4;
    let out = std::path::Path::new("/layer.tar.gz");
    let right = for_every_seed("pull", "blobs_are_read_and_saved_right_or_with_a_clear_error", seeds, |seed| {
        let mut profile = if seed % 2 == 0 { Profile::distribution_3() } else { Profile::strict() };
        profile.range_max = (seed % 5 == 0).then_some(100 + seed % 300);
        profile.serves_ranges = seed % 7 != 0;
        profile.redirect_blobs = (seed % 3 == 0).then(|| "http://localhost:5002/storage".to_owned());
        profile.signs_for_get = seed % 6 == 0;
        let mut registry = Registry::new(profile);
        let content: Vec<u8> = (0..seed % 5000).map(|at| ((at * seed) >> 3) as u8).collect();
        let digest = registry.insert_blob("app", content.clone().into());
        let is_damaged = seed % 11 == 0
            && !content.is_empty()
            && registry.damage_blob("app", digest.as_str(), (seed / 11) as usize % content.len());
        let mut faults = Faults::default();
        faults.requests = seed % 200;
        faults.spoilt_replies = if seed % 13 == 0 { 50 } else { 0 };
        let mut config = Config::default();
        config.piece = NonZeroU64::new(1 + seed % 3000).unwrap();
        let mut world = Simulation::new(seed, registry, MemoryDisk::default()).with_faults(faults);
        let mut session = Session::new(config, seed);
        let repository: Repository = "localhost:5000/app".parse().unwrap();

        let ran = world.run(&mut session, ReadBlob::new(repository.clone(), digest.clone()));
        let pieces = ran
            .events
            .iter()
            .filter_map(|event| if let Event::Content(piece) = event { Some(&piece[..]) } else { None });
        let read: Vec<u8> = pieces.flatten().copied().collect();
        match &ran.result {
            Ok(_) => assert!(read == content, "seed {seed}: other bytes"),
            Err(_) => assert!(read.len() < content.len().max(1), "seed {seed}: all of a wrong blob"),
        }
        let saved = world.run(&mut session, SaveBlob::new(repository, digest, out));
        let files = world.files().snapshot();
        match &saved.result {
            Ok(_) => assert!(files.0[out] == content, "seed {seed}: a wrong file"),
            Err(_) => assert!(!files.0.contains_key(out), "seed {seed}: a name for what is not whole"),
        }
        assert!(!is_damaged || ran.result.is_err() && saved.result.is_err(), "seed {seed}: a damaged blob");
        ran.result.is_ok() && saved.result.is_ok()
    });
    assert!(number("SIM_SEED").is_some() || right > seeds / 2, "only {right} of {seeds}");
}

/// A blob's size that no `HEAD` tells is told with its first byte.
#[test]
fn a_size_that_no_head_tells() {
    let mut profile = Profile::distribution_3();
    profile.redirect_blobs = Some("http://localhost:5002/storage".to_owned());
    profile.signs_for_get = true;
    let mut registry = Registry::new(profile);
    let digest = registry.insert_blob("app", "hello".into());
    let mut world = Simulation::new(1, registry, MemoryDisk::default());
    let repository: Repository = "localhost:5000/app".parse().unwrap();
    let mut session = Session::new(Config::default(), 1);
    let read = world.run(&mut session, ReadBlob::new(repository.clone(), digest.clone()));
    assert_eq!(read.result.unwrap().size, 5);
    world.run(&mut session, SaveBlob::new(repository, digest, "/out")).result.unwrap();
    assert_eq!(world.files().snapshot().0[std::path::Path::new("/out")], "hello");

    // A proxy that makes every length zero.
    let blob = |content: &'static str, dialogue: Vec<Line>| {
        let digest = Digest::of(content.as_bytes());
        let read = ReadBlob::new("r.example/n".parse().unwrap(), digest.clone());
        let session = &mut Session::new(Config::default(), 1);
        hold(session, read, MemoryDisk::default(), &digest, dialogue, |_| None).well().size
    };
    let nothing = || line("HEAD /v2/n/blobs/D", reply(200, &[("content-length", "0")], ""));
    let first = reply(206, &[("content-range", "bytes 0-0/5")], "h");
    let found = blob(
        "hello",
        vec![
            nothing(),
            line("GET /v2/n/blobs/D bytes=0-0", first),
            line("GET /v2/n/blobs/D", reply(200, &[], "hello")),
        ],
    );
    assert_eq!(found, 5);
    assert_eq!(blob("", vec![nothing()]), 0, "there are blobs of nothing");
}
