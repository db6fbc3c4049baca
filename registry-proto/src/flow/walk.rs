//! Walking from page to page without walking for ever.

use std::collections::BTreeSet;

use http::Uri;

use crate::endpoint::{Reply, page};
use crate::error::Error;
use crate::limits::Limits;
use crate::spec::Digest;

/// What a walk remembers of the pages behind it: enough to see that it comes by again, and nothing of what they said.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The first page: the others have its origin.
    home: Uri,
    /// Hashes of the URLs asked and of the pages seen.
    seen: BTreeSet<Digest>,
    pages: u32,
}

impl Walk {
    pub(crate) fn from(home: Uri) -> Self {
        Self { seen: BTreeSet::from([hash("url", home.to_string().as_bytes())]), home, pages: 0 }
    }

    /// Where the list goes on after a page with so many entries; `None` at its end.
    ///
    /// A page without entries is the end, whatever its `Link` says: some registries always send one, which leads round in a
    /// circle.
    pub(crate) fn after(&mut self, reply: &Reply, entries: usize, limits: &Limits) -> Result<Option<Uri>, Error> {
        let Some(next) = page::next(&self.home, reply)?.filter(|_| entries > 0) else { return Ok(None) };
        self.pages += 1;
        if self.pages >= limits.pages {
            return Err(reply.broken(format!("the list goes on after {} pages, which is the limit", self.pages)));
        }
        if !self.seen.insert(hash("page", &reply.body)) {
            return Err(reply.broken(format!(
                "page {} of the list is one that came before: it does not get ahead, and may be incomplete",
                self.pages
            )));
        }
        if !self.seen.insert(hash("url", next.to_string().as_bytes())) {
            return Err(reply.broken(format!(
                "page {} of the list leads back to one that was read before: it may be incomplete",
                self.pages
            )));
        }
        Ok(Some(next))
    }
}

fn hash(what: &str, bytes: &[u8]) -> Digest {
    Digest::of(&[what.as_bytes(), b" ", bytes].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;

    /// Walks along pages given by what asking for a query yields: the body and the next query. Yields how many pages were
    /// read, and how it ended.
    fn walk(limits: &Limits, page: impl Fn(&str) -> (String, Option<String>)) -> (u32, Result<(), String>) {
        let home = Uri::from_static("https://r.example/v2/n/tags/list");
        let (mut walk, mut url) = (Walk::from(home.clone()), home);
        for read in 1.. {
            let (body, next) = page(url.query().unwrap_or_default());
            let link = next.map(|next| format!("</v2/n/tags/list?{next}>; rel=\"next\""));
            let headers: Vec<_> = link.iter().map(|link| ("link", link.as_str())).collect();
            let reply = Reply { url: url.clone(), ..golden::reply(200, &headers, &body) };
            match walk.after(&reply, body.len(), limits) {
                Ok(Some(next)) => url = next,
                Ok(None) => return (read, Ok(())),
                Err(why) => return (read, Err(why.to_string())),
            }
        }
        unreachable!("walks end")
    }

    #[test]
    fn c84_every_walk_ends() {
        let limits = Limits { pages: 50, ..Limits::default() };
        let go = |to: &str| Some(to.to_owned());
        let turn = |at: &str| at.parse::<u32>().unwrap_or_default();

        let (pages, end) = walk(&limits, |at| (format!("page {at}"), (at != "b").then(|| "b".to_owned())));
        assert_eq!((pages, end), (2, Ok(())));
        // The same URL again, and a circle of two.
        let (pages, end) = walk(&limits, |at| (format!("page {at}"), go("a")));
        assert!(pages == 2 && end.unwrap_err().contains("leads back"));
        let (pages, end) = walk(&limits, |at| (format!("page {at}"), go(if at == "a" { "b" } else { "a" })));
        assert!(pages == 3 && end.unwrap_err().contains("leads back"));
        // Another URL each time, and always the same page: the registry does not look at where it should go on.
        let (pages, end) = walk(&limits, |at| ("same".to_owned(), Some((turn(at) + 1).to_string())));
        assert!(pages == 2 && end.unwrap_err().contains("does not get ahead"));
        // One entry a page, for ever.
        let (pages, end) = walk(&limits, |at| (at.to_owned() + "!", Some((turn(at) + 1).to_string())));
        assert!(pages == 50 && end.unwrap_err().contains("50 pages, which is the limit"));
        // A link even behind the last page.
        let (pages, end) = walk(&limits, |at| (if at == "z" { "" } else { "page" }.to_owned(), go("z")));
        assert_eq!((pages, end), (2, Ok(())));
    }
}
