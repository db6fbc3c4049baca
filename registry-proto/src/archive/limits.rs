//! How much of a stranger's archive is read into memory.

/// What is refused as too large (PROTOCOL.md §4.4 reader rule 7, attack A23). The defaults are several times what
/// real savers write; layers themselves are never read into memory, whatever their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tar entries, of every type.
    pub entries: usize,
    /// Bytes of all entry names and link targets together.
    pub names: usize,
    /// Bytes of one entry name or link target.
    pub name: usize,
    /// Bytes of one PAX header block.
    pub pax: usize,
    /// Bytes of `manifest.json` or of `index.json`.
    pub index: usize,
    /// Bytes of one image manifest or nested index.
    pub manifest: usize,
    /// Bytes of one image config.
    pub config: usize,
    /// Bytes of all manifests and configs together.
    pub documents: usize,
    /// Images in one archive.
    pub images: usize,
    /// Names of one image in `manifest.json`.
    pub tags: usize,
    /// Layers of one image.
    pub layers: usize,
    /// Links followed from one name to a file.
    pub links: usize,
    /// Indexes inside indexes, the top-level one (`index.json`) not counted.
    pub depth: usize,
    /// Bytes of a file that is kept in memory although it is no document, when an archive goes by once.
    pub small: usize,
    /// Bytes that may be made of however few when an archive is decompressed.
    pub unpacked: u64,
    /// How many times its own size may be made of a compressed archive, beyond that. Real ones become two to ten times as large;
    /// gzip can make a thousand of one, zstd far more.
    pub unpacked_ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            entries: 100_000,
            names: 32 * MIB,
            name: 4096,
            pax: MIB,
            index: 20 * MIB,
            manifest: 4 * MIB,
            config: 8 * MIB,
            documents: 128 * MIB,
            images: 4096,
            tags: 512,
            layers: 4096,
            links: 8,
            depth: 4,
            small: 64 * 1024,
            unpacked: 256 << 20,
            unpacked_ratio: 200,
        }
    }
}
