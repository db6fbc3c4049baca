//! A registry as a value: a request goes in, the reply comes out. It does no I/O, knows no clock and has no threads, so that
//! the same requests get the same replies, and it can be cloned, compared before and after, and broken on purpose.
//!
//! ```
//! use bytes::Bytes;
//! use registry_proto::testing::registry::{Profile, Registry};
//!
//! let mut registry = Registry::new(Profile::distribution_3());
//! let digest = registry.insert_blob("library/hello", Bytes::from_static(b"hello"));
//!
//! let (request, ()) = http::Request::get(format!("/v2/library/hello/blobs/{digest}")).body(())?.into_parts();
//! let reply = registry.handle(&request, Bytes::new());
//! assert_eq!(reply.status(), 200);
//! assert_eq!(reply.body(), "hello");
//! # Ok::<(), http::Error>(())
//! ```
//!
//! How it behaves where registries differ is its [`Profile`]; what it went through is its [`Ledger`].

mod ledger;
mod profile;
mod store;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;

use crate::spec::{Digest, Manifest, ManifestError};

pub use ledger::{EarlyManifest, Ledger, Mismatch, Outcome, SessionRecord};
pub use profile::{Auth, LocationStyle, Mount, Profile, RangeDialect, StaleState, Support};

use store::{Content, Repository};

/// A registry that lives in memory.
#[derive(Clone, Debug)]
pub struct Registry {
    profile: Profile,
    repositories: BTreeMap<String, Repository>,
    ledger: Ledger,
    now: Duration,
}

impl Registry {
    /// An empty registry.
    pub fn new(profile: Profile) -> Self {
        Self { profile, repositories: BTreeMap::new(), ledger: Ledger::default(), now: Duration::ZERO }
    }

    /// Answers a request whose body arrived whole. Never panics, whatever comes.
    ///
    /// The request may have its whole URL or just the path (then `Host` says the rest). A reply to `HEAD` has no body, but says
    /// in `Content-Length` how long it would be.
    pub fn handle(&mut self, request: &Parts, body: Bytes) -> http::Response<Bytes> {
        let _ = (request, body, &self.now, &self.profile);
        let mut reply = http::Response::new(Bytes::new());
        *reply.status_mut() = http::StatusCode::NOT_IMPLEMENTED;
        reply
    }

    /// Takes a request whose client went away after `got`, a part of its body. There is no reply, since nobody is there.
    pub fn cut(&mut self, request: &Parts, got: Bytes) {
        let _ = (request, got);
    }
}

/// Looking inside.
impl Registry {
    /// A blob's bytes.
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Bytes> {
        let digest = digest.parse::<Digest>().ok()?;
        Some(self.repositories.get(repository)?.blobs.get(&digest)?.joined())
    }

    /// A manifest's bytes and media type, by tag or digest.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<(Bytes, String)> {
        let repository = self.repositories.get(repository)?;
        let digest = match repository.tags.get(reference) {
            Some(digest) => digest.clone(),
            None => reference.parse().ok()?,
        };
        let manifest = repository.manifests.get(&digest)?;
        Some((manifest.bytes().clone(), manifest.media_type().to_string()))
    }

    /// A repository's tags, in order.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        self.repositories
            .get(repository)
            .map(|repository| repository.tags.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// All repositories, in order.
    pub fn repositories(&self) -> Vec<String> {
        self.repositories.keys().cloned().collect()
    }

    /// How many uploads are neither finished nor given up.
    pub const fn open_uploads(&self) -> usize {
        0
    }

    /// What it went through.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How it behaves.
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// How it behaves, to be changed: registries get new configurations and new versions.
    pub const fn profile_mut(&mut self) -> &mut Profile {
        &mut self.profile
    }
}

/// Preparing state and making trouble.
impl Registry {
    /// Makes an empty repository, for a [`Profile`] that doesn't do so by itself.
    pub fn create_repository(&mut self, repository: &str) {
        self.repositories.entry(repository.to_owned()).or_default();
    }

    /// Puts a blob there, and says its digest.
    pub fn insert_blob(&mut self, repository: &str, bytes: Bytes) -> Digest {
        let digest = Digest::of(&bytes);
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        repository.blobs.insert(digest.clone(), Content::from(bytes));
        digest
    }

    /// Puts a manifest there, under a tag if one is given, and says its digest. What it names need not be there.
    ///
    /// # Errors
    /// If the bytes are no manifest of that type.
    pub fn insert_manifest(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        bytes: Bytes,
        media_type: &str,
    ) -> Result<Digest, ManifestError> {
        let manifest = Manifest::parse(bytes, Some(media_type), None)?;
        let digest = manifest.digest().clone();
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        repository.manifests.insert(digest.clone(), manifest);
        if let Some(tag) = tag {
            repository.tag(tag, digest.clone());
        }
        Ok(digest)
    }

    /// Loses a blob; whether there was one.
    pub fn remove_blob(&mut self, repository: &str, digest: &str) -> bool {
        let (Some(repository), Ok(digest)) = (self.repositories.get_mut(repository), digest.parse::<Digest>()) else {
            return false;
        };
        repository.blobs.remove(&digest).is_some()
    }

    /// Loses every open upload, as a restart without shared storage does.
    pub fn lose_uploads(&mut self) {}

    /// Refuses from now on all tokens that were handed out so far.
    pub fn revoke_tokens(&mut self) {}

    /// Tells the time since whatever the tests' epoch is; it never goes back. Tokens and signed URLs expire by it.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }
}
