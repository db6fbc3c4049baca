//! Every decision about what follows what: the arrows of the picture in [`exchange`](super).

use http::header::{LOCATION, RETRY_AFTER};
use http::{Method, StatusCode};

use super::authorise::{Fetch, Fetched, Shown, denied};
use super::{Answer, DETOURS, Exchange, Lost, OVERSLEPT, State, timeouts};
use crate::digester::Digester;
use crate::endpoint::{Replay, Reply, ping::challenges};
use crate::error::{Asked, DeniedBecause, Error};
use crate::event::Event;
use crate::flow::{Context, Flow, Step};
use crate::job::{Completion, Failure, FailureKind, JobId, Outcome, Phase};
use crate::spec::{ApiError, Origin, is_transient, retry_after};
use crate::time::Time;

impl Exchange {
    /// A token server's answer, or none.
    pub(super) fn fetched(&mut self, cx: &mut Context<'_>, job: JobId, fetch: &Fetch, outcome: Outcome) -> State {
        let asked = fetch.ask.asked();
        let (why, until) = match outcome {
            Outcome::Replied { head, body, .. } => {
                let head = *head;
                let (status, headers, url) = (head.status, head.headers, fetch.ask.url.clone());
                let body = body.into_parts().0;
                let reply = Reply { asked: asked.clone(), url, status, headers, body, moved: None, mirror: None };
                match self.authorisation.after_fetch(cx, fetch, &reply) {
                    Fetched::Token(token) => {
                        cx.session.tokens.fetched(&fetch.key, token, cx.now);
                        cx.session.moved();
                        return State::Ready;
                    }
                    Fetched::Otherwise => {
                        self.authorisation.hold(job);
                        return State::Ready;
                    }
                    Fetched::Denied(error) => return no_token(cx, fetch, error),
                    Fetched::Later(_) if self.tries >= self.most_tries(cx) => {
                        return no_token(cx, fetch, reply.refusal(Some("it was tried again and again")));
                    }
                    Fetched::Later(why) => (why, respect_retry_after(cx, &reply)),
                }
            }
            Outcome::Failed { why, .. } if self.is_only_stale(&why) => {
                self.authorisation.hold(job);
                return State::Ready;
            }
            Outcome::Failed { why, .. } if why.is_transient() && self.tries < self.most_tries(cx) => {
                (why.to_string(), None)
            }
            Outcome::Failed { why, .. } if why.kind() == FailureKind::TooLarge => {
                let error = Error::Protocol { asked, what: format!("the token server's answer can't be used: {why}") };
                return no_token(cx, fetch, error);
            }
            Outcome::Failed { why, .. } => {
                return no_token(cx, fetch, Error::Transport { asked, last: why, tries: self.tries + 1 });
            }
            _ => unreachable!("tickets are typed: an exchange gets a reply"),
        };
        let pause = self.pause(cx, &asked, &why, until);
        // The others wait on: each of them trying as often as this one would be a storm.
        if let State::Pause(until) = pause {
            cx.session.tokens.lease(&fetch.key, job, until + timeouts(cx).connect);
            self.authorisation.hold(job);
        }
        pause
    }

    /// A reply to the request itself.
    pub(super) fn replied(&mut self, cx: &mut Context<'_>, with: Shown, reply: Reply) -> State {
        let status = reply.status;
        if self.ask.authenticate {
            if status == StatusCode::UNAUTHORIZED {
                let since = self.since();
                return match self.authorisation.after_challenge(cx, &self.route, since, with, &reply) {
                    Ok(()) => State::Ready,
                    Err(error) => State::Settled(Box::new(Err(*error))),
                };
            }
            let is_head = self.ask.method == Method::HEAD;
            if self.authorisation.after_stale_token(cx, self.since(), &with, &reply, is_head) {
                return State::Ready;
            }
        }
        if let (301 | 302 | 303 | 307 | 308, Some(location)) = (status.as_u16(), reply.headers.get(LOCATION)) {
            let location = location.to_str().unwrap_or_default().to_owned();
            let most = cx.session.config().limits.redirects;
            return match self.route.follow(&self.ask.method, most, &reply, &location) {
                Ok(()) => State::Ready,
                Err(error) => State::Settled(Box::new(Err(error))),
            };
        }
        // Storage says so when its signed URL has expired: the registry knows the way to a new one (C32).
        if status == StatusCode::FORBIDDEN && self.route.is_away() && self.ask.method == Method::GET {
            self.detours += 1;
            if self.detours <= DETOURS && self.may_go_again() {
                self.restart();
                return State::Ready;
            }
        }
        if status == StatusCode::FORBIDDEN
            && self.ask.replay != Replay::Never
            && self.ask.method != Method::HEAD
            && !self.keeps_forbidden()
        {
            let scopes = self.authorisation.scopes();
            let error = denied(&reply, scopes, challenges(&reply), DeniedBecause::NotAllowed);
            return State::Settled(Box::new(Err(error)));
        }
        if is_transient(status) {
            // Where mounting is broken (500), a plain upload works.
            let is_broken = status == StatusCode::INTERNAL_SERVER_ERROR && self.is_mount();
            let again = self.may_go_again() && self.tries < self.most_tries(cx) && !is_broken;
            let why = describe(status, &reply.errors());
            // If not, the owner will ask again in its own way: not before the registry allows it.
            let until = respect_retry_after(cx, &reply);
            if again {
                self.restart();
                return self.pause(cx, &reply.asked, &why, until);
            }
        }
        State::Settled(Box::new(Ok(Answer::Reply(reply))))
    }

    /// 403 to a manifest `PUT` may mean an immutable tag that is already right (Docker Hub), and 403 to a mount that the
    /// source can't be read: their owners look closer.
    fn keeps_forbidden(&self) -> bool {
        self.ask.method == Method::PUT && self.ask.url.path().contains("/manifests/") || self.is_mount()
    }

    fn is_mount(&self) -> bool {
        self.ask.method == Method::POST && self.ask.url.query().is_some_and(|query| query.starts_with("mount="))
    }

    /// Whether a request that was answered may be sent again as it is.
    const fn may_go_again(&self) -> bool {
        matches!(self.ask.replay, Replay::Anytime | Replay::OwnerGoesOn)
    }

    pub(super) fn failed(&mut self, cx: &mut Context<'_>, why: Failure, moved: Option<Digester>) -> State {
        let asked = self.asked();
        if why.is_local() {
            return State::Settled(Box::new(Err(Error::Local(why))));
        }
        if self.may_go_again() && self.is_only_stale(&why) {
            self.restart();
            return State::Ready;
        }
        let may_repeat = match self.ask.replay {
            Replay::Anytime => why.is_transient(),
            Replay::OwnerAsksFirst => why.sent_nothing() && why.is_transient(),
            Replay::OwnerGoesOn | Replay::Never => false,
        };
        if may_repeat && self.tries < self.most_tries(cx) {
            self.restart();
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

    /// A connection that was kept had been closed by its peer. On another one the same is asked again at once, and that counts
    /// as no try; but a peer could do it for ever, so that it is believed once.
    fn is_only_stale(&mut self, why: &Failure) -> bool {
        why.kind() == FailureKind::Stale && !std::mem::replace(&mut self.was_stale, true)
    }

    /// From the start: a redirect's target may have expired.
    fn restart(&mut self) {
        self.route.restart();
        self.authorisation.restart();
    }

    /// A small request is still under way that should be over by now. A reply that drips in has no other end (A31). If it was us who
    /// were away, nothing is known about the reply, and it is asked for again.
    pub(super) fn give_up(&mut self, cx: &mut Context<'_>, job: JobId, due: Time) -> Step<Answer> {
        let limit = self.timeouts(cx).whole;
        let why = if cx.now.since(due) < OVERSLEPT {
            Failure::new(FailureKind::Timeout(Phase::Whole), format_args!("it was not there after {limit:?}"))
        } else {
            Failure::new(FailureKind::Timeout(Phase::Head), "this program was stopped in the meantime")
        };
        // As if a driver had said so; what the real one may still say comes too late.
        let _ = self.handle(cx, Completion { id: job, outcome: Outcome::Failed { why, moved: None } });
        Step::Abort(job)
    }

    fn pause(&mut self, cx: &mut Context<'_>, asked: &Asked, why: &str, until: Option<Time>) -> State {
        self.tries += 1;
        let until = until.unwrap_or_else(|| cx.now + cx.backoff(self.tries));
        let after = until.since(cx.now);
        self.notes.push_back(Event::Retrying { request: asked.to_string(), why: why.to_owned(), after });
        State::Pause(until)
    }
}

/// Nothing goes to whoever said so before the time it named.
fn respect_retry_after(cx: &mut Context<'_>, reply: &Reply) -> Option<Time> {
    let date = reply.header("date");
    // "At once" is no pause: ours are longer.
    let told = retry_after(reply.header(RETRY_AFTER.as_str())?, date).filter(|told| !told.is_zero())?;
    let until = cx.now + told.min(cx.session.config().retry_after_limit);
    if let Some(origin) = Origin::of(&reply.url) {
        cx.session.pace.pause(&origin, until);
    }
    Some(until)
}

/// What the token server refused to this request it refused to all that waited for its answer.
fn no_token(cx: &mut Context<'_>, fetch: &Fetch, why: Error) -> State {
    cx.session.tokens.refused(&fetch.key, &why, cx.now);
    cx.session.moved();
    State::Settled(Box::new(Err(why)))
}

fn describe(status: StatusCode, errors: &[ApiError]) -> String {
    errors.first().map_or_else(|| status.to_string(), |error| format!("{status}: {error}"))
}
