//! What can go wrong, by whose fault it is.

use std::fmt;

use http::{Method, StatusCode, Uri};

use crate::archive::ArchiveError;
use crate::job::{Failure, FailureKind, ProxyFault};
use crate::snapshot::SnapshotError;
use crate::spec::{ApiError, Challenge, Digest, ScopeSet, is_transient, redacted};

/// Why an operation did not succeed. The variant says whose fault it is; the text says what was asked of whom, what came
/// back and what to do next. No secret is ever part of it.
///
/// ```
/// use registry_proto::{DeniedBecause, Error};
///
/// fn what_to_do(why: &Error) -> &str {
///     match why {
///         Error::Denied(denied) if denied.because == DeniedBecause::NoCredentials => "log in",
///         Error::Registry(refusal) if refusal.status == 404 => "look at the name",
///         why if why.is_transient() => "try again later",
///         _ => "read it",
///     }
/// }
/// assert_eq!(what_to_do(&Error::Cancelled), "read it");
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry understood and refused.
    #[error(transparent)]
    Registry(Box<Refusal>),
    /// The registry (or who sits before it) broke the protocol.
    #[error("{asked}: the registry broke the protocol: {what}")]
    Protocol {
        /// What was asked.
        asked: Asked,
        /// What is wrong with the reply.
        what: String,
    },
    /// Access was denied.
    #[error(transparent)]
    Denied(Box<Denied>),
    /// No reply came, in spite of all tries.
    #[error("{asked}: {last} ({tries} {}){}", if *.tries == 1 { "try" } else { "tries" }, transport_advice(last))]
    Transport {
        /// What was asked.
        asked: Asked,
        /// What went wrong the last time.
        last: Failure,
        /// How often it was tried.
        tries: u32,
    },
    /// The operation as a whole was in trouble for longer than [`Config::patience`](crate::Config::patience), or more often
    /// than [`Config::retry_budget`](crate::Config::retry_budget) allows.
    #[error("{request}: {why}; given up: {because} (do it again later)")]
    GivenUp {
        /// What was asked last, without secrets.
        request: String,
        /// What came of it.
        why: String,
        /// Which limit it ran into.
        because: String,
    },
    /// Something here failed, not out there: a local file could not be read or written, or does not hold what it should; what has
    /// gone by would have to be sent again; a thread or task broke down. [`Failure::kind`] says which.
    #[error("{0}{advice}", advice = local_advice(.0))]
    Local(Failure),
    /// The archive is not what it should be. Nothing was sent of one that is in a file; of one that
    /// [goes by](crate::flow::PushFeed), blobs may have been, but no manifest.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// There is a snapshot to go on from, but not of this operation, or not a whole one. Nothing was transferred.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Content has another digest than was asked for.
    #[error("{asked}: content should have digest {expected}, but has {found}; do not use it")]
    Integrity {
        /// What was asked.
        asked: Asked,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// What the registry or the archive holds is nothing that this can be done with: no image for the platform, of a kind that is not
    /// known here, more of it than is taken. The text says what there is.
    #[error("{0}")]
    Unsuitable(String),
    /// The operation was asked for something that makes no sense, whatever there is.
    #[error("{0}")]
    Misuse(String),
    /// The operation was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Whether the same operation may succeed if it is simply done again later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { last, .. } => last.is_transient(),
            Self::Registry(refusal) => is_transient(refusal.status),
            Self::GivenUp { .. } => true,
            _ => false,
        }
    }

    /// The status of the reply that ended the operation, if a reply did.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Registry(refusal) => Some(refusal.status),
            Self::Denied(denied) => Some(denied.status),
            _ => None,
        }
    }
}

/// A request as errors and events name it: its method and its URL without the query, which may be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    method: Method,
    url: String,
}

impl Asked {
    pub(crate) fn new(method: &Method, url: &Uri) -> Self {
        Self { method: method.clone(), url: redacted(url) }
    }

    /// The request's method.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The request's URL, without its query.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// A reply that means "no".
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What was asked.
    pub asked: Asked,
    /// The reply's status.
    pub status: StatusCode,
    /// What the reply's body says, if it says anything.
    pub errors: Vec<ApiError>,
    /// What to do about it, where that is known.
    pub advice: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the registry answered {}", self.asked, self.status)?;
        said(f, &self.errors)?;
        if let Some(advice) = &self.advice {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// A "no" for want of permission: what was asked for and what was offered.
#[derive(Clone, Debug)]
pub struct Denied {
    /// What was asked.
    pub asked: Asked,
    /// The reply's status: 401, 403, or what the token server answered.
    pub status: StatusCode,
    /// The scopes that were asked for.
    pub scopes: ScopeSet,
    /// The challenges that came with the reply.
    pub challenges: Vec<Challenge>,
    /// What the reply's body says.
    pub errors: Vec<ApiError>,
    /// What led to the end of the attempts.
    pub because: DeniedBecause,
}

/// Which part of getting in failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeniedBecause {
    /// The registry wants credentials and none are known for it.
    NoCredentials,
    /// The user and password were refused.
    WrongCredentials,
    /// The stored token (an identity token, or one for the registry itself) was refused: it has expired or was revoked.
    TokenExpired,
    /// The token server gives no token for what was asked for, with these credentials.
    TokenRefused,
    /// The registry does not take the token that its token server has just given.
    TokenNotAccepted,
    /// A token was given, but it does not reach this far: a missing permission, or a repository that does not exist
    /// (many registries don't tell these apart).
    NotAllowed,
    /// The registry does not list its repositories, or not for this account.
    NoCatalog,
    /// The registry's challenge can't be answered: an unknown scheme, no realm, or a realm that must not be asked.
    UnusableChallenge(String),
    /// The token server's answer holds no usable token.
    UnusableToken(String),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: access denied ({})", self.asked, self.status.as_u16())?;
        said(f, &self.errors)?;
        let scopes = self.scopes.to_string();
        if !scopes.is_empty() {
            write!(f, ", asked for `{scopes}`")?;
        }
        match &self.because {
            DeniedBecause::NoCredentials => f.write_str(
                "; no credentials are known for this registry: log in first (or check that the repository exists: many \
                 registries don't tell the two apart)",
            ),
            DeniedBecause::WrongCredentials => f.write_str("; the credentials were refused: check user and password"),
            DeniedBecause::TokenExpired => {
                f.write_str("; the stored token was refused, so it has expired or was revoked: log in again")
            }
            DeniedBecause::TokenRefused => f.write_str(
                "; the token server gives no token for this: check that the repository exists, that this account may do \
                 this, and that its password or access token is still valid",
            ),
            DeniedBecause::TokenNotAccepted => f.write_str(
                "; the registry does not take the token that its token server has just given: its operator should look \
                 at its clock and keys",
            ),
            DeniedBecause::NotAllowed => {
                f.write_str("; check that the repository exists and that this account may do this")
            }
            DeniedBecause::NoCatalog => f.write_str(
                "; this registry does not list its repositories, or not for this account: name the repository instead",
            ),
            DeniedBecause::UnusableChallenge(why) => write!(f, "; the registry's challenge can't be answered: {why}"),
            DeniedBecause::UnusableToken(why) => write!(f, "; the token server's answer can't be used: {why}"),
        }
    }
}

impl std::error::Error for Denied {}

fn said(f: &mut fmt::Formatter<'_>, errors: &[ApiError]) -> fmt::Result {
    for (i, error) in errors.iter().take(3).enumerate() {
        write!(f, "{}{error}", if i == 0 { ": " } else { "; " })?;
    }
    Ok(())
}

const fn transport_advice(last: &Failure) -> &'static str {
    match last.kind() {
        FailureKind::Connect => "; is the registry's address right, and is it running?",
        FailureKind::Proxy(fault) => match fault {
            ProxyFault::Unusable => "; give the address of another one, or except this host (`no_proxy`)",
            ProxyFault::Unreachable | ProxyFault::Silent => "; is the proxy's address right, and is it running?",
            ProxyFault::Credentials => "; check user and password in the proxy's address",
            ProxyFault::Refused => {
                "; whoever runs the proxy says who may go where, and to which port; or does this host need no proxy (`no_proxy`)?"
            }
            ProxyFault::Beyond => {
                "; is the registry's address right, and should it be reached by way of the proxy (`no_proxy`)?"
            }
            ProxyFault::Protocol => "; is it a proxy for http that answers there?",
        },
        FailureKind::Tls => {
            "; does the registry speak TLS, is its authority known here, and does it want a client certificate?"
        }
        _ => "",
    }
}

const fn local_advice(why: &Failure) -> &'static str {
    match why.kind() {
        FailureKind::Mismatch => "; the archive is damaged or was changed: nothing of it was committed",
        FailureKind::Target => {
            "; nothing half-written has its final name, and what has come so far is used by the next run"
        }
        _ => "",
    }
}
