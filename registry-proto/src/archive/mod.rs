//! Image archives, read in place: what `docker save`, podman, skopeo, buildx, crane and ctr write (PROTOCOL.md §4.4).
//!
//! Nothing is unpacked. A tar's headers are walked once, its documents are read, and every config and layer becomes a
//! byte range of a file, to be read from there when it is sent. Where the archive has the image's own manifest, it is
//! kept byte for byte, so that digests don't change. Files are opened by a [`Disk`], which every runtime brings along;
//! no name from an archive ever reaches it.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use crate::spec::Digest;

mod docker_save;
mod error;
mod files;
mod image;
mod limits;
#[cfg(any(test, feature = "testing"))]
pub mod make;
mod oci_layout;
mod reading;
mod tar_index;
mod tar_name;
mod tar_record;
#[cfg(test)]
mod tests;

pub use error::{ArchiveError, ArchiveFault, Compression};
pub use image::{ArchiveBlob, ArchiveImage, BlobContent, ImageName};
pub use limits::Limits;

/// What opens files: a runtime's file system, or a map in tests.
pub trait Disk {
    /// An open file. It may be unbuffered: reads are buffered here.
    type File: Read + Seek;

    /// Opens a file, or says that there is a folder.
    ///
    /// # Errors
    /// Whatever the file system says; [`io::ErrorKind::NotFound`] when there is nothing.
    fn open(&self, path: &Path) -> io::Result<Opened<Self::File>>;
}

/// What is at a path.
#[derive(Debug)]
pub enum Opened<F> {
    /// A file.
    File {
        /// It, open.
        file: F,
        /// Its size in bytes.
        size: u64,
    },
    /// A folder. What is in it is asked for by name, never listed.
    Folder,
}

/// What kind of archive it is, told by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveKind {
    /// A tar with `manifest.json`: `docker save` before Docker 25, podman's docker-archive, crane, kaniko, ko.
    DockerSave,
    /// A tar with both `manifest.json` and an OCI layout: `docker save` since Docker 25, `ctr`, buildx `type=docker`.
    DockerSaveOci,
    /// A tar of an OCI layout: skopeo's and podman's oci-archive, buildx `type=oci`.
    OciArchive,
    /// A folder with an OCI layout.
    OciFolder,
}

/// An archive's table of contents. A plain value: what it describes stays in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Archive {
    path: Arc<Path>,
    kind: ArchiveKind,
    images: Vec<ArchiveImage>,
    blobs: BTreeMap<Digest, ArchiveBlob>,
    notes: Vec<String>,
}

impl Archive {
    /// Reads an archive's table of contents. Of a tar that is its headers and documents; layers are skipped, except that
    /// a compressed layer whose name isn't its digest is hashed.
    ///
    /// # Errors
    /// The first fault, even if other images of the archive could be used ([`Archive::examine`] goes on).
    pub fn read<D: Disk>(disk: &D, path: &Arc<Path>, limits: &Limits) -> Result<Self, ArchiveError> {
        let (archive, faults) = Self::examine(disk, path, limits);
        match (archive, faults.into_iter().next()) {
            (_, Some(fault)) => Err(fault),
            (Some(archive), None) => Ok(archive),
            (None, None) => {
                let why = "it holds no image".into();
                Err(ArchiveError::new(Arc::clone(path), ArchiveFault::NotAnArchive { why }))
            }
        }
    }

    /// Like [`Archive::read`], but goes on after a fault where it can: the archive with those of its images that can be
    /// used, if any, and every fault found.
    pub fn examine<D: Disk>(disk: &D, path: &Arc<Path>, limits: &Limits) -> (Option<Self>, Vec<ArchiveError>) {
        let (archive, faults) = reading::examine(disk, path, limits);
        let faults = faults.into_iter().map(|fault| ArchiveError::new(Arc::clone(path), fault)).collect();
        (archive.filter(|archive| !archive.images.is_empty()), faults)
    }

    /// The file or folder.
    pub const fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// What kind of archive it is.
    pub const fn kind(&self) -> ArchiveKind {
        self.kind
    }

    /// Its images, in the archive's order. Never empty.
    pub fn images(&self) -> &[ArchiveImage] {
        &self.images
    }

    /// A config or layer by its digest.
    pub fn blob(&self, digest: &Digest) -> Option<&ArchiveBlob> {
        self.blobs.get(digest)
    }

    /// Every config and layer once, in the order of their digests.
    pub fn blobs(&self) -> impl Iterator<Item = &ArchiveBlob> {
        self.blobs.values()
    }

    /// What was left out or changed, and why: a sentence each. Not faults.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}
