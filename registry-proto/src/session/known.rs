//! Blobs that a registry is known to hold.

use std::collections::{BTreeSet, VecDeque};

use crate::spec::{Digest, Origin, RepositoryName};

/// How many blobs are remembered; the oldest are forgotten first.
const REMEMBERED: usize = 10_000;

type Key = (Origin, RepositoryName, Digest);

/// Blobs confirmed by a registry during this session. Not for ever: registries collect garbage, and one that says
/// `MANIFEST_BLOB_UNKNOWN` has its entries dropped.
#[derive(Debug, Default)]
pub(crate) struct Known {
    blobs: BTreeSet<Key>,
    order: VecDeque<Key>,
}

impl Known {
    pub(crate) fn holds(&self, origin: &Origin, repository: &RepositoryName, digest: &Digest) -> bool {
        self.blobs.contains(&(origin.clone(), repository.clone(), digest.clone()))
    }

    pub(crate) fn remember(&mut self, origin: &Origin, repository: &RepositoryName, digest: &Digest) {
        let key = (origin.clone(), repository.clone(), digest.clone());
        if !self.blobs.insert(key.clone()) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.blobs.remove(&oldest);
        }
    }

    pub(crate) fn forget_repository(&mut self, origin: &Origin, repository: &RepositoryName) {
        let gone = |key: &Key| key.0 == *origin && key.1 == *repository;
        self.blobs.retain(|key| !gone(key));
        self.order.retain(|key| !gone(key));
    }
}
