//! `inspect`, `digest`, `manifest`, `config`, `blob`, `validate` and `ping`: they look, and change nothing.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;
use registry_tokio::proto::spec::{Platform, Reference, Registry};

use super::names::{reference, registry};
use super::values::{file, size};
use super::{Access, FormatArg};

pub(super) const DIGEST_MORE: &str = "\
Examples:
  tug digest debian:stable-slim
  tug digest app.tar
  # Pinned, whatever becomes of the tag
  tug pull debian@$(tug digest debian:stable-slim) debian.tar

JSON (--format json):
  Of an image in a registry: {reference, digest, mediaType, size}, in bytes of its manifest.
  Of an archive: [{digest, names}].";

pub(super) const VALIDATE_MORE: &str = "\
Examples:
  tug validate app.tar && tug push app.tar localhost:5000/app:v1
  docker save app:v1 | tug validate -

JSON (--format json): {ok, faults: [a sentence each]}";

const PING_MORE: &str = "\
Examples:
  tug ping localhost:5000
  tug ping registry.example.org --ca-file ca.pem

JSON (--format json): {origin, status, apiVersion, challenges: [{scheme, realm, service}]}";

const MANIFEST_MORE: &str = "\
Examples:
  tug manifest localhost:5000/app:v1
  # The digest, as anybody can compute it
  tug manifest localhost:5000/app:v1 | sha256sum";

const CONFIG_MORE: &str = "\
Examples:
  tug config localhost:5000/app:v1
  tug config debian:stable-slim --platform linux/arm64";

const BLOB_MORE: &str = "\
Examples:
  tug blob localhost:5000/app@sha256:… layer.tar.gz
  tug blob localhost:5000/app@sha256:… | tar tz";

pub(super) const INSPECT_MORE: &str = "\
Examples:
  tug inspect localhost:5000/app:v1
  tug inspect app.tar.gz
  docker save app:v1 | tug inspect -
  tug inspect debian:stable-slim --format json

JSON (--format json):
  Of an image in a registry, one object:
    reference, digest, mediaType
    size            in bytes, of its layers and configuration; of an index, of all its images
    config, layers  descriptors, as in the manifest (image-spec): mediaType, digest, size …
    annotations, artifactType
    platform, created, author, user, workingDir, env, entrypoint, cmd, labels, exposedPorts
    history         [{created, createdBy, comment, emptyLayer}]
    manifests       of an index: its descriptors, each with
                      attestation  whether it is one, and no image
                      image        an object like this one, if it could be looked at
                      notes        what could not be told, and why
    notes           what could not be told, and why
  Of an archive: kind, notes, and images, a list of such objects with names instead of reference.
  What does not apply is absent or null.";

/// Ask a registry whether it is one, and how it wants to be authenticated
#[derive(Args, Debug)]
#[command(after_long_help = PING_MORE)]
pub(crate) struct Ping {
    /// The registry: HOST[:PORT]
    #[arg(value_name = "HOST", value_parser = registry)]
    pub(crate) registry: Registry,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// An image or an archive to look at.
#[derive(Args, Debug)]
pub(crate) struct Look {
    /// An image in a registry ([HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]), or an archive: a tar file, compressed or not, an
    /// OCI layout folder, or `-` for standard input. What is there as a file is taken for an archive: to mean the image all the
    /// same, write its host or its tag
    #[arg(value_name = "REF|ARCHIVE")]
    pub(crate) subject: OsString,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// Print a manifest or an index, its bytes exactly as the registry has them
///
/// Their SHA-256 is the digest. Nothing is added, no newline either.
#[derive(Args, Debug)]
#[command(after_long_help = MANIFEST_MORE)]
pub(crate) struct RawManifest {
    /// Of what: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "REF", value_parser = reference)]
    pub(crate) reference: Reference,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// Print an image's configuration, its bytes exactly as the registry has them
///
/// They are verified against the digest in the manifest.
#[derive(Args, Debug)]
#[command(after_long_help = CONFIG_MORE)]
pub(crate) struct RawConfig {
    /// Of what: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "REF", value_parser = reference)]
    pub(crate) reference: Reference,
    /// Of an index, the image for this platform; this machine's if it is not said
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// Fetch a blob, such as a layer, by its digest
///
/// Into OUT, which is there under its name only when all of it was verified (until then it is `OUT.partial`, from which the same
/// command goes on), and whose digest is printed. Without OUT, to standard output: the last bytes come only if the whole has
/// the right digest, and the exit status says so.
#[derive(Args, Debug)]
#[command(after_long_help = BLOB_MORE)]
pub(crate) struct Blob {
    /// Which: [HOST[:PORT]/]REPOSITORY@DIGEST
    #[arg(value_name = "REPO@DIGEST", value_parser = reference)]
    pub(crate) reference: Reference,
    /// The file to write, which is replaced if it is there; standard output if it is not said
    #[arg(value_name = "OUT", value_parser = file("leave it out for standard output"))]
    pub(crate) out: Option<PathBuf>,
    /// Fetch what goes to standard output in pieces of this size (`5242880`, `5M`), of which one is in memory
    #[arg(long, value_name = "BYTES", default_value = "8M", value_parser = size, conflicts_with = "out")]
    pub(crate) chunk_size: NonZeroU64,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// An archive to look at.
#[derive(Args, Debug)]
pub(crate) struct OfArchive {
    /// A tar file, compressed or not, an OCI layout folder, or `-` for standard input
    #[arg(value_name = "ARCHIVE")]
    pub(crate) archive: PathBuf,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}
