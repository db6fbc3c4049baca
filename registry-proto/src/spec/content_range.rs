//! `Content-Range` of partial replies (RFC 9110 §14.4).

/// Which bytes of a content a 206 carries.
///
/// ```
/// use registry_proto::spec::ContentRange;
///
/// let range = ContentRange::parse("bytes 100-199/1000");
/// assert_eq!(range, Some(ContentRange { first: 100, last: 199, total: Some(1000) }));
/// assert_eq!(ContentRange::parse("bytes 200-199/1000"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte's offset.
    pub first: u64,
    /// The last byte's offset.
    pub last: u64,
    /// How many bytes there are in all, if it says so.
    pub total: Option<u64>,
}

impl ContentRange {
    /// Reads a header's value. `None` when it contradicts itself (a front end was seen to answer with a first byte behind
    /// the last) or is about something else than bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once([' ', '='])?;
        let (range, total) = rest.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        let found = Self {
            first: number(first.trim())?,
            last: number(last.trim())?,
            total: match total.trim() {
                "*" => None,
                total => Some(number(total)?),
            },
        };
        let whole = found.first <= found.last && found.total.is_none_or(|total| found.last < total);
        (whole && unit.eq_ignore_ascii_case("bytes")).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let range = |first, last, total| Some(ContentRange { first, last, total });
        assert_eq!(ContentRange::parse("bytes 3-9/10"), range(3, 9, Some(10)));
        assert_eq!(ContentRange::parse("bytes 3-9/*"), range(3, 9, None));
        assert_eq!(ContentRange::parse(" Bytes 0-0/1 "), range(0, 0, Some(1)));
        for wrong in
            ["", "bytes", "bytes 9-3/10", "bytes 3-10/10", "bytes */10", "pages 1-2/3", "bytes +1-2/3", "bytes -1-2/3"]
        {
            assert_eq!(ContentRange::parse(wrong), None, "{wrong}");
        }
    }
}
