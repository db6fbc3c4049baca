//! Every flow against registries that behave like those that people use: it ends right, or with an error that says what this
//! registry can't do.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::num::NonZeroU64;
use std::path::Path;

use bytes::Bytes;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{
    Copy, CopyOptions, DeleteManifest, Destination, Flow, ListCatalog, ListTags, Pull, PullOptions, Push, PushOptions,
    Retag, VerifyArchive,
};
use registry_proto::spec::Reference;
use registry_proto::testing::registry::{Profile, RangeDialect, Registry, Support};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Error, Session, UploadPolicy};

const HOST: &str = "localhost:5000";
const OTHER: &str = "localhost:6000";
const LAYER: usize = (400 << 10) + 3;

/// A layer of so many bytes, and a small one.
fn image(size: usize) -> SampleImage {
    let mut large: Vec<u8> = Vec::with_capacity(size + 8);
    while large.len() < size {
        large.extend_from_slice(&(large.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    }
    SampleImage::new(&["vendor/image:v1"], &[&large, b"small"]).on("linux", "amd64")
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// The profile with limits that an image of [`LAYER`] bytes comes up against.
fn scaled(profile: &Profile) -> Profile {
    let scale = |limit: Option<u64>| limit.map(|limit| limit >> 5);
    Profile { chunk_min: scale(profile.chunk_min), chunk_max: scale(profile.chunk_max), ..profile.clone() }
}

/// A registry with this profile, one like it that is plain, and an archive.
fn world(profile: &Profile, archive: &Bytes, seed: u64) -> Simulation {
    let mut registry = Registry::new(profile.clone());
    registry.create_repository("a/b");
    registry.create_repository("a/copy");
    Simulation::new(seed, registry, MemoryDisk::with("image.tar", archive.clone()))
        .with_registry(OTHER, Registry::new(Profile::distribution_3()))
}

fn policies() -> [UploadPolicy; 3] {
    [UploadPolicy::Auto, UploadPolicy::Chunked(NonZeroU64::new(100 << 10).unwrap()), UploadPolicy::Monolithic]
}

fn push() -> Push {
    let to = Destination::Reference(reference(&format!("{HOST}/a/b:v1")));
    Push::new(Path::new("image.tar"), to, PushOptions::default())
}

fn ok<T>(vendor: &str, what: &str, ran: Ran<T>) -> T {
    ran.result.unwrap_or_else(|why| panic!("{vendor}: {what}: {why}\n{:#?}", ran.requests))
}

/// What a registry can't do is said with these words.
fn refused<F: Flow + std::fmt::Debug>(
    vendor: &str,
    support: Support,
    words: &str,
    world: &mut Simulation,
    session: &mut Session,
    flow: F,
) {
    let ran = world.run(session, flow);
    match (support, ran.result) {
        (Support::Yes, Ok(_)) => {}
        (Support::Yes, Err(why)) => panic!("{vendor}: {why}"),
        (Support::No(_), Ok(_)) => panic!("{vendor}: it can't do that"),
        (Support::No(_), Err(why)) => {
            assert!(matches!(why, Error::Registry(_) | Error::Denied(_)), "{vendor}: {why:?}");
            assert!(why.to_string().contains(words), "{vendor}: {why}");
        }
    }
}

#[test]
fn push_pull_copy_tag_list_delete_everywhere() {
    let archive = make::oci_archive(&[image(LAYER)]);
    for (vendor, profile) in Profile::vendors() {
        let profile = scaled(&profile);
        for policy in policies() {
            let mut config = Config::default();
            config.upload = policy;
            let mut session = Session::new(config, 7);
            let mut world = world(&profile, &archive, 7);
            let pushed = ok(vendor, "push", world.run(&mut session, push()));
            let digest = pushed.references[0].digest.clone();
            let ledger = world.registry().ledger();
            assert!(ledger.mismatches.is_empty() && ledger.early_manifests.is_empty(), "{vendor}: {ledger:#?}");

            let from = reference(&format!("{HOST}/a/b:v1"));
            ok(vendor, "pull", world.run(&mut session, Pull::new([from.clone()], "out.tar", PullOptions::default())));
            let verified = ok(vendor, "verify", world.run(&mut session, VerifyArchive::new(Path::new("out.tar"))));
            assert!(verified.is_whole(), "{vendor}");
            assert_eq!(*verified.archive.unwrap().images()[0].root().digest(), digest, "{vendor}");

            // Out to another registry, and back in.
            let there = reference(&format!("{OTHER}/out/side:v1"));
            ok(
                vendor,
                "copy out",
                world.run(&mut session, Copy::new(from.clone(), there.clone(), CopyOptions::default())),
            );
            let back = reference(&format!("{HOST}/a/copy:back"));
            ok(vendor, "copy in", world.run(&mut session, Copy::new(there, back, CopyOptions::default())));
            let within = reference(&format!("{HOST}/a/copy:within"));
            ok(vendor, "copy within", world.run(&mut session, Copy::new(from.clone(), within, CopyOptions::default())));

            let tag = Retag::new(&from, ["v2".parse().unwrap()]);
            ok(vendor, "tag", world.run(&mut session, tag));
            assert_eq!(world.registry().tags("a/b"), ["v1", "v2"], "{vendor}");
            ok(vendor, "tags", world.run(&mut session, ListTags::new(from.repository().clone())));

            let catalog = ListCatalog::new(HOST.parse().unwrap());
            refused(vendor, profile.catalog, "/v2/_catalog", &mut world, &mut session, catalog);
            let delete = DeleteManifest::new(&reference(&format!("{HOST}/a/b:v2")));
            refused(vendor, profile.delete, "delet", &mut world, &mut session, delete);
            // A session that doesn't tell how much it has can't be gone on with after an error, and counts as lost.
            let lost = usize::from(profile.range == RangeDialect::Frozen);
            assert!(world.registry().open_uploads() <= lost, "{vendor}: {policy:?}");
        }
    }
}

#[test]
fn where_no_chunks_are_taken_a_copy_of_large_blobs_says_so() {
    // (It would do with one piece where that is large enough.)
    let archive = make::oci_archive(&[image(4 << 20)]);
    let mut world = Simulation::new(1, Registry::new(Profile::gar()), MemoryDisk::with("image.tar", archive))
        .with_registry(OTHER, Registry::new(Profile::distribution_3()));
    let mut session = Session::new(Config::default(), 1);
    let there = Destination::Reference(reference(&format!("{OTHER}/out/side:v1")));
    world.run(&mut session, Push::new(Path::new("image.tar"), there, PushOptions::default())).result.unwrap();
    let (from, to) = (reference(&format!("{OTHER}/out/side:v1")), reference(&format!("{HOST}/a/b:v1")));
    let why = world.run(&mut session, Copy::new(from, to, CopyOptions::default())).result.unwrap_err().to_string();
    assert!(why.contains("in one request") && why.contains("allow larger ones"), "{why}");
}

#[test]
fn pushes_end_right_everywhere_when_connections_are_cut() {
    let archive = make::oci_archive(&[image(LAYER)]);
    for (vendor, profile) in Profile::vendors() {
        let profile = scaled(&profile);
        let mut right = 0;
        for (seed, policy) in (0..9).zip(policies().into_iter().cycle()) {
            let mut config = Config::default();
            config.upload = policy;
            let mut session = Session::new(config, seed);
            let mut faults = Faults::default();
            faults.requests = 80;
            let mut world = world(&profile, &archive, seed).with_faults(faults);
            let ran = world.run(&mut session, push());
            match &ran.result {
                Ok(_) => right += 1,
                Err(Error::Transport { .. } | Error::Registry(_)) => {}
                Err(why) => panic!("{vendor}: {why:?}\n{:#?}", ran.requests),
            }
            let ledger = world.registry().ledger();
            assert!(ledger.early_manifests.is_empty(), "{vendor}: {ledger:#?}");
            // Who says in two ways how much it has misleads one when that is all there is to go by; it notices in the end.
            let misleads = profile.range == RangeDialect::Exclusive;
            assert!(misleads || ledger.mismatches.is_empty(), "{vendor}: {ledger:#?}");
        }
        let least = if profile.range == RangeDialect::Exclusive { 6 } else { 8 };
        assert!(right >= least, "{vendor}: {right} of 9");
    }
}

#[test]
fn where_repositories_have_to_be_created_first_that_is_what_is_said() {
    let archive = make::oci_archive(&[image(LAYER)]);
    let mut world = Simulation::new(1, Registry::new(Profile::ecr()), MemoryDisk::with("image.tar", archive));
    let ran = world.run(&mut Session::new(Config::default(), 1), push());
    let why = ran.result.unwrap_err().to_string();
    assert!(why.contains("a/b") && why.contains("NAME_UNKNOWN"), "{why}");
    assert!(ran.requests.len() < 12, "that is not tried again and again: {:#?}", ran.requests);
}

#[test]
fn that_dockers_types_are_not_taken_is_said() {
    let archive = make::docker_save_legacy(&[image(LAYER)]);
    let mut world = Simulation::new(1, Registry::new(Profile::zot()), MemoryDisk::with("image.tar", archive));
    let why = world.run(&mut Session::new(Config::default(), 1), push()).result.unwrap_err().to_string();
    assert!(why.contains("415") && why.contains("manifests of this type"), "{why}");
}
