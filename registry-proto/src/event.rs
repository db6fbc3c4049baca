//! What a flow tells its user on the way.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::error::Asked;
use crate::job::{Failure, Meter};
use crate::snapshot::{Snapshot, UploadSession};
use crate::spec::{Descriptor, Digest, MediaType, Repository, TagOrDigest};

/// Something worth telling, in the order in which it happened.
///
/// For each blob that is pushed or copied: `Queued`, then one of `Exists`, `Mounted` or `Sending` … `Sent`, with `Sent` never
/// going back, however often bytes had to be sent again (of an archive that goes by: `Passing`, then `Sent`). For each that is
/// pulled: `Queued`, then `Kept` or `Fetching` and `Fetched`.
///
/// ```
/// use registry_proto::Event;
///
/// // With a client: client.run_with(flow, tell)
/// fn tell(event: Event) {
///     match event {
///         Event::Retrying { request, why, after } => eprintln!("{request}: {why}; again in {after:?}"),
///         Event::Notice(text) => eprintln!("{text}"),
///         _ => {}
///     }
/// }
/// # let _ = tell;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A blob will be brought to this repository.
    Queued {
        /// Where to.
        repository: Repository,
        /// Which blob.
        blob: BlobId,
    },
    /// The registry has the blob already; nothing is sent.
    Exists {
        /// Where.
        repository: Repository,
        /// Which blob.
        blob: BlobId,
    },
    /// The registry took the blob over from another of its repositories; nothing is sent.
    Mounted {
        /// Where to.
        repository: Repository,
        /// Which blob.
        blob: BlobId,
    },
    /// The blob is being sent. Read the meter whenever you draw progress.
    Sending {
        /// Where to.
        repository: Repository,
        /// Which blob.
        blob: BlobId,
        /// How far it has come, live.
        meter: Meter,
    },
    /// A blob of an archive that goes by is being sent; what its digest is, `Sent` or `Exists` tells in the end.
    Passing {
        /// Where to.
        repository: Repository,
        /// What the archive calls it.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// How far it has come, live.
        meter: Meter,
    },
    /// The registry confirmed to hold this much of the blob; `sent == blob.size` once it is committed.
    Sent {
        /// Where to.
        repository: Repository,
        /// Which blob.
        blob: BlobId,
        /// Bytes confirmed.
        sent: u64,
    },
    /// A blob is being fetched. Read the meter whenever you draw progress.
    Fetching {
        /// Where from.
        repository: Repository,
        /// Which blob.
        blob: BlobId,
        /// How far it has come, live.
        meter: Meter,
    },
    /// A blob is here, and verified.
    Fetched {
        /// Where from.
        repository: Repository,
        /// Which blob.
        blob: BlobId,
    },
    /// A blob was here already, and is right; nothing was fetched.
    Kept {
        /// Where it would have come from.
        repository: Repository,
        /// Which blob.
        blob: BlobId,
    },
    /// A manifest was put.
    ManifestPut {
        /// Where to.
        repository: Repository,
        /// Under which tag or digest.
        reference: TagOrDigest,
        /// The manifest's digest.
        digest: Digest,
        /// What kind of manifest.
        media_type: MediaType,
    },
    /// A manifest was there already.
    ManifestExists {
        /// Where.
        repository: Repository,
        /// Under which tag or digest.
        reference: TagOrDigest,
        /// The manifest's digest.
        digest: Digest,
    },
    /// A manifest was deleted, or only a tag.
    Deleted {
        /// Where it was.
        repository: Repository,
        /// Its digest; or the tag, if only that was deleted.
        reference: TagOrDigest,
    },
    /// A page of a list: repositories or tags.
    Listed {
        /// The names on it, in the registry's order.
        names: Vec<String>,
    },
    /// The next bytes of a blob that is [read](crate::flow::ReadBlob).
    Content(Piece),
    /// A request was answered, or came to nothing. What follows from it is told by other events: this one is for logs.
    Asked {
        /// What was asked, without secrets.
        request: Asked,
        /// The reply's status, or why there was none.
        reply: Result<StatusCode, Failure>,
        /// How long it took.
        took: Duration,
    },
    /// Something went wrong and will be tried again.
    Retrying {
        /// What was asked, without secrets.
        request: String,
        /// What came back.
        why: String,
        /// After which pause.
        after: Duration,
    },
    /// A registry asked for a pause (`Retry-After`), and other requests to it wait as well. Told once for each pause.
    Waiting {
        /// Who asked: scheme, host and port.
        origin: String,
        /// For how long from now.
        after: Duration,
    },
    /// An upload session was opened, has moved, or is over (`None`). Only uploads tell it that are to be gone on with later, and
    /// a push tells it by its next snapshot.
    Session {
        /// Where to.
        repository: Repository,
        /// Which blob.
        blob: BlobId,
        /// Where the upload goes on.
        session: Option<UploadSession>,
    },
    /// What another process needs to go on with this operation has changed: this is all of it. Only operations that are to be
    /// [gone on with](crate::flow::Resume) tell it.
    Snapshot(Box<Snapshot>),
    /// Something that the user should know but that stops nothing: an index reduced to the platforms at hand, a tag
    /// skipped, a registry's `Warning`.
    Notice(String),
}

/// Bytes that an event carries. They are not for logs: `Debug` tells how many there are.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece(pub Bytes);

impl std::ops::Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A blob as events name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobId {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl From<&Descriptor> for BlobId {
    fn from(descriptor: &Descriptor) -> Self {
        Self { digest: descriptor.digest.clone(), size: descriptor.size }
    }
}
