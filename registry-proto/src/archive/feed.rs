//! Bytes that come once and in order: standard input, or what a decompressor makes of a file.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::limits::Limits;

/// Bytes that come once and in order. Whoever has them lends them as a [`Read`], which is read on a thread where it may block.
///
/// Decompressors are not the core's: it is given what they make, with a limit to how much they may make of how little.
///
/// ```
/// use registry_proto::archive::{Feed, Limits};
///
/// let plain = Feed::new("standard input", std::io::stdin());
/// // With flate2: |packed| flate2::read::MultiGzDecoder::new(packed)
/// let unpacked = Feed::unpacked("app.tar.gz", std::io::empty(), &Limits::default(), |packed| packed);
/// # drop((plain, unpacked));
/// ```
pub struct Feed {
    name: Arc<Path>,
    reader: Box<dyn Read + Send>,
}

impl Feed {
    /// What `reader` has from here on. `name`: what it is called when something is wrong with it.
    pub fn new(name: impl AsRef<Path>, reader: impl Read + Send + 'static) -> Self {
        Self { name: name.as_ref().into(), reader: Box::new(reader) }
    }

    /// What the decompressor that `unpack` makes has to say about `packed`. When that becomes more than
    /// [`Limits::unpacked`] bytes and more than [`Limits::unpacked_ratio`] times what it read, it ends with an error.
    pub fn unpacked<R, D>(
        name: impl AsRef<Path>,
        packed: R,
        limits: &Limits,
        unpack: impl FnOnce(Packed<R>) -> D,
    ) -> Self
    where
        R: Read,
        D: Read + Send + 'static,
    {
        let taken = Arc::new(AtomicU64::new(0));
        let decoder = unpack(Packed { reader: packed, taken: Arc::clone(&taken) });
        Self::new(name, Unpacked { decoder, taken, made: 0, limits: *limits })
    }

    /// What it is called.
    pub const fn name(&self) -> &Arc<Path> {
        &self.name
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a decompressor reads, counted.
#[derive(Debug)]
pub struct Packed<R> {
    reader: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.taken.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// What a decompressor makes, as far as that is believable (A20).
struct Unpacked<D> {
    decoder: D,
    taken: Arc<AtomicU64>,
    made: u64,
    limits: Limits,
}

impl<D: Read> Read for Unpacked<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.decoder.read(buffer)?;
        self.made = self.made.saturating_add(got as u64);
        let believable = self.taken.load(Ordering::Relaxed).saturating_mul(self.limits.unpacked_ratio);
        if self.made > self.limits.unpacked.max(believable) {
            let (made, ratio) = (self.made, self.limits.unpacked_ratio);
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!(
                    "it unpacks to {made} bytes and on, more than {ratio} times its own size; if you trust it, \
                     decompress it first"
                ),
            ));
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a thousand bytes of each.
    struct Bomb<R>(R, usize);

    impl<R: Read> Read for Bomb<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1 == 0 {
                self.1 = 1000 * self.0.read(&mut [0])?;
            }
            let some = self.1.min(buffer.len());
            self.1 -= some;
            Ok(some)
        }
    }

    #[test]
    fn a20_what_becomes_a_thousand_times_as_much_ends() {
        let limits = Limits { unpacked: 100_000, ..Limits::default() };
        let unpack = |bytes: u64| {
            let packed = Read::take(io::repeat(1), bytes);
            let mut feed = Feed::unpacked("bomb.tar.gz", packed, &limits, |packed| Bomb(packed, 0));
            io::copy(&mut feed, &mut io::sink())
        };
        assert_eq!(unpack(100).unwrap(), 100_000, "so much may be made of anything");
        let why = unpack(u64::MAX).unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::FileTooLarge);
        assert!(why.to_string().contains("decompress it first"), "{why}");
        let tame = Limits { unpacked: 0, unpacked_ratio: 1000, ..limits };
        let mut feed = Feed::unpacked("x", Read::take(io::repeat(1), 100), &tame, |packed| Bomb(packed, 0));
        assert_eq!(io::copy(&mut feed, &mut io::sink()).unwrap(), 100_000, "what is asked for is allowed");
    }
}
