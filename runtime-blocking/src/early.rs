//! Sockets that stay readable when they can't be written to any more.
//!
//! A registry that refuses an upload (401, 413) answers and closes while the body is still on its way. The kernel keeps
//! what has been received readable after a reset: so errors of writing a body are swallowed, the rest of the body is
//! skipped, and reading tells how it ended. Without this, ureq loses such answers to "broken pipe".
//!
//! ureq reads the body and writes to the transport on the same thread, in turns, and lets nothing else pass between the
//! two; hence the thread-local state.

use std::cell::Cell;
use std::io::ErrorKind;

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

thread_local! {
    static SENDING: Cell<Sending> = const { Cell::new(Sending::Nothing) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Nothing,
    Body,
    /// The peer takes no more of the body.
    Refused,
}

/// While it lives, what this thread sends is a body.
#[derive(Debug)]
pub(crate) struct SendingBody(());

impl SendingBody {
    pub(crate) fn start() -> Self {
        SENDING.set(Sending::Body);
        Self(())
    }

    /// Whether the peer has stopped taking the body.
    pub(crate) fn refused(&self) -> bool {
        SENDING.get() == Sending::Refused
    }
}

impl Drop for SendingBody {
    fn drop(&mut self) {
        SENDING.set(Sending::Nothing);
    }
}

/// Wraps the connections of the connector before it in [`Early`].
#[derive(Debug)]
pub(crate) struct EarlyConnector;

impl<T: Transport> Connector<T> for EarlyConnector {
    type Out = Early<T>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Early<T>>, Error> {
        Ok(chained.map(|inner| Early { inner, dead: false }))
    }
}

#[derive(Debug)]
pub(crate) struct Early<T> {
    inner: T,
    dead: bool,
}

impl<T: Transport> Transport for Early<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.dead {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(why) if SENDING.get() == Sending::Body && ends_the_body(&why) => {
                self.dead = true;
                SENDING.set(Sending::Refused);
                Ok(())
            }
            other => other,
        }
    }

    fn maybe_await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.maybe_await_input(timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        !self.dead && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn ends_the_body(why: &Error) -> bool {
    match why {
        Error::Io(why) => matches!(why.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
        // A peer that answered and just holds the connection takes nothing more either.
        Error::Timeout(_) => true,
        _ => false,
    }
}
