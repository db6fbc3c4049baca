//! What a registry went through, for tests to check.

use std::collections::BTreeMap;

use crate::spec::Digest;

/// What became of an upload session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is still open.
    Open,
    /// It became a blob.
    Committed(Digest),
    /// The client gave it up.
    Cancelled,
    /// The bytes didn't have the digest that the client said.
    Mismatched,
    /// The registry lost it.
    Lost,
}

/// One upload session's life.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionRecord {
    /// The repository it was opened in.
    pub repository: String,
    /// How many bytes the registry took for it; repeated bytes count again.
    pub received: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// A manifest that came before something it names, and was refused for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EarlyManifest {
    /// The repository it was put to.
    pub repository: String,
    /// The tag or digest it was put as.
    pub reference: String,
    /// What was missing.
    pub missing: Vec<Digest>,
}

/// A commit that was refused, since the bytes didn't have the digest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// The repository.
    pub repository: String,
    /// The digest that the client said.
    pub said: Digest,
    /// The bytes' own.
    pub found: Digest,
}

/// What a registry went through, for tests to check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ledger {
    /// How many requests came, cut ones included.
    pub requests: u64,
    /// How many of them were cut.
    pub cuts: u64,
    /// Requests to the registry (not for a token) that had an `Authorization`.
    pub with_credentials: u64,
    /// Requests to the registry (not for a token) that had none.
    pub without_credentials: u64,
    /// How many were refused for want of a (better) token or password.
    pub challenges: u64,
    /// How many tokens were handed out.
    pub tokens_issued: u64,
    /// How often each blob was committed, by repository and digest. Mounting is no commit.
    pub commits: BTreeMap<(String, Digest), u64>,
    /// How often each blob was mounted, by repository and digest.
    pub mounts: BTreeMap<(String, Digest), u64>,
    /// Every upload session there ever was, by its id, in the order of opening.
    pub sessions: BTreeMap<String, SessionRecord>,
    /// Manifests that were put before something they name. A right client causes none.
    pub early_manifests: Vec<EarlyManifest>,
    /// Commits whose bytes didn't have the digest. A right client causes none.
    pub mismatches: Vec<Mismatch>,
    /// How often each manifest was put, by repository and tag or digest.
    pub manifests: BTreeMap<(String, String), u64>,
    /// Requests to the storage behind [`redirect_blobs`](super::Profile::redirect_blobs) that brought credentials. A right client
    /// sends none.
    pub credentials_to_storage: u64,
}

impl Ledger {
    /// How often a blob was committed.
    pub fn commits_of(&self, repository: &str, digest: &Digest) -> u64 {
        self.commits.get(&(repository.to_owned(), digest.clone())).copied().unwrap_or_default()
    }

    /// How many bytes came for uploads, over all sessions.
    pub fn bytes_received(&self) -> u64 {
        self.sessions.values().map(|session| session.received).sum()
    }

    pub(super) fn opened(&mut self, id: &str, repository: &str) {
        let record = SessionRecord { repository: repository.to_owned(), received: 0, outcome: Outcome::Open };
        self.sessions.insert(id.to_owned(), record);
    }

    pub(super) fn received(&mut self, id: &str, bytes: u64) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.received += bytes;
        }
    }

    pub(super) fn closed(&mut self, id: &str, outcome: Outcome) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.outcome = outcome;
        }
    }

    pub(super) fn committed(&mut self, repository: &str, digest: &Digest) {
        *self.commits.entry((repository.to_owned(), digest.clone())).or_default() += 1;
    }

    pub(super) fn mounted(&mut self, repository: &str, digest: &Digest) {
        *self.mounts.entry((repository.to_owned(), digest.clone())).or_default() += 1;
    }
}
