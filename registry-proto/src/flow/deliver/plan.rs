//! What has to go where: worked out before the first byte is sent.

use std::collections::{BTreeMap, BTreeSet};

use crate::flow::deliver::Supply;
use crate::flow::upload::Load;
use crate::spec::{Digest, Manifest, ManifestContent, Origin, Repository, RepositoryName, Tag, TagOrDigest};

/// One repository's share of a delivery.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) repository: Repository,
    pub(crate) origin: Origin,
    pub(crate) root: Manifest,
    pub(crate) tags: Vec<Tag>,
    /// It goes along with another target's image, which it says something about: nobody asked for it by name.
    pub(crate) attached: bool,
    /// Children before parents; the root is the last.
    pub(crate) manifests: Vec<Manifest>,
    pub(crate) blobs: Vec<Digest>,
}

impl Target {
    /// What the root is put under at the end: its tags, or its digest where there are none. One that is attached was put with
    /// what comes before the others' roots.
    pub(crate) fn references(&self) -> Vec<TagOrDigest> {
        if self.attached {
            return Vec::new();
        }
        if self.tags.is_empty() {
            return vec![TagOrDigest::Digest(self.root.digest().clone())];
        }
        self.tags.iter().cloned().map(TagOrDigest::Tag).collect()
    }
}

/// A blob on its way to a repository.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) repository: Repository,
    pub(crate) blob: Load,
    /// A repository of the same registry that holds the blob by then.
    pub(crate) from: Option<RepositoryName>,
}

/// Who brings what: each blob is sent to one repository of a registry and mounted into the others. Largest first, so that
/// the last transfer to finish is a short one.
pub(crate) struct Errands {
    /// To be sent, or found there.
    pub(crate) first: Vec<Errand>,
    /// To be mounted, once the first ones are done.
    pub(crate) then: Vec<Errand>,
}

/// `complete`: the targets whose manifest the registry has already, so that their repositories hold every blob of it.
pub(crate) fn errands(supply: &impl Supply, targets: &[Target], complete: &[bool]) -> Errands {
    let mut holders: BTreeMap<(Origin, Digest), Repository> = BTreeMap::new();
    let mut seen: BTreeSet<(Repository, Digest)> = BTreeSet::new();
    let mut errands = Errands { first: Vec::new(), then: Vec::new() };
    for (target, _) in targets.iter().zip(complete).filter(|(_, complete)| **complete) {
        for digest in &target.blobs {
            holders.insert((target.origin.clone(), digest.clone()), target.repository.clone());
            seen.insert((target.repository.clone(), digest.clone()));
        }
    }
    for (target, _) in targets.iter().zip(complete).filter(|(_, complete)| !**complete) {
        for digest in &target.blobs {
            // A foreign layer's blob is not there, and not the registry's to hold.
            let Some(blob) = supply.load(digest) else { continue };
            if !seen.insert((target.repository.clone(), digest.clone())) {
                continue;
            }
            let errand = |from| Errand { repository: target.repository.clone(), blob, from };
            match holders.get(&(target.origin.clone(), digest.clone())) {
                Some(holder) => errands.then.push(errand(Some(holder.name().clone()))),
                None => {
                    holders.insert((target.origin.clone(), digest.clone()), target.repository.clone());
                    errands.first.push(errand(supply.holder(&target.origin)));
                }
            }
        }
    }
    errands.first.sort_by_key(|errand| std::cmp::Reverse(errand.blob.size));
    errands
}

/// The manifests below the roots in the order in which they have to be put: everything in one wave may go at once.
pub(crate) fn waves<'a>(targets: impl Iterator<Item = &'a Target>) -> Vec<Vec<(&'a Target, Manifest)>> {
    let mut waves: Vec<Vec<(&Target, Manifest)>> = Vec::new();
    let mut put: BTreeSet<(&Repository, Digest)> = BTreeSet::new();
    for target in targets {
        let mut depth: BTreeMap<&Digest, usize> = BTreeMap::new();
        for manifest in &target.manifests {
            let below = match manifest.content() {
                ManifestContent::Index(index) => {
                    index.manifests.iter().filter_map(|child| depth.get(&child.digest)).map(|depth| depth + 1).max()
                }
                _ => None,
            };
            let wave = below.unwrap_or(0);
            depth.insert(manifest.digest(), wave);
            let is_root = manifest.digest() == target.root.digest() && !target.attached;
            if is_root || !put.insert((&target.repository, manifest.digest().clone())) {
                continue;
            }
            if waves.len() <= wave {
                waves.resize_with(wave + 1, Vec::new);
            }
            waves[wave].push((target, manifest.clone()));
        }
    }
    waves
}
