//! Content that goes by once. Only what the registry has not confirmed is here: about two pieces.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::error::Error;
use crate::job::{Failure, FailureKind};

/// Pieces between whoever feeds the upload and the registry.
#[derive(Debug)]
pub(in crate::flow::upload) struct Fed {
    /// `None`: nobody knows yet.
    size: Option<u64>,
    /// In order, without gaps; the first begins at `at`.
    pieces: VecDeque<Bytes>,
    at: u64,
    /// Where the last one ends.
    end: u64,
    /// How many bytes the registry takes at least.
    least: u64,
    /// Nothing more will come.
    over: bool,
    /// It was to be taken over from another repository, to which it had gone.
    to_be_mounted: bool,
}

impl Fed {
    pub(super) const fn new(size: Option<u64>) -> Self {
        Self { size, pieces: VecDeque::new(), at: 0, end: 0, least: 0, over: false, to_be_mounted: false }
    }

    /// All of it has gone by.
    pub(super) fn gone(size: u64, to_be_mounted: bool) -> Self {
        Self { over: true, to_be_mounted, ..Self::new(Some(size)) }
    }

    pub(super) const fn holds(&self, at: u64) -> bool {
        self.at <= at && at < self.end
    }

    pub(super) fn bytes_at(&mut self, at: u64, least: u64) -> Result<Option<u64>, Error> {
        if at < self.at || (self.over && at >= self.end) {
            let why = if self.to_be_mounted {
                "the registry does not take it over from the repository that it was sent to; push to one repository after the \
                 other, or save the archive to a file, not compressed, and push that"
            } else {
                "the registry wants bytes of it once more; start the push again: most of what the registry has is not sent \
                 again, and from a tar that is a file, and not compressed, it goes on where it stopped"
            };
            return Err(Error::Local(Failure::new(FailureKind::GoneBy, why)));
        }
        self.let_go(at);
        let left = self.size.map_or(u64::MAX, |size| size.saturating_sub(at));
        let enough = least.max(1).min(left);
        self.least = enough;
        while self.pieces.front().is_some_and(|first| (first.len() as u64) < enough) && self.pieces.len() > 1 {
            let parts: Vec<Bytes> = self.pieces.drain(..2).collect();
            self.pieces.push_front(parts.concat().into());
        }
        // The last bytes wait until it is known that they are the last: there are registries that want to end with some.
        let may_go = |here: &u64| *here >= enough && (self.size.is_some() || at + *here < self.end);
        Ok(self.pieces.front().map(|first| first.len() as u64).filter(may_go))
    }

    /// What comes before `at` is the registry's.
    fn let_go(&mut self, at: u64) {
        while self.at < at {
            let Some(first) = self.pieces.front_mut() else { break };
            let step = first.len().min(usize::try_from(at - self.at).unwrap_or(usize::MAX));
            let _ = first.split_to(step);
            self.at += step as u64;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    pub(super) fn slice(&self, at: u64, length: u64) -> Bytes {
        let first = self.pieces.front().expect("only what is here is asked for");
        let index = |at: u64| usize::try_from(at - self.at).expect("it is within a piece in memory");
        first.slice(index(at)..index(at + length))
    }

    pub(super) fn stop(&mut self) {
        self.over = true;
    }

    pub(super) fn is_hungry(&self, piece: u64) -> bool {
        !self.over
            && self.size.is_none_or(|size| self.end < size)
            && self.end - self.at < piece.max(self.least).saturating_mul(2)
    }

    /// Nothing comes after what has come. How many bytes that is.
    pub(super) const fn end(&mut self) -> u64 {
        self.size = Some(self.end);
        self.end
    }

    pub(super) const fn is_open(&self) -> bool {
        self.size.is_none()
    }

    pub(super) fn feed(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.end += bytes.len() as u64;
        self.pieces.push_back(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_confirmed_is_let_go_and_the_rest_can_be_sent_again() {
        let mut fed = Fed::new(Some(10));
        assert!(fed.is_hungry(3));
        fed.feed(Bytes::from_static(b"abc"));
        fed.feed(Bytes::from_static(b"def"));
        assert!(!fed.is_hungry(3), "two pieces are enough");
        assert_eq!(fed.bytes_at(0, 1).unwrap(), Some(3));
        assert_eq!(fed.bytes_at(2, 1).unwrap(), Some(1), "the registry took a part of the first");
        assert_eq!(&fed.slice(2, 1)[..], b"c");
        assert!(fed.is_hungry(3) && !fed.holds(1));
        assert_eq!(fed.bytes_at(2, 4).unwrap(), Some(4), "it takes no fewer than four");
        assert_eq!(&fed.slice(2, 4)[..], b"cdef");
        assert_eq!(fed.bytes_at(4, 4).unwrap(), None);
        fed.feed(Bytes::from_static(b"ghij"));
        assert_eq!(fed.bytes_at(4, 4).unwrap(), Some(6));
        assert_eq!(fed.bytes_at(8, 4).unwrap(), Some(2), "the last ones may be fewer");
        assert!(fed.bytes_at(7, 1).is_err(), "they have gone by");
        assert!(!fed.is_hungry(3), "that was all");
    }

    #[test]
    fn without_an_end_the_last_bytes_wait_for_it() {
        let mut fed = Fed::new(None);
        fed.feed(Bytes::from_static(b"abc"));
        assert_eq!(fed.bytes_at(0, 1).unwrap(), None, "they may be the last");
        fed.feed(Bytes::from_static(b"de"));
        assert_eq!(fed.bytes_at(0, 1).unwrap(), Some(3));
        assert_eq!(fed.bytes_at(3, 1).unwrap(), None);
        assert!(fed.is_open() && fed.is_hungry(3));
        assert_eq!(fed.end(), 5);
        assert_eq!(fed.bytes_at(3, 4).unwrap(), Some(2));
        assert!(!fed.is_open() && !fed.is_hungry(3));
    }
}
