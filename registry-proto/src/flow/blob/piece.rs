//! A blob that is handed out piece by piece: what is borne of whoever does so.

use std::ops::Range;

use bytes::Bytes;

use crate::endpoint::{Reply, blob};
use crate::error::Error;
use crate::flow::Context;
use crate::job::FailureKind;

/// How often a piece is asked for whose reply is about other bytes.
const ODD_REPLIES: u32 = 2;

/// What came of asking for pieces so far.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// Replies in a row about other bytes.
    odd: u32,
    /// How often next to nothing came of what was asked for.
    short: u32,
}

impl Pieces {
    /// The bytes of a reply to who wanted these of a blob of `size`, and where they stand. `None`: they are others, but to ask once more
    /// is worth it.
    pub(crate) fn take(
        &mut self,
        reply: &Reply,
        wanted: &Range<u64>,
        size: u64,
    ) -> Result<Option<(u64, Bytes)>, Error> {
        let found = blob::read_piece(reply, wanted, size)?;
        self.odd = if found.is_some() { 0 } else { self.odd + 1 };
        if self.odd >= ODD_REPLIES {
            let what = format!("it was asked for bytes {}-{} of a blob of {size}", wanted.start, wanted.end - 1);
            let told = reply.header("content-range").unwrap_or("no range");
            return Err(reply.broken(format!("{what}, and answered {} with {told}", reply.status)));
        }
        Ok(found)
    }

    /// Less came than was asked for. That is allowed, but not a byte at a time.
    pub(crate) fn fell_short(&mut self, cx: &Context<'_>, reply: &Reply, gained: u64, of: u64) -> Result<(), Error> {
        let config = cx.session.config();
        self.short += u32::from(!config.timeouts.is_ahead(gained, of));
        if self.short > config.retries {
            return Err(reply.broken("it hands out next to nothing of the blob at a time"));
        }
        Ok(())
    }
}

/// Only a registry that hands out more than it was asked for runs into our limit. `otherwise`: what to do about a blob that is larger
/// than a piece.
pub(crate) fn too_large(cx: &Context<'_>, why: Error, size: u64, otherwise: &str) -> Error {
    match why {
        Error::Transport { asked, last, .. } if last.kind() == FailureKind::TooLarge => {
            let piece = cx.session.config().piece;
            let what = if size <= piece.get() {
                format!("it hands out more than the {size} bytes that the blob should have")
            } else {
                format!(
                    "it takes no notice of Range, and the blob of {size} bytes is too large to be held in memory: allow pieces of that \
                     size (`Config::piece`, now {piece} bytes){otherwise}"
                )
            };
            Error::Protocol { asked, what }
        }
        why => why,
    }
}
