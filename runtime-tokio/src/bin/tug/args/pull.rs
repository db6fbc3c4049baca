//! `pull`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use registry_tokio::proto::spec::{Platform, Reference};

use super::Access;
use super::names::reference;
use super::values::{count, file};

const PULL_MORE: &str = "\
Examples:
  tug pull debian:stable-slim debian.tar && docker load -i debian.tar
  tug pull localhost:5000/app:v1 app.tar --platform linux/arm64
  # All platforms, as an OCI layout folder
  tug pull localhost:5000/app:v1 layout --format oci-dir --all-platforms
  # Several images into one archive
  tug pull alpine:3 busybox:1 both.tar

JSON (--format json):
  out                   the archive
  images                [{reference, digest}], in the order asked for
  fetched, fetchedBytes blobs that were fetched, and their bytes
  kept, keptBytes       blobs that were here, and the bytes of those and of what an interrupted run had fetched";

/// Pull images into an archive
///
/// OUT is a tar that both `docker load` and OCI tools read, or what --format says. It is there under its name only when it is
/// whole and every byte was verified; until then it is `OUT.partial`, from which the same command goes on if it was
/// interrupted. A folder (`--format oci-dir`) keeps blobs that are there and right, and the images that it holds besides.
///
/// Prints the digest of the image's manifest; of several images, a line `DIGEST REF` each.
#[derive(Args, Debug)]
#[command(after_long_help = PULL_MORE)]
pub(crate) struct Pull {
    /// What: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]; several go into one archive
    #[arg(value_name = "REF", required = true, num_args = 1.., value_parser = reference)]
    pub(crate) references: Vec<Reference>,
    /// Where to: a file, or a folder with `--format oci-dir`. A file that is there is replaced; folders on the way are made
    #[arg(value_name = "OUT", value_parser = file("its parts come in any order: name a file, not standard output"))]
    pub(crate) out: PathBuf,
    /// What OUT becomes, and what is printed: both can be said, as in `--format oci,json`
    #[arg(long, value_enum, value_name = "FORMAT", value_delimiter = ',')]
    pub(crate) format: Vec<PullFormat>,
    /// Of an image for several platforms, only the one for this: os/architecture[/variant]; this machine's if it is not said
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    /// Of an image for several platforms, all of them
    #[arg(long, conflicts_with = "platform")]
    pub(crate) all_platforms: bool,
    /// Keep in the file STATE what REF leads to while this pull runs, and go on with that if there is such a file, even if its tag
    /// was moved meanwhile. It is removed when the pull is done. (What has come goes to OUT.partial in any case)
    #[arg(long, value_name = "STATE")]
    pub(crate) resume: Option<PathBuf>,
    /// How many blobs are transferred at a time
    #[arg(short, long, value_name = "N", default_value = "4", value_parser = count::<NonZeroUsize>)]
    pub(crate) jobs: NonZeroUsize,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// What a pull makes, and what it prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullFormat {
    /// A tar with both an OCI layout and `manifest.json` (the default)
    DockerOci,
    /// A docker-archive, for tools that know nothing else. That format has no place for an image's own manifest: pushed from it by
    /// other tools, the image may get another digest
    Docker,
    /// A tar of an OCI layout
    Oci,
    /// A folder with an OCI layout
    OciDir,
    /// Print for people and pipes
    Text,
    /// Print for programs
    Json,
}
