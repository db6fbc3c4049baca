//! An OCI image layout (image-spec, image-layout.md), in a tar or a folder: `index.json` and `blobs/<algorithm>/<hex>`.
//! Its manifests are kept byte for byte. What savers leave out legally (platforms that weren't pulled) is left out of
//! the index too, since a registry takes no index that names what it doesn't hold.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use super::error::ArchiveFault;
use super::files::{Files, Place};
use super::image::{ArchiveBlob, ArchiveImage, BlobContent, ImageName, is_foreign};
use super::reading::{Reading, add_name};
use super::tar_record::shown;
use crate::spec::{
    Descriptor, Digest, ImageConfig, ImageManifest, Index, Kind, Manifest, ManifestContent, ManifestError, MediaType,
    Platform,
};

const INDEX: &str = "index.json";

/// One image of `index.json`, with the names of all its entries.
pub(super) struct Entry {
    pub(super) names: Vec<ImageName>,
    descriptor: Descriptor,
}

/// What came of an image.
pub(super) struct Walked {
    /// `None`: it is no image at all, which is noted.
    pub(super) image: Result<Option<ArchiveImage>, ArchiveFault>,
    /// The configs that its manifests name, as far as these could be read.
    pub(super) configs: BTreeSet<Digest>,
}

pub(super) fn entries(reading: &mut Reading<'_>, files: &mut impl Files) -> Result<Vec<Entry>, ArchiveFault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let missing = |name: &str| ArchiveFault::missing(name, "the OCI image layout");
    let place = files.locate("oci-layout", true)?.ok_or_else(|| missing("oci-layout"))?;
    let layout: Layout = serde_json::from_slice(&files.read_whole(&place, 64 * 1024)?)
        .map_err(|why| ArchiveFault::json("oci-layout", format!("says no version: {why}")))?;
    if !layout.image_layout_version.starts_with("1.") {
        let what = format!("an OCI layout of version {:?}; 1.0.0 is known", layout.image_layout_version);
        return Err(ArchiveFault::Unsupported { what });
    }
    let place = files.locate(INDEX, true)?.ok_or_else(|| missing(INDEX))?;
    let bytes = files.read_whole(&place, reading.limits.index)?;
    let index = Manifest::parse(bytes, Some(MediaType::OCI_INDEX.as_str()), None)
        .map_err(|why| ArchiveFault::json(INDEX, format!("is not an index: {why}")))?;
    let descriptors = index.index().map(|index| index.manifests.as_slice()).unwrap_or_default();
    if descriptors.len() > reading.limits.images {
        let what = "the list in index.json".into();
        return Err(ArchiveFault::TooLarge { what, limit: reading.limits.images as u64, unit: "images" });
    }
    let mut entries: Vec<Entry> = Vec::new();
    let mut seen: BTreeMap<&Digest, usize> = BTreeMap::new();
    for descriptor in descriptors {
        let at = *seen.entry(&descriptor.digest).or_insert(entries.len());
        if at == entries.len() {
            entries.push(Entry { names: Vec::new(), descriptor: descriptor.clone() });
        }
        for name in names(reading, descriptor) {
            add_name(&mut entries[at].names, name);
        }
    }
    Ok(entries)
}

/// containerd and Docker write the whole name and the tag, each under its own key; podman, skopeo and buildx only the
/// second key, with either.
fn names(reading: &mut Reading<'_>, descriptor: &Descriptor) -> Vec<ImageName> {
    let full = descriptor.annotations.get("io.containerd.image.name").map(|name| (name, ImageName::full(name)));
    let reference = descriptor.annotations.get("org.opencontainers.image.ref.name");
    let reference = reference.filter(|name| !name.is_empty()).map(|name| (name, ImageName::tag_or_full(name)));
    let mut names = Vec::new();
    for (written, name) in full.into_iter().chain(reference) {
        match name {
            Ok(name) => names.push(name),
            Err(why) => reading.notes.push(format!("left out the name `{}`: {why}", shown(written.as_bytes()))),
        }
    }
    names
}

pub(super) fn image<F: Files>(reading: &mut Reading<'_>, files: &mut F, entry: &Entry) -> Walked {
    let mut walk = Walk {
        reading,
        files,
        manifests: Vec::new(),
        kept: BTreeMap::new(),
        configs: BTreeSet::new(),
        left_out: Vec::new(),
        config: None,
    };
    let image = walk.node(&entry.descriptor, 0, INDEX).map(|root| {
        let (digest, left_out, config) = (&entry.descriptor.digest, walk.left_out, walk.config);
        let manifests: Vec<Manifest> = walk.manifests.into_iter().map(|(_, manifest)| manifest).collect();
        if !manifests.last()?.media_type().is_manifest_or_index() {
            walk.reading.notes.push(format!("left out {digest}: it is {}, not an image", entry.descriptor.media_type));
            return None;
        }
        if !left_out.is_empty() {
            walk.reading.notes.push(format!(
                "left out of the index {digest}: {}, which the archive does not hold; the index gets the digest {}",
                left_out.join(", "),
                root.digest
            ));
        }
        Some(ArchiveImage { names: entry.names.clone(), manifests, config })
    });
    Walked { image, configs: walk.configs }
}

struct Walk<'r, 'a, F> {
    reading: &'r mut Reading<'a>,
    files: &'r mut F,
    /// With the digest under which each is named; a reduced index has another one.
    manifests: Vec<(Digest, Manifest)>,
    kept: BTreeMap<Digest, Descriptor>,
    configs: BTreeSet<Digest>,
    left_out: Vec<String>,
    config: Option<ImageConfig>,
}

impl<F: Files> Walk<'_, '_, F> {
    /// Takes in a manifest and all below it. The descriptor is a new one if the manifest is. [`ArchiveFault::Missing`]: the
    /// archive doesn't hold it, or not whole.
    fn node(&mut self, descriptor: &Descriptor, depth: usize, by: &str) -> Result<Descriptor, ArchiveFault> {
        if let Some(kept) = self.kept.get(&descriptor.digest) {
            return Ok(descriptor.of_other(&kept.digest, kept.size));
        }
        if depth > self.reading.limits.depth {
            let limit = self.reading.limits.depth as u64;
            return Err(ArchiveFault::TooLarge { what: "the nesting of its indexes".into(), limit, unit: "levels" });
        }
        let digest = &descriptor.digest;
        let place = self.locate(digest)?.ok_or_else(|| ArchiveFault::missing(format!("the manifest {digest}"), by))?;
        let bytes = self.reading.document(self.files, &place, self.reading.limits.manifest)?;
        let manifest = parse(bytes, descriptor)?;
        let by = format!("the manifest {digest}");
        let manifest = match manifest.content() {
            ManifestContent::Image(image) => {
                let config = self.image(image, descriptor.platform.as_ref(), &by)?;
                if depth == 0 {
                    self.config = config;
                }
                manifest
            }
            ManifestContent::Index(index) => match self.index(index, &manifest, depth, &by)? {
                Some(reduced) => reduced,
                None => manifest,
            },
            _ => manifest,
        };
        let kept = descriptor.of_other(manifest.digest(), manifest.size());
        self.kept.insert(digest.clone(), kept.clone());
        self.manifests.push((digest.clone(), manifest));
        Ok(kept)
    }

    /// Takes in what an index names; a smaller index, if that isn't all there.
    fn index(
        &mut self,
        index: &Index,
        manifest: &Manifest,
        depth: usize,
        by: &str,
    ) -> Result<Option<Manifest>, ArchiveFault> {
        let mark = self.manifests.len();
        let mut held = Vec::new();
        let mut lacking = Vec::new();
        for child in &index.manifests {
            match self.node(child, depth + 1, by) {
                Ok(child) => held.push(child),
                Err(ArchiveFault::Missing { what, .. }) => lacking.push((child, what)),
                Err(fault) => return Err(fault),
            }
        }
        let real = |child: &Descriptor| !child.platform.as_ref().is_some_and(Platform::is_unknown);
        if let Some((_, what)) = lacking.first().filter(|_| !held.iter().any(real)) {
            for (digest, _) in self.manifests.drain(mark..) {
                self.kept.remove(&digest);
            }
            return Err(ArchiveFault::missing(
                format!("any platform of the index {} (as {what})", manifest.digest()),
                by,
            ));
        }
        if held == index.manifests {
            return Ok(None);
        }
        for child in &mut held {
            child.attest_what_became(|about| self.kept.get(about).map(|kept| &kept.digest));
        }
        self.left_out.extend(lacking.iter().map(|(child, _)| match &child.platform {
            Some(platform) => format!("{platform} ({})", child.digest.short()),
            None => child.digest.to_string(),
        }));
        let reduced = Index { manifests: held, media_type: Some(manifest.media_type().clone()), ..index.clone() };
        Ok(Some(reduced.to_manifest()))
    }

    /// Takes in the blobs of one image or artifact.
    fn image(
        &mut self,
        image: &ImageManifest,
        platform: Option<&Platform>,
        by: &str,
    ) -> Result<Option<ImageConfig>, ArchiveFault> {
        self.configs.insert(image.config.digest.clone());
        if image.layers.len() > self.reading.limits.layers {
            let what = format!("the list of layers of {by}");
            return Err(ArchiveFault::TooLarge { what, limit: self.reading.limits.layers as u64, unit: "layers" });
        }
        // Looked up before any is taken: in an index, an image that isn't whole is not held.
        let mut found = Vec::new();
        for (at, blob) in image.blobs().enumerate() {
            match self.content(blob)? {
                Some(content) => found.push((blob, content)),
                None if at > 0 && is_foreign(blob) => {}
                None => {
                    let what = format!("the {} {}", if at == 0 { "config" } else { "layer" }, blob.digest);
                    return Err(ArchiveFault::missing(what, by));
                }
            }
        }
        let attestation = platform.is_some_and(Platform::is_unknown);
        let config = match &found.first() {
            Some((blob, content)) if blob.media_type.kind() == Kind::Config && !attestation => {
                Some(self.config(blob, content)?)
            }
            _ => None,
        };
        // An artifact may borrow the type and bring an empty config; an image lacks no diff_id.
        let diff_ids = config.as_ref().map_or(0, |config| config.rootfs.diff_ids.len());
        if diff_ids > 0 && diff_ids != image.layers.len() {
            return Err(ArchiveFault::layout(format!(
                "{by} has {} layers, but its config has {diff_ids}",
                image.layers.len()
            )));
        }
        for (blob, content) in found {
            let (digest, media_type) = (blob.digest.clone(), blob.media_type.clone());
            self.reading.blob(ArchiveBlob { digest, size: blob.size, media_type, content })?;
        }
        Ok(config)
    }

    fn config(&mut self, blob: &Descriptor, content: &BlobContent) -> Result<ImageConfig, ArchiveFault> {
        let entry = format!("the config {}", blob.digest);
        let bytes = match content {
            BlobContent::Bytes(bytes) => bytes.clone(),
            BlobContent::File { path, range } => {
                let place = Place { name: blob_name(&blob.digest), path: path.clone(), range: range.clone() };
                self.reading.document(self.files, &place, self.reading.limits.config)?
            }
            BlobContent::Passed { .. } => {
                let what = format!("{entry} went by as something else than a document: too large, or no JSON");
                return Err(ArchiveFault::Unsupported { what });
            }
        };
        verify(&entry, blob, &bytes)?;
        ImageConfig::parse(&bytes).map_err(|why| ArchiveFault::json(entry, format!("is {why}")))
    }

    /// Where a blob is: in the archive, or in its own descriptor.
    fn content(&mut self, blob: &Descriptor) -> Result<Option<BlobContent>, ArchiveFault> {
        let entry = || format!("the blob {}", blob.digest);
        if let Some(place) = self.locate(&blob.digest)? {
            if place.size() != blob.size {
                return Err(ArchiveFault::Mismatch {
                    entry: entry(),
                    expected: format!("{} bytes long", blob.size),
                    found: format!("{} bytes long", place.size()),
                });
            }
            self.files.agrees(&place, &blob.digest)?;
            return Ok(Some(self.files.content(&place)));
        }
        let Some(bytes) = blob.data.as_ref().and_then(|data| STANDARD.decode(data).ok()) else { return Ok(None) };
        verify(&entry(), blob, &bytes)?;
        Ok(Some(BlobContent::Bytes(bytes.into())))
    }

    fn locate(&mut self, digest: &Digest) -> Result<Option<Place>, ArchiveFault> {
        if !digest.is_verifiable() {
            let what = format!("{digest} has an unknown algorithm, so that its content can't be verified");
            return Err(ArchiveFault::Unsupported { what });
        }
        self.files.locate(&blob_name(digest), false)
    }
}

/// Where a layout has a blob. Only called with digests of a known algorithm: lower-case hex and nothing else (attack A16).
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm_name(), digest.encoded())
}

fn parse(bytes: Bytes, descriptor: &Descriptor) -> Result<Manifest, ArchiveFault> {
    let entry = format!("the manifest {}", descriptor.digest);
    Manifest::parse(bytes, None, Some(descriptor)).map_err(|why| match why {
        ManifestError::Digest { expected, found } => {
            ArchiveFault::Mismatch { entry, expected: expected.to_string(), found: found.to_string() }
        }
        ManifestError::Size { expected, found } => ArchiveFault::Mismatch {
            entry,
            expected: format!("{expected} bytes long"),
            found: format!("{found} bytes long"),
        },
        why => ArchiveFault::json(entry, format!("can't be used: {why}")),
    })
}

fn verify(entry: &str, blob: &Descriptor, bytes: &[u8]) -> Result<(), ArchiveFault> {
    let found = blob.digest.algorithm().map(|algorithm| Digest::compute(algorithm, bytes));
    match found {
        Some(found) if found == blob.digest && bytes.len() as u64 == blob.size => Ok(()),
        found => Err(ArchiveFault::Mismatch {
            entry: entry.to_owned(),
            expected: format!("{} of {} bytes", blob.digest, blob.size),
            found: format!("{} of {} bytes", found.map_or_else(String::new, |digest| digest.to_string()), bytes.len()),
        }),
    }
}
