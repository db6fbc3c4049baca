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
use std::time::Duration;

use crate::spec::Digest;

mod docker_save;
mod error;
mod feed;
mod files;
mod identity;
mod image;
mod layout;
mod limits;
#[cfg(any(test, feature = "testing"))]
pub mod make;
mod oci_layout;
mod passed;
mod reading;
mod squeeze;
mod tape;
mod tar_header;
mod tar_index;
mod tar_name;
mod tar_record;
mod tar_walk;
#[cfg(test)]
mod tests;

pub use error::{ArchiveError, ArchiveFault, Compression};
pub use feed::{Feed, Packed};
pub use image::{ArchiveBlob, ArchiveImage, BlobContent, ImageName};
pub use layout::ArchiveFormat;
pub(crate) use layout::{Content, Contents, TarLayout};
pub use limits::Limits;
pub(crate) use squeeze::Squeezed;
pub use squeeze::{Compressor, Squeeze};
pub(crate) use tape::{Tape, TapeFile, Wind, Wound};

/// What opens files: a runtime's file system, or a map in tests.
///
/// ```
/// use registry_proto::archive::{Disk, Opened};
/// use std::{fs, io, path::Path};
///
/// /// The file system of a program that may block.
/// struct Files;
///
/// impl Disk for Files {
///     type File = fs::File;
///
///     fn open(&self, path: &Path) -> io::Result<Opened<fs::File>> {
///         let file = fs::File::open(path)?;
///         let metadata = file.metadata()?;
///         Ok(if metadata.is_dir() { Opened::Folder } else { Opened::File { file, size: metadata.len() } })
///     }
/// }
/// # let _ = Files;
/// ```
pub trait Disk {
    /// An open file. It may be unbuffered: reads are buffered here.
    type File: Read + Seek;

    /// Opens a file, or says that there is a folder.
    ///
    /// # Errors
    /// Whatever the file system says; [`io::ErrorKind::NotFound`] when there is nothing.
    fn open(&self, path: &Path) -> io::Result<Opened<Self::File>>;

    /// When a file was written last, from 1970 on, as exactly as the file system has it. It is only compared, to see whether
    /// an archive was changed. `None`: this disk doesn't know.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn written_at(&self, path: &Path) -> io::Result<Option<Duration>> {
        let _ = path;
        Ok(None)
    }
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
///
/// ```
/// use std::path::Path;
/// use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
/// use registry_proto::archive::{Archive, ArchiveKind, Limits};
///
/// let tar = make::docker_save_oci(&[SampleImage::new(&["app:v1"], &[b"a layer"])]);
/// let disk = MemoryDisk::with("app.tar", tar); // or a runtime's file system
/// let archive = Archive::read(&disk, &Path::new("app.tar").into(), &Limits::default())?;
/// assert_eq!(archive.kind(), ArchiveKind::DockerSaveOci);
/// for image in archive.images() {
///     println!("{}: {} blobs", image.root().digest(), image.blob_digests().len());
/// }
/// # Ok::<(), registry_proto::archive::ArchiveError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Archive {
    path: Arc<Path>,
    kind: ArchiveKind,
    images: Vec<ArchiveImage>,
    blobs: BTreeMap<Digest, ArchiveBlob>,
    notes: Vec<String>,
    identity: Digest,
}

/// What [`Archive::examine`] found: an archive, faults, or both.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The archive with those of its images that can be used, if any.
    pub archive: Option<Archive>,
    /// Every fault found.
    pub faults: Vec<ArchiveError>,
}

impl Examined {
    /// The archive, if nothing is wrong with it.
    ///
    /// # Errors
    /// The first fault.
    pub fn into_result(self) -> Result<Archive, ArchiveError> {
        match (self.faults.into_iter().next(), self.archive) {
            (Some(fault), _) => Err(fault),
            (None, Some(archive)) => Ok(archive),
            (None, None) => unreachable!("what holds no image is a fault"),
        }
    }
}

impl Archive {
    /// Reads an archive's table of contents. Of a tar that is its headers and documents; layers are skipped, except that
    /// a compressed layer whose name isn't its digest is hashed.
    ///
    /// # Errors
    /// The first fault, even if other images of the archive could be used ([`Archive::examine`] goes on).
    pub fn read<D: Disk>(disk: &D, path: &Arc<Path>, limits: &Limits) -> Result<Self, ArchiveError> {
        Self::examine(disk, path, limits).into_result()
    }

    /// Like [`Archive::read`], but goes on after a fault where it can.
    pub fn examine<D: Disk>(disk: &D, path: &Arc<Path>, limits: &Limits) -> Examined {
        let (archive, faults) = reading::examine(disk, path, limits);
        Self::examined(path, archive, faults, |path| disk.written_at(path).ok().flatten())
    }

    /// `written_at` tells when a file of it was written last, where that is known.
    fn examined(
        path: &Arc<Path>,
        archive: Option<Self>,
        faults: Vec<ArchiveFault>,
        written_at: impl Fn(&Path) -> Option<Duration>,
    ) -> Examined {
        let mut faults: Vec<_> = faults.into_iter().map(|fault| ArchiveError::new(Arc::clone(path), fault)).collect();
        let mut archive = archive.filter(|archive| !archive.images.is_empty());
        if let Some(archive) = &mut archive {
            archive.identity = identity::of(archive, written_at);
        }
        if archive.is_none() && faults.is_empty() {
            let why = "it holds no image".into();
            faults.push(ArchiveError::new(Arc::clone(path), ArchiveFault::NotAnArchive { why }));
        }
        Examined { archive, faults }
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

    /// What tells it from any other archive, and from itself before it was changed: a digest of its table of contents, and of
    /// the times when its files were written where the [`Disk`] knows them.
    pub const fn identity(&self) -> &Digest {
        &self.identity
    }

    /// What was left out or changed, and why: a sentence each. Not faults.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}
