//! `tags` and `catalog`.

use clap::Args;
use registry_tokio::proto::spec::{Reference, Registry};

use super::{Access, FormatArg};

const TAGS_JSON: &str = "\
JSON (--format json):
  {\"repository\": as it was understood, \"tags\": [their names]}
  It is written while the pages come: if it is cut off, the list is, and the exit status says so.";

const CATALOG_JSON: &str = "\
JSON (--format json):
  {\"registry\": as it was understood, \"repositories\": [their names]}
  It is written while the pages come: if it is cut off, the list is, and the exit status says so.";

/// List the tags of a repository
///
/// Prints a tag per line, in the registry's order, each page as soon as it is there.
#[derive(Args, Debug)]
#[command(after_long_help = TAGS_JSON)]
pub(crate) struct Tags {
    /// Of which repository: [HOST[:PORT]/]REPOSITORY
    #[arg(value_name = "REPO")]
    pub(crate) repository: Reference,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// List the repositories of a registry
///
/// Prints a repository per line, in the registry's order, each page as soon as it is there. Many registries that are services
/// have no such list, or not for everybody.
#[derive(Args, Debug)]
#[command(after_long_help = CATALOG_JSON)]
pub(crate) struct Catalog {
    /// Of which registry: HOST[:PORT]
    #[arg(value_name = "HOST")]
    pub(crate) registry: Registry,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) access: Access,
}
