//! Local files as long as somebody waits for what is done with them.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::archive::{Disk, Opened};
use crate::job::Storage;

/// A file system of which nothing can be read any more once a flag says that nobody wants it. A [`LocalJob`](super::LocalJob)
/// that reads through a large file ends soon then, where a thread can't be stopped from outside.
///
/// ```
/// use registry_proto::archive::Disk;
/// use registry_proto::archive::make::MemoryDisk;
/// # #[cfg(feature = "testing")] {
/// use registry_proto::job::Attended;
/// use registry_proto::testing::files::MemoryFiles;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// let files = MemoryFiles::new(MemoryDisk::with("app.tar", "…"));
/// let unwanted = AtomicBool::new(false);
/// let attended = Attended::new(&files, &unwanted);
/// assert!(attended.open("app.tar".as_ref()).is_ok());
/// unwanted.store(true, Ordering::Relaxed);
/// assert!(attended.open("app.tar".as_ref()).is_err());
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Attended<'a, S> {
    storage: &'a S,
    unwanted: &'a AtomicBool,
}

/// A file of an [`Attended`] file system.
#[derive(Debug)]
pub struct AttendedFile<'a, F> {
    file: F,
    unwanted: &'a AtomicBool,
}

impl<'a, S> Attended<'a, S> {
    /// This file system, until the flag is set.
    pub const fn new(storage: &'a S, unwanted: &'a AtomicBool) -> Self {
        Self { storage, unwanted }
    }
}

fn check(unwanted: &AtomicBool) -> io::Result<()> {
    // (Not "interrupted", after which one reads on.)
    if unwanted.load(Ordering::Relaxed) { Err(io::Error::other("nobody wants it any more")) } else { Ok(()) }
}

impl<'a, S: Disk> Disk for Attended<'a, S> {
    type File = AttendedFile<'a, S::File>;

    fn open(&self, path: &Path) -> io::Result<Opened<Self::File>> {
        check(self.unwanted)?;
        Ok(match self.storage.open(path)? {
            Opened::File { file, size } => Opened::File { file: AttendedFile { file, unwanted: self.unwanted }, size },
            Opened::Folder => Opened::Folder,
        })
    }

    fn written_at(&self, path: &Path) -> io::Result<Option<Duration>> {
        self.storage.written_at(path)
    }
}

/// What is written is written: it is little at a time, and half of it is of no use.
impl<S: Storage> Storage for Attended<'_, S> {
    type Out = S::Out;

    fn open_out(&self, path: &Path) -> io::Result<Self::Out> {
        self.storage.open_out(path)
    }

    fn open_private(&self, path: &Path) -> io::Result<Self::Out> {
        self.storage.open_private(path)
    }

    fn resize(&self, file: &mut Self::Out, length: u64) -> io::Result<()> {
        self.storage.resize(file, length)
    }

    fn settle(&self, file: &mut Self::Out) -> io::Result<()> {
        self.storage.settle(file)
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.storage.publish(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.storage.remove(path)
    }
}

impl<F: Read> Read for AttendedFile<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check(self.unwanted)?;
        self.file.read(buffer)
    }
}

impl<F: Seek> Seek for AttendedFile<'_, F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
