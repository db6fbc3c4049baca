//! Tokens, shared by all flows of a session and fetched once.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderValue;

use crate::endpoint::token::Bearer;
use crate::job::JobId;
use crate::spec::{Origin, ScopeSet};
use crate::time::Time;

/// How registries want to be authenticated, and the tokens held for them.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    schemes: BTreeMap<Origin, Scheme>,
    held: BTreeMap<TokenKey, Held>,
    leases: BTreeMap<TokenKey, Lease>,
}

/// The scheme of a registry's last usable challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Basic,
    Bearer(Bearer),
}

/// What a token is for. Bound to the registry's origin: two registries that name the same token server don't share tokens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenKey {
    pub(crate) origin: Origin,
    realm: String,
    service: Option<String>,
    pub(crate) scopes: ScopeSet,
}

impl TokenKey {
    pub(crate) fn new(origin: &Origin, bearer: &Bearer, scopes: ScopeSet) -> Self {
        Self { origin: origin.clone(), realm: bearer.realm.to_string(), service: bearer.service.clone(), scopes }
    }

    fn same_server(&self, other: &Self) -> bool {
        self.origin == other.origin && self.realm == other.realm && self.service == other.service
    }
}

#[derive(Debug)]
struct Held {
    header: HeaderValue,
    born: Time,
    until: Time,
}

/// One flow is fetching this token; the others wait for it. A lease ends by itself, so that a driver that vanished
/// can't hold the others up for ever.
#[derive(Debug)]
struct Lease {
    job: JobId,
    until: Time,
}

/// What to do about a token.
#[derive(Debug)]
pub(crate) enum Permission {
    /// Use this one.
    Held { key: TokenKey, header: HeaderValue, born: Time },
    /// Fetch it: nobody else does.
    Fetch(TokenKey),
    /// Another flow is fetching it; look again then, or when the session's generation moves.
    Busy(Time),
}

impl Tokens {
    pub(crate) fn scheme(&self, origin: &Origin) -> Option<&Scheme> {
        self.schemes.get(origin)
    }

    pub(crate) fn remember_scheme(&mut self, origin: &Origin, scheme: Scheme) {
        self.schemes.insert(origin.clone(), scheme);
    }

    /// A token that reaches at least as far as `key`, or the right to fetch it.
    pub(crate) fn permission(&mut self, key: TokenKey, now: Time) -> Permission {
        self.held.retain(|_, held| held.until > now);
        let wide_enough = |held: &&TokenKey| held.same_server(&key) && held.scopes.contains(&key.scopes);
        let exact = self.held.contains_key(&key).then_some(&key);
        if let Some(found) = exact.or_else(|| self.held.keys().find(wide_enough)) {
            let held = &self.held[found];
            return Permission::Held { key: found.clone(), header: held.header.clone(), born: held.born };
        }
        match self.leases.get(&key) {
            Some(lease) if lease.until > now => Permission::Busy(lease.until),
            _ => Permission::Fetch(key),
        }
    }

    pub(crate) fn lease(&mut self, key: &TokenKey, job: JobId, until: Time) {
        self.leases.insert(key.clone(), Lease { job, until });
    }

    /// The fetch is over. `token`: its header and lifetime, if there is one.
    pub(crate) fn fetched(&mut self, key: &TokenKey, token: Option<(HeaderValue, Duration)>, now: Time) {
        self.leases.remove(key);
        if let Some((header, lifetime)) = token {
            // Renewed a little early, so that a token doesn't expire on its way.
            let margin = (lifetime / 10).min(Duration::from_secs(10));
            self.held.insert(key.clone(), Held { header, born: now, until: now + (lifetime - margin) });
        }
    }

    /// The registry refused this token: nobody shall use it any more.
    pub(crate) fn drop_token(&mut self, key: &TokenKey, born: Time) {
        if self.held.get(key).is_some_and(|held| held.born == born) {
            self.held.remove(key);
        }
    }

    pub(crate) fn abandon(&mut self, job: JobId) {
        self.leases.retain(|_, lease| lease.job != job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RepositoryName;

    fn key(scopes: ScopeSet) -> TokenKey {
        let bearer = Bearer { realm: http::Uri::from_static("https://t.example/token"), service: None };
        TokenKey::new(&Origin::new(true, "r.example").unwrap(), &bearer, scopes)
    }

    #[test]
    fn one_fetches_and_the_others_wait() {
        let name: RepositoryName = "n".parse().unwrap();
        let (pull, push) = (key(ScopeSet::pull(&name)), key(ScopeSet::push(&name)));
        let mut tokens = Tokens::default();
        let now = Time::ZERO;
        assert!(matches!(tokens.permission(push.clone(), now), Permission::Fetch(_)));
        tokens.lease(&push, JobId::new(1), now + Duration::from_secs(30));
        assert!(matches!(tokens.permission(push.clone(), now), Permission::Busy(_)));
        let header = HeaderValue::from_static("Bearer x");
        tokens.fetched(&push, Some((header, Duration::from_secs(60))), now);
        assert!(
            matches!(tokens.permission(pull, now), Permission::Held { .. }),
            "push tokens reach far enough to pull"
        );
        assert!(matches!(tokens.permission(push, now + Duration::from_secs(55)), Permission::Fetch(_)));
    }

    #[test]
    fn a_vanished_fetcher_blocks_nobody() {
        let mut tokens = Tokens::default();
        let push = key(ScopeSet::push(&"n".parse().unwrap()));
        tokens.lease(&push, JobId::new(7), Time::ZERO + Duration::from_secs(30));
        tokens.abandon(JobId::new(7));
        assert!(matches!(tokens.permission(push, Time::ZERO), Permission::Fetch(_)));
    }
}
