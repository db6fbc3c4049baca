//! A file system that sees to it that nobody reads or writes where there is no business, and that nothing gets its final name
//! without being what it should be.

use std::cell::Cell;
use std::io::{self, Cursor, Seek as _, SeekFrom};
use std::path::{Component, Path};
use std::rc::Rc;

use bytes::Bytes;
use registry_proto::archive::make::MemoryDisk;
use registry_proto::archive::{Disk, Opened};
use registry_proto::job::Storage;
use registry_proto::spec::Digest;
use registry_proto::testing::files::{MemoryFile, MemoryFiles};

use super::check;

/// Where archives to be pushed are.
pub(super) const ARCHIVES: [&str; 3] = ["/in/docker.tar", "/in/oci.tar", "/in/folder"];
/// Where everything goes that is fetched.
pub(super) const OUT: &str = "/out/image";
/// More than this is never written here: what a manifest says of sizes is only a claim.
const ROOM: u64 = 4 << 20;

/// Clones are the same file system.
#[derive(Clone, Debug)]
pub(super) struct Files {
    files: MemoryFiles,
    /// How many of the next operations fail.
    failing: Rc<Cell<u8>>,
    /// What a blob that is saved by itself has to be.
    saved: Digest,
    /// A check is going on. Jobs catch panics, so that one that came to no end has to be noticed otherwise.
    checking: Rc<Cell<bool>>,
}

impl Files {
    pub(super) fn new(disk: MemoryDisk, saved: Digest) -> Self {
        Self { files: MemoryFiles::new(disk), failing: Rc::default(), saved, checking: Rc::default() }
    }

    /// The next operations fail.
    pub(super) fn fail(&self, operations: u8) {
        self.failing.set(operations);
    }

    /// What an earlier run may have left where things are fetched to.
    pub(super) fn leave(&self, at: &Path, content: Bytes) {
        self.files.put(at, Some(content));
    }

    fn may_fail(&self) -> io::Result<()> {
        match self.failing.get().checked_sub(1) {
            Some(left) => {
                self.failing.set(left);
                Err(io::Error::other("worn out"))
            }
            None => Ok(()),
        }
    }

    fn check(&self, check: impl FnOnce()) {
        self.checking.set(true);
        check();
        self.checking.set(false);
    }

    /// Whether something was found to be wrong.
    pub(super) fn is_wrong(&self) -> bool {
        self.checking.get()
    }

    /// How large a file is.
    pub(super) fn size(&self, path: &Path) -> Option<u64> {
        match self.files.open(path) {
            Ok(Opened::File { size, .. }) => Some(size),
            _ => None,
        }
    }
}

fn check_path(path: &Path, write: bool) {
    let mut parts = path.components();
    assert_eq!(parts.next(), Some(Component::RootDir), "{}", path.display());
    assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
    assert!(path.starts_with("/out") || !write && path.starts_with("/in"), "{}", path.display());
}

impl Disk for Files {
    type File = Cursor<Bytes>;

    fn open(&self, path: &Path) -> io::Result<Opened<Cursor<Bytes>>> {
        self.check(|| check_path(path, false));
        self.may_fail()?;
        self.files.open(path)
    }
}

impl Storage for Files {
    type Out = MemoryFile;

    fn open_out(&self, path: &Path) -> io::Result<MemoryFile> {
        self.check(|| {
            check_path(path, true);
            let name = path.to_string_lossy();
            assert!(name.ends_with(".partial"), "{name} would be half-written under its final name");
        });
        self.may_fail()?;
        self.files.open_out(path)
    }

    fn open_private(&self, path: &Path) -> io::Result<MemoryFile> {
        self.open_out(path)?;
        self.files.open_private(path)
    }

    fn resize(&self, file: &mut MemoryFile, length: u64) -> io::Result<()> {
        self.may_fail()?;
        if length > ROOM {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.files.resize(file, length)
    }

    fn settle(&self, file: &mut MemoryFile) -> io::Result<()> {
        self.may_fail()?;
        let at = file.stream_position()?;
        file.seek(SeekFrom::Start(at)).map(|_| ())
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(|| [from, to].iter().for_each(|path| check_path(path, true)));
        self.may_fail()?;
        let files = self.files.snapshot();
        let content = files.0.get(from).ok_or(io::ErrorKind::NotFound)?;
        self.check(|| check::published(to, content, &self.saved));
        self.files.publish(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(|| check_path(path, true));
        self.may_fail()?;
        self.files.remove(path)
    }
}
