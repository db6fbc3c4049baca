//! `HEAD` and `GET /v2/<name>/blobs/<digest>` (end-2): is this blob there, and what is in a small one?

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::endpoint::{Ask, Reply, repository_url};
use crate::error::Error;
use crate::limits::Limits;
use crate::spec::{Descriptor, Digest, Origin, RepositoryName, ScopeSet};

pub(crate) fn head(origin: &Origin, repository: &RepositoryName, digest: &Digest, limits: &Limits) -> Ask {
    let url = repository_url(origin, repository, &format!("blobs/{digest}"));
    // Asked on the way to an upload: with the upload's scope, one token serves both.
    Ask::new(Method::HEAD, url, ScopeSet::push(repository), limits)
}

/// Whether the registry holds the blob, by status: a HEAD has no body to explain itself. A size that differs means that
/// the reply is about something else (a proxy's error page), so the blob counts as absent.
pub(crate) fn exists(reply: &Reply, size: u64) -> Result<bool, Error> {
    match reply.status {
        StatusCode::OK => {
            let told: Option<u64> = reply.header("content-length").and_then(|length| length.trim().parse().ok());
            // Some proxies drop the length of a HEAD or make it zero.
            Ok(told.is_none_or(|told| told == size || told == 0))
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;
    use crate::spec::MediaType;

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
        let exists = |status, length| exists(&golden::reply(status, &[("content-length", length)], ""), 3);
        assert!(exists(200, "3").unwrap());
        assert!(exists(200, "0").unwrap());
        assert!(!exists(200, "4").unwrap());
        assert!(!exists(404, "0").unwrap());
        assert!(exists(403, "0").is_err());
        assert!(exists(500, "0").is_err());
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
