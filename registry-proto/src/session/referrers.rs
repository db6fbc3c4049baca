//! Who keeps the list of a manifest's referrers, the registry or its clients under a tag; and whose turn it is to change it.

use std::collections::BTreeMap;

use crate::spec::{Digest, Origin, RepositoryName};
use crate::time::Time;

/// How many repositories are remembered; then all are forgotten, since asking again costs one request each.
const REMEMBERED: usize = 10_000;

/// Which repositories were seen to list referrers themselves, and which not. By repository, not by registry: caches of other
/// registries and projects of one's own can be behind one host.
#[derive(Debug, Default)]
pub(crate) struct Referrers {
    listed: BTreeMap<(Origin, RepositoryName), bool>,
    turns: BTreeMap<List, Turn>,
}

/// A list, by whose referrers are on it.
pub(crate) type List = (Origin, RepositoryName, Digest);

/// A flow is changing this list; the others wait. A turn ends by itself, so that a driver that vanished can't hold the others
/// up for ever.
#[derive(Debug)]
struct Turn {
    holder: u64,
    until: Time,
}

impl Referrers {
    /// Whether the registry lists this repository's referrers itself, as far as is known.
    pub(crate) fn are_listed(&self, origin: &Origin, repository: &RepositoryName) -> Option<bool> {
        self.listed.get(&(origin.clone(), repository.clone())).copied()
    }

    pub(crate) fn remember(&mut self, origin: &Origin, repository: &RepositoryName, listed: bool) {
        if self.listed.len() >= REMEMBERED {
            self.listed.clear();
        }
        self.listed.insert((origin.clone(), repository.clone()), listed);
    }

    /// Takes a turn at changing a list, or renews it. `Err`: until when another flow has it, unless it ends before.
    pub(crate) fn turn(&mut self, list: List, holder: u64, now: Time, until: Time) -> Result<(), Time> {
        match self.turns.get(&list) {
            Some(turn) if turn.holder != holder && turn.until > now => Err(turn.until),
            _ => {
                self.turns.insert(list, Turn { holder, until });
                Ok(())
            }
        }
    }

    /// Gives a turn back. Whether there was one, so that somebody may be waiting for it.
    pub(crate) fn end_turn(&mut self, holder: u64) -> bool {
        let before = self.turns.len();
        self.turns.retain(|_, turn| turn.holder != holder);
        self.turns.len() < before
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_changes_a_list_and_the_others_wait() {
        let list = |of: &[u8]| (Origin::new(true, "r.example").unwrap(), "n".parse().unwrap(), Digest::of(of));
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let mut referrers = Referrers::default();
        assert_eq!(referrers.turn(list(b"a"), 1, at(0), at(60)), Ok(()));
        assert_eq!(referrers.turn(list(b"a"), 2, at(1), at(61)), Err(at(60)));
        assert_eq!(referrers.turn(list(b"b"), 2, at(1), at(61)), Ok(()), "another list");
        assert_eq!(referrers.turn(list(b"a"), 1, at(50), at(110)), Ok(()), "renewed");
        assert!(!referrers.end_turn(3) && referrers.end_turn(1));
        assert_eq!(referrers.turn(list(b"a"), 3, at(51), at(111)), Ok(()));
        assert_eq!(referrers.turn(list(b"a"), 4, at(111), at(171)), Ok(()), "nobody has heard of 3 any more");
    }
}
