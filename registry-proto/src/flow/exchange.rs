//! The leaf: one request, authorised, paced, redirected and retried.
//!
//! ```text
//!                        ┌────────────── pause over ◀─────────────┐
//!                        ▼                                        │
//!   new ─▶ Ready ─ place, token ─▶ Sent ─┬─ 401 ──▶ (challenge) ──┤ token refused or wanted
//!            │ ▲                         ├─ 3xx ──▶ (next hop) ───┤
//!    no token│ │token                    ├─ 429, 5xx, cut ─▶ Pause┘ while there are tries
//!            ▼ │                         └─ anything else ─▶ Over: the owner's business
//!          Fetching
//! ```

use std::collections::VecDeque;

use http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER, USER_AGENT, WARNING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::digester::Digester;
use crate::endpoint::token::{self, Bearer};
use crate::endpoint::{Ask, Replay, Reply, ping::challenges};
use crate::error::{Asked, Denied, DeniedBecause, Error};
use crate::event::Event;
use crate::flow::{Context, Flow, Step};
use crate::job::{Completion, Failure, Job, JobId, Outcome, Payload, Timeouts};
use crate::session::{AuthScheme, NotYet, Permission, TokenKey, realm_allowed};
use crate::spec::{ApiError, Challenge, Origin, Registry, ScopeSet, parse_warnings, resolve, retry_after};
use crate::time::Time;

/// How many rounds of authentication one request may take. Each has to change something: a scheme, a token, the scopes.
const AUTH_ROUNDS: u32 = 3;

/// How many bytes of warnings a reply may have, by the specification.
const WARNING_BYTES: usize = 4096;

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum Answer {
    /// With a reply; what it means is the owner's business.
    Reply(Reply),
    /// Without one, in a way that only the owner can judge ([`Replay::OwnerAsksFirst`], [`Replay::OwnerGoesOn`],
    /// [`Replay::Never`]).
    Lost(Lost),
}

/// A request of which nobody knows what became of it.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) asked: Asked,
    pub(crate) why: Failure,
    /// The digester of the body that went out of a file or into one, as far as it came.
    pub(crate) moved: Option<Digester>,
}

#[derive(Debug)]
pub(crate) struct Exchange {
    ask: Ask,
    registry: Registry,
    /// Where credentials belong to: the origin of the request as its owner made it.
    home: Origin,
    url: Uri,
    /// A redirect left home: from here on no credentials, even if it leads back.
    away: bool,
    hops: u32,
    tries: u32,
    rounds: u32,
    started: Option<Time>,
    /// Scopes that the registry asked for beyond ours.
    extra: ScopeSet,
    /// When the request under way was sent.
    asked_at: Time,
    notes: VecDeque<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    Ready,
    Pause(Time),
    Fetching { job: JobId, key: TokenKey, asked: Asked },
    Sent { job: JobId, with: Shown },
    Cancelling(JobId),
    Settled(Box<Result<Answer, Error>>),
    Over,
}

/// What the request showed for authorisation.
#[derive(Debug)]
enum Shown {
    Nothing,
    Basic,
    Token { key: TokenKey, born: Time },
}

impl Exchange {
    pub(crate) fn new(ask: Ask, registry: &Registry) -> Self {
        let home = Origin::of(&ask.url).expect("endpoints build absolute URLs");
        Self {
            url: ask.url.clone(),
            ask,
            registry: registry.clone(),
            home,
            away: false,
            hops: 0,
            tries: 0,
            rounds: 0,
            started: None,
            extra: ScopeSet::default(),
            asked_at: Time::ZERO,
            notes: VecDeque::new(),
            state: State::Ready,
        }
    }

    fn asked(&self) -> Asked {
        Asked::new(&self.ask.method, &self.url)
    }

    /// What became of the request under way, for logs, and what the registry wants people to know.
    fn tell(&mut self, cx: &mut Context<'_>, outcome: &Outcome) {
        let request = match &self.state {
            State::Fetching { asked, .. } => asked.clone(),
            _ => self.asked(),
        };
        let reply = match outcome {
            Outcome::Replied { head, .. } => Ok(head.status),
            Outcome::Failed { why, .. } => Err(why.clone()),
            _ => unreachable!("tickets are typed: an exchange gets a reply"),
        };
        self.notes.push_back(Event::Asked { request, reply, took: cx.now.since(self.asked_at) });
        if let (State::Sent { .. }, Outcome::Replied { head, .. }) = (&self.state, outcome)
            && !self.away
        {
            self.warn(cx, &head.headers);
        }
    }

    /// The registry's own warnings. Storage that it redirects to has nothing to say to its users.
    fn warn(&mut self, cx: &mut Context<'_>, headers: &HeaderMap) {
        let mut room = WARNING_BYTES;
        for field in headers.get_all(WARNING) {
            let Some(left) = room.checked_sub(field.len()) else { return };
            room = left;
            for text in parse_warnings(&String::from_utf8_lossy(field.as_bytes())) {
                self.notes.extend(cx.session.warned.tell(&self.home, text).map(Event::Notice));
            }
        }
    }

    fn scopes(&self) -> ScopeSet {
        self.ask.scopes.union(&self.extra)
    }

    /// Sends the request, or what has to come first.
    fn go(&mut self, cx: &mut Context<'_>) -> Step<Answer> {
        let now = cx.now;
        self.started.get_or_insert(now);
        let target = Origin::of(&self.url).expect("redirects are followed to absolute URLs only");
        let places = cx.session.config().requests_per_registry.get();
        match cx.session.pace.admit(&target, now, places) {
            Ok(()) => {}
            Err(NotYet::Until(time)) => return Step::Wait(Some(time)),
            Err(NotYet::Full) => return Step::Wait(None),
        }
        let (with, header) = match self.authorisation(cx) {
            Ok(Authorisation::Show(with, header)) => (with, header),
            Ok(Authorisation::Fetch(step, state)) => {
                self.asked_at = now;
                self.state = *state;
                return *step;
            }
            Ok(Authorisation::Wait(until)) => return Step::Wait(Some(until)),
            Err(error) => return self.settle(Err(error)),
        };
        let mut request = http::Request::new(self.ask.payload.clone());
        *request.method_mut() = self.ask.method.clone();
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = self.ask.headers.clone();
        if let Some(header) = header {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        let ticket = cx.ticket();
        let job = ticket.id();
        cx.session.pace.occupy(&target, job);
        self.asked_at = now;
        self.state = State::Sent { job, with };
        Step::Run(Job::Exchange(ticket, with_agent(request, cx), self.ask.plan.clone(), timeouts(cx)))
    }

    fn authorisation(&self, cx: &mut Context<'_>) -> Result<Authorisation, Error> {
        let nothing = Authorisation::Show(Shown::Nothing, None);
        if self.away || !self.ask.authenticate && !matches!(self.ask.method, Method::DELETE) {
            return Ok(nothing);
        }
        let credential = cx.session.config().credentials.get(&self.registry.credential_key()).cloned();
        let bearer = match cx.session.tokens.scheme(&self.home) {
            None => return Ok(nothing),
            Some(AuthScheme::Basic) => {
                return Ok(match credential.as_ref().and_then(crate::Credential::basic) {
                    Some(header) => Authorisation::Show(Shown::Basic, Some(header)),
                    None => nothing,
                });
            }
            Some(AuthScheme::Bearer(bearer)) => bearer.clone(),
        };
        let key = TokenKey::new(&self.home, &bearer, self.scopes());
        match cx.session.tokens.permission(key, cx.now) {
            Permission::Held { key, header, born } => Ok(Authorisation::Show(Shown::Token { key, born }, Some(header))),
            Permission::Busy(until) => Ok(Authorisation::Wait(until)),
            // Somebody who only tidies up doesn't start a conversation with the token server.
            Permission::Fetch(_) if !self.ask.authenticate => Ok(nothing),
            Permission::Fetch(key) => {
                let limits = cx.session.config().limits;
                let ask = token::ask(&bearer, &key.scopes, credential.as_ref(), &limits);
                let asked = ask.asked();
                let mut request = http::Request::new(Payload::Empty);
                *request.uri_mut() = ask.url;
                *request.headers_mut() = ask.headers;
                let ticket = cx.ticket();
                let job = ticket.id();
                let timeouts = timeouts(cx);
                cx.session.tokens.lease(&key, job, cx.now + timeouts.connect + timeouts.head);
                let step = Step::Run(Job::Exchange(ticket, with_agent(request, cx), ask.plan, timeouts));
                Ok(Authorisation::Fetch(Box::new(step), Box::new(State::Fetching { job, key, asked })))
            }
        }
    }

    fn settle(&mut self, result: Result<Answer, Error>) -> Step<Answer> {
        self.state = State::Over;
        Step::Done(result)
    }

    /// A token server's answer, or none.
    fn fetched(&mut self, cx: &mut Context<'_>, key: &TokenKey, asked: Asked, outcome: Outcome) -> State {
        let (token, next) = match outcome {
            Outcome::Replied { head, body, .. } => {
                let head = *head;
                let reply = Reply {
                    asked,
                    url: self.url.clone(),
                    status: head.status,
                    headers: head.headers,
                    body: body.into_parts().0,
                    moved: None,
                };
                match self.read_token(cx, &reply, &key.scopes) {
                    Ok(token) => (Some(token), State::Ready),
                    Err(TokenTrouble::Again(why)) => (None, self.pause_or(cx, &reply, why)),
                    Err(TokenTrouble::Final(error)) => (None, State::Settled(Box::new(Err(error)))),
                }
            }
            Outcome::Failed { why, .. } if why.is_transient() && self.tries < cx.session.config().retries => {
                (None, self.pause(cx, &asked, &why.to_string(), None))
            }
            Outcome::Failed { why, .. } => {
                let error = Error::Transport { asked, last: why, tries: self.tries + 1 };
                (None, State::Settled(Box::new(Err(error))))
            }
            _ => unreachable!("tickets are typed: an exchange gets a reply"),
        };
        cx.session.tokens.fetched(key, token, cx.now);
        cx.session.moved();
        next
    }

    fn read_token(
        &self,
        cx: &Context<'_>,
        reply: &Reply,
        scopes: &ScopeSet,
    ) -> Result<(HeaderValue, std::time::Duration), TokenTrouble> {
        let denied = |because| TokenTrouble::Final(denied(reply, scopes, Vec::new(), because));
        let known = cx.session.config().credentials.contains_key(&self.registry.credential_key());
        match reply.status {
            StatusCode::OK => token::read(reply).map_err(|why| denied(DeniedBecause::UnusableToken(why))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => {
                Err(denied(if known { DeniedBecause::WrongCredentials } else { DeniedBecause::NoCredentials }))
            }
            status if is_transient(status) => Err(TokenTrouble::Again(status.to_string())),
            // A redirect would carry the credentials on to wherever it leads.
            status if status.is_redirection() => Err(denied(DeniedBecause::UnusableToken(
                "the token server redirects, which is not followed".to_owned(),
            ))),
            status => Err(denied(DeniedBecause::UnusableToken(format!("the token server answered {status}")))),
        }
    }

    /// A reply to the request itself.
    fn replied(&mut self, cx: &mut Context<'_>, with: Shown, reply: Reply) -> State {
        let status = reply.status;
        if status == StatusCode::UNAUTHORIZED && self.ask.authenticate {
            return match self.challenged(cx, with, &reply) {
                Ok(()) => State::Ready,
                Err(error) => State::Settled(Box::new(Err(*error))),
            };
        }
        if let (301 | 302 | 303 | 307 | 308, Some(location)) = (status.as_u16(), reply.headers.get(LOCATION)) {
            let location = location.to_str().unwrap_or_default().to_owned();
            return match self.redirected(cx, &reply, &location) {
                Ok(()) => State::Ready,
                Err(error) => State::Settled(Box::new(Err(error))),
            };
        }
        if status == StatusCode::FORBIDDEN
            && self.ask.replay != Replay::Never
            && self.ask.method != Method::HEAD
            && !self.keeps_forbidden()
        {
            let error = denied(&reply, &self.scopes(), challenges(&reply), DeniedBecause::NotAllowed);
            return State::Settled(Box::new(Err(error)));
        }
        if is_transient(status) {
            let may_repeat = matches!(self.ask.replay, Replay::Anytime | Replay::OwnerGoesOn);
            let again = may_repeat && self.tries < cx.session.config().retries;
            let why = describe(status, &reply.errors());
            if again {
                return self.pause_or(cx, &reply, why);
            }
            // The owner will ask again in its own way: not before the registry allows it.
            self.respect_retry_after(cx, &reply);
        }
        State::Settled(Box::new(Ok(Answer::Reply(reply))))
    }

    /// 403 to a manifest `PUT` may mean an immutable tag that is already right (Docker Hub), and 403 to a mount that the
    /// source can't be read: their owners look closer.
    fn keeps_forbidden(&self) -> bool {
        self.ask.method == Method::PUT && self.ask.url.path().contains("/manifests/")
            || self.ask.method == Method::POST && self.ask.url.query().is_some_and(|query| query.starts_with("mount="))
    }

    fn failed(&mut self, cx: &mut Context<'_>, why: Failure, moved: Option<Digester>) -> State {
        let asked = self.asked();
        if why.is_local() {
            return State::Settled(Box::new(Err(Error::Local(why))));
        }
        let may_repeat = match self.ask.replay {
            Replay::Anytime => why.is_transient(),
            Replay::OwnerAsksFirst => why.sent_nothing(),
            Replay::OwnerGoesOn | Replay::Never => false,
        };
        if may_repeat && self.tries < cx.session.config().retries {
            // From the start: a redirect's target may have expired.
            self.url = self.ask.url.clone();
            self.away = false;
            self.hops = 0;
            return self.pause(cx, &asked, &why.to_string(), None);
        }
        let is_owners = match self.ask.replay {
            Replay::Anytime => false,
            Replay::OwnerGoesOn => true,
            Replay::OwnerAsksFirst | Replay::Never => !why.sent_nothing(),
        };
        if !is_owners || !why.is_transient() {
            let error = Error::Transport { asked, last: why, tries: self.tries + 1 };
            return State::Settled(Box::new(Err(error)));
        }
        State::Settled(Box::new(Ok(Answer::Lost(Lost { asked, why, moved }))))
    }

    /// A 401: what to try next, or why there is nothing to try.
    fn challenged(&mut self, cx: &mut Context<'_>, with: Shown, reply: &Reply) -> Result<(), Box<Error>> {
        let found = challenges(reply);
        let scopes = self.scopes();
        let deny = |because| Box::new(denied(reply, &scopes, found.clone(), because));
        self.rounds += 1;
        if self.away || self.rounds > AUTH_ROUNDS {
            return Err(deny(DeniedBecause::NotAllowed));
        }
        let known = cx.session.config().credentials.contains_key(&self.registry.credential_key());
        let remembered = cx.session.tokens.scheme(&self.home).cloned();
        let bearer = usable_bearer(&self.home, &found);
        match with {
            Shown::Basic => return Err(deny(DeniedBecause::WrongCredentials)),
            Shown::Token { key, born } => {
                cx.session.tokens.drop_token(&key, born);
                let fresh = self.started.is_some_and(|started| born >= started) && self.rounds > 1;
                if fresh {
                    let asked_for = self.ask.scopes.same_actions(&challenged_scopes(&found));
                    if scopes.contains(&asked_for) {
                        return Err(deny(DeniedBecause::NotAllowed));
                    }
                    self.extra = self.extra.union(&asked_for);
                }
                // Harbor answers a stale token with a challenge for Basic, others with none at all: the token server that
                // was named before is asked again, and no password goes to the registry itself.
                if let Ok(Some(bearer)) = bearer {
                    cx.session.tokens.remember_scheme(&self.home, AuthScheme::Bearer(bearer));
                }
                return Ok(());
            }
            Shown::Nothing => {}
        }
        match bearer {
            Ok(Some(bearer)) => {
                self.extra = self.ask.scopes.same_resources(&challenged_scopes(&found));
                cx.session.tokens.remember_scheme(&self.home, AuthScheme::Bearer(bearer));
                Ok(())
            }
            other => {
                let basic = found.iter().any(|challenge| challenge.scheme() == "basic");
                match other {
                    _ if basic && known => {
                        cx.session.tokens.remember_scheme(&self.home, AuthScheme::Basic);
                        Ok(())
                    }
                    _ if basic => Err(deny(DeniedBecause::NoCredentials)),
                    Err(why) => Err(deny(DeniedBecause::UnusableChallenge(why))),
                    // No challenge, but one is remembered from another request (GAR).
                    Ok(_) if found.is_empty() && remembered.is_some() && self.rounds == 1 => Ok(()),
                    Ok(_) if found.is_empty() => Err(deny(DeniedBecause::NotAllowed)),
                    Ok(_) => {
                        let schemes: Vec<&str> = found.iter().map(Challenge::scheme).collect();
                        let why = format!("it offers {}, of which none is supported", schemes.join(", "));
                        Err(deny(DeniedBecause::UnusableChallenge(why)))
                    }
                }
            }
        }
    }

    fn redirected(&mut self, cx: &Context<'_>, reply: &Reply, location: &str) -> Result<(), Error> {
        self.hops += 1;
        if self.hops > cx.session.config().limits.redirects {
            return Err(reply.broken("it redirects again and again"));
        }
        let url = resolve(&self.url, location)
            .map_err(|why| reply.broken(format!("its redirect can't be followed: {why}")))?;
        let (from, to) = (Origin::of(&self.url), Origin::of(&url));
        let (Some(from), Some(to)) = (from, to) else { return Err(reply.broken("its redirect can't be followed")) };
        if from.is_https() && !to.is_https() {
            return Err(reply.broken(format!("it redirects from https to {to}, which would give up encryption")));
        }
        let keeps_method =
            matches!(reply.status.as_u16(), 307 | 308) || matches!(self.ask.method, Method::GET | Method::HEAD);
        // Following a 301 with another method turns uploads into nonsense; a front end that only adds the `s` means no harm.
        let only_adds_tls = from.host() == to.host() && to.is_https();
        if !keeps_method && !only_adds_tls {
            return Err(reply.broken(format!("it redirects a {} to {to}", self.ask.method)));
        }
        if !matches!(self.ask.method, Method::GET | Method::HEAD) && to != from && !only_adds_tls {
            return Err(reply.broken(format!("it redirects a {} to another origin, {to}", self.ask.method)));
        }
        self.away |= to != self.home;
        self.url = url;
        Ok(())
    }

    fn respect_retry_after(&self, cx: &mut Context<'_>, reply: &Reply) -> Option<Time> {
        let date = reply.header("date");
        let told = retry_after(reply.header(RETRY_AFTER.as_str())?, date)?;
        let until = cx.now + told.min(cx.session.config().retry_after_limit);
        if let Some(origin) = Origin::of(&self.url) {
            cx.session.pace.pause(&origin, until);
        }
        Some(until)
    }

    fn pause_or(&mut self, cx: &mut Context<'_>, reply: &Reply, why: String) -> State {
        if self.tries >= cx.session.config().retries {
            return State::Settled(Box::new(Err(reply.refusal(Some("it was tried again and again")))));
        }
        let until = self.respect_retry_after(cx, reply);
        let asked = reply.asked.clone();
        self.url = self.ask.url.clone();
        self.away = false;
        self.hops = 0;
        self.pause(cx, &asked, &why, until)
    }

    fn pause(&mut self, cx: &mut Context<'_>, asked: &Asked, why: &str, until: Option<Time>) -> State {
        self.tries += 1;
        let until = until.unwrap_or_else(|| cx.now + cx.backoff(self.tries));
        let after = until.since(cx.now);
        self.notes.push_back(Event::Retrying { request: asked.to_string(), why: why.to_owned(), after });
        State::Pause(until)
    }
}

enum Authorisation {
    Show(Shown, Option<HeaderValue>),
    Fetch(Box<Step<Answer>>, Box<State>),
    Wait(Time),
}

enum TokenTrouble {
    Again(String),
    Final(Error),
}

impl Flow for Exchange {
    type Output = Answer;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Answer> {
        if let Some(note) = self.notes.pop_front() {
            return Step::Note(note);
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Ready => {
                self.state = State::Ready;
                self.go(cx)
            }
            State::Pause(until) if until <= cx.now => {
                self.state = State::Ready;
                self.go(cx)
            }
            State::Settled(result) => Step::Done(*result),
            State::Cancelling(job) => {
                cx.session.tokens.abandon(job);
                if cx.session.pace.release(job) {
                    cx.session.moved();
                }
                self.state = State::Settled(Box::new(Err(Error::Cancelled)));
                Step::Abort(job)
            }
            State::Over => panic!("polled after it was done"),
            waiting => {
                let until = if let State::Pause(until) = &waiting { Some(*until) } else { None };
                self.state = waiting;
                Step::Wait(until)
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &self.state {
            State::Fetching { job, .. } | State::Sent { job, .. } if *job == done.id => {}
            _ => return Err(done),
        }
        if cx.session.pace.release(done.id) {
            cx.session.moved();
        }
        self.tell(cx, &done.outcome);
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Fetching { key, asked, .. } => self.fetched(cx, &key, asked, done.outcome),
            State::Sent { with, .. } => match done.outcome {
                Outcome::Replied { head, body, sent } => {
                    let head = *head;
                    let (body, filed) = body.into_parts();
                    let reply = Reply {
                        asked: self.asked(),
                        url: self.url.clone(),
                        status: head.status,
                        headers: head.headers,
                        body,
                        moved: sent.or(filed),
                    };
                    self.replied(cx, with, reply)
                }
                Outcome::Failed { why, moved } => self.failed(cx, why, moved),
                _ => unreachable!("tickets are typed: an exchange gets a reply"),
            },
            other => other,
        };
        Ok(())
    }

    fn cancel(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Fetching { job, .. } | State::Sent { job, .. } => State::Cancelling(job),
            State::Ready | State::Pause(_) => State::Settled(Box::new(Err(Error::Cancelled))),
            other => other,
        };
    }
}

fn with_agent(mut request: http::Request<Payload>, cx: &Context<'_>) -> http::Request<Payload> {
    if let Ok(agent) = HeaderValue::try_from(&cx.session.config().user_agent) {
        request.headers_mut().insert(USER_AGENT, agent);
    }
    request
}

fn timeouts(cx: &Context<'_>) -> Timeouts {
    cx.session.config().timeouts
}

pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504 | 507..=509 | 520..=599)
}

fn describe(status: StatusCode, errors: &[ApiError]) -> String {
    errors.first().map_or_else(|| status.to_string(), |error| format!("{status}: {error}"))
}

/// The first Bearer challenge whose token server may be asked. `Err`: there is one, but it must not be.
fn usable_bearer(home: &Origin, challenges: &[Challenge]) -> Result<Option<Bearer>, String> {
    let mut refused = None;
    for challenge in challenges.iter().filter(|challenge| challenge.scheme() == "bearer") {
        let usable = challenge
            .param("realm")
            .ok_or_else(|| "it names no token server (realm)".to_owned())
            .and_then(|realm| realm_allowed(home, realm));
        match usable {
            Ok(realm) => return Ok(Some(Bearer { realm, service: challenge.param("service").map(str::to_owned) })),
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

fn denied(reply: &Reply, scopes: &ScopeSet, challenges: Vec<Challenge>, because: DeniedBecause) -> Error {
    Error::Denied(Box::new(Denied {
        asked: reply.asked.clone(),
        status: reply.status,
        scopes: scopes.clone(),
        challenges,
        errors: reply.errors(),
        because,
    }))
}
