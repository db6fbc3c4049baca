//! Images, indexes and stranger things in a registry, to be looked at.

use std::collections::BTreeMap;

use registry_proto::archive::make::SampleImage;
use registry_proto::flow::Inspected;
use registry_proto::spec::{Descriptor, Digest, Index, Manifest, MediaType, Reference};
use registry_proto::testing::registry::Registry;

/// Bytes of which no two places are alike.
pub fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (n, four) in (0_u32..).zip(bytes.chunks_mut(4)) {
        four.copy_from_slice(&n.wrapping_mul(2_654_435_761).to_le_bytes()[..four.len()]);
    }
    bytes
}

/// An image of these layers.
pub fn image(layers: &[&[u8]]) -> SampleImage {
    SampleImage::new(&["app:v1"], layers)
}

/// Puts an image there, under a tag if one is given.
pub fn put(registry: &mut Registry, repository: &str, tag: Option<&str>, image: &SampleImage) -> Manifest {
    registry.insert_image(repository, tag, image);
    image.manifest(false)
}

/// Puts a manifest there, under a tag if one is given.
///
/// # Panics
/// When it can't be.
pub fn put_manifest(registry: &mut Registry, repository: &str, tag: Option<&str>, manifest: &Manifest) {
    let media_type = manifest.media_type().as_str();
    registry.insert_manifest(repository, tag, manifest.bytes().clone(), media_type).unwrap();
}

/// A manifest's entry in an index, for a platform.
///
/// # Panics
/// When it can't be.
pub fn entry(manifest: &Manifest, platform: &str) -> Descriptor {
    Descriptor { platform: Some(platform.parse().unwrap()), ..manifest.descriptor() }
}

/// An index of these manifests.
pub fn index_of(manifests: Vec<Descriptor>) -> Manifest {
    let index = Index { media_type: None, artifact_type: None, manifests, subject: None, annotations: BTreeMap::new() };
    index.to_manifest()
}

/// An index of two platforms, an attestation of one of them, an image that was not copied along, and something strange.
pub fn put_index(registry: &mut Registry, repository: &str, tag: &str) -> Manifest {
    let amd64 = put(registry, repository, None, &image(&[b"shared", b"one"]));
    let arm64 = put(registry, repository, None, &image(&[b"shared", b"another"]).on("linux", "arm64"));
    let mut attestation = entry(&amd64, "unknown/unknown");
    attestation.digest = Digest::of(b"an attestation that nobody fetches");
    attestation.annotations.insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
    attestation.annotations.insert("vnd.docker.reference.digest".into(), amd64.digest().to_string());
    let missing = image(&[b"not copied"]).on("linux", "s390x").manifest(false);
    let strange = Descriptor::new(MediaType::new("application/vnd.example+json"), Digest::of(b"?"), 1);
    let index = index_of(vec![
        entry(&amd64, "linux/amd64"),
        entry(&arm64, "linux/arm64"),
        attestation,
        entry(&missing, "linux/s390x"),
        strange,
    ]);
    put_manifest(registry, repository, Some(tag), &index);
    index
}

/// A reference to something at a host.
///
/// # Panics
/// When it can't be.
pub fn reference(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

/// Checks that what was found is what [`put_index`] has put there.
///
/// # Panics
/// When it isn't.
pub fn check_index(found: &Inspected, index: &Manifest) {
    assert_eq!((found.digest(), found.media_type()), (index.digest(), &MediaType::OCI_INDEX));
    assert_eq!(found.manifest.bytes(), index.bytes());
    let [amd64, arm64, attestation, missing, strange] = &found.children[..] else { panic!("{:?}", found.children) };
    for (child, platform, second) in [(amd64, "linux/amd64", 3), (arm64, "linux/arm64", 7)] {
        assert_eq!(child.platform().unwrap().to_string(), platform);
        assert_eq!(child.config.as_ref().unwrap().platform().to_string(), platform);
        assert_eq!(child.layers().iter().map(|layer| layer.size).collect::<Vec<_>>(), [6, second]);
        assert_eq!(child.notes, [""; 0]);
    }
    assert!(attestation.descriptor.is_attestation() && attestation.manifest.is_none() && attestation.notes.is_empty());
    assert_eq!(attestation.descriptor.attests().as_ref(), Some(&amd64.descriptor.digest));
    assert!(missing.manifest.is_none() && missing.notes[0].contains("does not have it"), "{:?}", missing.notes);
    assert!(strange.notes[0].contains("application/vnd.example+json"), "{:?}", strange.notes);
    // The shared layer is there once.
    assert_eq!(found.total_size(), amd64.total_size() + arm64.total_size() - 6);
    assert!(found.platform().is_none() && found.layers().is_empty());
}
