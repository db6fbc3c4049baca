//! `manifest.json`: what `docker save` has written since 1.10, and podman, crane, kaniko and ko after it (PROTOCOL.md
//! §4.4 a, b, d, e). It names a config and layer files, and has no registry manifest; that is made here.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::error::{ArchiveFault, Compression};
use super::files::{Files, Place};
use super::image::{ArchiveBlob, ArchiveImage, ImageName};
use super::reading::{Reading, add_name};
use super::tar_record::shown;
use crate::spec::{Descriptor, Digest, ImageConfig, ImageManifest, Manifest, MediaType};

const MANIFEST: &str = "manifest.json";

/// One image of `manifest.json`. Go writes absent lists as `null`.
#[derive(Deserialize)]
pub(super) struct Item {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default)]
    tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    layers: Option<Vec<String>>,
    /// Only our own writer says this, in archives that have no place for an image's own manifest.
    #[serde(rename = "OriginalManifest", default)]
    original: Option<Descriptor>,
}

pub(super) fn items(reading: &Reading<'_>, files: &mut impl Files) -> Result<Vec<Item>, ArchiveFault> {
    let place = files.locate(MANIFEST, true)?.ok_or_else(|| ArchiveFault::missing(MANIFEST, "docker save"))?;
    let bytes = files.read_whole(&place, reading.limits.index)?;
    let items: Vec<Item> = serde_json::from_slice(&bytes)
        .map_err(|why| ArchiveFault::json(MANIFEST, format!("is not the list that `docker save` writes: {why}")))?;
    let too_large = |what: &str, limit: usize, unit| {
        Err(ArchiveFault::TooLarge { what: what.to_owned(), limit: limit as u64, unit })
    };
    match items.len() {
        0 => Err(ArchiveFault::json(MANIFEST, "is a list of 0 images; save an image with `docker save NAME`")),
        n if n > reading.limits.images => too_large("the list in manifest.json", reading.limits.images, "images"),
        _ if items.iter().any(|item| item.tags.as_ref().map_or(0, Vec::len) > reading.limits.tags) => {
            too_large("a list of RepoTags in manifest.json", reading.limits.tags, "names")
        }
        _ => Ok(items),
    }
}

/// The valid names of an image; the others are noted. `<none>:<none>` is Docker's way of writing nothing.
pub(super) fn names(reading: &mut Reading<'_>, item: &Item) -> Vec<ImageName> {
    let mut names = Vec::new();
    for written in item.tags.iter().flatten().filter(|tag| !tag.starts_with("<none>")) {
        match ImageName::full(written) {
            Ok(name) => add_name(&mut names, name),
            Err(why) => reading.notes.push(format!("left out the name `{}`: {why}", shown(written.as_bytes()))),
        }
    }
    names
}

/// A config, read and known to be what its name says.
pub(super) struct SavedConfig {
    pub(super) digest: Digest,
    place: Place,
    config: ImageConfig,
}

pub(super) fn config(
    reading: &mut Reading<'_>,
    files: &mut impl Files,
    item: &Item,
) -> Result<SavedConfig, ArchiveFault> {
    let written = &item.config;
    let place = files
        .locate(written, true)?
        .ok_or_else(|| ArchiveFault::missing(format!("the config `{}`", written.escape_debug()), MANIFEST))?;
    let bytes = reading.document(files, &place, reading.limits.config)?;
    let digest = Digest::of(&bytes);
    // An image's id is its config's digest, and every saver names the config by it (attack A24, CVE-2014-8178).
    for named in [hex_of(written), hex_of(&place.name)].into_iter().flatten() {
        if named != digest.encoded() {
            return Err(ArchiveFault::Mismatch {
                entry: format!("the config `{written}`"),
                expected: format!("sha256:{named}"),
                found: digest.to_string(),
            });
        }
    }
    let config = ImageConfig::parse(&bytes)
        .map_err(|why| ArchiveFault::json(format!("the config `{written}`"), format!("is {why}")))?;
    Ok(SavedConfig { digest, place, config })
}

/// Layers seen so far: images of one archive share them, and links lead to one file from many names.
#[derive(Default)]
pub(super) struct Saved {
    /// By where they start.
    digests: BTreeMap<u64, Digest>,
}

/// A layer file as it is stored.
struct Layer {
    place: Place,
    format: Option<Compression>,
    digest: Digest,
}

impl Saved {
    pub(super) fn image(
        &mut self,
        reading: &mut Reading<'_>,
        files: &mut impl Files,
        item: &Item,
        saved: SavedConfig,
        names: Vec<ImageName>,
    ) -> Result<ArchiveImage, ArchiveFault> {
        let paths = item.layers.as_deref().unwrap_or_default();
        let diff_ids = &saved.config.rootfs.diff_ids;
        if paths.len() > reading.limits.layers {
            let what = format!("the list of layers of the config `{}`", item.config);
            return Err(ArchiveFault::TooLarge { what, limit: reading.limits.layers as u64, unit: "layers" });
        }
        if paths.len() != diff_ids.len() {
            return Err(ArchiveFault::layout(format!(
                "manifest.json names {} layers, but the config `{}` has {}",
                paths.len(),
                item.config,
                diff_ids.len()
            )));
        }
        let layers: Vec<Layer> = paths
            .iter()
            .zip(diff_ids)
            .map(|(path, diff_id)| self.layer(files, path, diff_id))
            .collect::<Result<_, _>>()?;
        // Docker's own types have no zstd that every registry takes, and the two families aren't mixed.
        let oci = layers.iter().any(|layer| layer.format == Some(Compression::Zstd));
        let config_type = if oci { MediaType::OCI_CONFIG } else { MediaType::DOCKER_CONFIG };
        let config = reading.take(files, config_type, saved.digest, &saved.place)?;
        let layers = layers
            .into_iter()
            .map(|layer| reading.take(files, layer_type(layer.format, oci), layer.digest, &layer.place))
            .collect::<Result<_, _>>()?;
        let manifest = ImageManifest {
            media_type: Some(if oci { MediaType::OCI_MANIFEST } else { MediaType::DOCKER_MANIFEST }),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let manifest = match &item.original {
            Some(original) => self::original(original, &manifest)?,
            None => manifest.to_manifest(),
        };
        Ok(ArchiveImage { names, manifests: vec![manifest], config: Some(saved.config) })
    }

    fn layer(&mut self, files: &mut impl Files, path: &str, diff_id: &Digest) -> Result<Layer, ArchiveFault> {
        let place = files
            .locate(path, false)?
            .ok_or_else(|| ArchiveFault::missing(format!("the layer `{}`", path.escape_debug()), MANIFEST))?;
        if !diff_id.is_verifiable() {
            let what = format!("the layer `{path}` has a digest of an unknown algorithm, {}", diff_id.algorithm_name());
            return Err(ArchiveFault::Unsupported { what });
        }
        let format = Compression::of(&files.head(&place)?);
        let digest = match format {
            None => {
                files.agrees(&place, diff_id)?;
                raw(&place, diff_id)?
            }
            Some(Compression::Gzip | Compression::Zstd) => match self.digests.get(&place.range.start) {
                Some(known) => known.clone(),
                None => match digest_in(&place.name, diff_id) {
                    Some(claimed) => {
                        files.agrees(&place, &claimed)?;
                        claimed
                    }
                    None => files.hash(&place)?,
                },
            },
            Some(format) => {
                let what = format!(
                    "the layer `{path}` is {format}-compressed, which registries have no type for; \
                     load it with `docker load` and save it again"
                );
                return Err(ArchiveFault::Unsupported { what });
            }
        };
        // Empty files all start where the next one does.
        if place.size() > 0
            && let Some(before) = self.digests.insert(place.range.start, digest.clone())
            && before != digest
        {
            return Err(ArchiveFault::layout(format!("the layer `{path}` should be both {before} and {digest}")));
        }
        Ok(Layer { place, format, digest })
    }
}

/// The manifest that an image had, so that it keeps its digest; it has to be of the same content.
fn original(original: &Descriptor, made: &ImageManifest) -> Result<Manifest, ArchiveFault> {
    let wrong = |why: String| ArchiveFault::json(MANIFEST, format!("has an OriginalManifest that {why}"));
    let data = original.data.as_deref().ok_or_else(|| wrong("is not there".to_owned()))?;
    let bytes = STANDARD.decode(data).map_err(|why| wrong(format!("is no base64: {why}")))?;
    let manifest =
        Manifest::parse(bytes.into(), None, Some(original)).map_err(|why| wrong(format!("is none: {why}")))?;
    let digests = |image: &ImageManifest| image.blobs().map(|blob| blob.digest.clone()).collect::<Vec<_>>();
    match manifest.image() {
        Some(image) if digests(image) == digests(made) => Ok(manifest),
        _ => Err(wrong("is of another image".to_owned())),
    }
}

impl Reading<'_> {
    /// Takes in a part of an image; its size is what is really there.
    fn take(
        &mut self,
        files: &impl Files,
        media_type: MediaType,
        digest: Digest,
        place: &Place,
    ) -> Result<Descriptor, ArchiveFault> {
        let content = files.content(place);
        let size = place.size();
        self.blob(ArchiveBlob { digest: digest.clone(), size, media_type: media_type.clone(), content })?;
        Ok(Descriptor::new(media_type, digest, size))
    }
}

/// An uncompressed layer's digest is its diff_id: a claim, verified while it is sent. In `blobs/` the name says it again.
fn raw(place: &Place, diff_id: &Digest) -> Result<Digest, ArchiveFault> {
    let folder = format!("blobs/{}/", diff_id.algorithm_name());
    match place.name.strip_prefix(&folder) {
        Some(hex) if hex != diff_id.encoded() => Err(ArchiveFault::Mismatch {
            entry: format!("the layer `{}`", place.name),
            expected: format!("{diff_id}, as its config says,"),
            found: "another by its name".into(),
        }),
        _ => Ok(diff_id.clone()),
    }
}

/// The digest of a compressed layer, where its name is known to be that: ggcr's `<hex>.tar.gz`, an OCI layout's
/// `blobs/sha256/<hex>`. A name that is the diff_id (podman's `<hex>.tar`) is that of the uncompressed layer.
fn digest_in(name: &str, diff_id: &Digest) -> Option<Digest> {
    let compressed = [".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| name.ends_with(end));
    let hex = if compressed { hex_of(name)? } else { name.strip_prefix("blobs/sha256/")? };
    (hex != diff_id.encoded()).then(|| format!("sha256:{hex}").parse().ok())?
}

/// The 64 digits of `<hex>.json`, `sha256:<hex>`, `blobs/sha256/<hex>`, `<hex>.tar.gz`.
fn hex_of(name: &str) -> Option<&str> {
    let last = name.rsplit('/').next()?;
    let hex = last.strip_prefix("sha256:").unwrap_or(last).split('.').next()?;
    (hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then_some(hex)
}

const fn layer_type(format: Option<Compression>, oci: bool) -> MediaType {
    match (format, oci) {
        (Some(Compression::Zstd), _) => MediaType::OCI_LAYER_ZSTD,
        (Some(_), true) => MediaType::OCI_LAYER_GZIP,
        (None, true) => MediaType::OCI_LAYER,
        (Some(_), false) => MediaType::DOCKER_LAYER_GZIP,
        (None, false) => MediaType::DOCKER_LAYER,
    }
}
