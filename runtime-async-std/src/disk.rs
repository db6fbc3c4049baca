//! Archives on the local file system.

use std::fs::File;
use std::io;
use std::path::Path;

use registry_proto::archive::{Disk, Opened};

/// The local file system, as archives are read from it.
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
