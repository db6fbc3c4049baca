//! Image archives (in the making: types only).
#![allow(missing_docs)]
use crate::spec::*;
use bytes::Bytes;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
pub trait Disk {
    type File: Read + Seek;
    fn open(&self, path: &Path) -> io::Result<Opened<Self::File>>;
}
#[derive(Debug)]
pub enum Opened<F> {
    File { file: F, size: u64 },
    Folder,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limits;
#[derive(Clone, Debug, PartialEq)]
pub struct Archive {
    path: Arc<Path>,
}
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stub")]
pub struct ArchiveError;
impl Archive {
    pub fn read<D: Disk>(_disk: &D, _path: &Arc<Path>, _limits: &Limits) -> Result<Archive, ArchiveError> {
        Err(ArchiveError)
    }
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }
    pub fn images(&self) -> &[ArchiveImage] {
        &[]
    }
    pub fn blob(&self, _d: &Digest) -> Option<&ArchiveBlob> {
        None
    }
    pub fn blobs(&self) -> impl Iterator<Item = &ArchiveBlob> {
        std::iter::empty()
    }
    pub fn notes(&self) -> &[String] {
        &[]
    }
}
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveImage {
    names: Vec<ImageName>,
    manifests: Vec<Manifest>,
}
impl ArchiveImage {
    pub fn names(&self) -> &[ImageName] {
        &self.names
    }
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }
    pub fn root(&self) -> &Manifest {
        &self.manifests[0]
    }
    pub fn blob_digests(&self) -> Vec<Digest> {
        vec![]
    }
}
#[derive(Clone, Debug, PartialEq)]
pub struct ImageName {
    r: Option<Reference>,
    t: Option<Tag>,
    s: String,
}
impl ImageName {
    pub fn as_written(&self) -> &str {
        &self.s
    }
    pub fn reference(&self) -> Option<&Reference> {
        self.r.as_ref()
    }
    pub fn tag(&self) -> Option<&Tag> {
        self.t.as_ref()
    }
}
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveBlob {
    digest: Digest,
    size: u64,
    content: BlobContent,
}
impl ArchiveBlob {
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
    pub fn size(&self) -> u64 {
        self.size
    }
    pub fn content(&self) -> &BlobContent {
        &self.content
    }
}
#[derive(Clone, Debug, PartialEq)]
pub enum BlobContent {
    File { path: Arc<Path>, range: Range<u64> },
    Bytes(Bytes),
}
