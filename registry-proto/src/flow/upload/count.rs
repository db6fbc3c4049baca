//! What a registry means when it says how far an upload has come.
//!
//! Most name the last byte that they hold, some the number of bytes ([`Counting`]), and neither says which of the two it does.
//! An upload believes the former until something speaks against it, and what is proven is kept for the registry's other
//! blobs:
//!
//! ```text
//!   asked how much it has, it names a byte ─┬─ that it was never sent ──▶ it counts one more
//!                                           ├─ the last one it confirmed ▶ it names the last byte
//!                                           ├─ one before that ──────────▶ doubt: it has lost some, or names the last chunk's
//!                                           └─ any other ─▶ doubt: going on from there ─┬─ 416 ──▶ the other way, and ask again
//!                                                                                      ├─ it is taken ─▶ proven
//!                                                                                      └─ wrong digest ▶ the other way, from the start
//! ```

use super::Upload;
use crate::flow::Context;
use crate::session::Counting;

/// What isn't certain about where a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Nothing.
    None,
    /// Whether the last byte was named, or how many there are.
    Counting,
    /// It named less than it had confirmed: it has lost some, or it named the last chunk's bytes only.
    Less,
}

impl Upload {
    /// What `0-0` can only mean, if it is clear how many bytes there are.
    pub(super) fn known(&mut self, cx: &mut Context<'_>) -> Option<u64> {
        if self.counting != Counting::Unreliable {
            self.counting = self.learned(cx).counting.unwrap_or(self.counting);
        }
        if self.counting == Counting::OneMore {
            return Some(0);
        }
        (self.handed == 0 || self.acked > 0).then_some(self.acked)
    }

    /// How many bytes the session has, where the last one that the registry named is the one before `at`. `None`: nobody knows.
    pub(super) fn count(&mut self, cx: &mut Context<'_>, at: u64) -> Option<u64> {
        let unproven = self.learned(cx).counting.is_none() && at > 1;
        let certain = match self.doubt {
            // (What was confirmed was confirmed by the reply to a chunk, which all count in the same way.)
            Doubt::None if at < self.acked => {
                self.doubt = Doubt::Less;
                None
            }
            _ if unproven && at == self.handed.saturating_add(1) => Some(Counting::OneMore),
            Doubt::None if unproven && at == self.acked => Some(Counting::LastByte),
            _ if unproven => {
                self.doubt = Doubt::Counting;
                None
            }
            _ => None,
        };
        if let Some(counting) = certain {
            (self.counting, self.doubt) = (counting, Doubt::None);
            self.learned(cx).counting = Some(counting);
        }
        match self.counting {
            Counting::LastByte => Some(at),
            Counting::OneMore if at > 1 => Some(at - 1),
            Counting::OneMore => Some(0),
            Counting::Unreliable => None,
        }
    }

    /// Out of order: where the session goes on was a guess, and there is another one. (After both, it is something else.)
    pub(super) fn reads_otherwise(&mut self) -> bool {
        match (self.doubt, self.counting) {
            (Doubt::Less, _) => {
                self.distrust();
                true
            }
            (Doubt::Counting, Counting::LastByte) => {
                self.counting = Counting::OneMore;
                true
            }
            (Doubt::Counting, Counting::OneMore | Counting::Unreliable) => {
                self.counting = Counting::LastByte;
                false
            }
            (Doubt::None, _) => false,
        }
    }

    /// What was sent fits what was there.
    pub(super) fn proven(&mut self, cx: &mut Context<'_>) {
        if std::mem::replace(&mut self.doubt, Doubt::None) == Doubt::Counting {
            let counting = self.counting;
            self.learned(cx).counting = Some(counting);
        }
    }

    /// The registry put together other bytes than the blob's.
    pub(super) fn misled(&mut self, cx: &mut Context<'_>) {
        let next = match (self.counting, self.doubt) {
            (_, Doubt::Less) => return self.distrust(),
            (Counting::LastByte, Doubt::Counting) => Counting::OneMore,
            (Counting::OneMore, _) => Counting::Unreliable,
            // It was not about where the session went on.
            (Counting::LastByte | Counting::Unreliable, _) => return,
        };
        (self.counting, self.doubt) = (next, Doubt::None);
        self.learned(cx).counting = Some(next);
    }

    /// As far as this blob goes.
    const fn distrust(&mut self) {
        (self.counting, self.doubt) = (Counting::Unreliable, Doubt::None);
    }
}
