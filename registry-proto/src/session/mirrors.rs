//! Mirrors: who may have what a registry has, and is asked first.

use std::collections::BTreeMap;

use crate::spec::{Origin, Registry};
use crate::time::Time;

/// Which mirrors registries have (`ns=`, PROTOCOL §1.0). By default, none.
///
/// Manifests and blobs are asked of a mirror first, with `?ns=` and the registry's name, and of the registry itself if the mirror
/// doesn't have them, does not answer, or hands out other bytes. A mirror is shown credentials that are stored for the mirror, and never
/// those of the registry. What is asked for by its digest is verified, whoever hands it out. To what a tag leads nobody can verify: that
/// is asked of the registry itself, unless a mirror is [trusted with it](Mirror::trusted_with_tags). Lists, and whatever
/// changes something, mirrors never hear of.
///
/// ```
/// use registry_proto::{Config, Mirror};
///
/// let mut config = Config::default();
/// config.mirrors.add(&"docker.io".parse()?, Mirror::new("mirror.corp:5000".parse()?));
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors(BTreeMap<String, Vec<Mirror>>);

/// A registry that has what others have.
///
/// ```
/// use registry_proto::Mirror;
///
/// let mirror = Mirror::new("mirror.example.org".parse()?).trusted_with_tags();
/// # drop(mirror);
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub(crate) registry: Registry,
    pub(crate) has_tags: bool,
}

impl Mirror {
    /// One that is only believed what can be verified.
    pub const fn new(registry: Registry) -> Self {
        Self { registry, has_tags: false }
    }

    /// The same, also believed to what a tag leads. Whoever runs it then decides what is pulled: an older image, or another one (A45).
    #[must_use]
    pub const fn trusted_with_tags(mut self) -> Self {
        self.has_tags = true;
        self
    }
}

impl Mirrors {
    /// Asks this one, too, before `registry` itself, and after its other mirrors.
    pub fn add(&mut self, registry: &Registry, mirror: Mirror) {
        self.0.entry(registry.credential_key()).or_default().push(mirror);
    }

    pub(crate) fn of(&self, registry: &Registry) -> &[Mirror] {
        if self.0.is_empty() { &[] } else { self.0.get(&registry.credential_key()).map_or(&[], Vec::as_slice) }
    }
}

/// Mirrors that are not asked, for some time or for good. There are no more than are configured.
#[derive(Debug, Default)]
pub(crate) struct Resting(BTreeMap<Origin, Option<Time>>);

impl Resting {
    /// Until then, or (`None`) for good. Whether that is news.
    pub(crate) fn rest(&mut self, mirror: &Origin, now: Time, until: Option<Time>) -> bool {
        let rests = self.has(mirror, now);
        let until = if self.0.get(mirror) == Some(&None) { None } else { until };
        self.0.insert(mirror.clone(), until);
        !rests
    }

    pub(crate) fn has(&self, mirror: &Origin, now: Time) -> bool {
        self.0.get(mirror).is_some_and(|until| until.is_none_or(|until| until > now))
    }
}
