//! Sockets of async-std as hyper wants them.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use async_std::net::TcpStream;
use futures_rustls::client::TlsStream;
use futures_util::task::AtomicWaker;
use futures_util::{AsyncRead, AsyncWrite};
use http::Extensions;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection, capture_connection};

/// What is read from a socket at a time, at most.
const SCRATCH: usize = 256 << 10;

/// A socket that stays readable when it can't be written to any more.
///
/// A registry that refuses an upload (401, 413) answers and closes while the body is still on its way. The kernel keeps
/// what has been received readable after a reset: so errors of writing are swallowed, and reading tells how it ended.
/// Without this, half of such answers are lost to "broken pipe".
#[derive(Debug)]
pub(crate) struct Early {
    stream: TcpStream,
    dead: bool,
}

impl Early {
    pub(crate) const fn new(stream: TcpStream) -> Self {
        Self { stream, dead: false }
    }
}

impl AsyncRead for Early {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl AsyncWrite for Early {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.dead {
            return Poll::Ready(Ok(bytes.len()));
        }
        match ready!(Pin::new(&mut self.stream).poll_write(cx, bytes)) {
            Err(why) if matches!(why.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                self.dead = true;
                Poll::Ready(Ok(bytes.len()))
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// A connection for hyper, with the place it takes among its host's.
#[derive(Debug)]
pub(crate) struct Conn {
    io: Io,
    scratch: Vec<u8>,
    hangup: Arc<Hangup>,
    _place: Place,
}

/// The connection that a request goes over, once there is one.
///
/// A peer that answers early or says nothing, and holds the connection without reading, would keep hyper writing for ever,
/// and the connection in its place. Unless [`Line::keep`] is called, the connection is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Line {
    captured: CaptureConnection,
    keep: bool,
}

impl Line {
    /// A line, and what hyper has to find with the request to tell of its connection.
    pub(crate) fn new() -> (Self, Extensions) {
        let mut request = http::Request::new(());
        let captured = capture_connection(&mut request);
        (Self { captured, keep: false }, std::mem::take(request.extensions_mut()))
    }

    /// Resolves when there is a connection; never if there will be none.
    pub(crate) async fn connected(&mut self) {
        drop(self.captured.wait_for_connection_metadata().await);
    }

    /// The request went out whole: the connection is as good as new.
    pub(crate) const fn keep(&mut self) {
        self.keep = true;
    }

    /// Whether the connection was kept from an earlier request, and nothing was heard on it since.
    pub(crate) fn was_resting(&self) -> bool {
        self.hangup().is_some_and(|hangup| hangup.resting.load(Ordering::SeqCst))
    }

    /// (Of an HTTP/2 connection there is none.)
    fn hangup(&self) -> Option<Arc<Hangup>> {
        let mut extensions = Extensions::new();
        self.captured.connection_metadata().as_ref()?.get_extras(&mut extensions);
        extensions.remove()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let hangup = self.hangup();
        if self.keep {
            if let Some(hangup) = hangup {
                hangup.resting.store(true, Ordering::SeqCst);
            }
            return;
        }
        if let Some(connected) = self.captured.connection_metadata().as_ref() {
            // Its reply may have come just now, unheard, and the connection be about to serve somebody else.
            connected.poison();
        }
        if let Some(hangup) = hangup {
            hangup.over.store(true, Ordering::SeqCst);
            hangup.task.wake();
        }
    }
}

/// How a [`Line`] reaches its connection.
#[derive(Debug, Default)]
struct Hangup {
    over: AtomicBool,
    /// A request on it has ended well, and nothing was read from it since.
    resting: AtomicBool,
    /// hyper's, which reads and writes.
    task: AtomicWaker,
}

impl Hangup {
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.task.register(cx.waker());
        if self.over.load(Ordering::SeqCst) { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

/// Gives a place back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(pub(crate) Arc<async_channel::Receiver<()>>);

impl Drop for Place {
    fn drop(&mut self) {
        // Each place is a message in the channel; taking it out makes room for the next.
        let _ = self.0.try_recv();
    }
}

#[derive(Debug)]
enum Io {
    Plain(Early),
    Tls(Box<TlsStream<Early>>),
}

impl Conn {
    pub(crate) fn plain(stream: Early, place: Place) -> Self {
        Self { io: Io::Plain(stream), scratch: Vec::new(), hangup: Arc::default(), _place: place }
    }

    pub(crate) fn tls(stream: TlsStream<Early>, place: Place) -> Self {
        Self { io: Io::Tls(Box::new(stream)), scratch: Vec::new(), hangup: Arc::default(), _place: place }
    }
}

impl Connection for Conn {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        match &self.io {
            // Other requests share an HTTP/2 connection, which can drop one of them without ending.
            Io::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => connected.negotiated_h2(),
            _ => connected.extra(Arc::clone(&self.hangup)),
        }
    }
}

impl Read for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        // hyper lends memory that is not initialised, async-std wants it to be; without `unsafe` that takes a copy.
        let this = self.get_mut();
        this.hangup.check(cx)?;
        let room = to.remaining().min(SCRATCH);
        // hyper wants more the more there is: connections for small replies stay small.
        if this.scratch.len() < room {
            this.scratch.resize(room, 0);
        }
        let scratch = &mut this.scratch[..room];
        let got = ready!(match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, scratch),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, scratch),
        })?;
        if got > 0 {
            this.hangup.resting.store(false, Ordering::SeqCst);
        }
        to.put_slice(&scratch[..got]);
        Poll::Ready(Ok(()))
    }
}

impl Write for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.hangup.check(cx)?;
        match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hangup.check(cx)?;
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS would say goodbye first, to a peer that may take nothing any more.
        self.hangup.check(cx)?;
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_close(cx),
            Io::Tls(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}
