//! Archives that are compressed, or that come by standard input: as a [`Feed`] that goes by once.
//!
//! What something is, its first bytes say. Which formats are known depends on the features `gzip` and `zstd`; what is compressed
//! in another way is passed on as it is, and refused by whoever reads it with a word on what to do.
//!
//! What is read may be a pipe that says nothing for as long as it likes: it is read on a thread of its own, which neither the
//! operation nor the runtime's end waits for.
//!
//! ```no_run
//! # async fn push() -> Result<(), Box<dyn std::error::Error>> {
//! use registry_tokio::proto::archive::Limits;
//! use registry_tokio::proto::flow::{PushFeed, PushOptions};
//! use registry_tokio::{Client, unpack};
//!
//! let feed = unpack::feed("standard input", std::io::stdin(), &Limits::default());
//! let push = PushFeed::new(feed, "localhost:5000/app:v1".parse()?, PushOptions::default());
//! let pushed = Client::new()?.run(push).await?;
//! # Ok(())
//! # }
//! ```

use std::fs::File;
use std::io::BufReader;
use std::io::{self, Cursor, Read};
use std::path::Path;

use registry_proto::archive::Packed;
use registry_proto::archive::{Compression, Feed, Limits};

/// How much of a compressed file is read at a time.
const BUFFER: usize = 64 << 10;

/// The largest window of Zstandard, as a power of two: 128 MiB, which is what its own tool takes without being asked. More would
/// be the sender's choice of how much memory we use (A20).
#[cfg(feature = "zstd")]
const WINDOW_LOG: u32 = 27;

/// What `reader` has, unpacked if it is packed. Nothing is read before the feed is. `name`: what it is called when something is
/// wrong with it.
///
/// ```
/// use registry_tokio::proto::archive::Limits;
/// use registry_tokio::unpack;
///
/// let feed = unpack::feed("standard input", std::io::stdin(), &Limits::default());
/// # drop(feed);
/// ```
pub fn feed(name: impl AsRef<Path>, reader: impl Read + Send + 'static, limits: &Limits) -> Feed {
    let name = name.as_ref();
    let unpacking = Unpacking { name: name.into(), limits: *limits, state: State::New(Box::new(reader)) };
    Feed::new(name, unpacking)
}

/// A file, unpacked if it is packed.
///
/// ```
/// use registry_tokio::proto::archive::Limits;
/// use registry_tokio::unpack;
///
/// assert!(unpack::open("/nowhere/app.tar.gz", &Limits::default()).is_err());
/// ```
///
/// # Errors
/// When it can't be opened.
pub fn open(path: impl AsRef<Path>, limits: &Limits) -> io::Result<Feed> {
    let file = File::open(path.as_ref())?;
    Ok(feed(path, file, limits))
}

/// How a file is compressed, if it is.
///
/// ```
/// use registry_tokio::unpack;
///
/// let file = tempfile::NamedTempFile::new()?;
/// std::fs::write(file.path(), [0x1f, 0x8b, 8, 0])?;
/// assert_eq!(unpack::compression(file.path())?.map(|how| how.to_string()).as_deref(), Some("gzip"));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// When it can't be opened or read.
pub fn compression(path: impl AsRef<Path>) -> io::Result<Option<Compression>> {
    let (head, _) = head(File::open(path)?)?;
    Ok(Compression::of(&head))
}

/// Waits with everything until somebody reads: the first bytes of a pipe may take their time.
struct Unpacking {
    name: Box<Path>,
    limits: Limits,
    state: State,
}

enum State {
    New(Box<dyn Read + Send>),
    Known(Feed),
    Failed,
}

impl Read for Unpacking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.state {
                State::Known(feed) => return feed.read(buffer),
                State::Failed => return Err(io::Error::other("it could not be read before")),
                State::New(_) => {
                    if let State::New(reader) = std::mem::replace(&mut self.state, State::Failed) {
                        let (head, reader) = head(reader)?;
                        let format = Compression::of(&head);
                        self.state = State::Known(self.known(format, Cursor::new(head).chain(reader)));
                    }
                }
            }
        }
    }
}

impl Unpacking {
    fn known(&self, format: Option<Compression>, whole: impl Read + Send + 'static) -> Feed {
        match format {
            #[cfg(feature = "gzip")]
            Some(Compression::Gzip) => Feed::unpacked(&self.name, whole, &self.limits, |packed| {
                flate2::bufread::MultiGzDecoder::new(buffered(packed))
            }),
            #[cfg(feature = "zstd")]
            Some(Compression::Zstd) => {
                Feed::unpacked(&self.name, whole, &self.limits, |packed| Zstandard::new(buffered(packed)))
            }
            _ => Feed::new(&self.name, whole),
        }
    }
}

fn buffered<R: Read>(packed: Packed<R>) -> BufReader<Packed<R>> {
    BufReader::with_capacity(BUFFER, packed)
}

/// The first bytes, and what follows.
fn head<R: Read>(mut reader: R) -> io::Result<(Vec<u8>, R)> {
    let mut head = Vec::new();
    reader.by_ref().take(6).read_to_end(&mut head)?;
    Ok((head, reader))
}

/// A decoder, or why there is none.
#[cfg(feature = "zstd")]
struct Zstandard<R: io::BufRead>(Result<zstd::stream::read::Decoder<'static, R>, Option<io::Error>>);

#[cfg(feature = "zstd")]
impl<R: io::BufRead> Zstandard<R> {
    fn new(packed: R) -> Self {
        let decoder = zstd::stream::read::Decoder::with_buffer(packed).and_then(|mut decoder| {
            decoder.window_log_max(WINDOW_LOG)?;
            Ok(decoder)
        });
        Self(decoder.map_err(Some))
    }
}

#[cfg(feature = "zstd")]
impl<R: io::BufRead> Read for Zstandard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Ok(decoder) => decoder.read(buffer),
            Err(why) => Err(why.take().unwrap_or_else(|| io::Error::other("there is no decoder"))),
        }
    }
}
