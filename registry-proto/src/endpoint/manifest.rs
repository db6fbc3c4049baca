//! `HEAD`, `GET` and `PUT /v2/<name>/manifests/<reference>` (end-3, end-7).

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};

use crate::endpoint::{Ask, Reply, repository_url};
use crate::error::Error;
use crate::job::Payload;
use crate::limits::Limits;
use crate::spec::{
    ACCEPT_MANIFESTS, Descriptor, Digest, ErrorCode, Manifest, ManifestContent, ManifestError, MediaType, Origin,
    RepositoryName, ScopeSet, TagOrDigest,
};

pub(crate) fn head(origin: &Origin, repository: &RepositoryName, reference: &TagOrDigest, limits: &Limits) -> Ask {
    let url = repository_url(origin, repository, &format!("manifests/{reference}"));
    // Asked on the way to a push: with the push's scope, one token serves both.
    Ask::new(Method::HEAD, url, ScopeSet::push(repository), limits)
        .header(ACCEPT, HeaderValue::from_static(ACCEPT_MANIFESTS))
}

/// What a HEAD tells about a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It is there. The digest is the registry's word, not verified.
    There(Option<Digest>),
    /// It is not, or the registry doesn't say: ECR answers 400 to tags it finds odd, Artifactory, Hub and GHCR answer 401 or
    /// 403 for what doesn't exist. The push itself will bring a clear error if there is one.
    Absent,
}

pub(crate) fn presence(reply: &Reply) -> Result<Presence, Error> {
    match reply.status {
        StatusCode::OK => Ok(Presence::There(reply.claimed_digest())),
        status if status.is_client_error() => Ok(Presence::Absent),
        _ => Err(reply.refusal(None)),
    }
}

/// As [`head`], for somebody who only wants to know what a reference leads to: with the right to pull.
pub(crate) fn look(origin: &Origin, repository: &RepositoryName, reference: &TagOrDigest, limits: &Limits) -> Ask {
    let url = repository_url(origin, repository, &format!("manifests/{reference}"));
    Ask::new(Method::HEAD, url, ScopeSet::pull(repository), limits)
        .header(ACCEPT, HeaderValue::from_static(ACCEPT_MANIFESTS))
}

/// What a `HEAD` tells about the manifest that `reference` leads to, in the registry's word. `None`: not enough, so that
/// a `GET` has to decide.
///
/// The header with the digest, the length and a type that means something are each optional in the wild (PROTOCOL §1.4), and
/// so is `HEAD` itself: ECR answers 400 to tags that it finds odd, storage behind a redirect 403 to a method that its
/// signed URL isn't for. A refusal is repeated by the `GET`, with a body to explain itself.
pub(crate) fn told(reply: &Reply, reference: &TagOrDigest, limits: &Limits) -> Option<Descriptor> {
    let media_type = MediaType::new(reply.header(CONTENT_TYPE.as_str())?);
    let size: u64 = reply.header("content-length")?.trim().parse().ok()?;
    let claimed = reply.claimed_digest().filter(Digest::is_verifiable)?;
    let digest = match reference {
        TagOrDigest::Tag(_) => claimed,
        // Another digest of the same algorithm is that of another document: of the list that this one was chosen from.
        TagOrDigest::Digest(asked) if claimed.algorithm() == asked.algorithm() && claimed != *asked => return None,
        TagOrDigest::Digest(asked) => asked.clone(),
    };
    let usable = reply.status == StatusCode::OK
        && media_type.is_manifest_or_index()
        && (1..=limits.manifest as u64).contains(&size);
    usable.then(|| Descriptor::new(media_type, digest, size))
}

pub(crate) fn get(origin: &Origin, repository: &RepositoryName, reference: &TagOrDigest, limits: &Limits) -> Ask {
    let url = repository_url(origin, repository, &format!("manifests/{reference}"));
    Ask::new(Method::GET, url, ScopeSet::pull(repository), limits)
        .header(ACCEPT, HeaderValue::from_static(ACCEPT_MANIFESTS))
        .collect(limits.manifest, limits)
}

/// The manifest that a `GET` brought. Its identity is the hash of its bytes; what the registry claims is compared with it.
/// `expected`: the descriptor that led here.
pub(crate) fn read(reply: &Reply, reference: &TagOrDigest, expected: Option<&Descriptor>) -> Result<Manifest, Error> {
    if reply.status != StatusCode::OK {
        return Err(reply.refusal(match reply.status {
            StatusCode::NOT_FOUND => Some("check the repository's name and the tag"),
            StatusCode::NOT_ACCEPTABLE => Some("this registry has it only as a type that is not known here"),
            _ => None,
        }));
    }
    let content_type = reply.header(CONTENT_TYPE.as_str());
    let led = expected.cloned().or_else(|| match reference {
        TagOrDigest::Digest(digest) => {
            let told = MediaType::new(content_type.unwrap_or_default());
            Some(Descriptor::new(told, digest.clone(), reply.body.len() as u64))
        }
        TagOrDigest::Tag(_) => None,
    });
    if let Some(led) = led.as_ref().filter(|led| !led.digest.is_verifiable()) {
        return Err(reply.broken(format!("content can't be verified: the algorithm of {} is unknown", led.digest)));
    }
    let manifest = Manifest::parse(reply.body.clone(), content_type, led.as_ref()).map_err(|why| match why {
        ManifestError::Digest { expected, found } => Error::Integrity { asked: reply.asked.clone(), expected, found },
        why => reply.broken(why.to_string()),
    })?;
    match reply.claimed_digest() {
        // By tag nothing else tells a body that was changed on the way. A list's digest over a child's body is seen in the
        // wild (distribution issue 2395), and of schema 1 only a part is hashed.
        Some(claimed) if led.is_none() && !matches!(manifest.content(), ManifestContent::Schema1) => {
            let found = claimed.algorithm().map(|algorithm| Digest::compute(algorithm, manifest.bytes()));
            match found {
                Some(found) if found != claimed => {
                    Err(Error::Integrity { asked: reply.asked.clone(), expected: claimed, found })
                }
                _ => Ok(manifest),
            }
        }
        _ => Ok(manifest),
    }
}

pub(crate) fn put(
    origin: &Origin,
    repository: &RepositoryName,
    reference: &TagOrDigest,
    manifest: &Manifest,
    limits: &Limits,
) -> Ask {
    let url = repository_url(origin, repository, &format!("manifests/{reference}"));
    let kind = HeaderValue::try_from(manifest.media_type().as_str()).expect("media types are visible ASCII");
    Ask::new(Method::PUT, url, ScopeSet::push(repository), limits).body(Payload::Bytes(manifest.bytes().clone()), kind)
}

/// What came of a `PUT`.
#[derive(Debug)]
pub(crate) enum Put {
    /// The registry has it.
    Done,
    /// The registry misses something that the manifest names: blobs collected meanwhile, or storage that is not consistent
    /// yet (OpenShift, GHCR).
    BlobUnknown,
    /// Refused in a way that immutable tags and concurrent pushes are refused in (Harbor 412, ECR 400 `TAG_INVALID`, OCIR
    /// 409): fine if the tag already is what it should be.
    MaybeThere,
    /// Refused.
    No,
}

pub(crate) fn was_put(reply: &Reply, manifest: &Manifest) -> Result<Put, Error> {
    if reply.status.is_success() {
        // Optional, but if it is there it has to be right (where the algorithm is the same).
        return match reply.claimed_digest() {
            Some(claimed) if claimed.algorithm() == manifest.digest().algorithm() && claimed != *manifest.digest() => {
                Err(Error::Integrity {
                    asked: reply.asked.clone(),
                    expected: manifest.digest().clone(),
                    found: claimed,
                })
            }
            _ => Ok(Put::Done),
        };
    }
    let errors = reply.errors();
    let says = |code: &ErrorCode| errors.iter().any(|error| error.code() == Some(code));
    Ok(match reply.status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND
            if says(&ErrorCode::ManifestBlobUnknown) || says(&ErrorCode::BlobUnknown) =>
        {
            Put::BlobUnknown
        }
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED | StatusCode::FORBIDDEN => Put::MaybeThere,
        StatusCode::BAD_REQUEST if says(&ErrorCode::TagInvalid) => Put::MaybeThere,
        _ => Put::No,
    })
}

/// Whether a registry that took a manifest says that it lists it among what refers to its subject.
pub(crate) fn is_listed(reply: &Reply, manifest: &Manifest) -> bool {
    let told: Option<Digest> = reply.header("oci-subject").and_then(|told| told.trim().parse().ok());
    told.is_some_and(|told| manifest.subject().is_some_and(|subject| subject.digest == told))
}

/// The error for a `PUT` that was refused for good.
pub(crate) fn put_refused(reply: &Reply) -> Error {
    let missing = [ErrorCode::ManifestBlobUnknown, ErrorCode::BlobUnknown];
    let missing = reply.errors().iter().any(|error| error.code().is_some_and(|code| missing.contains(code)));
    reply.refusal(match reply.status {
        _ if missing => Some("what a manifest names has to be in the repository before it"),
        StatusCode::NOT_FOUND => Some("does the repository exist? Some registries want it created first"),
        StatusCode::PAYLOAD_TOO_LARGE => Some("the manifest is larger than this registry takes"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Some("this registry doesn't take manifests of this type"),
        StatusCode::METHOD_NOT_ALLOWED => Some("this registry is read-only"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::endpoint::golden;

    fn manifest() -> Manifest {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":0}}]}}"#,
            Digest::of(b"")
        );
        Manifest::parse(Bytes::from(text), None, None).unwrap()
    }

    #[test]
    fn requests() {
        let limits = Limits::default();
        let (name, tag) = ("n".parse().unwrap(), TagOrDigest::Tag("v1".parse().unwrap()));
        assert_eq!(
            golden::text(&head(&golden::origin(), &name, &tag, &limits)),
            format!(
                "HEAD https://r.example/v2/n/manifests/v1\naccept-encoding: identity\naccept: {ACCEPT_MANIFESTS}\n(repository:n:pull,push)\n"
            )
        );
        let manifest = manifest();
        assert_eq!(
            golden::text(&put(&golden::origin(), &name, &tag, &manifest, &limits)),
            format!(
                "PUT https://r.example/v2/n/manifests/v1\naccept-encoding: identity\ncontent-length: {}\ncontent-type: application/vnd.oci.image.index.v1+json\n(repository:n:pull,push)\n",
                manifest.bytes().len()
            )
        );
    }

    #[test]
    fn c43_c45_c46_what_came_of_a_put() {
        let manifest = manifest();
        for status in [200, 201, 202, 204] {
            assert!(matches!(was_put(&golden::reply(status, &[], ""), &manifest), Ok(Put::Done)), "C43: {status}");
        }
        let lie =
            [("docker-content-digest", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")];
        assert!(matches!(was_put(&golden::reply(201, &lie, ""), &manifest), Err(Error::Integrity { .. })));
        let says = |code: &str| format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#);
        let put = |status, code: &str| was_put(&golden::reply(status, &[], &says(code)), &manifest).unwrap();
        assert!(matches!(put(400, "MANIFEST_BLOB_UNKNOWN"), Put::BlobUnknown));
        assert!(matches!(put(400, "TAG_INVALID"), Put::MaybeThere));
        assert!(matches!(put(409, "X"), Put::MaybeThere));
        assert!(matches!(put(412, "X"), Put::MaybeThere));
        assert!(matches!(put(400, "MANIFEST_INVALID"), Put::No));
        for (status, code, advice) in [
            (400, "MANIFEST_BLOB_UNKNOWN", "before it"),
            (404, "BLOB_UNKNOWN", "before it"),
            (404, "NAME_UNKNOWN", "created first"),
            (405, "UNSUPPORTED", "read-only"),
        ] {
            let why = put_refused(&golden::reply(status, &[], &says(code))).to_string();
            assert!(why.contains(code) && why.contains(advice), "{why}");
        }
    }

    #[test]
    fn c39_c40_a_head_is_believed_only_if_it_tells_everything() {
        let limits = Limits::default();
        let (name, tag) = ("n".parse().unwrap(), TagOrDigest::Tag("v1".parse().unwrap()));
        assert_eq!(
            golden::text(&look(&golden::origin(), &name, &tag, &limits)),
            format!(
                "HEAD https://r.example/v2/n/manifests/v1\naccept-encoding: identity\naccept: {ACCEPT_MANIFESTS}\n(repository:n:pull)\n"
            )
        );
        assert_eq!(
            golden::text(&get(&golden::origin(), &name, &tag, &limits)),
            format!(
                "GET https://r.example/v2/n/manifests/v1\naccept-encoding: identity\naccept: {ACCEPT_MANIFESTS}\n(repository:n:pull)\n"
            )
        );
        let digest = Digest::of(b"x");
        let whole = [
            ("docker-content-digest", digest.as_str()),
            ("content-length", "7"),
            ("content-type", "application/vnd.oci.image.index.v1+json; charset=utf-8"),
        ];
        let told = |status, headers: &[(&str, &str)], reference: &TagOrDigest| {
            told(&golden::reply(status, headers, ""), reference, &limits)
        };
        let descriptor = Descriptor::new(MediaType::OCI_INDEX, digest.clone(), 7);
        assert_eq!(told(200, &whole, &tag), Some(descriptor.clone()));
        assert_eq!(told(200, &whole, &TagOrDigest::Digest(digest.clone())), Some(descriptor));
        assert_eq!(told(200, &whole, &TagOrDigest::Digest(Digest::of(b"y"))), None, "the list's digest for a child");
        for (at, bad) in [
            (0, "sha256:nonsense"),
            (0, "md5:0123"),
            (1, "0"),
            (1, "-1"),
            (1, "99999999"),
            (2, "application/octet-stream"),
            (2, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ] {
            let mut headers = whole;
            headers[at].1 = bad;
            assert_eq!(told(200, &headers, &tag), None, "{bad}");
        }
        for missing in 0..3 {
            let headers: Vec<_> =
                whole.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, it)| *it).collect();
            assert_eq!(told(200, &headers, &tag), None, "{missing}");
        }
        assert_eq!(told(400, &whole, &tag), None, "C40");
    }

    #[test]
    fn c36_c37_c38_what_a_registry_says_of_a_digest_is_compared() {
        let (manifest, tag) = (manifest(), TagOrDigest::Tag("v1".parse().unwrap()));
        let text = std::str::from_utf8(manifest.bytes()).unwrap();
        let read = |digest: &str| {
            let headers = [("content-type", manifest.media_type().as_str()), ("docker-content-digest", digest)];
            read(&golden::reply(200, if digest.is_empty() { &headers[..1] } else { &headers }, text), &tag, None)
        };
        assert_eq!(read("").unwrap().digest(), manifest.digest(), "C36");
        assert!(read(manifest.digest().as_str()).is_ok());
        assert!(matches!(read(Digest::of(b"").as_str()), Err(Error::Integrity { .. })), "C37");
        let long = |bytes| Digest::compute(crate::spec::Algorithm::Sha512, bytes).to_string();
        assert_eq!(read(&long(manifest.bytes())).unwrap().digest(), manifest.digest(), "C38");
        assert!(matches!(read(&long(b"")), Err(Error::Integrity { .. })), "C38");
        assert!(read("md5:0123456789abcdef").is_ok(), "what can't be computed can't be compared");
    }
}
