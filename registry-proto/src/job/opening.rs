//! A file range and its file.

use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use crate::job::local::unread;
use crate::job::{Failure, FileRange, Outgoing};

impl FileRange {
    /// Opens the file in the driver's way and starts reading the range. An error names the file: among thousands of blobs, "no such
    /// file" alone helps nobody.
    ///
    /// # Errors
    /// [`FailureKind::Source`](super::FailureKind::Source) when it can't be opened or positioned.
    pub fn open_with<R: Read + Seek>(self, open: impl FnOnce(&Path) -> io::Result<R>) -> Result<Outgoing<R>, Failure> {
        let path = Arc::clone(self.path());
        let file = open(&path).map_err(|why| unread(&path, &why))?;
        self.read_from(file)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, SeekFrom};

    use super::*;
    use crate::digester::Digester;
    use crate::job::{BlobPart, FailureKind, Meter};
    use crate::spec::{Algorithm, Digest};

    /// Can't be positioned, or can't be read.
    #[derive(Clone, Copy)]
    enum Broken {
        Seek,
        Read,
    }

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no more"))
        }
    }

    impl Seek for Broken {
        fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
            match self {
                Self::Seek => Err(io::Error::other("no way")),
                Self::Read => Ok(0),
            }
        }
    }

    #[test]
    fn errors_name_the_file() {
        let digester = Digester::new(Algorithm::Sha256);
        let blob = BlobPart { offset: 0, size: 1, expected: Digest::of(b"x"), digester, meter: Meter::default() };
        let range = FileRange::new(Path::new("a/layer.tar").into(), 0..1, blob);
        let missing = range.clone().open_with(|_| Err::<Broken, _>(ErrorKind::NotFound.into())).unwrap_err();
        let unplaced = range.clone().open_with(|_| Ok(Broken::Seek)).unwrap_err();
        let unread = range.clone().open_with(|_| Ok(Broken::Read)).unwrap().fill(&mut [0]).unwrap_err();
        let unsurveyed = range.open_with(|_| Ok(Broken::Read)).unwrap().survey(&mut [0]).unwrap_err();
        for (why, what) in [(missing, "not found"), (unplaced, "no way"), (unread, "no more"), (unsurveyed, "no more")]
        {
            assert_eq!(why.kind(), FailureKind::Source);
            let text = why.to_string();
            assert!(text.contains("a/layer.tar: ") && text.contains(what), "{text}");
        }
    }
}
