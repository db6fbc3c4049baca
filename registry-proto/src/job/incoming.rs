//! Reply bodies: where they go and how much of them is taken.

use std::fmt;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};

use crate::digester::Digester;
use crate::job::{BlobPart, Failure, FailureKind, FileRange, Meter, Storage};
use crate::spec::{ContentRange, Digest};

/// Which [`Sink`] a reply's body goes to, decided by its head alone. Pure data that travels with the job, so that a
/// driver neither looks at a status nor asks the flow in the middle of an exchange.
#[derive(Clone, Debug)]
pub struct Plan {
    success: Sink,
    error_limit: usize,
}

/// What happens to a reply's body.
#[derive(Clone, Debug)]
pub enum Sink {
    /// Nobody wants it: it is read to its end so that the connection can be used again, or up to `limit` bytes, after
    /// which the connection is closed.
    Discard {
        /// How many bytes are worth reading for the sake of a connection.
        limit: u64,
    },
    /// It is collected in memory; past `limit` bytes the exchange fails with [`FailureKind::TooLarge`].
    Collect {
        /// The most that is kept.
        limit: usize,
    },
    /// It is a blob, or the rest of one, and goes to its place in a file.
    File(FilePlace),
}

/// A place in a local file for a blob, and how much of it is there: names and numbers, never an open file.
#[derive(Clone, Debug)]
pub struct FilePlace {
    pub(crate) path: Arc<Path>,
    /// Where in the file the blob starts.
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// Has seen what is there.
    pub(crate) digester: Digester,
    pub(crate) meter: Meter,
}

impl Plan {
    /// Bodies of 2xx replies go to `success`; of the others at most `error_limit` bytes are kept, since all that they
    /// can hold is an explanation.
    pub const fn new(success: Sink, error_limit: usize) -> Self {
        Self { success, error_limit }
    }

    /// Where the body of the reply with this head goes.
    pub fn sink(self, head: &http::response::Parts) -> Incoming {
        let collect = |limit, truncate| {
            // What is announced has room at once, within what is taken at all, so that it is not moved as it grows.
            let told = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
            let room = usize::try_from(told.unwrap_or(0).min(limit)).unwrap_or(0);
            let bytes = BytesMut::with_capacity(room);
            Incoming::Memory(Collecting { limit, truncate, keep: true, taken: 0, bytes })
        };
        let discard = |limit| {
            Incoming::Memory(Collecting { limit, truncate: true, keep: false, taken: 0, bytes: BytesMut::new() })
        };
        if !head.status.is_success() {
            return collect(self.error_limit as u64, true);
        }
        match self.success {
            Sink::Discard { limit } => discard(limit),
            Sink::Collect { limit } => collect(limit as u64, false),
            Sink::File(place) => match place.offset(head) {
                Some(offset) => Incoming::File(Filing { place, offset }),
                // Other bytes than were asked for: its owner sees by the status and the digester that nothing came of it.
                None => discard(self.error_limit as u64),
            },
        }
    }
}

impl FilePlace {
    /// The place of a whole blob, of which nothing is there yet.
    pub(crate) fn new(path: Arc<Path>, start: u64, size: u64, digester: Digester) -> Self {
        Self { path, start, size, digester, meter: Meter::default() }
    }

    /// How much of the blob is there.
    pub(crate) const fn has(&self) -> u64 {
        self.digester.at()
    }

    /// The blob's size.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// How far it has come, live.
    pub(crate) const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// What has seen all that is there.
    pub(crate) const fn digester(&self) -> &Digester {
        &self.digester
    }

    /// What is there is another amount: what a digester has seen of it.
    pub(crate) fn holds(&mut self, digester: Digester) {
        self.meter.raise(digester.at());
        self.digester = digester;
    }

    /// The place as a range to read.
    pub(crate) fn to_range(&self, expected: Digest) -> FileRange {
        let range = self.start..self.start + self.size;
        let (size, digester, meter) = (self.size, self.digester.clone(), self.meter.clone());
        FileRange::new(Arc::clone(&self.path), range, BlobPart { offset: 0, size, expected, digester, meter })
    }

    fn unwritten(&self, why: &io::Error) -> Failure {
        Failure::new(FailureKind::Target, format_args!("{}: {why}", self.path.display()))
    }

    /// Where in the blob a reply's body starts, if it can be used: at the front (a registry that takes no notice of `Range`),
    /// or at the first byte that is missing or before.
    fn offset(&self, head: &http::response::Parts) -> Option<u64> {
        match head.status {
            StatusCode::OK => Some(0),
            StatusCode::PARTIAL_CONTENT => {
                let range = ContentRange::parse(head.headers.get(CONTENT_RANGE)?.to_str().ok()?)?;
                let fits = range.first <= self.digester.at() && range.total.is_none_or(|total| total == self.size);
                fits.then_some(range.first)
            }
            _ => None,
        }
    }
}

/// A reply body as it comes in.
///
/// ```
/// use registry_proto::job::{Incoming, Plan, Received, Sink};
///
/// let (head, ()) = http::Response::new(()).into_parts();
/// let Incoming::Memory(mut body) = Plan::new(Sink::Collect { limit: 8 }, 64).sink(&head) else { unreachable!() };
/// body.feed(b"hell")?;
/// body.feed(b"o")?;
/// assert!(matches!(body.finish(), Received::Collected(bytes) if bytes == "hello"));
/// # Ok::<(), registry_proto::job::Failure>(())
/// ```
#[derive(Debug)]
pub enum Incoming {
    /// It stays in memory, or goes nowhere.
    Memory(Collecting),
    /// It goes to a file, which blocks.
    File(Filing),
}

/// Whether a driver should go on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// Go on to the end of the body.
    Wanted,
    /// Stop, and close the connection: the rest is not worth reading.
    Unwanted,
}

/// What became of a reply's body.
#[derive(Clone, Debug)]
pub enum Received {
    /// It was thrown away.
    Discarded,
    /// It is here.
    Collected(Bytes),
    /// It is in its file. The digester has seen everything that is there now.
    Filed(Digester),
}

impl Received {
    /// What is in memory, and the digester of what is in a file.
    pub(crate) fn into_parts(self) -> (Bytes, Option<Digester>) {
        match self {
            Self::Discarded => (Bytes::new(), None),
            Self::Collected(bytes) => (bytes, None),
            Self::Filed(digester) => (Bytes::new(), Some(digester)),
        }
    }
}

/// A reply body that is kept in memory or thrown away.
#[derive(Debug)]
pub struct Collecting {
    limit: u64,
    /// Keep the beginning instead of failing: half an error message is better than none.
    truncate: bool,
    keep: bool,
    taken: u64,
    bytes: BytesMut,
}

impl Collecting {
    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// [`FailureKind::TooLarge`] when the body is over its limit; the connection must be closed then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<More, Failure> {
        let room = usize::try_from(self.limit.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        self.taken += bytes.len() as u64;
        if self.keep {
            self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        match (bytes.len() <= room, self.truncate) {
            (true, _) => Ok(More::Wanted),
            (false, true) => Ok(More::Unwanted),
            (false, false) => Err(Failure::new(FailureKind::TooLarge, format_args!("more than {} bytes", self.limit))),
        }
    }

    /// The body is over.
    pub fn finish(self) -> Received {
        if self.keep { Received::Collected(self.bytes.freeze()) } else { Received::Discarded }
    }
}

/// A reply body that goes to a file.
#[derive(Debug)]
pub struct Filing {
    place: FilePlace,
    /// Where in the blob the body starts.
    offset: u64,
}

impl Filing {
    /// Opens the file and starts to write to it.
    ///
    /// # Errors
    /// [`FailureKind::Target`] when it can't be opened or positioned.
    pub fn write_to<S: Storage>(self, storage: S) -> Result<Writing<S>, Failure> {
        let to = self.place.start + self.place.digester.at();
        let opened = storage.open_out(&self.place.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(to))?;
            Ok(file)
        });
        let file = opened.map_err(|why| self.place.unwritten(&why))?;
        Ok(Writing { storage, file, unsettled: 0, place: self.place, offset: self.offset })
    }
}

/// How much is written of a body before it is brought to the disk, in bytes. The disk then works while the network does, and
/// there is little left to wait for when the file gets its name; smaller steps would keep the disk busy with its bookkeeping.
const STEP: usize = 16 << 20;

/// A reply body on its way to its file.
pub struct Writing<S: Storage> {
    storage: S,
    file: S::Out,
    /// What was written since the last [`STEP`].
    unsettled: usize,
    place: FilePlace,
    offset: u64,
}

impl<S: Storage> Writing<S> {
    /// Writes the next bytes of the body, past those that the file has already.
    ///
    /// # Errors
    /// [`FailureKind::TooLarge`] when there are more than the blob has, [`FailureKind::Target`] when the file can't be
    /// written.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let end = self.offset.saturating_add(bytes.len() as u64);
        if end > self.place.size {
            let size = self.place.size;
            return Err(Failure::new(FailureKind::TooLarge, format_args!("more than the {size} bytes of the blob")));
        }
        let known = usize::try_from(self.place.digester.at().saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let fresh = &bytes[known.min(bytes.len())..];
        self.file.write_all(fresh).map_err(|why| self.place.unwritten(&why))?;
        self.place.digester.feed(self.offset, bytes).map_err(|gap| Failure::new(FailureKind::Panicked, gap))?;
        self.offset = end;
        self.place.meter.raise(end);
        self.unsettled += fresh.len();
        if self.unsettled >= STEP {
            self.unsettled = 0;
            self.storage.settle(&mut self.file).map_err(|why| self.place.unwritten(&why))?;
        }
        Ok(())
    }

    /// The body is over, or will not go on: the digester of what the file has now, for the job's answer.
    pub fn into_digester(self) -> Digester {
        self.place.digester
    }
}

impl<S: Storage> fmt::Debug for Writing<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writing").field("place", &self.place).field("offset", &self.offset).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Cursor;

    use super::*;
    use crate::archive::{Disk, Opened};
    use crate::spec::Algorithm;

    /// Counts how often it is asked to bring a file to the disk, which works so many times.
    struct Worn<'a> {
        settled: &'a Cell<u32>,
        lasts: u32,
    }

    impl Disk for Worn<'_> {
        type File = Cursor<Vec<u8>>;

        fn open(&self, _: &Path) -> io::Result<Opened<Self::File>> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    impl Storage for Worn<'_> {
        type Out = Cursor<Vec<u8>>;

        fn open_out(&self, _: &Path) -> io::Result<Self::Out> {
            Ok(Cursor::default())
        }

        fn open_private(&self, path: &Path) -> io::Result<Self::Out> {
            self.open_out(path)
        }

        fn resize(&self, _: &mut Self::Out, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn settle(&self, _: &mut Self::Out) -> io::Result<()> {
            self.settled.set(self.settled.get() + 1);
            if self.settled.get() > self.lasts { Err(io::Error::other("worn out")) } else { Ok(()) }
        }

        fn publish(&self, _: &Path, _: &Path) -> io::Result<()> {
            Ok(())
        }

        fn remove(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
    }

    fn feed(storage: Worn<'_>, count: usize) -> Result<(), Failure> {
        let piece = vec![1; STEP / 4];
        let size = (count * piece.len()) as u64;
        let place = FilePlace::new(Path::new("out").into(), 0, size, Digester::new(Algorithm::Sha256));
        let mut writing = Filing { place, offset: 0 }.write_to(storage)?;
        (0..count).try_for_each(|_| writing.feed(&piece))
    }

    #[test]
    fn a_large_body_is_brought_to_the_disk_step_by_step() {
        let settled = Cell::new(0);
        feed(Worn { settled: &settled, lasts: 9 }, 3).unwrap();
        assert_eq!(settled.get(), 0);
        feed(Worn { settled: &settled, lasts: 9 }, 9).unwrap();
        assert_eq!(settled.get(), 2);
    }

    #[test]
    fn what_the_disk_says_on_the_way_is_not_lost() {
        let settled = Cell::new(0);
        let why = feed(Worn { settled: &settled, lasts: 1 }, 8).unwrap_err();
        assert_eq!((why.kind(), settled.get()), (FailureKind::Target, 2));
        assert!(why.to_string().contains("out: worn out"), "{why}");
    }
}
