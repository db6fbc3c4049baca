//! The local file system, as archives are read from it and written to it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

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

    fn written_at(&self, path: &Path) -> io::Result<Option<Duration>> {
        // Before 1970 is as good as unknown.
        Ok(fs::metadata(path)?.modified()?.duration_since(UNIX_EPOCH).ok())
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

    fn open_private(&self, path: &Path) -> io::Result<File> {
        match fs::remove_file(path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        // A new one, so that it is neither somebody else's nor a link to somewhere.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)
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

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
