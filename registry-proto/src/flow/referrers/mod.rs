//! Manifests that say something about another one: signatures, attestations, bills of materials.
//!
//! Some registries list them, for others their clients keep the list under a tag. Which of the two it is, is learned by asking.

mod list;
mod relist;

pub use list::ListReferrers;
pub(crate) use relist::{Relist, Unlisted};
