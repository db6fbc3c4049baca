//! `inspect`, `digest`, `manifest` and `config`, as their users meet them.

use std::collections::BTreeMap;

use bytes::Bytes;
use registry_proto::archive::make::{self, SampleImage};
use registry_proto::spec::{Descriptor, Digest, Index, Manifest, MediaType, Platform};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_tokio::serve::Server;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::run::{err, json, out, runtime, tug};

/// A registry with `app:v1` (one image), and `multi:v1` (an index of it, for this machine's platform and one more).
struct Served {
    server: Server,
    /// What the server lives on.
    _runtime: Runtime,
    image: SampleImage,
    manifest: Manifest,
    index: Manifest,
}

fn served(auth: Option<Auth>) -> Served {
    let here = Platform::of_this_machine();
    let image = SampleImage::new(&["app:v1"], &[b"a layer", b"another"]).on(&here.os, &here.architecture);
    let other = SampleImage::new(&["app:v1"], &[b"a layer"]).on("plan9", "mips");
    let mut registry = Registry::new(Profile { requires_auth: auth, ..Profile::distribution_3() });
    let mut put = |repository: &str, tag: Option<&str>, manifest: &Manifest| {
        let media_type = manifest.media_type().as_str();
        registry.insert_manifest(repository, tag, manifest.bytes().clone(), media_type).unwrap();
    };
    let entry = |image: &SampleImage| {
        let platform = Some(image.platform.clone());
        Descriptor { platform, ..image.manifest(false).descriptor() }
    };
    let mut attestation = entry(&image);
    attestation.platform = Some("unknown/unknown".parse().unwrap());
    let index = Index {
        media_type: None,
        artifact_type: None,
        manifests: vec![entry(&other), entry(&image), attestation],
        subject: None,
        annotations: BTreeMap::new(),
    };
    let (manifest, index) = (image.manifest(false), index.to_manifest());
    put("app", Some("v1"), &manifest);
    put("multi", None, &manifest);
    put("multi", None, &other.manifest(false));
    put("multi", Some("v1"), &index);
    for repository in ["app", "multi"] {
        let blobs = [&image, &other].map(|image| image.layers.iter().cloned().chain([image.config()]));
        for blob in blobs.into_iter().flatten() {
            registry.insert_blob(repository, blob);
        }
    }
    let runtime = runtime();
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
    Served { server, _runtime: runtime, image, manifest, index }
}

impl Served {
    fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.server.address())
    }
}

#[test]
fn digests_and_bytes_are_all_that_is_printed() {
    let served = served(None);
    let (app, multi) = (served.reference("app:v1"), served.reference("multi:v1"));
    let digest = tug(&["digest", &app]);
    assert_eq!((out(&digest), err(&digest)), (&*format!("{}\n", served.manifest.digest()), ""));
    assert_eq!(out(&tug(&["digest", &multi])), format!("{}\n", served.index.digest()));
    assert_eq!(json(&tug(&["digest", &app, "--format", "json"]))["size"], served.manifest.size());

    assert_eq!(tug(&["manifest", &app]).stdout, &served.manifest.bytes()[..]);
    let by_digest = served.reference(&format!("multi@{}", served.index.digest()));
    assert_eq!(tug(&["manifest", &by_digest]).stdout, &served.index.bytes()[..]);

    assert_eq!(tug(&["config", &app]).stdout, served.image.config());
    assert_eq!(tug(&["config", &multi]).stdout, served.image.config(), "this machine's");
    let other = tug(&["config", &multi, "--platform", "plan9/mips"]);
    assert!(other.status.success() && other.stdout != served.image.config(), "{other:?}");
    let none = tug(&["config", &multi, "--platform", "beos/ppc"]);
    assert!(none.status.code() == Some(1) && err(&none).contains("plan9/mips"), "{none:?}");
}

#[test]
fn an_image_looks_the_same_in_a_registry_and_in_an_archive() {
    let (served, folder) = (served(None), TempDir::new().unwrap());
    let archive = folder.path().join("app.tar");
    std::fs::write(&archive, make::oci_archive(std::slice::from_ref(&served.image))).unwrap();
    let (archive, reference) = (archive.to_str().unwrap(), served.reference("app:v1"));
    let (shown, stored) = (tug(&["inspect", &reference]), tug(&["inspect", archive]));
    for part in ["app:v1", &served.image.platform.to_string(), "in 2 layers", "PATH=/bin", "COPY"] {
        assert!(out(&shown).contains(part) && out(&stored).contains(part), "{part}: {}", out(&shown));
    }
    let named = |text: &str| text.lines().map(|line| line.chars().take(12).collect()).collect::<Vec<String>>();
    assert_eq!(named(out(&shown)), named(out(&stored))[2..], "the same lines");

    let (mut shown, stored) = (
        json(&tug(&["inspect", &reference, "--format", "json"])),
        json(&tug(&["inspect", archive, "--format", "json"])),
    );
    assert_eq!(shown["reference"], reference);
    assert_eq!(
        (&shown["platform"], &shown["env"][0]),
        (&served.image.platform.to_string().into(), &"PATH=/bin".into())
    );
    let mut stored = stored["images"][0].clone();
    // The archive's layers are compressed.
    for one in [&mut shown, &mut stored] {
        let fields = one.as_object_mut().unwrap();
        for own in ["reference", "names", "digest", "size", "layers", "config"] {
            fields.remove(own);
        }
    }
    assert_eq!(shown, stored);
}

#[test]
fn an_index_shows_its_images() {
    let served = served(None);
    let multi = served.reference("multi:v1");
    let shown = tug(&["inspect", &multi]);
    for part in ["plan9/mips, ", "in 1 layer\n", "in 2 layers\n", " attestation\n", served.manifest.digest().as_str()] {
        assert!(out(&shown).contains(part), "{part}: {}", out(&shown));
    }
    let json = json(&tug(&["inspect", &multi, "--format", "json"]));
    assert_eq!(json["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(json["manifests"][0]["image"]["platform"], "plan9/mips");
    assert_eq!(json["manifests"][2]["attestation"], true);
}

#[test]
fn failures_have_their_status() {
    let served = served(None);
    let (missing, broken) = (served.reference("app:v2"), served.reference("broken:v1"));
    let broken_manifest = SampleImage::new(&[], &[b"x"]).manifest(false);
    served.server.registry(|registry| {
        let media_type = broken_manifest.media_type().as_str();
        registry.insert_manifest("broken", Some("v1"), broken_manifest.bytes().clone(), media_type).unwrap();
    });
    for (status, arguments, says) in [
        (1, &["inspect", &missing][..], "MANIFEST_UNKNOWN"),
        (1, &["digest", &missing], "check the repository's name and the tag"),
        (1, &["inspect", &broken], "a manifest names this blob"),
        (1, &["inspect", "127.0.0.1:1/a", "--retries", "0"], "is it running?"),
        (1, &["inspect", "/etc/hosts"], "not an image archive"),
        (1, &["digest", "./does/not/exist"], "no such file"),
        (2, &["inspect", "Not/A/Reference"], "no file here, and no reference either"),
        (2, &["manifest", "a/UPPER"], "lower case"),
        (2, &["config", "a/b", "--platform", "linux"], "linux/arm64"),
        (2, &["manifest"], "REF"),
    ] {
        let failed = tug(arguments);
        assert_eq!(failed.status.code(), Some(status), "{arguments:?}: {failed:?}");
        assert!(failed.stdout.is_empty() && err(&failed).contains(says), "{arguments:?}: {failed:?}");
    }
}

#[test]
fn credentials_are_for_the_registry_of_the_reference() {
    let served = served(Some(Auth::basic("me", "correct horse")));
    let app = served.reference("app:v1");
    assert!(err(&tug(&["inspect", &app])).contains("log in first"));
    let shown = tug(&["inspect", "-v", &app, "-u", "me", "-p", "correct horse"]);
    assert!(out(&shown).contains("in 2 layers") && !err(&shown).contains("horse"), "{shown:?}");
}

#[test]
fn an_artifact_is_told_as_such() {
    let served = served(None);
    let mut artifact = served.manifest.image().unwrap().clone();
    artifact.config = Descriptor::new(MediaType::OCI_EMPTY, Digest::of(b"{}"), 2);
    let artifact = artifact.to_manifest();
    served.server.registry(|registry| {
        let media_type = artifact.media_type().as_str();
        registry.insert_blob("chart", Bytes::from_static(b"{}"));
        registry.insert_manifest("chart", Some("v1"), artifact.bytes().clone(), media_type).unwrap();
    });
    let chart = served.reference("chart:v1");
    assert!(out(&tug(&["inspect", &chart])).contains("it is no image, but an artifact"));
    assert_eq!(tug(&["config", &chart]).stdout, b"{}");
}
