//! What is uploaded, and where its bytes come from.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::archive::{ArchiveBlob, BlobContent};
use crate::spec::{Digest, Repository};

/// A blob to be uploaded.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) content: Content,
}

/// Where the bytes of a blob are.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Here.
    Bytes(Bytes),
    /// In a file.
    File { path: Arc<Path>, range: Range<u64> },
    /// Going by, or gone: it comes in pieces from whoever feeds the upload.
    Fed,
    /// In this repository, from which they are fetched in pieces.
    Remote(Repository),
}

impl From<&ArchiveBlob> for Load {
    fn from(blob: &ArchiveBlob) -> Self {
        let content = match blob.content() {
            BlobContent::Bytes(bytes) => Content::Bytes(bytes.clone()),
            BlobContent::File { path, range } => Content::File { path: path.clone(), range: range.clone() },
            BlobContent::Passed { .. } => Content::Fed,
        };
        Self { digest: blob.digest().clone(), size: blob.size(), content }
    }
}
