//! Where a request goes: to its registry, and from there where redirects lead.

use std::fmt;

use http::{Method, Uri};

use crate::endpoint::Reply;
use crate::error::Error;
use crate::spec::{Origin, lead, redacted};

/// The way of one request.
pub(super) struct Route {
    start: Uri,
    /// Where credentials belong to: the origin of the request as its owner made it.
    home: Origin,
    url: Uri,
    target: Origin,
    /// A redirect left home: from here on no credentials of the registry's, even if it leads back.
    away: bool,
    /// Where the request has been since it set out.
    behind: Vec<Uri>,
}

/// Without queries, which may be signed.
impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("url", &redacted(&self.url)).field("away", &self.away).finish_non_exhaustive()
    }
}

impl Route {
    pub(super) fn new(start: &Uri) -> Self {
        let home = Origin::of(start).expect("endpoints build absolute URLs");
        Self { start: start.clone(), url: start.clone(), target: home.clone(), home, away: false, behind: Vec::new() }
    }

    pub(super) const fn url(&self) -> &Uri {
        &self.url
    }

    /// The origin of the next request.
    pub(super) const fn target(&self) -> &Origin {
        &self.target
    }

    pub(super) const fn home(&self) -> &Origin {
        &self.home
    }

    pub(super) const fn is_away(&self) -> bool {
        self.away
    }

    /// From the start: what a redirect led to may have expired.
    pub(super) fn restart(&mut self) {
        self.url = self.start.clone();
        self.target = self.home.clone();
        self.away = false;
        self.behind.clear();
    }

    /// Follows a redirect. No runtime does that: whether a request may go where a reply says is [`lead`]'s to say.
    pub(super) fn follow(&mut self, method: &Method, most: u32, reply: &Reply, location: &str) -> Result<(), Error> {
        if self.behind.len() >= most as usize {
            return Err(reply.broken("it redirects again and again"));
        }
        let unused = |why| reply.broken(format!("its redirect can't be followed: {why}"));
        let url = lead::redirect(&self.home, &self.url, method, reply.status, location).map_err(unused)?;
        let Some(to) = Origin::of(&url) else { return Err(reply.broken("its redirect can't be followed")) };
        self.behind.push(std::mem::replace(&mut self.url, url));
        if self.behind.contains(&self.url) {
            return Err(reply.broken("its redirects lead in a circle"));
        }
        self.away |= to != self.home;
        self.target = to;
        Ok(())
    }
}
