//! Every flow against registries that behave like those that people use: it ends right, or with an error that says what this
//! registry can't do.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::num::{NonZeroU64, NonZeroUsize};
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

/// Blobs of any size go to a registry that takes no chunks, in requests that are sent while their bodies are fetched.
#[test]
fn where_no_chunks_are_taken_a_copy_of_large_blobs_stays_small() {
    let archive = make::oci_archive(&[image(9 << 20)]);
    let mut world = Simulation::new(1, Registry::new(Profile::gar()), MemoryDisk::with("image.tar", archive))
        .with_registry(OTHER, Registry::new(Profile::distribution_3()));
    let mut session = Session::new(Config::default(), 1);
    let there = Destination::Reference(reference(&format!("{OTHER}/out/side:v1")));
    world.run(&mut session, Push::new(Path::new("image.tar"), there, PushOptions::default())).result.unwrap();
    let (from, to) = (reference(&format!("{OTHER}/out/side:v1")), reference(&format!("{HOST}/a/b:v1")));
    let ran = world.run(&mut session, Copy::new(from, to, CopyOptions::default()));
    ran.result.unwrap();
    assert_eq!(world.registry().tags("a/b"), ["v1"]);
    // A piece; and the configuration, which is sent beside it.
    assert!(ran.most_in_memory < Config::default().piece.get() + 1000, "{} bytes in memory", ran.most_in_memory);
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
            // Who says in two ways how much it has misleads one, once, where the position of what follows isn't looked at.
            let misleads = profile.range == RangeDialect::Exclusive;
            assert!(ledger.mismatches.len() <= usize::from(misleads), "{vendor}: {ledger:#?}");
        }
        assert!(right >= 8, "{vendor}: {right} of 9");
    }
}

/// What is copied is fetched in pieces, of which those that were confirmed are not kept: where a registry says that it has less than
/// that (zot names the last chunk's bytes), the upload begins again.
#[test]
fn copies_end_right_everywhere_when_connections_are_cut() {
    let archive = make::oci_archive(&[image(LAYER)]);
    for (vendor, profile) in Profile::vendors() {
        let profile = scaled(&profile);
        let mut right = 0;
        for seed in 0..12 {
            let mut config = Config::default();
            let pieces = if profile.patch == Support::Yes { 8 } else { 1 };
            config.piece = NonZeroU64::new((LAYER as u64 + 64) / pieces).unwrap();
            let mut session = Session::new(config.clone(), seed);
            let mut world = world(&profile, &archive, seed);
            let there = Destination::Reference(reference(&format!("{OTHER}/out/side:v1")));
            let first = Push::new(Path::new("image.tar"), there, PushOptions::default());
            ok(vendor, "push", world.run(&mut session, first));
            let mut faults = Faults::default();
            faults.requests = 80;
            let mut world = world.with_faults(faults);
            let (from, to) = (reference(&format!("{OTHER}/out/side:v1")), reference(&format!("{HOST}/a/b:v1")));
            let ran = world.run(&mut Session::new(config, seed), Copy::new(from, to, CopyOptions::default()));
            match &ran.result {
                Ok(_) => right += 1,
                Err(Error::Transport { .. } | Error::Registry(_)) => {}
                Err(why) => panic!("{vendor}: {why:?}\n{:#?}", ran.requests),
            }
            assert!(world.registry().ledger().early_manifests.is_empty(), "{vendor}");
        }
        assert!(right >= 11, "{vendor}: {right} of 12");
    }
}

/// Quay names the number of bytes where others name the last one (PROTOCOL Q41).
#[test]
fn a_registry_that_counts_in_two_ways_is_understood_after_one_cut() {
    let layers = [1, 2, 3, 4].map(|salt: u8| vec![salt; LAYER / usize::from(salt)]);
    let archive =
        make::oci_archive(&[SampleImage::new(&["vendor/image:v1"], &layers.each_ref().map(|layer| &layer[..]))]);
    for policy in policies() {
        for seed in 0..40 {
            let mut config = Config::default();
            config.upload = policy;
            config.retries = 12;
            let mut session = Session::new(config, seed);
            let mut faults = Faults::default();
            faults.requests = 200;
            let mut world = world(&Profile::quay(), &archive, seed).with_faults(faults);
            let ran = world.run(&mut session, push());
            ran.result.unwrap_or_else(|why| panic!("{policy:?} {seed}: {why}\n{:#?}", ran.requests));
            let mismatches = world.registry().ledger().mismatches.len();
            assert!(mismatches <= 4, "{policy:?} {seed}: {mismatches} wrong blobs, of those under way at one time");
        }
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

/// "A proxy that cuts every request after so many bytes", in front of a registry that keeps nothing of what was cut, and of one
/// that keeps it.
#[test]
fn behind_a_proxy_that_cuts_bodies_chunks_become_such_that_get_through() {
    const LIMIT: u64 = 64 << 10;
    let sizes = [5, 4, 3, 7, 1].map(|times| times * LIMIT as usize + 77);
    let layers: Vec<Vec<u8>> = (1..).zip(sizes).map(|(salt, size)| image(size + salt).layers[0].to_vec()).collect();
    let total: u64 = layers.iter().map(|layer| layer.len() as u64).sum();
    let layers: Vec<&[u8]> = layers.iter().map(|layer| &layer[..]).collect();
    let archive = make::oci_archive(&[SampleImage::new(&["vendor/image:v1"], &layers)]);
    for (profile, transfers) in
        [(Profile::distribution_2_8(), 1), (Profile::distribution_2_8(), 4), (Profile::distribution_3(), 1)]
    {
        let mut config = Config::default();
        config.transfers = NonZeroUsize::new(transfers).unwrap();
        config.limits.chunk_min = 1 << 10;
        let mut faults = Faults::default();
        faults.body_limit = Some(LIMIT);
        let mut session = Session::new(config.clone(), 3);
        let mut behind = world(&profile, &archive, 3).with_faults(faults);
        ok("a proxy", "push", behind.run(&mut session, push()));
        let ledger = behind.registry().ledger();
        assert!(ledger.mismatches.is_empty() && ledger.early_manifests.is_empty());
        // The first blobs pay for what is learned: those under way at that time, twice at most.
        let cuts = ledger.cuts;
        assert!(cuts <= 2 * transfers as u64, "{transfers} at a time: {cuts} cuts");
        let again = ledger.bytes_received() - total;
        assert!(again <= cuts * LIMIT + 1000, "{again} bytes more than needed");
        let (_, learned) = session.lessons().iter().next().unwrap();
        let largest = learned.largest.unwrap();
        assert!((LIMIT / 4..=LIMIT).contains(&largest), "{largest}");

        // Whoever begins with what was learned is cut no more.
        config.learned = serde_json::from_str(&serde_json::to_string(session.lessons()).unwrap()).unwrap();
        let mut behind = world(&profile, &archive, 4).with_faults(faults);
        ok("a proxy", "push", behind.run(&mut Session::new(config, 4), push()));
        let ledger = behind.registry().ledger();
        assert_eq!((ledger.cuts, ledger.bytes_received() - total < 1000), (0, true));
    }
}

/// C45: a registry that has lost blobs says `MANIFEST_BLOB_UNKNOWN`, and what is remembered about it is worth nothing.
#[test]
fn what_a_registry_has_lost_is_sent_once_more_on_the_same_session() {
    let archive = make::oci_archive(&[image(LAYER)]);
    for (vendor, profile) in Profile::vendors() {
        let mut session = Session::new(Config::default(), 5);
        let mut world = world(&scaled(&profile), &archive, 5);
        let pushed = ok(vendor, "push", world.run(&mut session, push()));
        let commits = world.registry().ledger().commits.clone();
        let [first, others @ ..] = &commits.keys().collect::<Vec<_>>()[..] else { panic!("nothing was sent") };
        world.registry().forget_manifests("a/b");
        assert!(world.registry().remove_blob("a/b", first.1.as_str()));

        let again = world.run(&mut session, push());
        let told = format!("{:?}", again.events);
        let again = ok(vendor, "again", again);
        assert_eq!(again.references, pushed.references);
        let counted = (again.totals.sent, again.totals.existed + again.totals.mounted);
        assert_eq!(counted, (1, others.len()), "{vendor}: each blob counts once");
        assert!(told.contains("looking at every blob once more"), "{vendor}: {told}");
        let ledger = world.registry().ledger();
        assert_eq!(ledger.commits[*first], 2, "{vendor}: what was missing is sent");
        assert!(others.iter().all(|other| ledger.commits[*other] == 1), "{vendor}: the others are not: {ledger:#?}");
        assert!(world.registry().blob("a/b", first.1.as_str()).is_some());
    }
}
