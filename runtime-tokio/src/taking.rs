//! Reply bodies: taken in on the spot, or handed to a blocking thread that writes them to a file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use registry_proto::Digester;
use registry_proto::job::{Collecting, Failure, FailureKind, Filing, Incoming, More, Received};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::disk::LocalDisk;
use crate::perform::Wanted;

/// Pieces that may wait between socket and file. They are as large as what the socket had: some 100 KiB at most.
const DEPTH: usize = 8;

/// A reply's body while it comes in.
#[derive(Debug)]
pub(crate) enum Taking {
    Memory(Collecting),
    File { pieces: mpsc::Sender<Bytes>, thread: JoinHandle<Filed>, wanted: Wanted },
}

/// What became of a body that went to a file: how far the file got, and what was wrong with it.
pub(crate) type Filed = (Option<Digester>, Result<(), Failure>);

impl Taking {
    pub(crate) fn new(incoming: Incoming) -> Self {
        match incoming {
            Incoming::Memory(collecting) => Self::Memory(collecting),
            Incoming::File(filing) => {
                let ((pieces, waiting), wanted) = (mpsc::channel(DEPTH), Wanted::default());
                let unwanted = Arc::clone(&wanted.0);
                let thread = tokio::task::spawn_blocking(move || write(filing, waiting, &unwanted));
                Self::File { pieces, thread, wanted }
            }
        }
    }

    /// Takes the next bytes.
    pub(crate) async fn take(&mut self, bytes: Bytes) -> Result<More, Failure> {
        match self {
            Self::Memory(collecting) => collecting.feed(&bytes),
            // A thread that has stopped says why in the end.
            Self::File { pieces, .. } => {
                Ok(if pieces.send(bytes).await.is_ok() { More::Wanted } else { More::Unwanted })
            }
        }
    }

    /// The body is over, by its end or because it was `cut`.
    pub(crate) async fn finish(self, cut: Option<Failure>) -> Result<Received, (Failure, Option<Digester>)> {
        let (digester, written) = match self {
            Self::Memory(collecting) => return cut.map_or_else(|| Ok(collecting.finish()), |why| Err((why, None))),
            Self::File { pieces, thread, wanted } => {
                drop(pieces);
                let done = thread.await;
                drop(wanted);
                done.unwrap_or_else(|why| (None, Err(Failure::new(FailureKind::Panicked, why))))
            }
        };
        match (written.err().or(cut), digester) {
            (None, Some(digester)) => Ok(Received::Filed(digester)),
            (None, None) => Err((Failure::new(FailureKind::Panicked, "a file without a digester"), None)),
            (Some(why), digester) => Err((why, digester)),
        }
    }
}

/// Until the body is over, or nobody waits for it any more: somebody else may be about to look what the file has.
fn write(filing: Filing, mut pieces: mpsc::Receiver<Bytes>, unwanted: &AtomicBool) -> Filed {
    let mut writing = match filing.write_to(LocalDisk) {
        Ok(writing) => writing,
        Err(why) => return (None, Err(why)),
    };
    while let Some(piece) = pieces.blocking_recv() {
        if unwanted.load(Ordering::Relaxed) {
            break;
        }
        if let Err(why) = writing.feed(&piece) {
            return (Some(writing.into_digester()), Err(why));
        }
    }
    (Some(writing.into_digester()), Ok(()))
}
