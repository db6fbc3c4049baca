//! `GET /v2/_catalog`: a registry's repositories, page by page. Docker's API; the specification of OCI leaves it out, and
//! many registries keep it to themselves.

use std::num::NonZeroU32;

use http::{Method, StatusCode, Uri};
use serde::Deserialize;

use crate::endpoint::page::{Names, present};
use crate::endpoint::{Ask, Reply};
use crate::error::Error;
use crate::limits::Limits;
use crate::spec::{Origin, RepositoryName, ScopeSet, object};

pub(crate) fn first(origin: &Origin, n: Option<NonZeroU32>, limits: &Limits) -> Ask {
    let query = n.map_or_else(String::new, |n| format!("?n={n}"));
    let url = origin.at(&format!("/v2/_catalog{query}")).expect("a constant path and a number");
    page(url, limits)
}

/// A page by its URL.
pub(crate) fn page(url: Uri, limits: &Limits) -> Ask {
    Ask::new(Method::GET, url, ScopeSet::catalog(), limits).collect(limits.page, limits)
}

pub(crate) fn read(reply: &Reply, limits: &Limits) -> Result<Names, Error> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default, deserialize_with = "present")]
        repositories: Option<Option<Vec<Option<String>>>>,
    }
    if reply.status != StatusCode::OK {
        return Err(reply.refusal(match reply.status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                Some("this registry does not list its repositories; name the repository instead")
            }
            _ => None,
        }));
    }
    Names::check(reply, limits)?;
    match object(&reply.body) {
        Ok(Page { repositories: Some(names) }) => {
            Ok(Names::sorted_out(names.unwrap_or_default(), |name| name.parse::<RepositoryName>().is_ok()))
        }
        _ => Err(reply.broken("it answered with something that is no list of repositories")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;

    #[test]
    fn requests() {
        let limits = Limits::default();
        assert_eq!(
            golden::text(&first(&golden::origin(), None, &limits)),
            "GET https://r.example/v2/_catalog\naccept-encoding: identity\n(registry:catalog:*)\n"
        );
        assert_eq!(
            golden::text(&first(&golden::origin(), NonZeroU32::new(7), &limits)),
            "GET https://r.example/v2/_catalog?n=7\naccept-encoding: identity\n(registry:catalog:*)\n"
        );
    }

    #[test]
    fn c86_pages_and_refusals() {
        let names = |body: &str| read(&golden::reply(200, &[], body), &Limits::default()).unwrap();
        assert_eq!(names(r#"{"repositories":null}"#), Names::default());
        let page = names(r#"{"repositories":["a/b","UPPER","c"]}"#);
        assert_eq!((page.names, page.odd), (vec!["a/b".to_owned(), "c".to_owned()], vec!["UPPER".to_owned()]));
        for body in ["{}", "<html>", r#"{"repositories":{}}"#, r#"[["a"]]"#] {
            assert!(
                matches!(read(&golden::reply(200, &[], body), &Limits::default()), Err(Error::Protocol { .. })),
                "{body}"
            );
        }
        for status in [404, 405, 501] {
            let why = read(&golden::reply(status, &[], ""), &Limits::default()).unwrap_err().to_string();
            assert!(why.contains("does not list its repositories"), "{status}: {why}");
        }
    }
}
