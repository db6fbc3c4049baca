//! `tug serve --dir`: what was acknowledged is there again.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::spec::{Algorithm, Digest};
use serde_json::json;
use tempfile::TempDir;

use crate::run::{command, err, out, tug};

/// The command at work, until it is killed.
struct Served(Child, String);

impl Served {
    fn of(folder: &Path) -> Self {
        let arguments = ["serve", "--addr", "127.0.0.1:0", "--dir", folder.to_str().unwrap()];
        let mut child = command().args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self(child, address.trim_end().to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn what_is_kept_is_there_again() {
    let folder = TempDir::new().unwrap();
    let archive = folder.path().join("app.tar");
    fs::write(&archive, make::docker_save_legacy(&[SampleImage::new(&["app:v1", "app:v2"], &[b"a layer", b"more"])]))
        .unwrap();
    let kept = folder.path().join("kept");
    let pushed = {
        let served = Served::of(&kept);
        let pushed = tug(&["push", archive.to_str().unwrap(), "--prefix", &served.1]);
        out(&tug(&["push", archive.to_str().unwrap(), &format!("{}/other:v1", served.1)]));
        out(&pushed).split(' ').next().unwrap().to_owned()
    };
    // It was killed, not stopped.
    {
        let served = Served::of(&kept);
        assert_eq!(out(&tug(&["catalog", &served.1])), "app\nother\n");
        assert_eq!(out(&tug(&["tags", &format!("{}/app", served.1)])), "v1\nv2\n");
        assert_eq!(out(&tug(&["digest", &format!("{}/app:v2", served.1)])).trim_end(), pushed);
        let back = folder.path().join("back.tar");
        out(&tug(&["pull", "--all-platforms", &format!("{}/app:v1", served.1), back.to_str().unwrap()]));
        assert_eq!(out(&tug(&["validate", back.to_str().unwrap()])), "ok\n");
        out(&tug(&["delete", &format!("{}/app:v1", served.1)]));
    }
    {
        let served = Served::of(&kept);
        let gone = tug(&["digest", &format!("{}/app:v1", served.1)]);
        assert!(gone.status.code() == Some(1) && err(&gone).contains("404"), "{gone:?}");
        assert_eq!(out(&tug(&["tags", &format!("{}/other", served.1)])), "v1\n");
    }
    // What is damaged is not served.
    let blobs = kept.join("blobs/sha256");
    let blob = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
    fs::write(&blob, b"something else").unwrap();
    let refused = tug(&["serve", "--addr", "127.0.0.1:0", "--dir", kept.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("damaged") && err(&refused).contains("name another folder"), "{refused:?}");
}

/// A manifest that was put by another algorithm's digest is kept, and found again, under that.
#[test]
fn other_algorithms_are_kept() {
    let folder = TempDir::new().unwrap();
    let image = SampleImage::new(&[], &[b"a layer"]);
    let manifest = image.manifest(false);
    let digest = Digest::compute(Algorithm::Sha512, manifest.bytes());
    let write = |digest: &Digest, bytes: &[u8]| {
        let folder = folder.path().join("blobs").join(digest.algorithm_name());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(digest.encoded()), bytes).unwrap();
    };
    write(&digest, manifest.bytes());
    let blobs = image.layers.iter().cloned().chain([image.config()]).map(|blob| {
        write(&Digest::of(&blob), &blob);
        Digest::of(&blob).to_string()
    });
    let blobs: Vec<String> = blobs.collect();
    let digest = digest.as_str();
    let held = json!({ "app": {
        "blobs": blobs, "manifests": { digest: manifest.media_type().as_str() }, "tags": { "v1": digest }
    } });
    fs::write(folder.path().join("repositories.json"), held.to_string()).unwrap();
    for _ in 0..2 {
        let served = Served::of(folder.path());
        let shown = tug(&["manifest", &format!("{}/app@{digest}", served.1)]);
        assert_eq!(out(&shown).as_bytes(), &manifest.bytes()[..]);
        // Something changes, so that everything is kept anew.
        out(&tug(&["tag", &format!("{}/app@{digest}", served.1), "v2"]));
    }
    let served = Served::of(folder.path());
    assert_eq!(out(&tug(&["tags", &format!("{}/app", served.1)])), "v1\nv2\n");
}
