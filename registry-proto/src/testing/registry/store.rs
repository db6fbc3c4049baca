//! What a registry holds: repositories of blobs, manifests and tags.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use crate::spec::{Digest, Manifest};

/// A blob's bytes, as they came in: joined only when somebody wants them back.
#[derive(Clone, Default)]
pub(super) struct Content {
    pieces: Vec<Bytes>,
    size: u64,
}

impl Content {
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.size += piece.len() as u64;
            self.pieces.push(piece);
        }
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// The bytes in one piece: a copy if they came in several.
    pub(super) fn joined(&self) -> Bytes {
        match self.pieces.as_slice() {
            [] => Bytes::new(),
            [whole] => whole.clone(),
            pieces => {
                let mut whole = BytesMut::with_capacity(usize::try_from(self.size).unwrap_or_default());
                pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        }
    }

    /// As [`joined`](Self::joined), and stays so: it is copied once at most.
    pub(super) fn join(&mut self) -> Bytes {
        let whole = self.joined();
        if self.pieces.len() > 1 {
            self.pieces = vec![whole.clone()];
        }
        whole
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        let mut content = Self::default();
        content.push(bytes);
        content
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} bytes in {} pieces)", self.size, self.pieces.len())
    }
}

/// One repository.
#[derive(Clone, Debug, Default)]
pub(super) struct Repository {
    pub(super) blobs: BTreeMap<Digest, Content>,
    pub(super) manifests: BTreeMap<Digest, Manifest>,
    pub(super) tags: BTreeMap<String, Digest>,
    /// distribution knows a repository without tags only if it had one once.
    pub(super) ever_tagged: bool,
}

impl Repository {
    pub(super) fn tag(&mut self, tag: &str, digest: Digest) {
        self.tags.insert(tag.to_owned(), digest);
        self.ever_tagged = true;
    }

    /// What a manifest names and the repository doesn't have.
    pub(super) fn missing(&self, manifest: &Manifest) -> Vec<Digest> {
        let mut missing = BTreeSet::new();
        if let Some(image) = manifest.image() {
            let elsewhere =
                |blob: &crate::spec::Descriptor| blob.media_type.is_foreign_layer() && !blob.urls.is_empty();
            let unknown = image.blobs().filter(|blob| !elsewhere(blob) && !self.blobs.contains_key(&blob.digest));
            missing.extend(unknown.map(|blob| blob.digest.clone()));
        }
        if let Some(index) = manifest.index() {
            let known = |digest| self.manifests.contains_key(digest) || self.blobs.contains_key(digest);
            missing.extend(index.manifests.iter().map(|child| &child.digest).filter(|digest| !known(digest)).cloned());
        }
        missing.into_iter().collect()
    }
}
