//! What an archive holds: images, their names, and blobs that stay where they are.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::spec::{Descriptor, Digest, ImageConfig, Kind, Manifest, MediaType, Reference, Tag};

/// One image of an archive: a manifest or an index, with everything below it that the archive holds.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveImage {
    pub(super) names: Vec<ImageName>,
    /// Never empty; the root is the last.
    pub(super) manifests: Vec<Manifest>,
    pub(super) config: Option<ImageConfig>,
}

impl ArchiveImage {
    /// The names it was saved under, as far as they are valid. None for an image that was saved by its id.
    pub fn names(&self) -> &[ImageName] {
        &self.names
    }

    /// Its manifests in the order in which a registry takes them: children before parents, the root last.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// The manifest or index that the names stand for.
    pub fn root(&self) -> &Manifest {
        self.manifests.last().expect("an image is only made with its root")
    }

    /// The configuration, if the root is the manifest of one image (and not an index, nor that of an artifact).
    pub const fn config(&self) -> Option<&ImageConfig> {
        self.config.as_ref()
    }

    /// The distinct blobs that its manifests name, in order: configs before their layers. Layers that registries don't
    /// hold (foreign ones that the archive hasn't either) are not among the archive's blobs.
    pub fn blob_digests(&self) -> Vec<Digest> {
        let mut seen = BTreeSet::new();
        let named = self.manifests.iter().filter_map(Manifest::image).flat_map(|image| image.blobs());
        named.filter(|blob| seen.insert(&blob.digest)).map(|blob| blob.digest.clone()).collect()
    }

    /// Only that of its manifests, and what is below it: under the same names.
    pub(crate) fn only(&self, root: &Digest) -> Option<Self> {
        let mut wanted = BTreeSet::from([root.clone()]);
        // Parents come after their children.
        let mut manifests: Vec<Manifest> = Vec::new();
        for manifest in self.manifests.iter().rev().filter(|manifest| manifest.digest() != self.root().digest()) {
            if wanted.contains(manifest.digest()) {
                let children = manifest.index().into_iter().flat_map(|index| &index.manifests);
                wanted.extend(children.map(|child| child.digest.clone()));
                manifests.push(manifest.clone());
            }
        }
        manifests.reverse();
        let found = manifests.last().is_some_and(|last| last.digest() == root);
        found.then(|| Self { names: self.names.clone(), manifests, config: None })
    }

    /// Whether one of its manifests has this config.
    pub(super) fn has_config(&self, digest: &Digest) -> bool {
        self.manifests.iter().filter_map(Manifest::image).any(|image| image.config.digest == *digest)
    }
}

/// Whether the archive may lack a layer: registries don't hold it either (image-spec: non-distributable layers).
pub(super) fn is_foreign(layer: &Descriptor) -> bool {
    layer.media_type.kind() == Kind::ForeignLayer || !layer.urls.is_empty()
}

/// A name of an image: a whole reference, or only a tag.
///
/// ```
/// # use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
/// # use registry_proto::archive::{Archive, Limits};
/// # let tar = make::docker_save_oci(&[SampleImage::new(&["app:v1"], &[b"a layer"])]);
/// # let disk = MemoryDisk::with("app.tar", tar);
/// # let path = std::path::Path::new("app.tar").into();
/// let archive = Archive::read(&disk, &path, &Limits::default())?;
/// assert_eq!(archive.images()[0].names()[0].as_written(), "docker.io/library/app:v1");
/// # Ok::<(), registry_proto::archive::ArchiveError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    written: String,
    reference: Option<Reference>,
    tag: Option<Tag>,
}

impl ImageName {
    /// As `RepoTags` and `io.containerd.image.name` have it: always with a repository.
    pub(super) fn full(written: &str) -> Result<Self, String> {
        let reference: Reference = written.parse().map_err(|why| format!("{why}"))?;
        Ok(Self { written: written.to_owned(), tag: reference.tag().cloned(), reference: Some(reference) })
    }

    /// As `org.opencontainers.image.ref.name` has it: docker writes a tag, podman a whole reference. A word without `/`
    /// and `:` can be either; every saver that writes such a word means a tag.
    pub(super) fn tag_or_full(written: &str) -> Result<Self, String> {
        if written.contains(['/', ':', '@']) {
            return Self::full(written);
        }
        let tag: Tag = written.parse().map_err(|why| format!("{why}"))?;
        Ok(Self { written: written.to_owned(), reference: None, tag: Some(tag) })
    }

    /// As the archive has it.
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// The reference, normalised, if the name says which repository (by its full or familiar name).
    pub const fn reference(&self) -> Option<&Reference> {
        self.reference.as_ref()
    }

    /// The tag, if it says one.
    pub const fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Whether a list with `self` in it gains nothing from `other`.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match &other.reference {
            Some(_) => self.reference == other.reference,
            None => self.tag == other.tag,
        }
    }
}

/// A config or layer, and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveBlob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) media_type: MediaType,
    pub(super) content: BlobContent,
}

impl ArchiveBlob {
    /// Its digest. For layers it is the archive's claim, to be verified while the bytes are sent; of configs it is known.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its size in bytes: what is really there.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Its media type, by the first manifest that names it.
    pub const fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Where its bytes are.
    pub const fn content(&self) -> &BlobContent {
        &self.content
    }
}

/// Where a blob's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobContent {
    /// In a file: the archive itself, or a file of the OCI layout.
    File {
        /// The file.
        path: Arc<Path>,
        /// Which of its bytes.
        range: Range<u64>,
    },
    /// Here: content that a descriptor carries itself, or a small file of an archive that went by.
    Bytes(Bytes),
    /// It went by ([`Feed`](super::Feed)), and can't be read again.
    Passed {
        /// At which byte of what went by it began.
        start: u64,
    },
}
