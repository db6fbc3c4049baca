//! What a user can set.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use crate::archive;
use crate::credentials::Credentials;
use crate::job::Timeouts;
use crate::limits::Limits;
use crate::secret::Credential;
use crate::session::{Lessons, Mirrors, Proxies, Rules, TlsConfig};
use crate::spec::Registry;

/// How a client behaves. Start from the default and change what you need:
///
/// ```
/// use registry_proto::{Config, UploadPolicy};
///
/// let mut config = Config::default();
/// config.upload = UploadPolicy::classic(); // 5 MiB chunks, one request below
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What the `User-Agent` header says.
    pub user_agent: String,
    /// `http` or `https`.
    pub scheme: Scheme,
    /// How `https` is spoken: who is trusted, and what is shown to who asks for a certificate.
    pub tls: TlsConfig,
    /// By way of which proxies who is reached. None by default: the core reads no environment ([`Proxies::from_env`] is told what
    /// it says).
    pub proxies: Proxies,
    /// Who is asked for manifests and blobs before their registries are.
    pub mirrors: Mirrors,
    /// What is shown to whom; see [`Config::log_in`].
    pub credentials: Credentials,
    /// How a password is exchanged for a token.
    pub token_request: TokenRequest,
    /// How blobs are uploaded.
    pub upload: UploadPolicy,
    /// What is known about registries beforehand, for instance from [another session](crate::Session::lessons).
    pub learned: Lessons,
    /// How many bytes of a blob are asked for at a time when it goes from registry to registry. Two such pieces of each blob
    /// under way are in memory, or up to four where they follow a request that was sent before them.
    pub piece: NonZeroU64,
    /// How many blobs one operation transfers at a time.
    pub transfers: NonZeroUsize,
    /// How many requests to one registry are under way at a time, over all operations of a client. Requests for tokens
    /// count, too: where the token server is (which may be the registry). There are fewer for a while when the registry says
    /// that it is too much (429, 503) or grows silent. One in eight is kept from blobs. What a blob is made of that is being sent comes
    /// on top, where it is fetched from the registry itself: one request for each such blob.
    pub requests_per_registry: NonZeroUsize,
    /// How many requests to one registry are sent in a second, at most, over all operations of a client. `None`: as many as it
    /// takes. That requests wait for it is told once, as a notice.
    pub requests_per_second: Option<NonZeroU32>,
    /// How often a request is tried again, and how often in a row a blob may run into trouble without getting ahead.
    pub retries: u32,
    /// How many requests of one operation may have to be made again, beyond as many as were answered since: the most that a
    /// registry in trouble is asked in vain, however many blobs there are to move.
    pub retry_budget: u32,
    /// How long an operation goes on with nothing but trouble: no answer, no byte, only failures and pauses, its registry's own
    /// among them.
    pub patience: Duration,
    /// The longest first pause before trying again; it doubles from one try to the next.
    pub backoff: Duration,
    /// The longest pause of our own choosing.
    pub backoff_limit: Duration,
    /// The longest pause that a registry can impose with `Retry-After`.
    pub retry_after_limit: Duration,
    /// When a driver gives a request up.
    pub timeouts: Timeouts,
    /// The most that is taken from a peer.
    pub limits: Limits,
    /// The most that is taken from an archive.
    pub archive: archive::Limits,
}

impl Config {
    /// Sets the credential to use with a registry (and with the token server that it names).
    pub fn log_in(&mut self, registry: &Registry, credential: Credential) {
        self.credentials.log_in(registry, credential);
    }

    pub(crate) const fn rules(&self) -> Rules {
        Rules { places: self.requests_per_registry.get(), per_second: self.requests_per_second }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            user_agent: concat!("registry-proto/", env!("CARGO_PKG_VERSION")).to_owned(),
            scheme: Scheme::default(),
            tls: TlsConfig::default(),
            proxies: Proxies::default(),
            mirrors: Mirrors::default(),
            credentials: Credentials::default(),
            token_request: TokenRequest::default(),
            upload: UploadPolicy::default(),
            learned: Lessons::default(),
            piece: NonZeroU64::new(2 << 20).expect("2 MiB is not 0"),
            transfers: NonZeroUsize::new(4).expect("4 is not 0"),
            requests_per_registry: NonZeroUsize::new(30).expect("30 is not 0"),
            requests_per_second: None,
            retries: 6,
            retry_budget: 300,
            // Longer than one request may have to wait with all its tries.
            patience: Duration::from_secs(45 * 60),
            backoff: Duration::from_millis(500),
            backoff_limit: Duration::from_secs(30),
            retry_after_limit: Duration::from_secs(300),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            archive: archive::Limits::default(),
        }
    }
}

/// Which scheme registries are spoken to with.
///
/// ```
/// use registry_proto::Config;
/// use registry_proto::session::Scheme;
///
/// let mut config = Config::default();
/// config.scheme = Scheme::Http; // a registry on a network of one's own, without TLS
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// `https`, and `http` for loopback hosts.
    #[default]
    Auto,
    /// Always `http`.
    Http,
    /// Always `https`.
    Https,
}

/// How a password is exchanged for a token. (Identity tokens are always posted: there is no other way.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenRequest {
    /// Docker's `GET`, the form that every token server takes.
    #[default]
    Get,
    /// OAuth2's `POST`, and `GET` where that is refused: the password stays out of `Authorization`.
    PostThenGet,
}

/// How blobs are uploaded.
///
/// ```
/// use std::num::NonZeroU64;
/// use registry_proto::{Config, UploadPolicy};
///
/// let mut config = Config::default();
/// config.upload = UploadPolicy::Chunked(NonZeroU64::new(16 << 20).expect("not 0"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UploadPolicy {
    /// One streamed `PUT` per blob, the form that every registry takes; chunks of an adaptive size where that is refused
    /// or keeps being cut. What a registry taught is kept for its other blobs.
    #[default]
    Auto,
    /// Blobs of up to this many bytes in one request, larger ones in chunks of this size.
    Chunked(NonZeroU64),
    /// One request per blob, whatever happens.
    Monolithic,
}

impl UploadPolicy {
    /// The classic rule: blobs up to 5 MiB in one request, larger ones in chunks of 5 MiB.
    pub const fn classic() -> Self {
        Self::Chunked(NonZeroU64::new(5 << 20).expect("5 MiB is not 0"))
    }
}
