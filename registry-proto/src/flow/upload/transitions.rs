//! Every decision about what follows what: the arrows of the picture in [`upload`](super).

use std::time::Duration;

use http::{StatusCode, Uri};

use super::count::Doubt;
use super::hash::running;
use super::part::Part;
use super::session::may_pass;
use super::{Brought, Pause, State, Then, Upload, Uploaded};
use crate::endpoint::Reply;
use crate::endpoint::upload::{self, SessionState, Started};
use crate::error::{Asked, Error};
use crate::event::Event;
use crate::flow::{Answer, Context, Held, Lost, unreachable_loss};
use crate::job::{Failure, FailureKind, Outcome, Payload};
use crate::session::UploadPolicy;
use crate::snapshot::UploadSession;
use crate::spec::{AckedOffset, ErrorCode, is_transient};

/// How often an upload starts over because of what the registry says (as opposed to a bad network).
const RESTARTS: u32 = 2;
/// How often because it says that the bytes are wrong, which they are not: what was sent has the digest.
const RESTARTS_OF_BLAME: u32 = 1;
/// How many bytes of a body may be gone before it shows that nobody takes them.
const TAKEN_ON: u64 = 1 << 20;

impl Upload {
    pub(super) fn start(&mut self, cx: &mut Context<'_>) -> State {
        if !self.named {
            // There is nothing to ask for.
            return self.after_let_in(cx);
        }
        if cx.session.known.holds(&self.origin, self.name(), &self.digest) {
            return self.settle(Brought::Known);
        }
        // Where a mount is likely to succeed, asking first whether the blob is there would only cost a request: mounting a
        // blob that is there already does no harm.
        if self.from.is_some() { self.open(cx, true) } else { State::Checking(self.look()) }
    }

    pub(super) fn after_check(&mut self, cx: &mut Context<'_>, held: Result<Held, Error>) -> State {
        match held {
            Ok(Held::There) => self.settle(Brought::Existed),
            Ok(Held::Absent(_)) if self.from.is_some() => self.open(cx, true),
            Ok(Held::Absent(_)) if self.outside => State::Outside,
            Ok(Held::Absent(_)) => self.after_let_in(cx),
            Err(why) => self.fail(cx, why),
        }
    }

    /// The blob is not there: it has to be moved.
    pub(super) fn after_let_in(&mut self, cx: &mut Context<'_>) -> State {
        if self.session.is_some() {
            return self.begin(cx);
        }
        if let Some((url, session)) = self.before.take() {
            return self.take_up(cx, url, &session);
        }
        self.look_ahead(cx);
        self.open(cx, false)
    }

    /// There is a session that an earlier process has sent who knows how much in.
    fn take_up(&mut self, cx: &Context<'_>, url: Uri, session: &UploadSession) -> State {
        self.hints.min = session.chunk_min().min(cx.session.config().limits.chunk_max);
        // As far as anybody here knows, all of it.
        (self.session, self.handed, self.takes_up) = (Some(url), self.size, true);
        self.tell_sending();
        self.probe(cx)
    }

    pub(super) fn after_open(&mut self, cx: &mut Context<'_>, answer: Result<Answer, Error>, mounting: bool) -> State {
        let limits = cx.session.config().limits;
        let started = match answer {
            // A token server that refuses the source repository's scope refuses the whole token: go without a mount.
            Err(Error::Denied(_)) if mounting => Ok(Started::NotMounted),
            answer => reply_of(answer).and_then(|reply| upload::started(&reply, mounting, &limits)),
        };
        match started {
            Ok(Started::Mounted) => self.settle(Brought::Mounted),
            Ok(Started::NotMounted) => {
                self.from = None;
                State::Checking(self.look())
            }
            Ok(Started::Session { url, hints }) => {
                self.hints = hints;
                self.session_is(Some(url));
                self.acked = 0;
                (self.resumed, self.takes_up) = (0, false);
                self.handed = 0;
                self.doubt = Doubt::None;
                // Instead of mounting it, the registry has opened a session.
                if self.outside { State::Outside } else { self.begin(cx) }
            }
            Err(why) => self.fail(cx, why),
        }
    }

    /// A new session is there, and nothing was sent.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> State {
        // What is fetched once more is looked at once more, too: it may be other bytes now.
        if self.source.is_some()
            && let Ok(fresh) = running(&self.digest)
        {
            self.digester = fresh;
        }
        if self.named {
            self.tell_sending();
        }
        self.next(cx)
    }

    fn tell_sending(&mut self) {
        let (repository, meter) = (self.repository.clone(), self.meter.clone());
        self.notes.push_back(Event::Sending { repository, blob: self.id(), meter });
    }

    /// The one place that decides what is sent next: catch up, everything at once, another chunk, or the commit.
    pub(super) fn next(&mut self, cx: &mut Context<'_>) -> State {
        let Some(session) = self.session.clone() else { return self.open(cx, false) };
        if self.source.is_some() {
            // It can't hold what it was not sent: some count one too many (PROTOCOL §1.9).
            self.acked = self.acked.min(self.digester.at());
        }
        if self.digester.at() < self.acked {
            return State::Behind;
        }
        let limits = cx.session.config().limits;
        let policy = cx.session.config().upload;
        let left = self.size - self.acked;
        if left > 0 {
            let mut part = match self.chunk_size(cx, policy, left) {
                None => Part { at: self.acked, length: left, closes: true, began: cx.now },
                Some(chunk) => {
                    let closes = chunk >= left && self.learned(cx).wants_bytes_at_end;
                    Part { at: self.acked, length: chunk.min(left), closes, began: cx.now }
                }
            };
            if self.source.is_some() {
                part = match self.fetched(cx, part) {
                    Ok(part) => part,
                    Err(state) => return *state,
                };
            }
            self.handed = self.handed.max(part.at + part.length);
            let payload = self.payload(part);
            if self.source.is_some()
                && self.digester.at() == self.size
                && let Err(why) = self.check()
            {
                return self.fail(cx, why);
            }
            let ask = if part.closes {
                upload::finish(&session, self.name(), &self.digest, payload, &limits)
            } else {
                upload::patch(&session, self.name(), part.at, payload, &limits)
            };
            return State::Sending { exchange: self.ask(ask), part };
        }
        if let Err(why) = self.check() {
            return self.fail(cx, why);
        }
        let part = Part { at: self.size, length: 0, closes: true, began: cx.now };
        let ask = upload::finish(&session, self.name(), &self.digest, Payload::Empty, &limits);
        State::Sending { exchange: self.ask(ask), part }
    }

    pub(super) fn hashed(&mut self, cx: &mut Context<'_>, outcome: Outcome) -> State {
        match outcome {
            Outcome::Hashed(digester) => {
                self.adopt(Some(&digester));
                // A driver that stopped short would send us round in circles.
                if self.digester.at() < self.acked {
                    let why = Failure::new(FailureKind::Source, "fewer bytes were hashed than were asked for");
                    return self.fail(cx, Error::Local(why));
                }
                self.next(cx)
            }
            Outcome::Failed { why, .. } => self.fail(cx, Error::Local(why)),
            _ => unreachable!("tickets are typed: a hash job gets a digester"),
        }
    }

    pub(super) fn after_part(&mut self, cx: &mut Context<'_>, answer: Result<Answer, Error>, part: Part) -> State {
        let reply = match answer {
            Ok(Answer::Reply(reply)) => reply,
            Ok(Answer::Lost(lost)) => return self.after_loss(cx, lost, part),
            Err(why) => return self.fail(cx, why),
        };
        self.adopt(reply.moved.as_ref());
        if reply.status.is_success() {
            return if part.closes { self.after_commit(cx, &reply) } else { self.after_chunk(cx, &reply, part) };
        }
        let limits = cx.session.config().limits;
        match reply.status.as_u16() {
            // After a lost reply the blob may have been committed all the same (GHCR).
            404 if part.closes => State::Confirming(self.look(), Then::Restart),
            404 => self.restart(cx, &reply),
            400 if self.restarts < RESTARTS_OF_BLAME && blames_content(&reply) => {
                // Our bytes are right, so they went to the wrong place.
                self.misled(cx);
                self.restart(cx, &reply)
            }
            405 | 501 if !part.closes && part.length > 0 => {
                let learned = self.learned(cx);
                if learned.takes_whole(self.size) {
                    learned.refuses_chunks = true;
                    self.begin_again(cx, &reply)
                } else {
                    self.fail(cx, reply.refusal(Some("this registry takes neither bodies of this size nor chunks")))
                }
            }
            413 | 416 if part.length > 0 && cx.session.config().upload == UploadPolicy::Monolithic => {
                self.fail(cx, reply.refusal(Some("allow chunks: one request is too large for this registry")))
            }
            413 => {
                if self.learned(cx).refused_size(&limits, part.length) {
                    self.trouble(cx, &reply.asked, "it takes no bodies of this size", Then::Probe, Pause::None)
                } else {
                    self.fail(cx, reply.refusal(Some("even the smallest chunk is too large for it")))
                }
            }
            416 if self.reads_otherwise() => {
                self.trouble(cx, &reply.asked, "it counts what it has in another way", Then::Probe, Pause::None)
            }
            // Out of order, or (GHCR) too large: the session's state tells which.
            416 => {
                let Some(session) = self.session.clone() else { return self.restart(cx, &reply) };
                let (told, url) = upload::refused_at(&reply, &session);
                self.session_is(Some(url));
                let told = told.filter(|at| *at <= self.size);
                if told.is_none_or(|at| at == part.at) {
                    self.learned(cx).refused_size(&limits, part.length);
                }
                let then = match told {
                    Some(at) => {
                        self.progress(cx, at);
                        Then::GoOn
                    }
                    None => Then::Probe,
                };
                self.trouble(cx, &reply.asked, "it wants other bytes first", then, Pause::None)
            }
            // Twice the same is no accident: there are registries that can't end an upload in chunks without bytes (ECR).
            500 if part.closes
                && part.length == 0
                && self.troubles > 0
                && self.size > 0
                && self.restarts < RESTARTS =>
            {
                self.learned(cx).wants_bytes_at_end = true;
                self.begin_again(cx, &reply)
            }
            _ if is_transient(reply.status) => {
                let why = reply.status.to_string();
                let then = if part.closes { Then::Confirm } else { Then::Probe };
                if self.troubles >= cx.session.config().retries {
                    return self.fail(cx, reply.refusal(Some("it was tried again and again")));
                }
                self.trouble(cx, &reply.asked, &why, then, Pause::Backoff)
            }
            _ => self.fail(cx, reply.refusal(None)),
        }
    }

    /// A request of which nobody knows how much arrived.
    pub(super) fn after_loss(&mut self, cx: &mut Context<'_>, lost: Lost, part: Part) -> State {
        let limits = cx.session.config().limits;
        let got = lost.moved.as_ref().map_or(0, |sent| sent.at().saturating_sub(part.at).min(part.length));
        self.adopt(lost.moved.as_ref());
        // Of a peer that had gone before, sockets and drivers hear before they have taken on more than this.
        let is_stale = lost.why.kind() == FailureKind::Stale && got <= TAKEN_ON;
        if part.length > 0 && !lost.why.sent_nothing() && !is_stale {
            self.learned(cx).cut(&limits, got, part.length);
        }
        // Only what was handed over whole can have been committed; of what was in memory nobody knows how much that was.
        let whole = got == part.length || self.source.is_some();
        let then = if part.closes && whole { Then::Confirm } else { Then::Probe };
        // A connection that its peer had closed is no sign of trouble; but to one that does so each time it is.
        if is_stale && !std::mem::replace(&mut self.was_stale, true) {
            return self.after_pause(cx, then);
        }
        if self.troubles >= cx.session.config().retries {
            let error = Error::Transport { asked: lost.asked, last: lost.why, tries: self.troubles + 1 };
            return self.fail(cx, error);
        }
        self.trouble(cx, &lost.asked, &lost.why.to_string(), then, Pause::Backoff)
    }

    pub(super) fn after_chunk(&mut self, cx: &mut Context<'_>, reply: &Reply, part: Part) -> State {
        let Some(session) = self.session.clone() else { return self.open(cx, false) };
        let (acked, url) = match upload::patched(reply, &session, part.at, part.length) {
            Ok(news) => news,
            Err(why) => return self.fail(cx, why),
        };
        let limits = cx.session.config().limits;
        let at = match acked {
            AckedOffset::At(at) => at,
            AckedOffset::Unknown => part.at + part.length,
            AckedOffset::Forward(at) => {
                return self
                    .fail(cx, reply.broken(format!("it claims to hold {at} bytes, of which it was sent fewer")));
            }
        };
        self.hints = upload::hints(reply, &limits, self.hints);
        self.session_is(Some(url));
        if acked == AckedOffset::At(part.at + part.length) {
            self.proven(cx);
        }
        let mark = self.mark;
        self.progress(cx, at);
        if at == part.at + part.length {
            let took = cx.now.since(part.began);
            self.learned(cx).chunk_went_through(&limits, part.length, took);
            return self.next(cx);
        }
        // What it didn't keep is sent again: in smaller chunks, and not for ever (A34).
        self.learned(cx).cut(&limits, at.saturating_sub(part.at), part.length);
        if self.mark == mark {
            self.troubles += 1;
        }
        if self.troubles > cx.session.config().retries {
            return self.fail(cx, reply.broken("it keeps next to nothing of what it is sent"));
        }
        self.next(cx)
    }

    pub(super) fn after_commit(&mut self, cx: &mut Context<'_>, reply: &Reply) -> State {
        self.learned(cx).went_through();
        self.proven(cx);
        // 202 is no commit yet; whether it will be one is seen by asking.
        if reply.status == StatusCode::ACCEPTED {
            return State::Confirming(self.look(), Then::Restart);
        }
        self.settle(Brought::Sent)
    }

    pub(super) fn after_probe(&mut self, cx: &mut Context<'_>, answer: Result<Answer, Error>) -> State {
        let Some(session) = self.session.clone() else { return self.open(cx, false) };
        let known = self.known(cx);
        let state = reply_of(answer).and_then(|reply| {
            let state = upload::state(&reply, &session, known)?;
            let SessionState::At { at, url } = state else { return Ok(None) };
            match self.count(cx, at) {
                Some(at) if at > self.size => {
                    Err(reply.broken(format!("it claims to hold {at} bytes of a blob of {}", self.size)))
                }
                at => Ok(Some((at, url))),
            }
        });
        match state {
            Ok(Some((Some(at), url))) => {
                self.session_is(Some(url));
                if std::mem::take(&mut self.takes_up) {
                    self.resumed = at;
                }
                self.progress(cx, at);
                self.next(cx)
            }
            Ok(Some((None, _))) => self.start_over(cx),
            Ok(None) => {
                self.session_is(None);
                self.open(cx, false)
            }
            Err(why) => self.fail(cx, why),
        }
    }

    pub(super) fn after_confirm(&mut self, cx: &mut Context<'_>, held: Result<Held, Error>, then: Then) -> State {
        match held {
            Ok(Held::There) => self.settle(Brought::Sent),
            Ok(Held::Absent(reply)) if then == Then::Restart => self.restart(cx, &reply),
            Ok(Held::Absent(_)) => self.probe(cx),
            Err(why) => self.fail(cx, why),
        }
    }

    /// The registry will not go on with this session: start over, but not for ever.
    pub(super) fn restart(&mut self, cx: &Context<'_>, reply: &Reply) -> State {
        if self.restarts >= RESTARTS {
            return self.fail(cx, reply.refusal(Some("starting over did not help")));
        }
        self.restarts += 1;
        self.session_is(None);
        self.open(cx, false)
    }

    /// This registry wants to be sent blobs in another way: the session that was begun is given back.
    fn begin_again(&mut self, cx: &Context<'_>, reply: &Reply) -> State {
        let Some(session) = self.session.clone() else { return self.restart(cx, reply) };
        match self.restart(cx, reply) {
            State::Opening { .. } => {
                let exchange = self.ask(upload::cancel(&session, self.name(), &cx.session.config().limits));
                State::Discarding { exchange, cancelled: false }
            }
            failed => failed,
        }
    }

    /// The registry has gone back in this session to where we can't follow, or nobody knows to where. (Not for ever: that comes to
    /// light when it is asked after a trouble, and these are counted.)
    pub(super) fn start_over(&mut self, cx: &Context<'_>) -> State {
        let session = self.session.clone();
        self.session_is(None);
        match session {
            Some(session) => {
                let exchange = self.ask(upload::cancel(&session, self.name(), &cx.session.config().limits));
                State::Discarding { exchange, cancelled: false }
            }
            None => self.open(cx, false),
        }
    }

    pub(super) fn trouble(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Asked,
        why: &str,
        then: Then,
        pause: Pause,
    ) -> State {
        self.troubles += 1;
        if self.troubles > cx.session.config().retries {
            let last = Failure::new(FailureKind::Protocol, why);
            return self.fail(cx, Error::Transport { asked: asked.clone(), last, tries: self.troubles });
        }
        let after = match pause {
            Pause::None => Duration::ZERO,
            Pause::Backoff => cx.backoff(self.troubles),
        };
        self.notes.push_back(Event::Retrying { request: asked.to_string(), why: why.to_owned(), after });
        State::Pausing(cx.now + after, then)
    }

    pub(super) fn after_pause(&mut self, cx: &mut Context<'_>, then: Then) -> State {
        match then {
            Then::GoOn => self.next(cx),
            Then::Probe => self.probe(cx),
            Then::Confirm => State::Confirming(self.look(), Then::Probe),
            Then::Restart => self.open(cx, false),
        }
    }

    pub(super) fn settle(&mut self, brought: Brought) -> State {
        let (repository, blob) = (self.repository.clone(), self.id());
        self.stop_source();
        self.session_is(None);
        self.meter.raise(self.size);
        self.notes.push_back(match brought {
            Brought::Known | Brought::Existed => Event::Exists { repository, blob },
            Brought::Mounted => Event::Mounted { repository, blob },
            Brought::Sent => Event::Sent { repository, blob, sent: self.size },
        });
        State::Settled(Box::new(Ok(Uploaded {
            digest: self.digest.clone(),
            size: self.size,
            resumed: self.resumed,
            brought,
        })))
    }

    pub(super) fn fail(&mut self, cx: &Context<'_>, why: Error) -> State {
        self.stop_source();
        match self.session.clone() {
            // What it was told last still holds.
            Some(_) if self.resumable && may_pass(&why) => State::Settled(Box::new(Err(why))),
            None => State::Settled(Box::new(Err(why))),
            Some(session) => {
                self.session_is(None);
                let ask = upload::cancel(&session, self.name(), &cx.session.config().limits);
                State::GivingUp(self.ask(ask), Box::new(why))
            }
        }
    }
}

fn reply_of(answer: Result<Answer, Error>) -> Result<Reply, Error> {
    match answer? {
        Answer::Reply(reply) => Ok(reply),
        Answer::Lost(lost) => Err(unreachable_loss(lost)),
    }
}

/// Whether a 400 says that the bytes were wrong or out of order, which starting over may mend, rather than the request.
fn blames_content(reply: &Reply) -> bool {
    reply.errors().iter().any(|error| {
        matches!(
            error.code(),
            Some(
                ErrorCode::DigestInvalid
                    | ErrorCode::SizeInvalid
                    | ErrorCode::BlobUploadInvalid
                    | ErrorCode::RangeInvalid
            )
        )
    })
}
