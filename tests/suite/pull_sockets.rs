//! Pulls over sockets, on all runtimes: from a registry in memory, from one that keeps breaking off, and from a real one, with
//! `skopeo` as the witness.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::archive::{Archive, ArchiveFormat};
use registry_proto::flow::{Destination, Platforms, Pull, PullOptions, Pulled, Push, PushOptions, VerifyArchive};
use registry_proto::spec::{Digest, Manifest};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_proto::testing::simulation::Simulation;
use registry_proto::{Config, Credential, Error, Event, Session};
use registry_tests::docker_registry::{DockerRegistry, raw_manifest, skopeo};
use registry_tests::images::{image, noise, put, put_manifest};
use registry_tests::on_hand_made_runtimes_too;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Server, Then};
use tempfile::TempDir;

fn options(format: ArchiveFormat, platforms: Platforms) -> PullOptions {
    let mut options = PullOptions::default();
    (options.format, options.platforms) = (format, platforms);
    options
}

fn pull(runtime: Runtime, reference: &str, out: &Path, options: PullOptions) -> Result<Pulled, Error> {
    runtime.run(Config::default(), Pull::new([reference.parse().unwrap()], out, options))
}

fn verified(runtime: Runtime, out: &Path) -> Archive {
    let verified = runtime.run(Config::default(), VerifyArchive::new(out)).unwrap();
    assert!(verified.is_whole(), "{verified:?}");
    verified.archive.unwrap()
}

// ── registries in memory ─────────────────────────────────────────────────────────────────────────────────────────────

fn filled(profile: Profile) -> Registry {
    let mut registry = Registry::new(profile);
    let (big, small) = (noise(200_000), noise(10));
    let images = ["amd64", "arm64"].map(|machine| image(&[&big, machine.as_bytes(), &small]).on("linux", machine));
    for one in &images {
        put(&mut registry, "app", None, one);
    }
    put_manifest(&mut registry, "app", Some("v1"), &make::index_of(&images, false));
    registry
}

/// What was asked, in order, without what differs from run to run.
fn trace(events: &[Event], address: &str) -> Vec<String> {
    let lines = events.iter().filter_map(|event| match event {
        Event::Asked { request, reply, .. } => Some(format!("{request} {}", reply.as_ref().unwrap().as_u16())),
        _ => None,
    });
    lines.map(|line| line.replace(address, "registry")).collect()
}

fn the_simulator_and_the_runtimes_ask_the_same(runtime: Runtime) {
    let profile =
        Profile { requires_auth: Some(Auth::bearer_for("/token", "here", "me", "secret")), ..Profile::strict() };
    let config = |host: &str| {
        let mut config = Config::default();
        config.transfers = NonZeroUsize::MIN;
        config.log_in(&host.parse().unwrap(), Credential::password("me", "secret"));
        config
    };
    let folder = TempDir::new().unwrap();
    for format in [ArchiveFormat::DockerAndOci, ArchiveFormat::OciFolder] {
        let server = Server::start(filled(profile.clone()), |_| Answer::registry());
        let address = server.host().to_string();
        let out = folder.path().join(format!("{format:?}"));
        let mut events = Vec::new();
        let options = options(format, Platforms::All);
        let flow = Pull::new([format!("{address}/app:v1").parse().unwrap()], &out, options.clone());
        let pulled = runtime.run_with(config(&address), flow, |event| events.push(event)).unwrap();

        let mut world = Simulation::new(1, filled(profile.clone()), MemoryDisk::default());
        let flow = Pull::new(["localhost:1/app:v1".parse().unwrap()], "/out", options);
        let ran = world.run(&mut Session::new(config("localhost:1"), 1), flow);
        assert_eq!(ran.result.unwrap().totals, pulled.totals, "{runtime}");
        assert_eq!(trace(&events, &address), trace(&ran.events, "localhost:1"), "{runtime}");
        // The same bytes, too, but for the registry's name.
        if format == ArchiveFormat::DockerAndOci {
            let simulated = world.files().snapshot().0[Path::new("/out")].len() as u64;
            assert!(fs::metadata(&out).unwrap().len().abs_diff(simulated) <= 1024);
        }
        let archive = verified(runtime, &out);
        assert_eq!(archive.images()[0].root().digest(), &pulled.images[0].digest);
    }
}

/// Each reply with a blob is cut in its middle: what is there is not fetched again.
fn what_is_cut_goes_on(runtime: Runtime) {
    let mut registry = Registry::new(Profile::distribution_3());
    let layer = noise(1_000_000);
    let one = image(&[&layer]);
    put(&mut registry, "app", Some("v1"), &one);
    let cut = |asked: &registry_tests::server::Asked| match asked.is("GET", Digest::of(&noise(1_000_000)).encoded()) {
        true => Answer::edited(|reply| {
            // Announced whole, but only half of it comes.
            let whole = reply.body().clone();
            let length = whole.len().to_string();
            reply.headers_mut().insert("content-length", length.parse().unwrap());
            *reply.body_mut() = if whole.len() > 100_000 { whole.slice(..whole.len() / 2) } else { whole };
        })
        .then(Then::Close),
        false => Answer::registry(),
    };
    let server = Server::start(registry, cut);
    let (folder, mut fetched) = (TempDir::new().unwrap(), 0);
    let out = folder.path().join("out.tar");
    let mut config = Config::default();
    config.backoff = std::time::Duration::from_millis(1);
    let from = format!("{}/app:v1", server.host());
    let flow = Pull::new([from.parse().unwrap()], &out, options(ArchiveFormat::Oci, Platforms::All));
    let pulled = runtime.run_with(config, flow, |event| {
        if let Event::Asked { request, .. } = event {
            fetched += u64::from(request.url().contains("/blobs/"));
        }
    });
    let pulled = pulled.unwrap();
    // The configuration; the layer whole, and half of it, a quarter, an eighth, the last sixteenth.
    assert_eq!(fetched, 6, "{runtime}");
    assert_eq!(pulled.totals.fetched_bytes, layer.len() as u64 + one.config().len() as u64);
    verified(runtime, &out);
}

/// What can't be written is known before anything is fetched, and nothing is left.
fn places_that_can_t_be_written(runtime: Runtime) {
    let server = Server::start(filled(Profile::distribution_3()), |_| Answer::registry());
    let from = format!("{}/app:v1", server.host());
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    fs::create_dir(here.join("folder")).unwrap();
    fs::write(here.join("file"), "mine").unwrap();
    let tar = || options(ArchiveFormat::default(), Platforms::All);
    let into = || options(ArchiveFormat::OciFolder, Platforms::All);
    for (out, options) in [("folder", tar()), ("file/below", tar()), ("file", into())] {
        let why = pull(runtime, &from, &here.join(out), options).unwrap_err();
        assert!(matches!(&why, Error::Local(_)), "{why}");
        assert!(why.to_string().contains(out), "{why}");
    }
    fs::create_dir(here.join("odd")).unwrap();
    fs::write(here.join("odd/index.json"), "[1]").unwrap();
    let why = pull(runtime, &from, &here.join("odd"), into()).unwrap_err();
    assert!(matches!(&why, Error::Misuse(_)) && why.to_string().contains("odd/index.json"), "{why}");
    assert_eq!(fs::read(here.join("file")).unwrap(), b"mine");
    assert_eq!(fs::read(here.join("odd/index.json")).unwrap(), b"[1]");
    let left: BTreeSet<PathBuf> = fs::read_dir(here).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, BTreeSet::from(["file", "folder", "odd"].map(|name| here.join(name))), "{runtime}");
}

// ── real registries ──────────────────────────────────────────────────────────────────────────────────────────────────

fn tar_of(content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, "content", content).unwrap();
    tar.into_inner().unwrap()
}

/// An index of two images, put there by `skopeo`: gzip layers of all sorts.
fn fill(registry: &DockerRegistry, folder: &Path) -> String {
    let (big, small, none) = (tar_of(&noise(6 << 20)), tar_of(b"small"), tar_of(b""));
    let one = |machine: &str| {
        SampleImage::new(&["app:v1"], &[&small, &big, &tar_of(machine.as_bytes()), &none, &small]).on("linux", machine)
    };
    let layout = folder.join("multi");
    for (name, content) in make::multi_platform_folder(&[one("amd64"), one("arm64")]) {
        let path = layout.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let to = format!("{}/multi:v1", registry.host());
    skopeo(&[
        "copy",
        "-q",
        "--all",
        "--dest-tls-verify=false",
        &format!("oci:{}", layout.display()),
        &format!("docker://{to}"),
    ]);
    to
}

/// What `skopeo` makes of an archive: the digests of all that an image consists of, as it is in the archive.
fn seen_by_skopeo(from: &str, folder: &Path) -> BTreeSet<String> {
    let out = folder.join(format!("seen-{}", fs::read_dir(folder).unwrap().count()));
    skopeo(&["copy", "-q", "--all", from, &format!("dir:{}", out.display())]);
    let files = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.file_name().unwrap() != "version");
    files.map(|path| Digest::of(&fs::read(path).unwrap()).to_string()).collect()
}

/// Pulled in each form, read by `skopeo`, pushed again elsewhere: the same digests, and the same bytes.
fn round_trips(runtime: Runtime) {
    let (registry, other, folder) = (DockerRegistry::start(), DockerRegistry::start(), TempDir::new().unwrap());
    let (from, here) = (fill(&registry, folder.path()), folder.path());
    let arm64 = || Platforms::Only("linux/arm64".parse().unwrap());
    let index = Manifest::parse(Bytes::from(raw_manifest(&from)), None, None).unwrap();
    let arm =
        index.index().unwrap().manifests.iter().find(|child| child.platform.as_ref().unwrap().architecture == "arm64");
    let arm = arm.unwrap().digest.clone();
    let manifest = raw_manifest(&format!("{}@{arm}", from.strip_suffix(":v1").unwrap()));
    let image = Manifest::parse(Bytes::from(manifest), None, None).unwrap();
    let layers: BTreeSet<String> = image.image().unwrap().blobs().map(|blob| blob.digest.to_string()).collect();

    for (at, (format, kind)) in [
        (ArchiveFormat::DockerAndOci, "oci-archive"),
        (ArchiveFormat::DockerAndOci, "docker-archive"),
        (ArchiveFormat::Oci, "oci-archive"),
        (ArchiveFormat::OciFolder, "oci"),
        (ArchiveFormat::Docker, "docker-archive"),
    ]
    .into_iter()
    .enumerate()
    {
        let out = here.join(format!("out{at}"));
        let pulled = pull(runtime, &from, &out, options(format, arm64())).unwrap();
        assert_eq!(pulled.images[0].digest, arm);
        let seen = seen_by_skopeo(&format!("{kind}:{}", out.display()), here);
        if kind == "docker-archive" {
            // It unpacks layers that are compressed; that the configuration is right says that they are.
            assert!(seen.contains(&image.image().unwrap().config.digest.to_string()), "{format:?} {kind}: {seen:?}");
        } else {
            assert!(layers.is_subset(&seen) && seen.contains(&arm.to_string()), "{format:?} {kind}: {seen:?}");
        }
        let archive = verified(runtime, &out);
        let held: BTreeSet<String> = archive.blobs().map(|blob| blob.digest().to_string()).collect();
        assert_eq!(held, layers, "{format:?}: layers are byte-identical");
        let to = format!("{}/again{at}:v1", other.host());
        let push = Push::new(out, Destination::Reference(to.parse().unwrap()), PushOptions::default());
        let pushed = runtime.run(Config::default(), push).unwrap();
        assert_eq!((&pushed.references[0].digest, Digest::of(&raw_manifest(&to))), (&arm, arm.clone()), "{format:?}");
    }
    for format in [ArchiveFormat::DockerAndOci, ArchiveFormat::Oci, ArchiveFormat::OciFolder] {
        let out = here.join(format!("all-{format:?}"));
        let pulled = pull(runtime, &from, &out, options(format, Platforms::All)).unwrap();
        assert_eq!(&pulled.images[0].digest, index.digest());
        let kind = if format == ArchiveFormat::OciFolder { "oci" } else { "oci-archive" };
        let seen = seen_by_skopeo(&format!("{kind}:{}", out.display()), here);
        assert!(layers.is_subset(&seen) && seen.contains(&index.digest().to_string()), "{format:?}: {seen:?}");
        let to = format!("{}/whole-{}:v1", other.host(), format!("{format:?}").to_lowercase());
        let push = Push::new(out, Destination::Reference(to.parse().unwrap()), PushOptions::default());
        runtime.run(Config::default(), push).unwrap();
        assert_eq!(Digest::of(&raw_manifest(&to)), *index.digest(), "{format:?}");
    }
}

on_hand_made_runtimes_too!(
    the_simulator_and_the_runtimes_ask_the_same,
    what_is_cut_goes_on,
    places_that_can_t_be_written,
    round_trips,
);
