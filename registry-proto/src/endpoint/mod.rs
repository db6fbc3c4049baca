//! One request and its reply, endpoint by endpoint: functions without state.
//!
//! Each module builds an [`Ask`] and reads a [`Reply`] of one part of the specification's endpoint table. What a reply
//! *means* is decided here; what to *do* about it is decided in [`flow`](crate::flow).

pub(crate) mod blob;
pub(crate) mod catalog;
pub(crate) mod delete;
pub(crate) mod manifest;
pub(crate) mod page;
pub(crate) mod ping;
pub(crate) mod referrers;
pub(crate) mod tags;
pub(crate) mod token;
pub(crate) mod upload;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::digester::Digester;
use crate::error::{Asked, Error, Refusal};
use crate::job::{FilePlace, Payload, Plan, Sink};
use crate::limits::Limits;
use crate::spec::{ApiError, Digest, Origin, RepositoryName, ScopeSet, TagOrDigest, clean, parse_error_body};

/// The longest text about a reply that makes no sense, in characters.
const LONGEST: usize = 1000;

/// A request as an endpoint describes it: before authorisation, retries and redirects.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    pub(crate) plan: Plan,
    /// What a token for this request has to allow.
    pub(crate) scopes: ScopeSet,
    pub(crate) replay: Replay,
    /// Whether a 401 is to be answered with credentials; when not, it is the reply.
    pub(crate) authenticate: bool,
    /// It moves a blob, or a piece of one: how long that takes as a whole nobody can say.
    pub(crate) is_bulk: bool,
    /// Whether a mirror of the registry may answer it.
    pub(crate) mirrored: Mirrored,
}

/// What a mirror may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mirrored {
    /// Nothing: it changes something, or only the registry itself knows.
    Never,
    /// What is verified by its digest.
    ByDigest,
    /// To what a tag leads.
    ByTag,
}

impl Mirrored {
    /// As whoever reads content by this asks for it.
    pub(crate) const fn by(reference: &TagOrDigest) -> Self {
        match reference {
            TagOrDigest::Tag(_) => Self::ByTag,
            TagOrDigest::Digest(_) => Self::ByDigest,
        }
    }
}

/// When the leaf may send a request again on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// Whenever it seems worth while: the request is idempotent.
    Anytime,
    /// Only when the registry said that it did nothing (401), or never saw it. Otherwise its owner asks the registry first
    /// how far it came: a `PATCH` is never blindly resent.
    OwnerAsksFirst,
    /// Whenever the reply says so. When it was cut, its owner asks for what is missing: a `GET` whose body goes to a file.
    OwnerGoesOn,
    /// Once is enough; nobody cares much about the reply.
    Never,
}

impl Ask {
    fn new(method: Method, url: Uri, scopes: ScopeSet, limits: &Limits) -> Self {
        let mut headers = HeaderMap::new();
        // Digests cover the bytes without any content coding, and some registries gzip blobs when they may (PROTOCOL §1.0).
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Self {
            method,
            url,
            headers,
            payload: Payload::Empty,
            plan: Plan::new(Sink::Discard { limit: limits.discard }, limits.error_body),
            scopes,
            replay: Replay::Anytime,
            authenticate: true,
            is_bulk: false,
            mirrored: Mirrored::Never,
        }
    }

    fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a body, or the explicit absence of one, which uploads need (`Content-Length: 0`).
    fn body(mut self, payload: Payload, content_type: HeaderValue) -> Self {
        if !payload.is_empty() {
            self.headers.insert(CONTENT_TYPE, content_type);
        }
        self.headers.insert(CONTENT_LENGTH, HeaderValue::from(payload.len()));
        self.payload = payload;
        self
    }

    fn collect(mut self, limit: usize, limits: &Limits) -> Self {
        self.plan = Plan::new(Sink::Collect { limit }, limits.error_body);
        self
    }

    /// A successful reply's body goes to its place in a file.
    fn file(mut self, place: FilePlace, limits: &Limits) -> Self {
        self.plan = Plan::new(Sink::File(place), limits.error_body);
        self.bulk()
    }

    /// Only these bytes, please. Both ends are told: there are registries that refuse a range that is open.
    fn range(self, range: &Range<u64>) -> Self {
        let range = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        self.header(RANGE, HeaderValue::try_from(range).expect("digits and a dash are legal in a header"))
    }

    const fn bulk(mut self) -> Self {
        self.is_bulk = true;
        self
    }

    pub(crate) const fn mirrored(mut self, mirrored: Mirrored) -> Self {
        self.mirrored = mirrored;
        self
    }

    const fn replay(mut self, replay: Replay) -> Self {
        self.replay = replay;
        self
    }

    pub(crate) fn asked(&self) -> Asked {
        Asked::new(&self.method, &self.url)
    }
}

/// Without the URL's query, which may be signed.
impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("asked", &self.asked()).field("payload", &self.payload).finish_non_exhaustive()
    }
}

/// A complete reply, after authorisation, redirects and retries.
pub(crate) struct Reply {
    pub(crate) asked: Asked,
    /// The URL that was actually asked last: what a `Location` is relative to.
    pub(crate) url: Uri,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The digester of a request's body out of a file, or of a reply's body into one.
    pub(crate) moved: Option<Digester>,
    /// Which mirror answered, if it wasn't the registry itself.
    pub(crate) mirror: Option<Origin>,
}

/// Without headers and URL, which may be signed or hold one that is.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("asked", &self.asked).field("status", &self.status).finish_non_exhaustive()
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn errors(&self) -> Vec<ApiError> {
        parse_error_body(&self.body)
    }

    /// The error for a reply that means "no".
    pub(crate) fn refusal(&self, advice: Option<&str>) -> Error {
        Error::Registry(Box::new(Refusal {
            asked: self.asked.clone(),
            status: self.status,
            errors: self.errors(),
            advice: advice.map(str::to_owned),
        }))
    }

    /// The error for a reply that makes no sense.
    pub(crate) fn broken(&self, what: impl Into<String>) -> Error {
        // What it says of the reply may quote it.
        Error::Protocol { asked: self.asked.clone(), what: clean(&what.into(), LONGEST) }
    }

    /// The digest that the reply claims for its content. Optional in the specification up to 1.1, and absent in the wild
    /// (ECR, Nexus on PostgreSQL, proxies): never more than a cross-check.
    pub(crate) fn claimed_digest(&self) -> Option<Digest> {
        self.header("docker-content-digest")?.trim().parse().ok()
    }
}

/// The path of a repository's endpoint. Names and digests need no escaping: their grammars allow nothing that would.
fn repository_url(origin: &Origin, repository: &RepositoryName, rest: &str) -> Uri {
    origin.at(&format!("/v2/{repository}/{rest}")).expect("repository names, tags and digests are legal in a path")
}

#[cfg(test)]
pub(crate) mod golden {
    //! Requests as text, for tests that compare them whole.
    use super::*;

    pub(crate) fn text(ask: &Ask) -> String {
        let mut out = format!("{} {}\n", ask.method, ask.url);
        let mut headers: Vec<String> =
            ask.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
        headers.sort();
        out.extend(headers);
        let scopes = ask.scopes.to_string();
        if !scopes.is_empty() {
            out.push_str(&format!("({scopes})\n"));
        }
        out
    }

    pub(crate) fn origin() -> Origin {
        Origin::new(true, "r.example").unwrap()
    }

    pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
        let url = Uri::from_static("https://r.example/v2/n/blobs/uploads/");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        Reply {
            asked: Asked::new(&Method::GET, &url),
            url,
            status: StatusCode::from_u16(status).unwrap(),
            headers: map,
            body: Bytes::copy_from_slice(body.as_bytes()),
            moved: None,
            mirror: None,
        }
    }
}
