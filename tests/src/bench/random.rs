//! Bytes to push and to pull.

use bytes::Bytes;

/// Numbers that no compression finds a pattern in (splitmix64), the same for the same seed. Seeds that follow one another give
/// streams that overlap; far apart, they don't.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Bytes {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes);
        bytes.into()
    }

    /// As many bytes as come up, within these bounds.
    ///
    /// # Panics
    /// When that is more than the machine can address.
    pub fn layer(&mut self, least: u64, most: u64) -> Bytes {
        let size = least + self.next() % (most - least + 1);
        self.bytes(usize::try_from(size).unwrap())
    }
}
