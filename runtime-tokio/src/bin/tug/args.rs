//! What can be typed: verbs, flags and their help.

mod access;
mod change;
mod copy;
mod lists;
mod look;
mod names;
mod pull;
mod push;
mod serve;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use access::Access;
pub(crate) use change::{Delete, Tag};
pub(crate) use copy::Copy;
pub(crate) use lists::{Catalog, Referrers, Tags};
pub(crate) use look::{Blob, Look, OfArchive, Ping, RawConfig, RawManifest};
pub(crate) use names::{reference, registry};
pub(crate) use pull::{Pull, PullFormat};
pub(crate) use push::{Compress, Push, Upload};
pub(crate) use serve::{Demo, Serve};
pub(crate) use values::seconds;

use crate::login::{LogIn, LogOut};

const EXAMPLES: &str = "\
Examples:
  # See it all at work, with nothing to set up
  tug demo
  # A `docker save` tar (also .tar.gz and .tar.zst), an OCI archive or an OCI layout folder
  tug push app.tar localhost:5000/app:v1
  # As it is being saved, without a file
  docker save app:v1 | tug push - localhost:5000/app:v1
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
  DOCKER_AUTH_CONFIG                   credentials themselves, as CI systems set them (what is in a config.json)
  SSL_CERT_FILE, SSL_CERT_DIR          where the certificates are of the authorities that are trusted, instead of where this
                                       system has them

Results go to standard output, everything else to standard error.
Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C.";

const COMPLETIONS_MORE: &str = "\
Examples:
  source <(tug completions bash)
  tug completions zsh > ~/.zfunc/_tug
  tug completions fish > ~/.config/fish/completions/tug.fish";

const MAN_MORE: &str = "\
Examples:
  tug man | man -l -
  tug man /usr/local/share/man/man1";

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
    #[command(after_long_help = look::DIGEST_MORE)]
    Digest(Look),
    /// Show what an image in a registry, or an archive, consists of
    ///
    /// Platform, age, layers with their sizes, environment, command and labels; of an index, every image that it lists.
    /// Layers are not pulled.
    #[command(after_long_help = look::INSPECT_MORE)]
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
    #[command(after_long_help = look::VALIDATE_MORE)]
    Validate(OfArchive),
    Serve(Serve),
    Demo(Demo),
    /// Print the completion script for a shell
    ///
    /// For bash: source <(tug completions bash)
    #[command(after_long_help = COMPLETIONS_MORE)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for tug and one for each verb
    ///
    /// Into FOLDER, as tug.1, tug-push.1 and so on; prints their names. Without FOLDER, the page of tug itself, to standard output.
    #[command(after_long_help = MAN_MORE)]
    Man {
        /// Where to; it is made if it is not there
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Tug::command().debug_assert();
    }
}
