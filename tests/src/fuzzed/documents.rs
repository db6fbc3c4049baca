//! Documents that registries hand out.

use bytes::Bytes;
use registry_proto::spec::{Digest, ImageConfig, Manifest, ManifestContent, MediaType, parse_error_body};

use super::{is_printable, line};

/// A `Content-Type`, and on the next lines a manifest.
pub fn manifest(data: &[u8]) {
    let (told, body) = line(data);
    let told = std::str::from_utf8(told).ok().filter(|told| !told.is_empty());
    let bytes = Bytes::copy_from_slice(body);
    let Ok(manifest) = Manifest::parse(bytes.clone(), told, None) else { return };
    assert_eq!((manifest.bytes(), manifest.size()), (&bytes, bytes.len() as u64));
    assert_eq!(*manifest.digest(), Digest::of(&bytes));
    // Whoever fetches it by what leads to it gets the same.
    assert_eq!(Manifest::parse(bytes, None, Some(&manifest.descriptor())).as_ref(), Ok(&manifest));
    let _ = (manifest.subject(), manifest.referrer());
    match manifest.content() {
        ManifestContent::Image(image) => {
            assert!(!manifest.media_type().is_index());
            assert_eq!(image.blobs().count(), image.layer_count() + 1);
            assert!(image.blobs().all(|blob| blob.size <= image.total_size()));
            let written = image.to_manifest();
            let again = Manifest::parse(written.bytes().clone(), None, Some(&written.descriptor()));
            assert_eq!(again.as_ref(), Ok(&written));
            // The type may have stood beside it only.
            let found = written.image().expect("an image was written");
            assert_eq!((&found.config, &found.layers, &found.subject), (&image.config, &image.layers, &image.subject));
        }
        ManifestContent::Index(list) => {
            assert!(manifest.media_type().is_index());
            let written = list.to_manifest();
            let again = Manifest::parse(written.bytes().clone(), None, Some(&written.descriptor()));
            assert_eq!(again.as_ref(), Ok(&written));
            assert_eq!(written.index().map(|found| &found.manifests), Some(&list.manifests));
            for machine in ["linux/amd64", "linux/arm/v7", "unknown/unknown"] {
                let machine = machine.parse().expect("it is a platform");
                let chosen = list.for_platform(&machine);
                assert!(chosen.is_none_or(|one| list.manifests.contains(one) && !one.is_attestation()));
            }
        }
        _ => assert!(!manifest.media_type().is_manifest_or_index()),
    }
}

/// An index, under every type that it may be handed out as: it must not be read as two different things (A17).
pub fn index(data: &[u8]) {
    let mut seen: Option<bool> = None;
    for told in [
        None,
        Some(MediaType::OCI_INDEX),
        Some(MediaType::DOCKER_MANIFEST_LIST),
        Some(MediaType::OCI_MANIFEST),
        Some(MediaType::DOCKER_MANIFEST),
    ] {
        let told = told.as_ref().map(MediaType::as_str);
        let mut input = told.unwrap_or_default().as_bytes().to_vec();
        input.push(b'\n');
        input.extend_from_slice(data);
        manifest(&input);
        if let Ok(found) = Manifest::parse(Bytes::copy_from_slice(data), told, None) {
            let kind = match found.content() {
                ManifestContent::Image(_) => false,
                ManifestContent::Index(_) => true,
                _ => continue,
            };
            // (Without any content, and without saying what it is, it is what it is handed out as.)
            assert!(seen.is_none_or(|seen| seen == kind), "an image and an index: {}", String::from_utf8_lossy(data));
            seen = Some(kind);
        }
    }
}

/// The configuration of an image.
pub fn config(data: &[u8]) {
    let Ok(config) = ImageConfig::parse(data) else { return };
    let platform = config.platform();
    assert_eq!((&platform.os, &platform.architecture), (&config.os, &config.architecture));
    assert_eq!(platform.normalized().normalized(), platform.normalized());
    assert!(config.rootfs.diff_ids.len() <= data.len() && config.history.len() <= data.len());
    for digest in &config.rootfs.diff_ids {
        assert_eq!(digest.as_str().parse().as_ref(), Ok(digest));
    }
    // Written down by another program, it says the same. (Numbers with a fraction may be rounded.)
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let again = ImageConfig::parse(document.to_string().as_bytes()).expect("it is the same document");
    assert_eq!(again, config);
}

/// The body of a refusal.
pub fn error_body(data: &[u8]) {
    let errors = parse_error_body(data);
    assert!(errors.len() <= 20);
    for error in errors {
        let text = error.to_string();
        assert!(is_printable(&text) && !text.is_empty(), "{text:?}");
        // A message, and a detail in parentheses.
        assert!(error.message().chars().count() <= 2 * 501 + 3 && text.chars().count() <= 2 * 501 + 3 + 63, "{text}");
    }
}
