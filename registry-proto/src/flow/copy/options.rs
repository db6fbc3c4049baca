//! What is asked of a copy, and what comes of it.

use crate::flow::deliver::{PushedReference, Totals};
use crate::spec::{Digest, Platform, Reference};

/// What to copy of what a reference names, and beside it.
///
/// ```
/// use registry_proto::flow::CopyOptions;
///
/// let mut options = CopyOptions::default();
/// options.platform = Some("linux/arm64".parse()?);
/// options.referrers = true; // signatures and the like go along
/// # Ok::<(), registry_proto::spec::PlatformError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Of an index only the image for this platform, which then is what the destination leads to.
    pub platform: Option<Platform>,
    /// All tags of the source's repository, each to the same tag in the destination's; neither reference then has a tag or a
    /// digest. What can't be copied is [left out](Copied::left_out).
    ///
    /// A tag that is the list of what refers to a manifest (`sha256-…`, where registries don't list that themselves) is not put
    /// over the destination's: what is on it goes along, and is listed there.
    pub all_tags: bool,
    /// What refers to the image or to one of its parts: signatures, attestations, bills of materials. And what refers to these.
    pub referrers: bool,
}

/// The result of a [`Copy`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The digest of the image, there as here; of several, that of the first.
    pub digest: Digest,
    /// What leads to it now; of several, to each of them.
    pub references: Vec<PushedReference>,
    /// What refers to them and went along.
    pub referrers: Vec<Digest>,
    /// What should have been copied, but could not be.
    pub left_out: Vec<LeftOut>,
    /// What became of the blobs.
    pub totals: Totals,
}

/// What was to be copied, but could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// What it is, at the source.
    pub reference: Reference,
    /// Why not.
    pub why: String,
}
