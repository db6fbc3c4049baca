//! Upload sessions: `POST`, `PATCH`, `PUT`, `GET` and `DELETE` below `/v2/<name>/blobs/uploads/` (end-4, 5, 6, 11, 13, 14).

use http::header::{CONTENT_RANGE, HeaderName, LOCATION, RANGE};
use http::{HeaderValue, Method, StatusCode, Uri};

use crate::endpoint::{Ask, Replay, Reply, repository_url};
use crate::error::Error;
use crate::job::Payload;
use crate::limits::Limits;
use crate::spec::{
    AckedOffset, Digest, Origin, RepositoryName, ScopeSet, UploadRange, acknowledged, lead, status_offset,
};

const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
const CHUNK_MAX_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-max-length");

/// How large chunks should be, by the registry's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkHints {
    /// The smallest it takes, except for the last one (`OCI-Chunk-Min-Length`); 0 if it doesn't mind.
    pub(crate) min: u64,
    /// The largest it takes (`OCI-Chunk-Max-Length`; not in the specification, seen behind Cloudflare).
    pub(crate) max: Option<u64>,
}

impl ChunkHints {
    /// What of it makes sense.
    pub(crate) fn within(self, limits: &Limits) -> Self {
        let min = self.min.min(limits.chunk_max);
        Self { min, max: self.max.filter(|max| *max >= min.max(1)) }
    }

    /// A chunk that would be of this size, as the registry wants it.
    pub(crate) fn bound(self, size: u64) -> u64 {
        size.max(self.min).min(self.max.unwrap_or(u64::MAX))
    }

    /// Whether a body of this size is one that the registry says to take.
    pub(crate) fn allow(self, size: u64) -> bool {
        self.max.is_none_or(|max| size <= max)
    }
}

/// `POST`: opens a session, or takes the blob over from `from`, another repository of the registry.
pub(crate) fn start(
    origin: &Origin,
    repository: &RepositoryName,
    mount: Option<(&Digest, &RepositoryName)>,
    limits: &Limits,
) -> Ask {
    // The slash at the end is part of the path: without it distribution redirects, which would turn a POST into a GET.
    let (query, scopes) = match mount {
        Some((digest, from)) => {
            (format!("?mount={}&from={from}", digest.as_str().replace('+', "%2B")), ScopeSet::mount(repository, from))
        }
        None => (String::new(), ScopeSet::push(repository)),
    };
    let url = repository_url(origin, repository, &format!("blobs/uploads/{query}"));
    // A POST whose reply is lost leaves a session behind that nobody knows; the registry expires it. Asking again is safe.
    Ask::new(Method::POST, url, scopes, limits).body(Payload::Empty, octet_stream())
}

/// What came of a `POST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// The blob is in the repository now; nothing needs to be sent.
    Mounted,
    /// A session to upload into.
    Session { url: Uri, hints: ChunkHints },
    /// The registry doesn't mount this; a plain `POST` is next.
    NotMounted,
}

pub(crate) fn started(reply: &Reply, mounting: bool, limits: &Limits) -> Result<Started, Error> {
    // (Of requests that are no `GET`, redirects lead nowhere else.)
    let location = location(reply, &reply.url)?;
    match reply.status {
        StatusCode::CREATED if mounting => Ok(Started::Mounted),
        // 202 is the specification's; 200, 201 and 204 occur as well (containerd takes them, too).
        status if status.is_success() => match location {
            Some(url) => Ok(Started::Session { url, hints: hints(reply, limits, ChunkHints::default()) }),
            None => Err(reply.broken("an upload session was opened without a Location")),
        },
        // Whatever goes wrong with a mount (a token that can't read the source, no such feature, an error inside), a plain
        // upload is still worth a try.
        _ if mounting => Ok(Started::NotMounted),
        StatusCode::NOT_FOUND => {
            Err(reply.refusal(Some("does the repository exist? Some registries want it created first")))
        }
        _ => Err(reply.refusal(None)),
    }
}

/// `PATCH`: one chunk. `Content-Range` is `first-last`, without `bytes` and without a total (ACR refuses these).
pub(crate) fn patch(session: &Uri, repository: &RepositoryName, at: u64, payload: Payload, limits: &Limits) -> Ask {
    let range = UploadRange::new(at, payload.len()).expect("an empty chunk can't be expressed, so none is sent");
    Ask::new(Method::PATCH, session.clone(), ScopeSet::push(repository), limits)
        .body(payload, octet_stream())
        .header(CONTENT_RANGE, ascii(&range.to_string()))
        .bulk()
        .replay(Replay::OwnerAsksFirst)
}

/// How far the registry has come after a chunk, and where the next request of the session goes.
pub(crate) fn patched(reply: &Reply, session: &Uri, at: u64, length: u64) -> Result<(AckedOffset, Uri), Error> {
    let url = location(reply, session)?.unwrap_or_else(|| session.clone());
    Ok((acknowledged(at, length, reply.header(RANGE.as_str())), url))
}

/// How far the registry has come by its refusal of bytes that it wants others before (416), if that says so, and where the
/// session goes on.
pub(crate) fn refused_at(reply: &Reply, session: &Uri) -> (Option<u64>, Uri) {
    let told = reply.header(LOCATION.as_str()).and_then(|told| lead::session(session, &reply.url, told).ok());
    // (`0-0` is one byte or none, as ever.)
    (status_offset(reply.header(RANGE.as_str()), None), told.unwrap_or_else(|| session.clone()))
}

/// `PUT`: closes the session, with the blob's (remaining) bytes or without any.
///
/// No `Content-Range`: it belongs to the last chunk of a chunked upload only, and some registries apply their chunk limits
/// where they see one.
pub(crate) fn finish(
    session: &Uri,
    repository: &RepositoryName,
    digest: &Digest,
    payload: Payload,
    limits: &Limits,
) -> Ask {
    Ask::new(Method::PUT, with_digest(session, digest), ScopeSet::push(repository), limits)
        .body(payload, octet_stream())
        .bulk()
        .replay(Replay::OwnerAsksFirst)
}

/// `GET` on the session: how much does the registry have?
pub(crate) fn status(session: &Uri, repository: &RepositoryName, limits: &Limits) -> Ask {
    Ask::new(Method::GET, session.clone(), ScopeSet::push(repository), limits)
}

/// What a session's status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// The registry holds the blob's first `at` bytes.
    At { at: u64, url: Uri },
    /// There is no such session any more, or the registry can't tell.
    Gone,
}

pub(crate) fn state(reply: &Reply, session: &Uri, known: Option<u64>) -> Result<SessionState, Error> {
    match reply.status {
        // 204 is the specification's.
        StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
            let url = location(reply, session)?.unwrap_or_else(|| session.clone());
            Ok(status_offset(reply.header(RANGE.as_str()), known)
                .map_or(SessionState::Gone, |at| SessionState::At { at, url }))
        }
        // 404: gone. 405 and others: this registry doesn't tell (ECR, GHCR, ACR), so that only a new session is safe.
        status if status.is_client_error() => Ok(SessionState::Gone),
        _ => Err(reply.refusal(None)),
    }
}

/// `DELETE`: gives the session up. Best effort; nobody waits for a good answer.
pub(crate) fn cancel(session: &Uri, repository: &RepositoryName, limits: &Limits) -> Ask {
    // distribution wants a `delete` scope for this: a refusal must not start a round of authentication.
    let mut ask = Ask::new(Method::DELETE, session.clone(), ScopeSet::push(repository), limits).replay(Replay::Never);
    ask.authenticate = false;
    ask
}

/// Where the session goes on that was at `home`, if the reply says so.
fn location(reply: &Reply, home: &Uri) -> Result<Option<Uri>, Error> {
    let Some(value) = reply.headers.get(LOCATION) else { return Ok(None) };
    if !reply.status.is_success() {
        return Ok(None);
    }
    let text = value.to_str().map_err(|_| reply.broken("its Location is not ASCII"))?;
    lead::session(home, &reply.url, text)
        .map(Some)
        .map_err(|why| reply.broken(format!("its Location is not used: {why}")))
}

/// What a reply says about the size of chunks; what it leaves out is as `before`. A value that makes no sense is ignored, a
/// minimum that is larger than we would buffer or bear is left to fail by itself.
pub(crate) fn hints(reply: &Reply, limits: &Limits, before: ChunkHints) -> ChunkHints {
    let told = |name| reply.headers.get(name).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let (min, max) = (told(CHUNK_MIN_LENGTH).unwrap_or(before.min), told(CHUNK_MAX_LENGTH).or(before.max));
    ChunkHints { min, max }.within(limits)
}

/// Appends the digest to whatever query the session's URL has, without touching a byte of it: registries sign it.
fn with_digest(session: &Uri, digest: &Digest) -> Uri {
    let text = session.to_string();
    let joint = match text.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    let digest = digest.as_str().replace('+', "%2B");
    format!("{text}{joint}digest={digest}").parse().expect("a URL stays one when a legal parameter is appended")
}

fn octet_stream() -> HeaderValue {
    // Anything else makes distribution answer a PATCH with 500.
    HeaderValue::from_static("application/octet-stream")
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and a dash are legal in a header")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::endpoint::golden;

    fn name() -> RepositoryName {
        "n".parse().unwrap()
    }

    #[test]
    fn requests() {
        let limits = Limits::default();
        let digest = Digest::of(b"");
        let session = Uri::from_static("https://r.example/v2/n/blobs/uploads/u?_state=a%2Fb&x=");
        let chunk = Payload::Bytes(Bytes::from_static(b"4567"));
        for (ask, expected) in [
            (
                start(&golden::origin(), &name(), None, &limits),
                "POST https://r.example/v2/n/blobs/uploads/\naccept-encoding: identity\ncontent-length: 0\n(repository:n:pull,push)\n".to_owned(),
            ),
            (
                start(&golden::origin(), &name(), Some((&digest, &"m".parse().unwrap())), &limits),
                format!("POST https://r.example/v2/n/blobs/uploads/?mount={digest}&from=m\naccept-encoding: identity\ncontent-length: 0\n(repository:n:pull,push repository:m:pull)\n"),
            ),
            (
                patch(&session, &name(), 4, chunk.clone(), &limits),
                "PATCH https://r.example/v2/n/blobs/uploads/u?_state=a%2Fb&x=\naccept-encoding: identity\ncontent-length: 4\ncontent-range: 4-7\ncontent-type: application/octet-stream\n(repository:n:pull,push)\n".to_owned(),
            ),
            (
                finish(&session, &name(), &digest, chunk, &limits),
                format!("PUT https://r.example/v2/n/blobs/uploads/u?_state=a%2Fb&x=&digest={digest}\naccept-encoding: identity\ncontent-length: 4\ncontent-type: application/octet-stream\n(repository:n:pull,push)\n"),
            ),
            (
                finish(&session, &name(), &digest, Payload::Empty, &limits),
                format!("PUT https://r.example/v2/n/blobs/uploads/u?_state=a%2Fb&x=&digest={digest}\naccept-encoding: identity\ncontent-length: 0\n(repository:n:pull,push)\n"),
            ),
            (
                status(&session, &name(), &limits),
                "GET https://r.example/v2/n/blobs/uploads/u?_state=a%2Fb&x=\naccept-encoding: identity\n(repository:n:pull,push)\n".to_owned(),
            ),
            (
                cancel(&session, &name(), &limits),
                "DELETE https://r.example/v2/n/blobs/uploads/u?_state=a%2Fb&x=\naccept-encoding: identity\n(repository:n:pull,push)\n".to_owned(),
            ),
        ] {
            assert_eq!(golden::text(&ask), expected);
        }
    }

    #[test]
    fn c56_the_digest_joins_whatever_query_there_is() {
        let digest = Digest::of(b"");
        for (session, expected) in [
            ("https://r.example/u", "https://r.example/u?digest="),
            ("https://r.example/u?", "https://r.example/u?digest="),
            ("https://r.example/u?a=b&", "https://r.example/u?a=b&digest="),
            ("https://r.example/u?a=%2F+&b", "https://r.example/u?a=%2F+&b&digest="),
        ] {
            assert_eq!(with_digest(&session.parse().unwrap(), &digest).to_string(), format!("{expected}{digest}"));
        }
    }

    #[test]
    fn c58_c69_c76_a33_what_came_of_a_post() {
        let limits = Limits::default();
        let at = [("location", "/v2/n/blobs/uploads/u"), ("oci-chunk-min-length", "5242880")];
        let Started::Session { hints: told, .. } = started(&golden::reply(202, &at, ""), true, &limits).unwrap() else {
            panic!()
        };
        assert_eq!(told, ChunkHints { min: 5_242_880, max: None });
        assert!(started(&golden::reply(202, &[], ""), false, &limits).is_err(), "C58");
        assert_eq!(started(&golden::reply(201, &at, ""), true, &limits).unwrap(), Started::Mounted);
        for status in [401, 403, 404, 405, 500] {
            assert_eq!(started(&golden::reply(status, &[], ""), true, &limits).unwrap(), Started::NotMounted);
            assert!(started(&golden::reply(status, &[], ""), false, &limits).is_err());
        }
        for (told, expected) in [("x", 0), ("9223372036854775807", limits.chunk_max), ("-1", 0)] {
            let reply = golden::reply(202, &[("oci-chunk-min-length", told)], "");
            assert_eq!(hints(&reply, &limits, ChunkHints::default()).min, expected, "C69");
        }
    }

    #[test]
    fn q71_the_largest_chunk_is_told_too_and_later_replies_may_say_otherwise() {
        let limits = Limits::default();
        let told = |min: &str, max: &str, before| {
            let headers = [("oci-chunk-min-length", min), ("oci-chunk-max-length", max)];
            let headers: Vec<_> = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            hints(&golden::reply(202, &headers, ""), &limits, before)
        };
        let first = told("5242880", "100000000", ChunkHints::default());
        assert_eq!(first, ChunkHints { min: 5_242_880, max: Some(100_000_000) });
        assert_eq!([1, 50_000_000, 200_000_000].map(|size| first.bound(size)), [5_242_880, 50_000_000, 100_000_000]);
        assert!(first.allow(100_000_000) && !first.allow(100_000_001));
        assert_eq!(told("", "", first), first, "what is not said again still holds");
        assert_eq!(told("6000000", "", first), ChunkHints { min: 6_000_000, ..first });
        for nonsense in ["x", "-1", "0", "17"] {
            assert_eq!(told("5242880", nonsense, ChunkHints::default()).max, None, "{nonsense}");
        }
    }

    #[test]
    fn c57_a_session_elsewhere_is_refused() {
        let reply = golden::reply(202, &[("location", "https://evil.example/u")], "");
        assert!(matches!(started(&reply, false, &Limits::default()), Err(Error::Protocol { .. })));
    }
}
