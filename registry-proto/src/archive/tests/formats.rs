//! C95, C96: the same image from every format; names.

use serde_json::json;

use super::super::make::{self, TarMaker, gzip_stored};
use super::super::{ArchiveKind, BlobContent, Compression};
use super::*;
use crate::spec::{MediaType, Platform};

/// Every blob is really where the archive says, and hashes to its digest.
fn check_blobs(archive: &Archive, content: &[u8]) {
    for blob in archive.blobs() {
        let BlobContent::File { range, .. } = blob.content() else { panic!("{blob:?}") };
        let bytes = &content[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        assert_eq!((&Digest::of(bytes), bytes.len() as u64), (blob.digest(), blob.size()));
    }
    for digest in archive.images().iter().flat_map(|image| image.blob_digests()) {
        assert!(archive.blob(&digest).is_some(), "{digest}");
    }
}

#[test]
fn c95_every_format_gives_the_same_image() {
    let image = two_layers(&["app:v1"]);
    let images = [image.clone()];
    let dotted = TarMaker::new()
        .folder("./")
        .file(
            "./manifest.json",
            json!([{"Config": "./c.json", "Layers": ["1.tar", "x//./2.tar"], "RepoTags": ["app:v1"]}])
                .to_string()
                .as_bytes(),
        )
        .file("./c.json", &image.config())
        .file("./x/2.tar", &image.layers[1])
        .file("./1.tar", &image.layers[0])
        .finish();
    for (content, kind, raw) in [
        (make::docker_save_legacy(&images), ArchiveKind::DockerSave, true),
        (make::docker_save_oci(&images), ArchiveKind::DockerSaveOci, true),
        (make::docker_save_containerd(&images, 1), ArchiveKind::DockerSaveOci, false),
        (make::podman_save(&images), ArchiveKind::DockerSave, true),
        (make::crane_save(&images), ArchiveKind::DockerSave, false),
        (make::oci_archive(&images), ArchiveKind::OciArchive, false),
        (dotted, ArchiveKind::DockerSave, true),
    ] {
        let archive = read(content.clone()).unwrap();
        assert_eq!((archive.kind(), archive.notes()), (kind, &[][..]));
        check_blobs(&archive, &content);
        let [found] = archive.images() else { panic!("{kind:?}") };
        let reference: Vec<String> = found.names().iter().map(|name| name.reference().unwrap().to_string()).collect();
        assert_eq!(reference, ["docker.io/library/app:v1"]);
        let manifest = found.manifests()[0].image().unwrap();
        assert_eq!(manifest.config.digest, Digest::of(&image.config()));
        assert_eq!(manifest.config.size, image.config().len() as u64);
        let layers: Vec<Digest> = manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
        let gzip: Vec<Digest> = image.layers.iter().map(|layer| Digest::of(&gzip_stored(layer))).collect();
        assert_eq!(layers, if raw { digests(&image) } else { gzip });
        if let Some(config) = found.config() {
            assert_eq!(config.rootfs.diff_ids, digests(&image));
        }
    }
}

#[test]
fn c95_a_compressed_archive_says_how_to_go_on() {
    let (fault, text) = fault(gzip_stored(&make::docker_save_legacy(&[two_layers(&["app:v1"])])));
    assert!(matches!(fault, ArchiveFault::Compressed(Compression::Gzip)));
    assert!(text.contains("gzip-compressed; decompress it first (`gunzip`)"), "{text}");
    for magic in [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0][..], b"\xfd7zXZ\0", b"BZh91AY"] {
        assert!(matches!(super::fault(magic.to_vec()).0, ArchiveFault::Compressed(_)));
    }
}

#[test]
fn c95_own_manifests_are_kept_to_the_byte() {
    let image = two_layers(&["app:v1"]);
    let archive = read(make::docker_save_oci(std::slice::from_ref(&image))).unwrap();
    assert_eq!(archive.images()[0].root().bytes(), image.manifest(false).bytes());
    let folder = MemoryDisk::folder("dir", make::oci_folder(std::slice::from_ref(&image)));
    let archive = Archive::read(&folder, &Path::new("dir").into(), &Limits::default()).unwrap();
    assert_eq!(archive.kind(), ArchiveKind::OciFolder);
    assert_eq!(archive.images()[0].root().bytes(), image.manifest(true).bytes());
    for blob in archive.blobs() {
        let BlobContent::File { path, range } = blob.content() else { panic!("{blob:?}") };
        assert_eq!((folder.0[&**path].len() as u64, range.start), (range.end, 0));
        assert_eq!(&Digest::of(&folder.0[&**path]), blob.digest());
    }
}

#[test]
fn c96_two_images_three_tags_and_a_shared_layer() {
    let one = two_layers(&["app:v1", "app:latest"]);
    let two = SampleImage::new(&["reg.example:5000/b:1", "app:NO WAY"], &[b"another", b"the second layer"]);
    let none = SampleImage::new(&[], &[b"alone"]);
    for make in [make::docker_save_legacy, make::podman_save, make::crane_save, make::docker_save_oci] {
        let archive = read(make(&[one.clone(), two.clone(), none.clone()])).unwrap();
        let [first, second, third] = archive.images() else { panic!() };
        let tags = |image: &super::super::ArchiveImage| -> Vec<String> {
            image.names().iter().map(|name| name.reference().unwrap().familiar()).collect()
        };
        assert_eq!(tags(first), ["app:v1", "app:latest"]);
        assert_eq!(tags(second), ["reg.example:5000/b:1"]);
        assert_eq!(tags(third), [""; 0]);
        assert!(archive.notes().iter().any(|note| note.contains("app:NO WAY")), "{:?}", archive.notes());
        assert_eq!(archive.blobs().count(), 3 + 4);
    }
}

#[test]
fn c96_one_name_on_two_images_stays_with_the_last() {
    let two = SampleImage::new(&["app:v1"], &[b"another"]);
    let archive = read(make::docker_save_legacy(&[two_layers(&["app:v1"]), two])).unwrap();
    assert_eq!((written(&archive.images()[0]).len(), written(&archive.images()[1])), (0, vec!["app:v1"]));
    assert!(archive.notes()[0].contains("names two images"));
}

#[test]
fn compressed_layers_under_other_names_are_hashed_and_typed() {
    let image = two_layers(&[]);
    let zstd: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3];
    let gzip = gzip_stored(&image.layers[0]);
    // A name that is the diff_id can't be that of the compressed bytes.
    let second = format!("{}.tar.gz", Digest::of(&image.layers[1]).encoded());
    let manifest = json!([{"Config": "c.json", "Layers": ["v1/layer.tar", second]}]).to_string();
    let archive = |second_layer: &[u8]| {
        TarMaker::new()
            .file("manifest.json", manifest.as_bytes())
            .file("c.json", &image.config())
            .file("v1/layer.tar", &gzip)
            .file("second", second_layer)
            .symlink(&second, "second")
            .finish()
    };
    let gzip_only = read(archive(&gzip_stored(&image.layers[1]))).unwrap();
    let root = gzip_only.images()[0].root();
    assert_eq!(root.media_type(), &MediaType::DOCKER_MANIFEST);
    assert!(root.image().unwrap().layers.iter().all(|layer| layer.media_type == MediaType::DOCKER_LAYER_GZIP));
    let mixed = read(archive(zstd)).unwrap();
    let manifest = mixed.images()[0].root().image().unwrap();
    assert_eq!(manifest.layers[0].digest, Digest::of(&gzip));
    assert_eq!(manifest.layers[1].digest, Digest::of(zstd));
    let types: Vec<_> = manifest.blobs().map(|blob| blob.media_type.clone()).collect();
    assert_eq!(types, [MediaType::OCI_CONFIG, MediaType::OCI_LAYER_GZIP, MediaType::OCI_LAYER_ZSTD]);
    assert_eq!(mixed.images()[0].root().media_type(), &MediaType::OCI_MANIFEST);
    assert!(matches!(fault(archive(b"BZh91AY&SY")).0, ArchiveFault::Unsupported { .. }));
}

#[test]
fn several_platforms_are_one_image() {
    let all = [two_layers(&["app:v1"]), two_layers(&["app:v1"]).on("linux", "arm64")];
    let index = make::index_of(&all, true);
    let archive = read(make::multi_platform_archive(&all)).unwrap();
    let [image] = archive.images() else { panic!() };
    assert_eq!((image.root().bytes(), image.manifests().len()), (index.bytes(), 3));
    assert_eq!((image.config(), image.blob_digests().len()), (None, 4));
    assert_eq!(written(image), ["docker.io/library/app:v1"]);

    // Docker 29 with one of two platforms pulled.
    let archive = read(make::docker_save_containerd(&all, 1)).unwrap();
    let [image] = archive.images() else { panic!() };
    assert_ne!(image.root().digest(), index.digest());
    let held = &image.root().index().unwrap().manifests;
    assert_eq!(held.len(), 1);
    assert_eq!(
        held[0].platform,
        Some(Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() })
    );
    assert_eq!(image.manifests()[0].bytes(), all[0].manifest(true).bytes());
    let [note] = archive.notes() else { panic!() };
    assert!(note.contains("linux/arm64") && note.contains(image.root().digest().as_str()), "{note}");
}
