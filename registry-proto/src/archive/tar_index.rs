//! A tar's table of contents: name to byte range, got by reading headers and seeking over bodies. The index of a 10 GiB
//! archive reads a few kilobytes.
//!
//! Whatever two tar readers might see differently is refused (A22): a PAX size that the header could have held but
//! contradicts, a body on an entry that has none, a wrong checksum, a repeated or conflicting extension header.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use super::error::{ArchiveFault, Compression};
use super::limits::Limits;
use super::tar_name::{clean, follow, lenient};
use super::tar_record::{OCTAL_MAX, Pax, RECORD, Record, shown};

/// What a name stands for.
enum Entry {
    File(Range<u64>),
    /// Its target counts from the archive's root.
    HardLink(String),
    /// Its target counts from the link's own folder.
    Symlink(String),
    Folder,
    Other(&'static str),
}

/// The names of a tar, cleaned.
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
        let index = Self { entries: BTreeMap::new(), twice: BTreeSet::new(), odd: BTreeMap::new() };
        file.seek(SeekFrom::Start(0)).map_err(|e| ArchiveFault::io("going to its start", e))?;
        let mut walker = Walker { file, at: 0, size, limits, index, headers: 0, names: 0 };
        walker.walk()?;
        Ok(walker.index)
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

/// Extension headers that wait for the file they are about.
#[derive(Default)]
struct Pending {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

struct Walker<'a, F> {
    file: &'a mut BufReader<F>,
    at: u64,
    size: u64,
    limits: &'a Limits,
    index: TarIndex,
    headers: usize,
    names: usize,
}

impl<F: Read + Seek> Walker<'_, F> {
    fn walk(&mut self) -> Result<(), ArchiveFault> {
        let mut pending = Pending::default();
        while let Some(record) = self.header()? {
            self.headers += 1;
            // An entry may have up to three extension headers; a run of nothing else is not an archive either.
            if self.headers > self.limits.entries.saturating_mul(4) {
                return Err(self.too_many());
            }
            let repeated = match record.kind {
                b'x' | b'X' => {
                    let block = self.body(&record, self.limits.pax)?;
                    pending.pax.replace(Pax::parse(&block)?).is_some()
                }
                b'g' => {
                    let pax = Pax::parse(&self.body(&record, self.limits.pax)?)?;
                    if pax.path.is_some() || pax.link.is_some() || pax.size.is_some() {
                        return Err(ArchiveFault::tar("a global PAX header names or sizes every file"));
                    }
                    false
                }
                b'L' => pending.name.replace(self.long_name(&record)?).is_some(),
                b'K' => pending.link.replace(self.long_name(&record)?).is_some(),
                _ => {
                    self.entry(record, std::mem::take(&mut pending))?;
                    false
                }
            };
            if repeated {
                return Err(ArchiveFault::tar(format!(
                    "two extension headers stand before one file at byte {}",
                    self.at
                )));
            }
        }
        if pending.pax.is_some() || pending.name.is_some() || pending.link.is_some() {
            return Err(self.cut_off("the headers of an entry"));
        }
        Ok(())
    }

    /// `None` at the end: a zero block, or the end of the file. What comes after a zero block is no longer the archive.
    fn header(&mut self) -> Result<Option<Record>, ArchiveFault> {
        let left = self.size - self.at;
        if left == 0 && self.at > 0 {
            return Ok(None);
        }
        let mut bytes = [0; 512];
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        self.file.read_exact(&mut bytes[..here]).map_err(|e| self.io(e))?;
        if self.at == 0
            && let Some(format) = Compression::of(&bytes)
        {
            return Err(ArchiveFault::Compressed(format));
        }
        if here > 0 && bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let record = if here == bytes.len() { Record::parse(&bytes)? } else { None };
        if record.is_none() && self.at == 0 {
            let why = "it is neither a tar (as `docker save` writes) nor a folder with an OCI layout";
            return Err(ArchiveFault::NotAnArchive { why: if left == 0 { "it is empty" } else { why }.into() });
        }
        if here < bytes.len() {
            return Err(self.cut_off("the header of an entry"));
        }
        if record.is_none() {
            return Err(ArchiveFault::tar(format!("the header at byte {} has a wrong checksum", self.at)));
        }
        self.at += RECORD;
        Ok(record)
    }

    fn entry(&mut self, record: Record, pending: Pending) -> Result<(), ArchiveFault> {
        if self.index.entries.len() >= self.limits.entries {
            return Err(self.too_many());
        }
        let pax = pending.pax.unwrap_or_default();
        let name = choose(record.name, pax.path, pending.name)?;
        let link = choose(record.link, pax.link, pending.link)?;
        for text in [&name, &link] {
            self.limit(text.len(), self.limits.name, "a name")?;
        }
        self.names += name.len() + link.len();
        self.limit(self.names, self.limits.names, "the sum of its names")?;
        let size = match pax.size {
            // Only a size that the field can't hold may differ: Go writes 0 there, others the largest that fits.
            Some(size) if size == record.size => size,
            Some(size) if size > OCTAL_MAX && [0, OCTAL_MAX].contains(&record.size) => size,
            Some(size) => {
                return Err(ArchiveFault::tar(format!(
                    "entry `{}` has size {size} by its PAX header and {} by its own",
                    shown(&name),
                    record.size
                )));
            }
            None => record.size,
        };
        let bodiless = |what: &str| match size {
            0 => Ok(()),
            _ => Err(ArchiveFault::tar(format!("entry `{}` is {what} with a body of {size} bytes", shown(&name)))),
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        let start = self.at;
        self.skip(size, &name)?;
        let entry = match record.kind {
            b'0' | 0 | b'7' if name.ends_with(b"/") => Entry::Folder,
            b'0' | 0 | b'7' => Entry::File(start..start + size),
            b'1' | b'2' => {
                bodiless("a link")?;
                match text(link) {
                    Some(target) if record.kind == b'1' => Entry::HardLink(target),
                    Some(target) => Entry::Symlink(target),
                    None => Entry::Other("a link to a name that is not UTF-8"),
                }
            }
            b'5' => bodiless("a folder").map(|()| Entry::Folder)?,
            b'3' | b'4' | b'6' => bodiless("a device").map(|()| Entry::Other("a device or pipe"))?,
            b'S' | b'M' => {
                return Err(ArchiveFault::tar(format!(
                    "entry `{}` is sparse or split, which no image saver writes",
                    shown(&name)
                )));
            }
            _ => Entry::Other("of an unknown type"),
        };
        // A name that is not UTF-8 can't be named by JSON, so it is never wanted.
        if let Some(name) = text(name) {
            self.index.insert(&name, entry);
        }
        Ok(())
    }

    /// Goes to the next header. A last body without its padding is whole; a body without its last byte is not.
    fn skip(&mut self, size: u64, name: &[u8]) -> Result<(), ArchiveFault> {
        if size > self.size - self.at {
            return Err(self.cut_off(&format!("entry `{}`", shown(name))));
        }
        let padded = size.checked_next_multiple_of(RECORD).unwrap_or(u64::MAX).min(self.size - self.at);
        self.advance(padded)
    }

    /// Within what is buffered this costs nothing.
    fn advance(&mut self, bytes: u64) -> Result<(), ArchiveFault> {
        let step = i64::try_from(bytes).map_err(|_| self.cut_off("an entry"))?;
        self.file.seek_relative(step).map_err(|e| self.io(e))?;
        self.at += bytes;
        Ok(())
    }

    fn body(&mut self, record: &Record, limit: usize) -> Result<Vec<u8>, ArchiveFault> {
        let length = usize::try_from(record.size).unwrap_or(usize::MAX);
        self.limit(length, limit, "an extension header")?;
        if record.size > self.size - self.at {
            return Err(self.cut_off("an extension header"));
        }
        let mut body = vec![0; length];
        self.file.read_exact(&mut body).map_err(|e| self.io(e))?;
        self.at += record.size;
        self.advance((record.size.next_multiple_of(RECORD) - record.size).min(self.size - self.at))?;
        Ok(body)
    }

    fn long_name(&mut self, record: &Record) -> Result<Vec<u8>, ArchiveFault> {
        let mut name = self.body(record, self.limits.name.saturating_add(1))?;
        name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn limit(&self, is: usize, limit: usize, what: &str) -> Result<(), ArchiveFault> {
        if is <= limit {
            return Ok(());
        }
        let what = format!("{what} at byte {} of the tar", self.at);
        Err(ArchiveFault::TooLarge { what, limit: limit as u64, unit: "bytes" })
    }

    fn too_many(&self) -> ArchiveFault {
        let limit = self.limits.entries as u64;
        ArchiveFault::TooLarge { what: "the tar's list of entries".into(), limit, unit: "entries" }
    }

    fn cut_off(&self, what: &str) -> ArchiveFault {
        ArchiveFault::Truncated { what: format!("{what} at byte {} of {}", self.at, self.size) }
    }

    /// The file may shrink while it is read.
    fn io(&self, error: std::io::Error) -> ArchiveFault {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.cut_off("the part"),
            _ => ArchiveFault::io(format!("at byte {}", self.at), error),
        }
    }
}

impl TarIndex {
    fn insert(&mut self, raw: &str, entry: Entry) {
        match clean(raw) {
            Ok(name) => {
                let folder = matches!(entry, Entry::Folder);
                let before = self.entries.insert(name.clone(), entry);
                // Folders are announced again and again by some tars; that hides nothing.
                if before.is_some_and(|before| !(folder && matches!(before, Entry::Folder))) {
                    self.twice.insert(name);
                }
            }
            // Harmless as long as nothing is asked for by a name like it.
            Err(_) => drop(self.odd.insert(lenient(raw), raw.to_owned())),
        }
    }
}

/// The long forms go before the header's own field; when PAX and GNU both speak they have to agree.
fn choose(header: Vec<u8>, pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>) -> Result<Vec<u8>, ArchiveFault> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if pax != gnu => Err(ArchiveFault::tar(format!(
            "an entry is called `{}` by PAX and `{}` by GNU headers",
            shown(&pax),
            shown(&gnu)
        ))),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(header),
    }
}
