//! C98 and documents that lie; whatever the bytes, an answer and no panic.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::make::{self, TarMaker};
use super::*;

fn archive(config: &str, manifest: &Value) -> TarMaker {
    let image = two_layers(&[]);
    TarMaker::new()
        .file("manifest.json", manifest.to_string().as_bytes())
        .file(config, &image.config())
        .file("1", &image.layers[0])
        .file("2", &image.layers[1])
}

#[test]
fn c98_documents_that_do_not_fit() {
    let good = json!([{"Config": "c.json", "Layers": ["1", "2"]}]);
    assert!(read(archive("c.json", &good).finish()).is_ok());
    for layers in [json!(["1"]), json!(["1", "2", "2"]), json!(null)] {
        let (fault, text) = fault(archive("c.json", &json!([{"Config": "c.json", "Layers": layers}])).finish());
        assert!(matches!(fault, ArchiveFault::Layout { .. }) && text.contains("has 2"), "{text}");
    }
    // One file can't have two digests.
    let same = json!([{"Config": "c.json", "Layers": ["1", "1"]}]);
    assert!(matches!(fault(archive("c.json", &same).finish()).0, ArchiveFault::Layout { .. }));
    for name in
        ["a".repeat(64) + ".json", format!("sha256:{}", "a".repeat(64)), format!("blobs/sha256/{}", "a".repeat(64))]
    {
        let (fault, text) = fault(archive(&name, &json!([{"Config": name, "Layers": ["1", "2"]}])).finish());
        assert!(matches!(fault, ArchiveFault::Mismatch { .. }) && text.contains(&"a".repeat(64)), "{text}");
    }
    for twice in ["manifest.json", "./manifest.json", "c.json", "x/../c.json"] {
        let (fault, text) = fault(archive("c.json", &good).file(twice, b"[]").finish());
        assert!(matches!(fault, ArchiveFault::Tar { .. }), "{text}");
    }
}

/// A layer under a name that is a digest has to be called after the diff_id if it isn't compressed. Under another name a
/// wrong diff_id shows when the layer is sent: what was sent is hashed.
#[test]
fn c98_a_diff_id_that_is_not_the_layer() {
    let image = two_layers(&[]);
    let wrong = format!("blobs/sha256/{}", Digest::of(b"other").encoded());
    let manifest = json!([{"Config": "c.json", "Layers": ["1", wrong]}]);
    let (fault, text) = fault(archive("c.json", &manifest).file(&wrong, &image.layers[1]).finish());
    assert!(matches!(fault, ArchiveFault::Mismatch { .. }) && text.contains(&wrong), "{text}");
}

/// Nothing here unpacks, so that nothing can burst: a layer that says that it is gzip, and is not, is taken as it is.
#[test]
fn c101_compressed_layers_are_not_unpacked() {
    let bomb = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0xff; 100_000]].concat();
    let manifest = json!([{"Config": "c.json", "Layers": ["bomb", "2"]}]);
    let read = read(archive("c.json", &manifest).file("bomb", &bomb).finish()).unwrap();
    let layer = read.images()[0].root().image().unwrap().layers[0].clone();
    assert_eq!((layer.digest, layer.size), (Digest::of(&bomb), bomb.len() as u64));
}

#[test]
fn documents_of_the_wrong_form() {
    let (fault_, text) = fault(archive("c.json", &json!([])).finish());
    assert!(matches!(fault_, ArchiveFault::Json { .. }) && text.contains("list of 0 images"), "{text}");
    for manifest in [json!({}), json!([1]), json!([{"Layers": []}]), json!([{"Config": 1}]), json!("x")] {
        assert!(matches!(fault(archive("c.json", &manifest).finish()).0, ArchiveFault::Json { .. }), "{manifest}");
    }
    let missing = fault(archive("c.json", &json!([{"Config": "c.json", "Layers": ["1", "3/layer.tar"]}])).finish()).1;
    assert!(missing.contains("the layer `3/layer.tar` named by manifest.json is not in the archive"), "{missing}");
    let config = json!([{"Config": "1", "Layers": []}]);
    assert!(fault(archive("c.json", &config).finish()).1.contains("`1` is not the JSON"));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = TarMaker::new().file("manifest.json", deep.as_bytes()).finish();
    assert!(matches!(fault(deep).0, ArchiveFault::Json { .. }));
    let unknown = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "odd:abc", "size": 3}]});
    let layout = |index: &Value, version: &str| {
        TarMaker::new()
            .file("index.json", index.to_string().as_bytes())
            .file("oci-layout", json!({"imageLayoutVersion": version}).to_string().as_bytes())
            .finish()
    };
    assert!(matches!(fault(layout(&unknown, "1.0.0")).0, ArchiveFault::Unsupported { .. }));
    assert!(matches!(fault(layout(&unknown, "2.0.0")).0, ArchiveFault::Unsupported { .. }));
    assert!(matches!(
        fault(layout(&json!({"schemaVersion": 2, "manifests": null}), "1.0.0")).0,
        ArchiveFault::NotAnArchive { .. }
    ));
    let traversal =
        json!({"schemaVersion": 2, "manifests": [{"mediaType": "x", "digest": "sha256:../../x", "size": 3}]});
    assert!(matches!(fault(layout(&traversal, "1.0.0")).0, ArchiveFault::Json { .. }));
}

#[test]
fn examine_finds_every_fault() {
    let manifest = json!([
        {"Config": "c.json", "Layers": ["1", "gone"]},
        {"Config": "gone.json", "Layers": []},
        {"Config": "c.json", "Layers": ["1", "2"], "RepoTags": ["app:v1"]},
    ]);
    let disk = MemoryDisk::with("x.tar", archive("c.json", &manifest).finish());
    let Examined { archive: found, faults } = Archive::examine(&disk, &Path::new("x.tar").into(), &Limits::default());
    assert_eq!((found.unwrap().images().len(), faults.len()), (1, 2), "{faults:?}");
}

fn samples() -> Vec<Bytes> {
    let images = [two_layers(&["app:v1"]), two_layers(&["app:v2"]).on("linux", "arm64")];
    vec![
        make::docker_save_legacy(&images),
        make::docker_save_oci(&images),
        make::docker_save_containerd(&images, 1),
        make::podman_save(&images),
        make::crane_save(&images),
        make::oci_archive(&images),
        make::multi_platform_archive(&images),
    ]
}

/// What is described has to be in the file, whatever was done to it.
fn sane(content: &[u8], archive: &Archive) {
    assert!(!archive.images().is_empty());
    for blob in archive.blobs() {
        if let super::super::BlobContent::File { range, .. } = blob.content() {
            assert!(range.start <= range.end && range.end <= content.len() as u64);
            assert_eq!(range.end - range.start, blob.size());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn mutated_archives_never_panic(
        sample in 0_usize..7,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut content = samples()[sample].to_vec();
        for (at, value, fix) in changes {
            let at = at.index(content.len());
            content[at] = value;
            let record = at / 512 * 512;
            // With its checksum made right again, more of a forged header is looked at.
            if fix && content[record + 257..].starts_with(b"ustar") {
                let sum: u32 = content[record..record + 512].iter().enumerate()
                    .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
                content[record + 148..record + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len()));
        }
        let disk = MemoryDisk::with("x.tar", content.clone());
        let Examined { archive, faults } = Archive::examine(&disk, &Path::new("x.tar").into(), &Limits::default());
        prop_assert!(archive.is_some() || !faults.is_empty());
        if let Some(archive) = archive {
            sane(&content, &archive);
        }
    }

    #[test]
    fn any_bytes_never_panic(content in proptest::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert!(read(content).is_err());
    }

    #[test]
    fn any_documents_never_panic(manifest in "\\PC{0,60}", index in "\\PC{0,60}") {
        let content = TarMaker::new()
            .file("manifest.json", manifest.as_bytes())
            .file("index.json", index.as_bytes())
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
            .finish();
        prop_assert!(read(content).is_err());
    }
}

#[test]
fn an_original_manifest_is_of_the_same_content_or_refused() {
    use base64::Engine as _;

    let image = two_layers(&[]);
    let saved = |manifest: &crate::spec::Manifest, data: &str| {
        let mut original = json!(manifest.descriptor());
        original["data"] = data.into();
        archive("c.json", &json!([{"Config": "c.json", "Layers": ["1", "2"], "OriginalManifest": original}])).finish()
    };
    let encoded = |manifest: &crate::spec::Manifest| base64::engine::general_purpose::STANDARD.encode(manifest.bytes());
    let own = image.manifest(false);
    assert_eq!(read(saved(&own, &encoded(&own))).unwrap().images()[0].root(), &own);
    let other = SampleImage::new(&[], &[b"other", b"layers"]).manifest(false);
    let index = make::index_of(&[image], false);
    for (manifest, data, says) in [
        (&other, encoded(&other), "of another image"),
        (&index, encoded(&index), "of another image"),
        (&own, encoded(&other), "is none"),
        (&own, "?".to_owned(), "no base64"),
    ] {
        let (fault, text) = fault(saved(manifest, &data));
        assert!(matches!(fault, ArchiveFault::Json { .. }) && text.contains(says), "{text}");
    }
}
