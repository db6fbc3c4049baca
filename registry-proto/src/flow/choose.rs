//! Which image of an index is meant.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::error::Error;
use crate::spec::{Descriptor, Index, Platform};

/// Whether an image that is for one platform alone is for the one that is wanted.
///
/// # Errors
/// [`Error::Unsuitable`] when it is not.
pub(crate) fn check_platform(found: &Platform, wanted: &Platform, of: impl Display) -> Result<(), Error> {
    match found.suits(wanted) {
        Some(_) => Ok(()),
        None => Err(Error::Unsuitable(format!("{of} has no image for {wanted}; it is one for {found}"))),
    }
}

/// The image for a platform, of the index of an image that goes by this name.
///
/// # Errors
/// [`Error::Unsuitable`] when there is none, which names those that there are.
pub(crate) fn choose<'a>(index: &'a Index, platform: &Platform, of: impl Display) -> Result<&'a Descriptor, Error> {
    let images = || index.manifests.iter().filter(|one| !one.is_attestation() && one.media_type.is_manifest_or_index());
    let mut unnamed = images().filter(|one| one.platform.is_none());
    // An index of one image need not say what it is for.
    let only = unnamed.next().filter(|_| images().count() == 1);
    index.for_platform(platform).or(only).ok_or_else(|| {
        let platforms = images().filter_map(|one| one.platform.as_ref());
        let known: BTreeSet<String> =
            platforms.filter(|known| !known.is_unknown()).map(Platform::to_string).take(20).collect();
        let known: Vec<String> = known.into_iter().collect();
        let known = if known.is_empty() { "none that it names".to_owned() } else { known.join(", ") };
        Error::Unsuitable(format!("{of} has no image for {platform}; its platforms are: {known}"))
    })
}
