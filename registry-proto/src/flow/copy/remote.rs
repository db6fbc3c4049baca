//! The blobs of another repository.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::flow::Context;
use crate::flow::deliver::Supply;
use crate::flow::upload::{Content, Load};
use crate::spec::{Digest, Origin, Repository, RepositoryName};

/// Where what is copied comes from.
#[derive(Debug)]
pub(super) struct Remote {
    repository: Repository,
    origin: Origin,
    /// Whether blobs can be mounted from it: not into itself.
    is_another: bool,
    sizes: BTreeMap<Digest, u64>,
}

impl Remote {
    pub(super) fn new(
        cx: &Context<'_>,
        repository: &Repository,
        destination: &Repository,
        sizes: BTreeMap<Digest, u64>,
    ) -> Result<Self, Error> {
        let origin = cx.origin(repository.registry())?;
        let is_another = (&origin, repository.name()) != (&cx.origin(destination.registry())?, destination.name());
        Ok(Self { repository: repository.clone(), origin, is_another, sizes })
    }
}

impl Supply for Remote {
    fn load(&self, digest: &Digest) -> Option<Load> {
        let size = *self.sizes.get(digest)?;
        Some(Load { digest: digest.clone(), size, content: Content::Remote(self.repository.clone()) })
    }

    fn holder(&self, origin: &Origin) -> Option<RepositoryName> {
        (self.is_another && *origin == self.origin).then(|| self.repository.name().clone())
    }
}
