//! What can be typed: verbs, flags and their help.

mod change;
mod lists;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use registry_tokio::proto::UploadPolicy;
use registry_tokio::proto::spec::{Platform, Reference, Registry};

pub(crate) use change::{Delete, Tag};
pub(crate) use lists::{Catalog, Referrers, Tags};

use crate::login::{LogIn, LogOut};

const EXAMPLES: &str = "\
Examples:
  # See it all at work, with nothing to set up
  tug demo
  # A `docker save` tar, an OCI archive or an OCI layout folder
  tug push app.tar localhost:5000/app:v1
  # The same over a bad line: stopped or killed, the same command goes on where it was
  tug push app.tar localhost:5000/app:v1 --resume app.state
  # Every image of an archive under its own tags, below a prefix
  tug push images.tar --prefix registry.example.org/mirror
  # An image for this machine, as a tar for `docker load`, podman, skopeo …
  tug pull debian:stable-slim debian.tar
  # From registry to registry, layers and all
  tug copy quay.io/org/app:v1 registry.example.org/mirror/app:v1
  # What is in an archive, and whether it is whole
  tug inspect app.tar && tug validate app.tar
  # What is in a registry
  tug inspect localhost:5000/app:v1
  tug digest debian:stable-slim
  # What is said about an image: signatures, attestations, bills of materials
  tug referrers localhost:5000/app:v1
  tug catalog localhost:5000 && tug tags localhost:5000/app
  # Another name for it, and away with it
  tug tag localhost:5000/app:v1 stable
  tug delete localhost:5000/app:v1
  # A small registry in memory, for tests
  tug serve --addr 127.0.0.1:5000

Environment:
  https_proxy, http_proxy, all_proxy   http://[USER:PASSWORD@]HOST[:PORT]: the proxy by way of which registries are reached,
                                       by CONNECT. This machine is reached without
  no_proxy                             who is reached without: names, addresses, networks, `*`
  REGISTRY_AUTH_FILE, DOCKER_CONFIG    where credentials are

Results go to standard output, everything else to standard error.
Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C.";

const INSPECT_JSON: &str = "\
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

const COPY_JSON: &str = "\
JSON (--format json):
  source                what was asked for
  digest                of the image; of several, of the first
  references            [{reference, digest}]: what leads to them now
  referrers             digests of what refers to them and went along
  leftOut               [{reference, why}]: what could not be copied
  sent, sentBytes       blobs that were sent, and their bytes
  existed, mounted      blobs that were there already, or were mounted";

const PUSH_JSON: &str = "\
JSON (--format json):
  references            [{reference, digest}]: what leads to the images now
  sent, sentBytes       blobs that were sent, and their bytes
  resumedBytes          how many of those an interrupted run with --resume had sent
  existed, mounted      blobs that were there already, or were mounted
  With --dry-run: references, bytes and missing [{repository, digest, size}] (what would be sent), present, mounts.";

const PULL_JSON: &str = "\
JSON (--format json):
  out                   the archive
  images                [{reference, digest}], in the order asked for
  fetched, fetchedBytes blobs that were fetched, and their bytes
  kept, keptBytes       blobs that were here, and the bytes of those and of what an interrupted run had fetched";

/// Moves container images between archives and registries.
#[derive(Debug, Parser)]
#[command(name = "tug", version, after_help = EXAMPLES, disable_help_subcommand = true, max_term_width = 110)]
pub(crate) struct Tug {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    #[command(flatten)]
    pub(crate) voice: Voice,
}

/// How much is said on standard error.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Voice {
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log every request (without secrets)
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Push(Push),
    Pull(Pull),
    #[command(visible_alias = "cp")]
    Copy(Copy),
    #[command(visible_alias = "ls")]
    Tags(Tags),
    Catalog(Catalog),
    Tag(Tag),
    #[command(visible_alias = "rm")]
    Delete(Delete),
    Ping(Ping),
    /// Print the digest of an image in a registry, or of each image of an archive
    ///
    /// In a registry, it is asked for without fetching the manifest, where the registry allows that. Of an archive, it is the
    /// digest that a registry will give for the image; of several images, a line `DIGEST NAME` each.
    Digest(Look),
    /// Show what an image in a registry, or an archive, consists of
    ///
    /// Platform, age, layers with their sizes, environment, command and labels; of an index, every image that it lists.
    /// Layers are not pulled.
    #[command(after_long_help = INSPECT_JSON)]
    Inspect(Look),
    Manifest(RawManifest),
    Config(RawConfig),
    Referrers(Referrers),
    Blob(Blob),
    #[command(name = "login")]
    LogIn(LogIn),
    #[command(name = "logout")]
    LogOut(LogOut),
    /// Check that an archive is whole
    ///
    /// Reads all of it. Prints `ok`, or every fault found.
    Validate(OfArchive),
    Serve(Serve),
    Demo(Demo),
    /// Print the completion script for a shell
    ///
    /// For bash: source <(tug completions bash)
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Push the images of an archive to a registry
///
/// ARCHIVE is a `docker save` tar (old or new form), an OCI archive or an OCI layout folder: what it is is found out by its
/// content. It is read in place; layers go as they are, so that digests stay what they were. What the registry has already is
/// not sent again.
///
/// Without REF, every image goes to the tags that the archive has for it.
///
/// Prints the digest of what was pushed; of several references, a line `DIGEST REF` each.
#[derive(Args, Debug)]
#[command(after_long_help = PUSH_JSON)]
pub(crate) struct Push {
    /// A tar file or an OCI layout folder
    #[arg(value_name = "ARCHIVE")]
    pub(crate) archive: PathBuf,
    /// Where to: [HOST[:PORT]/]REPOSITORY[:TAG]
    #[arg(value_name = "REF")]
    pub(crate) reference: Option<Reference>,
    /// Push every image to its own tags below this: with `localhost:5000/mirror`, `busybox:1` goes to
    /// `localhost:5000/mirror/busybox:1`
    #[arg(long, value_name = "HOST/NAMESPACE", conflicts_with = "reference")]
    pub(crate) prefix: Option<String>,
    /// Of an archive with several images, only the one with this name or digest
    #[arg(long, value_name = "NAME|DIGEST")]
    pub(crate) image: Option<String>,
    /// Find out what would be sent, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Keep the state of this push in the file STATE while it runs, and go on from there if there is such a file: also in the
    /// middle of a blob. It is removed when the push is done. Until then uploads stay open at the registry, as long as that keeps
    /// them; the file has their URLs, and only its owner can read it
    #[arg(long, value_name = "STATE", conflicts_with = "dry_run")]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) upload: Upload,
    #[command(flatten)]
    pub(crate) access: Access,
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
    #[arg(short, long, value_name = "N", default_value = "4")]
    pub(crate) jobs: NonZeroUsize,
}

/// Pull images into an archive
///
/// OUT is a tar that both `docker load` and OCI tools read, or what --format says. It is there under its name only when it is
/// whole and every byte was verified; until then it is `OUT.partial`, from which the same command goes on if it was
/// interrupted. A folder (`--format oci-dir`) keeps blobs that are there and right, and the images that it holds besides.
///
/// Prints the digest of the image's manifest; of several images, a line `DIGEST REF` each.
#[derive(Args, Debug)]
#[command(after_long_help = PULL_JSON)]
pub(crate) struct Pull {
    /// What: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]; several go into one archive
    #[arg(value_name = "REF", required = true, num_args = 1..)]
    pub(crate) references: Vec<Reference>,
    /// Where to: a file, or a folder with `--format oci-dir`
    #[arg(value_name = "OUT")]
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
    #[arg(short, long, value_name = "N", default_value = "4")]
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

/// Copy an image from one registry to another, or within one
///
/// Everything goes byte for byte, so that the digest stays what it was; of an index, all its images go along. What the
/// destination has is not sent again, within a registry nothing is sent at all, and nothing is written to this machine's disk.
///
/// Prints the image's digest; of several tags, a line `DIGEST REF` each.
#[derive(Args, Debug)]
#[command(after_long_help = COPY_JSON)]
pub(crate) struct Copy {
    /// From where: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "SRC")]
    pub(crate) source: Reference,
    /// Where to: [HOST[:PORT]/]REPOSITORY[:TAG]
    #[arg(value_name = "DST")]
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
    /// Fetch and send blobs in pieces of this size (`3145728`, `3M`), of which each blob under way has two in memory. A registry
    /// that takes no chunks needs pieces as large as the largest layer
    #[arg(long, value_name = "BYTES", default_value = "3M", value_parser = size)]
    pub(crate) chunk_size: NonZeroU64,
    /// How many blobs are transferred at a time
    #[arg(short, long, value_name = "N", default_value = "4")]
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

/// Ask a registry whether it is one, and how it wants to be authenticated
#[derive(Args, Debug)]
pub(crate) struct Ping {
    /// The registry: HOST[:PORT]
    #[arg(value_name = "HOST")]
    pub(crate) registry: Registry,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// An image or an archive to look at.
#[derive(Args, Debug)]
pub(crate) struct Look {
    /// An image in a registry ([HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]), or a tar file or an OCI layout folder. What is there
    /// as a file is taken for an archive: to mean the image all the same, write its host or its tag
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
pub(crate) struct RawManifest {
    /// Of what: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "REF")]
    pub(crate) reference: Reference,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// Print an image's configuration, its bytes exactly as the registry has them
///
/// They are verified against the digest in the manifest.
#[derive(Args, Debug)]
pub(crate) struct RawConfig {
    /// Of what: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "REF")]
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
pub(crate) struct Blob {
    /// Which: [HOST[:PORT]/]REPOSITORY@DIGEST
    #[arg(value_name = "REPO@DIGEST")]
    pub(crate) reference: Reference,
    /// The file to write; standard output if it is not said
    #[arg(value_name = "OUT")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// An archive to look at.
#[derive(Args, Debug)]
pub(crate) struct OfArchive {
    /// A tar file or an OCI layout folder
    #[arg(value_name = "ARCHIVE")]
    pub(crate) archive: PathBuf,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

/// Run a small registry, for tests and CI
///
/// It keeps everything in memory and forgets it when it ends. Prints its address once it listens.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    pub(crate) addr: SocketAddr,
}

/// Show it all at work, with a registry of its own
///
/// Starts a registry in memory on a free port of this machine, makes an image on the spot (or takes yours), pushes it, looks at
/// it, pulls it back, compares and deletes it, each step with the command that does it.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Push this archive instead of an image made on the spot
    #[arg(value_name = "ARCHIVE")]
    pub(crate) archive: Option<PathBuf>,
}

/// How registries are reached.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registry")]
pub(crate) struct Access {
    /// Speak http, also with hosts that are not this machine
    #[arg(long, conflicts_with = "tls")]
    pub(crate) plain_http: bool,
    /// Speak https, also with this machine
    #[arg(long)]
    pub(crate) tls: bool,
    /// The user to log in as
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// The password; other users of this machine can see it: prefer --password-stdin
    #[arg(short, long, value_name = "PASSWORD", requires = "username", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// When manifests and layers of REGISTRY are read, ask this mirror first (`docker.io=mirror.corp:5000`); can be given several times
    #[arg(long = "mirror", value_name = "REGISTRY=MIRROR", value_parser = mirror)]
    pub(crate) mirrors: Vec<(Registry, Registry)>,
    /// Believe mirrors to what a tag leads, too: whoever runs them then decides what is pulled
    #[arg(long, requires = "mirrors")]
    pub(crate) mirror_tags: bool,
    /// Look for credentials in this file only, which is Docker's config.json or podman's auth.json
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Trust this certificate authority, too (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Show this certificate to servers that ask for one (PEM; those that lead to its authority may follow it)
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub(crate) cert_file: Option<PathBuf>,
    /// The key that belongs to --cert-file (PEM)
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub(crate) key_file: Option<PathBuf>,
    /// Take any certificate: anybody on the way can then pretend to be the registry, and gets what is shown to it
    #[arg(long, conflicts_with_all = ["ca_file", "plain_http"])]
    pub(crate) insecure: bool,
    /// How often a request is tried again
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(crate) retries: u32,
    /// Give a transfer up that has not moved for so long, or a credential helper that takes longer
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct FormatArg {
    /// What standard output is written for: people and pipes, or programs
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 => Duration::try_from_secs_f64(seconds).map_err(|why| why.to_string()),
        _ => Err("a number of seconds above 0".to_owned()),
    }
}

fn mirror(text: &str) -> Result<(Registry, Registry), String> {
    let (registry, mirror) = text.split_once('=').ok_or("REGISTRY=MIRROR, as in `docker.io=mirror.corp:5000`")?;
    let read = |host: &str| host.parse::<Registry>().map_err(|why| format!("`{host}`: {why}"));
    Ok((read(registry)?, read(mirror)?))
}

fn chunk_size(text: &str) -> Result<UploadPolicy, String> {
    if text == "auto" {
        return Ok(UploadPolicy::Auto);
    }
    size(text).map(UploadPolicy::Chunked).map_err(|why| format!("`auto`, or {why}"))
}

fn size(text: &str) -> Result<NonZeroU64, String> {
    let (number, shift) = match text.strip_suffix("iB").or_else(|| text.strip_suffix('B')).unwrap_or(text) {
        text if text.ends_with(['k', 'K']) => (&text[..text.len() - 1], 10),
        text if text.ends_with(['m', 'M']) => (&text[..text.len() - 1], 20),
        text if text.ends_with(['g', 'G']) => (&text[..text.len() - 1], 30),
        text => (text, 0),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).and_then(NonZeroU64::new);
    bytes.ok_or_else(|| "a number of bytes such as 5242880 or 5M".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Tug::command().debug_assert();
    }

    #[test]
    fn sizes() {
        let chunks = |bytes| Ok(UploadPolicy::Chunked(NonZeroU64::new(bytes).expect("not 0")));
        assert_eq!(chunk_size("auto"), Ok(UploadPolicy::Auto));
        assert_eq!(chunk_size("5242880"), chunks(5 << 20));
        assert_eq!(chunk_size("5M"), chunks(5 << 20));
        assert_eq!(chunk_size("64KiB"), chunks(64 << 10));
        assert_eq!(chunk_size("1g"), chunks(1 << 30));
        for wrong in ["", "0", "-1", "5X", "M", "99999999999999999999", "99999999999G"] {
            assert!(chunk_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for wrong in ["", "0", "-1", "nan", "inf", "1e300", "x"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
