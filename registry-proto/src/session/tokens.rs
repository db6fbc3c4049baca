//! Tokens, shared by all flows of a session and fetched once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::HeaderValue;

use crate::endpoint::token::{Bearer, Realm, Token};
use crate::error::Error;
use crate::job::JobId;
use crate::secret::Secret;
use crate::spec::{Origin, ScopeSet};
use crate::time::Time;

/// How many tokens are kept; the one that expires first goes first.
const MOST_HELD: usize = 10_000;

/// How many registries' schemes, refusals and the like are kept: a peer can name any number of hosts and token servers.
const MOST_REMEMBERED: usize = 1000;

/// How long a refusal is kept for those who asked for the same at the same time.
const REFUSAL_KEPT: Duration = Duration::from_secs(600);

/// How registries want to be authenticated, and the tokens held for them.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    schemes: BTreeMap<(Origin, Area), Scheme>,
    held: BTreeMap<TokenKey, Held>,
    leases: BTreeMap<TokenKey, Lease>,
    refused: BTreeMap<TokenKey, (Time, Error)>,
    /// Identity tokens that token servers gave in place of the one that was shown to them.
    renewed: BTreeMap<(Realm, String), Secret>,
    /// Token servers that take no password by `POST`.
    no_post: BTreeSet<Realm>,
}

/// Parts of a registry that may want to be authenticated differently: Harbor's catalog wants a password, the rest tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Area {
    Catalog,
    Repositories,
}

impl Area {
    pub(crate) fn of(scopes: &ScopeSet) -> Self {
        if scopes.is_catalog() { Self::Catalog } else { Self::Repositories }
    }
}

/// The scheme of a registry's last usable challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Basic,
    /// Tokens of this server; of none for who has a token that the registry takes as it is.
    Bearer(Option<Bearer>),
}

/// What a token is for. Bound to the registry's origin: two registries that name the same token server don't share tokens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenKey {
    pub(crate) origin: Origin,
    pub(crate) bearer: Bearer,
    /// Under which key the credential is known that it is had for; none for an anonymous one.
    account: Option<String>,
    pub(crate) scopes: ScopeSet,
}

impl TokenKey {
    pub(crate) fn new(origin: &Origin, bearer: &Bearer, account: Option<&str>, scopes: ScopeSet) -> Self {
        Self { origin: origin.clone(), bearer: bearer.clone(), account: account.map(str::to_owned), scopes }
    }

    /// Whether it is for nobody in particular.
    pub(crate) const fn is_anonymous(&self) -> bool {
        self.account.is_none()
    }

    /// Whether who has this needs no other.
    fn covers(&self, other: &Self) -> bool {
        self.origin == other.origin
            && self.bearer == other.bearer
            && self.account == other.account
            && self.scopes.contains(&other.scopes)
    }
}

#[derive(Debug)]
struct Held {
    header: HeaderValue,
    born: Time,
    until: Time,
    lifetime: Duration,
}

/// One flow is fetching this token; the others wait for it. A lease ends by itself, so that a driver that vanished
/// can't hold the others up for ever.
#[derive(Debug)]
struct Lease {
    holder: JobId,
    until: Time,
}

/// Who wants a token, and what for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) now: Time,
    /// Since when the request has been under way.
    pub(crate) since: Time,
    /// The job under which it holds the lease, if it does.
    pub(crate) holder: Option<JobId>,
    /// Whether the token must not be about to expire, since a refusal would cost a body that is sent for nothing, or come
    /// between an upload and its commit.
    pub(crate) lasting: bool,
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
    /// Another flow was refused the same while this one waited.
    Refused(Error),
}

impl Tokens {
    pub(crate) fn scheme(&self, origin: &Origin, area: Area) -> Option<&Scheme> {
        self.schemes.get(&(origin.clone(), area))
    }

    /// Whether a registry has ever wanted to be shown anything.
    pub(crate) fn knows(&self, origin: &Origin) -> bool {
        self.schemes.keys().any(|(known, _)| known == origin)
    }

    pub(crate) fn remember_scheme(&mut self, origin: &Origin, area: Area, scheme: Scheme) {
        if self.schemes.len() >= MOST_REMEMBERED {
            // Asking without credentials once more is all that this costs.
            self.schemes.clear();
        }
        self.schemes.insert((origin.clone(), area), scheme);
    }

    /// A token that reaches at least as far as `key`, or the right to fetch it.
    pub(crate) fn permission(&mut self, key: TokenKey, wish: Wish) -> Permission {
        let now = wish.now;
        self.held.retain(|_, held| held.until > now);
        let lasts = |held: &Held| !wish.lasting || held.until > now + (held.lifetime / 4).min(Duration::from_secs(60));
        let wide_enough = self.held.iter().find(|(known, held)| known.covers(&key) && lasts(held));
        if let Some((found, held)) = wide_enough {
            return Permission::Held { key: found.clone(), header: held.header.clone(), born: held.born };
        }
        if let Some((_, error)) = self.refused.get(&key).filter(|(at, _)| *at >= wish.since) {
            return Permission::Refused(error.clone());
        }
        let under_way = |(known, lease): &(&TokenKey, &Lease)| {
            known.covers(&key) && lease.until > now && Some(lease.holder) != wish.holder
        };
        match self.leases.iter().find(under_way) {
            Some((_, lease)) => Permission::Busy(lease.until),
            None => Permission::Fetch(key),
        }
    }

    /// The holder fetches the token, or will, until then.
    pub(crate) fn lease(&mut self, key: &TokenKey, holder: JobId, until: Time) {
        self.leases.insert(key.clone(), Lease { holder, until });
    }

    /// The token is there.
    pub(crate) fn fetched(&mut self, key: &TokenKey, token: Token, now: Time) {
        let Token { header, lifetime, refresh } = token;
        self.leases.remove(key);
        // Renewed a little early, so that a token doesn't expire on its way.
        let margin = (lifetime / 10).min(Duration::from_secs(10));
        self.held.insert(key.clone(), Held { header, born: now, until: now + (lifetime - margin), lifetime });
        if self.held.len() > MOST_HELD
            && let Some(first) = self.held.iter().min_by_key(|(_, held)| held.until).map(|(key, _)| key.clone())
        {
            self.held.remove(&first);
        }
        if let (Some(refresh), Some(account)) = (refresh, &key.account) {
            if self.renewed.len() >= MOST_REMEMBERED {
                self.renewed.pop_first();
            }
            self.renewed.insert((key.bearer.realm.clone(), account.clone()), refresh);
        }
    }

    /// There is no such token to be had.
    pub(crate) fn refused(&mut self, key: &TokenKey, why: &Error, now: Time) {
        self.leases.remove(key);
        self.refused.retain(|_, (at, _)| *at + REFUSAL_KEPT > now);
        if self.refused.len() >= MOST_REMEMBERED {
            self.refused.clear();
        }
        self.refused.insert(key.clone(), (now, why.clone()));
    }

    /// The identity token to show instead of the one that was configured.
    pub(crate) fn renewed(&self, realm: &Realm, account: &str) -> Option<&Secret> {
        self.renewed.get(&(realm.clone(), account.to_owned()))
    }

    pub(crate) fn takes_no_post(&mut self, realm: &Realm) {
        if self.no_post.len() >= MOST_REMEMBERED {
            self.no_post.clear();
        }
        self.no_post.insert(realm.clone());
    }

    pub(crate) fn takes_post(&self, realm: &Realm) -> bool {
        !self.no_post.contains(realm)
    }

    /// The registry refused this token: nobody shall use it any more.
    pub(crate) fn drop_token(&mut self, key: &TokenKey, born: Time) {
        if self.held.get(key).is_some_and(|held| held.born == born) {
            self.held.remove(key);
        }
    }

    /// The holder is gone; whoever waits for its token may fetch it.
    pub(crate) fn abandon(&mut self, holder: JobId) {
        self.leases.retain(|_, lease| lease.holder != holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RepositoryName;

    fn key(scopes: ScopeSet) -> TokenKey {
        let realm = Realm(http::Uri::from_static("https://t.example/token"));
        TokenKey::new(&Origin::new(true, "r.example").unwrap(), &Bearer { realm, service: None }, None, scopes)
    }

    fn at(seconds: u64) -> Wish {
        let now = Time::ZERO + Duration::from_secs(seconds);
        Wish { now, since: now, holder: None, lasting: false }
    }

    fn token(seconds: u64) -> Token {
        let header = HeaderValue::from_static("Bearer x");
        Token { header, lifetime: Duration::from_secs(seconds), refresh: None }
    }

    fn pull_and_push() -> (TokenKey, TokenKey) {
        let name: RepositoryName = "n".parse().unwrap();
        (key(ScopeSet::pull(&name)), key(ScopeSet::push(&name)))
    }

    #[test]
    fn one_fetches_and_the_others_wait() {
        let (pull, push) = pull_and_push();
        let mut tokens = Tokens::default();
        assert!(matches!(tokens.permission(push.clone(), at(0)), Permission::Fetch(_)));
        tokens.lease(&push, JobId::new(1), at(30).now);
        assert!(matches!(tokens.permission(push.clone(), at(0)), Permission::Busy(_)));
        assert!(
            matches!(tokens.permission(pull.clone(), at(0)), Permission::Busy(_)),
            "what is being fetched will do for this, too"
        );
        assert!(matches!(tokens.permission(push.clone(), at(31)), Permission::Fetch(_)), "nobody waits for ever");
        let holder = Wish { holder: Some(JobId::new(1)), ..at(0) };
        assert!(matches!(tokens.permission(push.clone(), holder), Permission::Fetch(_)), "but its holder");
        tokens.fetched(&push, token(60), Time::ZERO);
        assert!(
            matches!(tokens.permission(pull, at(0)), Permission::Held { .. }),
            "push tokens reach far enough to pull"
        );
        assert!(matches!(tokens.permission(push, at(55)), Permission::Fetch(_)));
    }

    #[test]
    fn a_vanished_fetcher_blocks_nobody() {
        let (_, push) = pull_and_push();
        let mut tokens = Tokens::default();
        tokens.lease(&push, JobId::new(7), at(30).now);
        tokens.abandon(JobId::new(7));
        assert!(matches!(tokens.permission(push, at(0)), Permission::Fetch(_)));
    }

    #[test]
    fn a_refusal_is_for_those_who_waited_for_it() {
        let (pull, push) = pull_and_push();
        let mut tokens = Tokens::default();
        tokens.lease(&push, JobId::new(1), at(30).now);
        tokens.refused(&push, &Error::Cancelled, at(5).now);
        let waited = Wish { since: at(5).now, ..at(6) };
        assert!(matches!(tokens.permission(push.clone(), waited), Permission::Refused(_)));
        assert!(matches!(tokens.permission(push, at(6)), Permission::Fetch(_)), "later ones ask themselves");
        assert!(matches!(tokens.permission(pull, waited), Permission::Fetch(_)), "less may be granted");
    }

    #[test]
    fn before_a_commit_a_token_is_renewed_early() {
        let (_, push) = pull_and_push();
        let mut tokens = Tokens::default();
        tokens.fetched(&push, token(300), Time::ZERO);
        let commit = |seconds| Wish { lasting: true, ..at(seconds) };
        assert!(matches!(tokens.permission(push.clone(), commit(200)), Permission::Held { .. }));
        assert!(matches!(tokens.permission(push.clone(), commit(240)), Permission::Fetch(_)));
        assert!(matches!(tokens.permission(push, at(240)), Permission::Held { .. }), "a question can still use it");
    }

    #[test]
    fn a12_what_is_remembered_has_an_end() {
        let mut tokens = Tokens::default();
        for n in 0..5000 {
            let realm = Realm(format!("https://t{n}.example/token").parse().unwrap());
            let bearer = Bearer { realm: realm.clone(), service: None };
            let origin = Origin::new(true, &format!("h{n}.example")).unwrap();
            let key = TokenKey::new(&origin, &bearer, Some("me"), ScopeSet::default());
            tokens.remember_scheme(&origin, Area::Repositories, Scheme::Basic);
            tokens.takes_no_post(&realm);
            tokens.refused(&key, &Error::Cancelled, Time::ZERO);
            tokens.fetched(&key, Token { refresh: Some(Secret::new("r")), ..token(60) }, Time::ZERO);
        }
        let kept = [tokens.schemes.len(), tokens.no_post.len(), tokens.refused.len(), tokens.renewed.len()];
        assert!(kept.iter().all(|kept| (1..=MOST_REMEMBERED).contains(kept)), "{kept:?}");
        assert!(tokens.held.len() <= MOST_HELD);
    }

    #[test]
    fn accounts_and_areas_are_kept_apart() {
        let (_, push) = pull_and_push();
        let mut tokens = Tokens::default();
        tokens.fetched(&push, token(300), Time::ZERO);
        let other = TokenKey { account: Some("r.example/n".to_owned()), ..push.clone() };
        assert!(matches!(tokens.permission(other, at(0)), Permission::Fetch(_)));
        tokens.remember_scheme(&push.origin, Area::Catalog, Scheme::Basic);
        assert_eq!(tokens.scheme(&push.origin, Area::Repositories), None);
    }
}
