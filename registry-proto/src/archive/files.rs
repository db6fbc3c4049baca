//! Files by their name inside an archive, the same for a tar and for a folder.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sha2::Digest as _;

use super::error::ArchiveFault;
use super::image::BlobContent;
use super::limits::Limits;
use super::tar_index::TarIndex;
use super::{Disk, Opened};
use crate::spec::{Algorithm, Digest};

/// Where the bytes of a name are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The name of the file itself, which a link may have led to.
    pub(super) name: String,
    pub(super) path: Arc<Path>,
    pub(super) range: Range<u64>,
}

impl Place {
    pub(super) const fn size(&self) -> u64 {
        self.range.end - self.range.start
    }
}

pub(super) trait Files {
    /// `None`: there is no such file. `document`: there must not be two of them.
    fn locate(&mut self, name: &str, document: bool) -> Result<Option<Place>, ArchiveFault>;

    /// Fills `into` from `offset` of the place.
    fn read_at(&mut self, place: &Place, offset: u64, into: &mut [u8]) -> Result<(), ArchiveFault>;

    /// A whole document. Its size is looked at before anything is allocated.
    fn read_whole(&mut self, place: &Place, limit: usize) -> Result<Bytes, ArchiveFault> {
        let size = usize::try_from(place.size()).ok().filter(|size| *size <= limit).ok_or_else(|| {
            ArchiveFault::TooLarge { what: format!("`{}`", place.name), limit: limit as u64, unit: "bytes" }
        })?;
        let mut bytes = vec![0; size];
        self.read_at(place, 0, &mut bytes)?;
        Ok(bytes.into())
    }

    /// Its first bytes, six at most: enough for every magic number.
    fn head(&mut self, place: &Place) -> Result<Vec<u8>, ArchiveFault> {
        let mut head = vec![0; usize::try_from(place.size().min(6)).unwrap_or(6)];
        self.read_at(place, 0, &mut head)?;
        Ok(head)
    }

    /// The digest that its bytes really have, where they were seen already.
    fn digest(&self, _: &Place) -> Option<Digest> {
        None
    }

    /// Refuses a place whose bytes were seen and are others than this digest's.
    fn agrees(&self, place: &Place, digest: &Digest) -> Result<(), ArchiveFault> {
        match self.digest(place) {
            Some(found) if found.algorithm() == digest.algorithm() && found != *digest => Err(ArchiveFault::Mismatch {
                entry: format!("`{}`", place.name),
                expected: digest.to_string(),
                found: found.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Its bytes as the content of a blob.
    fn content(&self, place: &Place) -> BlobContent {
        BlobContent::File { path: Arc::clone(&place.path), range: place.range.clone() }
    }

    /// The SHA-256 of something large, in bounded memory.
    fn hash(&mut self, place: &Place) -> Result<Digest, ArchiveFault> {
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut offset = 0;
        while offset < place.size() {
            let left = usize::try_from(place.size() - offset).unwrap_or(usize::MAX);
            let part = buffer.len().min(left);
            self.read_at(place, offset, &mut buffer[..part])?;
            hasher.update(&buffer[..part]);
            offset += part as u64;
        }
        Ok(Digest::from_hash(Algorithm::Sha256, &hasher.finalize()))
    }
}

/// The files of a tar.
pub(super) struct TarFiles<'a, F> {
    path: Arc<Path>,
    file: BufReader<F>,
    index: TarIndex,
    limits: &'a Limits,
}

impl<'a, F: Read + Seek> TarFiles<'a, F> {
    pub(super) fn new(path: &Arc<Path>, file: F, size: u64, limits: &'a Limits) -> Result<Self, ArchiveFault> {
        // Large enough for a run of small entries, small enough to waste little when layers are jumped over.
        let mut file = BufReader::with_capacity(8 * 1024, file);
        let index = TarIndex::read(&mut file, size, limits)?;
        Ok(Self { path: Arc::clone(path), file, index, limits })
    }

    /// Whether there is something of that clean name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.index.has(name)
    }
}

impl<F: Read + Seek> Files for TarFiles<'_, F> {
    fn locate(&mut self, name: &str, document: bool) -> Result<Option<Place>, ArchiveFault> {
        let found = self.index.find(name, document, self.limits)?;
        Ok(found.map(|found| Place { name: found.name, path: Arc::clone(&self.path), range: found.range }))
    }

    fn read_at(&mut self, place: &Place, offset: u64, into: &mut [u8]) -> Result<(), ArchiveFault> {
        let start = SeekFrom::Start(place.range.start.saturating_add(offset));
        self.file.seek(start).and_then(|_| self.file.read_exact(into)).map_err(|e| cut_or_io(place, e))
    }
}

/// The files of a folder: only names of an OCI layout are ever asked for, built from digests that parsed.
pub(super) struct FolderFiles<'a, D> {
    pub(super) disk: &'a D,
    pub(super) root: Arc<Path>,
}

impl<D: Disk> Files for FolderFiles<'_, D> {
    fn locate(&mut self, name: &str, _: bool) -> Result<Option<Place>, ArchiveFault> {
        let path = self.root.join(name);
        match self.disk.open(&path) {
            Ok(Opened::File { size, .. }) => {
                Ok(Some(Place { name: name.to_owned(), path: path.into(), range: 0..size }))
            }
            Ok(Opened::Folder) => Err(ArchiveFault::layout(format!("`{name}` is a folder, not a file"))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ArchiveFault::io(format!("opening `{name}` in it"), e)),
        }
    }

    fn read_at(&mut self, place: &Place, offset: u64, into: &mut [u8]) -> Result<(), ArchiveFault> {
        let opened = self.disk.open(&place.path).map_err(|e| cut_or_io(place, e))?;
        let Opened::File { mut file, .. } = opened else {
            return Err(ArchiveFault::layout(format!("`{}` is a folder, not a file", place.name)));
        };
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(into)).map_err(|e| cut_or_io(place, e))
    }
}

/// A file may shrink between the index and the read.
fn cut_or_io(place: &Place, error: std::io::Error) -> ArchiveFault {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => ArchiveFault::Truncated { what: format!("`{}`", place.name) },
        _ => ArchiveFault::io(format!("reading `{}` in it", place.name), error),
    }
}
