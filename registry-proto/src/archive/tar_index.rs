//! A tar's table of contents: name to byte range, got by reading headers and seeking over bodies. The index of a 10 GiB
//! archive reads a few kilobytes.
//!
//! How headers are read is in [`tar_walk`](super::tar_walk).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use super::error::ArchiveFault;
use super::limits::Limits;
use super::tar_name::{clean, follow, lenient};
use super::tar_record::shown;
use super::tar_walk::{Seekable, Walker};

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Entry {
    File(Range<u64>),
    /// Its target counts from the archive's root.
    HardLink(String),
    /// Its target counts from the link's own folder.
    Symlink(String),
    Folder,
    Other(&'static str),
}

/// The names of a tar, cleaned.
#[derive(Debug, Default)]
pub(super) struct TarIndex {
    entries: BTreeMap<String, Entry>,
    /// Names that occur twice. The last wins, as in tar; for documents that is refused.
    twice: BTreeSet<String>,
    /// Names that are absolute or have `..` in them, by what a careless reader would make of them.
    odd: BTreeMap<String, String>,
}

/// A file that was found, perhaps by way of links.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The clean name of the file itself.
    pub(super) name: String,
    pub(super) range: Range<u64>,
}

impl TarIndex {
    /// Walks the whole file, `size` bytes long. `file` should have a small buffer: between headers it only seeks.
    pub(super) fn read<F: Read + Seek>(
        file: &mut BufReader<F>,
        size: u64,
        limits: &Limits,
    ) -> Result<Self, ArchiveFault> {
        file.seek(SeekFrom::Start(0)).map_err(|e| ArchiveFault::io("going to its start", e))?;
        let mut walker = Walker::new(limits);
        let mut file = Seekable::new(file, size);
        let mut index = Self::default();
        while let Some(item) = walker.next(&mut file)? {
            walker.skip(&mut file, item.size, &item.name)?;
            index.insert(item.name, item.entry);
        }
        Ok(index)
    }

    /// Whether there is anything, but a folder, of that clean name.
    pub(super) fn has(&self, name: &str) -> bool {
        matches!(self.entries.get(name), Some(entry) if !matches!(entry, Entry::Folder)) || self.odd.contains_key(name)
    }

    /// The file of a name as some document gives it, through at most `limits.links` links; targets may stand later in the
    /// archive. `document`: its meaning depends on which of several equal names is read, so there may be only one.
    pub(super) fn find(&self, raw: &str, document: bool, limits: &Limits) -> Result<Option<Found>, ArchiveFault> {
        let mut name =
            clean(raw).map_err(|why| ArchiveFault::tar(format!("the name `{}` {why}", shown(raw.as_bytes()))))?;
        let link = |entry: &str, why: &str| ArchiveFault::Link { entry: entry.into(), why: why.into() };
        let mut passed = BTreeSet::new();
        loop {
            if document && self.twice.contains(&name) {
                return Err(ArchiveFault::tar(format!("it has `{name}` twice")));
            }
            let entry = self.entries.get(&name);
            if let Some(odd) = self.odd.get(&name).filter(|_| document || entry.is_none()) {
                return Err(ArchiveFault::tar(format!(
                    "it has `{name}` under the name `{}`, which no image saver writes",
                    shown(odd.as_bytes())
                )));
            }
            let next = match entry {
                None if passed.is_empty() => return Ok(None),
                None => return Err(ArchiveFault::missing(format!("`{name}`"), format!("the link `{raw}`"))),
                Some(Entry::File(range)) => return Ok(Some(Found { name, range: range.clone() })),
                Some(Entry::HardLink(target)) => clean(target),
                Some(Entry::Symlink(target)) => follow(&name, target),
                Some(Entry::Folder) => return Err(ArchiveFault::layout(format!("`{name}` is a folder, not a file"))),
                Some(Entry::Other(kind)) => {
                    return Err(ArchiveFault::layout(format!("`{name}` is {kind}, not a file")));
                }
            };
            let next = next.map_err(|why| link(&name, why))?;
            if passed.len() == limits.links {
                return Err(link(raw, "leads over too many other links"));
            }
            passed.insert(name);
            if passed.contains(&next) {
                return Err(link(raw, "leads back to itself"));
            }
            name = next;
        }
    }
}

impl TarIndex {
    /// Takes an entry in. A name that is not UTF-8 can't be named by JSON, so it is never wanted.
    pub(super) fn insert(&mut self, name: Vec<u8>, entry: Entry) {
        let Ok(raw) = String::from_utf8(name) else { return };
        match clean(&raw) {
            Ok(name) => {
                let folder = matches!(entry, Entry::Folder);
                let before = self.entries.insert(name.clone(), entry);
                // Folders are announced again and again by some tars; that hides nothing.
                if before.is_some_and(|before| !(folder && matches!(before, Entry::Folder))) {
                    self.twice.insert(name);
                }
            }
            // Harmless as long as nothing is asked for by a name like it.
            Err(_) => drop(self.odd.insert(lenient(&raw), raw)),
        }
    }
}
