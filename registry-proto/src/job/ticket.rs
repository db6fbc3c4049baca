//! The right to answer a job, once.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;

use crate::archive::{ArchiveError, Examined, Wound};
use crate::digester::Digester;
use crate::event::Piece;
use crate::job::local::Laid;
use crate::job::{Failure, Received};

/// A job's number, unique within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u64);

impl JobId {
    pub(crate) const fn new(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What a ticket may be answered with.
pub mod kind {
    /// An HTTP request and its reply.
    #[derive(Debug)]
    pub enum Exchange {}
    /// A piece of a request's body.
    #[derive(Debug)]
    pub enum Supply {}
    /// Reading an archive's table of contents.
    #[derive(Debug)]
    pub enum Index {}
    /// Hashing a range of a file.
    #[derive(Debug)]
    pub enum Hash {}
    /// Laying a file out.
    #[derive(Debug)]
    pub(crate) enum Lay {}
    /// Reading a small file.
    #[derive(Debug)]
    pub(crate) enum Read {}
    /// Giving a file its final name.
    #[derive(Debug)]
    pub(crate) enum Publish {}
    /// Winding an archive on that goes by once.
    #[derive(Debug)]
    pub(crate) enum Wind {}
    /// Removing a file.
    #[derive(Debug)]
    pub(crate) enum Remove {}
}

/// The right to complete one job, held once.
///
/// It is neither `Clone` nor constructible outside the core, and using it consumes it: answering a job twice, or with
/// the answer to another kind of job, does not compile.
///
/// ```compile_fail
/// use registry_proto::job::{Failure, Ticket, kind};
///
/// fn twice(ticket: Ticket<kind::Exchange>, why: Failure) {
///     let _ = ticket.failed(why.clone(), None);
///     let _ = ticket.failed(why, None); // use of moved value
/// }
/// ```
#[must_use = "a job that is not answered leaves its flow waiting for ever"]
pub struct Ticket<K> {
    id: JobId,
    kind: PhantomData<fn() -> K>,
}

impl<K> Ticket<K> {
    pub(crate) const fn new(id: JobId) -> Self {
        Self { id, kind: PhantomData }
    }

    /// The job's identity.
    pub const fn id(&self) -> JobId {
        self.id
    }
}

impl<K> fmt::Debug for Ticket<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({})", self.id)
    }
}

impl Ticket<kind::Exchange> {
    /// A reply came, of whatever status. `sent` is the digester of the request's [`FileRange`](super::FileRange), as far
    /// as it has been fed; `None` when the HTTP stack kept it.
    pub fn replied(self, head: http::response::Parts, body: Received, sent: Option<Digester>) -> Completion {
        Completion { id: self.id, outcome: Outcome::Replied { head: Box::new(head), body, sent } }
    }

    /// No complete reply came. `moved`: see [`Ticket::replied`]; of a reply's body that went to a file, its digester as far
    /// as the file was written.
    pub fn failed(self, why: Failure, moved: Option<Digester>) -> Completion {
        Completion { id: self.id, outcome: Outcome::Failed { why, moved } }
    }
}

impl Ticket<kind::Supply> {
    /// The piece was taken, or nobody takes it any more: which, the exchange's own answer tells.
    pub fn supplied(self) -> Completion {
        Completion { id: self.id, outcome: Outcome::Supplied }
    }
}

impl Ticket<kind::Index> {
    /// What was at the path.
    pub(crate) fn indexed(self, found: Examined) -> Completion {
        Completion { id: self.id, outcome: Outcome::Indexed(Box::new(found)) }
    }

    /// The work itself broke down.
    pub(crate) fn failed(self, why: Failure) -> Completion {
        failed(self.id, why)
    }
}

impl Ticket<kind::Hash> {
    /// As much of the range as there is went through the digester.
    pub(crate) fn hashed(self, digester: Digester) -> Completion {
        Completion { id: self.id, outcome: Outcome::Hashed(digester) }
    }

    /// The file could not be read.
    pub(crate) fn failed(self, why: Failure) -> Completion {
        failed(self.id, why)
    }
}

impl Ticket<kind::Lay> {
    /// The file is as it should be.
    pub(crate) fn laid(self, found: Laid) -> Completion {
        Completion { id: self.id, outcome: Outcome::Laid(found) }
    }

    /// The file could not be written.
    pub(crate) fn failed(self, why: Failure) -> Completion {
        failed(self.id, why)
    }
}

impl Ticket<kind::Read> {
    /// The file's content, if there is a file.
    pub(crate) fn content(self, content: Option<Bytes>) -> Completion {
        Completion { id: self.id, outcome: Outcome::Content(content.map(Piece)) }
    }

    /// The file could not be read.
    pub(crate) fn failed(self, why: Failure) -> Completion {
        failed(self.id, why)
    }
}

impl Ticket<kind::Publish> {
    /// The file has its name.
    pub(crate) fn published(self) -> Completion {
        Completion { id: self.id, outcome: Outcome::Published }
    }

    /// It has not.
    pub(crate) fn failed(self, why: Failure) -> Completion {
        failed(self.id, why)
    }
}

impl Ticket<kind::Wind> {
    /// How far it has gone by, or what is wrong with it.
    pub(crate) fn wound(self, wound: Result<Wound, ArchiveError>) -> Completion {
        Completion { id: self.id, outcome: Outcome::Wound(wound) }
    }

    /// The work itself broke down.
    pub(crate) fn failed(self, why: Failure) -> Completion {
        failed(self.id, why)
    }
}

impl Ticket<kind::Remove> {
    /// There is no such file any more.
    pub(crate) fn removed(self) -> Completion {
        Completion { id: self.id, outcome: Outcome::Removed }
    }

    /// It is still there.
    pub(crate) fn failed(self, why: Failure) -> Completion {
        failed(self.id, why)
    }
}

fn failed(id: JobId, why: Failure) -> Completion {
    Completion { id, outcome: Outcome::Failed { why, moved: None } }
}

/// The answer to a job, for [`Flow::handle`](crate::Flow::handle). Only a [`Ticket`] makes one.
#[must_use = "an answer that is not handled leaves its flow waiting for ever"]
pub struct Completion {
    pub(crate) id: JobId,
    pub(crate) outcome: Outcome,
}

/// Without what it holds: headers may be signed URLs.
impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Completion {
    /// Which job this answers.
    pub const fn id(&self) -> JobId {
        self.id
    }
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Replied { head: Box<http::response::Parts>, body: Received, sent: Option<Digester> },
    Supplied,
    Indexed(Box<Examined>),
    Hashed(Digester),
    Laid(Laid),
    Content(Option<Piece>),
    Published,
    Wound(Result<Wound, ArchiveError>),
    Removed,
    Failed { why: Failure, moved: Option<Digester> },
}
