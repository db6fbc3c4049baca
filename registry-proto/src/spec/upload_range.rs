//! How far an upload has come: `Content-Range` as we send it, `Range` in every dialect that registries answer in (§1.9).

use std::fmt;

/// The bytes of a chunk as `Content-Range` names them: `first-last`, without unit and total.
///
/// ```
/// use registry_proto::spec::UploadRange;
///
/// let second = UploadRange::new(1024, 512).expect("it has bytes");
/// assert_eq!(second.to_string(), "1024-1535");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadRange {
    first: u64,
    last: u64,
}

impl UploadRange {
    /// The range of `length` bytes from `first` on; `None` for no bytes, which it can't express.
    pub fn new(first: u64, length: u64) -> Option<Self> {
        let last = first.checked_add(length.checked_sub(1)?)?;
        Some(Self { first, last })
    }
}

impl fmt::Display for UploadRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// How many bytes a registry holds after a chunk, by its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckedOffset {
    /// So many.
    At(u64),
    /// The reply doesn't say anything useful: what was sent counts.
    Unknown,
    /// More than it was sent.
    Forward(u64),
}

/// The last byte that a `Range` header names; `Some(None)` for the ways of saying "none".
fn last_byte(header: &str) -> Option<Option<u64>> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches(['=', ' ']));
    if text == "0--1" {
        return Some(None); // Quay, Gitea and Cloudflare's, for an empty upload
    }
    let (first, last) = text.split_once('-')?;
    (first.trim() == "0").then_some(())?;
    Some(Some(last.trim().parse().ok()?))
}

/// What the reply to a chunk of `length` bytes from `start` on says.
///
/// Only a prefix of the chunk or all of it is believed. Several registries say something stale (ECR), something about this
/// chunk only (zot), or one too many (Quay): the digest is what guards against losing bytes, not this header.
///
/// ```
/// use registry_proto::spec::{AckedOffset, acknowledged};
///
/// assert_eq!(acknowledged(0, 10, Some("0-9")), AckedOffset::At(10));
/// assert_eq!(acknowledged(10, 10, Some("bytes=0-14")), AckedOffset::At(15), "half of it");
/// assert_eq!(acknowledged(10, 10, None), AckedOffset::Unknown);
/// ```
pub fn acknowledged(start: u64, length: u64, header: Option<&str>) -> AckedOffset {
    let end = start.saturating_add(length);
    let Some(Some(last)) = header.and_then(last_byte) else { return AckedOffset::Unknown };
    // The last chunk's own bytes (zot), which look like a part of it where it is larger than all before.
    if start > 0 && last.checked_add(1) == Some(length) {
        return AckedOffset::Unknown;
    }
    // `0-0` means one byte or none, so it means nothing.
    if last == 0 && end > 1 {
        return AckedOffset::Unknown;
    }
    match last.checked_add(1) {
        Some(count) if count == end => AckedOffset::At(end),
        _ if last == end => AckedOffset::At(end),
        Some(count) if count > end => AckedOffset::Forward(count),
        Some(count) if count > start => AckedOffset::At(count),
        _ => AckedOffset::Unknown,
    }
}

/// How many bytes a registry holds, by the reply to a question for it. `known`: how many it holds for certain, if nothing
/// was sent since of which one byte may have arrived; only that settles what `0-0` means. `None` if the reply doesn't say.
///
/// ```
/// use registry_proto::spec::status_offset;
///
/// assert_eq!(status_offset(Some("0-9"), None), Some(10));
/// assert_eq!(status_offset(Some("0-0"), None), None, "one byte or none");
/// assert_eq!(status_offset(Some("0-0"), Some(0)), Some(0));
/// ```
pub fn status_offset(header: Option<&str>, known: Option<u64>) -> Option<u64> {
    match last_byte(header?)? {
        None => Some(0),
        Some(0) => known.filter(|at| *at <= 1),
        Some(last) => last.checked_add(1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn c59_what_we_send() {
        assert_eq!(UploadRange::new(4, 4).unwrap().to_string(), "4-7");
        assert_eq!(UploadRange::new(0, 1).unwrap().to_string(), "0-0");
        assert_eq!(UploadRange::new(4, 0), None);
        assert_eq!(UploadRange::new(u64::MAX, 2), None);
    }

    #[test]
    fn c61_c62_every_dialect() {
        use AckedOffset::{At, Forward, Unknown};
        for (start, length, header, expected) in [
            (0, 4, Some("0-3"), At(4)),
            (0, 4, Some("bytes=0-3"), At(4)),
            (0, 4, Some("bytes 0-3"), At(4)),
            (0, 4, Some("0-4"), At(4)),
            (0, 1, Some("0-0"), At(1)),
            (0, 4, Some("0-0"), Unknown),
            (0, 4, Some("0--1"), Unknown),
            (0, 4, None, Unknown),
            (4, 4, Some("0-3"), Unknown),
            (0, 4, Some("0-99"), Forward(100)),
            (0, 4, Some("0-1"), At(2)),
            (4, 4, Some("0-5"), At(6)),
            (52, 104, Some("0-103"), Unknown),
            (52, 104, Some("0-104"), At(105)),
            (0, 4, Some("nonsense"), Unknown),
            (0, 4, Some("0-18446744073709551615"), Unknown),
            (0, 4, Some("2-3"), Unknown),
        ] {
            assert_eq!(acknowledged(start, length, header), expected, "{start} {length} {header:?}");
        }
    }

    #[test]
    fn c65_what_a_status_says() {
        assert_eq!(status_offset(Some("0-3"), Some(0)), Some(4));
        assert_eq!(status_offset(Some("0-0"), Some(0)), Some(0));
        assert_eq!(status_offset(Some("0-0"), Some(1)), Some(1));
        assert_eq!(status_offset(Some("0-0"), Some(9)), None, "it always says that");
        assert_eq!(status_offset(Some("0-0"), None), None, "one byte or none");
        assert_eq!(status_offset(Some("0--1"), Some(9)), Some(0));
        assert_eq!(status_offset(Some("0-18446744073709551615"), Some(0)), None);
        assert_eq!(status_offset(None, Some(0)), None);
    }

    proptest! {
        #[test]
        fn never_believes_in_more_than_was_sent(start in 0u64..1000, length in 1u64..1000, header in "(bytes[= ])?[0-9]{0,21}-{1,2}[0-9]{0,21}|\\PC*") {
            if let AckedOffset::At(at) = acknowledged(start, length, Some(&header)) {
                prop_assert!(at > start && at <= start + length);
            }
            let _ = status_offset(Some(&header), Some(start));
        }
    }
}
