//! What requests go over: connections that can be hung up on, that know whether they rested, and that hear an early answer.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use http::Extensions;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection, capture_connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// How much is read at first from a connection that was kept.
const FIRST_READ: usize = 4 << 10;

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
    pub(crate) fn of<B>(request: &mut http::Request<B>) -> Self {
        Self { captured: capture_connection(request), keep: false }
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

/// A connection that holds one of its host's places.
#[derive(Debug)]
pub(crate) struct Limited {
    stream: MaybeHttpsStream<Early>,
    hangup: Arc<Hangup>,
    _place: OwnedSemaphorePermit,
}

impl Limited {
    pub(crate) fn new(stream: MaybeHttpsStream<Early>, place: OwnedSemaphorePermit) -> Self {
        Self { stream, hangup: Arc::default(), _place: place }
    }
}

impl Connection for Limited {
    fn connected(&self) -> Connected {
        let connected = self.stream.connected();
        // Other requests share an HTTP/2 connection, which can drop one of them without ending.
        if connected.is_negotiated_h2() { connected } else { connected.extra(Arc::clone(&self.hangup)) }
    }
}

impl Read for Limited {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.hangup.check(cx)?;
        if !self.hangup.resting.load(Ordering::SeqCst) {
            return Pin::new(&mut self.stream).poll_read(cx, to);
        }
        // Only of memory of our own can be told whether there is more in it afterwards.
        let mut first = [0; FIRST_READ];
        let room = to.remaining().min(FIRST_READ);
        let mut first = ReadBuf::new(&mut first[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, first.unfilled()))?;
        if !first.filled().is_empty() {
            self.hangup.resting.store(false, Ordering::SeqCst);
        }
        to.put_slice(first.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Limited {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.hangup.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.hangup.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hangup.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS would say goodbye first, to a peer that may take nothing any more.
        self.hangup.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A socket that stays readable when it can't be written to any more.
///
/// A registry that refuses an upload (401, 413) answers and closes while the body is still on its way. The kernel keeps
/// what has been received readable after a reset: so errors of writing are swallowed, and reading tells how it ended.
/// Without this, half of such answers are lost to "broken pipe".
#[derive(Debug)]
pub(crate) struct Early {
    stream: TokioIo<TcpStream>,
    dead: bool,
}

impl Early {
    pub(crate) const fn new(stream: TokioIo<TcpStream>) -> Self {
        Self { stream, dead: false }
    }

    fn soften(&mut self, written: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(why)) if matches!(why.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                self.dead = true;
                Poll::Ready(Ok(length))
            }
            written => written,
        }
    }
}

impl Connection for Early {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl Read for Early {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl Write for Early {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.dead {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.soften(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.dead {
            return Poll::Ready(Ok(length));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.soften(written, length)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
