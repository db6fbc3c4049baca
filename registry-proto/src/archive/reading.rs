//! One reading of one archive: finds out what it is, has it read, and puts the images together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::error::ArchiveFault;
use super::files::{Files, FolderFiles, Place, TarFiles};
use super::image::{ArchiveBlob, ArchiveImage, ImageName};
use super::limits::Limits;
use super::passed::PassedFiles;
use super::{Archive, ArchiveKind, Disk, Opened, docker_save, oci_layout};
use crate::spec::{Digest, Reference};

/// What is gathered on the way.
pub(super) struct Reading<'a> {
    pub(super) limits: &'a Limits,
    pub(super) notes: Vec<String>,
    pub(super) faults: Vec<ArchiveFault>,
    images: Vec<ArchiveImage>,
    blobs: BTreeMap<Digest, ArchiveBlob>,
    documents: usize,
}

pub(super) fn examine<D: Disk>(disk: &D, path: &Arc<Path>, limits: &Limits) -> (Option<Archive>, Vec<ArchiveFault>) {
    let mut reading = Reading::new(limits);
    let kind = reading.run(disk, path);
    reading.end(path, kind)
}

/// Of an archive that has gone by.
pub(super) fn examine_passed(
    path: &Arc<Path>,
    files: &mut PassedFiles,
    limits: &Limits,
) -> (Option<Archive>, Vec<ArchiveFault>) {
    let mut reading = Reading::new(limits);
    let kind = reading.tar(files.markers(), files);
    reading.end(path, kind)
}

/// Which documents a tar has at its root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Markers {
    /// `manifest.json`.
    docker: bool,
    /// `oci-layout` and `index.json`.
    oci: bool,
    /// `repositories`.
    ancient: bool,
}

impl Markers {
    pub(super) fn of(has: impl Fn(&str) -> bool) -> Self {
        Self { docker: has("manifest.json"), oci: has("oci-layout") && has("index.json"), ancient: has("repositories") }
    }
}

impl<'a> Reading<'a> {
    const fn new(limits: &'a Limits) -> Self {
        Self { limits, notes: Vec::new(), faults: Vec::new(), images: Vec::new(), blobs: BTreeMap::new(), documents: 0 }
    }

    fn end(
        mut self,
        path: &Arc<Path>,
        kind: Result<ArchiveKind, ArchiveFault>,
    ) -> (Option<Archive>, Vec<ArchiveFault>) {
        match kind {
            Ok(kind) => {
                let (archive, faults) = self.finish(path, kind);
                (Some(archive), faults)
            }
            Err(fault) => {
                self.faults.push(fault);
                (None, self.faults)
            }
        }
    }
}

impl Reading<'_> {
    fn run<D: Disk>(&mut self, disk: &D, path: &Arc<Path>) -> Result<ArchiveKind, ArchiveFault> {
        let not = |why: &str| Err(ArchiveFault::NotAnArchive { why: why.to_owned() });
        match disk.open(path).map_err(|e| ArchiveFault::io("opening it", e))? {
            Opened::Folder => {
                let mut files = FolderFiles { disk, root: Arc::clone(path) };
                let layout = files.locate("oci-layout", true)?.is_some();
                if !layout || files.locate("index.json", true)?.is_none() {
                    return not("the folder has no `oci-layout` and `index.json`; if it is an unpacked archive, \
                                name the archive itself");
                }
                self.oci(&mut files)?;
                Ok(ArchiveKind::OciFolder)
            }
            Opened::File { file, size } => {
                let mut files = TarFiles::new(path, file, size, self.limits)?;
                self.tar(Markers::of(|name| files.has(name)), &mut files)
            }
        }
    }

    fn tar(&mut self, markers: Markers, files: &mut impl Files) -> Result<ArchiveKind, ArchiveFault> {
        match (markers.docker, markers.oci) {
            (true, true) => self.both(files).map(|()| ArchiveKind::DockerSaveOci),
            (true, false) => self.docker(files).map(|()| ArchiveKind::DockerSave),
            (false, true) => self.oci(files).map(|()| ArchiveKind::OciArchive),
            (false, false) if markers.ancient => Err(ArchiveFault::Unsupported {
                what: "it has no manifest.json, so Docker before 1.10 has written it; \
                       load it into a newer Docker and save it again"
                    .into(),
            }),
            (false, false) => Err(ArchiveFault::NotAnArchive {
                why: "the tar has neither `manifest.json` nor `oci-layout` and `index.json`; \
                      make one with `docker save`, not `docker export`"
                    .into(),
            }),
        }
    }

    fn oci(&mut self, files: &mut impl Files) -> Result<(), ArchiveFault> {
        for entry in oci_layout::entries(self, files)? {
            match oci_layout::image(self, files, &entry).image {
                Ok(image) => self.images.extend(image),
                Err(fault) => self.faults.push(fault),
            }
        }
        Ok(())
    }

    fn docker(&mut self, files: &mut impl Files) -> Result<(), ArchiveFault> {
        let mut saved = docker_save::Saved::default();
        for item in docker_save::items(self, files)? {
            let names = docker_save::names(self, &item);
            let image = docker_save::config(self, files, &item)
                .and_then(|config| saved.image(self, files, &item, config, names));
            self.found(image);
        }
        Ok(())
    }

    fn found(&mut self, image: Result<ArchiveImage, ArchiveFault>) {
        match image {
            Ok(image) => self.images.push(image),
            Err(fault) => self.faults.push(fault),
        }
    }

    /// `index.json` has the images' own manifests and so their digests; `manifest.json` has images that it lacks (untagged
    /// ones) or that it has only in part (moby#47065 wrote manifests without layers). An image is the same in both when
    /// its config is.
    fn both(&mut self, files: &mut impl Files) -> Result<(), ArchiveFault> {
        let mut partial = Vec::new();
        for entry in oci_layout::entries(self, files)? {
            let walked = oci_layout::image(self, files, &entry);
            match walked.image {
                Ok(image) => self.images.extend(image),
                Err(fault) => partial.push((entry.names, walked.configs, fault)),
            }
        }
        let whole = self.images.len();
        let mut saved = docker_save::Saved::default();
        let mut saved_configs = BTreeSet::new();
        let mut saved_names = Vec::new();
        for item in docker_save::items(self, files)? {
            let names = docker_save::names(self, &item);
            saved_names.extend(names.iter().cloned());
            let config = match docker_save::config(self, files, &item) {
                Ok(config) => config,
                Err(fault) => {
                    self.faults.push(fault);
                    continue;
                }
            };
            saved_configs.insert(config.digest.clone());
            if let Some(image) = self.images[..whole].iter_mut().find(|image| image.has_config(&config.digest)) {
                names.into_iter().for_each(|name| add_name(&mut image.names, name));
                continue;
            }
            let image = saved.image(self, files, &item, config, names);
            self.found(image);
        }
        for (names, configs, fault) in partial {
            let named = || names.iter().any(|name| saved_names.iter().any(|saved: &ImageName| saved.covers(name)));
            if configs.iter().any(|config| saved_configs.contains(config)) || named() {
                let names: Vec<&str> = names.iter().map(ImageName::as_written).collect();
                self.notes.push(format!(
                    "the archive's own manifest of {} could not be used, so one was made after manifest.json and the \
                     image's digest is a new one: the archive {fault}",
                    if names.is_empty() { "an image without a name".to_owned() } else { names.join(", ") },
                ));
            } else {
                self.faults.push(fault);
            }
        }
        Ok(())
    }

    /// A document's bytes, counted against what all of them together may have.
    pub(super) fn document(
        &mut self,
        files: &mut impl Files,
        place: &Place,
        limit: usize,
    ) -> Result<Bytes, ArchiveFault> {
        let left = self.limits.documents - self.documents;
        if usize::try_from(place.size()).is_ok_and(|size| size <= limit && size > left) {
            let what = "the sum of its manifests and configs".into();
            return Err(ArchiveFault::TooLarge { what, limit: self.limits.documents as u64, unit: "bytes" });
        }
        let bytes = files.read_whole(place, limit.min(left))?;
        self.documents += bytes.len();
        Ok(bytes)
    }

    /// Takes a blob in, unless it is there already.
    pub(super) fn blob(&mut self, blob: ArchiveBlob) -> Result<(), ArchiveFault> {
        if let Some(before) = self.blobs.get(&blob.digest) {
            if before.size != blob.size {
                return Err(ArchiveFault::layout(format!(
                    "`{}` is once {} and once {} bytes long",
                    blob.digest, before.size, blob.size
                )));
            }
            return Ok(());
        }
        self.blobs.insert(blob.digest.clone(), blob);
        Ok(())
    }

    /// Merges what is the same image twice, settles names, and drops the blobs of images that can't be used.
    fn finish(mut self, path: &Arc<Path>, kind: ArchiveKind) -> (Archive, Vec<ArchiveFault>) {
        let mut images: Vec<ArchiveImage> = Vec::new();
        let mut by_root: BTreeMap<Digest, usize> = BTreeMap::new();
        for image in self.images {
            match by_root.get(image.root().digest()) {
                Some(at) => image.names.into_iter().for_each(|name| add_name(&mut images[*at].names, name)),
                None => {
                    by_root.insert(image.root().digest().clone(), images.len());
                    images.push(image);
                }
            }
        }
        // As in `docker load`, of two images with one name the last keeps it (reader rule 9).
        let mut owners: BTreeMap<Reference, usize> = BTreeMap::new();
        for (at, image) in images.iter().enumerate() {
            owners.extend(image.names.iter().filter_map(ImageName::reference).map(|name| (name.clone(), at)));
        }
        for (at, image) in images.iter_mut().enumerate() {
            let notes = &mut self.notes;
            image.names.retain(|name| {
                let kept = name.reference().is_none_or(|reference| owners.get(reference) == Some(&at));
                if !kept {
                    notes.push(format!("`{}` names two images; the last one keeps the name", name.as_written()));
                }
                kept
            });
        }
        let wanted: BTreeSet<Digest> = images.iter().flat_map(ArchiveImage::blob_digests).collect();
        self.blobs.retain(|digest, _| wanted.contains(digest));
        if images.is_empty() && self.faults.is_empty() {
            let why = "it names no image that could be pushed".into();
            self.faults.push(ArchiveFault::NotAnArchive { why });
        }
        // It gets its own when it is known that something is in it.
        let identity = Digest::of(b"");
        let archive = Archive { path: Arc::clone(path), kind, images, blobs: self.blobs, notes: self.notes, identity };
        (archive, self.faults)
    }
}

/// Adds a name that says something new, and drops what it says better (a tag alone).
pub(super) fn add_name(names: &mut Vec<ImageName>, name: ImageName) {
    if names.iter().any(|before| before.covers(&name)) {
        return;
    }
    names.retain(|before| !name.covers(before));
    names.push(name);
}
