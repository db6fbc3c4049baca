//! Archives laid out before their blobs are there: manifests know every size, so that each blob has its place beforehand,
//! and all can come at once (PROTOCOL.md §4.5). The documents come first, for readers that can't seek.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::oci_layout::blob_name;
use super::tar_header::{RECORD, before_file};
use crate::spec::{Descriptor, Digest, ImageManifest, Index, Manifest, MediaType, Platform, Reference};

const FULL_NAME: &str = "io.containerd.image.name";
const TAG: &str = "org.opencontainers.image.ref.name";
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// What an archive is laid out as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ArchiveFormat {
    /// A tar that `docker load` and OCI tools read: an OCI layout and `manifest.json`. The default.
    #[default]
    DockerAndOci,
    /// A tar as docker-archive: `manifest.json`, configurations and layers. That format has no place for an image's own manifest:
    /// others make one anew when they push from it. Here it is carried along, and an image keeps its digest.
    Docker,
    /// A tar of an OCI layout.
    Oci,
    /// A folder with an OCI layout.
    OciFolder,
}

/// What goes into an archive.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pub(crate) images: Vec<Content>,
    /// Of all images, each once.
    pub(crate) manifests: BTreeMap<Digest, Manifest>,
    /// The blobs that will be there, each once.
    pub(crate) blobs: BTreeMap<Digest, Descriptor>,
    /// Whose image stands for a whole index where there can be only one.
    pub(crate) machine: Platform,
}

/// An image, or several by platform, and its name.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) name: Reference,
    pub(crate) root: Manifest,
    /// What the index that it comes out of says of it.
    pub(crate) platform: Option<Platform>,
}

/// A tar with holes.
#[derive(Clone, Debug)]
pub(crate) struct TarLayout {
    pub(crate) length: u64,
    /// Where which bytes go, in ascending order.
    pub(crate) pieces: Vec<(u64, Bytes)>,
    /// Where which blob goes.
    pub(crate) blobs: BTreeMap<Digest, u64>,
}

/// The files of a folder, by their paths in it, `index.json` aside.
#[derive(Clone, Debug)]
pub(crate) struct FolderLayout {
    pub(crate) documents: BTreeMap<String, Bytes>,
    pub(crate) blobs: BTreeMap<Digest, String>,
}

impl Contents {
    /// As a tar. `None`: it would be too long for any file.
    pub(crate) fn to_tar(&self, format: ArchiveFormat) -> Option<TarLayout> {
        let mut tar = Tar::default();
        let docker = format == ArchiveFormat::Docker;
        if let (true, Some(list)) = (format != ArchiveFormat::Oci, self.docker_list(docker)) {
            tar.document("manifest.json", list)?;
        }
        if !docker {
            tar.document("oci-layout", Bytes::from_static(OCI_LAYOUT))?;
            tar.document("index.json", self.index().to_manifest().bytes().clone())?;
            for manifest in self.manifests.values() {
                tar.document(&blob_name(manifest.digest()), manifest.bytes().clone())?;
            }
        }
        let configs = self.configs();
        for blob in self.blobs.values() {
            let name = if docker { docker_name(blob, &configs) } else { blob_name(&blob.digest) };
            let at = tar.file(&name, blob.size)?;
            tar.blobs.insert(blob.digest.clone(), at);
        }
        tar.finish()
    }

    /// As a folder.
    pub(crate) fn to_folder(&self) -> FolderLayout {
        let manifests = self.manifests.values().map(|one| (blob_name(one.digest()), one.bytes().clone()));
        let documents = manifests.chain([("oci-layout".to_owned(), Bytes::from_static(OCI_LAYOUT))]).collect();
        let blobs = self.blobs.keys().map(|digest| (digest.clone(), blob_name(digest))).collect();
        FolderLayout { documents, blobs }
    }

    /// `index.json` of a folder, with what it listed before, except what has a new meaning now. `Err`: what is there is none.
    pub(crate) fn index_after(&self, before: Option<&[u8]>) -> Result<Bytes, String> {
        let mut index = match before {
            Some(bytes) => serde_json::from_slice(bytes).map_err(|why| why.to_string())?,
            None => Value::Null,
        };
        let new = self.index();
        if index.is_null() {
            return Ok(new.to_manifest().bytes().clone());
        }
        let listed = index.get_mut("manifests").and_then(Value::as_array_mut).ok_or("it lists no manifests")?;
        let text = |entry: &Value, key: &str| Some(entry.get("annotations")?.get(key)?.as_str()?.to_owned());
        let mut entries = Vec::new();
        for descriptor in &new.manifests {
            entries.push(serde_json::to_value(descriptor).map_err(|why| why.to_string())?);
        }
        listed.retain(|old| {
            let (name, tag) = (text(old, FULL_NAME), text(old, TAG));
            let is_renewed = |new: &Value| match (&name, &tag) {
                (None, None) => old.get("digest") == new.get("digest"),
                // Whoever writes only tags means them to be unique.
                (None, tag) => *tag == text(new, TAG) || *tag == text(new, FULL_NAME),
                (name, _) => *name == text(new, FULL_NAME),
            };
            !entries.iter().any(is_renewed)
        });
        listed.append(&mut entries);
        Ok(index.to_string().into())
    }

    fn index(&self) -> Index {
        let mut seen = BTreeSet::new();
        let images = self.images.iter().filter(|image| seen.insert((&image.name, image.root.digest())));
        let manifests = images.map(Content::entry).collect();
        let media_type = Some(MediaType::OCI_INDEX);
        Index { media_type, artifact_type: None, manifests, subject: None, annotations: BTreeMap::new() }
    }

    /// `manifest.json`: one image for each name, which is what `docker load` knows. `None`: it could load none of them.
    fn docker_list(&self, by_docker_names: bool) -> Option<Bytes> {
        let mut items: Vec<(&Manifest, &ImageManifest, Vec<String>)> = Vec::new();
        for image in &self.images {
            let Some((whole, manifest)) = self.loadable(&image.root) else { continue };
            let tag = image.name.tag().map(|_| image.name.familiar());
            match items.iter_mut().find(|(known, ..)| known.digest() == whole.digest()) {
                Some((.., tags)) => tags.extend(tag),
                None => items.push((whole, manifest, tag.into_iter().collect())),
            }
        }
        let configs = self.configs();
        let name = |blob: &Descriptor| match by_docker_names {
            true => docker_name(blob, &configs),
            false => blob_name(&blob.digest),
        };
        let list = items.into_iter().map(|(whole, manifest, mut tags)| {
            tags.sort();
            tags.dedup();
            let tags = if tags.is_empty() { Value::Null } else { json!(tags) };
            let layers: Vec<String> = manifest.layers.iter().map(name).collect();
            let mut item = json!({"Config": name(&manifest.config), "RepoTags": tags, "Layers": layers});
            if by_docker_names {
                item["OriginalManifest"] =
                    json!(Descriptor { data: Some(STANDARD.encode(whole.bytes())), ..whole.descriptor() });
            }
            item
        });
        let list: Vec<Value> = list.collect();
        (!list.is_empty()).then(|| Value::Array(list).to_string().into())
    }

    /// The one image of `root` that `docker load` would load, if all of it will be there.
    fn loadable<'a>(&'a self, root: &'a Manifest) -> Option<(&'a Manifest, &'a ImageManifest)> {
        let is_loadable = |manifest: &&Manifest| {
            manifest.image().is_some_and(|image| {
                image.config.media_type.is_image_config()
                    && image.blobs().all(|blob| self.blobs.contains_key(&blob.digest))
            })
        };
        let found = match root.index() {
            None => Some(root).filter(is_loadable),
            Some(index) => {
                let best = index.for_platform(&self.machine).and_then(|best| self.manifests.get(&best.digest));
                let images = index.manifests.iter().filter(|child| !child.is_attestation());
                let others = images.filter_map(|child| self.manifests.get(&child.digest));
                best.into_iter().chain(others).find(is_loadable)
            }
        };
        Some((found?, found?.image()?))
    }

    /// The images that a docker-archive can't hold, by their names.
    pub(crate) fn unloadable(&self) -> impl Iterator<Item = &Reference> {
        self.images.iter().filter(|image| self.loadable(&image.root).is_none()).map(|image| &image.name)
    }

    fn configs(&self) -> BTreeSet<&Digest> {
        self.manifests.values().filter_map(Manifest::image).map(|image| &image.config.digest).collect()
    }
}

impl Content {
    fn entry(&self) -> Descriptor {
        let mut annotations = BTreeMap::from([(FULL_NAME.to_owned(), self.name.to_string())]);
        if let Some(tag) = self.name.tag() {
            annotations.insert(TAG.to_owned(), tag.to_string());
        }
        Descriptor { platform: self.platform.clone(), annotations, ..self.root.descriptor() }
    }
}

/// The names that docker-archives are known to have, with an end that tells what a layer is.
fn docker_name(blob: &Descriptor, configs: &BTreeSet<&Digest>) -> String {
    let kind = blob.media_type.as_str();
    let end = match () {
        () if configs.contains(&blob.digest) => "json",
        () if kind.ends_with("gzip") => "tar.gz",
        () if kind.ends_with("zstd") => "tar.zst",
        () => "tar",
    };
    format!("{}.{end}", blob.digest.encoded())
}

#[derive(Debug, Default)]
struct Tar {
    length: u64,
    pieces: Vec<(u64, Bytes)>,
    blobs: BTreeMap<Digest, u64>,
}

impl Tar {
    fn document(&mut self, name: &str, content: Bytes) -> Option<()> {
        let at = self.file(name, content.len() as u64)?;
        self.pieces.push((at, content));
        Some(())
    }

    /// A file whose bytes come later. Yields where they go.
    fn file(&mut self, name: &str, size: u64) -> Option<u64> {
        let header = before_file(name, size);
        let at = self.length.checked_add(header.len() as u64)?;
        self.pieces.push((self.length, header.into()));
        self.length = at.checked_add(size)?.checked_next_multiple_of(RECORD)?;
        Some(at)
    }

    fn finish(self) -> Option<TarLayout> {
        // Two empty records are the end. Their zeros are nothing that would have to be written.
        let length = self.length.checked_add(2 * RECORD)?;
        Some(TarLayout { length, pieces: self.pieces, blobs: self.blobs })
    }
}
