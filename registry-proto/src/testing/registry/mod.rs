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

mod auth;
mod blobs;
mod call;
mod ledger;
mod lists;
mod manifests;
mod negotiate;
mod profile;
pub(super) mod query;
mod referrers;
mod reply;
mod route;
mod session;
mod store;
mod uploads;
mod vendors;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{LOCATION, WARNING};
use http::request::Parts;
use http::{Method, StatusCode};

use crate::archive::make::SampleImage;
use crate::spec::{Digest, Manifest, ManifestError, RepositoryName};

pub use ledger::{EarlyManifest, Ledger, Mismatch, Outcome, SessionRecord};
pub use profile::{Auth, LocationStyle, Mount, Profile, RangeDialect, Referrers, StaleState, Support};

use auth::Tokens;
use call::Call;
use reply::{Refusal, With as _};
use route::Route;
use session::Session;
use store::{Content, Repository};

/// A registry that lives in memory.
///
/// ```
/// use registry_proto::testing::registry::{Profile, Registry};
///
/// // One that behaves like Amazon's, with what a test needs in it, and in trouble of its own making.
/// let mut registry = Registry::new(Profile::ecr());
/// registry.create_repository("app");
/// registry.lose_uploads();
/// assert!(registry.tags("app").is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct Registry {
    profile: Profile,
    repositories: BTreeMap<String, Repository>,
    uploads: BTreeMap<String, Session>,
    /// How many uploads were ever opened.
    opened: u64,
    tokens: Tokens,
    ledger: Ledger,
    now: Duration,
}

impl Registry {
    /// An empty registry.
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            repositories: BTreeMap::new(),
            uploads: BTreeMap::new(),
            opened: 0,
            tokens: Tokens::default(),
            ledger: Ledger::default(),
            now: Duration::ZERO,
        }
    }

    /// Answers a request whose body arrived whole. Never panics, whatever comes.
    ///
    /// The request may have its whole URL or just the path (then `Host` says the rest). A reply to `HEAD` has no body, but says
    /// in `Content-Length` how long it would be.
    pub fn handle(&mut self, request: &Parts, body: Bytes) -> http::Response<Bytes> {
        let call = Call::new(request);
        let mut reply = self.answer(&call, body).unwrap_or_else(Refusal::into_reply);
        if request.uri.path().starts_with("/v2/") {
            reply = self.profile.warnings.iter().fold(reply, |reply, warning| reply.with(WARNING, warning));
        }
        reply::finish(&request.method, reply)
    }

    /// Takes a request whose client went away after `got`, a part of its body (`Content-Length` says how long all of it would
    /// have been). There is no reply, since nobody is there.
    pub fn cut(&mut self, request: &Parts, got: Bytes) {
        self.ledger.cuts += 1;
        let call = Call::new(request);
        if let Ok(Route::Upload(name, id)) = self.admit(&call, got.len()) {
            self.upload_cut(&call, &name, &id, got);
        }
    }

    fn answer(&mut self, call: &Call<'_>, body: Bytes) -> reply::Outcome {
        let path = call.path().unwrap_or_default();
        if let Some(auth) = self.profile.requires_auth.clone().filter(|auth| auth::is_realm(Some(auth), &path)) {
            let reply = auth::token(&auth, &mut self.tokens, self.now, call, &body)?;
            self.ledger.tokens_issued += 1;
            return Ok(reply);
        }
        if let Some(reply) = self.storage(call, &path) {
            return reply;
        }
        match self.admit(call, body.len())? {
            Route::Base => match *call.method {
                Method::GET | Method::HEAD => Ok(reply::json_reply("application/json", &serde_json::json!({}))),
                _ => Err(Refusal::no_such_method()),
            },
            Route::Catalog => self.catalog_endpoint(call),
            Route::Tags(name) => self.tags_endpoint(call, &name),
            Route::Manifest(name, reference) => self.manifest_endpoint(call, &name, &reference, body),
            Route::Blob(name, digest) => self.blob_endpoint(call, &name, &digest),
            Route::Uploads(name) => self.uploads_endpoint(call, &name, body),
            Route::Upload(name, id) => self.upload_endpoint(call, &name, &id, body),
            Route::Referrers(name, digest) => self.referrers_endpoint(call, &name, &digest),
            Route::Moved(path) => {
                let query = call.query.raw();
                let location = if query.is_empty() { path } else { format!("{path}?{query}") };
                Ok(reply::empty(StatusCode::MOVED_PERMANENTLY).with(LOCATION, &location))
            }
        }
    }

    /// Lets a request in, as far as proxies, paths and authentication have a say in it.
    fn admit(&mut self, call: &Call<'_>, got: usize) -> Result<Route, Refusal> {
        self.ledger.requests += 1;
        match call.headers.contains_key(http::header::AUTHORIZATION) {
            true => self.ledger.with_credentials += 1,
            false => self.ledger.without_credentials += 1,
        }
        let length = call.length().unwrap_or_default().max(got as u64);
        if self.profile.max_body.is_some_and(|most| length > most) {
            return Err(Refusal::too_large());
        }
        let path = call.path().ok_or_else(|| Refusal::text(StatusCode::BAD_REQUEST, "400 Bad Request"))?;
        let route = Route::parse(&path, self.profile.strict)?;
        if let Some(auth) = self.profile.requires_auth.as_ref().filter(|_| !matches!(route, Route::Moved(_))) {
            auth::admit(auth, &self.tokens, self.now, call, &route).inspect_err(|_| self.ledger.challenges += 1)?;
        }
        Ok(route)
    }

    /// The repository, made if need be.
    fn repository(&mut self, name: &RepositoryName) -> &mut Repository {
        self.repositories.entry(name.to_string()).or_default()
    }

    /// Refuses to write to a repository that isn't there, if that matters.
    fn must_exist(&self, name: &RepositoryName) -> Result<(), Refusal> {
        if self.profile.creates_repositories || self.repositories.contains_key(name.as_str()) {
            return Ok(());
        }
        Err(Refusal::from(reply::Code::NAME_UNKNOWN).detail(name.as_str()))
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

    /// Which manifest a tag leads to.
    pub fn tagged(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.repositories.get(repository)?.tags.get(tag).cloned()
    }

    /// A repository's tags, in order.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        self.repositories
            .get(repository)
            .map(|repository| repository.tags.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The blobs of a repository, in the order of their digests.
    pub fn blobs(&self, repository: &str) -> Vec<Digest> {
        let held = self.repositories.get(repository).map(|repository| repository.blobs.keys().cloned().collect());
        held.unwrap_or_default()
    }

    /// The manifests of a repository, in the order of their digests.
    pub fn manifests(&self, repository: &str) -> Vec<Digest> {
        let held = self.repositories.get(repository).map(|repository| repository.manifests.keys().cloned().collect());
        held.unwrap_or_default()
    }

    /// All repositories, in order.
    pub fn repositories(&self) -> Vec<String> {
        self.repositories.keys().cloned().collect()
    }

    /// How many uploads are neither finished nor given up.
    pub fn open_uploads(&self) -> usize {
        self.uploads.len()
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

    /// Puts a blob there under a digest of any algorithm; whether it is its digest.
    pub fn restore_blob(&mut self, repository: &str, digest: &Digest, bytes: Bytes) -> bool {
        let right = digest.algorithm().is_some_and(|algorithm| Digest::compute(algorithm, &bytes) == *digest);
        if right {
            let repository = self.repositories.entry(repository.to_owned()).or_default();
            repository.blobs.insert(digest.clone(), Content::from(bytes));
        }
        right
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

    /// Puts an image there, layers, configuration and manifest, under a tag if one is given, and says its manifest's digest.
    ///
    /// ```
    /// use registry_proto::archive::make::SampleImage;
    /// use registry_proto::testing::registry::{Profile, Registry};
    ///
    /// let mut registry = Registry::new(Profile::distribution_3());
    /// let digest = registry.insert_image("app", Some("v1"), &SampleImage::new(&[], &[b"a layer"]));
    /// assert_eq!(registry.tagged("app", "v1"), Some(digest));
    /// assert_eq!(registry.blobs("app").len(), 2, "the layer and the configuration");
    /// ```
    pub fn insert_image(&mut self, repository: &str, tag: Option<&str>, image: &SampleImage) -> Digest {
        let manifest = image.manifest(false);
        let blobs = image.layers.iter().cloned().chain([image.config()]);
        blobs.for_each(|blob| _ = self.insert_blob(repository, blob));
        let digest = manifest.digest().clone();
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        repository.manifests.insert(digest.clone(), manifest);
        if let Some(tag) = tag {
            repository.tag(tag, digest.clone());
        }
        digest
    }

    /// Puts a manifest there under a digest of any algorithm, and under tags; whether it is its digest.
    ///
    /// # Errors
    /// If the bytes are no manifest of that type.
    pub fn restore_manifest<'a>(
        &mut self,
        repository: &str,
        digest: &Digest,
        bytes: Bytes,
        media_type: &str,
        tags: impl IntoIterator<Item = &'a str>,
    ) -> Result<bool, ManifestError> {
        let right = digest.algorithm().is_some_and(|algorithm| Digest::compute(algorithm, &bytes) == *digest);
        if right {
            let manifest = Manifest::parse(bytes, Some(media_type), None)?;
            let repository = self.repositories.entry(repository.to_owned()).or_default();
            repository.manifests.insert(digest.clone(), manifest);
            tags.into_iter().for_each(|tag| repository.tag(tag, digest.clone()));
        }
        Ok(right)
    }

    /// Loses a tag; whether there was one.
    pub fn remove_tag(&mut self, repository: &str, tag: &str) -> bool {
        self.repositories.get_mut(repository).is_some_and(|repository| repository.tags.remove(tag).is_some())
    }

    /// Loses all manifests of a repository, and its tags with them; the blobs stay.
    pub fn forget_manifests(&mut self, repository: &str) {
        if let Some(repository) = self.repositories.get_mut(repository) {
            repository.manifests.clear();
            repository.tags.clear();
        }
    }

    /// Loses a blob; whether there was one.
    pub fn remove_blob(&mut self, repository: &str, digest: &str) -> bool {
        let (Some(repository), Ok(digest)) = (self.repositories.get_mut(repository), digest.parse::<Digest>()) else {
            return false;
        };
        repository.blobs.remove(&digest).is_some()
    }

    /// Changes one byte of a blob, which goes on to be handed out under its digest; whether there was one to change.
    pub fn damage_blob(&mut self, repository: &str, digest: &str, at: usize) -> bool {
        let blob = digest
            .parse::<Digest>()
            .ok()
            .and_then(|digest| self.repositories.get_mut(repository)?.blobs.get_mut(&digest));
        let Some(blob) = blob else { return false };
        let mut bytes = Vec::from(blob.joined());
        let Some(byte) = bytes.get_mut(at) else { return false };
        *byte ^= 1;
        *blob = Content::from(Bytes::from(bytes));
        true
    }

    /// Loses every open upload, as a restart without shared storage does.
    pub fn lose_uploads(&mut self) {
        for id in std::mem::take(&mut self.uploads).into_keys() {
            self.ledger.closed(&id, Outcome::Lost);
        }
    }

    /// Refuses from now on all tokens that were handed out so far.
    pub fn revoke_tokens(&mut self) {
        self.tokens.revoke();
    }

    /// Tells the time since whatever the tests' epoch is; it never goes back. Tokens and signed URLs expire by it.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }
}
