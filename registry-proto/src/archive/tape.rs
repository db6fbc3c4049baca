//! An archive that goes by once, as a tape does: what tells which file is which may come last (`docker save`, `ctr`), so
//! documents are kept, and what is large is handed out as it comes, or hashed and let go.
//!
//! ```text
//!                    ┌── a small file, or JSON: kept ──┐
//!                    ▼                                 │
//!   wind ─▶ the next header ───────────────────────────┴─▶ File ─▶ Piece ─▶ Piece … ─┐
//!             ▲      └─ the end of the tar: Over ─▶ (what its writer adds: Out)      │
//!             └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! At the end the documents are read as those of any other archive ([`reading`](super::reading)), with one more thing known: the
//! digest that each file really has.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::error::{ArchiveError, ArchiveFault, Compression};
use super::feed::Feed;
use super::limits::Limits;
use super::passed::{Passed, PassedFiles};
use super::reading;
use super::squeeze::{Compressor, Squeeze, is_bare_tar};
use super::tar_index::Entry;
use super::tar_name::clean;
use super::tar_record::shown;
use super::tar_walk::{Input, Walker, fill};
use super::{Archive, Examined};
use crate::digester::Digester;
use crate::spec::{Algorithm, Digest};

/// What is read at a time of what nobody wants to have.
const BUFFER: usize = 64 << 10;

/// How much of a file is looked at to see whether it is a document.
const HEAD: usize = 512;

/// What comes after the end of a tar: padding, for whose writer it is nicer not to be cut off.
const AFTER: u64 = 1 << 20;

/// An archive on its way past us.
#[derive(Debug)]
pub(crate) struct Tape {
    input: Passing,
    limits: Limits,
    walker: Walker,
    files: PassedFiles,
    /// Bytes of documents kept.
    kept: usize,
    /// What layers are compressed by that are not.
    compressor: Option<Compressor>,
    /// What is spared that, by where it begins.
    spared: BTreeSet<u64>,
    current: Option<Current>,
}

/// What [`Tape::wind`] came to.
#[derive(Debug)]
pub(crate) enum Wound {
    /// A file that is no document. Its bytes come next, if they are wanted.
    File(Box<Tape>, TapeFile),
    /// The next bytes of it, and whether they are the last.
    Piece(Box<Tape>, Bytes, bool),
    /// That was all: what the archive holds.
    Over(Box<Tape>, Box<Examined>),
    /// What came after that.
    Out,
}

/// What is known of a file before its bytes have come.
#[derive(Clone, Debug)]
pub(crate) struct TapeFile {
    pub(crate) name: String,
    /// At which byte of the tape it begins.
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// Whether its pieces are compressed: then there are fewer bytes, with another digest.
    pub(crate) squeezed: bool,
    /// What its name says that its digest is. Only its bytes can tell whether it is.
    pub(crate) claimed: Option<Digest>,
    pub(crate) algorithm: Algorithm,
}

/// How far a tape is wound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wind {
    /// By so many bytes of the file that goes by, or to the next file if there are none left.
    By(usize),
    /// To the next file.
    On,
    /// Through what comes after the end, which may be as long as whoever writes keeps it open.
    Out,
}

/// The file that goes by.
#[derive(Debug)]
struct Current {
    name: Vec<u8>,
    entry: Entry,
    start: u64,
    size: u64,
    left: u64,
    head: Bytes,
    /// What was read to look at it, and is still to be handed out.
    ahead: Bytes,
    digester: Digester,
    squeeze: Option<Pressed>,
}

/// What compresses the file that goes by.
struct Pressed(Box<dyn Squeeze>);

impl fmt::Debug for Pressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pressed")
    }
}

impl Tape {
    /// A tape at its start.
    pub(crate) fn new(feed: Feed, limits: &Limits) -> Self {
        let files = PassedFiles::new(Arc::clone(feed.name()), limits);
        Self {
            input: Passing(feed),
            limits: *limits,
            walker: Walker::new(limits),
            files,
            kept: 0,
            compressor: None,
            spared: BTreeSet::new(),
            current: None,
        }
    }

    /// Compresses the layers that are not compressed yet.
    pub(crate) fn compressing(self, compressor: Option<Compressor>) -> Self {
        Self { compressor, ..self }
    }

    /// What begins at these bytes is known to be no layer.
    pub(crate) fn sparing(self, spared: BTreeSet<u64>) -> Self {
        Self { spared, ..self }
    }

    /// Goes on, which may take as long as whoever writes lets us wait.
    ///
    /// # Errors
    /// The first thing that is wrong with the tape; its documents' faults are in what comes last.
    pub(crate) fn wind(mut self: Box<Self>, how: Wind) -> Result<Wound, ArchiveError> {
        if how == Wind::Out {
            // Whatever comes of it: the archive is complete.
            let _ = self.input.skip(AFTER);
            return Ok(Wound::Out);
        }
        match self.turn(how) {
            Ok(Turn::File(file)) => Ok(Wound::File(self, file)),
            Ok(Turn::Piece(bytes, last)) => Ok(Wound::Piece(self, bytes, last)),
            Ok(Turn::Over) => {
                let path = Arc::clone(self.files.path());
                let (archive, faults) = reading::examine_passed(&path, &mut self.files, &self.limits);
                let found = Archive::examined(&path, archive, faults, |_| None);
                Ok(Wound::Over(self, Box::new(found)))
            }
            Err(fault) => Err(ArchiveError::new(Arc::clone(self.files.path()), fault)),
        }
    }

    fn turn(&mut self, how: Wind) -> Result<Turn, ArchiveFault> {
        loop {
            let Some(mut current) = self.current.take() else {
                match self.walker.next(&mut self.input)? {
                    None => return Ok(Turn::Over),
                    Some(item) => {
                        let Some(file) = self.meet(item.name, item.entry, item.size)? else { continue };
                        return Ok(Turn::File(file));
                    }
                }
            };
            let piece = match how {
                _ if current.left == 0 => {
                    self.pass(current, None)?;
                    continue;
                }
                Wind::By(size) if current.squeeze.is_some() => self.squeeze(&mut current, size)?,
                Wind::By(size) => self.read(&mut current, size)?,
                Wind::On | Wind::Out => self.read(&mut current, BUFFER)?,
            };
            let last = current.left == 0;
            self.current = Some(current);
            if how != Wind::On {
                return Ok(Turn::Piece(piece, last));
            }
        }
    }

    /// Looks at what comes next. `None`: it was kept, or it is no file.
    fn meet(&mut self, name: Vec<u8>, entry: Entry, size: u64) -> Result<Option<TapeFile>, ArchiveFault> {
        let Entry::File(range) = &entry else {
            self.walker.skip(&mut self.input, size, &name)?;
            self.files.meet(name, entry);
            return Ok(None);
        };
        let start = range.start;
        let claimed = String::from_utf8(name.clone()).ok().and_then(|name| clean(&name).ok());
        let in_blobs = claimed.as_deref().and_then(digest_of_blob);
        let algorithm = in_blobs.as_ref().and_then(Digest::algorithm).unwrap_or(Algorithm::Sha256);
        let mut current = Current {
            name,
            entry,
            start,
            size,
            left: size,
            head: Bytes::new(),
            ahead: Bytes::new(),
            digester: Digester::new(algorithm),
            squeeze: None,
        };
        current.head = self.take(&current, size.min(HEAD as u64))?;
        current.ahead = current.head.clone();
        if self.is_kept(&current.head, size) {
            let whole = self.read(&mut current, usize::try_from(size).unwrap_or(usize::MAX))?;
            self.kept += whole.len();
            self.pass(current, Some(whole))?;
            return Ok(None);
        }
        if let Some(compressor) =
            self.compressor.as_ref().filter(|_| is_bare_tar(&current.head) && !self.spared.contains(&start))
        {
            let started = compressor.start().map_err(|why| self.walker.broken(0, &why))?;
            current.squeeze = Some(Pressed(started));
        }
        let squeezed = current.squeeze.is_some();
        let shown = shown(&current.name);
        let claimed = in_blobs.or_else(|| claimed.as_deref().and_then(|name| digest_of_layer(name, &current.head)));
        self.current = Some(current);
        Ok(Some(TapeFile { name: shown, start, size, squeezed, claimed, algorithm }))
    }

    /// Whether a file is kept whole: it may be a document, or is so small that it makes no difference.
    fn is_kept(&self, head: &[u8], size: u64) -> bool {
        let Limits { index, manifest, config, .. } = self.limits;
        if self.compressor.is_some() && is_bare_tar(head) {
            return false;
        }
        let is_json = matches!(head.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'['));
        let most = if is_json { index.max(manifest).max(config) } else { self.limits.small };
        usize::try_from(size).is_ok_and(|size| size <= most && size <= self.limits.documents - self.kept)
    }

    /// The next bytes of a file, hashed.
    fn read(&mut self, current: &mut Current, most: usize) -> Result<Bytes, ArchiveFault> {
        let length = current.left.min(most as u64);
        let ahead = current.ahead.split_to(current.ahead.len().min(usize::try_from(length).unwrap_or(usize::MAX)));
        let rest = self.take(current, length - ahead.len() as u64)?;
        let bytes = match (ahead.is_empty(), rest.is_empty()) {
            (true, _) => rest,
            (_, true) => ahead,
            _ => [ahead, rest].concat().into(),
        };
        current.digester.feed(current.digester.at(), &bytes).expect("it is fed at its watermark");
        current.left -= bytes.len() as u64;
        Ok(bytes)
    }

    /// About so many bytes of what a file becomes when it is compressed; all that is left, if it is fewer.
    fn squeeze(&mut self, current: &mut Current, most: usize) -> Result<Bytes, ArchiveFault> {
        let Some(mut pressed) = current.squeeze.take() else { return Ok(Bytes::new()) };
        let (mut out, size) = (Vec::new(), current.size);
        while out.len() < most && current.left > 0 {
            let bytes = self.read(current, BUFFER)?;
            pressed.0.squeeze(&bytes, &mut out).map_err(|why| self.walker.broken(size - current.left, &why))?;
        }
        if current.left == 0 {
            pressed.0.finish(&mut out).map_err(|why| self.walker.broken(size, &why))?;
        } else {
            current.squeeze = Some(pressed);
        }
        Ok(out.into())
    }

    /// So many bytes of a body.
    fn take(&mut self, current: &Current, length: u64) -> Result<Bytes, ArchiveFault> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::zeroed(length);
        let at = current.size - current.left;
        let got = self.input.fill(&mut bytes).map_err(|why| self.walker.broken(at, &why))?;
        if got < length {
            return Err(self.walker.cut_off(&self.input, &format!("entry `{}`", shown(&current.name))));
        }
        Ok(bytes.freeze())
    }

    /// A file has gone by.
    fn pass(&mut self, current: Current, whole: Option<Bytes>) -> Result<(), ArchiveFault> {
        let Current { name, entry, start, size, head, digester, .. } = current;
        self.walker.passed(&mut self.input, size)?;
        // Six bytes tell what it is; a slice would keep all of them.
        let head = Bytes::copy_from_slice(&head[..head.len().min(6)]);
        self.files.pass(name, entry, start, Passed { head, whole, digest: digester.digest() });
        Ok(())
    }
}

/// What a turn of the tape comes to.
enum Turn {
    File(TapeFile),
    Piece(Bytes, bool),
    Over,
}

/// `blobs/<algorithm>/<hex>`, as OCI layouts have it.
fn digest_of_blob(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    let digest: Digest = format!("{algorithm}:{hex}").parse().ok()?;
    digest.is_verifiable().then_some(digest)
}

/// podman's `<hex>.tar` (if it is what its name says: not compressed) and crane's `<hex>.tar.gz`.
fn digest_of_layer(name: &str, head: &[u8]) -> Option<Digest> {
    let hex = match Compression::of(head) {
        None => name.strip_suffix(".tar")?,
        Some(Compression::Gzip) => name.strip_suffix(".tar.gz").or_else(|| name.strip_suffix(".tgz"))?,
        Some(_) => return None,
    };
    format!("sha256:{hex}").parse().ok()
}

/// A feed as the input of a walk.
#[derive(Debug)]
struct Passing(Feed);

impl Input for Passing {
    fn fill(&mut self, into: &mut [u8]) -> io::Result<usize> {
        fill(&mut self.0, into)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut Read::take(&mut self.0, bytes), &mut io::sink())
    }

    fn size(&self) -> Option<u64> {
        None
    }
}
