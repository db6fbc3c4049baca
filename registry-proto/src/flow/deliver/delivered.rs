//! What comes of a delivery.

use crate::spec::{Digest, Reference, Repository, TagOrDigest};

/// What came of a delivery.
#[derive(Debug)]
pub(crate) struct Delivered {
    /// In the order of the targets.
    pub(crate) references: Vec<PushedReference>,
    pub(crate) totals: Totals,
}

/// One reference that leads to its image now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedReference {
    /// Where the image is.
    pub repository: Repository,
    /// The tag, or the digest where it was pushed without one.
    pub reference: TagOrDigest,
    /// The digest of its manifest or index.
    pub digest: Digest,
}

impl PushedReference {
    /// The reference as one writes it: `registry/repository:tag`.
    pub fn to_reference(&self) -> Reference {
        Reference::by(self.repository.clone(), self.reference.clone())
    }
}

/// What became of the blobs of a push or a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Blobs that were sent.
    pub sent: usize,
    /// Their bytes.
    pub sent_bytes: u64,
    /// How many of those an earlier process had sent, whose snapshot was gone on from.
    pub resumed_bytes: u64,
    /// Blobs that the registry had.
    pub existed: usize,
    /// Blobs that the registry took over from another of its repositories.
    pub mounted: usize,
}

impl Totals {
    pub(crate) const fn add(&mut self, more: Self) {
        self.sent += more.sent;
        self.sent_bytes += more.sent_bytes;
        self.resumed_bytes += more.resumed_bytes;
        self.existed += more.existed;
        self.mounted += more.mounted;
    }
}
