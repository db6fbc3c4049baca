//! How much is taken from a peer.

/// The most that is taken from a peer, in bytes unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// What is kept of an error's body.
    pub error_body: usize,
    /// A manifest or an index (the specification asks registries to take at least 4 MiB).
    pub manifest: usize,
    /// An image's configuration.
    pub config: usize,
    /// All manifests and configurations below one index that is looked at.
    pub below_index: u64,
    /// A token server's reply.
    pub token: usize,
    /// A token, which goes into the head of every request.
    pub token_header: usize,
    /// A page of a list.
    pub page: usize,
    /// The pages of one list (a count).
    pub pages: u32,
    /// The entries of a list that is kept whole (a count); lists told page by page may be longer.
    pub entries: u64,
    /// What is read of a body that nobody wants, to keep its connection.
    pub discard: u64,
    /// Redirects followed for one request (a count).
    pub redirects: u32,
    /// The smallest chunk that an adaptive upload shrinks to.
    pub chunk_min: u64,
    /// The largest chunk that an adaptive upload grows to, and that a registry may ask for.
    pub chunk_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            error_body: 64 << 10,
            manifest: 4 << 20,
            config: 8 << 20,
            below_index: 64 << 20,
            token: 1 << 20,
            token_header: 16 << 10,
            page: 16 << 20,
            pages: 10_000,
            entries: 1_000_000,
            discard: 64 << 10,
            redirects: 10,
            chunk_min: 64 << 10,
            chunk_max: 256 << 20,
        }
    }
}
