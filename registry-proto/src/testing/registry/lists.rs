//! Lists of names, in pages: the catalog, tags.

use http::Method;
use http::header::LINK;
use serde_json::json;

use super::Registry;
use super::call::Call;
use super::profile::Support;
use super::query::encode;
use super::reply::{Code, Outcome, Refusal, With as _, json_reply};
use crate::spec::RepositoryName;

impl Registry {
    pub(super) fn catalog_endpoint(&self, call: &Call<'_>) -> Outcome {
        if let Support::No(status) = self.profile.catalog {
            return Err(Refusal::from(Code::UNSUPPORTED).status(status));
        }
        only_get(call)?;
        let most = self.profile.catalog_page;
        let count = match asked(call)? {
            Some(count) if count > most => return Err(Refusal::from(Code::PAGINATION).detail(json!({ "n": count }))),
            count => count.unwrap_or_else(|| most.min(100)),
        };
        let all = self.repositories.keys().map(String::as_str);
        let (page, more) = page(all, call.query.get("last"), Some(count));
        let reply = json_reply("application/json", &json!({ "repositories": page }));
        Ok(if more { reply.with(LINK, &next("/v2/_catalog", count, page.last().copied())) } else { reply })
    }

    pub(super) fn tags_endpoint(&self, call: &Call<'_>, name: &RepositoryName) -> Outcome {
        only_get(call)?;
        let repository = self.repositories.get(name.as_str());
        // distribution looks for the folder of tags, which the first tag makes.
        let known = repository.filter(|repository| repository.ever_tagged || self.profile.strict);
        let unknown = || Refusal::from(Code::NAME_UNKNOWN).detail(json!({ "name": name.as_str() }));
        let all = known.ok_or_else(unknown)?.tags.keys().map(String::as_str);
        if !self.profile.paginates_tags {
            let (tags, _) = page(all, None, None);
            let tags = if tags.is_empty() { json!(null) } else { json!(tags) };
            return Ok(json_reply("application/json; charset=utf-8", &json!({ "name": name.as_str(), "tags": tags })));
        }
        let count = match (asked(call)?, self.profile.tag_page) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        };
        let (page, more) = page(all, call.query.get("last"), count);
        let reply = json_reply("application/json", &json!({ "name": name.as_str(), "tags": page }));
        let path = format!("/v2/{name}/tags/list");
        Ok(if more { reply.with(LINK, &next(&path, count.unwrap_or_default(), page.last().copied())) } else { reply })
    }
}

pub(super) fn only_get(call: &Call<'_>) -> Result<(), Refusal> {
    if matches!(*call.method, Method::GET | Method::HEAD) { Ok(()) } else { Err(Refusal::no_such_method()) }
}

/// How many entries are asked for.
fn asked(call: &Call<'_>) -> Result<Option<usize>, Refusal> {
    let Some(text) = call.query.non_empty("n") else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Refusal::from(Code::PAGINATION).detail(json!({ "n": text })))
}

/// The entries after `last`, `count` at most, and whether there are more. Asking for none gets none and no more.
fn page<'a>(all: impl Iterator<Item = &'a str>, last: Option<&str>, count: Option<usize>) -> (Vec<&'a str>, bool) {
    let mut rest = all.filter(|entry| last.is_none_or(|last| *entry > last));
    let page: Vec<_> = rest.by_ref().take(count.unwrap_or(usize::MAX)).collect();
    let more = !page.is_empty() && rest.next().is_some();
    (page, more)
}

fn next(path: &str, count: usize, last: Option<&str>) -> String {
    format!("<{path}?last={}&n={count}>; rel=\"next\"", encode(last.unwrap_or_default()))
}
