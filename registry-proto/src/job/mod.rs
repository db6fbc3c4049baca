//! All the I/O there is, as data.
//!
//! A flow describes work, a driver does it, and the answer goes back with the work's [`Ticket`]:
//!
//! ```text
//!   flow ──Step::Run(Job)──▶ driver: perform(job) ──ticket.replied(…) | .failed(…)──▶ Completion ──▶ flow.handle
//! ```
//!
//! [`Job`] is exhaustive on purpose: a new kind of work must break every driver when it is compiled, not when it runs.

mod attended;
mod failure;
mod incoming;
mod local;
mod opening;
mod outgoing;
mod patience;
mod progress;
mod reach;
mod stage;
mod supplies;
mod ticket;
mod trust;

pub use attended::{Attended, AttendedFile};
pub use failure::{Failure, FailureKind, Phase, ProxyFault};
pub use incoming::{Collecting, FilePlace, Filing, Incoming, More, Plan, Received, Sink, Writing};
pub(crate) use local::{Alone, Blueprint, Kept, Laid};
pub use local::{LocalJob, Storage};
pub(crate) use outgoing::BlobPart;
pub use outgoing::{FileRange, Meter, Outgoing};
pub use patience::Patience;
pub use progress::Progress;
pub use reach::{reachable, share};
pub use stage::Stage;
pub use supplies::{Supplies, Supply};
pub(crate) use ticket::Outcome;
pub use ticket::{Completion, JobId, Ticket, kind};
pub use trust::no_authorities;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::error::Asked;

/// One piece of work for a driver. Each carries the right to answer it. `Debug` shows a request's URL without its query, which may be
/// signed.
#[must_use = "a job that is not run leaves its flow waiting for ever"]
pub enum Job {
    /// Send one HTTP request and take in its reply, as the [`Plan`] says.
    ///
    /// Send exactly the headers that are there (plus `Host`), never follow, decompress, retry or look at the status.
    Exchange(Ticket<kind::Exchange>, http::Request<Payload>, Plan, Timeouts),
    /// The next bytes of the body of an exchange that was started before, and whose payload is [`Payload::Supplied`]. It is done
    /// when there is room for more, or at once if nobody takes them any more. Drivers keep track of who waits for whom by
    /// [`Supplies`].
    Supply(Ticket<kind::Supply>, JobId, Bytes),
    /// Work on local files, which blocks: [`LocalJob::run`] it.
    Local(LocalJob),
}

impl Job {
    /// The job's identity, which an [`Abort`](crate::Step::Abort) names.
    pub const fn id(&self) -> JobId {
        match self {
            Self::Exchange(ticket, ..) => ticket.id(),
            Self::Supply(ticket, ..) => ticket.id(),
            Self::Local(job) => job.id(),
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(ticket, request, ..) => {
                let asked = Asked::new(request.method(), request.uri());
                f.debug_tuple("Exchange").field(ticket).field(&asked).finish_non_exhaustive()
            }
            Self::Supply(ticket, to, bytes) => {
                f.debug_tuple("Supply").field(ticket).field(to).field(&bytes.len()).finish()
            }
            Self::Local(job) => f.debug_tuple("Local").field(job).finish(),
        }
    }
}

/// A request's body. A big one is described, never carried. `Debug` shows its length, since it may be a form with a password.
///
/// ```
/// use registry_proto::job::Payload;
///
/// assert_eq!(Payload::Supplied(300 << 20).len(), 300 << 20);
/// assert!(Payload::Empty.is_empty());
/// ```
#[derive(Clone)]
pub enum Payload {
    /// No body. Requests that could have one carry `Content-Length: 0` already.
    Empty,
    /// A small body, in memory.
    Bytes(Bytes),
    /// Bytes of a local file, to be hashed as they are sent.
    File(FileRange),
    /// So many bytes, which come one after another while the request is under way: each piece is a [`Job::Supply`].
    Supplied(u64),
}

impl Payload {
    /// The body's length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(range) => range.len(),
            Self::Supplied(length) => *length,
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::File(range) => f.debug_tuple("File").field(range).finish(),
            Self::Supplied(length) => write!(f, "Supplied({length})"),
        }
    }
}

/// How long anybody waits before a request is given up. Blobs take as long as they take, as long as they get ahead: how fast a
/// line is nobody here knows. What is small has a limit for the whole.
///
/// ```
/// use std::time::Duration;
/// use registry_proto::Config;
///
/// let mut config = Config::default();
/// config.timeouts.connect = Duration::from_secs(3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start of connecting to a usable connection: name lookup, TCP and TLS.
    pub connect: Duration,
    /// From the last byte of the request to the first of its reply. Generous: a registry may hash and move a whole blob
    /// before it answers a closing `PUT` (GHCR was seen to take 11 s).
    pub head: Duration,
    /// Without a body getting ahead that is under way, in either direction. Drivers count it by [`Progress`].
    pub idle: Duration,
    /// How many bytes have to move within `idle` for that to be getting ahead; with 1, a peer can hand out a byte a minute for
    /// ever. (The defaults make it 1 KiB a second.) It is also by how much a transfer that is cut again and again has to have
    /// come further, if that is to count as anything but another failure.
    pub idle_bytes: u64,
    /// From when a request is sent to the end of its reply, where both are small: everything but blobs. The flow keeps this
    /// limit itself, by aborting the job.
    pub whole: Duration,
}

impl Timeouts {
    /// Whether a transfer of `size` bytes that was cut has come so much further that it is worth going on with. What is small
    /// may come in small parts: there are registries that hand out no more than so much at a time.
    pub(crate) fn is_ahead(&self, gained: u64, size: u64) -> bool {
        gained >= self.idle_bytes.min(size / 256).max(1)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            head: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            idle_bytes: 60 << 10,
            whole: Duration::from_secs(300),
        }
    }
}
