//! A file system in memory that can be written to.

use std::cell::RefCell;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;

use crate::archive::make::MemoryDisk;
use crate::archive::{Disk, Opened};
use crate::job::Storage;

/// A [`MemoryDisk`] that can be written to. Clones are the same file system.
///
/// ```
/// use std::path::Path;
/// use registry_proto::testing::files::MemoryFiles;
///
/// let files = MemoryFiles::default();
/// files.put("app.state", Some("something".into()));
/// assert!(files.snapshot().0.contains_key(Path::new("app.state")));
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(Rc<RefCell<MemoryDisk>>);

impl MemoryFiles {
    /// With what is on this disk.
    pub fn new(disk: MemoryDisk) -> Self {
        Self(Rc::new(RefCell::new(disk)))
    }

    /// What is there now.
    pub fn snapshot(&self) -> MemoryDisk {
        self.0.borrow().clone()
    }

    /// Puts a file there, or removes it.
    pub fn put(&self, path: impl Into<PathBuf>, content: Option<Bytes>) {
        let (path, files) = (path.into(), &mut self.0.borrow_mut().0);
        match content {
            Some(content) => _ = files.insert(path, content),
            None => _ = files.remove(&path),
        }
    }
}

impl Disk for MemoryFiles {
    type File = Cursor<Bytes>;

    fn open(&self, path: &Path) -> io::Result<Opened<Cursor<Bytes>>> {
        self.0.borrow().open(path)
    }
}

impl Storage for MemoryFiles {
    type Out = MemoryFile;

    fn open_out(&self, path: &Path) -> io::Result<MemoryFile> {
        let files = &mut self.0.borrow_mut().0;
        let under_a_file = path.ancestors().skip(1).any(|above| files.contains_key(above));
        let is_folder = files.keys().any(|file| file != path && file.starts_with(path));
        if under_a_file || is_folder {
            return Err(if is_folder { io::ErrorKind::IsADirectory } else { io::ErrorKind::NotADirectory }.into());
        }
        files.entry(path.to_owned()).or_default();
        Ok(MemoryFile { files: self.clone(), path: path.to_owned(), at: 0 })
    }

    fn open_private(&self, path: &Path) -> io::Result<MemoryFile> {
        let mut file = self.open_out(path)?;
        self.resize(&mut file, 0)?;
        Ok(file)
    }

    fn resize(&self, file: &mut MemoryFile, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        file.change(|content| content.resize(length, 0))
    }

    fn settle(&self, _: &mut MemoryFile) -> io::Result<()> {
        Ok(())
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        let files = &mut self.0.borrow_mut().0;
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let gone = self.0.borrow_mut().0.remove(path);
        gone.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// An open file of a [`MemoryFiles`].
#[derive(Debug)]
pub struct MemoryFile {
    files: MemoryFiles,
    path: PathBuf,
    at: u64,
}

impl MemoryFile {
    fn content(&self) -> io::Result<Bytes> {
        self.files.0.borrow().0.get(&self.path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut content = Vec::from(self.content()?);
        change(&mut content);
        self.files.put(self.path.clone(), Some(content.into()));
        Ok(())
    }
}

impl Read for MemoryFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut cursor = Cursor::new(self.content()?);
        cursor.set_position(self.at);
        let got = cursor.read(buffer)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at = usize::try_from(self.at).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.change(|content| {
            let end = at + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[at..end].copy_from_slice(bytes);
        })?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for MemoryFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let mut cursor = Cursor::new(self.content()?);
        cursor.set_position(self.at);
        self.at = cursor.seek(to)?;
        Ok(self.at)
    }
}
