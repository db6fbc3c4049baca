//! What lists in pages have in common: the catalog, tags, referrers (end-8, end-12).

use http::Uri;
use http::header::LINK;
use serde::{Deserialize, Deserializer};

use crate::endpoint::Reply;
use crate::error::Error;
use crate::limits::Limits;
use crate::spec::{lead, next_link};

/// Where the list goes on after this page; `None` at its end. `home`: the request that the list began with.
///
/// Only a `Link` leads on. A `last` of our own making is refused by some registries and ignored by others, which would list
/// the same page for ever.
pub(crate) fn next(home: &Uri, reply: &Reply) -> Result<Option<Uri>, Error> {
    let fields: Vec<_> =
        reply.headers.get_all(LINK).iter().map(|field| String::from_utf8_lossy(field.as_bytes())).collect();
    let Some(target) = fields.iter().find_map(|field| next_link(field)) else { return Ok(None) };
    lead::next_page(home, &reply.url, target)
        .map(Some)
        .map_err(|why| reply.broken(format!("the list's next page can't be asked for: {why}")))
}

/// The names on a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Those that can be asked for.
    pub(crate) names: Vec<String>,
    /// Entries that are no such names, fit to be shown: `""` (Nexus), digests among tags (Artifactory).
    pub(crate) odd: Vec<String>,
}

impl Names {
    /// Refuses a page with more entries than are taken, before anything is made of them: each takes a comma.
    pub(crate) fn check(reply: &Reply, limits: &Limits) -> Result<(), Error> {
        let (commas, most) = (reply.body.iter().filter(|byte| **byte == b',').count(), limits.page_entries);
        if commas < most {
            return Ok(());
        }
        Err(reply
            .broken(format!("a page of the list has more than {most} entries, which is more than are taken at a time")))
    }

    pub(crate) fn sorted_out(entries: Vec<Option<String>>, is_name: impl Fn(&str) -> bool) -> Self {
        let mut page = Self::default();
        for entry in entries {
            match entry {
                Some(name) if is_name(&name) => page.names.push(name),
                Some(other) => page.odd.push(other.chars().take(80).flat_map(char::escape_debug).collect()),
                None => page.odd.push("null".to_owned()),
            }
        }
        page
    }

    /// How many entries the page has, usable or not.
    pub(crate) const fn len(&self) -> usize {
        self.names.len() + self.odd.len()
    }
}

/// Tells a field that is `null` from one that is missing: the first is how Go writes an empty list, the second is another
/// document altogether.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;

    fn after(links: &[&str]) -> Result<Option<String>, Error> {
        let headers: Vec<_> = links.iter().map(|link| ("link", *link)).collect();
        let home = Uri::from_static("https://r.example/v2/n/tags/list");
        let reply = Reply { url: home.clone(), ..golden::reply(200, &headers, "") };
        next(&home, &reply).map(|url| url.map(|url| url.to_string()))
    }

    #[test]
    fn c81_c82_where_it_goes_on() {
        let at = |text: &str| Some(format!("https://r.example{text}"));
        for (links, expected) in [
            (&[][..], None),
            (&["</v2/n/tags/list?n=2&last=b>; rel=\"next\""], at("/v2/n/tags/list?n=2&last=b")),
            (&["<list?last=b>; rel=next"], at("/v2/n/tags/list?last=b")),
            (&["<?last=b>; rel=\"next\""], at("/v2/n/tags/list?last=b")),
            (&["/v2/n/tags/list?last=b; rel=next"], at("/v2/n/tags/list?last=b")),
            (&["<https://r.example:443/x?t=%2F+>; rel=next"], Some("https://r.example:443/x?t=%2F+".to_owned())),
            // A proxy that ends TLS, and doesn't say so to the registry.
            (&["<http://r.example/x>; rel=next"], at("/x")),
            (&["</p>; rel=\"prev\"", "</x>; rel=\"next\""], at("/x")),
            (&["</p>; rel=\"prev\""], None),
        ] {
            assert_eq!(after(links).unwrap(), expected, "{links:?}");
        }
    }

    #[test]
    fn c83_it_does_not_go_elsewhere() {
        for link in [
            "<https://evil.example/v2/n/tags/list>; rel=next",
            "<//evil.example/x>; rel=next",
            "<https://r.example:8443/x>; rel=next",
            "<javascript:alert(1)>; rel=next",
            "<https://user@r.example/x>; rel=next",
        ] {
            let why = after(&[link]).unwrap_err().to_string();
            assert!(why.contains("next page can't be asked for"), "{link}: {why}");
        }
    }

    #[test]
    fn a_redirect_does_not_move_the_list() {
        let home = Uri::from_static("https://r.example/v2/n/tags/list");
        let mut reply = golden::reply(200, &[("link", "</v2/n/tags/list?last=b>; rel=next")], "");
        reply.url = Uri::from_static("https://elsewhere.example/v2/n/tags/list");
        assert!(next(&home, &reply).is_err());
    }
}
