//! What is measured: pulls and copies, and how to see that they really happened.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use registry_proto::spec::{Digest, Manifest};
use registry_tests::bench::Target;
use registry_tests::bench::wire::Connection;
use registry_tests::docker_registry::DockerRegistry;
use registry_tests::runtimes::Runtime;
use tempfile::TempDir;

use crate::contender::Wrote;
use crate::floor;
use crate::image::Image;

/// Where the images are.
pub(crate) const REPOSITORY: &str = "bench/image";

/// What is asked of everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// 215 MB into an archive in memory.
    Pull,
    /// The same into one on a disk.
    PullToDisk,
    /// Sixty small layers into an archive in memory.
    PullSmall,
    /// Sixty small layers to another repository of the registry.
    CopyWithin,
    /// 215 MB to another registry.
    CopyBetween,
    /// A layer of 1 GiB into an archive in memory.
    PullLarge,
    /// A layer of 1 GiB to another registry.
    CopyLarge,
}

impl Task {
    pub(crate) const ALL: [Self; 7] = [
        Self::Pull,
        Self::PullToDisk,
        Self::PullSmall,
        Self::CopyWithin,
        Self::CopyBetween,
        Self::PullLarge,
        Self::CopyLarge,
    ];

    pub(crate) const fn letter(self) -> &'static str {
        match self {
            Self::Pull => "e",
            Self::PullToDisk => "f",
            Self::PullSmall => "g",
            Self::CopyWithin => "h",
            Self::CopyBetween => "i",
            Self::PullLarge => "j",
            Self::CopyLarge => "k",
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Pull => "pull of 7 gzip layers, 215 MB, to an archive in memory",
            Self::PullToDisk => "the same to an archive on the disk",
            Self::PullSmall => "pull of 60 layers of 10 to 200 KB to an archive in memory",
            Self::CopyWithin => "copy of 60 layers within one registry",
            Self::CopyBetween => "copy of 7 gzip layers, 215 MB, between two registries",
            Self::PullLarge => "pull of one layer of 1 GiB to an archive in memory",
            Self::CopyLarge => "copy of one layer of 1 GiB between two registries",
        }
    }

    pub(crate) const fn is_pull(self) -> bool {
        matches!(self, Self::Pull | Self::PullToDisk | Self::PullSmall | Self::PullLarge)
    }

    pub(crate) fn target(self) -> fn(Runtime) -> Target {
        match self {
            // What it takes until all of it is on a disk is the disk's doing.
            Self::PullToDisk | Self::CopyBetween => |_| Target::Open,
            Self::Pull => |runtime| match runtime {
                Runtime::Tokio | Runtime::Blocking => Target::TimesFloor(1.6),
                Runtime::AsyncStd | Runtime::Smol | Runtime::StdNet => Target::Open,
            },
            Self::PullSmall => |_| Target::TimesFloor(1.5),
            Self::CopyWithin => |_| Target::Seconds(0.08),
            Self::PullLarge | Self::CopyLarge => |_| Target::Mebibytes(32.0),
        }
    }

    const fn image(self) -> Image {
        match self {
            Self::Pull | Self::PullToDisk | Self::CopyBetween => Image::Usual,
            Self::PullSmall | Self::CopyWithin => Image::Small,
            Self::PullLarge | Self::CopyLarge => Image::Large,
        }
    }

    /// Starts a registry that has the image.
    pub(crate) fn prepare(self, memory: &Path) -> Prepared {
        let source = DockerRegistry::start();
        let manifest = self.image().put(&source.host(), memory);
        let folder = match self {
            // Where cargo builds, rather than where temporary files are, which may be in memory.
            Self::PullToDisk => TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            _ => TempDir::new_in(memory).unwrap(),
        };
        Prepared { task: self, source, manifest, folder, runs: 0 }
    }
}

/// A registry with the image, and a folder for what is pulled.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) task: Task,
    pub(crate) source: DockerRegistry,
    manifest: Manifest,
    folder: TempDir,
    runs: usize,
}

/// Where it goes this time.
#[derive(Debug)]
pub(crate) enum To {
    Archive(PathBuf),
    /// In the registry where it comes from, or another one.
    Repository(Option<DockerRegistry>, String),
}

impl Prepared {
    /// Somewhere new for each run: what is there needs no work.
    pub(crate) fn next(&mut self) -> To {
        self.runs += 1;
        match self.task {
            Task::CopyWithin => To::Repository(None, format!("bench/copy{}", self.runs)),
            Task::CopyBetween | Task::CopyLarge => To::Repository(Some(DockerRegistry::start()), "bench/copy".into()),
            _ => To::Archive(self.folder.path().join(format!("{}.tar", self.runs))),
        }
    }

    /// Where temporary files go.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether what was said to be done is done. What was pulled is deleted again.
    pub(crate) fn check(&self, to: &To, wrote: Wrote) -> Result<(), String> {
        match to {
            To::Archive(path) => {
                let checked = self.check_archive(path, wrote);
                fs::remove_file(path).map_err(|why| why.to_string())?;
                checked
            }
            To::Repository(registry, repository) => {
                let host = registry.as_ref().unwrap_or(&self.source).host();
                let found = Connection::open(&host).and_then(|mut there| there.look_up(repository, "1"));
                match found.map_err(|why| why.to_string())? {
                    Some(digest) if digest == self.manifest.digest().as_str() => Ok(()),
                    Some(digest) => Err(format!("copied {digest}, which is not {}", self.manifest.digest())),
                    None => Err("said that it copied, but nothing is there".into()),
                }
            }
        }
    }

    fn check_archive(&self, path: &Path, wrote: Wrote) -> Result<(), String> {
        if wrote == Wrote::Blobs {
            return self.check_blobs(path).map_err(|why| why.to_string());
        }
        let client = registry_blocking::Client::new().map_err(|why| why.to_string())?;
        let verified = client.verify_archive(path).map_err(|why| why.to_string())?;
        let Some(archive) = verified.archive.as_ref().filter(|_| verified.is_whole()) else {
            return Err(format!("what it pulled is damaged: {verified:?}"));
        };
        let root = archive.images().first().ok_or("what it pulled is empty")?.root();
        let layers = root.image().map_or(0, |image| image.layers.len());
        let expected = self.manifest.image().map_or(0, |image| image.layers.len());
        match wrote {
            Wrote::Image if root.digest() != self.manifest.digest() => Err(format!("it pulled {}", root.digest())),
            _ if layers != expected => Err(format!("it pulled {layers} layers of {expected}")),
            _ => Ok(()),
        }
    }

    fn check_blobs(&self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        for blob in floor::blobs(self.manifest.bytes())? {
            let mut bytes = vec![0; usize::try_from(blob.size).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, blob.at)?;
            if Digest::of(&bytes).as_str() != blob.digest {
                return Err(io::Error::other(format!("{} is not what it wrote", blob.digest)));
            }
        }
        Ok(())
    }
}
