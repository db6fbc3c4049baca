//! What can be wrong with an archive, said so that a user knows what to do next.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::spec::clean;

/// One fault of one archive. Its text names the file, the entry and the way out.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{}` {}", path.display(), Plain(fault))]
#[non_exhaustive]
pub struct ArchiveError {
    path: Arc<Path>,
    fault: ArchiveFault,
}

/// The longest text of a fault, in bytes.
const LONGEST: usize = 2000;

/// A fault fit to be shown: names in archives are anybody's, and end up on terminals (A38).
struct Plain<'a>(&'a ArchiveFault);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clean(&self.0.to_string(), LONGEST))
    }
}

impl ArchiveError {
    pub(super) const fn new(path: Arc<Path>, fault: ArchiveFault) -> Self {
        Self { path, fault }
    }

    /// The archive: the file or folder that was asked for.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// What is wrong with it.
    pub const fn fault(&self) -> &ArchiveFault {
        &self.fault
    }
}

/// What is wrong. The texts continue a sentence that begins with the archive's path.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveFault {
    /// The file or folder could not be opened or read.
    #[error("could not be read ({doing}): {source}; check that it exists and may be read")]
    Io {
        /// What was being done, such as "opening it".
        doing: String,
        /// What the runtime's file system said.
        source: Arc<io::Error>,
    },
    /// It is a file or a folder, but neither kind of image archive.
    #[error("is not an image archive: {why}")]
    NotAnArchive {
        /// What was found instead, and what to do.
        why: String,
    },
    /// The whole archive is compressed; it has to be seekable to be read in place.
    #[error("is not an image archive that can be read in place: it is {0}-compressed; decompress it first (`{tool}`)", tool = .0.tool())]
    Compressed(Compression),
    /// The file ends before the archive does.
    #[error("is cut off: it ends inside {what}; copy or save it again")]
    Truncated {
        /// Where it ends.
        what: String,
    },
    /// What comes once and in order does not come to its end: the compressed data is damaged or makes too much of too little,
    /// or whoever writes it failed.
    #[error("breaks off at byte {at}: {why}")]
    BreaksOff {
        /// At which byte of what was unpacked.
        at: u64,
        /// In the reader's words.
        why: String,
    },
    /// The tar records contradict themselves or the rules of tar.
    #[error("is a damaged or forged tar: {what}; save the image again")]
    Tar {
        /// Which entry, and what is wrong with it.
        what: String,
    },
    /// Something that one part names is not there.
    #[error("is not complete: {what} named by {by} is not in the archive; save the image again")]
    Missing {
        /// The entry or blob.
        what: String,
        /// The document that names it.
        by: String,
    },
    /// A document does not have the form that it must have.
    #[error("has a bad document: {entry} {why}")]
    Json {
        /// The document.
        entry: String,
        /// Beginning with a verb: "is not JSON: …".
        why: String,
    },
    /// The documents are well-formed but do not fit together.
    #[error("contradicts itself: {what}; save the image again")]
    Layout {
        /// What does not fit.
        what: String,
    },
    /// Content is not what its digest or its descriptor's size says.
    #[error("has wrong content: {entry} should be {expected} and is {found}; save the image again")]
    Mismatch {
        /// The entry.
        entry: String,
        /// The digest or size that names it.
        expected: String,
        /// The digest or size that it has.
        found: String,
    },
    /// A limit of [`Limits`](super::Limits) is exceeded.
    #[error("is larger than allowed: {what} is more than {limit} {unit}; if this is a real image, raise the limit")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The limit.
        limit: u64,
        /// What the limit counts: "bytes", "entries", ….
        unit: &'static str,
    },
    /// Links go round in a circle, or on for too long.
    #[error("has links that lead nowhere: `{entry}` is a link that {why}; save the image again")]
    Link {
        /// The link that was to be followed.
        entry: String,
        /// Beginning with a verb: "leads back to itself".
        why: String,
    },
    /// A well-formed archive of a kind that can't be pushed.
    #[error("is of a kind that is not supported: {what}")]
    Unsupported {
        /// What it is, and what to do instead.
        what: String,
    },
}

impl ArchiveFault {
    pub(super) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source: Arc::new(source) }
    }

    pub(super) fn tar(what: impl Into<String>) -> Self {
        Self::Tar { what: what.into() }
    }

    pub(super) fn json(entry: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Json { entry: entry.into(), why: why.into() }
    }

    pub(super) fn layout(what: impl Into<String>) -> Self {
        Self::Layout { what: what.into() }
    }

    pub(super) fn missing(what: impl Into<String>, by: impl Into<String>) -> Self {
        Self::Missing { what: what.into(), by: by.into() }
    }
}

/// How a whole file is compressed, told by its first bytes (PROTOCOL.md §4.4: moby, containers and containerd sniff these).
///
/// ```
/// use registry_proto::archive::Compression;
///
/// assert_eq!(Compression::of(&[0x1f, 0x8b, 8, 0]), Some(Compression::Gzip));
/// assert_eq!(Compression::of(b"ustar"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// gzip, `1f 8b 08`.
    Gzip,
    /// Zstandard, `28 b5 2f fd`.
    Zstd,
    /// xz, `fd 37 7a 58 5a 00`.
    Xz,
    /// bzip2, `BZh1` to `BZh9` and a block.
    Bzip2,
}

impl Compression {
    /// Told by the first bytes; six are enough.
    pub fn of(head: &[u8]) -> Option<Self> {
        const MAGIC: [(&[u8], Compression); 3] = [
            (&[0x1f, 0x8b, 8], Compression::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
        ];
        // Letters alone would be taken for the first file name of a tar.
        if matches!(head, [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..]) {
            return Some(Self::Bzip2);
        }
        MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, format)| *format)
    }

    const fn tool(self) -> &'static str {
        match self {
            Self::Gzip => "gunzip",
            Self::Zstd => "unzstd",
            Self::Xz => "unxz",
            Self::Bzip2 => "bunzip2",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        })
    }
}
