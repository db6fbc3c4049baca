//! Archives that must not be pushed: a clear error, before the first byte is sent, or, where only the bytes tell, before
//! anything is committed.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage, TarMaker};
use registry_proto::flow::{Destination, Push, PushOptions};
use registry_proto::job::FailureKind;
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::simulation::Simulation;
use registry_proto::{Config, Error, Session};
use registry_tests::on_hand_made_runtimes_too;
use registry_tests::runtimes::Runtime;
use registry_tokio::serve::Server;

/// Pushes to the original tags; the error, and how much was asked of the registry until then.
fn push(archive: Bytes) -> (Error, usize) {
    let mut world = Simulation::new(1, Registry::new(Profile::strict()), MemoryDisk::with("app.tar", archive));
    let mut session = Session::new(Config::default(), 1);
    let push = Push::new(Path::new("app.tar"), Destination::OriginalTags, PushOptions::default());
    let ran = world.run(&mut session, push);
    (ran.result.unwrap_err(), ran.requests.len())
}

fn docker_save(manifest: &str, files: &[(&str, &[u8])]) -> Bytes {
    let tar = files.iter().fold(TarMaker::new(), |tar, (name, content)| tar.file(name, content));
    tar.file("manifest.json", manifest.as_bytes()).finish()
}

/// An OCI archive as skopeo writes it: the image's name is just its tag.
fn only_tag() -> Bytes {
    let mut files = make::oci_folder(&[SampleImage::new(&["app:v1"], &[b"one"])]);
    let index = files.get_mut(Path::new("index.json")).unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(index).unwrap();
    value["manifests"][0]["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "v1"});
    *index = value.to_string().into();
    let tar = TarMaker::new();
    files.iter().fold(tar, |tar, (name, content)| tar.file(name.to_str().unwrap(), content)).finish()
}

const ONE_LAYER: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers",
    "diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#;

#[test]
fn nothing_is_asked_of_anybody() {
    let image = SampleImage::new(&["localhost:5000/app:v1"], &[b"one", b"two"]);
    let whole = make::docker_save_legacy(std::slice::from_ref(&image));
    let cut = whole.slice(..whole.len() / 2);
    let only_tag = only_tag();
    let cases: [(&str, Bytes, &[&str]); 7] = [
        ("a tag without a repository", only_tag, &["`v1` names a tag but no repository", "give a reference"]),
        (
            "a layer that is not there",
            docker_save(
                r#"[{"Config":"c.json","RepoTags":["localhost:5000/app:v1"],"Layers":["gone/layer.tar"]}]"#,
                &[("c.json", ONE_LAYER)],
            ),
            &["gone/layer.tar"],
        ),
        (
            "a configuration that is not there",
            docker_save(r#"[{"Config":"c.json","RepoTags":["localhost:5000/app:v1"],"Layers":[]}]"#, &[]),
            &["c.json"],
        ),
        (
            "a configuration that is no JSON",
            docker_save(
                r#"[{"Config":"c.json","RepoTags":["localhost:5000/app:v1"],"Layers":[]}]"#,
                &[("c.json", b"architecture: amd64")],
            ),
            &["c.json", "JSON"],
        ),
        ("no tar", Bytes::from_static(b"#!/bin/sh\necho hello\n"), &["not an image archive"]),
        ("a tar of something else", docker_save("[]", &[("hello", b"world")]), &["image"]),
        ("half a tar", cut, &["cut off"]),
    ];
    for (what, archive, says) in cases {
        let (error, requests) = push(archive);
        let text = error.to_string();
        assert_eq!(requests, 0, "{what}: {text}");
        for part in says {
            assert!(text.contains(part), "{what}: {text}");
        }
        assert!(text.contains("app.tar"), "{what}: it says which archive: {text}");
    }
}

/// An OCI archive in which a layer's bytes are not what their digest says.
fn damaged() -> Bytes {
    let good = vec![b'x'; 300_000];
    let mut bytes = make::oci_archive(&[SampleImage::new(&["app:v1"], &[&good])]).to_vec();
    let at = bytes.windows(1000).position(|window| window.iter().all(|byte| *byte == b'x')).unwrap();
    bytes[at + 150_000] = b'y';
    bytes.into()
}

fn nothing_wrong_is_committed(runtime: Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.tar");
    fs::write(&path, damaged()).unwrap();
    let tokio = ::tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // A registry that believes whatever digest it is told, as far as the test is concerned: its ledger would show it.
    let server = tokio.block_on(Server::bind(([127, 0, 0, 1], 0).into(), Registry::new(Profile::strict()))).unwrap();
    let to = Destination::Below(server.address().to_string());
    let error = runtime.run(Config::default(), Push::new(path, to, PushOptions::default())).unwrap_err();
    assert!(matches!(&error, Error::Local(why) if why.kind() == FailureKind::Mismatch), "{error:?}");
    assert!(error.to_string().contains("damaged"), "{error}");
    server.registry(|registry| {
        assert_eq!(registry.ledger().mismatches, [], "the wrong digest was never claimed");
        assert!(registry.tags("app").is_empty());
    });
}

on_hand_made_runtimes_too!(nothing_wrong_is_committed);
