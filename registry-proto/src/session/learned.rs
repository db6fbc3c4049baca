//! What a registry's answers taught about the way it takes uploads.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits::Limits;
use crate::spec::Origin;

/// A chunk should take about this long: long enough that its overhead is small, short enough that a cut costs little.
const TARGET: Duration = Duration::from_secs(10);

/// The first chunk size tried where nothing is known.
const FIRST_CHUNK: u64 = 16 << 20;

/// How many whole-body uploads may be cut before chunks are tried instead.
const CUTS_BEFORE_CHUNKS: u32 = 2;

/// What was learned about one registry: data, never its vendor's name.
#[derive(Clone, Debug)]
pub(crate) struct Learned {
    chunk: u64,
    /// Bodies of this size or more were refused (413) or cut again and again.
    too_large: Option<u64>,
    cuts: u32,
    chunks_refused: bool,
    /// Uploads in chunks have to end with bytes.
    wants_bytes_at_end: bool,
    /// A blob that is there could not be asked for with `HEAD`.
    heads_lead_nowhere: bool,
}

impl Learned {
    const fn new() -> Self {
        Self {
            chunk: FIRST_CHUNK,
            too_large: None,
            cuts: 0,
            chunks_refused: false,
            wants_bytes_at_end: false,
            heads_lead_nowhere: false,
        }
    }

    /// Whether a body of this size is worth sending in one request.
    pub(crate) fn takes_whole(&self, size: u64) -> bool {
        self.chunks_refused || self.too_large.is_none_or(|limit| size < limit)
    }

    /// Whether the registry refuses `PATCH` altogether (GAR; 405 or 501).
    pub(crate) const fn refuses_chunks(&self) -> bool {
        self.chunks_refused
    }

    pub(crate) const fn refused_chunks(&mut self) {
        self.chunks_refused = true;
    }

    /// Whether the `PUT` that ends an upload in chunks has to carry the last of them (ECR answers 500 to an empty one).
    pub(crate) const fn wants_bytes_at_end(&self) -> bool {
        self.wants_bytes_at_end
    }

    pub(crate) const fn failed_at_an_empty_end(&mut self) {
        self.wants_bytes_at_end = true;
    }

    /// Whether `HEAD` of a blob leads to storage that doesn't take it.
    pub(crate) const fn hides_blobs_from_head(&self) -> bool {
        self.heads_lead_nowhere
    }

    pub(crate) const fn hid_a_blob_from_head(&mut self) {
        self.heads_lead_nowhere = true;
    }

    /// The size of the next chunk, at least `min` where the registry asked for that (`OCI-Chunk-Min-Length`).
    pub(crate) fn chunk(&self, limits: &Limits, min: u64) -> u64 {
        self.chunk.clamp(limits.chunk_min, limits.chunk_max).max(min)
    }

    /// A body of `size` was refused as too large. Whether there is a smaller size left to try.
    pub(crate) fn refused_size(&mut self, limits: &Limits, size: u64) -> bool {
        self.too_large = Some(self.too_large.map_or(size, |known| known.min(size)));
        if size <= limits.chunk_min {
            return false;
        }
        self.chunk = self.chunk.min(size / 2).max(limits.chunk_min);
        true
    }

    /// A request was cut after `got` bytes of its body of `size`.
    pub(crate) fn cut(&mut self, limits: &Limits, got: u64, size: u64) {
        self.cuts += 1;
        if self.cuts >= CUTS_BEFORE_CHUNKS {
            self.too_large = Some(self.too_large.map_or(size, |known| known.min(size)));
            let through = if got > 0 { got.min(size) } else { size };
            self.chunk = self.chunk.min(through / 2).max(limits.chunk_min);
        }
    }

    /// A chunk of `size` went through in `took`.
    pub(crate) fn chunk_went_through(&mut self, limits: &Limits, size: u64, took: Duration) {
        self.cuts = 0;
        let room = self.too_large.map_or(limits.chunk_max, |limit| limit.saturating_sub(1));
        if size >= self.chunk && took < TARGET / 2 {
            self.chunk = self.chunk.saturating_mul(2).min(limits.chunk_max).min(room).max(limits.chunk_min);
        } else if took > TARGET * 2 {
            self.chunk = (self.chunk / 2).max(limits.chunk_min);
        }
    }

    /// A whole body went through.
    pub(crate) const fn went_through(&mut self) {
        self.cuts = 0;
    }
}

/// [`Learned`] by registry.
#[derive(Debug, Default)]
pub(crate) struct Lessons(BTreeMap<Origin, Learned>);

impl Lessons {
    pub(crate) fn of(&mut self, origin: &Origin) -> &mut Learned {
        self.0.entry(origin.clone()).or_insert_with(Learned::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_grows_while_it_is_quick_and_never_past_what_was_refused() {
        let limits = Limits::default();
        let mut learned = Learned::new();
        assert!(learned.takes_whole(1 << 40));
        assert!(learned.refused_size(&limits, 100 << 20));
        assert!(!learned.takes_whole(100 << 20));
        assert!(learned.takes_whole(99 << 20));
        for _ in 0..10 {
            let size = learned.chunk(&limits, 0);
            learned.chunk_went_through(&limits, size, Duration::from_millis(100));
        }
        assert_eq!(learned.chunk(&limits, 0), (100 << 20) - 1);
        learned.chunk_went_through(&limits, 50 << 20, Duration::from_secs(60));
        assert!(learned.chunk(&limits, 0) < 60 << 20);
    }

    #[test]
    fn repeated_cuts_shrink_the_chunk_below_what_got_through() {
        let limits = Limits::default();
        let mut learned = Learned::new();
        learned.cut(&limits, 8 << 20, 1 << 30);
        assert!(learned.takes_whole(1 << 30), "one cut is bad luck");
        learned.cut(&limits, 8 << 20, 1 << 30);
        assert!(!learned.takes_whole(1 << 30));
        assert_eq!(learned.chunk(&limits, 0), 4 << 20);
        assert_eq!(learned.chunk(&limits, 5 << 20), 5 << 20, "the registry's minimum holds");
    }

    #[test]
    fn there_is_an_end_to_shrinking() {
        let limits = Limits::default();
        let mut learned = Learned::new();
        let mut size = 1 << 30;
        let mut steps = 0;
        while learned.refused_size(&limits, size) {
            size = learned.chunk(&limits, 0);
            steps += 1;
        }
        assert_eq!(size, limits.chunk_min);
        assert!(steps < 20);
    }
}
