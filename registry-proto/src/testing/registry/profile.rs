//! How a registry behaves where registries differ.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::spec::MediaType;

/// Whether a registry does something, and what it answers if it doesn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does.
    Yes,
    /// It answers with this status and the code `UNSUPPORTED` instead.
    No(StatusCode),
}

impl Support {
    /// 404, as from a server that doesn't know the path at all.
    pub const NOT_FOUND: Self = Self::No(StatusCode::NOT_FOUND);
    /// 405, as from a server that knows the path but not the method.
    pub const NOT_ALLOWED: Self = Self::No(StatusCode::METHOD_NOT_ALLOWED);
}

/// What comes of `POST …/blobs/uploads/?mount=…&from=…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mount {
    /// 201 if the other repository has the blob, otherwise 202 and a session.
    Works,
    /// Always 202 and a session, as if nothing had been said about mounting.
    Ignored,
    /// This error. With 401 comes a challenge, if there is any authentication.
    Refused(StatusCode),
}

/// What comes of asking for a manifest's referrers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referrers {
    /// A list of them.
    Listed,
    /// This error. 404 is a server's that doesn't know the path at all.
    Unknown(StatusCode),
    /// 200 and this page, as from a server that has a page for every path.
    Page(&'static str),
}

/// What stands in `Location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocationStyle {
    /// A whole URL, made of the request's scheme and host.
    Absolute,
    /// A path: `/v2/…`.
    Path,
}

/// How the registry tells in `Range` how many bytes of an upload it has (PROTOCOL §1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeDialect {
    /// `0-<n-1>`; `0-0` both for one byte and for none (distribution).
    Inclusive,
    /// `0-<n-1>`; `0--1` for none (Quay, Gitea).
    MinusOne,
    /// `bytes=0-<n-1>` (Docker's documentation).
    Bytes,
    /// `bytes=0-<n>` when it is asked and with 416, `0-<n-1>` after a chunk, `bytes=0--1` at the beginning (Quay).
    Exclusive,
    /// `0-<length of the last chunk - 1>` (zot).
    ChunkLocal,
    /// Always `0-0` (ECR).
    Frozen,
    /// No header at all.
    Absent,
}

/// What becomes of an upload whose client comes back with an older `Location` than the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleState {
    /// 404 `BLOB_UPLOAD_INVALID`, also when it only asks for the status, and the session is gone (distribution 2.8).
    LosesSession,
    /// 416 `RANGE_INVALID`; asking for the status works (distribution 3).
    RangeInvalid,
}

/// Who is let in.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// Whoever knows the password, sent along with every request.
    Basic {
        /// The user's name.
        user: String,
        /// The user's password.
        password: String,
    },
    /// Whoever brings a token that `realm` handed out.
    Bearer {
        /// Where tokens are to be had: a URL, or a path on the registry's own host. `GET` and `POST` to its path are answered by
        /// the same [`Registry`](super::Registry) value.
        realm: String,
        /// What the registry calls itself.
        service: String,
        /// Whose password is asked for in exchange for a token. With `None`, anybody gets any token.
        user: Option<String>,
        /// The user's password.
        password: Option<String>,
        /// Where there is a user: whether nobody in particular gets tokens too, if only to pull.
        anonymous_pull: bool,
        /// Whether all tokens are for pulling only, whatever is asked for.
        read_only: bool,
        /// How long a token is good for.
        lifetime: Duration,
    },
}

impl Auth {
    /// A password with every request.
    pub fn basic(user: &str, password: &str) -> Self {
        Self::Basic { user: user.to_owned(), password: password.to_owned() }
    }

    /// Tokens for anybody, good for five minutes, from `realm` (a URL, or a path on the registry's own host).
    pub fn bearer(realm: &str, service: &str) -> Self {
        Self::Bearer {
            realm: realm.to_owned(),
            service: service.to_owned(),
            user: None,
            password: None,
            anonymous_pull: false,
            read_only: false,
            lifetime: Duration::from_secs(300),
        }
    }

    /// Tokens in exchange for a password.
    pub fn bearer_for(realm: &str, service: &str, user: &str, password: &str) -> Self {
        Self::Bearer {
            realm: realm.to_owned(),
            service: service.to_owned(),
            user: Some(user.to_owned()),
            password: Some(password.to_owned()),
            anonymous_pull: false,
            read_only: false,
            lifetime: Duration::from_secs(300),
        }
    }
}

/// Without the password.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => f.debug_struct("Basic").field("user", user).finish_non_exhaustive(),
            Self::Bearer { realm, service, user, anonymous_pull, lifetime, .. } => f
                .debug_struct("Bearer")
                .field("realm", realm)
                .field("service", service)
                .field("user", user)
                .field("anonymous_pull", anonymous_pull)
                .field("lifetime", lifetime)
                .finish_non_exhaustive(),
        }
    }
}

/// How a registry behaves where registries differ. Take one of the named ones and change what matters:
///
/// ```
/// use registry_proto::testing::registry::{Profile, RangeDialect, Registry};
///
/// let profile = Profile { max_body: Some(1 << 20), range: RangeDialect::Absent, ..Profile::distribution_3() };
/// let registry = Registry::new(profile);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Who is let in; `None` for everybody.
    pub requires_auth: Option<Auth>,

    /// Whether what arrived of a cut `PATCH` or `PUT` is kept. If not, a cut inside a body loses the session: the next
    /// request gets 404 `BLOB_UPLOAD_INVALID`, those after it 404 `BLOB_UPLOAD_UNKNOWN`.
    pub keep_partial: bool,
    /// Bodies larger than this get 413 and a page of HTML, as from a proxy in front.
    pub max_body: Option<u64>,
    /// `OCI-Chunk-Min-Length`. Once a smaller chunk came, nothing may follow it: 400 `SIZE_INVALID`.
    pub chunk_min: Option<u64>,
    /// `OCI-Chunk-Max-Length`. Larger chunks get [`chunk_max_status`](Self::chunk_max_status).
    pub chunk_max: Option<u64>,
    /// 416 (GHCR) or 413 (Cloudflare).
    pub chunk_max_status: StatusCode,
    /// Whether an upload's status can be asked for.
    pub status_get: Support,
    /// Whether chunks are taken.
    pub patch: Support,
    /// What a chunk that was taken is answered with: 202, or 201 (ECR).
    pub chunk_status: StatusCode,
    /// Whether a `PUT` without a body may end an upload in chunks. If not, it gets 500 (ECR).
    pub empty_end: bool,
    /// Whether an upload can be given up.
    pub cancel: Support,
    /// Whether `POST …?digest=` takes the whole blob. If not, its body is ignored and a session is opened.
    pub single_post: bool,
    /// What comes of asking to mount.
    pub mount: Mount,
    /// What stands in `Location`.
    pub location: LocationStyle,
    /// Whether an upload's `Location` has a query that holds its state and has to come back.
    pub location_state: bool,
    /// What becomes of an upload that is continued at an older `Location`.
    pub stale_state: StaleState,
    /// How the registry tells how much it has.
    pub range: RangeDialect,
    /// Whether 416 to an upload tells the newest `Location` and `Range`.
    pub range_on_416: bool,
    /// Whether `Content-Range` of a chunk is looked at, where there is one and a `Content-Length`.
    pub checks_content_range: bool,
    /// The strictest reading of the specification: `Content-Length` on everything that may have a body, `Content-Range` on
    /// every chunk, also on the last one in a `PUT`, no empty chunks, an upload's query verbatim, the right `Content-Type`s, no
    /// wildcards in `Accept`, errors of names told by code instead of a bare 404.
    pub strict: bool,

    /// Whether manifests and blobs can be deleted.
    pub delete: Support,
    /// Whether a tag alone can be deleted, where deleting is possible at all.
    pub delete_tags: bool,
    /// Whether `_catalog` is there.
    pub catalog: Support,
    /// The most entries of a page of the catalog; more are refused.
    pub catalog_page: usize,
    /// Whether `n` and `last` of a list of tags are looked at.
    pub paginates_tags: bool,
    /// The most tags of a page, whatever was asked for.
    pub tag_page: Option<usize>,
    /// What comes of asking for a manifest's referrers.
    pub referrers: Referrers,
    /// Where they are listed: whether `OCI-Subject` is told when a manifest is put. (Proxies take it away.)
    pub tells_subject: bool,
    /// The most referrers of a page.
    pub referrers_page: Option<usize>,
    /// Where they are listed: whether only those of the type that was asked for are.
    pub filters_referrers: bool,
    /// Whether a tag of the form `<algorithm>-<hash>` that is not there leads to what has that digest (GitLab).
    pub digests_as_tags: bool,
    /// Blobs are redirected to below this URL (which the same [`Registry`](super::Registry) value answers, too, and which
    /// refuses credentials as storage does).
    pub redirect_blobs: Option<String>,
    /// Whether what blobs are redirected to is signed for `GET` only, so that the storage answers 403 to `HEAD`.
    pub signs_for_get: bool,
    /// Whether `Range` is looked at where blobs are handed out. If not, everything is handed out.
    pub serves_ranges: bool,
    /// The most bytes of a blob that are handed out for a `Range`, whatever was asked for.
    pub range_max: Option<u64>,
    /// Manifests of these types get 415.
    pub refused_media_types: Vec<MediaType>,
    /// Whether `Docker-Content-Digest` is told.
    pub tells_digest: bool,
    /// What `HEAD` of a manifest gets that is not there.
    pub absent_head: StatusCode,
    /// Larger manifests are refused.
    pub max_manifest: usize,
    /// Whether `If-Match` and `If-None-Match` are looked at when a manifest is put: 412 if the tag leads elsewhere.
    pub conditional_put: bool,
    /// Whether pushing to a repository creates it; if not, it has to be
    /// [created](super::Registry::create_repository) before.
    pub creates_repositories: bool,
    /// Whether a manifest of schema 2 becomes schema 1 for who doesn't accept it.
    pub converts_to_schema1: bool,
    /// `Warning` headers on every reply of the API, as they are sent: `299 - "text"`.
    pub warnings: Vec<String>,
}

impl Profile {
    /// `registry:2` (distribution 2.8.3) with its default configuration.
    pub fn distribution_2_8() -> Self {
        Self {
            keep_partial: false,
            stale_state: StaleState::LosesSession,
            checks_content_range: false,
            delete_tags: false,
            paginates_tags: false,
            tag_page: None,
            converts_to_schema1: true,
            ..Self::distribution_3()
        }
    }

    /// `registry:3` (distribution 3.1) with its default configuration.
    pub fn distribution_3() -> Self {
        Self {
            requires_auth: None,
            keep_partial: true,
            max_body: None,
            chunk_min: None,
            chunk_max: None,
            chunk_max_status: StatusCode::RANGE_NOT_SATISFIABLE,
            status_get: Support::Yes,
            patch: Support::Yes,
            chunk_status: StatusCode::ACCEPTED,
            empty_end: true,
            cancel: Support::Yes,
            single_post: false,
            mount: Mount::Works,
            location: LocationStyle::Absolute,
            location_state: true,
            stale_state: StaleState::RangeInvalid,
            range: RangeDialect::Inclusive,
            range_on_416: false,
            checks_content_range: true,
            strict: false,
            delete: Support::NOT_ALLOWED,
            delete_tags: true,
            catalog: Support::Yes,
            catalog_page: 1000,
            paginates_tags: true,
            tag_page: Some(1000),
            referrers: Referrers::Unknown(StatusCode::NOT_FOUND),
            tells_subject: true,
            referrers_page: None,
            filters_referrers: true,
            digests_as_tags: false,
            redirect_blobs: None,
            signs_for_get: false,
            serves_ranges: true,
            range_max: None,
            refused_media_types: Vec::new(),
            tells_digest: true,
            absent_head: StatusCode::NOT_FOUND,
            max_manifest: 4 << 20,
            conditional_put: false,
            creates_repositories: true,
            converts_to_schema1: false,
            warnings: Vec::new(),
        }
    }

    /// No server in particular: whatever the specification of OCI lets a registry insist on, it insists on.
    pub fn strict() -> Self {
        Self {
            single_post: true,
            location: LocationStyle::Path,
            range_on_416: true,
            strict: true,
            conditional_put: true,
            delete: Support::Yes,
            referrers: Referrers::Listed,
            ..Self::distribution_3()
        }
    }
}
