//! Copies of all tags, and of what refers to images: seeded ones under faults in the simulator, over sockets on all runtimes,
//! and between real registries with `skopeo` as the witness.
//!
//! ```text
//! SIM_SEED=4711 cargo test -p registry-tests --test mirrors mirrors_are      replays one seed and shows what happened
//! ```

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use bytes::Bytes;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{
    Copied, Copy, CopyOptions, Destination, ListReferrers, ListTags, Push, PushOptions, PutManifest,
};
use registry_proto::spec::{Digest, Manifest, MediaType, Reference, Tag};
use registry_proto::testing::registry::{Profile, Referrers, Registry};
use registry_proto::testing::simulation::Simulation;
use registry_proto::{Config, Error, Event, Session};
use registry_tests::docker_registry::{DockerRegistry, raw_manifest, skopeo};
use registry_tests::images::{entry, image, index_of, put, put_manifest, reference};
use registry_tests::keeping::layout;
use registry_tests::mirrors::MirrorScenario;
use registry_tests::on_hand_made_runtimes_too;
use registry_tests::referrers::{about, list_of, put_about, put_list};
use registry_tests::runtimes::Runtime;
use registry_tests::seeds::{for_every_seed, number};
use registry_tests::server::{Answer, Server};
use tempfile::TempDir;

/// How many seeds are run where nobody says otherwise.
const SEEDS: u64 = 500;
const KIND: &str = "application/vnd.example.signature";

#[test]
fn mirrors_are_whole_or_there_is_a_clear_error() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let succeeded = for_every_seed("mirrors", "mirrors_are_whole_or_there_is_a_clear_error", seeds, |seed| {
        MirrorScenario::new(seed).run(number("SIM_SEED").is_some())
    });
    println!("{succeeded} of {seeds} copies succeeded; the others ended with a clear error");
    assert!(number("SIM_SEED").is_some() || succeeded > seeds * 7 / 10, "only {succeeded} of {seeds} succeeded");
}

fn all_tags() -> CopyOptions {
    let mut options = CopyOptions::default();
    options.all_tags = true;
    options
}

fn with_referrers() -> CopyOptions {
    let mut options = CopyOptions::default();
    options.referrers = true;
    options
}

// ── registries in memory ─────────────────────────────────────────────────────────────────────────────────────────────

/// `app` with an index `v1` (also `latest`) of two images, one of which is `small`, too; signed, and so is the signature.
fn filled(profile: Profile) -> (Registry, [Manifest; 3]) {
    let mut registry = Registry::new(profile);
    let amd64 = put(&mut registry, "app", Some("small"), &image(&[b"shared", b"one"]));
    let arm64 = put(&mut registry, "app", None, &image(&[b"shared", b"another"]).on("linux", "arm64"));
    let index = index_of(vec![entry(&amd64, "linux/amd64"), entry(&arm64, "linux/arm64")]);
    for tag in ["v1", "latest"] {
        put_manifest(&mut registry, "app", Some(tag), &index);
    }
    let signature = put_about(&mut registry, "app", &index, KIND, "signed");
    let list_of_parts = put_about(&mut registry, "app", &arm64, "application/spdx+json", "parts");
    let signed_twice = put_about(&mut registry, "app", &signature, KIND, "the signature is signed");
    let all = [signature, list_of_parts, signed_twice];
    if registry.profile().referrers != Referrers::Listed {
        for one in &all {
            put_list(&mut registry, "app", &one.subject().unwrap().digest, vec![one.referrer()]);
        }
    }
    (registry, all)
}

/// What was asked of one registry, in order, without what differs from run to run.
fn trace(events: &[Event], address: &str) -> Vec<String> {
    let lines = events.iter().filter_map(|event| match event {
        Event::Asked { request, reply, .. } => Some(format!("{request} {}", reply.as_ref().unwrap().as_u16())),
        _ => None,
    });
    lines.filter(|line| line.contains(address)).map(|line| line.replace(address, "registry")).collect()
}

fn the_simulator_and_the_runtimes_ask_the_same(runtime: Runtime) {
    let mut config = Config::default();
    config.transfers = NonZeroUsize::MIN;
    for (here, there, referrers) in [
        (Profile::distribution_2_8(), Profile::strict(), false),
        (Profile::strict(), Profile::distribution_2_8(), true),
    ] {
        let mut options = all_tags();
        options.referrers = referrers;
        let (registry, attached) = filled(here);
        let source = Server::start(registry.clone(), |_| Answer::registry());
        let destination = Server::start(Registry::new(there.clone()), |_| Answer::registry());
        let (from, to) = (source.host(), destination.host());
        let flow = |from: &str, to: &str| Copy::new(reference(from, "app"), reference(to, "deep/app"), options.clone());
        let mut events = Vec::new();
        let copied = runtime.run_with(config.clone(), flow(&from, &to), |event| events.push(event)).unwrap();
        let mut world =
            Simulation::new(1, registry, MemoryDisk::default()).with_registry("localhost:2", Registry::new(there));
        let ran = world.run(&mut Session::new(config.clone(), 1), flow("localhost:1", "localhost:2"));
        assert_eq!(ran.result.unwrap().totals, copied.totals);
        assert_eq!(trace(&events, &from), trace(&ran.events, "localhost:1"), "{runtime}");
        assert_eq!(trace(&events, &to), trace(&ran.events, "localhost:2"), "{runtime}");

        let there = destination.registry();
        let tags: BTreeSet<String> =
            there.tags("deep/app").into_iter().filter(|tag| !tag.starts_with("sha256-")).collect();
        assert_eq!(tags, ["latest", "small", "v1"].map(String::from).into());
        for one in &attached {
            assert!(there.manifest("deep/app", one.digest().as_str()).is_some());
            let list = list_of(&there, "deep/app", &one.subject().unwrap().digest);
            // A registry that lists them itself gets no list.
            assert_eq!(list, referrers.then(|| vec![one.referrer()]));
        }
        assert_eq!(copied.referrers.len(), 3);
        assert_eq!((copied.totals.sent, copied.totals.sent_bytes > 0), (copied.totals.sent, true));
        assert!(there.ledger().commits.values().all(|times| *times == 1), "each blob once");
    }
}

/// The tag is the last to come: whoever sees it finds everything that goes with it.
fn the_tag_comes_last(runtime: Runtime) {
    for there in [Profile::strict(), Profile::distribution_2_8()] {
        let (registry, attached) = filled(Profile::strict());
        let source = Server::start(registry, |_| Answer::registry());
        let destination = Server::start(Registry::new(there), |_| Answer::registry());
        let copy =
            Copy::new(reference(&source.host(), "app:v1"), reference(&destination.host(), "app:v1"), with_referrers());
        let copied = runtime.run(Config::default(), copy).unwrap();
        assert_eq!(copied.references.len(), 1);
        let mut referrers = copied.referrers;
        referrers.sort();
        let mut expected: Vec<Digest> = attached.iter().map(|one| one.digest().clone()).collect();
        expected.sort();
        assert_eq!(referrers, expected);
        let log = destination.log();
        let writes: Vec<_> = log.iter().filter(|asked| asked.is("PUT", "/manifests/")).collect();
        assert!(writes.last().unwrap().is("PUT", "/manifests/v1"), "{writes:?}");
    }
}

/// A registry's lists are its word: what is on them and says nothing about the image is not copied.
fn lists_are_checked(runtime: Runtime) {
    let mut registry = Registry::new(Profile::distribution_2_8());
    let subject = put(&mut registry, "app", Some("v1"), &image(&[b"a layer"]));
    let good = put_about(&mut registry, "app", &subject, KIND, "good");
    let about_another = put_about(&mut registry, "app", &good, KIND, "about another");
    let gone = about(&subject, KIND, b"gone");
    let mut strange = gone.referrer();
    strange.digest = Digest::of(b"strange");
    strange.media_type = MediaType::new("application/vnd.oci.artifact.manifest.v1+json");
    let listed =
        vec![about_another.referrer(), gone.referrer(), strange.clone(), good.referrer(), subject.descriptor()];
    put_list(&mut registry, "app", subject.digest(), listed);
    let source = Server::start(registry, |_| Answer::registry());
    let destination = Server::start(Registry::new(Profile::strict()), |_| Answer::registry());
    let mut notices = Vec::new();
    let copy =
        Copy::new(reference(&source.host(), "app:v1"), reference(&destination.host(), "app:v1"), with_referrers());
    let copied = runtime.run_with(Config::default(), copy, |event| {
        if let Event::Notice(what) = event {
            notices.push(what);
        }
    });
    let copied = copied.unwrap();
    assert_eq!(copied.referrers, [good.digest().clone()]);
    // Whether something of an unknown type belongs to it, nobody can tell.
    assert_eq!(copied.left_out.len(), 1);
    assert_eq!(copied.left_out[0].reference.digest(), Some(&strange.digest));
    let there = destination.registry();
    for left_out in [&about_another, &gone] {
        assert!(there.manifest("app", left_out.digest().as_str()).is_none());
        let told = notices.iter().filter(|what| what.contains(left_out.digest().as_str()));
        assert_eq!(told.count(), 1, "{notices:#?}");
    }
}

/// A registry that finds one more referrer for each does not keep us for ever.
fn there_is_an_end_to_what_refers(runtime: Runtime) {
    let mut registry = Registry::new(Profile::strict());
    let mut subject = put(&mut registry, "app", Some("v1"), &image(&[b"a layer"]));
    for at in 0..20 {
        subject = put_about(&mut registry, "app", &subject, KIND, &at.to_string());
    }
    let source = Server::start(registry, |_| Answer::registry());
    let copy = Copy::new(reference(&source.host(), "app:v1"), reference(&source.host(), "there:v1"), with_referrers());
    let why = runtime.run(Config::default(), copy).unwrap_err();
    assert!(matches!(why, Error::Unsuitable(_)) && why.to_string().contains("8 in a row"), "{why}");
    assert!(source.registry().tags("there").is_empty());
}

fn a_repository_without_tags_is_an_error(runtime: Runtime) {
    let mut registry = Registry::new(Profile::strict());
    registry.create_repository("app");
    let source = Server::start(registry, |_| Answer::registry());
    let copy = |from: &str| Copy::new(reference(&source.host(), from), reference(&source.host(), "there"), all_tags());
    let why = |from: &str| runtime.run(Config::default(), copy(from)).unwrap_err().to_string();
    assert!(why("app").contains("has no tags"), "{}", why("app"));
    assert!(why("nobody").contains("NAME_UNKNOWN"), "{}", why("nobody"));
    assert!(why("app:v1").contains("name it without a tag"), "{}", why("app:v1"));
}

// ── real registries ──────────────────────────────────────────────────────────────────────────────────────────────────

fn write(files: impl IntoIterator<Item = (std::path::PathBuf, Bytes)>) {
    for (path, content) in files {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn tar_of(content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, "content", content).unwrap();
    tar.into_inner().unwrap()
}

/// Forty tags, put there by `skopeo` and by us, of images that share a layer, and one of an index; the index is signed.
fn fill(runtime: Runtime, registry: &DockerRegistry, folder: &Path) -> Manifest {
    let shared = tar_of(&[7; 100_000]);
    let one = |own: &str, machine: &str| {
        SampleImage::new(&["app:v1"], &[&shared, &tar_of(own.as_bytes())]).on("linux", machine)
    };
    let multi = folder.join("multi");
    let under = |folder: &Path, files: std::collections::BTreeMap<std::path::PathBuf, Bytes>| {
        write(files.into_iter().map(|(name, content)| (folder.join(name), content)));
    };
    under(&multi, make::multi_platform_folder(&[one("one", "amd64"), one("another", "arm64")]));
    let to = format!("docker://{}/app:multi", registry.host());
    skopeo(&["copy", "-q", "--all", "--dest-tls-verify=false", &format!("oci:{}", multi.display()), &to]);
    for at in 0..39 {
        let path = folder.join(format!("image{at}"));
        under(&path, make::oci_folder(&[one(&format!("own {at}"), "amd64")]));
        let to = Destination::Reference(reference(&registry.host(), &format!("app:v{at}")));
        runtime.run(Config::default(), Push::new(path, to, PushOptions::default())).unwrap();
    }
    let index = raw_manifest(&format!("{}/app:multi", registry.host()));
    let index = Manifest::parse(index.into(), Some(MediaType::OCI_INDEX.as_str()), None).unwrap();
    let (path, signature) = (folder.join("signature"), about(&index, KIND, b"signed"));
    write(layout(&path, &signature, &[Bytes::from_static(b"{}"), Bytes::from_static(b"signed")]));
    let to = Destination::Reference(reference(&registry.host(), &format!("app@{}", signature.digest())));
    runtime.run(Config::default(), Push::new(path, to, PushOptions::default())).unwrap();
    signature
}

/// From docker-registry to docker-registry, neither of which lists referrers: every tag, every blob once, and the signature.
fn skopeo_reads_back_a_mirror(runtime: Runtime) {
    let (source, destination, folder) = (DockerRegistry::start(), DockerRegistry::start(), TempDir::new().unwrap());
    let signature = fill(runtime, &source, folder.path());
    let copy = || -> Copied {
        let (from, to) = (reference(&source.host(), "app"), reference(&destination.host(), "deep/mirror"));
        runtime.run(Config::default(), Copy::new(from, to, all_tags())).unwrap()
    };
    let copied = copy();
    // The shared layer, 41 others, 41 configurations, and the signature's two; nothing twice.
    assert_eq!(
        (copied.references.len(), copied.totals.sent, copied.left_out.len()),
        (40, 85, 0),
        "{:?}",
        copied.totals
    );
    assert_eq!(copied.referrers, [signature.digest().clone()]);
    let tags = |registry: &DockerRegistry, name: &str| -> BTreeSet<String> {
        let listed = skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{}/{name}", registry.host())]);
        let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
        listed["Tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
    };
    let there = tags(&destination, "deep/mirror");
    assert_eq!(there, tags(&source, "app"));
    assert_eq!(there.len(), 41, "and the list of what refers to the index");
    for tag in &there {
        let [from, to] = [format!("{}/app:{tag}", source.host()), format!("{}/deep/mirror:{tag}", destination.host())];
        assert_eq!(raw_manifest(&from), raw_manifest(&to), "{tag}");
    }
    let (read, out) = (
        format!("docker://{}/deep/mirror:multi", destination.host()),
        format!("dir:{}", folder.path().join("out").display()),
    );
    skopeo(&["copy", "-q", "--all", "--preserve-digests", "--src-tls-verify=false", &read, &out]);
    let again = copy();
    assert_eq!((again.references, again.totals), (copied.references, registry_proto::flow::Totals::default()));

    // What somebody else has said about the index at the destination stays on its list.
    let subject = signature.subject().unwrap().digest.clone();
    let index = Manifest::parse(raw_manifest(&format!("{}/deep/mirror:multi", destination.host())).into(), None, None);
    let theirs = about(&index.unwrap(), KIND, b"signed");
    let theirs = with_another_kind(&theirs);
    let to = reference(&destination.host(), &format!("deep/mirror@{}", theirs.digest()));
    runtime.run(Config::default(), PutManifest::new(to, theirs.clone())).unwrap();
    let (path, ours) = (folder.path().join("ours"), about_digest(&subject, &signature));
    write(layout(&path, &ours, &[Bytes::from_static(b"{}"), Bytes::from_static(b"ours")]));
    let to = Destination::Reference(reference(&source.host(), &format!("app@{}", ours.digest())));
    runtime.run(Config::default(), Push::new(path, to, PushOptions::default())).unwrap();
    copy();
    let about: Reference = reference(&destination.host(), &format!("deep/mirror@{subject}"));
    let listed = runtime.run(Config::default(), ListReferrers::new(&about)).unwrap();
    let listed: BTreeSet<Digest> = listed.into_iter().map(|one| one.digest).collect();
    assert_eq!(listed, [&signature, &theirs, &ours].map(|one| one.digest().clone()).into());
    let all = ListTags::new(about.repository().clone()).collected();
    let all = runtime.run(Config::default(), all).unwrap();
    assert!(all.contains(&Tag::of_referrers(&subject).to_string()));
}

fn with_another_kind(manifest: &Manifest) -> Manifest {
    let mut image = manifest.image().unwrap().clone();
    image.artifact_type = Some(MediaType::new("application/vnd.example.theirs"));
    image.to_manifest()
}

fn about_digest(subject: &Digest, like: &Manifest) -> Manifest {
    let mut image = like.image().unwrap().clone();
    assert_eq!(image.subject.as_ref().unwrap().digest, *subject);
    image.layers[0].digest = Digest::of(b"ours");
    image.layers[0].size = 4;
    image.to_manifest()
}

on_hand_made_runtimes_too!(
    the_simulator_and_the_runtimes_ask_the_same,
    the_tag_comes_last,
    lists_are_checked,
    there_is_an_end_to_what_refers,
    a_repository_without_tags_is_an_error,
    skopeo_reads_back_a_mirror,
);
