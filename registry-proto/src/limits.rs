//! How much is taken from a peer.

/// The most that is taken from a peer, in bytes unless it says otherwise.
///
/// What else a peer could make large is bounded by constants, since nobody has a use for other ones: how deep JSON nests and how
/// many values a manifest has, the length of names, tags, digests and media types, of what is kept of an error and of warnings,
/// the rounds of authentication, and how much a session remembers.
///
/// ```
/// use registry_proto::Config;
///
/// let mut config = Config::default();
/// config.limits.entries = 1_000; // no list of more is kept
/// config.limits.redirects = 0; // none is followed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// What is kept of an error's body.
    pub error_body: usize,
    /// A manifest or an index (the specification asks registries to take at least 4 MiB).
    pub manifest: usize,
    /// An image's configuration.
    pub config: usize,
    /// All manifests, and the configurations where they are looked at, below one index.
    pub below_index: u64,
    /// The manifests below one index (a count).
    pub manifests: usize,
    /// Indexes in indexes (a count of levels).
    pub index_depth: usize,
    /// A token server's reply.
    pub token: usize,
    /// A token, which goes into the head of every request.
    pub token_header: usize,
    /// A page of a list.
    pub page: usize,
    /// The entries of one page (a count): a short one takes twenty times its bytes when it is kept.
    pub page_entries: usize,
    /// The pages of one list (a count).
    pub pages: u32,
    /// The entries of a list that is kept whole (a count); lists told page by page may be longer.
    pub entries: u64,
    /// The head of a reply. Drivers' HTTP stacks see to it.
    pub head: usize,
    /// The headers of a reply (a count). As `head`; ureq, which `registry-blocking` runs on, takes no more than 128 whatever is set
    /// here.
    pub headers: usize,
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
            manifests: 10_000,
            index_depth: 8,
            token: 1 << 20,
            token_header: 16 << 10,
            page: 16 << 20,
            page_entries: 250_000,
            pages: 10_000,
            entries: 1_000_000,
            head: 256 << 10,
            headers: 200,
            discard: 64 << 10,
            redirects: 10,
            chunk_min: 64 << 10,
            chunk_max: 256 << 20,
        }
    }
}
