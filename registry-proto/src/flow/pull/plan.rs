//! What a pull brings, and where to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::PulledImage;
use crate::archive::{ArchiveFormat, Content, Contents, TarLayout};
use crate::error::Error;
use crate::event::{BlobId, Event};
use crate::flow::file::{File, partial};
use crate::flow::tree::Tree;
use crate::job::Blueprint;
use crate::spec::{Descriptor, Manifest, Platform, Reference, Repository};

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) contents: Contents,
    /// The blobs and where to get them, the largest first.
    pub(super) blobs: Vec<(Descriptor, Repository)>,
    /// `None`: it becomes a folder.
    tar: Option<TarLayout>,
    foreign: BTreeSet<String>,
}

impl Plan {
    pub(super) fn new(
        references: &[Reference],
        trees: Vec<Tree>,
        machine: Platform,
        out: &Path,
        format: ArchiveFormat,
    ) -> Result<Self, Error> {
        let (mut images, mut manifests) = (Vec::new(), BTreeMap::new());
        let (mut blobs, mut from, mut foreign) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for (reference, tree) in references.iter().zip(trees) {
            for blob in tree.blobs {
                from.entry(blob.digest.clone()).or_insert_with(|| reference.repository().clone());
                blobs.entry(blob.digest.clone()).or_insert(blob);
            }
            for manifest in tree.manifests {
                manifests.insert(manifest.digest().clone(), manifest);
            }
            images.push(Content { name: name(reference, &tree.root), root: tree.root, platform: tree.platform });
        }
        for image in manifests.values().filter_map(Manifest::image) {
            let missing = image.blobs().filter(|blob| !blobs.contains_key(&blob.digest));
            foreign.extend(missing.map(|blob| blob.digest.to_string()));
        }
        let mut order: Vec<(Descriptor, Repository)> =
            blobs.values().filter_map(|blob| Some((blob.clone(), from.get(&blob.digest)?.clone()))).collect();
        order.sort_by(|(a, _), (b, _)| b.size.cmp(&a.size).then_with(|| a.digest.cmp(&b.digest)));
        let contents = Contents { images, manifests, blobs, machine };
        if format == ArchiveFormat::Docker
            && let Some(image) = contents.unloadable().next()
        {
            let why = "it is no image that Docker knows, or has layers that registries don't hold";
            return Err(Error::Unsuitable(format!(
                "{image} can't become a docker-archive: {why}; choose another format"
            )));
        }
        let tar = match format {
            ArchiveFormat::OciFolder => None,
            format => Some(contents.to_tar(format).ok_or_else(|| {
                Error::Unsuitable(format!("{}: the manifests name blobs that are larger than any file", out.display()))
            })?),
        };
        Ok(Self { contents, blobs: order, tar, foreign })
    }

    pub(super) const fn tar(&self) -> Option<&TarLayout> {
        self.tar.as_ref()
    }

    pub(super) fn notes(&self) -> Vec<Event> {
        let foreign = self.foreign.iter().map(|digest| {
            Event::Notice(format!("layer {digest} is left out: it is a foreign one, which registries don't hold"))
        });
        let blobs = self
            .blobs
            .iter()
            .map(|(blob, repository)| Event::Queued { repository: repository.clone(), blob: BlobId::from(blob) });
        foreign.chain(blobs).collect()
    }

    /// Every blob of a tar, and where in the file it goes.
    pub(super) fn places(&self) -> impl Iterator<Item = (&Descriptor, &Repository, u64)> {
        let places = self.tar.as_ref().map(|tar| &tar.blobs);
        self.blobs.iter().filter_map(move |(blob, repository)| Some((blob, repository, *places?.get(&blob.digest)?)))
    }

    pub(super) fn blueprint(&self, out: &Arc<Path>) -> Blueprint {
        let (length, pieces) = self.tar.as_ref().map(|tar| (tar.length, tar.pieces.clone())).unwrap_or_default();
        Blueprint { path: partial(out), becomes: Arc::clone(out), length, pieces }
    }

    /// The files of a folder: its blobs in their order, then the documents.
    pub(super) fn files(&self, out: &Path) -> Vec<File> {
        let folder = self.contents.to_folder();
        let path = |name: &str| -> Arc<Path> { out.join(name).into() };
        let blobs = self.blobs.iter().filter_map(|(blob, repository)| {
            Some(File::blob(path(folder.blobs.get(&blob.digest)?), repository.clone(), blob.clone()))
        });
        let documents = folder.documents.iter().map(|(name, content)| File::document(path(name), content.clone()));
        blobs.chain(documents).collect()
    }

    pub(super) fn images(&self, references: &[Reference]) -> Vec<PulledImage> {
        let image = |(reference, content): (&Reference, &Content)| PulledImage {
            reference: reference.clone(),
            digest: content.root.digest().clone(),
        };
        references.iter().zip(&self.contents.images).map(image).collect()
    }
}

/// What an image is called in an archive: by its tag, if it was asked for by one.
fn name(reference: &Reference, root: &Manifest) -> Reference {
    let bare = Reference::new(reference.repository().clone());
    match (reference.tag(), reference.digest()) {
        (Some(tag), _) => bare.with_tag(tag.clone()),
        (None, Some(_)) => bare.with_digest(root.digest().clone()),
        (None, None) => bare.with_default_tag(),
    }
}
