//! `HEAD` and `GET /v2/<name>/blobs/<digest>` (end-2): is this blob there, what is in a small one, and a piece of it, please.

use std::ops::Range;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, HeaderValue, RANGE};
use http::{Method, StatusCode, Uri};

use crate::endpoint::{Ask, Replay, Reply, repository_url};
use crate::error::Error;
use crate::job::FilePlace;
use crate::limits::Limits;
use crate::spec::{ContentRange, Descriptor, Digest, Origin, RepositoryName, ScopeSet};

pub(crate) fn head(origin: &Origin, repository: &RepositoryName, digest: &Digest, limits: &Limits) -> Ask {
    let url = repository_url(origin, repository, &format!("blobs/{digest}"));
    // Asked on the way to an upload: with the upload's scope, one token serves both.
    Ask::new(Method::HEAD, url, ScopeSet::push(repository), limits)
}

/// As [`head`], by somebody who will not upload.
pub(crate) fn look(origin: &Origin, repository: &RepositoryName, digest: &Digest, limits: &Limits) -> Ask {
    Ask::new(Method::HEAD, url(origin, repository, digest), ScopeSet::pull(repository), limits)
}

/// What a `HEAD` tells about a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exists {
    Yes,
    No,
    /// Nothing: the storage that it led to takes no such request. [`peek`] instead.
    NotTold,
}

/// Whether the registry holds the blob, by status: a HEAD has no body to explain itself. A size that differs means that
/// the reply is about something else (a proxy's error page), so the blob counts as absent. `asked`: the registry's own URL.
pub(crate) fn exists(reply: &Reply, asked: &Uri, size: u64) -> Result<Exists, Error> {
    match reply.status {
        StatusCode::OK => Ok(if is_of_size(reply, size) { Exists::Yes } else { Exists::No }),
        StatusCode::NOT_FOUND => Ok(Exists::No),
        _ if takes_no_head(reply, asked) => Ok(Exists::NotTold),
        _ => Err(reply.refusal(None)),
    }
}

/// A signed URL is good for one method.
fn takes_no_head(reply: &Reply, asked: &Uri) -> bool {
    let refuses = matches!(
        reply.status,
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    );
    refuses && reply.url != *asked
}

fn length(reply: &Reply) -> Option<u64> {
    reply.header("content-length").and_then(|length| length.trim().parse().ok())
}

/// How large a blob is by a `HEAD`, asked at the registry's own URL. `None`: it doesn't tell; [`peek`] instead.
pub(crate) fn size(reply: &Reply, asked: &Uri, digest: &Digest) -> Result<Option<u64>, Error> {
    match reply.status {
        // Some proxies drop the length of a HEAD or make it zero.
        StatusCode::OK => Ok(length(reply).filter(|length| *length > 0 || is_of_nothing(digest))),
        StatusCode::NOT_FOUND => Err(reply.refusal(Some("check the repository's name and the digest"))),
        _ if takes_no_head(reply, asked) => Ok(None),
        _ => Err(reply.refusal(None)),
    }
}

/// How large the blob is whose first byte was asked for.
pub(crate) fn peeked_size(reply: &Reply, digest: &Digest) -> Result<u64, Error> {
    let total = || reply.header(CONTENT_RANGE.as_str()).and_then(ContentRange::parse).and_then(|range| range.total);
    let told = match reply.status {
        StatusCode::PARTIAL_CONTENT => total(),
        StatusCode::OK => length(reply).filter(|length| *length > 0 || is_of_nothing(digest)),
        // An empty blob has no first byte.
        StatusCode::RANGE_NOT_SATISFIABLE if is_of_nothing(digest) => Some(0),
        StatusCode::NOT_FOUND => return Err(reply.refusal(Some("check the repository's name and the digest"))),
        _ => return Err(reply.refusal(None)),
    };
    told.ok_or_else(|| reply.broken("it does not say how large the blob is (Content-Length, Content-Range)"))
}

fn is_of_nothing(digest: &Digest) -> bool {
    digest.algorithm().is_some_and(|algorithm| Digest::compute(algorithm, b"") == *digest)
}

/// Some proxies drop the length of a HEAD or make it zero.
fn is_of_size(reply: &Reply, size: u64) -> bool {
    length(reply).is_none_or(|told| told == size || told == 0)
}

/// `GET` of a blob's first byte, to see whether it is there.
pub(crate) fn peek(
    origin: &Origin,
    repository: &RepositoryName,
    digest: &Digest,
    scopes: ScopeSet,
    limits: &Limits,
) -> Ask {
    Ask::new(Method::GET, url(origin, repository, digest), scopes, limits)
        .header(RANGE, HeaderValue::from_static("bytes=0-0"))
}

/// Whether the blob is there whose first byte was asked for.
pub(crate) fn peeked(reply: &Reply, size: u64) -> Result<bool, Error> {
    let total = || reply.header(CONTENT_RANGE.as_str()).and_then(ContentRange::parse).and_then(|range| range.total);
    match reply.status {
        StatusCode::PARTIAL_CONTENT => Ok(total().is_none_or(|total| total == size)),
        StatusCode::OK => Ok(is_of_size(reply, size)),
        // An empty blob has no first byte.
        StatusCode::RANGE_NOT_SATISFIABLE => Ok(size == 0),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(reply.refusal(None)),
    }
}

/// A blob of which at most `limit` bytes are taken, into memory.
pub(crate) fn get_small(
    origin: &Origin,
    repository: &RepositoryName,
    digest: &Digest,
    limit: usize,
    limits: &Limits,
) -> Ask {
    let url = repository_url(origin, repository, &format!("blobs/{digest}"));
    Ask::new(Method::GET, url, ScopeSet::pull(repository), limits).collect(limit, limits)
}

/// The bytes that `expected` describes, verified.
pub(crate) fn read_small(reply: &Reply, expected: &Descriptor) -> Result<Bytes, Error> {
    if reply.status != StatusCode::OK {
        let advice = "a manifest names this blob, but the registry does not have it: push the image once more";
        return Err(reply.refusal((reply.status == StatusCode::NOT_FOUND).then_some(advice)));
    }
    let found = reply.body.len() as u64;
    let computed = expected.digest.algorithm().map(|algorithm| Digest::compute(algorithm, &reply.body));
    match computed {
        Some(computed) if computed == expected.digest && found == expected.size => Ok(reply.body.clone()),
        None => {
            Err(reply.broken(format!("content can't be verified: the algorithm of {} is unknown", expected.digest)))
        }
        // Nobody asked for it, and a digest is of the bytes without it: they are not decoded to see whether that helps.
        Some(_) if reply.header("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) => {
            let coding = reply.header("content-encoding").unwrap_or_default();
            Err(reply.broken(format!("the content came encoded ({coding}), though `identity` was asked for")))
        }
        Some(_) if found != expected.size => {
            Err(reply.broken(format!("the content has {found} bytes, where its manifest says {}", expected.size)))
        }
        Some(computed) => {
            Err(Error::Integrity { asked: reply.asked.clone(), expected: expected.digest.clone(), found: computed })
        }
    }
}

/// Where a blob is.
pub(crate) fn url(origin: &Origin, repository: &RepositoryName, digest: &Digest) -> Uri {
    repository_url(origin, repository, &format!("blobs/{digest}"))
}

/// `GET`: these bytes of a blob, or all of it with `None`. No more than `most` are taken.
pub(crate) fn piece(
    origin: &Origin,
    repository: &RepositoryName,
    digest: &Digest,
    range: Option<&Range<u64>>,
    most: usize,
    limits: &Limits,
) -> Ask {
    let ask = Ask::new(Method::GET, url(origin, repository, digest), ScopeSet::pull(repository), limits)
        .collect(most, limits)
        .bulk();
    match range {
        Some(range) => ask.range(range),
        None => ask,
    }
}

/// `GET`: what is missing of a blob in a file, to its place there.
pub(crate) fn download(
    origin: &Origin,
    repository: &RepositoryName,
    digest: &Digest,
    place: FilePlace,
    limits: &Limits,
) -> Ask {
    let (has, size) = (place.has(), place.size());
    let ask = Ask::new(Method::GET, url(origin, repository, digest), ScopeSet::pull(repository), limits)
        .file(place, limits)
        .replay(Replay::OwnerGoesOn);
    if has == 0 { ask } else { ask.range(&(has..size)) }
}

/// What came of asking for the rest of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// All that was asked for, or a beginning of it: the digester has seen what.
    Something,
    /// Other bytes than were asked for, or none: what is there of the blob can't be gone on with.
    Nothing,
}

/// What a reply to [`download`] brought to the file, which had `has` bytes of `size` before and `now` has so many.
pub(crate) fn downloaded(reply: &Reply, has: u64, now: Option<u64>, size: u64) -> Result<Came, Error> {
    match (reply.status, now) {
        (StatusCode::OK, Some(now)) if now < size => {
            Err(reply.broken(format!("it handed out {now} bytes of a blob of {size}")))
        }
        (StatusCode::OK, Some(_)) => Ok(Came::Something),
        (StatusCode::PARTIAL_CONTENT, now) => {
            let told = reply.header(CONTENT_RANGE.as_str());
            let range = told.and_then(ContentRange::parse);
            let range = range.ok_or_else(|| {
                reply.broken(format!(
                    "a part of a blob came without a usable Content-Range ({})",
                    told.unwrap_or("none")
                ))
            })?;
            if let Some(total) = range.total.filter(|total| *total != size) {
                return Err(reply.broken(format!("it has {total} bytes of a blob of {size}")));
            }
            Ok(if now.is_some_and(|now| now > has) { Came::Something } else { Came::Nothing })
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, _) if has > 0 => Ok(Came::Nothing),
        (StatusCode::NOT_FOUND, _) => {
            Err(reply.refusal(Some("a manifest of this repository names the blob, but it is not there")))
        }
        _ => Err(reply.refusal(None)),
    }
}

/// Where in the blob the bytes of a reply stand, and the bytes. `None`: it is another piece than was asked for, which may be a
/// cache's doing, so that asking once more is worth it.
pub(crate) fn read_piece(reply: &Reply, wanted: &Range<u64>, size: u64) -> Result<Option<(u64, Bytes)>, Error> {
    let length = reply.body.len() as u64;
    match reply.status {
        StatusCode::OK if length == size => Ok(Some((0, reply.body.clone()))),
        StatusCode::OK => Err(reply.broken(format!("it handed out {length} bytes of a blob of {size}"))),
        StatusCode::PARTIAL_CONTENT => {
            let range = reply.header(CONTENT_RANGE.as_str()).and_then(ContentRange::parse);
            let range = range.ok_or_else(|| reply.broken("a part of a blob came without a usable Content-Range"))?;
            if let Some(total) = range.total.filter(|total| *total != size) {
                return Err(reply.broken(format!("it has {total} bytes of a blob of {size}")));
            }
            let fits = range.first == wanted.start && range.last < wanted.end;
            Ok((fits && range.last - range.first + 1 == length).then(|| (range.first, reply.body.clone())))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => Ok(None),
        StatusCode::NOT_FOUND => {
            Err(reply.refusal(Some("a manifest of this repository names the blob, but it is not there")))
        }
        _ => Err(reply.refusal(None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;
    use crate::spec::MediaType;

    #[test]
    fn a_piece_is_asked_for_by_its_first_and_last_byte() {
        let digest = Digest::of(b"");
        let (origin, name, limits) = (golden::origin(), "a/b".parse().unwrap(), Limits::default());
        let line = format!("GET https://r.example/v2/a/b/blobs/{digest}\naccept-encoding: identity\n");
        assert_eq!(
            golden::text(&piece(&origin, &name, &digest, Some(&(4..8)), 4, &limits)),
            format!("{line}range: bytes=4-7\n(repository:a/b:pull)\n")
        );
        assert_eq!(
            golden::text(&piece(&origin, &name, &digest, None, 4, &limits)),
            format!("{line}(repository:a/b:pull)\n")
        );
    }

    #[test]
    fn c48_c49_c51_what_a_piece_is() {
        let read = |status, range: &str, body: &str| {
            let headers = [("content-range", range)];
            read_piece(&golden::reply(status, if range.is_empty() { &[] } else { &headers }, body), &(4..8), 10)
        };
        let piece = |at, bytes: &'static str| Some((at, Bytes::from(bytes)));
        assert_eq!(read(206, "bytes 4-7/10", "4567").unwrap(), piece(4, "4567"));
        assert_eq!(read(206, "bytes 4-7/*", "4567").unwrap(), piece(4, "4567"));
        assert_eq!(read(206, "bytes 4-5/10", "45").unwrap(), piece(4, "45"), "fewer, but the right ones");
        assert_eq!(read(200, "", "0123456789").unwrap(), piece(0, "0123456789"), "it takes no notice of Range");
        for (range, body) in [("bytes 3-6/10", "3456"), ("bytes 4-8/10", "45678"), ("bytes 4-7/10", "456")] {
            assert_eq!(read(206, range, body).unwrap(), None, "{range}");
        }
        assert_eq!(read(416, "bytes */10", "").unwrap(), None);
        for (status, range, body) in
            [(206, "", "4567"), (206, "bytes 4-7/11", "4567"), (206, "bytes 7-4/10", "4567"), (200, "", "012345678")]
        {
            assert!(matches!(read(status, range, body), Err(Error::Protocol { .. })), "{status} {range}");
        }
        assert!(matches!(read(404, "", ""), Err(Error::Registry(_))));
    }

    #[test]
    fn request() {
        let digest = Digest::of(b"");
        let ask = head(&golden::origin(), &"a/b".parse().unwrap(), &digest, &Limits::default());
        assert_eq!(
            golden::text(&ask),
            format!(
                "HEAD https://r.example/v2/a/b/blobs/{digest}\naccept-encoding: identity\n(repository:a/b:pull,push)\n"
            )
        );
    }

    #[test]
    fn a_failed_head_is_not_taken_for_missing() {
        let exists = |status, length| {
            let reply = golden::reply(status, &[("content-length", length)], "");
            let asked = reply.url.clone();
            exists(&reply, &asked, 3)
        };
        assert_eq!(exists(200, "3").unwrap(), Exists::Yes);
        assert_eq!(exists(200, "0").unwrap(), Exists::Yes);
        assert_eq!(exists(200, "4").unwrap(), Exists::No);
        assert_eq!(exists(404, "0").unwrap(), Exists::No);
        assert!(exists(403, "0").is_err());
        assert!(exists(500, "0").is_err());
    }

    #[test]
    fn c54_how_large_a_blob_is() {
        let (asked, digest, nothing) =
            (Uri::from_static("https://r.example/v2/n/blobs/uploads/"), Digest::of(b"abc"), Digest::of(b""));
        let size_by = |status, length: &str, of: &Digest| {
            size(&golden::reply(status, &[("content-length", length)], ""), &asked, of).ok()
        };
        assert_eq!(size_by(200, "3", &digest), Some(Some(3)));
        assert_eq!(size_by(200, "0", &digest), Some(None), "a proxy's doing");
        assert_eq!(size_by(200, "", &digest), Some(None));
        assert_eq!(size_by(200, "0", &nothing), Some(Some(0)));
        assert_eq!([size_by(404, "", &digest), size_by(403, "", &digest)], [None, None], "the registry's own word");
        let peeked =
            |status, header: (&str, &str), of: &Digest| peeked_size(&golden::reply(status, &[header], ""), of).ok();
        assert_eq!(peeked(206, ("content-range", "bytes 0-0/3"), &digest), Some(3));
        assert_eq!(peeked(206, ("content-range", "bytes 0-0/*"), &digest), None);
        assert_eq!(peeked(200, ("content-length", "3"), &digest), Some(3));
        assert_eq!(peeked(200, ("content-length", "0"), &digest), None);
        assert_eq!(peeked(416, ("content-range", "bytes */0"), &nothing), Some(0));
        assert_eq!(peeked(416, ("content-range", "bytes */0"), &digest), None);
    }

    #[test]
    fn c54_what_storage_says_to_a_head_tells_nothing() {
        let (origin, name, digest) = (golden::origin(), "a/b".parse().unwrap(), Digest::of(b"abc"));
        let asked = url(&origin, &name, &digest);
        for (status, told) in [
            (400, Some(Exists::NotTold)),
            (403, Some(Exists::NotTold)),
            (405, Some(Exists::NotTold)),
            (501, Some(Exists::NotTold)),
            (404, Some(Exists::No)),
            (200, Some(Exists::Yes)),
            (401, None),
            (500, None),
        ] {
            assert_eq!(exists(&golden::reply(status, &[], ""), &asked, 3).ok(), told, "{status}");
        }
        assert_eq!(
            golden::text(&peek(&origin, &name, &digest, ScopeSet::push(&name), &Limits::default())),
            format!(
                "GET https://r.example/v2/a/b/blobs/{digest}\naccept-encoding: identity\nrange: bytes=0-0\n(repository:a/b:pull,push)\n"
            )
        );
        let peeked = |status, header: (&str, &str), size| peeked(&golden::reply(status, &[header], ""), size).ok();
        assert_eq!(peeked(206, ("content-range", "bytes 0-0/3"), 3), Some(true));
        assert_eq!(peeked(206, ("content-range", "bytes 0-0/*"), 3), Some(true));
        assert_eq!(peeked(206, ("content-range", "bytes 0-0/4"), 3), Some(false));
        assert_eq!(peeked(200, ("content-length", "3"), 3), Some(true), "it takes no notice of Range");
        assert_eq!(peeked(200, ("content-length", "4"), 3), Some(false));
        assert_eq!(peeked(416, ("content-range", "bytes */0"), 0), Some(true));
        assert_eq!(peeked(416, ("content-range", "bytes */0"), 3), Some(false));
        assert_eq!(peeked(404, ("x", "y"), 3), Some(false));
        assert_eq!(peeked(403, ("x", "y"), 3), None);
    }
    #[test]
    fn c33_c52_small_blobs_are_verified() {
        let limits = Limits::default();
        let expected = Descriptor::new(MediaType::OCI_CONFIG, Digest::of(b"{}"), 2);
        let ask = get_small(&golden::origin(), &"a/b".parse().unwrap(), &expected.digest, 2, &limits);
        assert_eq!(
            golden::text(&ask),
            format!(
                "GET https://r.example/v2/a/b/blobs/{}\naccept-encoding: identity\n(repository:a/b:pull)\n",
                expected.digest
            )
        );
        let read =
            |status, headers: &[(&str, &str)], body| read_small(&golden::reply(status, headers, body), &expected);
        assert_eq!(read(200, &[], "{}").unwrap(), "{}");
        assert!(matches!(read(200, &[], "[]"), Err(Error::Integrity { .. })), "C33");
        assert!(matches!(read(200, &[], "{"), Err(Error::Protocol { .. })));
        let encoded = read(200, &[("content-encoding", "gzip")], "[]").unwrap_err().to_string();
        assert!(encoded.contains("gzip"), "C52: {encoded}");
        let gone = read(404, &[], "").unwrap_err();
        assert!(
            gone.status() == Some(StatusCode::NOT_FOUND) && gone.to_string().contains("a manifest names"),
            "{gone}"
        );
    }
}
