//! Whose turn it is to change a list of referrers that clients keep.

use std::collections::BTreeMap;

use crate::spec::{Digest, Origin, RepositoryName};
use crate::time::Time;

/// Who is changing which lists.
#[derive(Debug, Default)]
pub(crate) struct Turns(BTreeMap<List, Turn>);

/// A list, by whose referrers are on it.
pub(crate) type List = (Origin, RepositoryName, Digest);

/// A flow is changing this list; the others wait. A turn ends by itself, so that a driver that vanished can't hold the others
/// up for ever.
#[derive(Debug)]
struct Turn {
    holder: u64,
    until: Time,
}

/// A turn that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Had {
    /// Nobody else has had one since.
    Still,
    /// The list may be another one by now.
    Anew,
}

impl Turns {
    /// Takes a turn at changing a list, or renews it. `Err`: until when another flow has it, unless it ends before.
    pub(crate) fn take(&mut self, list: List, holder: u64, now: Time, until: Time) -> Result<Had, Time> {
        match self.0.get(&list) {
            Some(turn) if turn.holder != holder && turn.until > now => Err(turn.until),
            before => {
                let still = before.is_some_and(|turn| turn.holder == holder);
                self.0.insert(list, Turn { holder, until });
                Ok(if still { Had::Still } else { Had::Anew })
            }
        }
    }

    /// Gives a turn back. Whether there was one, so that somebody may be waiting for it.
    pub(crate) fn end(&mut self, holder: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|_, turn| turn.holder != holder);
        self.0.len() < before
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
        let mut turns = Turns::default();
        assert_eq!(turns.take(list(b"a"), 1, at(0), at(60)), Ok(Had::Anew));
        assert_eq!(turns.take(list(b"a"), 2, at(1), at(61)), Err(at(60)));
        assert_eq!(turns.take(list(b"b"), 2, at(1), at(61)), Ok(Had::Anew), "another list");
        assert_eq!(turns.take(list(b"a"), 1, at(50), at(110)), Ok(Had::Still), "renewed");
        assert!(!turns.end(3) && turns.end(1));
        assert_eq!(turns.take(list(b"a"), 3, at(51), at(111)), Ok(Had::Anew));
        assert_eq!(turns.take(list(b"a"), 4, at(111), at(171)), Ok(Had::Anew), "nobody has heard of 3 any more");
        assert_eq!(turns.take(list(b"a"), 3, at(112), at(172)), Err(at(171)));
        assert!(turns.end(4));
        assert_eq!(turns.take(list(b"a"), 3, at(113), at(173)), Ok(Had::Anew), "somebody else has had one");
        assert_eq!(turns.take(list(b"a"), 3, at(300), at(360)), Ok(Had::Still), "nobody else wanted one");
    }
}
