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
use registry_proto::testing::registry::{Profile, Registry, Support};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Error, Session, UploadPolicy};

const HOST: &str = "localhost:5000";
const OTHER: &str = "localhost:6000";

/// One layer that takes several chunks wherever chunks have a size, and a small one.
fn image() -> SampleImage {
    let mut large: Vec<u8> = Vec::with_capacity((11 << 20) + 3);
    while large.len() < (11 << 20) + 3 {
        large.extend_from_slice(&(large.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    }
    SampleImage::new(&["vendor/image:v1"], &[&large, b"small"]).on("linux", "amd64")
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
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
    [UploadPolicy::Auto, UploadPolicy::Chunked(NonZeroU64::new(3 << 20).unwrap()), UploadPolicy::Monolithic]
}

fn push() -> Push {
    let to = Destination::Reference(reference(&format!("{HOST}/a/b:v1")));
    Push::new(Path::new("image.tar"), to, PushOptions::default())
}

fn ok<T>(vendor: &str, what: &str, ran: Ran<T>) -> T {
    ran.result.unwrap_or_else(|why| panic!("{vendor}: {what}: {why}\n{:#?}", ran.requests))
}

/// What a registry can't do is said with these words.
fn refused<F: Flow>(
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
    let archive = make::oci_archive(&[image()]);
    for (vendor, profile) in Profile::vendors() {
        for policy in policies() {
            let mut config = Config::default();
            config.upload = policy;
            // Who is sent no chunks, by policy or because it takes none, gets a blob from elsewhere in one piece.
            config.piece = NonZeroU64::new(16 << 20).unwrap();
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
            assert_eq!(world.registry().open_uploads(), 0, "{vendor}: {policy:?}");
        }
    }
}

#[test]
fn where_no_chunks_are_taken_a_copy_of_large_blobs_says_so() {
    let archive = make::oci_archive(&[image()]);
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
    let archive = make::oci_archive(&[image()]);
    for (vendor, profile) in Profile::vendors() {
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
            assert!(ledger.mismatches.is_empty() && ledger.early_manifests.is_empty(), "{vendor}: {ledger:#?}");
        }
        assert!(right >= 8, "{vendor}: {right} of 9");
    }
}

#[test]
fn where_repositories_have_to_be_created_first_that_is_what_is_said() {
    let archive = make::oci_archive(&[image()]);
    let mut world = Simulation::new(1, Registry::new(Profile::ecr()), MemoryDisk::with("image.tar", archive));
    let ran = world.run(&mut Session::new(Config::default(), 1), push());
    let why = ran.result.unwrap_err().to_string();
    assert!(why.contains("a/b") && why.contains("NAME_UNKNOWN"), "{why}");
    assert!(ran.requests.len() < 12, "that is not tried again and again: {:#?}", ran.requests);
}

#[test]
fn that_dockers_types_are_not_taken_is_said() {
    let archive = make::docker_save_legacy(&[image()]);
    let mut world = Simulation::new(1, Registry::new(Profile::zot()), MemoryDisk::with("image.tar", archive));
    let why = world.run(&mut Session::new(Config::default(), 1), push()).result.unwrap_err().to_string();
    assert!(why.contains("415") && why.contains("manifests of this type"), "{why}");
}
