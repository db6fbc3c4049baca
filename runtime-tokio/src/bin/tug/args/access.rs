//! How registries are reached, and who one is there.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use registry_tokio::proto::spec::Registry;

use super::values::{count, mirror, seconds};

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
    /// Send no more than so many requests to a registry in a second
    #[arg(long, value_name = "N", value_parser = count::<NonZeroU32>)]
    pub(crate) limit_rps: Option<NonZeroU32>,
    /// How often a request is tried again
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(crate) retries: u32,
    /// Give a transfer up that has not got ahead for so long (by a kilobyte for each second). A connection has as long, and 15 s at
    /// most; the beginning of a reply twice, a small request as a whole five times as long; a credential helper as long
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) timeout: Duration,
}
