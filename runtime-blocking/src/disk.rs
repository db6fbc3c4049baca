//! The local file system, as archives are read from it and written to it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use registry_proto::archive::{Disk, Opened};
use registry_proto::job::Storage;

/// The local file system.
#[derive(Debug)]
pub(crate) struct LocalDisk;

impl Disk for LocalDisk {
    type File = File;

    fn open(&self, path: &Path) -> io::Result<Opened<File>> {
        // Before it is opened: opening a pipe waits for somebody to write into it.
        let kind = fs::metadata(path)?.file_type();
        if kind.is_dir() {
            return Ok(Opened::Folder);
        }
        if !kind.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a folder"));
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Opened::File { file, size })
    }
}

impl Storage for LocalDisk {
    type Out = File;

    fn open_out(&self, path: &Path) -> io::Result<File> {
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        match (open(), path.parent()) {
            (Err(why), Some(folder)) if why.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder)?;
                open()
            }
            (opened, _) => opened,
        }
    }

    fn resize(&self, file: &mut File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn settle(&self, file: &mut File) -> io::Result<()> {
        file.sync_data()
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        File::open(from)?.sync_all()?;
        fs::rename(from, to)
    }
}
