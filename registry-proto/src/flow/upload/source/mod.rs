//! Content that is in no file of ours: it comes in pieces, which stay in memory until the registry has confirmed them.

mod fed;
mod remote;

use bytes::Bytes;

use fed::Fed;
use remote::Remote;

use crate::error::Error;
use crate::flow::{Context, Step};
use crate::job::{Completion, Failure, FailureKind};
use crate::spec::{Digest, Repository};

/// Where the pieces come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Another registry's, which is asked for them.
    Remote(Box<Remote>),
    /// Whoever has the upload, who feeds it.
    Fed(Fed),
}

impl Source {
    /// A blob of a repository.
    pub(super) fn remote(cx: &Context<'_>, holder: &Repository, digest: &Digest, size: u64) -> Result<Self, Error> {
        Ok(Self::Remote(Box::new(Remote::new(cx, holder, digest, size)?)))
    }

    /// A blob of so many bytes that is going by; `None`: of how many, its end tells.
    pub(super) const fn fed(size: Option<u64>) -> Self {
        Self::Fed(Fed::new(size))
    }

    /// A blob that has gone by, to another repository if it is `to_be_mounted`.
    pub(super) fn gone(size: u64, to_be_mounted: bool) -> Self {
        Self::Fed(Fed::gone(size, to_be_mounted))
    }

    /// Whether the byte at this offset is here.
    pub(super) fn holds(&self, at: u64) -> bool {
        match self {
            Self::Remote(remote) => remote.holds(at),
            Self::Fed(fed) => fed.holds(at),
        }
    }

    /// How many bytes are here from `at` on, which is as far as the registry has confirmed. If they are fewer than `least` (and
    /// not the blob's last), more are wanted and the answer is `None` until they have come: `length` bytes, where they are
    /// asked for.
    ///
    /// # Errors
    /// What came of asking, if it was nothing.
    pub(super) fn bytes_at(
        &mut self,
        cx: &Context<'_>,
        at: u64,
        least: u64,
        length: u64,
    ) -> Result<Option<u64>, Error> {
        match self {
            Self::Remote(remote) => remote.bytes_at(cx, at, least, length),
            Self::Fed(fed) => fed.bytes_at(at, least),
        }
    }

    /// Bytes that are here.
    pub(super) fn slice(&self, at: u64, length: u64) -> Bytes {
        match self {
            Self::Remote(remote) => remote.slice(at, length),
            Self::Fed(fed) => fed.slice(at, length),
        }
    }

    /// Asks for the piece after the one that is here, where pieces are asked for.
    pub(super) fn look_ahead(&mut self, cx: &Context<'_>, length: u64) {
        if let Self::Remote(remote) = self {
            remote.look_ahead(cx, length);
        }
    }

    /// A request under way waits for the pieces from now on.
    pub(super) fn await_pieces(&mut self) {
        if let Self::Remote(remote) = self {
            remote.await_pieces();
        }
    }

    /// No request waits for pieces any more. What is on its way for one has no place of its own, and is not wanted.
    pub(super) fn stop_awaited(&mut self) {
        if let Self::Remote(remote) = self {
            remote.stop_awaited();
        }
    }

    /// Nothing more is wanted.
    pub(super) fn stop(&mut self) {
        match self {
            Self::Remote(remote) => remote.stop(),
            Self::Fed(fed) => fed.stop(),
        }
    }

    /// Whether there is something to abort.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self, Self::Remote(remote) if remote.is_stopping())
    }

    /// The error for bytes that are others than the digest says.
    pub(super) fn mismatch(&self, expected: &Digest, found: Digest) -> Error {
        match self {
            Self::Remote(remote) => remote.mismatch(found),
            Self::Fed(_) => {
                let why = format!("a blob was to be {expected}, but its bytes are {found}");
                Error::Local(Failure::new(FailureKind::Mismatch, why))
            }
        }
    }

    /// Whether there is something to start.
    pub(super) fn is_restless(&self) -> bool {
        matches!(self, Self::Remote(remote) if remote.is_restless())
    }

    /// As [`Flow::poll`](crate::Flow::poll); done whenever something has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Step<()> {
        match self {
            Self::Remote(remote) => remote.poll(cx),
            Self::Fed(_) => Step::Wait(None),
        }
    }

    /// As [`Flow::handle`](crate::Flow::handle).
    pub(super) fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match self {
            Self::Remote(remote) => remote.handle(cx, done),
            Self::Fed(_) => Err(done),
        }
    }

    /// Whether it wants to be fed, with this much at a time.
    pub(super) fn is_hungry(&self, piece: u64) -> bool {
        matches!(self, Self::Fed(fed) if fed.is_hungry(piece))
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: Bytes) {
        if let Self::Fed(fed) = self {
            fed.feed(bytes);
        }
    }

    /// Nothing comes after what has come. How many bytes that is, if it is fed.
    pub(super) const fn end(&mut self) -> Option<u64> {
        match self {
            Self::Remote(_) => None,
            Self::Fed(fed) => Some(fed.end()),
        }
    }

    /// Whether nobody knows yet how many bytes there are.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Fed(fed) if fed.is_open())
    }
}
