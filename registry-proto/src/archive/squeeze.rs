//! Layers that are compressed on their way. How it is done is lent by whoever pushes; what follows from it is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use super::error::{ArchiveError, ArchiveFault};
use super::image::{ArchiveBlob, ArchiveImage, BlobContent};
use super::{Archive, Compression};
use crate::spec::{Descriptor, Digest, ImageManifest, Index, Kind, Manifest, ManifestContent, MediaType};

/// Makes fewer bytes of those that it is given.
pub trait Squeeze: Send {
    /// Takes the next bytes, and appends to `out` what comes of them, which may be nothing yet.
    ///
    /// # Errors
    /// When it can't go on.
    fn squeeze(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()>;

    /// There are no more: appends what was held back.
    ///
    /// # Errors
    /// When it can't be brought to an end.
    fn finish(self: Box<Self>, out: &mut Vec<u8>) -> io::Result<()>;
}

/// Compresses layers, in a format that registries have a type for. The same bytes have to become the same bytes each time, or
/// nothing would be found again.
///
/// ```
/// use std::io;
/// use registry_proto::archive::{Compressor, Squeeze};
///
/// /// Wraps an encoder that writes into a `Vec`: flate2's `GzEncoder`, zstd's `Encoder`.
/// struct Stored(Vec<u8>);
///
/// impl Squeeze for Stored {
///     fn squeeze(&mut self, bytes: &[u8], _out: &mut Vec<u8>) -> io::Result<()> {
///         self.0.extend_from_slice(bytes);
///         Ok(())
///     }
///
///     fn finish(self: Box<Self>, out: &mut Vec<u8>) -> io::Result<()> {
///         out.extend_from_slice(&registry_proto::archive::make::gzip_stored(&self.0));
///         Ok(())
///     }
/// }
///
/// let compressor = Compressor::gzip(|| Ok(Box::new(Stored(Vec::new()))));
/// # drop(compressor);
/// ```
#[derive(Clone)]
pub struct Compressor {
    format: Format,
    start: Arc<Start>,
}

type Start = dyn Fn() -> io::Result<Box<dyn Squeeze>> + Send + Sync;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Gzip,
    Zstd,
}

impl Compressor {
    /// By gzip, which every registry and every runtime takes. `start` makes a new one for each layer.
    pub fn gzip(start: impl Fn() -> io::Result<Box<dyn Squeeze>> + Send + Sync + 'static) -> Self {
        Self { format: Format::Gzip, start: Arc::new(start) }
    }

    /// By Zstandard, which only OCI manifests have a type for: Docker's become such. `start` makes a new one for each layer.
    pub fn zstd(start: impl Fn() -> io::Result<Box<dyn Squeeze>> + Send + Sync + 'static) -> Self {
        Self { format: Format::Zstd, start: Arc::new(start) }
    }

    pub(super) fn start(&self) -> io::Result<Box<dyn Squeeze>> {
        (self.start)()
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("format", &self.format).finish_non_exhaustive()
    }
}

/// Whether a file is a tar by its first record, and not compressed: what layers are made of.
pub(super) fn is_bare_tar(head: &[u8]) -> bool {
    let is_empty = head.len() == 512 && head.iter().all(|byte| *byte == 0);
    Compression::of(head).is_none() && (head.get(257..262) == Some(b"ustar") || is_empty)
}

/// What a layer became.
#[derive(Clone, Debug)]
pub(crate) struct Squeezed {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Archive {
    /// Where what is a tar, but of no layer, begins as it goes by: it has to stay what it is.
    pub(crate) fn no_layers(&self) -> BTreeSet<u64> {
        let start = |blob: &ArchiveBlob| match blob.content {
            BlobContent::Passed { start } if blob.media_type.kind() != Kind::Layer => Some(start),
            _ => None,
        };
        self.blobs.values().filter_map(start).collect()
    }

    /// The same images, with layers that were compressed as they went by (by where they began): other manifests, with other
    /// digests.
    ///
    /// # Errors
    /// [`ArchiveFault::Unsupported`] when something was compressed that is no layer, which nobody could know by then.
    pub(crate) fn with_squeezed(
        mut self,
        by: &Compressor,
        layers: &BTreeMap<u64, Squeezed>,
    ) -> Result<Self, ArchiveError> {
        let became: BTreeMap<Digest, &Squeezed> = self
            .blobs
            .values()
            .filter_map(|blob| match blob.content {
                BlobContent::Passed { start } => Some((blob.digest.clone(), layers.get(&start)?)),
                BlobContent::Bytes(_) | BlobContent::File { .. } => None,
            })
            .collect();
        if became.is_empty() {
            return Ok(self);
        }
        if let Some(other) =
            self.blobs.values().find(|blob| became.contains_key(&blob.digest) && blob.media_type.kind() != Kind::Layer)
        {
            let (digest, media_type) = (&other.digest, &other.media_type);
            let what = format!(
                "{digest} is a tar, but of {media_type} and no layer, and can't stay what it is: push without compressing"
            );
            return Err(ArchiveError::new(Arc::clone(&self.path), ArchiveFault::Unsupported { what }));
        }
        for image in &mut self.images {
            image.squeeze(by.format, &became);
        }
        for (digest, squeezed) in &became {
            if let Some(blob) = self.blobs.remove(digest) {
                let Squeezed { digest, size } = (*squeezed).clone();
                let media_type = layer_type(by.format, &blob.media_type);
                self.blobs.insert(digest.clone(), ArchiveBlob { digest, size, media_type, ..blob });
            }
        }
        let count = became.len();
        self.notes.push(format!(
            "{count} {} compressed, so that manifests and digests are new ones",
            if count == 1 { "layer was" } else { "layers were" }
        ));
        Ok(self)
    }
}

impl ArchiveImage {
    fn squeeze(&mut self, format: Format, became: &BTreeMap<Digest, &Squeezed>) {
        // Children come before their parents.
        let mut replaced: BTreeMap<Digest, Manifest> = BTreeMap::new();
        for manifest in &mut self.manifests {
            let changed = match manifest.content() {
                ManifestContent::Image(image) => squeezed(image, format, became),
                ManifestContent::Index(index) => relisted(index, manifest.media_type(), &replaced),
                _ => None,
            };
            if let Some(changed) = changed {
                replaced.insert(manifest.digest().clone(), changed.clone());
                *manifest = changed;
            }
        }
    }
}

fn squeezed(image: &ImageManifest, format: Format, became: &BTreeMap<Digest, &Squeezed>) -> Option<Manifest> {
    if !image.layers.iter().any(|layer| became.contains_key(&layer.digest)) {
        return None;
    }
    let mut image = image.clone();
    // Docker's own types have no Zstandard, and the two families aren't mixed.
    let to_oci = format == Format::Zstd;
    for layer in &mut image.layers {
        if let Some(squeezed) = became.get(&layer.digest) {
            layer.media_type = layer_type(format, &layer.media_type);
            (layer.digest, layer.size, layer.data) = (squeezed.digest.clone(), squeezed.size, None);
        } else if to_oci {
            layer.media_type = oci(&layer.media_type);
        }
    }
    if to_oci {
        image.config.media_type = oci(&image.config.media_type);
        image.media_type = Some(MediaType::OCI_MANIFEST);
    }
    Some(image.to_manifest())
}

fn relisted(index: &Index, media_type: &MediaType, replaced: &BTreeMap<Digest, Manifest>) -> Option<Manifest> {
    if !index.manifests.iter().any(|child| replaced.contains_key(&child.digest)) {
        return None;
    }
    let child = |child: &Descriptor| {
        let mut child = match replaced.get(&child.digest) {
            Some(manifest) => {
                let media_type = manifest.media_type().clone();
                Descriptor { media_type, ..child.of_other(manifest.digest(), manifest.size()) }
            }
            None => child.clone(),
        };
        child.attest_what_became(|about| replaced.get(about).map(Manifest::digest));
        child
    };
    let manifests = index.manifests.iter().map(child).collect();
    Some(Index { manifests, media_type: Some(media_type.clone()), ..index.clone() }.to_manifest())
}

/// The type of a layer of this type when it is compressed.
fn layer_type(format: Format, bare: &MediaType) -> MediaType {
    match format {
        Format::Zstd => MediaType::OCI_LAYER_ZSTD,
        Format::Gzip if *bare == MediaType::DOCKER_LAYER => MediaType::DOCKER_LAYER_GZIP,
        Format::Gzip => MediaType::OCI_LAYER_GZIP,
    }
}

/// OCI's type for the same thing.
fn oci(media_type: &MediaType) -> MediaType {
    let pairs = [
        (MediaType::DOCKER_CONFIG, MediaType::OCI_CONFIG),
        (MediaType::DOCKER_LAYER, MediaType::OCI_LAYER),
        (MediaType::DOCKER_LAYER_GZIP, MediaType::OCI_LAYER_GZIP),
    ];
    pairs.into_iter().find(|(docker, _)| docker == media_type).map_or_else(|| media_type.clone(), |(_, oci)| oci)
}
