//! Copies over sockets, on all runtimes: between registries in memory, and between real ones, with `skopeo` as the witness.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeMap;
use std::fs::{self};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Instant;

use http::StatusCode;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{Copied, Copy, CopyOptions, Destination, Push, PushOptions};
use registry_proto::spec::{Descriptor, Digest, Manifest};
use registry_proto::testing::registry::{Auth, Profile, Registry, Support};
use registry_proto::testing::simulation::Simulation;
use registry_proto::{Config, Credential, Event, Session};
use registry_tests::docker_registry::{DockerRegistry, raw_manifest, skopeo};
use registry_tests::images::noise;
use registry_tests::on_hand_made_runtimes_too;
use registry_tests::runtimes::Runtime;
use registry_tokio::serve::Server;
use tempfile::TempDir;

fn copy(from: &str, to: &str) -> Copy {
    Copy::new(from.parse().unwrap(), to.parse().unwrap(), CopyOptions::default())
}

// ── registries in memory ─────────────────────────────────────────────────────────────────────────────────────────────

/// A registry that holds `app:v1`, an index of two images that share a layer.
fn filled(profile: Profile) -> Registry {
    let mut registry = Registry::new(profile);
    let (large, small) = (vec![7; 200_000], b"a layer");
    let images = ["amd64", "arm64"].map(|machine| {
        let own = machine.repeat(10_000);
        SampleImage::new(&["app:v1"], &[&large, small, own.as_bytes()]).on("linux", machine)
    });
    for image in &images {
        registry.insert_image("app", None, image);
    }
    let index = make::index_of(&images, false);
    registry.insert_manifest("app", Some("v1"), index.bytes().clone(), index.media_type().as_str()).unwrap();
    registry
}

/// What was asked of one registry, in order, without what differs from run to run. (Which of two registries is asked first is
/// up to the network.)
fn trace(events: &[Event], address: &str) -> Vec<String> {
    let lines = events.iter().filter_map(|event| match event {
        Event::Asked { request, reply, .. } => Some(format!("{request} {}", reply.as_ref().unwrap().as_u16())),
        _ => None,
    });
    lines.filter(|line| line.contains(address)).map(|line| line.replace(address, "registry")).collect()
}

fn the_simulator_and_the_runtimes_ask_the_same(runtime: Runtime) {
    let here = Profile {
        requires_auth: Some(Auth::bearer_for("/token", "here", "me", "secret")),
        ..Profile::distribution_2_8()
    };
    ask_the_same(runtime, &here, &Profile { max_body: Some(150_000), ..Profile::strict() });
    let there = Profile { patch: Support::No(StatusCode::METHOD_NOT_ALLOWED), ..Profile::distribution_3() };
    ask_the_same(runtime, &here, &there);
}

fn ask_the_same(runtime: Runtime, here: &Profile, there: &Profile) {
    let config = |from: &str| {
        let mut config = Config::default();
        config.transfers = NonZeroUsize::MIN;
        config.piece = NonZeroU64::new(60_000).unwrap();
        config.log_in(&from.parse().unwrap(), Credential::password("me", "secret"));
        config
    };
    let tokio = ::tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let serve = |registry| tokio.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
    let (source, destination) = (serve(filled(here.clone())), serve(Registry::new(there.clone())));
    let (from, to) = (source.address().to_string(), destination.address().to_string());
    let mut events = Vec::new();
    let flow = copy(&format!("{from}/app:v1"), &format!("{to}/mirror/app:v1"));
    let copied = runtime.run_with(config(&from), flow, |event| events.push(event)).unwrap();

    let mut world = Simulation::new(1, filled(here.clone()), MemoryDisk::default())
        .with_registry("localhost:2", Registry::new(there.clone()));
    let flow = copy("localhost:1/app:v1", "localhost:2/mirror/app:v1");
    let ran = world.run(&mut Session::new(config("localhost:1"), 1), flow);
    assert_eq!(ran.result.unwrap().totals, copied.totals);
    assert_eq!(trace(&events, &from), trace(&ran.events, "localhost:1"), "{runtime}");
    assert_eq!(trace(&events, &to), trace(&ran.events, "localhost:2"), "{runtime}");

    let held = |server: &Server, name: &str, digest: &Digest| server.registry(|it| it.blob(name, digest.as_str()));
    assert_eq!(copied.totals.sent, 6);
    for image in source.registry(|it| it.manifest("app", "v1")).iter().flat_map(|(bytes, _)| children(bytes)) {
        let (bytes, _) = destination.registry(|it| it.manifest("mirror/app", image.digest.as_str())).unwrap();
        let manifest = Manifest::parse(bytes, None, Some(&image)).unwrap();
        for blob in manifest.image().unwrap().blobs() {
            let there = held(&destination, "mirror/app", &blob.digest);
            assert!(there.is_some() && there == held(&source, "app", &blob.digest));
        }
    }
}

fn children(index: &bytes::Bytes) -> Vec<Descriptor> {
    Manifest::parse(index.clone(), None, None).unwrap().index().unwrap().manifests.clone()
}

// ── real registries ──────────────────────────────────────────────────────────────────────────────────────────────────

/// Puts an image of many layers, and one for two platforms, into a registry by way of `skopeo`. The images' names.
fn fill(registry: &DockerRegistry, folder: &Path) -> [&'static str; 2] {
    let big = noise(11 << 20);
    let one = |machine: &str| {
        let own = tar_of(machine.as_bytes());
        let (big, small) = (tar_of(&big), tar_of(b"small"));
        SampleImage::new(&["app:v1"], &[&small, &big, &own, &small]).on("linux", machine)
    };
    write(&folder.join("single"), make::oci_folder(&[one("amd64")]));
    write(&folder.join("multi"), make::multi_platform_folder(&[one("amd64"), one("arm64")]));
    for name in ["single", "multi"] {
        let (from, to) =
            (format!("oci:{}", folder.join(name).display()), format!("docker://{}/{name}:v1", registry.host()));
        skopeo(&["copy", "-q", "--all", "--dest-tls-verify=false", &from, &to]);
    }
    ["single", "multi"]
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

fn write(folder: &Path, files: BTreeMap<PathBuf, bytes::Bytes>) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn skopeo_reads_back_what_was_copied(runtime: Runtime) {
    let (source, destination, folder) = (DockerRegistry::start(), DockerRegistry::start(), TempDir::new().unwrap());
    for name in fill(&source, folder.path()) {
        let (from, to) = (format!("{}/{name}:v1", source.host()), format!("{}/deep/{name}:v2", destination.host()));
        let copied = runtime.run(Config::default(), copy(&from, &to)).unwrap();
        assert_eq!(raw_manifest(&to), raw_manifest(&from), "{name}");
        assert_eq!(Digest::of(&raw_manifest(&to)), copied.digest, "{name}");
        assert!(copied.totals.sent_bytes > 10 << 20, "{name}: {:?}", copied.totals);
        // Every manifest and blob, each checked against its digest.
        let out = folder.path().join(format!("out-{name}"));
        let (read, out) = (format!("docker://{to}"), format!("dir:{}", out.display()));
        skopeo(&["copy", "-q", "--all", "--preserve-digests", "--src-tls-verify=false", &read, &out]);
        let again = runtime.run(Config::default(), copy(&from, &to)).unwrap();
        assert_eq!((again.digest, again.totals), (copied.digest, registry_proto::flow::Totals::default()), "{name}");
    }
    // One platform alone is an image by itself.
    let mut options = CopyOptions::default();
    options.platform = Some("linux/arm64".parse().unwrap());
    let (from, to) = (format!("{}/multi:v1", source.host()), format!("{}/arm:v1", destination.host()));
    let copied =
        runtime.run(Config::default(), Copy::new(from.parse().unwrap(), to.parse().unwrap(), options)).unwrap();
    let index = children(&raw_manifest(&from).into());
    let arm = index.iter().find(|child| child.platform.as_ref().unwrap().architecture == "arm64").unwrap();
    assert_eq!((Digest::of(&raw_manifest(&to)), &copied.digest), (arm.digest.clone(), &arm.digest));
}

/// An image of this many layers, put where it is by a push.
fn layered(runtime: Runtime, registry: &DockerRegistry, folder: &Path, count: usize) -> String {
    let layers: Vec<Vec<u8>> = (0..count).map(|at| tar_of(format!("layer {at}").as_bytes())).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let path = folder.join("layered");
    write(&path, make::oci_folder(&[SampleImage::new(&["many:v1"], &layers)]));
    let reference = format!("{}/many:v1", registry.host());
    let to = Destination::Reference(reference.parse().unwrap());
    runtime.run(Config::default(), Push::new(path, to, PushOptions::default())).unwrap();
    reference
}

fn within_a_registry_everything_is_mounted(runtime: Runtime) {
    const LAYERS: usize = 60;
    let (registry, folder) = (DockerRegistry::start(), TempDir::new().unwrap());
    let from = layered(runtime, &registry, folder.path(), LAYERS);
    let timed = |to: String| -> Copied {
        let mut requests = 0;
        let mut moved = 0;
        let begun = Instant::now();
        let copied = runtime.run_with(Config::default(), copy(&from, &to), |event| match event {
            Event::Asked { .. } => requests += 1,
            Event::Sending { .. } => moved += 1,
            _ => {}
        });
        println!("{runtime}: {LAYERS} layers in {:?} by {requests} requests", begun.elapsed());
        assert_eq!(moved, 0, "no blob's bytes are moved");
        copied.unwrap()
    };
    for round in 0..3 {
        let to = format!("{}/there{round}:v1", registry.host());
        let copied = timed(to.clone());
        assert_eq!((copied.totals.mounted, copied.totals.sent), (LAYERS + 1, 0), "{:?}", copied.totals);
        assert_eq!(raw_manifest(&to), raw_manifest(&from));
    }
    // Within a repository there is nothing to mount: only another tag.
    let retagged = timed(from.replace(":v1", ":v2"));
    assert_eq!(retagged.totals, registry_proto::flow::Totals::default());
}

on_hand_made_runtimes_too!(
    the_simulator_and_the_runtimes_ask_the_same,
    skopeo_reads_back_what_was_copied,
    within_a_registry_everything_is_mounted,
);
