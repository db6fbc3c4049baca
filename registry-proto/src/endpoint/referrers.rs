//! `GET /v2/<name>/referrers/<digest>` (end-12): which manifests say something about another.

use http::header::{ACCEPT, ETAG, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{Method, StatusCode, Uri};

use crate::endpoint::token::encode;
use crate::endpoint::{Ask, Replay, Reply, manifest, repository_url};
use crate::error::Error;
use crate::limits::Limits;
use crate::spec::{
    ApiError, Descriptor, Digest, ErrorCode, Manifest, MediaType, Origin, RepositoryName, ScopeSet, TagOrDigest,
};

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
pub(crate) enum Listed {
    /// These, as far as the page goes.
    Page(Vec<Descriptor>),
    /// It has no such endpoint, and says so.
    Not,
    /// Success, but with something else: a web page, `{}`, a manifest. From that nobody can tell that there are none.
    Nonsense,
}

pub(crate) fn read(reply: &Reply) -> Result<Listed, Error> {
    match reply.status {
        // The `Content-Type` is wrong often enough; what it is shows in the document.
        StatusCode::OK => {
            let index = Manifest::parse(reply.body.clone(), Some(MediaType::OCI_INDEX.as_str()), None);
            let page = index.ok().and_then(|index| Some(index.index()?.manifests.clone()));
            Ok(page.map_or(Listed::Nonsense, Listed::Page))
        }
        status if status.is_success() => Ok(Listed::Nonsense),
        StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::NOT_ACCEPTABLE
        | StatusCode::NOT_IMPLEMENTED => Ok(Listed::Not),
        _ => Err(reply.refusal(None)),
    }
}

/// Whether the repository's referrers are listed by the registry, as far as the reply tells something that holds for others
/// of its manifests, too. 404 with an error of its own may be about a repository that is not there yet.
pub(crate) fn are_listed(reply: &Reply, listed: &Listed) -> Option<bool> {
    match listed {
        Listed::Page(_) => Some(true),
        Listed::Nonsense => Some(false),
        Listed::Not if reply.status == StatusCode::NOT_FOUND => {
            let about_the_path = |error: &ApiError| error.code().is_none_or(|code| *code == ErrorCode::Unsupported);
            reply.errors().iter().all(about_the_path).then_some(false)
        }
        Listed::Not => Some(false),
    }
}

/// The list that clients keep under the tag for that, if what the tag leads to is one. GitLab takes the tag for the digest and
/// hands out the subject itself, which may be an index.
pub(crate) fn listed_under_tag<'a>(list: &'a Manifest, subject: &Digest) -> Option<&'a [Descriptor]> {
    let is_subject = subject.algorithm().is_some_and(|known| Digest::compute(known, list.bytes()) == *subject);
    list.index().filter(|_| !is_subject).map(|index| &index.manifests[..])
}

/// What a `PUT` of a list is to replace: registries that understand it refuse to replace anything else.
#[derive(Debug)]
pub(crate) enum Over {
    /// No list so far.
    Nothing,
    /// The one with this `ETag`.
    This(HeaderValue),
    /// Whatever there is.
    Anything,
}

impl Over {
    /// What was read.
    pub(crate) fn read_from(reply: &Reply) -> Self {
        match reply.headers.get(ETAG) {
            _ if reply.status == StatusCode::NOT_FOUND => Self::Nothing,
            // A weak one (a front end has changed the encoding) never matches.
            Some(etag) if etag.as_bytes().starts_with(b"\"") => Self::This(etag.clone()),
            _ => Self::Anything,
        }
    }
}

/// `PUT` of a list under its tag. Not to be sent again blindly: somebody else's may have come in between.
pub(crate) fn put(
    origin: &Origin,
    repository: &RepositoryName,
    tag: &TagOrDigest,
    list: &Manifest,
    over: &Over,
    limits: &Limits,
) -> Ask {
    let ask = manifest::put(origin, repository, tag, list, limits).replay(Replay::OwnerAsksFirst);
    match over {
        Over::Nothing => ask.header(IF_NONE_MATCH, HeaderValue::from_static("*")),
        Over::This(etag) => ask.header(IF_MATCH, etag.clone()),
        Over::Anything => ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;

    #[test]
    fn a26_requests() {
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
        assert!(matches!(read(200, &index("[]")), Ok(Listed::Page(page)) if page.is_empty()));
        assert!(matches!(read(200, &index("null")), Ok(Listed::Page(page)) if page.is_empty()));
        let one = format!(r#"[{{"mediaType":"a/b","digest":"{}","size":1,"artifactType":"x/y"}}]"#, Digest::of(b""));
        assert!(matches!(read(200, &index(&one)), Ok(Listed::Page(page)) if page.len() == 1));
        let image = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        for body in ["", "{}", "<html>", "[]", image, &index(r#"[{"digest":"x"}]"#)] {
            assert!(matches!(read(200, body), Ok(Listed::Nonsense)), "{body}");
        }
        for status in [404, 405, 406, 501] {
            assert!(matches!(read(status, ""), Ok(Listed::Not)), "{status}");
        }
        assert!(read(400, "").is_err());
    }

    #[test]
    fn a_list_replaces_what_was_read() {
        let list = Manifest::parse(br#"{"schemaVersion":2,"manifests":[]}"#.to_vec().into(), None, None).unwrap();
        let (name, tag) = ("n".parse().unwrap(), TagOrDigest::Tag("sha256-0".parse().unwrap()));
        let line = |status, etag: &str| {
            let headers = [("etag", etag)];
            let reply = golden::reply(status, &headers[..usize::from(!etag.is_empty())], "");
            let over = Over::read_from(&reply);
            let text = golden::text(&put(&golden::origin(), &name, &tag, &list, &over, &Limits::default()));
            assert!(text.starts_with("PUT https://r.example/v2/n/manifests/sha256-0\n"), "{text}");
            text.lines().find(|line| line.starts_with("if-")).map(str::to_owned)
        };
        assert_eq!(line(404, "").as_deref(), Some("if-none-match: *"));
        assert_eq!(line(200, "\"x\"").as_deref(), Some("if-match: \"x\""));
        assert_eq!((line(200, ""), line(200, "W/\"x\"")), (None, None));
    }

    #[test]
    fn what_a_refusal_tells_about_the_repository() {
        let known = |status, body: &str| {
            let reply = golden::reply(status, &[], body);
            are_listed(&reply, &read(&reply).unwrap())
        };
        let says = |code: &str| format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#);
        assert_eq!(known(200, r#"{"schemaVersion":2,"manifests":[]}"#), Some(true));
        assert_eq!(known(404, "404 page not found\n"), Some(false));
        assert_eq!(known(404, &says("UNSUPPORTED")), Some(false));
        assert_eq!(known(404, &says("NAME_UNKNOWN")), None);
        assert_eq!((known(405, ""), known(200, "<html>")), (Some(false), Some(false)));
    }

    #[test]
    fn a_tag_that_leads_to_the_subject_leads_to_no_list() {
        let index = |manifests: &str| {
            let text = format!(r#"{{"schemaVersion":2,"manifests":{manifests}}}"#);
            Manifest::parse(text.into_bytes().into(), None, None).unwrap()
        };
        let one = format!(r#"[{{"mediaType":"a/b","digest":"{}","size":1}}]"#, Digest::of(b""));
        let (list, empty) = (index(&one), index("[]"));
        assert_eq!(listed_under_tag(&list, &Digest::of(b"x")).unwrap().len(), 1);
        assert_eq!(listed_under_tag(&empty, &Digest::of(b"x")), Some(&[][..]));
        assert_eq!(listed_under_tag(&list, list.digest()), None);
        let long = Digest::compute(crate::spec::Algorithm::Sha512, list.bytes());
        assert_eq!(listed_under_tag(&list, &long), None);
    }
}
