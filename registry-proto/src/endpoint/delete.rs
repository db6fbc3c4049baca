//! `DELETE /v2/<name>/manifests/<reference>` (end-9).

use http::{Method, StatusCode};

use crate::endpoint::{Ask, Reply, repository_url};
use crate::error::Error;
use crate::limits::Limits;
use crate::spec::{ErrorCode, Origin, RepositoryName, ScopeSet, TagOrDigest};

/// By digest: the manifest, and with it every tag that leads to it. By tag: the tag alone, where the registry can.
pub(crate) fn manifest(
    origin: &Origin,
    repository: &RepositoryName,
    reference: &TagOrDigest,
    scopes: ScopeSet,
    limits: &Limits,
) -> Ask {
    Ask::new(Method::DELETE, repository_url(origin, repository, &format!("manifests/{reference}")), scopes, limits)
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Delete {
    /// It is gone.
    Done,
    /// The registry says that it isn't there: because it is gone, perhaps by an earlier request whose reply was lost, or
    /// because this registry answers so whenever it is to delete something. Whoever asked has to look.
    Unknown(Error),
}

pub(crate) fn read(reply: &Reply, reference: &TagOrDigest) -> Result<Delete, Error> {
    let says = |code: ErrorCode| reply.errors().iter().any(|error| error.code() == Some(&code));
    let tag = matches!(reference, TagOrDigest::Tag(_));
    match reply.status {
        // 202 is the specification's.
        status if status.is_success() => Ok(Delete::Done),
        StatusCode::NOT_FOUND => Ok(Delete::Unknown(
            reply.refusal(Some("but it is there: this registry does not delete manifests, or not this one")),
        )),
        // distribution 2 wants a digest, and says so in several ways.
        StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED if tag => Err(reply
            .refusal(Some(
                "this registry does not delete a tag alone, or nothing at all; deleting the manifest by its digest \
                 deletes all its tags, too",
            ))),
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Err(reply.refusal(Some(SWITCHED_OFF))),
        StatusCode::BAD_REQUEST if says(ErrorCode::Unsupported) => Err(reply.refusal(Some(SWITCHED_OFF))),
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
            Err(reply.refusal(Some("it is in use (an index may name it) or protected by a rule of the registry")))
        }
        _ => Err(reply.refusal(None)),
    }
}

const SWITCHED_OFF: &str = "deletion is switched off at this registry (or it has none, as caches of other registries)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;
    use crate::spec::Digest;

    #[test]
    fn request() {
        let (name, digest) = ("a/b".parse().unwrap(), Digest::of(b""));
        let ask = manifest(
            &golden::origin(),
            &name,
            &TagOrDigest::Digest(digest.clone()),
            ScopeSet::delete(&name),
            &Limits::default(),
        );
        assert_eq!(
            golden::text(&ask),
            format!(
                "DELETE https://r.example/v2/a/b/manifests/{digest}\naccept-encoding: identity\n(repository:a/b:delete)\n"
            )
        );
    }

    #[test]
    fn c93_what_came_of_it() {
        let digest = TagOrDigest::Digest(Digest::of(b""));
        let tag = TagOrDigest::Tag("v1".parse().unwrap());
        let reply = |status, code: &str| golden::reply(status, &[], &format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#));
        for status in [200, 202, 204] {
            assert!(matches!(read(&golden::reply(status, &[], ""), &digest), Ok(Delete::Done)), "{status}");
        }
        assert!(matches!(read(&reply(404, "MANIFEST_UNKNOWN"), &digest), Ok(Delete::Unknown(_))));
        for (status, code, reference, says) in [
            (405, "UNSUPPORTED", &digest, "switched off"),
            (400, "UNSUPPORTED", &digest, "switched off"),
            (405, "UNSUPPORTED", &tag, "does not delete a tag alone"),
            (400, "DIGEST_INVALID", &tag, "does not delete a tag alone"),
            (409, "DENIED", &digest, "in use"),
            (400, "DIGEST_INVALID", &digest, "DIGEST_INVALID"),
        ] {
            let why = read(&reply(status, code), reference).unwrap_err().to_string();
            assert!(why.contains(says), "{status} {code}: {why}");
        }
    }
}
