//! From entry to entry of a tar: headers are read, bodies are left to whoever walks. The same rules for a file that can be
//! jumped through and for a stream that goes by once.
//!
//! Whatever two tar readers might see differently is refused (A22): a PAX size that the header could have held but
//! contradicts, a body on an entry that has none, a wrong checksum, a repeated or conflicting extension header.

use std::io::{self, BufReader, ErrorKind, Read, Seek};

use super::error::{ArchiveFault, Compression};
use super::limits::Limits;
use super::tar_header::RECORD;
use super::tar_index::Entry;
use super::tar_record::{OCTAL_MAX, Pax, Record, shown};

/// Where the bytes of a tar come from.
pub(super) trait Input {
    /// Fills `into` as far as there is something left.
    fn fill(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Goes so many bytes ahead; how many of them there were.
    fn skip(&mut self, bytes: u64) -> io::Result<u64>;

    /// How many bytes there are in all, if that is known.
    fn size(&self) -> Option<u64>;
}

/// Reads until `into` is full or there is nothing more.
pub(super) fn fill(reader: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match reader.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(filled)
}

/// A file. Its buffer should be small: between headers it is only jumped through.
pub(super) struct Seekable<'a, F> {
    file: &'a mut BufReader<F>,
    size: u64,
    at: u64,
}

impl<'a, F> Seekable<'a, F> {
    /// A file of this size that stands at its start.
    pub(super) const fn new(file: &'a mut BufReader<F>, size: u64) -> Self {
        Self { file, size, at: 0 }
    }
}

impl<F: Read + Seek> Input for Seekable<'_, F> {
    fn fill(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // What was added to the file since its size was asked for is not read.
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX).min(into.len());
        let filled = fill(self.file, &mut into[..left])?;
        self.at += filled as u64;
        Ok(filled)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let step = bytes.min(self.size - self.at);
        // Within what is buffered this costs nothing.
        self.file.seek_relative(i64::try_from(step).map_err(io::Error::other)?)?;
        self.at += step;
        Ok(step)
    }

    fn size(&self) -> Option<u64> {
        Some(self.size)
    }
}

/// An entry whose headers were read; its body comes next.
pub(super) struct Item {
    pub(super) name: Vec<u8>,
    pub(super) entry: Entry,
    pub(super) size: u64,
}

/// Extension headers that wait for the file they are about.
#[derive(Debug, Default)]
struct Pending {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Where in a tar one is, and how much of it was seen.
#[derive(Debug)]
pub(super) struct Walker {
    at: u64,
    limits: Limits,
    pending: Pending,
    headers: usize,
    entries: usize,
    names: usize,
}

impl Walker {
    /// At the start of a tar.
    pub(super) fn new(limits: &Limits) -> Self {
        Self { at: 0, limits: *limits, pending: Pending::default(), headers: 0, entries: 0, names: 0 }
    }

    /// The next entry, whose body has to be [skipped](Self::skip) or [passed](Self::passed) before the next one.
    pub(super) fn next(&mut self, input: &mut impl Input) -> Result<Option<Item>, ArchiveFault> {
        while let Some(record) = self.header(input)? {
            self.headers += 1;
            // An entry may have up to three extension headers; a run of nothing else is not an archive either.
            if self.headers > self.limits.entries.saturating_mul(4) {
                return Err(self.too_many());
            }
            let repeated = match record.kind {
                b'x' | b'X' => {
                    let block = self.body(input, &record, self.limits.pax)?;
                    self.pending.pax.replace(Pax::parse(&block)?).is_some()
                }
                b'g' => {
                    let pax = Pax::parse(&self.body(input, &record, self.limits.pax)?)?;
                    if pax.path.is_some() || pax.link.is_some() || pax.size.is_some() {
                        return Err(ArchiveFault::tar("a global PAX header names or sizes every file"));
                    }
                    false
                }
                b'L' => {
                    let name = self.long_name(input, &record)?;
                    self.pending.name.replace(name).is_some()
                }
                b'K' => {
                    let link = self.long_name(input, &record)?;
                    self.pending.link.replace(link).is_some()
                }
                _ => return self.entry(input, record).map(Some),
            };
            if repeated {
                return Err(ArchiveFault::tar(format!(
                    "two extension headers stand before one file at byte {}",
                    self.at
                )));
            }
        }
        if self.pending.pax.is_some() || self.pending.name.is_some() || self.pending.link.is_some() {
            return Err(self.cut_off(input, "the headers of an entry"));
        }
        Ok(None)
    }

    /// Jumps over a body, to the next header. A last body without its padding is whole; a body without its last byte is not.
    pub(super) fn skip(&mut self, input: &mut impl Input, size: u64, name: &[u8]) -> Result<(), ArchiveFault> {
        if input.size().is_some_and(|all| size > all - self.at) {
            return Err(self.cut_off(input, &format!("entry `{}`", shown(name))));
        }
        let padded = size.checked_next_multiple_of(RECORD).unwrap_or(u64::MAX);
        let skipped = input.skip(padded).map_err(|why| self.io(input, why))?;
        if skipped < size {
            return Err(self.cut_off(input, &format!("entry `{}`", shown(name))));
        }
        self.at += skipped;
        Ok(())
    }

    /// A body of this size was read by whoever walks: goes over its padding.
    pub(super) fn passed(&mut self, input: &mut impl Input, size: u64) -> Result<(), ArchiveFault> {
        self.at += size;
        let padding = size.next_multiple_of(RECORD) - size;
        self.at += input.skip(padding).map_err(|why| self.io(input, why))?;
        Ok(())
    }

    /// `None` at the end: a zero block, or the end of the file. What comes after a zero block is no longer the archive.
    fn header(&mut self, input: &mut impl Input) -> Result<Option<Record>, ArchiveFault> {
        let mut bytes = [0; 512];
        let here = input.fill(&mut bytes).map_err(|why| self.io(input, why))?;
        if here == 0 && self.at > 0 {
            return match input.size() {
                Some(size) if size > self.at => Err(self.cut_off(input, "the part")),
                _ => Ok(None),
            };
        }
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
            return Err(ArchiveFault::NotAnArchive { why: if here == 0 { "it is empty" } else { why }.into() });
        }
        if here < bytes.len() {
            return Err(self.cut_off(input, "the header of an entry"));
        }
        if record.is_none() {
            return Err(ArchiveFault::tar(format!("the header at byte {} has a wrong checksum", self.at)));
        }
        self.at += RECORD;
        Ok(record)
    }

    fn entry(&mut self, input: &impl Input, record: Record) -> Result<Item, ArchiveFault> {
        let pending = std::mem::take(&mut self.pending);
        self.entries += 1;
        if self.entries > self.limits.entries {
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
        // Where the size of the whole is known, no larger one is believed; and none that no offset could follow.
        let end = self.at.checked_add(size).filter(|end| end.checked_next_multiple_of(RECORD).is_some());
        let end = end.filter(|end| input.size().is_none_or(|all| *end <= all));
        let Some(end) = end else {
            return Err(self.cut_off(input, &format!("entry `{}`", shown(&name))));
        };
        let bodiless = |what: &str| match size {
            0 => Ok(()),
            _ => Err(ArchiveFault::tar(format!("entry `{}` is {what} with a body of {size} bytes", shown(&name)))),
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        let entry = match record.kind {
            b'0' | 0 | b'7' if name.ends_with(b"/") => Entry::Folder,
            b'0' | 0 | b'7' => Entry::File(self.at..end),
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
        Ok(Item { name, entry, size })
    }

    fn body(&mut self, input: &mut impl Input, record: &Record, limit: usize) -> Result<Vec<u8>, ArchiveFault> {
        let length = usize::try_from(record.size).unwrap_or(usize::MAX);
        self.limit(length, limit, "an extension header")?;
        if input.size().is_some_and(|all| record.size > all - self.at) {
            return Err(self.cut_off(input, "an extension header"));
        }
        let mut body = vec![0; length];
        if input.fill(&mut body).map_err(|why| self.io(input, why))? < length {
            return Err(self.cut_off(input, "an extension header"));
        }
        self.passed(input, record.size)?;
        Ok(body)
    }

    fn long_name(&mut self, input: &mut impl Input, record: &Record) -> Result<Vec<u8>, ArchiveFault> {
        let mut name = self.body(input, record, self.limits.name.saturating_add(1))?;
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

    pub(super) fn cut_off(&self, input: &impl Input, what: &str) -> ArchiveFault {
        let at = self.at;
        ArchiveFault::Truncated {
            what: match input.size() {
                Some(size) => format!("{what} at byte {at} of {size}"),
                None => format!("{what} at byte {at}"),
            },
        }
    }

    /// What goes by does not go on, so many bytes into a body.
    pub(super) fn broken(&self, into: u64, why: &io::Error) -> ArchiveFault {
        // What became too large says itself what to do.
        let advice = if why.kind() == ErrorKind::FileTooLarge { "" } else { "; copy or save it again" };
        ArchiveFault::BreaksOff { at: self.at + into, why: format!("{why}{advice}") }
    }

    pub(super) fn io(&self, input: &impl Input, error: io::Error) -> ArchiveFault {
        match (error.kind(), input.size()) {
            // The file may shrink while it is read.
            (ErrorKind::UnexpectedEof, Some(_)) => self.cut_off(input, "the part"),
            (_, Some(_)) => ArchiveFault::io(format!("at byte {}", self.at), error),
            (_, None) => self.broken(0, &error),
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
