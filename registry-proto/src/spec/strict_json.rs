//! JSON from strangers: bounded, and without the ambiguities that let two readers see two documents.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

/// How deep documents may nest. Manifests need five levels.
const DEPTH: usize = 64;
/// How many values a document may have. An index of ten thousand manifests has some hundred thousand; kept, a value of three
/// bytes takes ten times as many.
const VALUES: usize = 250_000;

/// Checks that `bytes` are one JSON document, nested no deeper than is sane and without an object that has a key twice
/// (PROTOCOL §4.3, A18: a scanner may take the first of them and a runtime the last). Yields its top-level keys.
pub(crate) fn check(bytes: &[u8]) -> Result<BTreeSet<String>, serde_json::Error> {
    let mut keys = BTreeSet::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let values = &Cell::new(0);
    Value { depth: 0, values, keys: Some(&mut keys) }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(keys)
}

/// Reads an object. `serde` would take a list for a structure, too, value by value: nobody else does.
pub(crate) fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, serde_json::Error> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(serde_json::Error::custom("not a JSON object"));
    }
    serde_json::from_slice(bytes)
}

struct Value<'a> {
    depth: usize,
    values: &'a Cell<usize>,
    keys: Option<&'a mut BTreeSet<String>>,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > DEPTH {
            return Err(D::Error::custom("nested too deeply"));
        }
        self.values.set(self.values.get() + 1);
        if self.values.get() > VALUES {
            return Err(D::Error::custom("more values than any manifest has"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Value { depth: self.depth + 1, values: self.values, keys: None })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            entries.next_value_seed(Value { depth: self.depth + 1, values: self.values, keys: None })?;
            if let Some(twice) = seen.replace(key) {
                return Err(A::Error::custom(format_args!("the key {twice:?} occurs twice")));
            }
        }
        if let Some(keys) = self.keys {
            *keys = seen;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a18_what_is_refused() {
        assert_eq!(check(br#"{"a":[1,{"b":null}],"c":"d"}"#).unwrap().len(), 2);
        assert!(check(br#"{"a":1,"a":2}"#).is_err());
        assert!(check(br#"{"x":[{"a":1,"a":2}]}"#).is_err());
        assert!(check(b"{} {}").is_err());
        let many = |count: usize| format!("[{}0]", "0,".repeat(count));
        assert!(check(many(200_000).as_bytes()).is_ok());
        assert!(check(many(250_000).as_bytes()).is_err(), "A12");
        assert!(check("[".repeat(100).as_bytes()).is_err());
        assert!(check(format!("{}{}", "[".repeat(100), "]".repeat(100)).as_bytes()).is_err());
    }
}
