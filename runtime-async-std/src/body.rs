//! Request bodies: files that are read and hashed on a blocking thread while surf reads them as a stream, and what other jobs supply
//! in the meantime.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use async_channel::{Receiver, Sender};
use async_std::task::JoinHandle;
use bytes::{Buf as _, Bytes};
use futures_util::{AsyncBufRead, AsyncRead, Stream as _};
use registry_proto::Digester;
use registry_proto::job::{Failure, FailureKind, FileRange};

/// One read, one piece for the socket. Below 64 KiB throughput drops; above 256 KiB only memory grows.
const PIECE: usize = 256 << 10;
/// Pieces that may wait between file and socket: one being read, one being sent.
const DEPTH: usize = 2;

/// A piece of a body, on its way to surf.
pub(crate) type Piece = Result<Bytes, Failure>;

/// What a body, its pump and the exchange's time limits share.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    moved: AtomicU64,
    /// The socket wants more, but there is nothing more yet: no fault of the network's.
    waits_for_more: AtomicBool,
}

impl Feed {
    /// How many bytes surf has taken.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether surf waits for more to send.
    pub(crate) fn waits_for_more(&self) -> bool {
        self.waits_for_more.load(Ordering::Relaxed)
    }
}

/// Where a [`FedBody`] comes from: a file, by a blocking thread, or other jobs.
#[derive(Debug)]
pub(crate) struct Pump {
    pieces: Receiver<Piece>,
    thread: Option<JoinHandle<Pumped>>,
}

/// How a pump ended.
#[derive(Debug, Default)]
pub(crate) struct Pumped {
    /// As far as the file was read and hashed.
    pub(crate) digester: Option<Digester>,
    /// What was wrong with the file.
    pub(crate) failure: Option<Failure>,
}

/// What is not in memory, as surf reads bodies.
#[derive(Debug)]
pub(crate) struct FedBody {
    pieces: Pin<Box<Receiver<Piece>>>,
    piece: Bytes,
    left: u64,
    feed: Arc<Feed>,
}

/// Starts to read a file range.
pub(crate) fn start(range: FileRange) -> (FedBody, Pump, Arc<Feed>) {
    let left = range.len();
    let (sender, pieces) = async_channel::bounded(DEPTH);
    fed(pieces, left, Some(async_std::task::spawn_blocking(move || pump(range, &sender))))
}

/// A body of so many bytes, the pieces of which other jobs have.
pub(crate) fn supplied(pieces: Receiver<Piece>, length: u64) -> (FedBody, Pump, Arc<Feed>) {
    fed(pieces, length, None)
}

fn fed(pieces: Receiver<Piece>, left: u64, thread: Option<JoinHandle<Pumped>>) -> (FedBody, Pump, Arc<Feed>) {
    let feed = Arc::new(Feed::default());
    let body = FedBody { pieces: Box::pin(pieces.clone()), piece: Bytes::new(), left, feed: Arc::clone(&feed) };
    (body, Pump { pieces, thread }, feed)
}

fn pump(range: FileRange, sender: &Sender<Piece>) -> Pumped {
    let mut outgoing = match range.open_with(|path| File::open(path)) {
        Ok(outgoing) => outgoing,
        Err(failure) => {
            let _ = sender.send_blocking(Err(failure.clone()));
            return Pumped { digester: None, failure: Some(failure) };
        }
    };
    loop {
        match outgoing.piece(PIECE) {
            Ok(Some(piece)) => {
                if sender.send_blocking(Ok(piece)).is_err() {
                    break; // nobody wants the rest
                }
            }
            Ok(None) => break,
            Err(failure) => {
                let _ = sender.send_blocking(Err(failure.clone()));
                return Pumped { digester: Some(outgoing.into_digester()), failure: Some(failure) };
            }
        }
    }
    Pumped { digester: Some(outgoing.into_digester()), failure: None }
}

impl Pump {
    /// Ends the body, wherever it is, and hands back the digester. A reply may come before the body is sent; the transport
    /// would go on sending for as long as it can.
    pub(crate) async fn stop(mut self) -> Pumped {
        // Closing wakes whoever waits at either end.
        self.pieces.close();
        match &mut self.thread {
            Some(thread) => thread.await,
            None => Pumped::default(),
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // An aborted exchange leaves its file alone at once, not when the transport comes to drop the body.
        self.pieces.close();
    }
}

impl AsyncBufRead for FedBody {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.piece.is_empty() && this.left > 0 {
            let polled = this.pieces.as_mut().poll_next(cx);
            this.feed.waits_for_more.store(polled.is_pending(), Ordering::Relaxed);
            match ready!(polled) {
                Some(Ok(piece)) => this.piece = piece,
                Some(Err(failure)) => return Poll::Ready(Err(io::Error::other(failure))),
                None => {
                    let why = Failure::new(FailureKind::Cut, "the reply came first");
                    return Poll::Ready(Err(io::Error::other(why)));
                }
            }
        }
        Poll::Ready(Ok(&this.piece))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let this = self.get_mut();
        this.piece.advance(amount);
        this.left = this.left.saturating_sub(amount as u64);
        this.feed.moved.fetch_add(amount as u64, Ordering::Relaxed);
    }
}

impl AsyncRead for FedBody {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let piece = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = piece.len().min(to.len());
        to[..amount].copy_from_slice(&piece[..amount]);
        self.consume(amount);
        Poll::Ready(Ok(amount))
    }
}
