//! `push`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use registry_tokio::proto::UploadPolicy;
use registry_tokio::proto::spec::{Platform, Reference};

use super::names::reference;
use super::values::{chunk_size, count};
use super::{Access, FormatArg};

const PUSH_MORE: &str = "\
Examples:
  tug push app.tar localhost:5000/app:v1
  tug push layout/ registry.example.org/team/app:v1
  # Every image of an archive under its own tags, below a prefix
  tug push images.tar.gz --prefix registry.example.org/mirror
  # As it is being saved
  docker save app:v1 | tug push - localhost:5000/app:v1
  docker save app:v1 | tug push - registry.example.org/team/app:v1 --compress zstd
  # Over a bad line: stopped or killed, the same command goes on where it was
  tug push app.tar localhost:5000/app:v1 --resume app.state
  # What would that send?
  tug push app.tar localhost:5000/app:v1 --dry-run

JSON (--format json):
  references            [{reference, digest}]: what leads to the images now
  sent, sentBytes       blobs that were sent, and their bytes
  resumedBytes          how many of those an interrupted run with --resume had sent
  existed, mounted      blobs that were there already, or were mounted
  With --dry-run: references; missing, [{repository, digest, size}], and their bytes; present; mounts.";

/// Push the images of an archive to a registry
///
/// ARCHIVE is a `docker save` tar (old or new form), an OCI archive or an OCI layout folder: what it is is found out by its
/// content. It is read in place; layers go as they are, so that digests stay what they were (but see --compress). What the registry has already is
/// not sent again.
///
/// A tar may be compressed (.gz, .zst); it is then read twice, and nothing of it is written anywhere. `-` is standard input,
/// which goes by once: its blobs are sent before their names are known, so REF has to say where to. Both are sent one blob at a
/// time, in pieces of --chunk-size (8 MiB if it is not said), of which about three are in memory.
///
/// Without REF, every image goes to the tags that the archive has for it.
///
/// Prints the digest of what was pushed; of several references, a line `DIGEST REF` each.
#[derive(Args, Debug)]
#[command(after_long_help = PUSH_MORE)]
pub(crate) struct Push {
    /// A tar file, compressed or not, an OCI layout folder, or `-` for standard input
    #[arg(value_name = "ARCHIVE")]
    pub(crate) archive: PathBuf,
    /// Where to: [HOST[:PORT]/]REPOSITORY[:TAG]
    #[arg(value_name = "REF", value_parser = reference)]
    pub(crate) reference: Option<Reference>,
    /// Push every image to its own tags below this: with `localhost:5000/mirror`, `busybox:1` goes to
    /// `localhost:5000/mirror/busybox:1`
    #[arg(long, value_name = "HOST/NAMESPACE", conflicts_with = "reference")]
    pub(crate) prefix: Option<String>,
    /// Of an archive with several images, only the one with this name or digest
    #[arg(long, value_name = "NAME|DIGEST")]
    pub(crate) image: Option<String>,
    /// Of images for several platforms, only those for this: os/architecture[/variant], such as `linux/arm64`
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    /// Compress layers that are not compressed, on their way. Manifests and digests are new ones then, and the layers are sent
    /// again each time. ARCHIVE has to be a tar, or standard input
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with_all = ["dry_run", "monolithic"])]
    pub(crate) compress: Option<Compress>,
    /// Find out what would be sent, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Keep the state of this push in the file STATE while it runs, and go on from there if there is such a file: also in the
    /// middle of a blob. It is removed when the push is done. Until then uploads stay open at the registry, as long as that keeps
    /// them; the file has their URLs, and only its owner can read it
    #[arg(long, value_name = "STATE", conflicts_with_all = ["dry_run", "compress"])]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) upload: Upload,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// What layers are compressed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compress {
    /// What every registry and every runtime takes
    Gzip,
    /// Smaller and faster; Docker takes it since 23, containerd since 1.5
    Zstd,
}

/// How blobs are uploaded.
#[derive(Args, Debug)]
#[command(next_help_heading = "Upload")]
pub(crate) struct Upload {
    /// Send blobs in chunks of this size (`5242880`, `5M`); `auto`: in one request, and in chunks where that does not get
    /// through
    #[arg(long, value_name = "auto|BYTES", default_value = "auto", value_parser = chunk_size)]
    pub(crate) chunk_size: UploadPolicy,
    /// Send each blob in one request, whatever happens
    #[arg(long, conflicts_with = "chunk_size")]
    pub(crate) monolithic: bool,
    /// How many blobs are transferred at a time
    #[arg(short, long, value_name = "N", default_value = "4", value_parser = count::<NonZeroUsize>)]
    pub(crate) jobs: NonZeroUsize,
}
