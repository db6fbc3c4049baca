//! Deleting: a manifest, a tag, all of a repository.
//!
//! ```text
//!   DeleteManifest    Identify ─▶ Remove its digest ─▶ Relist without it, if it refers to another
//!   Untag             HEAD ─▶ Remove the tag
//!   DeleteRepository  ListTags ─▶ Fleet<Identify>, and again for what indexes name ─▶ Fleet<Remove>, indexes first
//! ```
//!
//! Nothing is deleted that was not looked at first: so it is known what a tag led to, and a 404 can be told from success
//! whose reply was lost.

mod manifest;
mod remove;
mod repository;
mod untag;

pub use manifest::DeleteManifest;
pub(crate) use remove::Remove;
pub use repository::DeleteRepository;
pub use untag::Untag;

use crate::spec::{Reference, Repository, TagOrDigest};

/// Something that a registry no longer has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deleted {
    /// Where it was.
    pub repository: Repository,
    /// The manifest's digest; or the tag, if only that was deleted.
    pub reference: TagOrDigest,
}

impl Deleted {
    /// As a whole reference.
    pub fn to_reference(&self) -> Reference {
        Reference::by(self.repository.clone(), self.reference.clone())
    }
}
