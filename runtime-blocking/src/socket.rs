//! Sockets that look up: at the time, at whether anybody still wants the answer, and at a peer that takes no more.
//!
//! ureq's own wait for the whole of a buffer to be written, however slowly, and know one time limit at a time; what is
//! under way on them can't be stopped. These here wait in slices instead, and count from the last byte that moved.
//!
//! A registry that refuses an upload (401, 413) answers and closes while the body is still on its way. The kernel keeps
//! what has been received readable after a reset: so errors of writing a body are swallowed, the rest of the body is
//! skipped, and reading tells how it ended. Without this, such answers would be lost to "broken pipe".
//!
//! ureq reads the body and writes to the transport on the same thread, in turns, and lets nothing else pass between the
//! two; hence the thread-local state.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Uri;
use registry_proto::Proxies;
use registry_proto::job::{Failure, Progress, Stage, Timeouts, reachable, share};
use registry_proto::session::Tunnel;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector, Transport,
};
use ureq::{Error, Timeout};

use crate::connect::{failure_of, unconnected};
use crate::perform::{Stop, aborted};

/// How long a socket waits without looking up.
const SLICE: Duration = Duration::from_millis(100);
/// How long an answer may take that must have come before: reading finds it or doesn't.
const AT_ONCE: Duration = Duration::from_millis(20);

thread_local! {
    static SENDING: Cell<Sending> = const { Cell::new(Sending::Nothing) };
    /// How the body that is being sent gets ahead.
    static PROGRESS: Cell<Option<Progress>> = const { Cell::new(None) };
    static STOP: RefCell<Option<Stop>> = const { RefCell::new(None) };
    /// A connection that was kept has ended before anything was heard on it.
    static STALE: Cell<bool> = const { Cell::new(false) };
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
    pub(crate) fn start(limits: Timeouts) -> Self {
        SENDING.set(Sending::Body);
        PROGRESS.set(Some(Progress::new(limits)));
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
        PROGRESS.set(None);
    }
}

/// While it lives, whatever this thread waits for ends when the flag is set.
#[derive(Debug)]
pub(crate) struct Stoppable(());

impl Stoppable {
    pub(crate) fn by(stop: &Stop) -> Self {
        STOP.set(Some(Arc::clone(stop)));
        STALE.set(false);
        Self(())
    }

    /// Whether a connection that was kept has ended, since then, before anything was heard on it.
    pub(crate) fn met_a_stale_connection(&self) -> bool {
        STALE.get()
    }
}

impl Drop for Stoppable {
    fn drop(&mut self) {
        STOP.set(None);
    }
}

fn check_stop() -> Result<(), Error> {
    let stopped = STOP.with_borrow(|stop| stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)));
    if stopped { Err(io::Error::other(aborted()).into()) } else { Ok(()) }
}

/// TCP, through proxies where there are any, TLS where it is wanted, and nothing of a body that is refused.
pub(crate) fn connector(proxies: &Arc<Proxies>) -> impl Connector {
    SocketConnector { proxies: Arc::clone(proxies) }.chain(HandshakingConnector::default()).chain(SkippingConnector)
}

/// Opens [`Socket`]s.
#[derive(Debug)]
struct SocketConnector {
    proxies: Arc<Proxies>,
}

impl Connector for SocketConnector {
    type Out = Socket;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Socket>, Error> {
        let limit = details.timeout.not_zero().map(|limit| *limit);
        let Some(mut tunnel) = self.proxies.tunnel_to(details.uri).map_err(io::Error::other)? else {
            return tcp(details.uri, details, limit).map(Some);
        };
        let (began, limit) = (Instant::now(), limit.map(|limit| tunnel.patience(limit)));
        let mut socket = tcp(tunnel.url(), details, limit).map_err(|why| match why {
            Error::Timeout(_) => io::Error::other(tunnel.late()),
            why => io::Error::other(tunnel.unreachable(&failure_of(&why))),
        })?;
        socket.open(&mut tunnel, began, limit).map_err(io::Error::other)?;
        Ok(Some(socket))
    }
}

/// A connection to one of the addresses that were found for the host of this URL.
fn tcp(uri: &Uri, details: &ConnectionDetails<'_>, limit: Option<Duration>) -> Result<Socket, Error> {
    let host = uri.host().unwrap_or_default();
    let addresses = reachable(host, details.addrs.iter().copied()).map_err(io::Error::other)?;
    let stream = any_of(&addresses, limit)?;
    // Without it, small requests would wait for one another's acknowledgements.
    stream.set_nodelay(true)?;
    let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
    Ok(Socket { stream, buffers, end: None, read_limit: None, write_limit: None })
}

/// A connection to the first of these addresses that lets one in. Each has its share of the time, so that one that swallows everything
/// leaves some for the others.
fn any_of(addresses: &[SocketAddr], limit: Option<Duration>) -> Result<TcpStream, Error> {
    let began = Instant::now();
    let mut last = Error::HostNotFound;
    for (tried, address) in addresses.iter().enumerate() {
        check_stop()?;
        let connecting = match limit {
            None => TcpStream::connect(address),
            Some(limit) => {
                let left = limit.saturating_sub(began.elapsed());
                TcpStream::connect_timeout(address, share(left, addresses.len() - tried))
            }
        };
        last = match connecting {
            Ok(stream) => return Ok(stream),
            Err(why) if is_pause(&why) => Error::Timeout(Timeout::Connect),
            Err(why) => unconnected(Stage::Connecting, why.into()),
        };
    }
    Err(last)
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    buffers: LazyBuffers,
    end: Option<End>,
    /// The limits that the system knows, to tell it only of other ones.
    read_limit: Option<Duration>,
    write_limit: Option<Duration>,
}

/// Why nothing more is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer reset the connection.
    Reset,
    /// The peer took nothing for too long. Only an answer that is there already explains that.
    Stalled,
}

impl Socket {
    /// Opens the way through a proxy, to which this is the connection.
    fn open(&mut self, tunnel: &mut Tunnel, began: Instant, limit: Option<Duration>) -> Result<(), Failure> {
        let left = || limit.map(|limit| limit.saturating_sub(began.elapsed()));
        self.limit_writing(left().unwrap_or(SLICE).max(SLICE)).map_err(|why| tunnel.cut(why))?;
        self.stream.write_all(tunnel.request()).map_err(|why| tunnel.cut(why))?;
        let mut piece = [0; 1024];
        loop {
            check_stop().map_err(|why| failure_of(&why))?;
            let slice = slice(left()).ok_or_else(|| tunnel.late())?;
            self.limit_reading(slice).map_err(|why| tunnel.cut(why))?;
            match self.stream.read(&mut piece) {
                Ok(got) if tunnel.receive(&piece[..got])? => return Ok(()),
                Ok(_) => {}
                Err(why) if is_pause(&why) => {}
                Err(why) => return Err(tunnel.cut(why)),
            }
        }
    }

    fn limit_reading(&mut self, limit: Duration) -> io::Result<()> {
        if self.read_limit != Some(limit) {
            self.stream.set_read_timeout(Some(limit))?;
            self.read_limit = Some(limit);
        }
        Ok(())
    }

    fn limit_writing(&mut self, limit: Duration) -> io::Result<()> {
        if self.write_limit != Some(limit) {
            self.stream.set_write_timeout(Some(limit))?;
            self.write_limit = Some(limit);
        }
        Ok(())
    }

    fn write(&mut self, amount: usize, limit: NextTimeout) -> Result<(), Error> {
        let limit_at = limit.not_zero();
        let (mut sent, mut moved) = (0, Instant::now());
        // Of a body from one write to the next: a peer may take a little of each.
        let mut progress = PROGRESS.get();
        while sent < amount {
            check_stop()?;
            let left = limit_at.map(|limit| limit.saturating_sub(moved.elapsed()));
            let patience = progress.map(|progress| progress.patience().saturating_sub(moved.elapsed()));
            let slice = slice(left.into_iter().chain(patience).min());
            let Some(slice) = slice else { return Err(Error::Timeout(limit.reason)) };
            self.limit_writing(slice)?;
            match self.stream.write(&self.buffers.output()[sent..amount]) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(more) => {
                    if let Some(progress) = &mut progress {
                        progress.moved(more as u64, moved.elapsed());
                        PROGRESS.set(Some(*progress));
                    }
                    (sent, moved) = (sent + more, Instant::now());
                }
                Err(why) if is_pause(&why) => {}
                Err(why) => return Err(why.into()),
            }
        }
        Ok(())
    }
}

/// How long to wait next, of the time that is left; `None` when none is.
fn slice(left: Option<Duration>) -> Option<Duration> {
    match left {
        None => Some(SLICE),
        Some(left) if left.is_zero() => None,
        Some(left) => Some(left.min(SLICE).max(Duration::from_millis(1))),
    }
}

fn is_pause(why: &io::Error) -> bool {
    matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Whether a limit is a phase's own, to which the limit of single reads and writes has nothing to add.
const fn is_of_a_phase(limit: NextTimeout) -> bool {
    matches!(limit.reason, Timeout::Resolve | Timeout::Connect | Timeout::RecvResponse)
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.end.is_some() {
            return Ok(());
        }
        let limit = if is_of_a_phase(timeout) { timeout } else { timeout.for_write() };
        let written = self.write(amount, limit);
        let end = match &written {
            Err(Error::Io(why)) if matches!(why.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                End::Reset
            }
            Err(Error::Timeout(Timeout::PerWrite)) => End::Stalled,
            _ => return written,
        };
        if SENDING.get() != Sending::Body {
            return written;
        }
        self.end = Some(end);
        SENDING.set(Sending::Refused);
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let mut limit = if is_of_a_phase(timeout) { timeout } else { timeout.for_read() };
        if self.end == Some(End::Stalled) {
            (limit.after, limit.reason) = (AT_ONCE.into(), Timeout::PerWrite);
        }
        let limit_at = limit.not_zero();
        let began = Instant::now();
        loop {
            check_stop()?;
            let slice = slice(limit_at.map(|limit| limit.saturating_sub(began.elapsed())));
            let Some(slice) = slice else { return Err(Error::Timeout(limit.reason)) };
            self.limit_reading(slice)?;
            match self.stream.read(self.buffers.input_append_buf()) {
                Ok(got) => {
                    self.buffers.input_appended(got);
                    return Ok(got > 0);
                }
                Err(why) if is_pause(&why) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        // A connection that waits for its next request has nothing to say: bytes are an answer that nobody asked for.
        let silent = || {
            self.stream.set_nonblocking(true)?;
            let silent = matches!(self.stream.peek(&mut [0]), Err(why) if why.kind() == ErrorKind::WouldBlock);
            self.stream.set_nonblocking(false)?;
            Ok::<bool, io::Error>(silent)
        };
        self.end.is_none() && silent().unwrap_or(false)
    }
}

/// TLS where it is wanted. Whatever goes wrong with the line while it is agreed on, nothing was sent yet.
#[derive(Debug, Default)]
struct HandshakingConnector(RustlsConnector);

impl<T: Transport> Connector<T> for HandshakingConnector {
    type Out = <RustlsConnector as Connector<T>>::Out;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Self::Out>, Error> {
        self.0.connect(details, chained).map_err(|why| unconnected(Stage::Handshaking, why))
    }
}

/// Wraps connections in [`Skipping`].
#[derive(Debug)]
struct SkippingConnector;

impl<T: Transport> Connector<T> for SkippingConnector {
    type Out = Skipping<T>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Skipping<T>>, Error> {
        Ok(chained.map(|transport| Skipping { transport, resting: false }))
    }
}

/// Spares TLS what is left of a refused body, and knows what was heard since the connection was kept.
#[derive(Debug)]
struct Skipping<T> {
    transport: T,
    /// It was kept, and nothing was heard on it since.
    resting: bool,
}

impl<T> Skipping<T> {
    /// How waiting for more ended.
    fn heard(&mut self, came: Result<bool, Error>) -> Result<bool, Error> {
        match &came {
            Ok(true) => self.resting = false,
            Ok(false) | Err(Error::Io(_)) if self.resting => STALE.set(true),
            _ => {}
        }
        came
    }
}

impl<T: Transport> Transport for Skipping<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if SENDING.get() == Sending::Refused {
            return Ok(());
        }
        let sent = self.transport.transmit_output(amount, timeout);
        if self.resting && matches!(sent, Err(Error::Io(_))) {
            STALE.set(true);
        }
        sent
    }

    fn maybe_await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let came = self.transport.maybe_await_input(timeout);
        self.heard(came)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let came = self.transport.await_input(timeout);
        self.heard(came)
    }

    fn is_open(&mut self) -> bool {
        // ureq asks when it keeps a connection, and once more before it is used again.
        self.resting = true;
        self.transport.is_open()
    }

    fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A listener whose backlog is full.
    fn deaf() -> (TcpListener, Vec<TcpStream>) {
        let deaf = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = deaf.local_addr().expect("it is bound");
        let filling = std::iter::repeat_with(|| TcpStream::connect_timeout(&address, Duration::from_millis(200)));
        let waiting = filling.map_while(Result::ok).collect();
        (deaf, waiting)
    }

    #[test]
    fn one_dead_address_leaves_time_for_the_others() {
        let (deaf, _waiting) = deaf();
        let live = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let addresses = [&deaf, &live].map(|listener| listener.local_addr().expect("it is bound"));
        let stream = any_of(&addresses, Some(Duration::from_secs(2))).expect("one lets in");
        assert_eq!(stream.peer_addr().expect("it is connected"), addresses[1]);
    }
}
