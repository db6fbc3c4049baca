//! What an operation needs to go on after its process has ended: durable facts, and nothing else.
//!
//! ```text
//!   {"version": 1, "facts": {"push": {"archive": …, "to": …, "sessions": […]}}, "digest": "sha256:…" of the facts}
//! ```
//!
//! No token, no time, no job: whoever goes on asks the registry what is still true of it. It holds URLs of upload sessions,
//! though, in which some registries keep a signed state: `Debug` doesn't show them, and they belong where only their owner
//! can read them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use http::Uri;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::spec::{Digest, Repository, object, redacted};

/// What others than this one leave out can't be made up: they are refused.
const VERSION: u64 = 1;

/// The state of a [`Push`](crate::flow::Push) or [`Pull`](crate::flow::Pull), from which another process can go on.
///
/// [`Event::Snapshot`](crate::Event::Snapshot) tells the newest one, [`Resume`](crate::flow::Resume) takes it, and
/// [`Resumable`](crate::flow::Resumable) keeps it in a file.
///
/// ```
/// use registry_proto::{Snapshot, SnapshotFault};
///
/// let newer = br#"{"version": 2, "facts": {}}"#;
/// assert_eq!(Snapshot::parse(newer).unwrap_err().fault, SnapshotFault::Version { found: 2 });
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot(Facts);

/// Where an upload goes on that was begun: the session's URL, which may carry a state that the registry has signed. `Debug`
/// shows it without.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadSession {
    url: String,
    /// The least that the registry takes at a time, in bytes (`OCI-Chunk-Min-Length`).
    chunk_min: u64,
    /// The most, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk_max: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Facts {
    Push(PushFacts),
    Pull(PullFacts),
}

/// What is durable of a push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushFacts {
    /// The archive's identity.
    pub(crate) archive: Digest,
    pub(crate) to: Aim,
    pub(crate) sessions: Vec<OpenSession>,
}

/// A blob of which a registry may hold the beginning. How much that is, only the registry knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenSession {
    pub(crate) repository: String,
    pub(crate) blob: Digest,
    pub(crate) session: UploadSession,
}

/// What is durable of a pull. The blobs are in its partial file, which is looked through, not believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PullFacts {
    pub(crate) of: Aim,
    /// What each reference led to when the pull began.
    pub(crate) roots: Vec<Digest>,
}

/// What an operation was about: in words, and exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Aim {
    words: String,
    digest: Digest,
}

#[derive(Deserialize)]
struct Head {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    facts: Facts,
    digest: Digest,
}

/// Why a snapshot can't be gone on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotError {
    /// The file that it was read from, if it was.
    pub path: Option<Arc<Path>>,
    /// What is wrong with it.
    pub fault: SnapshotFault,
}

/// What is wrong with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotFault {
    /// It is none, or not what was written.
    #[error("it holds no state of an operation, or was damaged ({0})")]
    Damaged(String),
    /// Another version of this software has written it.
    #[error("it has version {found}, and only {VERSION} is understood here")]
    Version {
        /// Its version.
        found: u64,
    },
    /// It is of another kind of operation.
    #[error("it is of a {found}, not of a {wanted}")]
    Operation {
        /// Whose it is.
        found: &'static str,
        /// What it was given to.
        wanted: &'static str,
    },
    /// It is of the same operation on something else.
    #[error("it is of {found}, not of {wanted}")]
    Target {
        /// Whose it is.
        found: String,
        /// What it was given to.
        wanted: String,
    },
    /// The archive is another one than that which the operation was begun with.
    #[error("it was begun with another archive, or {0} was changed since")]
    Archive(String),
    /// One of its sessions is not at the registry that the blob goes to.
    #[error("an upload session in it is not used: {0}")]
    Session(String),
}

impl SnapshotError {
    pub(crate) const fn new(fault: SnapshotFault) -> Self {
        Self { path: None, fault }
    }

    /// It was read from this file.
    pub(crate) fn at(self, path: &Arc<Path>) -> Self {
        Self { path: Some(Arc::clone(path)), ..self }
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(
                f,
                "{} can't be gone on from: {}; remove it or name another file to start anew",
                path.display(),
                self.fault
            )?,
            None => write!(f, "the snapshot can't be gone on from: {}; start anew without it", self.fault)?,
        }
        f.write_str(" (what is complete is not transferred again)")
    }
}

impl std::error::Error for SnapshotError {}

impl Snapshot {
    pub(crate) const fn new(facts: Facts) -> Self {
        Self(facts)
    }

    /// Reads what [`to_secret`](Snapshot::to_secret) wrote.
    ///
    /// # Errors
    /// [`SnapshotFault::Damaged`] and [`SnapshotFault::Version`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SnapshotError> {
        // (The words of an error may quote what it stumbled over.)
        let damaged = |why: serde_json::Error| {
            let why = format!("line {}, column {}", why.line(), why.column());
            SnapshotError::new(SnapshotFault::Damaged(why))
        };
        let head: Head = object(bytes).map_err(damaged)?;
        if head.version != VERSION {
            return Err(SnapshotError::new(SnapshotFault::Version { found: head.version }));
        }
        let document: Document = object(bytes).map_err(damaged)?;
        if digest(&document.facts) != document.digest {
            let why = "its digest is wrong".to_owned();
            return Err(SnapshotError::new(SnapshotFault::Damaged(why)));
        }
        Ok(Self(document.facts))
    }

    /// As JSON, to be kept where only its owner can read it.
    pub fn to_secret(&self) -> Secret {
        let document = Document { version: VERSION, digest: digest(&self.0), facts: self.0.clone() };
        Secret::new(serde_json::to_string(&document).expect("texts and numbers are all that there is"))
    }

    /// What of a push it holds.
    pub(crate) fn into_push(self) -> Result<PushFacts, SnapshotError> {
        match self.0 {
            Facts::Push(facts) => Ok(facts),
            Facts::Pull(_) => Err(SnapshotError::new(SnapshotFault::Operation { found: "pull", wanted: "push" })),
        }
    }

    /// What of a pull it holds.
    pub(crate) fn into_pull(self) -> Result<PullFacts, SnapshotError> {
        match self.0 {
            Facts::Pull(facts) => Ok(facts),
            Facts::Push(_) => Err(SnapshotError::new(SnapshotFault::Operation { found: "push", wanted: "pull" })),
        }
    }
}

fn digest(facts: &Facts) -> Digest {
    Digest::of(&serde_json::to_vec(facts).expect("texts and numbers are all that there is"))
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(&self.0).finish()
    }
}

impl UploadSession {
    pub(crate) fn new(url: &Uri, chunk_min: u64, chunk_max: Option<u64>) -> Self {
        Self { url: url.to_string(), chunk_min, chunk_max }
    }

    /// The URL, unchecked.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) const fn chunk_min(&self) -> u64 {
        self.chunk_min
    }

    pub(crate) const fn chunk_max(&self) -> Option<u64> {
        self.chunk_max
    }
}

impl fmt::Debug for UploadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.parse().map_or_else(|_| "…".to_owned(), |url| redacted(&url));
        f.debug_tuple("UploadSession").field(&url).finish()
    }
}

impl OpenSession {
    pub(crate) fn new(repository: &Repository, blob: &Digest, session: &UploadSession) -> Self {
        Self { repository: repository.to_string(), blob: blob.clone(), session: session.clone() }
    }
}

impl Aim {
    /// What these lines say, whatever their order. The words are about the first few of `names`.
    pub(crate) fn new<'a>(mut lines: Vec<String>, names: impl IntoIterator<Item = &'a String>) -> Self {
        lines.sort();
        let (mut words, mut more) = (Vec::new(), 0);
        for name in names {
            if words.len() < 3 { words.push(name.as_str()) } else { more += 1 }
        }
        let mut words = words.join(", ");
        if more > 0 {
            words.push_str(&format!(" and {more} more"));
        }
        Self { words, digest: Digest::of(lines.join("\n").as_bytes()) }
    }

    /// Whether it is the same as `wanted`. What the operation does comes before the words: "push to".
    pub(crate) fn check(&self, wanted: &Self, does: &str) -> Result<(), SnapshotError> {
        if self.digest == wanted.digest {
            return Ok(());
        }
        // The words don't say everything.
        let which = if self.words == wanted.words { "another" } else { "a" };
        let found = format!("{which} {does} {}", self.words);
        Err(SnapshotError::new(SnapshotFault::Target { found, wanted: format!("a {does} {}", wanted.words) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let url = "https://r.example/v2/n/blobs/uploads/u?_state=signed".parse().unwrap();
        let session = UploadSession::new(&url, 5, Some(9));
        let repository = "r.example/n".parse().unwrap();
        let name = "r.example/n:v1".to_owned();
        Snapshot::new(Facts::Push(PushFacts {
            archive: Digest::of(b"archive"),
            to: Aim::new(vec![name.clone()], [&name]),
            sessions: vec![OpenSession::new(&repository, &Digest::of(b"blob"), &session)],
        }))
    }

    #[test]
    fn what_was_written_is_read() {
        let written = snapshot().to_secret();
        assert_eq!(Snapshot::parse(written.expose().as_bytes()), Ok(snapshot()));
        // Golden: whoever changes this changes the version.
        let digest = digest(&snapshot().0);
        assert_eq!(
            written.expose(),
            format!(
                r#"{{"version":1,"facts":{{"push":{{"archive":"{}","to":{{"words":"r.example/n:v1","digest":"{}"}},"sessions":[{{"repository":"r.example/n","blob":"{}","session":{{"url":"https://r.example/v2/n/blobs/uploads/u?_state=signed","chunk_min":5,"chunk_max":9}}}}]}}}},"digest":"{digest}"}}"#,
                Digest::of(b"archive"),
                Digest::of(b"r.example/n:v1"),
                Digest::of(b"blob"),
            )
        );
    }

    #[test]
    fn whatever_is_damaged_is_refused() {
        let written = snapshot().to_secret();
        let written = written.expose().as_bytes();
        for length in 0..written.len() {
            let fault = Snapshot::parse(&written[..length]).unwrap_err().fault;
            assert!(matches!(fault, SnapshotFault::Damaged(_)), "{length}: {fault}");
        }
        for at in 0..written.len() {
            let mut bytes = written.to_vec();
            bytes[at] ^= 1;
            let fault = Snapshot::parse(&bytes).unwrap_err().fault;
            assert!(matches!(fault, SnapshotFault::Damaged(_) | SnapshotFault::Version { .. }), "{at}: {fault}");
            assert!(!fault.to_string().contains("signed"), "{fault}");
        }
    }

    #[test]
    fn a_session_s_state_is_not_shown() {
        let shown = format!("{:?} {:?}", snapshot(), snapshot().to_secret());
        assert!(shown.contains("r.example") && !shown.contains("signed"), "{shown}");
    }

    #[test]
    fn many_names_are_told_in_few_words() {
        let names: Vec<String> = (0..5).map(|at| format!("a:{at}")).collect();
        let [one, other] = [names.clone(), names.iter().rev().cloned().collect()].map(|lines| Aim::new(lines, &names));
        assert_eq!(one, other);
        assert_eq!(one.words, "a:0, a:1, a:2 and 2 more");
        let wanted = Aim::new(vec!["b".to_owned()], [&"b".to_owned()]);
        let why = one.check(&wanted, "push to").unwrap_err();
        assert_eq!(
            why.to_string(),
            "the snapshot can't be gone on from: it is of a push to a:0, a:1, a:2 and 2 more, not of a push to b; start \
             anew without it (what is complete is not transferred again)"
        );
    }
}
