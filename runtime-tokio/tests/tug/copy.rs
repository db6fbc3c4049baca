//! `tug copy` as its users meet it.

use std::path::Path;

use bytes::Bytes;
use registry_proto::archive::make::{self, SampleImage};
use registry_proto::spec::{Descriptor, ImageManifest, Manifest, MediaType, Tag};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_tokio::serve::Server;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::run::{err, printed, runtime, tug_reading};

fn server(runtime: &Runtime, auth: Option<Auth>) -> (Server, String) {
    let profile = Profile { requires_auth: auth, ..Profile::distribution_3() };
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), Registry::new(profile))).unwrap();
    let address = server.address().to_string();
    (server, address)
}

fn archive(folder: &Path) -> String {
    let path = folder.join("app.tar");
    let layer = vec![7; 300_000];
    std::fs::write(&path, make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &[b"a layer", &layer])])).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn from_one_registry_to_another_and_within_one() {
    let runtime = runtime();
    let ((here, from), (there, to)) = (server(&runtime, None), server(&runtime, None));
    let folder = TempDir::new().unwrap();
    let pushed = tug_reading(&["push", "-q", &archive(folder.path()), &format!("{from}/app:v1")], "");
    assert!(pushed.status.success(), "{pushed:?}");

    let copied =
        tug_reading(&["copy", &format!("{from}/app:v1"), &format!("{to}/mirror/app:v2"), "--chunk-size", "64K"], "");
    assert!(copied.status.success(), "{copied:?}");
    assert_eq!(printed(&copied), printed(&pushed), "the digest, and nothing else");
    assert!(err(&copied).contains("3 of 3 blobs sent"), "{copied:?}");
    let digest = printed(&pushed).trim_end();
    let at = |server: &Server, name: &str, tag: &str| server.registry(|registry| registry.manifest(name, tag));
    assert_eq!(at(&there, "mirror/app", "v2"), at(&here, "app", digest));

    let again = tug_reading(&["cp", "-q", &format!("{from}/app:v1"), &format!("{to}/mirror/app:v2")], "");
    assert_eq!((printed(&again), err(&again)), (printed(&pushed), ""));

    let within = tug_reading(&["cp", &format!("{to}/mirror/app:v2"), &format!("{to}/other"), "--format", "json"], "");
    let within: serde_json::Value = serde_json::from_str(printed(&within)).unwrap();
    assert_eq!((&within["digest"], &within["mounted"], &within["sent"]), (&digest.into(), &3.into(), &0.into()));
    assert_eq!(within["references"][0]["reference"], format!("{to}/other:latest"));
}

#[test]
fn each_registry_gets_its_own_password() {
    let runtime = runtime();
    let (_here, from) = server(&runtime, Some(Auth::basic("reader", "swordfish")));
    let (_there, to) = server(&runtime, Some(Auth::basic("writer", "correct horse")));
    let folder = TempDir::new().unwrap();
    let source = format!("{from}/app:v1");
    let log_in = ["-u", "reader", "-p", "swordfish"];
    let pushed = tug_reading(&[&["push", "-q", &archive(folder.path()), &source], &log_in[..]].concat(), "");
    assert!(pushed.status.success(), "{pushed:?}");

    let copy = |flags: &[&str], input: &str| {
        tug_reading(&[&["copy", "-v", &source, &format!("{to}/app:v1")], flags].concat(), input)
    };
    let reader = ["--from-username", "reader", "--from-password", "swordfish"];
    let writer = ["-u", "writer", "--password-stdin"];
    let copied = copy(&[&reader[..], &writer].concat(), "correct horse\n");
    assert!(copied.status.success(), "{copied:?}");
    assert!(!err(&copied).contains("swordfish") && !err(&copied).contains("correct horse"), "{copied:?}");

    let swapped = copy(&["--from-username", "reader", "--from-password-stdin", "-u", "writer", "-p", "x"], "swordfish");
    assert_eq!(swapped.status.code(), Some(1), "{swapped:?}");
    assert!(err(&swapped).contains(&format!("http://{to}/")), "the destination refuses: {swapped:?}");
    let nobody = copy(&["-u", "writer", "-p", "correct horse"], "");
    assert!(err(&nobody).contains(&format!("http://{from}/")) && err(&nobody).contains("log in first"), "{nobody:?}");
}

/// Something said about a manifest.
fn about(registry: &mut Registry, subject: &Manifest) -> Manifest {
    let blob = registry.insert_blob("app", Bytes::from_static(b"{}"));
    let manifest = ImageManifest {
        media_type: None,
        artifact_type: Some(MediaType::new("application/vnd.example.signature")),
        config: Descriptor::new(MediaType::OCI_EMPTY, blob, 2),
        layers: Vec::new(),
        subject: Some(subject.descriptor()),
        annotations: std::collections::BTreeMap::new(),
    };
    let manifest = manifest.to_manifest();
    registry.insert_manifest("app", None, manifest.bytes().clone(), manifest.media_type().as_str()).unwrap();
    manifest
}

#[test]
fn all_tags_and_what_refers_to_them() {
    let runtime = runtime();
    let ((here, from), (there, to)) = (server(&runtime, None), server(&runtime, None));
    let folder = TempDir::new().unwrap();
    for tag in ["v1", "v2"] {
        let pushed = tug_reading(&["push", "-q", &archive(folder.path()), &format!("{from}/app:{tag}")], "");
        assert!(pushed.status.success(), "{pushed:?}");
    }
    let signature = here.registry(|registry| {
        let (bytes, media_type) = registry.manifest("app", "v1").unwrap();
        let signature = about(registry, &Manifest::parse(bytes, Some(&media_type), None).unwrap());
        let list = serde_json::json!({ "schemaVersion": 2, "manifests": [signature.referrer()] }).to_string();
        let tag = Tag::of_referrers(&signature.subject().unwrap().digest);
        registry.insert_manifest("app", Some(tag.as_str()), list.into(), MediaType::OCI_INDEX.as_str()).unwrap();
        signature
    });

    let one = tug_reading(&["copy", "-q", &format!("{from}/app:v1"), &format!("{to}/one:v1"), "--referrers"], "");
    assert!(one.status.success() && printed(&one).lines().count() == 1, "{one:?}");
    let held = |name: &str| there.registry(|registry| registry.manifest(name, signature.digest().as_str()));
    assert!(held("one").is_some() && held("app").is_none());

    let all = tug_reading(&["copy", "-q", &format!("{from}/app"), &format!("{to}/app"), "--all-tags"], "");
    let digest = printed(&one).trim_end();
    let lines = ["v1", "v2"].map(|tag| format!("{digest} {to}/app:{tag}\n")).concat();
    assert_eq!((printed(&all), err(&all)), (&*lines, ""));
    assert!(all.status.success() && held("app").is_some(), "the list of what refers to it is a tag, too: {all:?}");

    // A tag that can't be copied is told, and stops nothing.
    let strange = "{\"x\":1}";
    here.registry(|registry| {
        registry.insert_manifest("app", Some("strange"), strange.into(), "application/vnd.example+json").unwrap();
    });
    let some = tug_reading(
        &["copy", &format!("{from}/app"), &format!("{to}/some"), "--all-tags", "--referrers", "--format", "json"],
        "",
    );
    assert_eq!(some.status.code(), Some(1), "{some:?}");
    assert!(err(&some).contains("1 could not be copied, such as") && err(&some).contains("/app:strange"), "{some:?}");
    let json: serde_json::Value = serde_json::from_str(printed(&some)).unwrap();
    assert_eq!((&json["references"][1]["digest"], json["references"].as_array().unwrap().len()), (&digest.into(), 2));
    assert_eq!(json["referrers"][0], signature.digest().as_str());
    assert!(json["leftOut"][0]["reference"].as_str().unwrap().ends_with("/app:strange"), "{json}");
}

#[test]
fn failures_have_their_status() {
    for (status, arguments, says) in [
        (2, &["copy", "a/b"][..], "DST"),
        (2, &["copy", "a/b", "a/UPPER"], "a/UPPER"),
        (2, &["copy", "a/b", "c/d", "--platform", "linux"], "os/architecture"),
        (2, &["copy", "a/b", "c/d", "--chunk-size", "0"], "5242880"),
        (2, &["copy", "x.io/b", "c/d", "--from-username", "me"], "--from-password-stdin"),
        (2, &["copy", "a/b", "c/d", "--from-username", "me", "--from-password", "x"], "--username instead"),
        (2, &["copy", "a/b:v1", "c/d", "--all-tags"], "name it without a tag"),
        (1, &["copy", "127.0.0.1:1/a", "127.0.0.1:1/b", "--retries", "0"], "is it running?"),
    ] {
        let failed = tug_reading(arguments, "");
        assert_eq!(failed.status.code(), Some(status), "{arguments:?}: {failed:?}");
        assert!(printed(&failed).is_empty() && err(&failed).contains(says), "{arguments:?}: {failed:?}");
    }
}
