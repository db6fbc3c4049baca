//! Several registries in one world, told apart by their hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;

use crate::testing::registry::Registry;

/// One registry that answers for every host but those that have their own.
#[derive(Debug)]
pub(super) struct Registries {
    pub(super) first: Registry,
    others: BTreeMap<String, Registry>,
}

impl Registries {
    pub(super) const fn new(first: Registry) -> Self {
        Self { first, others: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, host: &str, registry: Registry) {
        self.others.insert(host.to_owned(), registry);
    }

    /// The one that answers for this host (and port).
    pub(super) fn of(&mut self, host: &str) -> &mut Registry {
        self.others.get_mut(host).unwrap_or(&mut self.first)
    }

    pub(super) fn handle(&mut self, request: &Parts, body: Bytes) -> http::Response<Bytes> {
        self.asked(request).handle(request, body)
    }

    pub(super) fn cut(&mut self, request: &Parts, got: Bytes) {
        self.asked(request).cut(request, got);
    }

    /// How many there were.
    pub(super) fn lose_uploads(&mut self) -> usize {
        let open = self.all().map(|registry| registry.open_uploads()).sum();
        self.all().for_each(Registry::lose_uploads);
        open
    }

    pub(super) fn revoke_tokens(&mut self) {
        self.all().for_each(Registry::revoke_tokens);
    }

    pub(super) fn advance(&mut self, now: Duration) {
        self.all().for_each(|registry| registry.advance(now));
    }

    fn asked(&mut self, request: &Parts) -> &mut Registry {
        let host = request.uri.authority().map(|host| host.as_str().to_owned());
        let host = host.or_else(|| Some(request.headers.get(HOST)?.to_str().ok()?.to_owned()));
        self.of(&host.unwrap_or_default())
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Registry> {
        std::iter::once(&mut self.first).chain(self.others.values_mut())
    }
}
