//! What a driver says when a job could not be done.

use std::fmt;

use crate::spec::clean;

/// The longest detail, in characters.
const LONGEST: usize = 1000;

/// Why a job could not be done: a kind that the core decides by, and words for a person.
///
/// ```
/// use std::io;
/// use registry_proto::job::{Failure, FailureKind};
///
/// let reset = io::Error::from(io::ErrorKind::ConnectionReset);
/// let failure = Failure::new(FailureKind::Cut, &reset);
/// assert_eq!(failure.kind(), FailureKind::Cut);
/// assert_eq!(failure.detail(), reset.to_string());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    detail: String,
}

/// The kinds of failure that call for different decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// No connection: refused, unreachable, unknown name. Nothing was sent.
    Connect,
    /// The host's name leads to addresses that nobody may be sent to (see [`reachable`](super::reachable)). Nothing was sent.
    Forbidden,
    /// The proxy on the way did not let anybody through. Nobody behind it saw anything of the request.
    Proxy(ProxyFault),
    /// The TLS handshake failed: an unknown authority, a wrong name, no common version. Trying again does not help.
    Tls,
    /// A limit of [`Timeouts`](super::Timeouts) ran out.
    Timeout(Phase),
    /// The connection ended before the exchange did: reset, closed, stopped in the middle of a body.
    Cut,
    /// As [`Cut`](Self::Cut), of a connection that was kept from an earlier request, before a byte of this one's reply: unless much
    /// of a body had gone out, the peer had most likely closed it before the request came, which is no sign of trouble (RFC 9112
    /// §9.3.1).
    Stale,
    /// The peer says that it did nothing with the request: HTTP/2's `REFUSED_STREAM`, or a `GOAWAY` that leaves the request out
    /// (RFC 9113 §8.7). It is safe to send anything again.
    Unprocessed,
    /// What came back was not HTTP, or broke its framing.
    Protocol,
    /// A reply was larger than its limit.
    TooLarge,
    /// The local file could not be read, or is shorter than it was.
    Source,
    /// The local file could not be written: no room, no permission.
    Target,
    /// What has gone by once can't be sent again.
    GoneBy,
    /// The local file's bytes do not have the digest they should have. Nothing was committed.
    Mismatch,
    /// The driver itself broke down (a panic in its thread or task).
    Panicked,
}

/// Why there is no way through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyFault {
    /// What is configured as a proxy is none, or none that can be talked to.
    Unusable,
    /// There is no connection to it: refused, unreachable, unknown name.
    Unreachable,
    /// It did not answer, or not in time.
    Silent,
    /// It wants to be shown credentials, or others than it was shown (407).
    Credentials,
    /// It does not let anybody through to there (403 and the like).
    Refused,
    /// It would, but could not reach who was asked for, or not now (5xx, 429).
    Beyond,
    /// Its answer is none, or none of a proxy.
    Protocol,
}

impl ProxyFault {
    const fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::Silent | Self::Beyond)
    }
}

/// What was being waited for when time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A connection.
    Connect,
    /// The head of a reply.
    Head,
    /// The next bytes of a body, sent or received.
    Body,
    /// The end of something small, which came, but too slowly.
    Whole,
}

impl Failure {
    /// A failure of `kind`; `detail` is what the operating system or the HTTP stack said, without secrets.
    pub fn new(kind: FailureKind, detail: impl fmt::Display) -> Self {
        // HTTP stacks quote what they don't understand.
        Self { kind, detail: clean(&detail.to_string(), LONGEST) }
    }

    /// What kind of failure this is.
    pub const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// What the operating system or the HTTP stack said.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether the fault lies with the local file, so that asking the registry again cannot help.
    pub(crate) const fn is_local(&self) -> bool {
        matches!(
            self.kind,
            FailureKind::Source
                | FailureKind::Target
                | FailureKind::GoneBy
                | FailureKind::Mismatch
                | FailureKind::Panicked
        )
    }

    /// Whether the same request may succeed when it is sent again.
    pub(crate) const fn is_transient(&self) -> bool {
        match self.kind {
            // All that time bytes were dripping in: that is no accident.
            FailureKind::Timeout(Phase::Whole) => false,
            FailureKind::Proxy(fault) => fault.is_transient(),
            kind => matches!(
                kind,
                FailureKind::Connect
                    | FailureKind::Timeout(_)
                    | FailureKind::Cut
                    | FailureKind::Stale
                    | FailureKind::Unprocessed
                    | FailureKind::Protocol
            ),
        }
    }

    /// Whether it is certain that the registry did nothing with the request.
    pub(crate) const fn sent_nothing(&self) -> bool {
        matches!(
            self.kind,
            FailureKind::Connect
                | FailureKind::Forbidden
                | FailureKind::Proxy(_)
                | FailureKind::Unprocessed
                | FailureKind::Timeout(Phase::Connect)
        )
    }
}

impl From<std::io::Error> for Failure {
    /// For errors of local files; a driver names the kinds of its sockets' errors itself.
    fn from(why: std::io::Error) -> Self {
        Self::new(FailureKind::Source, why)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            FailureKind::Connect => "could not connect",
            FailureKind::Forbidden => "connecting there is not allowed",
            FailureKind::Proxy(ProxyFault::Unusable) => "the proxy can't be used",
            FailureKind::Proxy(ProxyFault::Unreachable) => "the proxy can't be reached",
            FailureKind::Proxy(ProxyFault::Silent) => "the proxy does not answer",
            FailureKind::Proxy(ProxyFault::Credentials) => "the proxy wants other credentials",
            FailureKind::Proxy(ProxyFault::Refused) => "the proxy refuses",
            FailureKind::Proxy(ProxyFault::Beyond) => "the proxy did not get through",
            FailureKind::Proxy(ProxyFault::Protocol) => "the proxy does not speak HTTP properly",
            FailureKind::Tls => "TLS failed",
            FailureKind::Timeout(Phase::Connect) => "timed out connecting",
            FailureKind::Timeout(Phase::Head) => "timed out waiting for the reply",
            FailureKind::Timeout(Phase::Body) => "stalled: next to no bytes moved for too long",
            FailureKind::Timeout(Phase::Whole) => "took too long as a whole",
            FailureKind::Cut => "the connection was cut",
            FailureKind::Stale => "the connection, kept from an earlier request, had ended",
            FailureKind::Unprocessed => "the peer did not take the request up",
            FailureKind::Protocol => "the peer does not speak HTTP properly",
            FailureKind::TooLarge => "the reply is too large",
            FailureKind::Source => "reading the local file failed",
            FailureKind::Target => "writing the local file failed",
            FailureKind::GoneBy => "the archive has gone by",
            FailureKind::Mismatch => "the local file's content does not match its digest",
            FailureKind::Panicked => "the driver broke down",
        };
        if self.detail.is_empty() { f.write_str(what) } else { write!(f, "{what}: {}", self.detail) }
    }
}

impl std::error::Error for Failure {}
