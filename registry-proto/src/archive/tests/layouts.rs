//! OCI layouts that are not whole, and archives with both descriptions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::make::{self, MemoryDisk, TarMaker};
use super::super::{ArchiveKind, BlobContent};
use super::*;
use crate::spec::{Descriptor, ImageManifest, Manifest, MediaType};

type Files = BTreeMap<PathBuf, Bytes>;

fn examine(files: Files) -> Examined {
    Archive::examine(&MemoryDisk::folder("dir", files), &Path::new("dir").into(), &Limits::default())
}

fn at(digest: &Digest) -> PathBuf {
    format!("blobs/sha256/{}", digest.encoded()).into()
}

fn put(files: &mut Files, manifest: &Manifest) {
    files.insert(at(manifest.digest()), manifest.bytes().clone());
}

/// A layout whose `index.json` names just these.
fn layout(mut files: Files, roots: &[Descriptor]) -> Files {
    let index = json!({"schemaVersion": 2, "manifests": roots});
    files.insert("index.json".into(), index.to_string().into());
    files.insert("oci-layout".into(), Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#));
    files
}

#[test]
fn a_missing_layer_is_named_and_the_other_image_can_be_used() {
    let (one, two) = (two_layers(&["app:v1"]), SampleImage::new(&["app:v2"], &[b"another"]));
    let mut files = make::oci_folder(&[one, two.clone()]);
    let gone = two.manifest(true).image().unwrap().layers[0].digest.clone();
    files.remove(&at(&gone));
    let Examined { archive, faults } = examine(files);
    assert_eq!(archive.unwrap().images().len(), 1);
    let [fault] = &faults[..] else { panic!("{faults:?}") };
    let text = fault.to_string();
    assert!(matches!(fault.fault(), ArchiveFault::Missing { .. }) && text.contains(gone.as_str()), "{text}");
}

#[test]
fn foreign_layers_may_be_absent_and_inline_content_counts() {
    let mut foreign = Descriptor::new(MediaType::OCI_FOREIGN_LAYER, Digest::of(b"windows"), 7);
    foreign.urls = vec!["https://mcr.example/x".into()];
    let mut config = Descriptor::new(MediaType::OCI_EMPTY, Digest::of(b"{}"), 2);
    config.data = Some("e30=".into());
    let manifest = ImageManifest {
        media_type: Some(MediaType::OCI_MANIFEST),
        artifact_type: None,
        config,
        layers: vec![foreign],
        subject: None,
        annotations: BTreeMap::new(),
    };
    let manifest = manifest.to_manifest();
    let mut files = layout(Files::new(), &[manifest.descriptor()]);
    put(&mut files, &manifest);
    let Examined { archive, faults } = examine(files);
    assert!(faults.is_empty(), "{faults:?}");
    let archive = archive.unwrap();
    let blobs: Vec<_> = archive.blobs().map(|blob| blob.content().clone()).collect();
    assert_eq!(blobs, [BlobContent::Bytes(Bytes::from_static(b"{}"))]);
}

#[test]
fn wrong_bytes_and_wrong_sizes_are_refused() {
    let image = two_layers(&["app:v1"]);
    let manifest = image.manifest(true);
    let config = &manifest.image().unwrap().config.digest;
    let layer = &manifest.image().unwrap().layers[0].digest;
    for (digest, content) in [
        (manifest.digest(), Bytes::from_static(b"{}")),
        (config, Bytes::from(image.config().to_ascii_uppercase())),
        (layer, Bytes::from_static(b"short")),
    ] {
        let mut files = make::oci_folder(std::slice::from_ref(&image));
        files.insert(at(digest), content);
        let Examined { archive, faults } = examine(files);
        assert!(archive.is_none() && matches!(faults[0].fault(), ArchiveFault::Mismatch { .. }), "{faults:?}");
        assert!(faults[0].to_string().contains(digest.as_str()));
    }
}

#[test]
fn an_index_keeps_held_attestations_and_needs_a_held_platform() {
    let (one, two) = (two_layers(&[]), two_layers(&[]).on("linux", "arm64"));
    let attestation = SampleImage::new(&[], &[b"in-toto"]).on("unknown", "unknown");
    let all = [one.clone(), two, attestation.clone()];
    let index = make::index_of(&all, true);
    let pruned = |gone: &[&SampleImage]| {
        let mut files = make::multi_platform_folder(&all);
        for image in gone {
            files.remove(&at(image.manifest(true).digest()));
        }
        examine(files)
    };
    let Examined { archive, faults } = pruned(&[]);
    assert_eq!((archive.unwrap().images()[0].root().digest(), faults.len()), (index.digest(), 0));
    let Examined { archive, .. } = pruned(&[&all[1]]);
    let archive = archive.unwrap();
    let platforms: Vec<_> = archive.images()[0].root().index().unwrap().manifests.iter().map(|m| &m.platform).collect();
    assert_eq!(platforms, [&Some(one.platform), &Some(attestation.platform.clone())]);
    assert!(attestation.platform.is_unknown() && archive.images()[0].manifests().len() == 3);
    let Examined { archive, faults } = pruned(&[&all[0], &all[1]]);
    assert!(archive.is_none() && matches!(faults[0].fault(), ArchiveFault::Missing { .. }), "{faults:?}");
    // A platform that lacks a layer is not held either.
    let mut files = make::multi_platform_folder(&all);
    files.remove(&at(&attestation.manifest(true).image().unwrap().layers[0].digest));
    let Examined { archive, faults } = examine(files);
    assert_eq!((archive.unwrap().images()[0].manifests().len(), faults.len()), (3, 0));
}

#[test]
fn nesting_has_a_limit_and_a_reduced_index_changes_those_above() {
    let (one, two) = (two_layers(&[]), two_layers(&[]).on("linux", "arm64"));
    let mut files = make::oci_folder(std::slice::from_ref(&one));
    let mut root = make::index_of(&[one, two], true);
    for depth in 1..7 {
        put(&mut files, &root);
        let Examined { archive, faults } = examine(layout(files.clone(), &[root.descriptor()]));
        if depth <= 4 {
            let archive = archive.unwrap();
            let manifests = archive.images()[0].manifests();
            assert_eq!((manifests.len(), faults.len()), (depth + 1, 0), "{faults:?}");
            for (child, parent) in manifests.iter().zip(&manifests[1..]) {
                assert_eq!(&parent.index().unwrap().manifests[0].digest, child.digest());
            }
        } else {
            assert!(archive.is_none() && matches!(faults[0].fault(), ArchiveFault::TooLarge { .. }));
        }
        let above = json!({"schemaVersion": 2, "manifests": [root.descriptor()]}).to_string();
        root = Manifest::parse(above.into(), Some(MediaType::OCI_INDEX.as_str()), None).unwrap();
    }
}

#[test]
fn what_describes_a_reduced_index_describes_the_new_one() {
    let (one, two) = (two_layers(&[]), two_layers(&[]).on("linux", "arm64"));
    let attestation = SampleImage::new(&[], &[b"in-toto"]).on("unknown", "unknown");
    let mut files = make::oci_folder(&[one.clone(), attestation.clone()]);
    let below = make::index_of(&[one, two], true);
    put(&mut files, &below);
    let described = Descriptor { data: Some("e30=".into()), ..below.descriptor() };
    let about = ("vnd.docker.reference.digest".to_owned(), below.digest().to_string());
    let attests = Descriptor {
        platform: Some(attestation.platform.clone()),
        annotations: BTreeMap::from([about]),
        ..attestation.manifest(true).descriptor()
    };
    let root = json!({"schemaVersion": 2, "manifests": [described, attests]}).to_string();
    let root = Manifest::parse(root.into(), Some(MediaType::OCI_INDEX.as_str()), None).unwrap();
    put(&mut files, &root);
    let Examined { archive, faults } = examine(layout(files, &[root.descriptor()]));
    assert!(faults.is_empty(), "{faults:?}");
    let archive = archive.unwrap();
    let [child, attests] = &archive.images()[0].root().index().unwrap().manifests[..] else { panic!() };
    assert!(child.digest != *below.digest() && child.data.is_none(), "{child:?}");
    assert_eq!(attests.attests().as_ref(), Some(&child.digest));
}

#[test]
fn names_of_one_digest_are_merged_and_strange_roots_left_out() {
    let image = two_layers(&[]);
    let name = |value: &str| Descriptor {
        annotations: BTreeMap::from([("org.opencontainers.image.ref.name".into(), value.into())]),
        ..image.manifest(true).descriptor()
    };
    let strange = Descriptor::new(MediaType::new("application/x-strange"), Digest::of(b"{}"), 2);
    let mut files = make::oci_folder(std::slice::from_ref(&image));
    files.insert(at(&strange.digest), Bytes::from_static(b"{}"));
    let roots = [name("v1"), name("localhost/a:v1"), name("_x"), name("a b"), name("a:_x"), strange];
    let Examined { archive, faults } = examine(layout(files, &roots));
    let archive = archive.unwrap();
    assert_eq!((archive.images().len(), faults.len(), archive.notes().len()), (1, 0, 2), "{:?}", archive.notes());
    assert_eq!(written(&archive.images()[0]), ["localhost/a:v1", "a:_x"]);
}

/// moby#47065: Docker 25.0-rc wrote OCI manifests without layers beside a good `manifest.json`.
#[test]
fn a_manifest_without_layers_gives_way_to_manifest_json() {
    let image = two_layers(&["app:v1"]);
    let mut hollow = image.manifest(false).image().unwrap().clone();
    hollow.layers.clear();
    let hollow = hollow.to_manifest();
    let build = |config: &Value| {
        let blob = |content: &[u8]| format!("blobs/sha256/{}", Digest::of(content).encoded());
        let layers: Vec<String> = image.layers.iter().map(|layer| blob(layer)).collect();
        let maker = TarMaker::new()
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", json!({"schemaVersion": 2, "manifests": [hollow.descriptor()]}).to_string().as_bytes())
            .file(
                "manifest.json",
                json!([{"Config": config, "Layers": layers, "RepoTags": ["app:v1"]}]).to_string().as_bytes(),
            )
            .file(&blob(hollow.bytes()), hollow.bytes())
            .file(&blob(&image.config()), &image.config());
        image.layers.iter().fold(maker, |maker, layer| maker.file(&blob(layer), layer)).finish()
    };
    let archive = read(build(&at(&Digest::of(&image.config())).to_str().unwrap().into())).unwrap();
    assert_eq!((archive.kind(), archive.images().len()), (ArchiveKind::DockerSaveOci, 1));
    assert_eq!(archive.images()[0].root().image().unwrap().layer_count(), 2);
    assert!(archive.notes()[0].contains("0 layers"), "{:?}", archive.notes());
    assert!(fault(build(&"nothing.json".into())).1.contains("nothing.json"));
}

#[test]
fn folders_and_paths_that_are_nothing() {
    let disk = MemoryDisk::with("dir/file", &b"x"[..]);
    let read = |path: &str| Archive::read(&disk, &Path::new(path).into(), &Limits::default()).unwrap_err();
    assert!(matches!(read("dir").fault(), ArchiveFault::NotAnArchive { .. }));
    assert!(matches!(read("nowhere").fault(), ArchiveFault::Io { .. }));
}
