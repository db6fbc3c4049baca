//! Which endpoint a path is.

use http::StatusCode;

use super::reply::{Code, Refusal};
use crate::spec::{Digest, RepositoryName, Tag, TagOrDigest};

/// An endpoint, with what stands in its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, TagOrDigest),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(RepositoryName, String),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
    /// A path with one slash too few or too many at its end: the right one.
    Moved(String),
}

impl Route {
    /// Reads a decoded path. `strict` tells names that can't be by their error codes; otherwise, as with distribution, such a
    /// path simply isn't there.
    pub(super) fn parse(path: &str, strict: bool) -> Result<Self, Refusal> {
        let invalid = |code: Code, what: &str| {
            if strict { Refusal::from(code).detail(what) } else { Refusal::no_such_path() }
        };
        let Some(rest) = path.strip_prefix("/v2") else { return Err(Refusal::no_such_path()) };
        match rest {
            "" => return Ok(Self::Moved("/v2/".to_owned())),
            "/" => return Ok(Self::Base),
            "/_catalog" => return Ok(Self::Catalog),
            "/_catalog/" => return Ok(Self::Moved("/v2/_catalog".to_owned())),
            _ => {}
        }
        let rest = rest.strip_prefix('/').ok_or_else(Refusal::no_such_path)?;
        let name = |name: &str| name.parse::<RepositoryName>().map_err(|_| invalid(Code::NAME_INVALID, name));

        // Names have slashes, and may have segments like the endpoints': the end of the path decides.
        let (head, last) = rest.rsplit_once('/').ok_or_else(Refusal::no_such_path)?;
        if last.is_empty() {
            // One slash too many at most, so that this calls itself once at most.
            if head.is_empty() || head.ends_with('/') {
                return Err(Refusal::no_such_path());
            }
            return match head.strip_suffix("/blobs/uploads") {
                Some(repository) => Ok(Self::Uploads(name(repository)?)),
                None => Self::parse(&format!("/v2/{head}"), strict)
                    .and_then(
                        |route| if matches!(route, Self::Moved(_)) { Err(Refusal::no_such_path()) } else { Ok(route) },
                    )
                    .map(|_| Self::Moved(format!("/v2/{head}"))),
            };
        }
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(name(repository)?));
        }
        if rest.strip_suffix("/blobs/uploads").is_some_and(|repository| name(repository).is_ok()) {
            return Ok(Self::Moved(format!("/v2/{rest}/")));
        }
        if let Some(repository) = head.strip_suffix("/blobs/uploads") {
            let plain = last.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'='));
            return if plain {
                Ok(Self::Upload(name(repository)?, last.to_owned()))
            } else {
                Err(Refusal::no_such_path())
            };
        }
        if let Some(repository) = head.strip_suffix("/manifests") {
            let reference = last.parse::<TagOrDigest>().map_err(|_| match last.contains(':') {
                true => wrong_digest(last, strict),
                false => invalid(Code::TAG_INVALID, last),
            })?;
            return Ok(Self::Manifest(name(repository)?, reference));
        }
        if let Some(repository) = head.strip_suffix("/blobs") {
            return Ok(Self::Blob(name(repository)?, last.parse().map_err(|_| wrong_digest(last, strict))?));
        }
        if let Some(repository) = head.strip_suffix("/referrers") {
            return Ok(Self::Referrers(name(repository)?, last.parse().map_err(|_| wrong_digest(last, strict))?));
        }
        Err(Refusal::no_such_path())
    }

    /// The repository that it is about.
    pub(super) const fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog | Self::Moved(_) => None,
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
        }
    }
}

/// distribution's router takes whatever has some name and at least 32 hexadecimal digits for a digest.
fn wrong_digest(text: &str, strict: bool) -> Refusal {
    let routed = text.split_once(':').is_some_and(|(name, encoded)| {
        !name.is_empty() && encoded.len() >= 32 && encoded.bytes().all(|b| b.is_ascii_hexdigit())
    });
    if strict || routed {
        Refusal::from(Code::DIGEST_INVALID).detail(text).status(StatusCode::BAD_REQUEST)
    } else {
        Refusal::no_such_path()
    }
}

/// A tag given in a query.
pub(super) fn tag(text: &str) -> Result<Tag, Refusal> {
    text.parse().map_err(|_| Refusal::from(Code::TAG_INVALID).detail(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Option<Route> {
        Route::parse(path, false).ok()
    }

    #[test]
    fn paths() {
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let digest = Digest::of(b"");
        assert_eq!(route("/v2/"), Some(Route::Base));
        assert_eq!(route("/v2/_catalog"), Some(Route::Catalog));
        assert_eq!(route("/v2/a/b/tags/list"), Some(Route::Tags(name("a/b"))));
        assert_eq!(route("/v2/a/blobs/uploads/"), Some(Route::Uploads(name("a"))));
        assert_eq!(route("/v2/a/blobs/uploads/x-1"), Some(Route::Upload(name("a"), "x-1".to_owned())));
        assert_eq!(route(&format!("/v2/a/blobs/{digest}")), Some(Route::Blob(name("a"), digest.clone())));
        assert_eq!(route(&format!("/v2/a/referrers/{digest}")), Some(Route::Referrers(name("a"), digest.clone())));
        let by_digest = TagOrDigest::Digest(digest.clone());
        assert_eq!(route(&format!("/v2/a/manifests/{digest}")), Some(Route::Manifest(name("a"), by_digest)));
        // Segments of names may look like endpoints.
        assert_eq!(route("/v2/tags/list/tags/list"), Some(Route::Tags(name("tags/list"))));
        assert_eq!(route("/v2/blobs/manifests/tags/list"), Some(Route::Tags(name("blobs/manifests"))));
        assert_eq!(route("/v2/manifests/manifests/v1").and_then(|r| r.repository().cloned()), Some(name("manifests")));
    }

    #[test]
    fn slashes_at_the_end() {
        assert_eq!(route("/v2"), Some(Route::Moved("/v2/".to_owned())));
        assert_eq!(route("/v2/a/blobs/uploads"), Some(Route::Moved("/v2/a/blobs/uploads/".to_owned())));
        assert_eq!(route("/v2/a/tags/list/"), Some(Route::Moved("/v2/a/tags/list".to_owned())));
        for nowhere in ["/", "", "/v1/", "/v2x", "/v2//", "/v2/a", "/v2/a/", "/v2/a/tags/list//", "/v2///////"] {
            assert_eq!(route(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn names_that_can_not_be() {
        let status = |path: &str, strict| {
            let reply = Route::parse(path, strict).unwrap_err().into_reply();
            (reply.status().as_u16(), String::from_utf8_lossy(reply.body()).into_owned())
        };
        let cases = [
            ("/v2/A/tags/list", "NAME_INVALID"),
            ("/v2/a/manifests/-x", "TAG_INVALID"),
            ("/v2/a/blobs/sha256:abc", "DIGEST_INVALID"),
        ];
        for (path, code) in cases {
            assert_eq!(status(path, false).0, 404, "{path}");
            let (status, body) = status(path, true);
            assert!(status == 400 && body.contains(code), "{path}: {body}");
        }
        assert_eq!(status(&format!("/v2/a/blobs/sha256:{}", "a".repeat(40)), false).0, 400);
    }
}
