//! Queries and forms: pairs of names and values, percent-encoded.

/// The pairs of a query, decoded as Go's servers do.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    raw: String,
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(super) fn parse(raw: &str) -> Self {
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            Some((decode(name, true)?, decode(value, true)?))
        };
        // Go drops pairs that it can't read, and only these.
        let pairs = raw.split('&').filter(|text| !text.is_empty() && !text.contains(';')).filter_map(pair).collect();
        Self { raw: raw.to_owned(), pairs }
    }

    /// As it was written.
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    /// The first value of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value of that name, unless it is empty.
    pub(super) fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// All values of that name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Percent-decodes; `None` if that can't be done.
pub(in crate::testing) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let hex = |digit: Option<u8>| char::from(digit?).to_digit(16);
        decoded.push(match byte {
            b'%' => u8::try_from(hex(bytes.next())? * 16 + hex(bytes.next())?).ok()?,
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Percent-encodes a value for a query.
pub(super) fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        let query = Query::parse("n=3&last=a%2Fb+c&x&digest=sha256:ab&x=%zz&n=4&&=");
        assert_eq!(query.get("n"), Some("3"));
        assert_eq!(query.all("n").collect::<Vec<_>>(), ["3", "4"]);
        assert_eq!(query.get("last"), Some("a/b c"));
        assert_eq!(query.get("digest"), Some("sha256:ab"));
        assert_eq!((query.get("x"), query.non_empty("x"), query.get("y")), (Some(""), None, None));
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let text = "a b+c/ü%&=~";
        assert_eq!(encode(text), "a%20b%2Bc%2F%C3%BC%25%26%3D~");
        assert_eq!(decode(&encode(text), true).as_deref(), Some(text));
        assert_eq!(decode("%f", false), None);
        assert_eq!(decode("%ff", false), None);
        assert_eq!(decode("%é", false), None);
    }
}
