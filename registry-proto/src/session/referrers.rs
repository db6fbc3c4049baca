//! Who keeps the list of a manifest's referrers: the registry, or its clients under a tag.

use std::collections::BTreeMap;

use crate::spec::{Origin, RepositoryName};

/// How many repositories are remembered; then all are forgotten, since asking again costs one request each.
const REMEMBERED: usize = 10_000;

/// Which repositories were seen to list referrers themselves, and which not. By repository, not by registry: caches of other
/// registries and projects of one's own can be behind one host.
#[derive(Debug, Default)]
pub(crate) struct Referrers(BTreeMap<(Origin, RepositoryName), bool>);

impl Referrers {
    /// Whether the registry lists this repository's referrers itself, as far as is known.
    pub(crate) fn are_listed(&self, origin: &Origin, repository: &RepositoryName) -> Option<bool> {
        self.0.get(&(origin.clone(), repository.clone())).copied()
    }

    pub(crate) fn remember(&mut self, origin: &Origin, repository: &RepositoryName, listed: bool) {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert((origin.clone(), repository.clone()), listed);
    }
}
