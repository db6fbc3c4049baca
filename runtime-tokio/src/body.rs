//! Request bodies: files that are read and hashed on a blocking thread while hyper writes them to the socket, and what other
//! jobs supply in the meantime.

use std::fs::File;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use registry_proto::Digester;
use registry_proto::job::{Failure, FailureKind, FileRange, Payload};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// One read, one piece for the socket. Below 64 KiB throughput drops; above 256 KiB only memory grows.
const PIECE: usize = 256 << 10;
/// Pieces that may wait between file and socket: one being read, one being sent.
const DEPTH: usize = 2;

/// A request's body as hyper takes it.
#[derive(Debug)]
pub(crate) enum OutgoingBody {
    /// All of it, in memory.
    Bytes(Option<Bytes>),
    /// Fed by a [`Pump`], or by other jobs.
    Fed { feed: Arc<Feed>, left: u64, supplied: bool },
}

/// A piece of a body, on its way to hyper.
pub(crate) type Piece = Result<Bytes, Failure>;

/// What a body, its pump and the exchange's time limits share.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    state: Mutex<FeedState>,
    moved: AtomicU64,
    /// hyper wants more, but there is nothing more yet: no fault of the network's.
    waits_for_more: AtomicBool,
}

#[derive(Debug, Default)]
struct FeedState {
    pieces: Option<mpsc::Receiver<Piece>>,
    waker: Option<Waker>,
}

/// Where a body comes from that is not in memory: a file, by a blocking thread, or other jobs.
#[derive(Debug)]
pub(crate) struct Pump {
    feed: Arc<Feed>,
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

impl OutgoingBody {
    /// The body for a payload, and what feeds it if it is not in memory; `supplied` is where its pieces come from if other jobs have
    /// them.
    pub(crate) fn new(payload: Payload, supplied: Option<mpsc::Receiver<Piece>>) -> (Self, Option<Pump>) {
        let (left, supplied_by_jobs) = (payload.len(), matches!(payload, Payload::Supplied(_)));
        let fed = |pieces, thread| {
            let feed = Arc::new(Feed::default());
            feed.lock().pieces = pieces;
            (Self::Fed { feed: Arc::clone(&feed), left, supplied: supplied_by_jobs }, Some(Pump { feed, thread }))
        };
        match payload {
            Payload::Empty => (Self::Bytes(None), None),
            Payload::Bytes(bytes) => (Self::Bytes(Some(bytes)), None),
            Payload::File(range) => {
                let (sender, pieces) = mpsc::channel(DEPTH);
                fed(Some(pieces), Some(tokio::task::spawn_blocking(move || pump(range, &sender))))
            }
            Payload::Supplied(_) => fed(supplied, None),
        }
    }

    /// Whether it comes from other jobs.
    pub(crate) const fn is_supplied(&self) -> bool {
        matches!(self, Self::Fed { supplied: true, .. })
    }
}

fn pump(range: FileRange, sender: &mpsc::Sender<Piece>) -> Pumped {
    let mut outgoing = match range.open_with(|path| File::open(path)) {
        Ok(outgoing) => outgoing,
        Err(failure) => {
            let _ = sender.blocking_send(Err(failure.clone()));
            return Pumped { digester: None, failure: Some(failure) };
        }
    };
    loop {
        match outgoing.piece(PIECE) {
            Ok(Some(piece)) => {
                if sender.blocking_send(Ok(piece)).is_err() {
                    break; // nobody wants the rest
                }
            }
            Ok(None) => break,
            Err(failure) => {
                let _ = sender.blocking_send(Err(failure.clone()));
                return Pumped { digester: Some(outgoing.into_digester()), failure: Some(failure) };
            }
        }
    }
    Pumped { digester: Some(outgoing.into_digester()), failure: None }
}

impl Pump {
    pub(crate) const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Ends the body, wherever it is, and hands back the digester. A reply may come before the body is sent; hyper would
    /// go on sending for as long as it can.
    pub(crate) async fn stop(mut self) -> Pumped {
        self.feed.stop();
        let Some(thread) = &mut self.thread else { return Pumped::default() };
        thread
            .await
            .unwrap_or_else(|why| Pumped { digester: None, failure: Some(Failure::new(FailureKind::Panicked, why)) })
    }
}

impl Feed {
    fn lock(&self) -> std::sync::MutexGuard<'_, FeedState> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes hyper has taken.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether hyper waits for more to send.
    pub(crate) fn waits_for_more(&self) -> bool {
        self.waits_for_more.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        let mut state = self.lock();
        state.pieces = None;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.feed.stop();
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.get_mut() {
            Self::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Fed { left: 0, .. } => Poll::Ready(None),
            Self::Fed { feed, left, .. } => {
                let mut state = feed.lock();
                let Some(pieces) = &mut state.pieces else {
                    return Poll::Ready(Some(Err(Failure::new(FailureKind::Cut, "the reply came first"))));
                };
                let polled = pieces.poll_recv(cx);
                feed.waits_for_more.store(polled.is_pending(), Ordering::Relaxed);
                match polled {
                    Poll::Pending => {
                        state.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                    Poll::Ready(Some(Ok(piece))) => {
                        let length = piece.len() as u64;
                        feed.moved.fetch_add(length, Ordering::Relaxed);
                        *left = left.saturating_sub(length);
                        // hyper may not ask again while the socket is full: this is how it is woken when the body is stopped.
                        state.waker = Some(cx.waker().clone());
                        Poll::Ready(Some(Ok(Frame::data(piece))))
                    }
                    Poll::Ready(Some(Err(failure))) => Poll::Ready(Some(Err(failure))),
                    Poll::Ready(None) => {
                        Poll::Ready(Some(Err(Failure::new(FailureKind::Source, "the body ended early"))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_none(),
            Self::Fed { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Fed { left, .. } => *left,
        })
    }
}
