//! `HEAD /v2/<name>/blobs/<digest>` (end-2): is this blob there?

use http::{Method, StatusCode};

use crate::endpoint::{Ask, Reply, repository_url};
use crate::error::Error;
use crate::limits::Limits;
use crate::spec::{Digest, Origin, RepositoryName, ScopeSet};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;

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
}
