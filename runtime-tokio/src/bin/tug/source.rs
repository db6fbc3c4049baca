//! Where an archive comes from: a file or folder that is read in place, or something that goes by once.

use std::path::{Path, PathBuf};

use registry_tokio::proto::archive::{Archive, Compression, Examined, Feed, Limits};
use registry_tokio::proto::flow::{ExamineArchive, ReadFeed};
use registry_tokio::{Client, unpack};

use crate::output::Trouble;
use crate::progress::Progress;

/// What people call standard input.
const INPUT: &str = "standard input";

/// What was named as an archive.
#[derive(Debug)]
pub(crate) enum Source {
    /// A tar or a folder.
    Place(PathBuf),
    /// A tar that goes by, as often as one likes: it is compressed, or has to be.
    Packed(PathBuf),
    /// Standard input, which goes by once.
    Input,
}

impl Source {
    /// Told by what is there; what is wrong with it, whoever reads it says.
    pub(crate) fn of(path: &Path) -> Self {
        if path.as_os_str() == "-" {
            return Self::Input;
        }
        let is_packed =
            path.is_file() && matches!(unpack::compression(path), Ok(Some(Compression::Gzip | Compression::Zstd)));
        if is_packed { Self::Packed(path.to_owned()) } else { Self::Place(path.to_owned()) }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &Path {
        match self {
            Self::Place(path) | Self::Packed(path) => path,
            Self::Input => Path::new(INPUT),
        }
    }

    /// It, going by from its start.
    pub(crate) fn feed(&self) -> Result<Feed, Trouble> {
        let limits = Limits::default();
        match self {
            Self::Input => Ok(unpack::feed(INPUT, std::io::stdin(), &limits)),
            Self::Place(path) | Self::Packed(path) => unpack::open(path, &limits)
                .map_err(|why| Trouble::Other(format!("{} can't be opened: {why}", path.display()))),
        }
    }

    /// What it holds, and what is wrong with it. Of what goes by, every byte was read after that.
    pub(crate) async fn examine(&self, client: &Client, progress: &Progress) -> Result<Examined, Trouble> {
        match self {
            Self::Place(path) => progress.run(client, ExamineArchive::new(path.as_path())).await,
            Self::Packed(_) | Self::Input => progress.run(client, ReadFeed::new(self.feed()?)).await,
        }
    }

    /// What it holds, if nothing is wrong with it.
    pub(crate) async fn read(&self, client: &Client, progress: &Progress) -> Result<Archive, Trouble> {
        let found = self.examine(client, progress).await?;
        Ok(found.into_result().map_err(registry_tokio::proto::Error::from)?)
    }
}
