//! What there is to know about an image without its layers.

use std::collections::BTreeSet;

use crate::spec::{
    Descriptor, Digest, ImageConfig, ImageManifest, Manifest, ManifestContent, MediaType, Platform, Reference,
};

/// What a reference leads to: an image, an index of images, or something that can only be named.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Inspected {
    /// What was asked for.
    pub reference: Reference,
    /// The manifest or index, with its bytes as they came.
    pub manifest: Manifest,
    /// The image's configuration: its platform, age, author and history, and how it is run. `None` for an index (whose
    /// images have one each), and for what is no image.
    pub config: Option<ImageConfig>,
    /// What an index lists, in its order.
    pub children: Vec<InspectedChild>,
    /// What could not be told, and why.
    pub notes: Vec<String>,
}

/// One entry of an index.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct InspectedChild {
    /// What the index says of it: its digest, size, platform and annotations.
    /// [`is_attestation`](Descriptor::is_attestation) tells the entries that are no images.
    pub descriptor: Descriptor,
    /// Its manifest, if it was fetched: attestations are not, nor what the registry does not have.
    pub manifest: Option<Manifest>,
    /// Its configuration, if it is an image's.
    pub config: Option<ImageConfig>,
    /// What could not be told, and why.
    pub notes: Vec<String>,
}

impl Inspected {
    /// The digest that the registry knows it by.
    pub const fn digest(&self) -> &Digest {
        self.manifest.digest()
    }

    /// What it is.
    pub const fn media_type(&self) -> &MediaType {
        self.manifest.media_type()
    }

    /// The platform that the image is for, as its configuration says.
    pub fn platform(&self) -> Option<Platform> {
        self.config.as_ref().and_then(platform)
    }

    /// The image's layers, the lowest first. An index has none; its children do.
    pub fn layers(&self) -> &[Descriptor] {
        self.manifest.image().map_or(&[], |image| &image.layers)
    }

    /// The size of its layers and configuration, as they lie in the registry, in bytes. Of an index: of all the images that
    /// could be looked at, what they share counted once.
    pub fn total_size(&self) -> u64 {
        let manifests =
            std::iter::once(&self.manifest).chain(self.children.iter().filter_map(|one| one.manifest.as_ref()));
        let mut seen = BTreeSet::new();
        let blobs = manifests.filter_map(Manifest::image).flat_map(ImageManifest::blobs);
        blobs.filter(|blob| seen.insert(&blob.digest)).fold(0, |sum, blob| sum.saturating_add(blob.size))
    }
}

impl InspectedChild {
    /// The platform that the index names, else the one that the image's configuration does.
    pub fn platform(&self) -> Option<Platform> {
        self.descriptor.platform.clone().or_else(|| self.config.as_ref().and_then(platform))
    }

    /// Its layers, the lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        self.manifest.as_ref().and_then(Manifest::image).map_or(&[], |image| &image.layers)
    }

    /// The size of its layers and configuration, in bytes.
    pub fn total_size(&self) -> u64 {
        self.manifest.as_ref().and_then(Manifest::image).map_or(0, ImageManifest::total_size)
    }
}

fn platform(config: &ImageConfig) -> Option<Platform> {
    let platform = config.platform();
    (!platform.os.is_empty() || !platform.architecture.is_empty()).then_some(platform)
}

/// Why a manifest has no configuration of an image to look at, if it hasn't.
pub(super) fn without_config(manifest: &Manifest) -> Option<String> {
    match manifest.content() {
        ManifestContent::Image(image) if image.config.media_type.is_image_config() => None,
        ManifestContent::Image(image) => {
            let what = image.artifact_type.as_ref().unwrap_or(&image.config.media_type);
            Some(format!("it is no image, but an artifact of type {what}"))
        }
        ManifestContent::Index(_) => None,
        ManifestContent::Schema1 => Some(
            "it is a manifest of Docker's schema 1, which is carried but not read: its layers and its platform are not \
             known, and the digest is that of the whole document, which is not the one its registry knows it by"
                .to_owned(),
        ),
        ManifestContent::Unknown if manifest.media_type().as_str().is_empty() => {
            Some("it does not say what it is: only its digest and size are known".to_owned())
        }
        ManifestContent::Unknown => {
            Some(format!("its type, {}, is not known here: only its digest and size are", manifest.media_type()))
        }
    }
}
