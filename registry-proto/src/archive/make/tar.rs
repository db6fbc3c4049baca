//! A small tar writer, and gzip without compression: the same bytes each time, with nothing of the machine in them.

use bytes::Bytes;
use tar::EntryType;

use crate::archive::tar_header;

/// Writes a tar piece by piece, with time, owner and group 0.
///
/// ```
/// use registry_proto::archive::make::TarMaker;
///
/// let layer = TarMaker::new().folder("etc/").file("etc/motd", b"hello\n").finish();
/// assert_eq!(layer.len() % 512, 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct TarMaker(Vec<u8>);

impl TarMaker {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A regular file.
    #[must_use]
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(b'0', name, "", content)
    }

    /// A folder.
    #[must_use]
    pub fn folder(self, name: &str) -> Self {
        self.entry(b'5', name, "", &[])
    }

    /// A symbolic link; its target counts from its own folder.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, target, &[])
    }

    /// A hard link; its target counts from the archive's root.
    #[must_use]
    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, target, &[])
    }

    /// PAX records for the entry that follows.
    #[must_use]
    pub fn pax(self, records: &[(&str, &str)]) -> Self {
        let block = tar_header::pax_records(records);
        self.entry(b'x', "PaxHeaders.0/x", "", block.as_bytes())
    }

    /// An entry of any type. Names that the header can't hold are cut off: give them by [`TarMaker::pax`] before.
    #[must_use]
    pub fn entry(self, kind: u8, name: &str, target: &str, content: &[u8]) -> Self {
        let header = tar_header::header(EntryType::new(kind), name, target, content.len() as u64);
        self.raw(header.as_bytes()).padded(content)
    }

    /// Bytes as they are, such as a forged header.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A body, filled up to whole records.
    #[must_use]
    pub fn padded(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// What is written so far, without an end.
    pub fn unfinished(self) -> Bytes {
        self.0.into()
    }

    /// With the two zero records that end a tar.
    pub fn finish(self) -> Bytes {
        self.raw(&[0; 1024]).0.into()
    }
}

/// A valid gzip file that holds `content` uncompressed.
pub fn gzip_stored(content: &[u8]) -> Bytes {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = content.chunks(0xffff).peekable();
    if blocks.peek().is_none() {
        out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).expect("a block has at most ffff bytes");
        out.push(u8::from(blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    let crc = content.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    });
    out.extend_from_slice(&(!crc).to_le_bytes());
    // RFC 1952: the size modulo 2^32.
    #[allow(clippy::cast_possible_truncation, reason = "modulo 2^32 is what gzip wants")]
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.into()
}
