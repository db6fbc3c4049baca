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
        let file = File::open(path)?;
        let about = file.metadata()?;
        Ok(if about.is_dir() { Opened::Folder } else { Opened::File { file, size: about.len() } })
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
