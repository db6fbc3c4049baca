//! `tags`, `catalog` and `referrers`.

use clap::Args;
use registry_tokio::proto::spec::{MediaType, Reference, Registry, Repository};

use super::names::{reference, registry, repository};
use super::{Access, FormatArg};

const TAGS_MORE: &str = "\
Examples:
  tug tags localhost:5000/app
  tug tags debian | grep slim

JSON (--format json):
  {\"repository\": as it was understood, \"tags\": [their names]}
  It is written while the pages come: if it is cut off, the list is, and the exit status says so.";

const CATALOG_MORE: &str = "\
Examples:
  tug catalog localhost:5000

JSON (--format json):
  {\"registry\": as it was understood, \"repositories\": [their names]}
  It is written while the pages come: if it is cut off, the list is, and the exit status says so.";

const REFERRERS_MORE: &str = "\
Examples:
  tug referrers localhost:5000/app:v1
  tug referrers localhost:5000/app:v1 --artifact-type application/spdx+json

JSON (--format json):
  {\"reference\": as it was understood, \"referrers\": [descriptors]}
  A descriptor is what the registry lists (image-spec): mediaType, digest, size, artifactType, annotations …";

/// List the tags of a repository
///
/// Prints a tag per line, in the registry's order, each page as soon as it is there.
#[derive(Args, Debug)]
#[command(after_long_help = TAGS_MORE)]
pub(crate) struct Tags {
    /// Of which repository: [HOST[:PORT]/]REPOSITORY
    #[arg(value_name = "REPO", value_parser = repository)]
    pub(crate) repository: Repository,
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
#[command(after_long_help = CATALOG_MORE)]
pub(crate) struct Catalog {
    /// Of which registry: HOST[:PORT]
    #[arg(value_name = "HOST", value_parser = registry)]
    pub(crate) registry: Registry,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// List what is said about an image: signatures, attestations, bills of materials
///
/// Prints a line for each: its digest, the type of artifact that it is, and the size of its manifest in bytes. Where the
/// registry has no such list, what clients keep under the tag for that (`sha256-…`) is listed. It is the registry's word: what
/// a signature is worth is for those to say who check it.
#[derive(Args, Debug)]
#[command(after_long_help = REFERRERS_MORE)]
pub(crate) struct Referrers {
    /// About what: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "REF", value_parser = reference)]
    pub(crate) reference: Reference,
    /// Only artifacts of this type
    #[arg(long, value_name = "TYPE", value_parser = media_type)]
    pub(crate) artifact_type: Option<MediaType>,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) access: Access,
}

fn media_type(text: &str) -> Result<MediaType, String> {
    let media_type = MediaType::new(text);
    let written = media_type.as_str().eq_ignore_ascii_case(text) && text.contains('/');
    written.then_some(media_type).ok_or_else(|| "a media type such as application/spdx+json".to_owned())
}
