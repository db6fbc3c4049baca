//! `copy`.

use std::num::{NonZeroU64, NonZeroUsize};

use clap::Args;
use registry_tokio::proto::spec::{Platform, Reference};

use super::names::reference;
use super::values::{count, size};
use super::{Access, FormatArg};

const COPY_MORE: &str = "\
Examples:
  tug copy quay.io/org/app:v1 registry.example.org/mirror/app:v1
  # With its signatures and attestations
  tug copy quay.io/org/app:v1 localhost:5000/app:v1 --referrers
  # Every tag of a repository
  tug copy quay.io/org/app localhost:5000/app --all-tags

JSON (--format json):
  source                what was asked for
  digest                of the image; of several, of the first
  references            [{reference, digest}]: what leads to them now
  referrers             digests of what refers to them and went along
  leftOut               [{reference, why}]: what could not be copied
  sent, sentBytes       blobs that were sent, and their bytes
  existed, mounted      blobs that were there already, or were mounted";

/// Copy an image from one registry to another, or within one
///
/// Everything goes byte for byte, so that the digest stays what it was; of an index, all its images go along. What the
/// destination has is not sent again, within a registry nothing is sent at all, and nothing is written to this machine's disk.
///
/// Prints the image's digest; of several tags, a line `DIGEST REF` each.
#[derive(Args, Debug)]
#[command(after_long_help = COPY_MORE)]
pub(crate) struct Copy {
    /// From where: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "SRC", value_parser = reference)]
    pub(crate) source: Reference,
    /// Where to: [HOST[:PORT]/]REPOSITORY[:TAG]
    #[arg(value_name = "DST", value_parser = reference)]
    pub(crate) destination: Reference,
    /// Copy all tags of the repository SRC, each to the same tag in the repository DST. What can't be copied is left out, and the
    /// exit status is 1
    #[arg(long)]
    pub(crate) all_tags: bool,
    /// Copy what refers to the image, too: signatures, attestations, bills of materials, and what refers to these
    #[arg(long)]
    pub(crate) referrers: bool,
    /// Of an image for several platforms, only the one for this: os/architecture[/variant], such as `linux/arm64`
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) transfer: Transfer,
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) from: From,
}

/// How blobs go from registry to registry.
#[derive(Args, Debug)]
#[command(next_help_heading = "Transfer")]
pub(crate) struct Transfer {
    /// Fetch blobs in pieces of this size (`2097152`, `2M`), of which each blob under way has two to four in memory; where they go in
    /// chunks, each is one
    #[arg(long, value_name = "BYTES", default_value = "2M", value_parser = size)]
    pub(crate) chunk_size: NonZeroU64,
    /// How many blobs are transferred at a time
    #[arg(short, long, value_name = "N", default_value = "4", value_parser = count::<NonZeroUsize>)]
    pub(crate) jobs: NonZeroUsize,
}

/// Who one is where an image comes from.
#[derive(Args, Debug)]
#[command(next_help_heading = "Source registry")]
pub(crate) struct From {
    /// The user to log in as at SRC's registry; --username is for DST's registry (or the one that both are in)
    #[arg(long, value_name = "NAME")]
    pub(crate) from_username: Option<String>,
    /// The password of --from-username; other users of this machine can see it: prefer --from-password-stdin
    #[arg(long, value_name = "PASSWORD", requires = "from_username", conflicts_with = "from_password_stdin")]
    pub(crate) from_password: Option<String>,
    /// Read the password of --from-username from the first line of standard input
    #[arg(long, requires = "from_username", conflicts_with = "password_stdin")]
    pub(crate) from_password_stdin: bool,
}
