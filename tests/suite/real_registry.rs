//! Pushes to a real `docker-registry`, from archives that `skopeo` wrote; `skopeo` reads back what arrived.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::flow::{Destination, Pinging, Preview, Push, PushOptions, Pushed};
use registry_proto::spec::{Digest, Manifest};
use registry_proto::{Config, Error, Event, UploadPolicy};
use registry_tests::docker_registry::{DockerRegistry, copy_out, raw_manifest, skopeo};
use registry_tests::images::noise;
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use tempfile::TempDir;

/// Layers of all sorts: empty, small, repeated, and larger than a classic chunk.
fn sample() -> SampleImage {
    let big = noise(11 << 20);
    let tar = |name: &str, content: &[u8]| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, content).unwrap();
        tar.into_inner().unwrap()
    };
    let (small, big) = (tar("small", b"hello"), tar("big", &big));
    SampleImage::new(&["localhost/demo/app:v1"], &[&small, &big, &small])
}

/// An OCI folder made here, and what `skopeo` makes of it.
fn archives(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let layout = folder.join("layout");
    for (name, content) in make::oci_folder(&[sample()]) {
        let path = layout.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let from = format!("oci:{}", layout.display());
    let to = |kind: &str, name: &str| format!("{kind}:{}", folder.join(name).display());
    skopeo(&["copy", "-q", &from, &format!("{}:localhost/demo/app:v1", to("docker-archive", "docker.tar"))]);
    skopeo(&["copy", "-q", &from, &format!("{}:v1", to("oci-archive", "oci.tar"))]);
    skopeo(&["copy", "-q", &from, &format!("{}:v1", to("oci", "folder"))]);
    fs::write(folder.join("legacy.tar"), make::docker_save_legacy(&[sample()])).unwrap();
    ["docker.tar", "oci.tar", "folder", "legacy.tar"].map(|name| (name, folder.join(name))).into()
}

fn push(runtime: Runtime, config: Config, archive: &Path, to: &str) -> Result<(Pushed, Vec<Event>), Error> {
    let mut events = Vec::new();
    let to = Destination::Reference(to.parse().unwrap());
    let pushed =
        runtime.run_with(config, Push::new(archive, to, PushOptions::default()), |event| events.push(event))?;
    Ok((pushed, events))
}

fn skopeo_reads_back_what_was_pushed(runtime: Runtime) {
    let (registry, folder) = (DockerRegistry::start(), TempDir::new().unwrap());
    for (name, archive) in archives(folder.path()) {
        let reference = format!("{}/{runtime}/{}:v1", registry.host(), name.replace('.', "-"));
        let (pushed, _) = push(runtime, Config::default(), &archive, &reference).unwrap();
        let raw = raw_manifest(&reference);
        assert_eq!(Digest::of(&raw), pushed.references[0].digest, "{name}");
        let image = Manifest::parse(raw.into(), None, None).unwrap();
        assert_eq!(image.image().unwrap().layer_count(), 3, "{name}");
        copy_out(&reference, &folder.path().join(format!("out-{name}")));
        if let Some(own) = own_manifest(&archive) {
            assert_eq!(own, pushed.references[0].digest, "{name}: the archive's own manifest is kept");
        }
        // Again: the manifest is found by its digest, and nothing is sent.
        let (again, events) = push(runtime, Config::default(), &archive, &reference).unwrap();
        assert_eq!(again.references, pushed.references);
        let harmless = |event: &Event| match event {
            Event::ManifestExists { .. } => true,
            Event::Asked { request, .. } => request.method() == "HEAD" && request.url().contains("/manifests/"),
            _ => false,
        };
        assert!(events.iter().all(harmless), "{events:?}");
    }
}

/// The digest in a layout's `index.json`.
fn own_manifest(archive: &Path) -> Option<Digest> {
    let index = fs::read(archive.join("index.json")).ok()?;
    let index = Manifest::parse(index.into(), Some("application/vnd.oci.image.index.v1+json"), None).unwrap();
    Some(index.index().unwrap().manifests[0].digest.clone())
}

fn the_classic_rule_is_a_policy(runtime: Runtime) {
    let (registry, folder) = (DockerRegistry::start(), TempDir::new().unwrap());
    let archive = folder.path().join("legacy.tar");
    fs::write(&archive, make::docker_save_legacy(&[sample()])).unwrap();
    let mut config = Config::default();
    config.upload = UploadPolicy::classic();
    let reference = format!("{}/classic/{runtime}:v1", registry.host());
    let (pushed, events) = push(runtime, config, &archive, &reference).unwrap();
    assert_eq!(pushed.totals.sent, 3, "two different layers and a configuration");
    // 11 MiB and a bit in chunks of 5 MiB: confirmed at 5, 10 and the end; the small ones at once.
    let steps: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Sent { blob, sent, .. } if blob.size > 5 << 20 => Some(*sent),
            _ => None,
        })
        .collect();
    assert_eq!(steps[..2], [5 << 20, 10 << 20], "{steps:?}");
    copy_out(&reference, &folder.path().join("out"));
}

fn a_blob_is_sent_once_and_mounted_elsewhere(runtime: Runtime) {
    let (registry, folder) = (DockerRegistry::start(), TempDir::new().unwrap());
    let host = registry.host();
    let archive = folder.path().join("two.tar");
    let tags = [format!("{host}/one:a"), format!("{host}/two:b"), format!("{host}/two:c")];
    let image = SampleImage { tags: tags.to_vec(), ..sample() };
    fs::write(&archive, make::docker_save_oci(&[image])).unwrap();
    let flow = Push::new(archive.as_path(), Destination::OriginalTags, PushOptions::default());
    let pushed = runtime.run(Config::default(), flow).unwrap();
    assert_eq!((pushed.totals.sent, pushed.totals.mounted), (3, 3), "{:?}", pushed.totals);
    let digests: BTreeSet<Digest> = tags.iter().map(|tag| Digest::of(&raw_manifest(tag))).collect();
    assert_eq!(digests.len(), 1, "original tags all lead to the same image");
    copy_out(&tags[2], &folder.path().join("out"));
}

fn a_preview_sends_nothing(runtime: Runtime) {
    let (registry, folder) = (DockerRegistry::start(), TempDir::new().unwrap());
    let archive = folder.path().join("legacy.tar");
    fs::write(&archive, make::docker_save_legacy(&[sample()])).unwrap();
    let reference = format!("{}/preview:v1", registry.host());
    let preview = || {
        let to = Destination::Reference(reference.parse().unwrap());
        runtime.run(Config::default(), Preview::new(archive.as_path(), to, PushOptions::default())).unwrap()
    };
    let before = preview();
    assert_eq!(before.missing.len(), 3);
    assert!(before.bytes() > 11 << 20);
    push(runtime, Config::default(), &archive, &reference).unwrap();
    assert_eq!(preview().bytes(), 0);
}

fn a_ping_says_what_answers(runtime: Runtime) {
    let registry = DockerRegistry::start();
    let ping = runtime.run(Config::default(), Pinging::new(registry.host().parse().unwrap())).unwrap();
    assert_eq!(ping.api_version.as_deref(), Some("registry/2.0"));
    let host = registry.host();
    drop(registry);
    let mut config = Config::default();
    config.retries = 0;
    let gone = runtime.run(config, Pinging::new(host.parse().unwrap())).unwrap_err();
    assert!(matches!(gone, Error::Transport { .. }), "{gone:?}");
    assert!(gone.to_string().contains("is it running?"), "{gone}");
}

on_all_runtimes!(
    skopeo_reads_back_what_was_pushed,
    the_classic_rule_is_a_policy,
    a_blob_is_sent_once_and_mounted_elsewhere,
    a_preview_sends_nothing,
    a_ping_says_what_answers,
);
