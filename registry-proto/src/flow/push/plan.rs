//! What has to go where: worked out before the first byte is sent.

use std::collections::{BTreeMap, BTreeSet};

use crate::archive::{Archive, ArchiveBlob, ArchiveImage};
use crate::error::Error;
use crate::session::Session;
use crate::spec::{Digest, Manifest, ManifestContent, Origin, Reference, Repository, RepositoryName, Tag, TagOrDigest};

/// Where the images of an archive go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// The archive's only image (or the one that [`PushOptions::image`] names) to this reference.
    Reference(Reference),
    /// Every image to each of the tags that the archive has for it.
    OriginalTags,
    /// As [`OriginalTags`](Destination::OriginalTags), but below this repository: with `localhost:5000/mirror`,
    /// `busybox:1` and `quay.io/org/app:2` go to `localhost:5000/mirror/busybox:1` and `localhost:5000/mirror/org/app:2`.
    Below(String),
}

/// What to push of an archive.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PushOptions {
    /// Only the image with this name (as the archive has it) or root digest.
    pub image: Option<String>,
}

/// One repository's share of a push.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) repository: Repository,
    pub(crate) origin: Origin,
    pub(crate) root: Manifest,
    pub(crate) tags: Vec<Tag>,
    /// Children before parents; the root is the last.
    pub(crate) manifests: Vec<Manifest>,
    pub(crate) blobs: Vec<Digest>,
}

impl Target {
    /// What the root is put under: its tags, or its digest where there are none.
    pub(crate) fn references(&self) -> Vec<TagOrDigest> {
        if self.tags.is_empty() {
            return vec![TagOrDigest::Digest(self.root.digest().clone())];
        }
        self.tags.iter().cloned().map(TagOrDigest::Tag).collect()
    }
}

/// Works out the targets: which image goes to which repositories, under which tags.
pub(crate) fn targets(
    session: &Session,
    archive: &Archive,
    to: &Destination,
    options: &PushOptions,
) -> Result<Vec<Target>, Error> {
    let images = selected(archive, options)?;
    let mut wanted: Vec<(Repository, Option<Tag>, &ArchiveImage)> = Vec::new();
    match to {
        Destination::Reference(reference) => {
            let [image] = images[..] else {
                return Err(Error::Misuse(format!(
                    "{} holds {} images ({}): say which one goes to {reference}, or push them under their own tags",
                    archive.path().display(),
                    images.len(),
                    names(&images)
                )));
            };
            let root = image.root().digest();
            if reference.digest().is_some_and(|digest| digest != root) {
                return Err(Error::Misuse(format!("{reference} names a digest, but the archive's image is {root}")));
            }
            let tag = match (reference.tag(), reference.digest()) {
                (Some(tag), _) => Some(tag.clone()),
                (None, Some(_)) => None,
                (None, None) => Some(Tag::latest()),
            };
            wanted.push((reference.repository().clone(), tag, image));
        }
        Destination::OriginalTags | Destination::Below(_) => {
            for image in images {
                wanted.extend(original(archive, image, to)?.into_iter().map(|(to, tag)| (to, Some(tag), image)));
            }
        }
    }
    grouped(session, wanted)
}

fn selected<'a>(archive: &'a Archive, options: &PushOptions) -> Result<Vec<&'a ArchiveImage>, Error> {
    let Some(wanted) = &options.image else { return Ok(archive.images().iter().collect()) };
    let found: Vec<_> = archive
        .images()
        .iter()
        .filter(|image| {
            image.root().digest().as_str() == wanted || image.names().iter().any(|name| name.as_written() == wanted)
        })
        .collect();
    if found.is_empty() {
        let all: Vec<_> = archive.images().iter().collect();
        return Err(Error::Misuse(format!(
            "{} holds no image `{wanted}`; it holds {}",
            archive.path().display(),
            names(&all)
        )));
    }
    Ok(found)
}

/// The tags that an archive has for an image, each with its repository.
fn original(archive: &Archive, image: &ArchiveImage, to: &Destination) -> Result<Vec<(Repository, Tag)>, Error> {
    let mut found = Vec::new();
    for name in image.names() {
        let Some(reference) = name.reference() else {
            return Err(Error::Misuse(format!(
                "{}: `{}` names a tag but no repository: say where the image shall go",
                archive.path().display(),
                name.as_written()
            )));
        };
        let tag = reference.tag().cloned().unwrap_or_else(Tag::latest);
        let repository = match to {
            Destination::Below(prefix) => below(prefix, reference)?,
            Destination::Reference(_) | Destination::OriginalTags => reference.repository().clone(),
        };
        found.push((repository, tag));
    }
    if found.is_empty() {
        return Err(Error::Misuse(format!(
            "{}: image {} has no tag: say where it shall go",
            archive.path().display(),
            image.root().digest()
        )));
    }
    Ok(found)
}

fn below(prefix: &str, reference: &Reference) -> Result<Repository, Error> {
    let path = reference.repository().familiar_path();
    // A bare host is a prefix, too; the slash tells it from a Docker Hub repository.
    let text = format!("{}/{path}", prefix.trim_end_matches('/'));
    text.parse::<Reference>()
        .map(|reference| reference.repository().clone())
        .map_err(|why| Error::Misuse(format!("`{text}` is no repository: {why}")))
}

fn grouped(session: &Session, wanted: Vec<(Repository, Option<Tag>, &ArchiveImage)>) -> Result<Vec<Target>, Error> {
    let mut targets: Vec<Target> = Vec::new();
    for (repository, tag, image) in wanted {
        let known = targets
            .iter_mut()
            .find(|target| target.repository == repository && target.root.digest() == image.root().digest());
        let target = match known {
            Some(target) => target,
            None => {
                let origin = session
                    .origin(repository.registry())
                    .ok_or_else(|| Error::Misuse(format!("`{}` is no address of a registry", repository.registry())))?;
                targets.push(Target {
                    repository,
                    origin,
                    root: image.root().clone(),
                    tags: Vec::new(),
                    manifests: image.manifests().to_vec(),
                    blobs: image.blob_digests(),
                });
                targets.last_mut().expect("one was just pushed")
            }
        };
        if let Some(tag) = tag
            && !target.tags.contains(&tag)
        {
            target.tags.push(tag);
        }
    }
    Ok(targets)
}

fn names(images: &[&ArchiveImage]) -> String {
    let names: Vec<String> = images
        .iter()
        .map(|image| {
            image.names().first().map_or_else(|| image.root().digest().to_string(), |name| name.as_written().to_owned())
        })
        .take(10)
        .collect();
    names.join(", ")
}

/// A blob on its way to a repository.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) repository: Repository,
    pub(crate) blob: ArchiveBlob,
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
pub(crate) fn errands(archive: &Archive, targets: &[Target], complete: &[bool]) -> Errands {
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
            // A foreign layer's blob is not in the archive, and not the registry's to hold.
            let Some(blob) = archive.blob(digest) else { continue };
            if !seen.insert((target.repository.clone(), digest.clone())) {
                continue;
            }
            let errand = |from| Errand { repository: target.repository.clone(), blob: blob.clone(), from };
            match holders.get(&(target.origin.clone(), digest.clone())) {
                Some(holder) => errands.then.push(errand(Some(holder.name().clone()))),
                None => {
                    holders.insert((target.origin.clone(), digest.clone()), target.repository.clone());
                    errands.first.push(errand(None));
                }
            }
        }
    }
    errands.first.sort_by_key(|errand| std::cmp::Reverse(errand.blob.size()));
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
            let is_root = manifest.digest() == target.root.digest();
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
