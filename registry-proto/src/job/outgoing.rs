//! Request bodies out of local files: read once, hashed, counted and checked on the way to the socket.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};

use crate::digester::Digester;
use crate::job::local::unread;
use crate::job::{Failure, FailureKind};
use crate::spec::Digest;

/// How many buffers [`Outgoing::piece`] keeps for reuse: those in the driver's channel, one at the socket, one being filled.
const RECYCLED: usize = 6;

/// A range of a local file that is part of a blob: a name and numbers, never an open file.
#[derive(Clone, Debug)]
pub struct FileRange {
    path: Arc<Path>,
    range: Range<u64>,
    blob: BlobPart,
}

/// Which part of which blob a file range is, and the blob's running hash.
#[derive(Clone, Debug)]
pub(crate) struct BlobPart {
    /// Where the range starts within the blob.
    pub(crate) offset: u64,
    /// The blob's size: the digest is checked before its last byte is handed out.
    pub(crate) size: u64,
    pub(crate) expected: Digest,
    pub(crate) digester: Digester,
    pub(crate) meter: Meter,
}

impl FileRange {
    pub(crate) const fn new(path: Arc<Path>, range: Range<u64>, blob: BlobPart) -> Self {
        Self { path, range, blob }
    }

    /// The file to open.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// How many bytes the range has.
    pub const fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether the range has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn into_digester(self) -> Digester {
        self.blob.digester
    }

    /// Starts reading the range from its opened file.
    ///
    /// # Errors
    /// [`FailureKind::Source`] when the file can't be positioned.
    pub fn read_from<R: Read + Seek>(self, mut file: R) -> Result<Outgoing<R>, Failure> {
        file.seek(SeekFrom::Start(self.range.start)).map_err(|why| unread(&self.path, &why))?;
        let left = self.len();
        Ok(Outgoing { file, path: self.path, left, offset: self.blob.offset, blob: self.blob, pool: VecDeque::new() })
    }
}

/// An open [`FileRange`]: yields exactly its bytes, or an error.
///
/// Every byte passes the blob's digester before it is handed out, and the blob's last bytes are handed out only if the
/// digest is the expected one: a registry never receives the whole of a wrong blob.
pub struct Outgoing<R> {
    file: R,
    path: Arc<Path>,
    left: u64,
    offset: u64,
    blob: BlobPart,
    pool: VecDeque<Bytes>,
}

impl<R: Read> Outgoing<R> {
    /// How many bytes are still to come.
    pub const fn remaining(&self) -> u64 {
        self.left
    }

    /// Reads the next bytes into `buffer`; zero means the end of the range.
    ///
    /// # Errors
    /// [`FailureKind::Source`] when reading fails or the file ends early (zero progress is never reported as success,
    /// which would make an HTTP stack spin), [`FailureKind::Mismatch`] when the blob is complete and has another digest.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let got = loop {
            match self.file.read(&mut buffer[..want]) {
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                other => break other.map_err(|why| unread(&self.path, &why))?,
            }
        };
        if got == 0 {
            return Err(Failure::new(
                FailureKind::Source,
                format_args!("{} ended {} bytes early: was it changed?", self.path.display(), self.left),
            ));
        }
        self.account(&buffer[..got])?;
        Ok(got)
    }

    /// Reads up to `size` bytes into a buffer of its own; `None` at the end. Buffers that the HTTP stack has let go of are
    /// filled again, so that a transfer of any length needs only a handful.
    ///
    /// # Errors
    /// As [`Outgoing::fill`].
    pub fn piece(&mut self, size: usize) -> Result<Option<Bytes>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut buffer = self.recycled().unwrap_or_default();
        buffer.resize(size, 0);
        let mut filled = 0;
        while filled < size {
            match self.fill(&mut buffer[filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        buffer.truncate(filled);
        let piece = buffer.freeze();
        self.pool.push_back(piece.clone());
        Ok(Some(piece))
    }

    /// Reads and hashes what is left, without handing it out.
    ///
    /// # Errors
    /// As [`Outgoing::fill`].
    pub fn hash_all(mut self, buffer: &mut [u8]) -> Result<Digester, Failure> {
        while self.fill(buffer)? > 0 {}
        Ok(self.blob.digester)
    }

    /// Hashes what an interrupted transfer left of the blob: up to the last byte that is not zero, since what was never
    /// written reads as zeros; or all of it, if that has the right digest. Right or wrong, its own digest is not checked.
    ///
    /// # Errors
    /// [`FailureKind::Source`] when reading fails. A file that ends early is no error.
    pub(crate) fn survey(mut self, buffer: &mut [u8]) -> Result<Digester, Failure> {
        let mut zeros = 0_u64;
        let digester = &mut self.blob.digester;
        let mut feed = |bytes: &[u8]| digester.feed(digester.at(), bytes).expect("it is fed at its watermark");
        while self.left > 0 {
            let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
            let got = match self.file.read(&mut buffer[..want]) {
                Ok(0) => break,
                Ok(got) => got,
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) => return Err(unread(&self.path, &why)),
            };
            self.left -= got as u64;
            let Some(last) = buffer[..got].iter().rposition(|byte| *byte != 0) else {
                zeros += got as u64;
                continue;
            };
            skip_zeros(zeros, &mut feed);
            feed(&buffer[..=last]);
            zeros = (got - last - 1) as u64;
        }
        if self.left == 0 && zeros > 0 {
            let mut whole = self.blob.digester.clone();
            skip_zeros(zeros, &mut |bytes| whole.feed(whole.at(), bytes).expect("it is fed at its watermark"));
            if whole.digest() == self.blob.expected {
                return Ok(whole);
            }
        }
        Ok(self.blob.digester)
    }

    /// The running hash, for the job's [`Completion`](super::Completion), and how far this body has come.
    pub fn into_digester(self) -> Digester {
        self.blob.digester.of_body(self.offset)
    }

    /// The running hash so far.
    pub const fn digester(&self) -> &Digester {
        &self.blob.digester
    }

    fn recycled(&mut self) -> Option<BytesMut> {
        if self.pool.len() < RECYCLED {
            return None;
        }
        match self.pool.pop_front()?.try_into_mut() {
            Ok(buffer) => Some(buffer),
            Err(still_used) => {
                self.pool.push_back(still_used);
                None
            }
        }
    }

    fn account(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.blob.digester.feed(self.offset, bytes).map_err(|gap| Failure::new(FailureKind::Panicked, gap))?;
        self.offset += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        if self.offset == self.blob.size {
            let found = self.blob.digester.digest();
            if found != self.blob.expected {
                return Err(Failure::new(
                    FailureKind::Mismatch,
                    format_args!("{} was to hold {}, but holds {found}", self.path.display(), self.blob.expected),
                ));
            }
        }
        self.blob.meter.raise(self.offset);
        Ok(())
    }
}

impl<R> fmt::Debug for Outgoing<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("path", &self.path).field("left", &self.left).finish_non_exhaustive()
    }
}

/// Feeds zeros that were seen but held back.
fn skip_zeros(mut count: u64, feed: &mut impl FnMut(&[u8])) {
    const ZEROS: [u8; 4096] = [0; 4096];
    while count > 0 {
        let some = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        feed(&ZEROS[..some]);
        count -= some as u64;
    }
}

/// How far a blob has come, for whoever draws a progress bar.
///
/// A high-water mark: bytes that have to be sent again don't move it back. Read it as often as you draw; nothing in the
/// core is decided by it.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// The highest offset within the blob that was handed to a socket or found to be there.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn raise(&self, to: u64) {
        self.0.fetch_max(to, Ordering::Relaxed);
    }
}
