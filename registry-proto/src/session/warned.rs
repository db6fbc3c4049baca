//! What registries have warned of.

use std::collections::BTreeSet;

use crate::spec::Origin;

/// How many warnings are told. One that counts seconds is another with each reply.
const MOST: usize = 50;

/// Warnings that the user has seen. Each text once per registry, however many replies carry it (C92).
#[derive(Debug, Default)]
pub(crate) struct Warned {
    told: BTreeSet<(Origin, String)>,
    /// Whose certificate nobody looks at, as was told.
    unverified: BTreeSet<Origin>,
}

impl Warned {
    /// What to tell the user of a warning, if anything.
    pub(crate) fn tell(&mut self, origin: &Origin, text: String) -> Option<String> {
        let told = self.told.len();
        let warning = (origin.clone(), text);
        if told > MOST || self.told.contains(&warning) {
            return None;
        }
        let what = if told < MOST {
            format!("{origin} warns: {}", warning.1)
        } else {
            format!("{origin} warns of more and more: further warnings are not shown")
        };
        self.told.insert(warning);
        Some(what)
    }

    /// What to tell the user of an origin whose certificate nobody looks at: once for each.
    pub(crate) fn unverified(&mut self, origin: &Origin) -> Option<String> {
        if self.unverified.len() >= MOST || !self.unverified.insert(origin.clone()) {
            return None;
        }
        Some(format!(
            "the certificate of {origin} is not verified: anybody on the way can pretend to be it and read along"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_once_and_not_too_many() {
        let (one, other) = (Origin::new(true, "one.example").unwrap(), Origin::new(true, "other.example").unwrap());
        let mut warned = Warned::default();
        assert_eq!(warned.tell(&one, "a".into()).unwrap(), "https://one.example warns: a");
        assert_eq!(warned.tell(&one, "a".into()), None);
        assert!(warned.tell(&other, "a".into()).is_some(), "another registry's");
        let told = (0..1000).filter_map(|n| warned.tell(&one, format!("expires in {n} s"))).collect::<Vec<_>>();
        assert_eq!(told.len(), MOST - 2 + 1);
        assert!(told.last().unwrap().contains("further warnings are not shown"));
        assert_eq!(warned.told.len(), MOST + 1, "nor are they kept");
    }
}
