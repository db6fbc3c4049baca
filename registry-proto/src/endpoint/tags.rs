//! `GET /v2/<name>/tags/list` (end-8): a repository's tags, page by page.

use std::num::NonZeroU32;

use http::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::endpoint::page::{Names, present};
use crate::endpoint::{Ask, Reply, repository_url};
use crate::error::Error;
use crate::limits::Limits;
use crate::spec::{Origin, RepositoryName, ScopeSet, Tag, object};

pub(crate) fn first(origin: &Origin, repository: &RepositoryName, n: Option<NonZeroU32>, limits: &Limits) -> Ask {
    let query = n.map_or_else(String::new, |n| format!("?n={n}"));
    page(repository_url(origin, repository, &format!("tags/list{query}")), repository, limits)
}

/// A page by its URL.
pub(crate) fn page(url: Uri, repository: &RepositoryName, limits: &Limits) -> Ask {
    Ask::new(Method::GET, url, ScopeSet::pull(repository), limits).collect(limits.page, limits)
}

/// The tags on a page. `name` may differ from ours (proxies), the `Content-Type` may be anything (ECR says `text/plain`).
pub(crate) fn read(reply: &Reply, limits: &Limits) -> Result<Names, Error> {
    #[derive(Deserialize)]
    struct Page {
        name: Option<IgnoredAny>,
        #[serde(default, deserialize_with = "present")]
        tags: Option<Option<Vec<Option<String>>>>,
    }
    if reply.status != StatusCode::OK {
        return Err(reply.refusal(match reply.status {
            StatusCode::NOT_FOUND => Some("check the repository's name; some registries forget one without tags"),
            StatusCode::METHOD_NOT_ALLOWED => Some("this registry does not list tags"),
            _ => None,
        }));
    }
    Names::check(reply, limits)?;
    match object(&reply.body) {
        Ok(Page { tags: Some(tags), .. }) => {
            Ok(Names::sorted_out(tags.unwrap_or_default(), |name| name.parse::<Tag>().is_ok()))
        }
        Ok(Page { name: Some(_), tags: None }) => Ok(Names::default()),
        _ => Err(reply.broken("it answered with something that is no list of tags; is the repository's name right?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;

    #[test]
    fn requests() {
        let (name, limits) = ("a/b".parse().unwrap(), Limits::default());
        assert_eq!(
            golden::text(&first(&golden::origin(), &name, None, &limits)),
            "GET https://r.example/v2/a/b/tags/list\naccept-encoding: identity\n(repository:a/b:pull)\n"
        );
        assert_eq!(
            golden::text(&first(&golden::origin(), &name, NonZeroU32::new(50), &limits)),
            "GET https://r.example/v2/a/b/tags/list?n=50\naccept-encoding: identity\n(repository:a/b:pull)\n"
        );
    }

    #[test]
    fn c80_pages() {
        let names = |body: &str| {
            read(&golden::reply(200, &[("content-type", "text/plain")], body), &Limits::default()).unwrap()
        };
        for empty in [r#"{"name":"n","tags":null}"#, r#"{"tags":[]}"#, r#"{"name":"n"}"#] {
            assert_eq!(names(empty), Names::default(), "{empty}");
        }
        let page = names(r#"{"name":"x","tags":["","sha256:ab","ok","a\u001b[31m",null],"more":[{}]}"#);
        assert_eq!(page.names, ["ok"]);
        assert_eq!(page.odd, ["", "sha256:ab", "a\\u{1b}[31m", "null"]);
    }

    #[test]
    fn what_is_no_list() {
        for body in [
            "",
            "{}",
            "[]",
            "null",
            "<html>",
            r#"{"errors":[]}"#,
            r#"{"tags":"a"}"#,
            r#"{"tags":[1]}"#,
            r#"["n",["a"]]"#,
        ] {
            let why = read(&golden::reply(200, &[], body), &Limits::default()).unwrap_err();
            assert!(matches!(why, Error::Protocol { .. }), "{body}: {why:?}");
        }
        let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#;
        let why = read(&golden::reply(404, &[], unknown), &Limits::default()).unwrap_err().to_string();
        assert!(why.contains("NAME_UNKNOWN") && why.contains("check the repository's name"), "{why}");
        assert!(
            read(&golden::reply(405, &[], ""), &Limits::default())
                .unwrap_err()
                .to_string()
                .contains("does not list tags")
        );
    }
}
