//! What a script says, byte by byte.

/// An input, and the bytes of it that are still to be followed.
#[derive(Debug)]
pub(super) struct Script<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { whole: data, rest: data }
    }

    /// All of it, also what was followed.
    pub(super) const fn whole(&self) -> &'a [u8] {
        self.whole
    }

    /// The next byte, or none at the end.
    pub(super) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// The next byte; zero at the end.
    pub(super) fn byte(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    /// A number of two bytes.
    pub(super) fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// A text up to the end of its line.
    pub(super) fn text(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| *byte == b'\n').unwrap_or(self.rest.len());
        let text = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        text
    }

    /// One of several.
    pub(super) fn one<'b, T: ?Sized>(&mut self, of: &'b [&'b T]) -> &'b T {
        of[usize::from(self.byte()) % of.len()]
    }
}
