//! The leaf: one request, authorised, paced, redirected and retried.
//!
//! ```text
//!                        ┌────────────── pause over ◀─────────────┐
//!                        ▼                                        │
//!   new ─▶ Ready ─ place, token ─▶ Sent ─┬─ 401 ──▶ (challenge) ──┤ token refused or wanted
//!            │ ▲                         ├─ 3xx ──▶ (next hop) ───┤
//!    no token│ │token                    ├─ 429, 5xx, cut ─▶ Pause┘ while there are tries
//!            │ │                         ├─ not over in time ─▶ (abort) Over
//!            ▼ │                         ├─ a kept connection was closed, once ─▶ Ready
//!            │ │                         └─ anything else ─▶ Over: the owner's business
//!          Fetching ─ 429, 5xx, cut ─▶ Pause
//! ```
//!
//! What it shows and what a challenge leads to is decided in [`authorise`], where a redirect may lead in [`route`], and whether a
//! mirror is asked first in [`mirror`]: there, what is the end with the registry is the next one's turn. The other arrows are in
//! [`transitions`].

mod authorise;
mod mirror;
mod route;
mod transitions;

use std::collections::VecDeque;
use std::time::Duration;

use http::header::{AUTHORIZATION, USER_AGENT, WARNING};
use http::{HeaderMap, HeaderValue, Method};

use authorise::{Authorisation, Fetch, Next, Shown};
use mirror::Turns;
pub(crate) use mirror::reject;
use route::Route;

use crate::digester::Digester;
use crate::endpoint::{Ask, Replay, Reply};
use crate::error::{Asked, Error};
use crate::event::Event;
use crate::flow::{Context, Flow, Step};
use crate::job::{Completion, Failure, FailureKind, Job, JobId, Outcome, Payload, Plan, Timeouts};
use crate::session::{Load, NotYet, Strain};
use crate::spec::{Origin, Registry, parse_warnings};
use crate::time::Time;

/// How often one request sets out again because the place that a redirect led to refused it.
const DETOURS: u32 = 2;

/// Who looks at the clock by this much too late was stopped himself: the machine slept, or the program did.
pub(crate) const OVERSLEPT: Duration = Duration::from_secs(30);

/// How long anybody waits for a connection, and then for an answer, only to tidy up: who has stopped an operation looks on meanwhile,
/// and registries forget sessions by themselves.
const TIDYING: Duration = Duration::from_secs(5);

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
    /// It was not asked at all: nobody sits out a registry's pause only to tidy up there ([`Replay::Never`]).
    NotAsked,
}

impl Answer {
    /// The reply, for an owner who judges nothing. The leaf yields a loss only where the owner does; for others it settles the matter
    /// itself.
    pub(crate) fn into_reply(self) -> Result<Reply, Error> {
        match self {
            Self::Reply(reply) => Ok(reply),
            Self::Lost(lost) => Err(Error::Transport { asked: lost.asked, last: lost.why, tries: 1 }),
            Self::NotAsked => Err(Error::Cancelled),
        }
    }
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
    route: Box<Route>,
    // In a box, so that flows with several exchanges among their states stay small.
    authorisation: Box<Authorisation>,
    turns: Box<Turns>,
    tries: u32,
    /// How often the place that a redirect led to refused.
    detours: u32,
    /// It has met with a kept connection that was closed.
    was_stale: bool,
    /// Another request waits for it.
    awaited: bool,
    started: Option<Time>,
    /// When the request under way was sent.
    asked_at: Time,
    notes: VecDeque<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    Ready,
    Pause(Time),
    Fetching { job: JobId, fetch: Box<Fetch>, until: Time },
    Sent { job: JobId, with: Shown, until: Option<Time> },
    Cancelling { running: Option<JobId> },
    Settled(Box<Result<Answer, Error>>),
    Over,
}

impl Exchange {
    pub(crate) fn new(ask: Ask, registry: &Registry) -> Self {
        Self {
            route: Box::new(Route::new(&ask.url)),
            authorisation: Box::new(Authorisation::new(&ask.scopes, registry)),
            turns: Box::new(Turns::new(registry, ask.mirrored)),
            ask,
            tries: 0,
            detours: 0,
            was_stale: false,
            awaited: false,
            started: None,
            asked_at: Time::ZERO,
            notes: VecDeque::new(),
            state: State::Ready,
        }
    }

    fn asked(&self) -> Asked {
        Asked::new(&self.ask.method, self.route.url())
    }

    /// The job that is sending the request, if one is.
    pub(crate) const fn sending(&self) -> Option<JobId> {
        match self.state {
            State::Sent { job, .. } => Some(job),
            _ => None,
        }
    }

    /// Another request, which has its place already, waits for this one: it gets one in any case, or each could wait for the other.
    pub(crate) const fn awaited(&mut self) {
        self.awaited = true;
    }

    const fn load(&self, load: Load) -> Load {
        if self.awaited { Load::Awaited } else { load }
    }

    /// What became of the request under way, for logs, and what the registry wants people to know.
    fn tell(&mut self, cx: &mut Context<'_>, outcome: &Outcome) {
        let request = match &self.state {
            State::Fetching { fetch, .. } => fetch.ask.asked(),
            _ => self.asked(),
        };
        let reply = match outcome {
            Outcome::Replied { head, .. } => Ok(head.status),
            Outcome::Failed { why, .. } => Err(why.clone()),
            _ => unreachable!("tickets are typed: an exchange gets a reply"),
        };
        self.notes.push_back(Event::Asked { request, reply, took: cx.now.since(self.asked_at) });
        if let (State::Sent { .. }, Outcome::Replied { head, .. }) = (&self.state, outcome)
            && !self.route.is_away()
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
                self.notes.extend(cx.session.warned.tell(self.route.home(), text).map(Event::Notice));
            }
        }
    }

    fn since(&self) -> Time {
        self.started.unwrap_or_default()
    }

    /// Sends the request, or what has to come first.
    fn go(&mut self, cx: &mut Context<'_>) -> Step<Answer> {
        if cx.ending && self.ask.replay != Replay::Never {
            self.cancel();
            return self.poll(cx);
        }
        if self.turns.is_over(cx) {
            self.next_turn(cx);
        }
        self.started.get_or_insert(cx.now);
        let target = self.route.target().clone();
        let load = self.load(if self.ask.is_bulk { Load::Bulk } else { Load::Small });
        if let Err(until) = admitted(cx, &target, load) {
            if self.ask.replay == Replay::Never && cx.session.pace.is_paused(&target, cx.now) {
                self.state = State::Over;
                return Step::Done(Ok(Answer::NotAsked));
            }
            return wait(cx, &target, until);
        }
        match self.authorisation(cx) {
            Ok(Next::Show(with, header)) => {
                let mut request = http::Request::new(self.ask.payload.clone());
                *request.method_mut() = self.ask.method.clone();
                *request.uri_mut() = self.route.url().clone();
                *request.headers_mut() = self.ask.headers.clone();
                if let Some(header) = header {
                    request.headers_mut().insert(AUTHORIZATION, header);
                }
                let (job, step) = self.send(cx, &target, load, request, self.ask.plan.clone());
                let until = (!self.ask.is_bulk).then(|| cx.now + self.timeouts(cx).whole);
                self.state = State::Sent { job, with, until };
                step
            }
            Ok(Next::Fetch(fetch)) => self.fetch(cx, fetch),
            Ok(Next::Wait(until)) => Step::Wait(Some(until)),
            Err(error) => {
                let next = self.or_elsewhere(cx, State::Settled(Box::new(Err(error))));
                self.settle(next, cx)
            }
        }
    }

    fn settle(&mut self, next: State, cx: &mut Context<'_>) -> Step<Answer> {
        match next {
            State::Settled(result) => {
                self.state = State::Over;
                Step::Done(*result)
            }
            next => {
                self.state = next;
                self.poll(cx)
            }
        }
    }

    fn authorisation(&self, cx: &mut Context<'_>) -> Result<Next, Error> {
        if !self.ask.authenticate && self.ask.method != Method::DELETE {
            return Ok(Next::Show(Shown::Nothing, None));
        }
        let lasting = matches!(self.ask.method, Method::PUT | Method::PATCH) || !self.ask.payload.is_empty();
        let next = self.authorisation.next(cx, &self.route, self.since(), lasting)?;
        Ok(match next {
            // Somebody who only tidies up doesn't start a conversation with the token server.
            Next::Fetch(_) if !self.ask.authenticate => Next::Show(Shown::Nothing, None),
            next => next,
        })
    }

    /// Asks the token server, on behalf of everybody who wants the same.
    fn fetch(&mut self, cx: &mut Context<'_>, fetch: Box<Fetch>) -> Step<Answer> {
        let server = Origin::of(&fetch.ask.url).expect("the realm was found to be a URL");
        // It has places of its own, or the registry's if that is where it is. Nobody holds one of them while waiting for
        // a token, so that they can't wait for each other.
        let load = self.load(Load::Small);
        if let Err(until) = admitted(cx, &server, load) {
            return wait(cx, &server, until);
        }
        let mut request = http::Request::new(fetch.ask.payload.clone());
        *request.method_mut() = fetch.ask.method.clone();
        *request.uri_mut() = fetch.ask.url.clone();
        *request.headers_mut() = fetch.ask.headers.clone();
        let (job, step) = self.send(cx, &server, load, request, fetch.ask.plan.clone());
        let timeouts = timeouts(cx);
        cx.session.tokens.lease(&fetch.key, job, cx.now + timeouts.connect + timeouts.head);
        self.authorisation.let_go();
        self.state = State::Fetching { job, fetch, until: cx.now + timeouts.whole };
        step
    }

    fn send(
        &mut self,
        cx: &mut Context<'_>,
        to: &Origin,
        load: Load,
        mut request: http::Request<Payload>,
        plan: Plan,
    ) -> (JobId, Step<Answer>) {
        if let Ok(agent) = HeaderValue::try_from(&cx.session.config().user_agent) {
            request.headers_mut().insert(USER_AGENT, agent);
        }
        if to.is_https() && cx.session.config().tls.unverified {
            self.notes.extend(cx.session.warned.unverified(to).map(Event::Notice));
        }
        let ticket = cx.ticket();
        let job = ticket.id();
        let rules = cx.session.config().rules();
        cx.session.pace.occupy(to, job, cx.now, load, rules);
        self.asked_at = cx.now;
        (job, Step::Run(Job::Exchange(ticket, request, plan, self.timeouts(cx))))
    }

    fn timeouts(&self, cx: &Context<'_>) -> Timeouts {
        let all = timeouts(cx);
        match self.ask.replay {
            Replay::Never => Timeouts {
                connect: all.connect.min(TIDYING),
                head: all.head.min(TIDYING),
                idle: all.idle.min(TIDYING),
                whole: all.whole.min(TIDYING * 2),
                ..all
            },
            _ => all,
        }
    }
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
            State::Cancelling { running } => {
                for holder in running.into_iter().chain(self.authorisation.let_go()) {
                    cx.session.tokens.abandon(holder);
                    cx.session.give_back(holder, Strain::Unknown);
                }
                // Whoever waited for the place or the token can have it.
                cx.session.moved();
                match running {
                    Some(job) => {
                        self.state = State::Settled(Box::new(Err(Error::Cancelled)));
                        Step::Abort(job)
                    }
                    None => Step::Done(Err(Error::Cancelled)),
                }
            }
            State::Over => panic!("polled after it was done"),
            State::Sent { job, with, until: Some(until) } if until <= cx.now => {
                self.state = State::Sent { job, with, until: None };
                self.give_up(cx, job, until)
            }
            State::Fetching { job, fetch, until } if until <= cx.now => {
                self.state = State::Fetching { job, fetch, until };
                self.give_up(cx, job, until)
            }
            waiting => {
                let until = match &waiting {
                    State::Pause(until) | State::Fetching { until, .. } => Some(*until),
                    State::Sent { until, .. } => *until,
                    _ => None,
                };
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
        if cx.session.give_back(done.id, strain(&done.outcome)) {
            cx.session.moved();
        }
        self.tell(cx, &done.outcome);
        let next = match std::mem::replace(&mut self.state, State::Over) {
            State::Fetching { job, fetch, .. } => self.fetched(cx, job, &fetch, done.outcome),
            State::Sent { with, .. } => match done.outcome {
                Outcome::Replied { head, body, sent } => {
                    let head = *head;
                    let (asked, url) = (self.asked(), self.route.url().clone());
                    let (body, filed) = body.into_parts();
                    let (status, headers, moved) = (head.status, head.headers, sent.or(filed));
                    let mirror = self.turns.mirror().cloned();
                    self.replied(cx, with, Reply { asked, url, status, headers, body, moved, mirror })
                }
                Outcome::Failed { why, moved } => self.failed(cx, why, moved),
                _ => unreachable!("tickets are typed: an exchange gets a reply"),
            },
            other => other,
        };
        self.state = self.or_elsewhere(cx, next);
        Ok(())
    }

    fn cancel(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Fetching { job, .. } | State::Sent { job, .. } => State::Cancelling { running: Some(job) },
            State::Ready | State::Pause(_) => State::Cancelling { running: None },
            other => other,
        };
    }
}

/// Whether a request may go there now; if not, when to look again.
fn admitted(cx: &mut Context<'_>, to: &Origin, load: Load) -> Result<(), Option<Time>> {
    let rules = cx.session.config().rules();
    cx.session.pace.admit(to, cx.now, load, rules).map_err(|not_yet| match not_yet {
        NotYet::Until(time) => Some(time),
        NotYet::Full => None,
    })
}

/// Until then, with a word about it if it is for a reason that nobody has been told of.
fn wait(cx: &mut Context<'_>, to: &Origin, until: Option<Time>) -> Step<Answer> {
    if let Some(after) = cx.session.pace.tell(to, cx.now) {
        return Step::Note(Event::Waiting { origin: to.to_string(), after });
    }
    let most = cx.session.config().requests_per_second;
    match most {
        Some(most) if cx.session.pace.tell_of_limit(to, cx.now) => {
            Step::Note(Event::Notice(format!("{to} is asked no more than {most} times a second, as it was configured")))
        }
        _ => Step::Wait(until),
    }
}

/// Whether it was too much for whoever was asked.
fn strain(outcome: &Outcome) -> Strain {
    match outcome {
        Outcome::Replied { head, .. } => match head.status.as_u16() {
            429 | 503 => Strain::TooMuch,
            500.. => Strain::Unknown,
            _ => Strain::None,
        },
        Outcome::Failed { why, .. } if matches!(why.kind(), FailureKind::Timeout(_)) => Strain::TooMuch,
        _ => Strain::Unknown,
    }
}

fn timeouts(cx: &Context<'_>) -> Timeouts {
    cx.session.config().timeouts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::upload;
    use crate::{Config, Session};

    #[test]
    fn whoever_tidies_up_does_not_wait_for_long() {
        let (session, name, limits) =
            ("https://r.example/u".parse().unwrap(), "n".parse().unwrap(), crate::session::Limits::default());
        let given = |ask| {
            let mut exchange = Exchange::new(ask, &"r.example".parse().unwrap());
            match exchange.poll(&mut Session::new(Config::default(), 1).at(Time::ZERO)) {
                Step::Run(Job::Exchange(_, _, _, timeouts)) => timeouts,
                step => panic!("{step:?}"),
            }
        };
        let tidying = given(upload::cancel(&session, &name, &limits));
        assert!(tidying.connect + tidying.head <= Duration::from_secs(10), "{tidying:?}");
        assert_eq!(given(upload::status(&session, &name, &limits)), Config::default().timeouts);
    }
}
