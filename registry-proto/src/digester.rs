//! A running hash that knows how far it has come.

use std::fmt;

use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::spec::{Algorithm, Digest};

/// The hash of the first [`at`](Digester::at) bytes of a blob.
///
/// Feeding is idempotent below the watermark and refused across a gap. One rule covers every way a transfer can go
/// wrong: bytes sent again after a cut are not hashed twice, and bytes that the registry has but the hash has not seen
/// (a lost reply, a restart) are noticed and caught up with before anything is committed.
///
/// ```
/// use registry_proto::Digester;
/// use registry_proto::spec::{Algorithm, Digest};
///
/// let mut running = Digester::new(Algorithm::Sha256);
/// running.feed(0, b"hello ")?;
/// running.feed(3, b"lo world")?; // "lo " was seen already
/// assert!(running.feed(20, b"!").is_err()); // a gap
/// assert_eq!(running.digest(), Digest::of(b"hello world"));
/// # Ok::<(), registry_proto::Gap>(())
/// ```
#[derive(Clone)]
pub struct Digester {
    /// Boxed, since digesters travel with jobs and answers, and a SHA-512 is large.
    hash: Box<Hash>,
    at: u64,
    /// Up to where the body went that it ran along with: less than the hash, where bytes were sent once more.
    body_at: Option<u64>,
}

#[derive(Clone)]
enum Hash {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

/// Bytes were offered from beyond what has been hashed.
///
/// ```
/// use registry_proto::spec::Algorithm;
/// use registry_proto::{Digester, Gap};
///
/// let mut running = Digester::new(Algorithm::Sha256);
/// running.feed(0, b"hello")?;
/// assert_eq!(running.feed(6, b"world"), Err(Gap { at: 5, offset: 6 }));
/// # Ok::<(), Gap>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes from offset {offset} offered to a hash that stands at {at}")]
pub struct Gap {
    /// How far the hash has come.
    pub at: u64,
    /// Where the offered bytes start.
    pub offset: u64,
}

impl Digester {
    /// The hash of nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        let hash = match algorithm {
            Algorithm::Sha256 => Hash::Sha256(Sha256::new()),
            Algorithm::Sha384 => Hash::Sha384(Sha384::new()),
            Algorithm::Sha512 => Hash::Sha512(Sha512::new()),
        };
        Self { hash: Box::new(hash), at: 0, body_at: None }
    }

    /// Takes in `bytes`, which stand at `offset` in the blob. What lies below the watermark is skipped.
    ///
    /// # Errors
    /// [`Gap`] when `offset` lies beyond the watermark; nothing is taken in then.
    pub fn feed(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Gap> {
        let seen = self.at.checked_sub(offset).ok_or(Gap { at: self.at, offset })?;
        let skip = usize::try_from(seen).unwrap_or(usize::MAX).min(bytes.len());
        let fresh = &bytes[skip..];
        match &mut *self.hash {
            Hash::Sha256(hash) => hash.update(fresh),
            Hash::Sha384(hash) => hash.update(fresh),
            Hash::Sha512(hash) => hash.update(fresh),
        }
        self.at += fresh.len() as u64;
        Ok(())
    }

    /// How many bytes have been hashed.
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// With up to where its body went.
    pub(crate) const fn of_body(mut self, at: u64) -> Self {
        self.body_at = Some(at);
        self
    }

    /// Up to where in the blob the body went that it ran along with.
    pub(crate) fn body_at(&self) -> u64 {
        self.body_at.unwrap_or(self.at)
    }

    /// The digest of what has been hashed so far.
    pub fn digest(&self) -> Digest {
        match &*self.hash {
            Hash::Sha256(hash) => Digest::from_hash(Algorithm::Sha256, &hash.clone().finalize()),
            Hash::Sha384(hash) => Digest::from_hash(Algorithm::Sha384, &hash.clone().finalize()),
            Hash::Sha512(hash) => Digest::from_hash(Algorithm::Sha512, &hash.clone().finalize()),
        }
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digester").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However a blob is cut into overlapping pieces, its digest is that of the whole.
        #[test]
        fn overlap_never_changes_the_digest(
            blob in proptest::collection::vec(any::<u8>(), 0..200),
            steps in proptest::collection::vec((0usize..80, 1usize..80), 0..30),
        ) {
            let mut running = Digester::new(Algorithm::Sha512);
            for (back, forth) in steps {
                let at = running.at() as usize;
                let start = at.saturating_sub(back);
                let end = (start + forth).min(blob.len());
                running.feed(start as u64, &blob[start..end.max(start)]).unwrap();
                prop_assert_eq!(running.at() as usize, at.max(end));
            }
            let at = running.at();
            running.feed(at, &blob[at as usize..]).unwrap();
            prop_assert_eq!(running.digest(), Digest::compute(Algorithm::Sha512, &blob));
        }
    }

    #[test]
    fn a_gap_is_refused_and_changes_nothing() {
        let mut running = Digester::new(Algorithm::Sha256);
        running.feed(0, b"abc").unwrap();
        assert_eq!(running.feed(4, b"e"), Err(Gap { at: 3, offset: 4 }));
        assert_eq!(running.digest(), Digest::of(b"abc"));
    }
}
