//! How a request gets in: what it shows, and what follows from a 401.
//!
//! ```text
//!                       ┌─ no challenge yet ─▶ show nothing
//!   what to show ───────┼─ Basic ────────────▶ show the password, if there is one
//!                       └─ Bearer ─┬─ a token for the registry itself is stored ─▶ show it
//!                                  ├─ one that reaches far enough is held ───────▶ show it
//!                                  ├─ another flow fetches it ───────────────────▶ wait
//!                                  └─ fetch it, by GET or POST
//!
//!   the token server    ┌─ a token ──────────────────────────────▶ held, for all flows
//!   answered ───────────┼─ 429, 5xx, nothing ────────────────────▶ again after a pause; the others wait on
//!                       ├─ no POST with a password here ─────────▶ once more, by GET
//!                       └─ anything else ────────────────────────▶ denied, and so are those who waited for it
//!
//!   the registry said   ┌─ nothing ─┬─ Bearer, whose realm may be asked ─▶ again, with a token
//!   401 to              │           ├─ Basic ────────────────────────────▶ again, with the password
//!                       │           └─ anything else ────────────────────▶ denied
//!                       ├─ a token ─┬─ more is wanted for the repository ─▶ again, with a token for both
//!                       │           ├─ it is an old one, or has another ──▶ again, with a new one
//!                       │           │  token server now
//!                       │           ├─ another repository is named ───────▶ again, with a token for that, if it
//!                       │           │                                       allows nothing that wasn't wanted
//!                       │           └─ anything else ─────────────────────▶ denied
//!                       └─ a password, a stored token ────────────────────▶ denied
//! ```
//!
//! Each round of this has to change something, and there are three at most, whatever the peers answer (A28).

use http::{HeaderValue, StatusCode};

use crate::endpoint::ping::challenges;
use crate::endpoint::token::{self, Bearer, Proof, Realm, Token};
use crate::endpoint::{Ask, Reply};
use crate::error::{Denied, DeniedBecause, Error};
use crate::flow::Context;
use crate::flow::exchange::route::Route;
use crate::job::JobId;
use crate::secret::Credential;
use crate::session::{Area, AuthScheme, Permission, TokenKey, TokenRequest, Wish};
use crate::spec::{Challenge, Origin, Registry, RepositoryName, ScopeSet, is_transient, lead};
use crate::time::Time;

/// How many rounds of authentication one request may take.
const ROUNDS: u32 = 3;

/// What one request does to get in.
#[derive(Debug)]
pub(super) struct Authorisation {
    registry: Registry,
    repository: Option<RepositoryName>,
    /// What the request needs, as its owner sees it.
    wanted: ScopeSet,
    /// What tokens are asked for: that, and what the registry wanted beyond it.
    scopes: ScopeSet,
    rounds: u32,
    /// A redirect led to another origin, and that wants to be shown something.
    host: Option<Host>,
    /// Under which job the lease for a token is held while its server is asked again.
    holder: Option<JobId>,
}

/// An origin that is not the registry's, but one of its own: a mirror's upstream, a registry behind a pretty name (C31).
#[derive(Debug)]
struct Host {
    origin: Origin,
    /// What its challenge asked for, as far as it is what we want to do anyway.
    scopes: ScopeSet,
}

/// What the request showed.
#[derive(Debug)]
pub(super) enum Shown {
    Nothing,
    Basic,
    /// A token that was stored for the registry itself.
    Stored,
    Token {
        key: TokenKey,
        born: Time,
    },
}

/// What comes before the request is sent.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing: send it with this header.
    Show(Shown, Option<HeaderValue>),
    /// A token has to be fetched.
    Fetch(Box<Fetch>),
    /// Another flow fetches it; look again then, or when the session's generation moves.
    Wait(Time),
}

/// A question to a token server.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) key: TokenKey,
    pub(super) ask: Ask,
    kind: Kind,
}

/// What a token server is shown, for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Anonymous,
    Password,
    PostedPassword,
    IdentityToken,
}

/// What came of the question.
#[derive(Debug)]
pub(super) enum Fetched {
    Token(Token),
    /// Ask again, after a pause.
    Later(String),
    /// Ask again, in another form.
    Otherwise,
    Denied(Error),
}

impl Authorisation {
    pub(super) fn new(wanted: &ScopeSet, registry: &Registry) -> Self {
        Self {
            registry: registry.clone(),
            repository: wanted.repository(),
            wanted: wanted.clone(),
            scopes: wanted.clone(),
            rounds: 0,
            host: None,
            holder: None,
        }
    }

    pub(super) fn scopes(&self) -> &ScopeSet {
        self.host.as_ref().map_or(&self.scopes, |host| &host.scopes)
    }

    /// The request sets out anew.
    pub(super) fn restart(&mut self) {
        self.host = None;
    }

    /// The lease for a token is held under this job until it is [let go](Self::let_go).
    pub(super) const fn hold(&mut self, job: JobId) {
        self.holder = Some(job);
    }

    pub(super) const fn let_go(&mut self) -> Option<JobId> {
        self.holder.take()
    }

    /// The credential for the origin that the request goes to, with its key.
    fn credential(&self, cx: &Context<'_>) -> Option<(String, Credential)> {
        let credentials = &cx.session.config().credentials;
        let found = match &self.host {
            None => credentials.find(&self.registry, self.repository.as_ref()),
            // What is stored for that very host, whoever sent us there; and never in the clear, which nobody has asked for.
            Some(Host { origin, .. }) if origin.is_https() => credentials.find(&origin.authority().parse().ok()?, None),
            Some(_) => None,
        };
        found.map(|(key, credential)| (key.to_owned(), credential.clone()))
    }

    fn is_guest_of(&self, target: &Origin) -> bool {
        self.host.as_ref().is_some_and(|host| host.origin == *target)
    }

    /// What to show at the end of this route.
    ///
    /// `since`: when the request began. `lasting`: a token must not be about to expire.
    pub(super) fn next(&self, cx: &mut Context<'_>, route: &Route, since: Time, lasting: bool) -> Result<Next, Error> {
        let nothing = Ok(Next::Show(Shown::Nothing, None));
        let target = route.target();
        // Away from home nothing is shown, unless the very origin that the request goes to has asked for it. Signed URLs of
        // storage are refused when they come with credentials, and ours are nobody else's business.
        if route.is_away() && !self.is_guest_of(target) {
            return nothing;
        }
        let credential = self.credential(cx);
        let bearer = match cx.session.tokens.scheme(target, Area::of(&self.wanted)) {
            None => return nothing,
            Some(AuthScheme::Basic) => {
                let header = credential.and_then(|(_, credential)| credential.basic());
                return Ok(header.map_or(Next::Show(Shown::Nothing, None), |h| Next::Show(Shown::Basic, Some(h))));
            }
            Some(AuthScheme::Bearer(bearer)) => bearer.clone(),
        };
        if let Some(header) = credential.as_ref().and_then(|(_, credential)| credential.bearer()) {
            return Ok(Next::Show(Shown::Stored, Some(header)));
        }
        let Some(bearer) = bearer else { return nothing };
        let account = credential.as_ref().map(|(key, _)| key.as_str());
        let key = TokenKey::new(target, &bearer, account, self.scopes().clone());
        let wish = Wish { now: cx.now, since, holder: self.holder, lasting };
        match cx.session.tokens.permission(key, wish) {
            Permission::Held { key, header, born } => Ok(Next::Show(Shown::Token { key, born }, Some(header))),
            Permission::Busy(until) => Ok(Next::Wait(until)),
            Permission::Refused(why) => Err(why),
            Permission::Fetch(key) => {
                let (proof, kind) = proof(cx, &bearer.realm, credential);
                let ask = token::ask(&bearer, &key.scopes, &proof, &cx.session.config().limits);
                Ok(Next::Fetch(Box::new(Fetch { key, ask, kind })))
            }
        }
    }

    /// What follows from a token server's reply.
    pub(super) fn after_fetch(&self, cx: &mut Context<'_>, fetch: &Fetch, reply: &Reply) -> Fetched {
        let deny = |because| Fetched::Denied(denied(reply, &fetch.key.scopes, Vec::new(), because));
        let unusable = |why: String| deny(DeniedBecause::UnusableToken(why));
        let limits = cx.session.config().limits;
        match (reply.status, fetch.kind) {
            (StatusCode::OK, _) => token::read(reply, &limits).map_or_else(unusable, Fetched::Token),
            // GCR, Artifactory, ACR and others don't take passwords this way, and each says so differently (PROTOCOL §2.4).
            (
                StatusCode::NOT_FOUND
                | StatusCode::UNAUTHORIZED
                | StatusCode::BAD_REQUEST
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::NOT_IMPLEMENTED,
                Kind::PostedPassword,
            ) => {
                cx.session.tokens.takes_no_post(&fetch.key.bearer.realm);
                Fetched::Otherwise
            }
            (status, _) if is_transient(status) => Fetched::Later(status.to_string()),
            // A redirect would carry the credentials on to wherever it leads (A4).
            (status, _) if status.is_redirection() => {
                unusable("the token server redirects, which is not followed".to_owned())
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Kind::Anonymous) => deny(DeniedBecause::NoCredentials),
            (StatusCode::UNAUTHORIZED, Kind::Password | Kind::PostedPassword) => deny(DeniedBecause::WrongCredentials),
            // OAuth2 says `invalid_grant` with 400.
            (StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN, Kind::IdentityToken) => {
                deny(DeniedBecause::TokenExpired)
            }
            (StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND, kind)
                if kind != Kind::IdentityToken =>
            {
                deny(DeniedBecause::TokenRefused)
            }
            (status, Kind::IdentityToken) => {
                unusable(format!("the token server answered {status}; it seems to take no identity tokens"))
            }
            (status, _) => unusable(format!("the token server answered {status}")),
        }
    }

    /// A 401 to the request itself: what to try next, or why there is nothing to try.
    pub(super) fn after_challenge(
        &mut self,
        cx: &mut Context<'_>,
        route: &Route,
        since: Time,
        shown: Shown,
        reply: &Reply,
    ) -> Result<(), Box<Error>> {
        let found = challenges(reply);
        let refused = self.decide(cx, route, since, shown, &found);
        refused.map_err(|because| Box::new(denied(reply, self.scopes(), found, because)))
    }

    /// A 400 or 403 that means 401: a token that was in use before has expired. ECR Public says it like that, and only in
    /// words (oras-go#1227); some proxies say 403 with `invalid_token`. What a new token does not change is what it is.
    pub(super) fn after_stale_token(
        &mut self,
        cx: &mut Context<'_>,
        since: Time,
        shown: &Shown,
        reply: &Reply,
        is_head: bool,
    ) -> bool {
        let Shown::Token { key, born } = shown else { return false };
        let says_so = match reply.status {
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => speaks_of_a_stale_token(reply),
            _ => false,
        };
        // HEAD has no words.
        let may_mean_it = says_so || is_head && reply.status == StatusCode::BAD_REQUEST;
        if !may_mean_it || *born >= since || self.rounds >= ROUNDS {
            return false;
        }
        self.rounds += 1;
        cx.session.tokens.drop_token(key, *born);
        true
    }

    fn decide(
        &mut self,
        cx: &mut Context<'_>,
        route: &Route,
        since: Time,
        shown: Shown,
        found: &[Challenge],
    ) -> Result<(), DeniedBecause> {
        self.rounds += 1;
        if self.rounds > ROUNDS {
            return Err(DeniedBecause::NotAllowed);
        }
        let target = route.target();
        if route.is_away() {
            // Led back home by another, a request shows nothing: that other one chose what it asks for.
            if target == route.home() {
                return Err(DeniedBecause::NotAllowed);
            }
            if !self.is_guest_of(target) {
                // What the repository is called here, only this challenge can say.
                let scopes = self.wanted.same_actions(&challenged_scopes(found));
                self.host = Some(Host { origin: target.clone(), scopes });
            }
        }
        let offer = usable_bearer(target, found);
        match shown {
            Shown::Nothing => self.first_challenge(cx, target, offer, found),
            Shown::Basic => Err(DeniedBecause::WrongCredentials),
            Shown::Stored => Err(DeniedBecause::TokenExpired),
            Shown::Token { key, born } => {
                cx.session.tokens.drop_token(&key, born);
                // Harbor answers a stale token with a challenge for Basic, others with none at all: the token server that was
                // named before is asked again, and no password goes to the registry itself (C11, C27).
                let moved = match offer {
                    Ok(Some(bearer)) if bearer != key.bearer => {
                        self.remember(cx, target, AuthScheme::Bearer(Some(bearer)));
                        true
                    }
                    _ => false,
                };
                let challenged = challenged_scopes(found);
                if self.host.is_none() && self.widen(&self.wanted.same_resources(&challenged)) || moved || born < since
                {
                    return Ok(());
                }
                if self.widen(&self.wanted.same_actions(&challenged)) {
                    return Ok(());
                }
                let invalid = found.iter().any(|challenge| challenge.param("error") == Some("invalid_token"));
                Err(match (invalid, key.is_anonymous()) {
                    (true, _) => DeniedBecause::TokenNotAccepted,
                    (_, true) => DeniedBecause::NoCredentials,
                    _ => DeniedBecause::NotAllowed,
                })
            }
        }
    }

    /// Asks for these scopes, too, and for them first: some token servers read no further. Whether that is any more than before.
    fn widen(&mut self, scopes: &ScopeSet) -> bool {
        let now = self.host.as_mut().map_or(&mut self.scopes, |host| &mut host.scopes);
        if now.contains(scopes) {
            return false;
        }
        *now = scopes.union(now);
        true
    }

    /// The request has shown nothing so far.
    fn first_challenge(
        &mut self,
        cx: &mut Context<'_>,
        target: &Origin,
        offer: Result<Option<Bearer>, String>,
        found: &[Challenge],
    ) -> Result<(), DeniedBecause> {
        let credential = self.credential(cx).map(|(_, credential)| credential);
        let offers = |scheme: &str| found.iter().any(|challenge| challenge.scheme() == scheme);
        if let Some(Credential::RegistryToken(_)) = credential
            && offers("bearer")
        {
            self.remember(cx, target, AuthScheme::Bearer(offer.ok().flatten()));
            return Ok(());
        }
        let refused = match offer {
            Ok(Some(bearer)) => {
                if self.host.is_none() {
                    self.widen(&self.wanted.same_resources(&challenged_scopes(found)));
                }
                self.remember(cx, target, AuthScheme::Bearer(Some(bearer)));
                return Ok(());
            }
            Err(why) => Some(why),
            Ok(None) => None,
        };
        match credential {
            Some(Credential::Password { .. }) if offers("basic") => {
                self.remember(cx, target, AuthScheme::Basic);
                return Ok(());
            }
            Some(_) if offers("basic") => {
                let why = "it wants a user and a password, but what is stored for it is a token".to_owned();
                return Err(DeniedBecause::UnusableChallenge(why));
            }
            None if offers("basic") => return Err(DeniedBecause::NoCredentials),
            _ => {}
        }
        if let Some(why) = refused {
            return Err(DeniedBecause::UnusableChallenge(why));
        }
        if found.is_empty() {
            // None here, but another request has got one in the meantime (GAR).
            let remembered = cx.session.tokens.scheme(target, Area::of(&self.wanted)).is_some();
            return if remembered && self.rounds == 1 { Ok(()) } else { Err(DeniedBecause::NotAllowed) };
        }
        let schemes: Vec<&str> = found.iter().map(Challenge::scheme).collect();
        let why = format!("it offers {}, of which none is supported", schemes.join(", "));
        Err(DeniedBecause::UnusableChallenge(why))
    }

    fn remember(&self, cx: &mut Context<'_>, target: &Origin, scheme: AuthScheme) {
        cx.session.tokens.remember_scheme(target, Area::of(&self.wanted), scheme);
    }
}

/// What to show a token server for this credential.
fn proof(cx: &Context<'_>, realm: &Realm, credential: Option<(String, Credential)>) -> (Proof, Kind) {
    match credential {
        Some((_, Credential::Password { username, password }))
            if cx.session.config().token_request == TokenRequest::PostThenGet
                && cx.session.tokens.takes_post(realm) =>
        {
            (Proof::PasswordGrant(username, password), Kind::PostedPassword)
        }
        Some((key, Credential::IdentityToken(token))) => {
            let newest = cx.session.tokens.renewed(realm, &key).cloned();
            (Proof::IdentityToken(newest.unwrap_or(token)), Kind::IdentityToken)
        }
        Some((_, credential)) => match credential.basic() {
            Some(header) => (Proof::Password(header), Kind::Password),
            None => (Proof::Nothing, Kind::Anonymous),
        },
        None => (Proof::Nothing, Kind::Anonymous),
    }
}

fn speaks_of_a_stale_token(reply: &Reply) -> bool {
    let challenged = challenges(reply).iter().any(|challenge| challenge.param("error") == Some("invalid_token"));
    let said = |message: &str| {
        let message = message.to_ascii_lowercase();
        message.contains("token") && ["invalid", "expired"].iter().any(|word| message.contains(word))
    };
    challenged || reply.errors().iter().any(|error| said(error.message()))
}

/// The first Bearer challenge whose token server may be asked. `Err`: there is one, but it must not be.
fn usable_bearer(target: &Origin, challenges: &[Challenge]) -> Result<Option<Bearer>, String> {
    let mut refused = None;
    for challenge in challenges.iter().filter(|challenge| challenge.scheme() == "bearer") {
        let usable =
            challenge.param("realm").ok_or_else(|| "it names no token server (realm)".to_owned()).and_then(|realm| {
                lead::token_server(target, realm).map_err(|why| format!("its token server (realm) is not asked: {why}"))
            });
        match usable {
            Ok(realm) => {
                let service = challenge.param("service").filter(|service| !service.is_empty()).map(str::to_owned);
                return Ok(Some(Bearer { realm: Realm(realm), service }));
            }
            Err(why) => refused = Some(why),
        }
    }
    refused.map_or(Ok(None), Err)
}

/// The scopes that a challenge asks for. What of them we ask for in turn is [`ScopeSet`]'s to say (PROTOCOL §2.5, A29).
fn challenged_scopes(challenges: &[Challenge]) -> ScopeSet {
    let bearer = challenges.iter().filter(|challenge| challenge.scheme() == "bearer");
    bearer
        .filter_map(|challenge| challenge.param("scope"))
        .fold(ScopeSet::default(), |all, scope| all.union(&ScopeSet::parse(scope)))
}

pub(super) fn denied(reply: &Reply, scopes: &ScopeSet, challenges: Vec<Challenge>, because: DeniedBecause) -> Error {
    Error::Denied(Box::new(Denied {
        asked: reply.asked.clone(),
        status: reply.status,
        scopes: scopes.clone(),
        challenges,
        // What came with a success is no refusal: it may be a token, which nobody is to see (A42).
        errors: if reply.status.is_success() { Vec::new() } else { reply.errors() },
        because,
    }))
}
