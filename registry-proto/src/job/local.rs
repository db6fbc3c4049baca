//! Work on local files: what it does is decided here, a driver only says on which thread and on which file system.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::archive::{Archive, Disk, Limits, Opened, Tape, Wind};
use crate::digester::Digester;
use crate::job::{Completion, Failure, FailureKind, FileRange, JobId, Ticket, kind};
use crate::secret::Secret;

/// How much of a file is looked at at a time.
const BUFFER: usize = 256 << 10;

/// A file system that can be written to.
pub trait Storage: Disk {
    /// A file open for reading and writing.
    type Out: Read + Write + Seek;

    /// Opens a file for reading and writing. Where there is none it is made, and the folders that lead to it.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn open_out(&self, path: &Path) -> io::Result<Self::Out>;

    /// Makes an empty file, open for writing, that nobody but its owner can read, in the place of what has that name now.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn open_private(&self, path: &Path) -> io::Result<Self::Out>;

    /// Gives a file this length in bytes; what is new reads as zeros.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn resize(&self, file: &mut Self::Out, length: u64) -> io::Result<()>;

    /// Brings what was written to a file so far to the disk. That is asked for now and then while a file grows, so that little
    /// is left to do for [`publish`](Storage::publish).
    ///
    /// # Errors
    /// Whatever the file system says; it may not say it again later.
    fn settle(&self, file: &mut Self::Out) -> io::Result<()>;

    /// Gives a finished file its final name, in the place of what has that name now. The content has to be on the disk
    /// before the name is.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn publish(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Whatever the file system says; [`io::ErrorKind::NotFound`] when there is nothing.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// Work on local files. It blocks: run it where that does no harm.
#[derive(Debug)]
#[must_use = "a job that is not run leaves its flow waiting for ever"]
pub struct LocalJob {
    id: JobId,
    task: Task,
}

#[derive(Debug)]
enum Task {
    Index(Ticket<kind::Index>, Arc<Path>, Limits),
    Hash(Ticket<kind::Hash>, FileRange),
    Survey(Ticket<kind::Hash>, FileRange, Alone),
    Lay(Ticket<kind::Lay>, Blueprint),
    Read(Ticket<kind::Read>, Arc<Path>, usize),
    Begin(Ticket<kind::Read>, Arc<Path>, usize),
    Publish(Ticket<kind::Publish>, Arc<Path>, Arc<Path>),
    Wind(Ticket<kind::Wind>, Box<Tape>, Wind),
    Keep(Ticket<kind::Publish>, Kept),
    Remove(Ticket<kind::Remove>, Arc<Path>),
}

/// Whether a blob is all that is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alone {
    /// Yes: a file of another length is another file.
    Yes,
    /// No, it is somewhere in it.
    No,
}

/// A small file that is nobody's business but its owner's.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) path: Arc<Path>,
    /// What it is called until it is whole.
    pub(crate) partial: Arc<Path>,
    pub(crate) content: Secret,
}

/// A file with holes: its length, and what is known of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blueprint {
    pub(crate) path: Arc<Path>,
    /// The name that it will get. What has that name now is replaced if it is a file: whoever names a folder, a device or a pipe
    /// means something else.
    pub(crate) becomes: Arc<Path>,
    pub(crate) length: u64,
    /// Where which bytes go, in ascending order, without overlap.
    pub(crate) pieces: Vec<(u64, Bytes)>,
}

impl LocalJob {
    /// Reads an archive's table of contents.
    pub(crate) fn index(ticket: Ticket<kind::Index>, path: Arc<Path>, limits: Limits) -> Self {
        Self { id: ticket.id(), task: Task::Index(ticket, path, limits) }
    }

    /// Reads a range of a file into its digester.
    pub(crate) fn hash(ticket: Ticket<kind::Hash>, range: FileRange) -> Self {
        Self { id: ticket.id(), task: Task::Hash(ticket, range) }
    }

    /// Finds out how much of a blob an interrupted transfer left in a range, and reads that into its digester: nothing if
    /// there is no such file.
    pub(crate) fn survey(ticket: Ticket<kind::Hash>, range: FileRange, alone: Alone) -> Self {
        Self { id: ticket.id(), task: Task::Survey(ticket, range, alone) }
    }

    /// Lays a file out, or finds it laid out by an interrupted run.
    pub(crate) fn lay(ticket: Ticket<kind::Lay>, blueprint: Blueprint) -> Self {
        Self { id: ticket.id(), task: Task::Lay(ticket, blueprint) }
    }

    /// Reads a small file, if it is there.
    pub(crate) fn read(ticket: Ticket<kind::Read>, path: Arc<Path>, limit: usize) -> Self {
        Self { id: ticket.id(), task: Task::Read(ticket, path, limit) }
    }

    /// Reads so much of a file, if it is there, whatever comes after it.
    pub(crate) fn begin(ticket: Ticket<kind::Read>, path: Arc<Path>, length: usize) -> Self {
        Self { id: ticket.id(), task: Task::Begin(ticket, path, length) }
    }

    /// Gives a finished file its final name.
    pub(crate) fn publish(ticket: Ticket<kind::Publish>, from: Arc<Path>, to: Arc<Path>) -> Self {
        Self { id: ticket.id(), task: Task::Publish(ticket, from, to) }
    }

    /// Winds an archive on that goes by once.
    pub(crate) fn wind(ticket: Ticket<kind::Wind>, tape: Box<Tape>, how: Wind) -> Self {
        Self { id: ticket.id(), task: Task::Wind(ticket, tape, how) }
    }

    /// Writes a small file that only its owner can read, whole or not at all.
    pub(crate) fn keep(ticket: Ticket<kind::Publish>, kept: Kept) -> Self {
        Self { id: ticket.id(), task: Task::Keep(ticket, kept) }
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(ticket: Ticket<kind::Remove>, path: Arc<Path>) -> Self {
        Self { id: ticket.id(), task: Task::Remove(ticket, path) }
    }

    /// The job's identity.
    pub const fn id(&self) -> JobId {
        self.id
    }

    /// Whether it reads what was lent to the flow ([`Feed`](crate::archive::Feed)), such as a pipe: that may take for ever, and
    /// nobody can stop it. All other work ends soon when it is no longer [attended](super::Attended).
    pub const fn reads_a_feed(&self) -> bool {
        matches!(self.task, Task::Wind(..))
    }

    /// Does the work. It is answered whatever happens, also if the file system panics.
    pub fn run<S: Storage>(self, storage: &S) -> Completion {
        match self.task {
            Task::Index(ticket, path, limits) => match caught(|| Ok(Archive::examine(storage, &path, &limits))) {
                Ok(found) => ticket.indexed(found),
                Err(why) => ticket.failed(why),
            },
            Task::Hash(ticket, range) => match caught(|| open(storage, &range)?.hash_all(&mut vec![0; BUFFER])) {
                Ok(digester) => ticket.hashed(digester),
                Err(why) => ticket.failed(why),
            },
            Task::Survey(ticket, range, alone) => match caught(|| survey(storage, range, alone)) {
                Ok(digester) => ticket.hashed(digester),
                Err(why) => ticket.failed(why),
            },
            Task::Lay(ticket, blueprint) => match caught(|| blueprint.lay(storage)) {
                Ok(found) => ticket.laid(found),
                Err(why) => ticket.failed(why),
            },
            Task::Read(ticket, path, limit) => match caught(|| read(storage, &path, limit)) {
                Ok(content) => ticket.content(content),
                Err(why) => ticket.failed(why),
            },
            Task::Begin(ticket, path, length) => match caught(|| begin(storage, &path, length)) {
                Ok(content) => ticket.content(content),
                Err(why) => ticket.failed(why),
            },
            Task::Wind(ticket, tape, how) => match caught(|| Ok(tape.wind(how))) {
                Ok(wound) => ticket.wound(wound),
                Err(why) => ticket.failed(why),
            },
            Task::Publish(ticket, from, to) => {
                match caught(|| storage.publish(&from, &to).map_err(|why| unwritten(&to, &why))) {
                    Ok(()) => ticket.published(),
                    Err(why) => ticket.failed(why),
                }
            }
            Task::Keep(ticket, kept) => match caught(|| keep(storage, &kept)) {
                Ok(()) => ticket.published(),
                Err(why) => ticket.failed(why),
            },
            Task::Remove(ticket, path) => match caught(|| remove(storage, &path)) {
                Ok(()) => ticket.removed(),
                Err(why) => ticket.failed(why),
            },
        }
    }
}

fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // Nothing that could be seen half-changed outlives the work but files, which are verified.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Failure::new(FailureKind::Panicked, "this is a bug")))
}

pub(super) fn unread(path: &Path, why: &io::Error) -> Failure {
    Failure::new(FailureKind::Source, format_args!("{}: {why}", path.display()))
}

fn unwritten(path: &Path, why: &io::Error) -> Failure {
    let more = match why.kind() {
        io::ErrorKind::NotADirectory => " (what should be a folder on the way to it is a file)",
        _ => "",
    };
    Failure::new(FailureKind::Target, format_args!("{}: {why}{more}", path.display()))
}

fn is_folder(kind: FailureKind, path: &Path) -> Failure {
    Failure::new(kind, format_args!("{} is a folder: name a file", path.display()))
}

fn is_nothing(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn open<S: Storage>(storage: &S, range: &FileRange) -> Result<crate::job::Outgoing<S::File>, Failure> {
    let path = range.path();
    match storage.open(path).map_err(|why| unread(path, &why))? {
        Opened::File { file, .. } => range.clone().read_from(file),
        Opened::Folder => Err(is_folder(FailureKind::Source, path)),
    }
}

fn survey<S: Storage>(storage: &S, range: FileRange, alone: Alone) -> Result<Digester, Failure> {
    match storage.open(range.path()) {
        Ok(Opened::File { size, .. }) if alone == Alone::Yes && size != range.len() => Ok(range.into_digester()),
        Ok(Opened::File { file, .. }) => range.read_from(file)?.survey(&mut vec![0; BUFFER]),
        Ok(Opened::Folder) => Err(is_folder(FailureKind::Source, range.path())),
        Err(why) if is_nothing(&why) => Ok(range.into_digester()),
        Err(why) => Err(unread(range.path(), &why)),
    }
}

fn read<S: Storage>(storage: &S, path: &Path, limit: usize) -> Result<Option<Bytes>, Failure> {
    match storage.open(path) {
        Ok(Opened::File { size, .. }) if size > limit as u64 => {
            let what = format_args!("{} has {size} bytes, more than the {limit} expected", path.display()).to_string();
            Err(Failure::new(FailureKind::Source, what))
        }
        _ => begin(storage, path, limit),
    }
}

fn begin<S: Storage>(storage: &S, path: &Path, length: usize) -> Result<Option<Bytes>, Failure> {
    match storage.open(path) {
        Ok(Opened::File { file, .. }) => {
            let mut content = Vec::new();
            file.take(length as u64).read_to_end(&mut content).map_err(|why| unread(path, &why))?;
            Ok(Some(content.into()))
        }
        Ok(Opened::Folder) => Err(is_folder(FailureKind::Source, path)),
        Err(why) if is_nothing(&why) => Ok(None),
        Err(why) => Err(unread(path, &why)),
    }
}

fn keep<S: Storage>(storage: &S, kept: &Kept) -> Result<(), Failure> {
    let written = storage.open_private(&kept.partial).and_then(|mut file| {
        file.write_all(kept.content.expose().as_bytes())?;
        file.flush()
    });
    written.map_err(|why| unwritten(&kept.partial, &why))?;
    storage.publish(&kept.partial, &kept.path).map_err(|why| unwritten(&kept.path, &why))
}

fn remove<S: Storage>(storage: &S, path: &Path) -> Result<(), Failure> {
    match storage.remove(path) {
        Err(why) if !is_nothing(&why) => Err(unwritten(path, &why)),
        _ => Ok(()),
    }
}

/// What [`LocalJob::lay`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Laid {
    /// The file is new, or was another one: its holes are empty.
    Fresh,
    /// It is the one that an interrupted run laid out: there may be something in its holes.
    Resumed,
}

impl Blueprint {
    fn lay<S: Storage>(&self, storage: &S) -> Result<Laid, Failure> {
        let wrong = |why: io::Error| unwritten(&self.path, &why);
        match storage.open(&self.becomes) {
            Ok(Opened::Folder) => return Err(is_folder(FailureKind::Target, &self.becomes)),
            Err(why) if !is_nothing(&why) => return Err(unwritten(&self.becomes, &why)),
            Ok(Opened::File { .. }) | Err(_) => {}
        }
        let mut file = storage.open_out(&self.path).map_err(wrong)?;
        if self.is_laid(&mut file).map_err(wrong)? {
            return Ok(Laid::Resumed);
        }
        // To nothing first, so that nothing of another file shines through the holes.
        storage.resize(&mut file, 0).map_err(wrong)?;
        storage.resize(&mut file, self.length).map_err(wrong)?;
        for (at, piece) in &self.pieces {
            file.seek(SeekFrom::Start(*at)).map_err(wrong)?;
            file.write_all(piece).map_err(wrong)?;
        }
        file.flush().map_err(wrong)?;
        Ok(Laid::Fresh)
    }

    fn is_laid<F: Read + Seek>(&self, file: &mut F) -> io::Result<bool> {
        if file.seek(SeekFrom::End(0))? != self.length {
            return Ok(false);
        }
        let mut found = Vec::new();
        for (at, piece) in &self.pieces {
            file.seek(SeekFrom::Start(*at))?;
            found.clear();
            file.by_ref().take(piece.len() as u64).read_to_end(&mut found)?;
            if found != piece[..] {
                return Ok(false);
            }
        }
        // Without a document in it there is nothing to tell it by: a file of one blob is looked through all the same.
        Ok(true)
    }
}
