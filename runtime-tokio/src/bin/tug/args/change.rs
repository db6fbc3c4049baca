//! `tag` and `delete`.

use clap::Args;
use registry_tokio::proto::spec::{Reference, Tag as TagName};

use super::names::reference;
use super::{Access, FormatArg};

const TAG_MORE: &str = "\
Examples:
  tug tag localhost:5000/app:v1 stable latest

JSON (--format json):
  {\"digest\", \"mediaType\", \"size\": of the manifest, in bytes, \"references\": [the new ones]}";

const DELETE_MORE: &str = "\
Examples:
  tug delete localhost:5000/app:v1
  tug delete localhost:5000/app:v1 --tag-only
  # All of a repository, without being asked
  tug delete localhost:5000/app --all -y

JSON (--format json), when all is done:
  {\"repository\": as it was understood, \"deleted\": [{\"digest\"}, or with --tag-only {\"tag\"}]}";

/// Give an image of a registry more tags
///
/// No blob is moved: the manifest's bytes are put under each tag. A tag that was there before leads to this image from then on.
/// To give an image a name in another repository, see `tug copy`.
///
/// Prints the image's digest.
#[derive(Args, Debug)]
#[command(after_long_help = TAG_MORE)]
pub(crate) struct Tag {
    /// What to tag: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "REF", value_parser = reference)]
    pub(crate) reference: Reference,
    /// The new tags, in the same repository: `v2`, `latest`
    #[arg(value_name = "TAG", required = true, value_parser = tag)]
    pub(crate) tags: Vec<TagName>,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// Delete an image from a registry, a tag alone, or all of a repository
///
/// Deletes the manifest, by its digest or what a tag leads to, and WITH IT EVERY TAG that leads there. The blobs stay until the
/// registry collects its garbage, and so do the images that an index lists.
///
/// Many registries have deletion switched off, which is told apart from an image that is not there.
///
/// Prints what was deleted, a line each.
#[derive(Args, Debug)]
#[command(after_long_help = DELETE_MORE)]
pub(crate) struct Delete {
    /// What to delete: [HOST[:PORT]/]REPOSITORY:TAG or …@DIGEST; with --all, a REPOSITORY
    #[arg(value_name = "REF", value_parser = reference)]
    pub(crate) reference: Reference,
    /// Delete the tag and leave the manifest. Not every registry can: then nothing is deleted
    #[arg(long, conflicts_with = "all")]
    pub(crate) tag_only: bool,
    /// Delete every manifest of the repository that a tag, or an index with a tag, leads to; asks first
    #[arg(long)]
    pub(crate) all: bool,
    /// Don't ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) access: Access,
}

fn tag(text: &str) -> Result<TagName, String> {
    text.parse().map_err(|why| match text.parse::<Reference>() {
        Ok(_) if text.contains([':', '/']) => {
            "a tag alone is wanted, such as `v2`; for another repository, see `tug copy`".to_owned()
        }
        _ => format!("{why}"),
    })
}
