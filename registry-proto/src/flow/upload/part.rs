//! Which bytes a request carries, and how it carries them.

use super::source::Source;
use super::{Content, State, Upload};
use crate::error::Error;
use crate::flow::Context;
use crate::job::{FileRange, Payload};
use crate::session::UploadPolicy;
use crate::time::Time;

/// How many times the configured size a piece in memory may have for a registry that takes no smaller chunks.
const MOST_PIECES: u64 = 4;

/// Which bytes a request carries, and whether it closes the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) at: u64,
    pub(super) length: u64,
    pub(super) closes: bool,
    pub(super) began: Time,
}

/// How many bytes may have to be sent once more because they went in one request that was cut, of which nothing can be kept.
const AT_RISK: u64 = 64 << 20;

impl Upload {
    /// The first piece can come while the session is being opened.
    pub(super) fn look_ahead(&mut self, cx: &Context<'_>) {
        let length = cx.session.config().piece.get().min(self.size);
        if let Some(source) = &mut self.source {
            source.look_ahead(cx, length);
        }
    }

    /// Whether a part goes in one request that is sent while it is fetched. It has to, if it would not fit into memory and its
    /// registry takes no chunks. Where it could go in chunks as well, it is faster, but a cut costs all of it: what is not too large
    /// for that tries it once.
    pub(super) fn is_to_be_supplied(&self, cx: &mut Context<'_>, part: Part) -> bool {
        let too_large = part.length > cx.session.config().piece.get();
        // (Of what goes by nobody knows the digest yet, so that it can't be announced.)
        let is_known = matches!(self.source, Some(Source::Remote(_)));
        let is_worth_it = part.length <= AT_RISK && !self.tried_whole;
        part.closes && too_large && is_known && (is_worth_it || !self.may_go_in_chunks(cx))
    }

    /// Whether it may be sent in several requests.
    pub(super) fn may_go_in_chunks(&self, cx: &mut Context<'_>) -> bool {
        cx.session.config().upload != UploadPolicy::Monolithic && !self.learned(cx).refuses_chunks
    }

    /// As much of a part as has been fetched by now, with the next piece on its way. `Err`: nothing to send yet, or ever.
    pub(super) fn fetched(&mut self, cx: &mut Context<'_>, part: Part) -> Result<Part, Box<State>> {
        // The registry's least chunk may be larger than our pieces, but not without end: they are in memory.
        let piece = cx.session.config().piece.get();
        let least = self.hints.min.min(piece.saturating_mul(MOST_PIECES));
        let piece = piece.max(least);
        let too_large = part.closes && part.length > piece;
        if too_large && !self.may_go_in_chunks(cx) {
            let (size, asked) = (self.size, self.asked());
            let open = self.source.as_ref().is_some_and(Source::is_open);
            let size = if open { "a size that nobody knows yet".to_owned() } else { format!("{size} bytes") };
            let what = format!("{asked}: a blob of {size} would have to be sent in one request, from memory, where");
            let why = format!(
                "{what} pieces of {piece} bytes are allowed: allow larger ones, or chunks if they are not; or save the archive \
                 to a file, not compressed, and push that"
            );
            return Err(Box::new(self.fail(cx, Error::Misuse(why))));
        }
        let part = Part { closes: part.closes && !too_large, ..part };
        let length = part.length.min(piece);
        let least = if part.closes { length } else { least.min(length) };
        let Some(source) = &mut self.source else { return Ok(part) };
        if part.at < self.digester.at() && !source.holds(part.at) {
            // It has lost bytes that it had confirmed. Fetched again, they could not be checked in the middle of a hash.
            return Err(Box::new(self.start_over(cx)));
        }
        match source.bytes_at(cx, part.at, least, length) {
            Ok(Some(here)) => {
                source.look_ahead(cx, length);
                Ok(Part { length: length.min(here), ..part })
            }
            Ok(None) => Err(Box::new(State::Fetching)),
            Err(why) => Err(Box::new(self.fail(cx, why))),
        }
    }

    /// How large the next chunk is; `None` to send all that is left in the closing request.
    pub(super) fn chunk_size(&self, cx: &mut Context<'_>, policy: UploadPolicy, left: u64) -> Option<u64> {
        let limits = cx.session.config().limits;
        let (acked, size, hints) = (self.acked, self.size, self.hints);
        let learned = self.learned(cx);
        if learned.refuses_chunks {
            return None;
        }
        match policy {
            UploadPolicy::Monolithic => None,
            UploadPolicy::Chunked(chunk)
                if acked == 0 && size <= chunk.get() && learned.takes_whole(size) && hints.allow(size) =>
            {
                None
            }
            UploadPolicy::Chunked(chunk) if learned.takes_whole(chunk.get()) => Some(hints.bound(chunk.get())),
            UploadPolicy::Auto if acked == 0 && learned.takes_whole(left) && hints.allow(left) => None,
            UploadPolicy::Chunked(_) | UploadPolicy::Auto => Some(hints.bound(learned.chunk(&limits))),
        }
    }

    pub(super) fn payload(&mut self, part: Part) -> Payload {
        match &self.content {
            Content::Bytes(bytes) => {
                let (from, to) = (clamp(part.at, bytes.len()), clamp(part.at + part.length, bytes.len()));
                let piece = bytes.slice(from..to);
                self.digester.feed(part.at, &piece).expect("a part starts at or below the digester's watermark");
                Payload::Bytes(piece)
            }
            Content::Remote(_) | Content::Fed => {
                let source = self.source.as_ref().expect("made with the content");
                let piece = source.slice(part.at, part.length);
                self.digester.feed(part.at, &piece).expect("a part starts at or below the digester's watermark");
                Payload::Bytes(piece)
            }
            Content::File { path, range } => {
                let start = range.start + part.at;
                Payload::File(FileRange::new(path.clone(), start..start + part.length, self.blob_part(part.at)))
            }
        }
    }
}

pub(super) fn clamp(at: u64, length: usize) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX).min(length)
}
