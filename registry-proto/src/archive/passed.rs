//! What is left of an archive that has gone by: names, digests, and the documents.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::error::ArchiveFault;
use super::files::{Files, Place};
use super::image::BlobContent;
use super::limits::Limits;
use super::reading::Markers;
use super::tar_index::{Entry, TarIndex};
use crate::spec::Digest;

/// The files of a tape that has gone by.
#[derive(Debug)]
pub(super) struct PassedFiles {
    path: Arc<Path>,
    limits: Limits,
    index: TarIndex,
    /// By where they start.
    passed: BTreeMap<u64, Passed>,
}

/// What is left of a file.
#[derive(Debug)]
pub(super) struct Passed {
    /// Its first bytes: enough to see what it is.
    pub(super) head: Bytes,
    /// All of it, if it was kept.
    pub(super) whole: Option<Bytes>,
    pub(super) digest: Digest,
}

impl PassedFiles {
    /// Nothing has gone by yet of what is called so.
    pub(super) fn new(path: Arc<Path>, limits: &Limits) -> Self {
        Self { path, limits: *limits, index: TarIndex::default(), passed: BTreeMap::new() }
    }

    pub(super) const fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// An entry without bytes.
    pub(super) fn meet(&mut self, name: Vec<u8>, entry: Entry) {
        self.index.insert(name, entry);
    }

    /// A file whose bytes began there.
    pub(super) fn pass(&mut self, name: Vec<u8>, entry: Entry, start: u64, passed: Passed) {
        self.index.insert(name, entry);
        self.passed.insert(start, passed);
    }

    /// Which documents there are.
    pub(super) fn markers(&self) -> Markers {
        Markers::of(|name| self.index.has(name))
    }

    fn passed(&self, place: &Place) -> Option<&Passed> {
        self.passed.get(&place.range.start)
    }
}

impl Files for PassedFiles {
    fn locate(&mut self, name: &str, document: bool) -> Result<Option<Place>, ArchiveFault> {
        let found = self.index.find(name, document, &self.limits)?;
        Ok(found.map(|found| Place { name: found.name, path: Arc::clone(&self.path), range: found.range }))
    }

    fn read_at(&mut self, place: &Place, offset: u64, into: &mut [u8]) -> Result<(), ArchiveFault> {
        let there = self.passed(place).map(|passed| passed.whole.as_ref().unwrap_or(&passed.head));
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = there.and_then(|bytes| bytes.get(at..at.checked_add(into.len())?));
        let part = part.ok_or_else(|| ArchiveFault::Unsupported {
            what: format!(
                "`{}` is needed as a document, but went by as something else: large, or no JSON; save the archive to a \
                 file, without compression, and name that",
                place.name
            ),
        })?;
        into.copy_from_slice(part);
        Ok(())
    }

    fn hash(&mut self, place: &Place) -> Result<Digest, ArchiveFault> {
        self.digest(place).ok_or_else(|| ArchiveFault::missing(format!("`{}`", place.name), "the archive's own index"))
    }

    fn digest(&self, place: &Place) -> Option<Digest> {
        self.passed(place).map(|passed| passed.digest.clone())
    }

    fn content(&self, place: &Place) -> BlobContent {
        match self.passed(place).and_then(|passed| passed.whole.clone()) {
            Some(bytes) => BlobContent::Bytes(bytes),
            None => BlobContent::Passed { start: place.range.start },
        }
    }
}
