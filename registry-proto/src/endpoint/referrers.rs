//! `GET /v2/<name>/referrers/<digest>` (end-12): which manifests say something about another; and the tag under which they
//! are listed where a registry has no such endpoint.

use http::header::{ACCEPT, HeaderValue};
use http::{Method, StatusCode, Uri};

use crate::endpoint::token::encode;
use crate::endpoint::{Ask, Reply, repository_url};
use crate::error::Error;
use crate::limits::Limits;
use crate::spec::{Descriptor, Digest, Manifest, MediaType, Origin, RepositoryName, ScopeSet, Tag};

pub(crate) fn first(
    origin: &Origin,
    repository: &RepositoryName,
    subject: &Digest,
    artifact_type: Option<&MediaType>,
    limits: &Limits,
) -> Ask {
    let query = artifact_type.map(|kind| format!("?artifactType={}", encode(kind.as_str()))).unwrap_or_default();
    page(repository_url(origin, repository, &format!("referrers/{subject}{query}")), repository, limits)
}

/// A page by its URL.
pub(crate) fn page(url: Uri, repository: &RepositoryName, limits: &Limits) -> Ask {
    Ask::new(Method::GET, url, ScopeSet::pull(repository), limits)
        .header(ACCEPT, HeaderValue::from_static("application/vnd.oci.image.index.v1+json"))
        .collect(limits.manifest, limits)
}

/// What a registry says about referrers.
#[derive(Debug)]
pub(crate) enum Referrers {
    /// These, as far as the page goes.
    Page(Vec<Descriptor>),
    /// It has no such endpoint, and says so.
    Unsupported,
    /// Success, but with something else: a web page, `{}`, a manifest. From that nobody can tell that there are none.
    Nonsense,
}

pub(crate) fn read(reply: &Reply) -> Result<Referrers, Error> {
    match reply.status {
        // The `Content-Type` is wrong often enough; what it is shows in the document.
        StatusCode::OK => {
            let index = Manifest::parse(reply.body.clone(), Some(MediaType::OCI_INDEX.as_str()), None);
            let page = index.ok().and_then(|index| Some(index.index()?.manifests.clone()));
            Ok(page.map_or(Referrers::Nonsense, Referrers::Page))
        }
        status if status.is_success() => Ok(Referrers::Nonsense),
        StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::NOT_ACCEPTABLE
        | StatusCode::NOT_IMPLEMENTED => Ok(Referrers::Unsupported),
        _ => Err(reply.refusal(None)),
    }
}

/// The tag whose index lists a manifest's referrers where the registry doesn't (the referrers tag schema).
pub(crate) fn fallback_tag(subject: &Digest) -> Tag {
    let part = |text: &str, longest: usize| -> String {
        let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
        text.chars().take(longest).map(fits).collect()
    };
    let text = format!("{}-{}", part(subject.algorithm_name(), 32), part(subject.encoded(), 64));
    text.parse().expect("an algorithm starts with a letter or digit, and 97 characters are no more than 128")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;

    #[test]
    fn requests() {
        let (name, digest, limits) = ("a/b".parse().unwrap(), Digest::of(b""), Limits::default());
        let text = |kind: Option<&MediaType>| golden::text(&first(&golden::origin(), &name, &digest, kind, &limits));
        let rest =
            "accept-encoding: identity\naccept: application/vnd.oci.image.index.v1+json\n(repository:a/b:pull)\n";
        assert_eq!(text(None), format!("GET https://r.example/v2/a/b/referrers/{digest}\n{rest}"));
        assert_eq!(
            text(Some(&MediaType::new("application/vnd.example+json"))),
            format!(
                "GET https://r.example/v2/a/b/referrers/{digest}?artifactType=application/vnd.example%2Bjson\n{rest}"
            )
        );
        // Whatever is asked for stays in the value.
        assert!(text(Some(&MediaType::new("a&last=b#c"))).contains("?artifactType=a%26last%3Db%23c\n"));
    }

    #[test]
    fn c88_what_is_no_list_is_not_taken_for_an_empty_one() {
        let read = |status, body: &str| read(&golden::reply(status, &[("content-type", "text/plain")], body));
        let index = |manifests: &str| format!(r#"{{"schemaVersion":2,"manifests":{manifests}}}"#);
        assert!(matches!(read(200, &index("[]")), Ok(Referrers::Page(page)) if page.is_empty()));
        assert!(matches!(read(200, &index("null")), Ok(Referrers::Page(page)) if page.is_empty()));
        let one = format!(r#"[{{"mediaType":"a/b","digest":"{}","size":1,"artifactType":"x/y"}}]"#, Digest::of(b""));
        assert!(matches!(read(200, &index(&one)), Ok(Referrers::Page(page)) if page.len() == 1));
        let image = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        for body in ["", "{}", "<html>", "[]", image, &index(r#"[{"digest":"x"}]"#)] {
            assert!(matches!(read(200, body), Ok(Referrers::Nonsense)), "{body}");
        }
        for status in [404, 405, 406, 501] {
            assert!(matches!(read(status, ""), Ok(Referrers::Unsupported)), "{status}");
        }
        assert!(read(400, "").is_err());
    }

    #[test]
    fn fallback_tags() {
        let tag = |digest: &str| fallback_tag(&digest.parse().unwrap()).to_string();
        let (a64, a128) = ("a".repeat(64), "a".repeat(128));
        assert_eq!(tag(&format!("sha256:{a64}")), format!("sha256-{a64}"));
        assert_eq!(tag(&format!("sha512:{a128}")), format!("sha512-{a64}"));
        assert_eq!(tag("sha256+b64:abc=_-"), "sha256-b64-abc-_-");
        assert_eq!(
            tag(
                "test+algorithm+using+algorithm+separators+and+lots+of+characters+to+excercise+overall+truncation:alsoSome=InTheEncodedSectionToShowHyphenReplacementAndLotsAndLotsOfCharactersToExerciseEncodedTruncation"
            ),
            "test-algorithm-using-algorithm-s-alsoSome-InTheEncodedSectionToShowHyphenReplacementAndLotsAndLot"
        );
    }
}
