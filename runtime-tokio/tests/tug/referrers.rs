//! `tug referrers` as its users meet it.

use bytes::Bytes;
use registry_proto::archive::make::SampleImage;
use registry_proto::spec::{Descriptor, Digest, ImageManifest, Manifest, MediaType};
use registry_proto::testing::registry::{Profile, Registry};
use registry_tokio::serve::Server;

use crate::run::{err, printed, runtime, tug};

fn put(registry: &mut Registry, tag: Option<&str>, manifest: &Manifest) {
    let media_type = manifest.media_type().as_str();
    registry.insert_manifest("app", tag, manifest.bytes().clone(), media_type).unwrap();
}

/// Something said about a manifest.
fn about(registry: &mut Registry, subject: &Manifest, kind: &str) -> Manifest {
    let blob = registry.insert_blob("app", Bytes::from_static(b"{}"));
    let manifest = ImageManifest {
        media_type: None,
        artifact_type: Some(MediaType::new(kind)),
        config: Descriptor::new(MediaType::OCI_EMPTY, blob, 2),
        layers: Vec::new(),
        subject: Some(subject.descriptor()),
        annotations: [("note".to_owned(), "hello".to_owned())].into(),
    }
    .to_manifest();
    put(registry, None, &manifest);
    manifest
}

#[test]
fn a_line_for_each() {
    let mut registry = Registry::new(Profile::strict());
    let image = SampleImage::new(&[], &[b"a layer"]).manifest(false);
    put(&mut registry, Some("v1"), &image);
    let kinds = ["application/vnd.example.sbom+json", "application/vnd.example.signature"];
    let mut all: Vec<Manifest> = kinds.iter().map(|kind| about(&mut registry, &image, kind)).collect();
    all.sort_by(|one, other| one.digest().cmp(other.digest()));
    let runtime = runtime();
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
    let reference = format!("{}/app:v1", server.address());

    let listed = tug(&["referrers", &reference]);
    assert!(listed.status.success(), "{listed:?}");
    let line = |one: &Manifest| {
        let kind = one.image().unwrap().artifact_type.clone().unwrap();
        format!("{} {kind} {}\n", one.digest(), one.size())
    };
    assert_eq!((printed(&listed), err(&listed)), (&*all.iter().map(line).collect::<String>(), ""));

    let some = tug(&["referrers", &reference, "--artifact-type", kinds[0]]);
    assert!(printed(&some).lines().count() == 1 && printed(&some).contains(kinds[0]), "{some:?}");

    let json = tug(&["referrers", &reference, "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(printed(&json)).unwrap();
    assert_eq!(json["reference"], reference);
    assert_eq!(json["referrers"].as_array().unwrap().len(), 2);
    assert_eq!(json["referrers"][0]["digest"], all[0].digest().as_str());
    assert_eq!(json["referrers"][0]["annotations"]["note"], "hello");

    let nobody = tug(&["referrers", &format!("{}/app@{}", server.address(), Digest::of(b""))]);
    assert!(nobody.status.success() && printed(&nobody).is_empty(), "nothing is said: {nobody:?}");
}

#[test]
fn failures_have_their_status() {
    for (status, arguments, says) in [
        (2, &["referrers"][..], "REF"),
        (2, &["referrers", "a/b", "--artifact-type", "so what"], "application/spdx+json"),
        (1, &["referrers", "127.0.0.1:1/a", "--retries", "0"], "is it running?"),
    ] {
        let failed = tug(arguments);
        assert_eq!(failed.status.code(), Some(status), "{arguments:?}: {failed:?}");
        assert!(printed(&failed).is_empty() && err(&failed).contains(says), "{arguments:?}: {failed:?}");
    }
}
