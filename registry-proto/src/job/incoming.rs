//! Reply bodies: where they go and how much of them is taken.

use bytes::{Bytes, BytesMut};

use crate::job::{Failure, FailureKind};

/// Which [`Sink`] a reply's body goes to, decided by its head alone. Pure data that travels with the job, so that a
/// driver neither looks at a status nor asks the flow in the middle of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    success: Sink,
    error_limit: usize,
}

/// What happens to a reply's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Nobody wants it: it is read to its end so that the connection can be used again, or up to `limit` bytes, after
    /// which the connection is closed.
    Discard {
        /// How many bytes are worth reading for the sake of a connection.
        limit: u64,
    },
    /// It is collected in memory; past `limit` bytes the exchange fails with [`FailureKind::TooLarge`].
    Collect {
        /// The most that is kept.
        limit: usize,
    },
}

impl Plan {
    /// Bodies of 2xx replies go to `success`; of the others at most `error_limit` bytes are kept, since all that they
    /// can hold is an explanation.
    pub const fn new(success: Sink, error_limit: usize) -> Self {
        Self { success, error_limit }
    }

    /// Where the body of the reply with this head goes.
    pub fn sink(self, head: &http::response::Parts) -> Incoming {
        let (sink, truncate) = if head.status.is_success() {
            (self.success, false)
        } else {
            (Sink::Collect { limit: self.error_limit }, true)
        };
        Incoming { sink, truncate, taken: 0, bytes: BytesMut::new() }
    }
}

/// A reply body as it comes in.
///
/// ```
/// use registry_proto::job::{Plan, Received, Sink};
///
/// let (head, ()) = http::Response::new(()).into_parts();
/// let mut body = Plan::new(Sink::Collect { limit: 8 }, 64).sink(&head);
/// body.feed(b"hell")?;
/// body.feed(b"o")?;
/// assert_eq!(body.finish(), Received::Collected("hello".into()));
/// # Ok::<(), registry_proto::job::Failure>(())
/// ```
#[derive(Debug)]
pub struct Incoming {
    sink: Sink,
    /// Keep the beginning instead of failing: half an error message is better than none.
    truncate: bool,
    taken: u64,
    bytes: BytesMut,
}

/// Whether a driver should go on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// Go on to the end of the body.
    Wanted,
    /// Stop, and close the connection: the rest is not worth reading.
    Unwanted,
}

/// What became of a reply's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It was thrown away.
    Discarded,
    /// It is here.
    Collected(Bytes),
}

impl Received {
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Discarded => Bytes::new(),
            Self::Collected(bytes) => bytes,
        }
    }
}

impl Incoming {
    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// [`FailureKind::TooLarge`] when the body is over its limit; the connection must be closed then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<More, Failure> {
        self.taken += bytes.len() as u64;
        match self.sink {
            Sink::Discard { limit } => Ok(if self.taken <= limit { More::Wanted } else { More::Unwanted }),
            Sink::Collect { limit } => {
                let room = limit - self.bytes.len();
                self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
                match (bytes.len() <= room, self.truncate) {
                    (true, _) => Ok(More::Wanted),
                    (false, true) => Ok(More::Unwanted),
                    (false, false) => Err(Failure::new(FailureKind::TooLarge, format_args!("more than {limit} bytes"))),
                }
            }
        }
    }

    /// The body is over.
    pub fn finish(self) -> Received {
        match self.sink {
            Sink::Discard { .. } => Received::Discarded,
            Sink::Collect { .. } => Received::Collected(self.bytes.freeze()),
        }
    }
}
