//! Reply bodies: taken in on the spot, or handed to a blocking thread that writes them to a file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_channel::{Receiver, Sender};
use async_std::task::JoinHandle;
use registry_proto::Digester;
use registry_proto::job::{Collecting, Failure, FailureKind, Filing, Incoming, More, Received};

use crate::disk::LocalDisk;
use crate::perform::Wanted;

/// What is handed to the writing thread at a time, unless that has nothing to do.
const PIECE: usize = 256 << 10;
/// Pieces that may wait between socket and file.
const DEPTH: usize = 2;

/// A reply's body while it comes in.
#[derive(Debug)]
pub(crate) enum Taking {
    Memory(Collecting),
    File(Handing),
}

/// The near end of a writing thread.
#[derive(Debug)]
pub(crate) struct Handing {
    piece: Vec<u8>,
    pieces: Sender<Vec<u8>>,
    /// Pieces that were written, to be filled again.
    used: Receiver<Vec<u8>>,
    thread: JoinHandle<Filed>,
    /// Held until the thread has ended.
    wanted: Wanted,
}

/// What became of a body that went to a file: how far the file got, and what was wrong with it.
pub(crate) type Filed = (Option<Digester>, Result<(), Failure>);

impl Taking {
    pub(crate) fn new(incoming: Incoming) -> Self {
        match incoming {
            Incoming::Memory(collecting) => Self::Memory(collecting),
            Incoming::File(filing) => {
                let (pieces, waiting) = async_channel::bounded(DEPTH);
                let (written, used) = async_channel::bounded(DEPTH + 2);
                let wanted = Wanted::default();
                let unwanted = Arc::clone(&wanted.0);
                let thread = async_std::task::spawn_blocking(move || write(filing, &waiting, &written, &unwanted));
                Self::File(Handing { piece: Vec::new(), pieces, used, thread, wanted })
            }
        }
    }

    /// Takes of the next bytes as many as there is room for, and yields how many that are. Unless there was room for all,
    /// [`hand_over`](Taking::hand_over) makes some.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(usize, More), Failure> {
        match self {
            Self::Memory(collecting) => Ok((bytes.len(), collecting.feed(bytes)?)),
            Self::File(handing) => {
                let amount = bytes.len().min(PIECE - handing.piece.len());
                handing.piece.extend_from_slice(&bytes[..amount]);
                Ok((amount, More::Wanted))
            }
        }
    }

    /// Hands a whole piece over, which may have to wait for the file.
    pub(crate) async fn hand_over(&mut self) -> More {
        match self {
            Self::File(handing) if handing.piece.len() == PIECE => handing.hand_over().await,
            _ => More::Wanted,
        }
    }

    /// The network has nothing at the moment: if the file hasn't either, it gets what there is.
    pub(crate) fn pause(&mut self) {
        if let Self::File(handing) = self
            && handing.pieces.is_empty()
            && !handing.piece.is_empty()
        {
            let piece = handing.next_piece();
            // It is empty, and nobody else fills it; a thread that has stopped says why in the end.
            let _ = handing.pieces.try_send(piece);
        }
    }

    /// The body is over, by its end or because it was `cut`.
    pub(crate) async fn finish(self, cut: Option<Failure>) -> Result<Received, (Failure, Option<Digester>)> {
        let (digester, written) = match self {
            Self::Memory(collecting) => return cut.map_or_else(|| Ok(collecting.finish()), |why| Err((why, None))),
            Self::File(mut handing) => {
                handing.hand_over().await;
                drop(handing.pieces);
                let done = handing.thread.await;
                drop(handing.wanted);
                done
            }
        };
        match (written.err().or(cut), digester) {
            (None, Some(digester)) => Ok(Received::Filed(digester)),
            (None, None) => Err((Failure::new(FailureKind::Panicked, "a file without a digester"), None)),
            (Some(why), digester) => Err((why, digester)),
        }
    }
}

impl Handing {
    async fn hand_over(&mut self) -> More {
        let piece = self.next_piece();
        // A thread that has stopped says why in the end.
        if self.pieces.send(piece).await.is_ok() { More::Wanted } else { More::Unwanted }
    }

    /// The piece as it is. An empty one takes its place, in memory that was in use before if there is some.
    fn next_piece(&mut self) -> Vec<u8> {
        let next = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        std::mem::replace(&mut self.piece, next)
    }
}

/// Until the body is over, or nobody waits for it any more: somebody else may be about to look what the file has.
fn write(filing: Filing, pieces: &Receiver<Vec<u8>>, used: &Sender<Vec<u8>>, unwanted: &AtomicBool) -> Filed {
    let mut writing = match filing.write_to(LocalDisk) {
        Ok(writing) => writing,
        Err(why) => return (None, Err(why)),
    };
    while let Ok(mut piece) = pieces.recv_blocking() {
        if unwanted.load(Ordering::Relaxed) {
            break;
        }
        if let Err(why) = writing.feed(&piece) {
            return (Some(writing.into_digester()), Err(why));
        }
        piece.clear();
        // If nobody wants it, it is gone.
        let _ = used.try_send(piece);
    }
    (Some(writing.into_digester()), Ok(()))
}
