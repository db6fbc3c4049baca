//! Every decision about what follows what: the arrows of the picture in [`upload`](super), but for [`setbacks`](super::setbacks).

use http::{StatusCode, Uri};

use super::count::Doubt;
use super::hash::running;
use super::part::Part;
use super::{Brought, IfAbsent, State, Then, Upload, Uploaded};
use crate::endpoint::Reply;
use crate::endpoint::upload::{self, ChunkHints, SessionState, Started};
use crate::error::Error;
use crate::event::Event;
use crate::flow::{Answer, Context, Held};
use crate::job::{Failure, FailureKind, Outcome, Payload};
use crate::snapshot::UploadSession;
use crate::spec::AckedOffset;

/// How often a blob is looked for that a registry has taken without saying that it has it (202), before it is sent again.
const LOOKS: u32 = 4;

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
        let hints = ChunkHints { min: session.chunk_min(), max: session.chunk_max() };
        self.hints = hints.within(&cx.session.config().limits);
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
            answer => answer.and_then(Answer::into_reply).and_then(|reply| upload::started(&reply, mounting, &limits)),
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
            if self.is_to_be_supplied(cx, part) {
                return self.supply(cx, part);
            }
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
            Ok(Answer::NotAsked) => return self.fail(cx, Error::Cancelled),
            Err(why) => return self.fail(cx, why),
        };
        self.adopt(reply.moved.as_ref());
        if reply.status.is_success() {
            return if part.closes { self.after_commit(cx, &reply) } else { self.after_chunk(cx, &reply, part) };
        }
        self.after_no(cx, &reply, part)
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
            return State::Confirming(self.look(), IfAbsent::Wait(1));
        }
        self.settle(Brought::Sent)
    }

    pub(super) fn after_probe(&mut self, cx: &mut Context<'_>, answer: Result<Answer, Error>) -> State {
        let Some(session) = self.session.clone() else { return self.open(cx, false) };
        let known = self.known(cx);
        let state = answer.and_then(Answer::into_reply).and_then(|reply| {
            let state = upload::state(&reply, &session, known)?;
            let SessionState::At { at, url } = state else { return Ok(None) };
            match self.count(cx, at) {
                Some(at) if at > self.size => {
                    Err(reply.broken(format!("it claims to hold {at} bytes of a blob of {}", self.size)))
                }
                at => Ok(Some((at, url))),
            }
        });
        if let Ok(state) = &state {
            self.after_refusal(cx, state.as_ref().and_then(|(at, _)| *at));
        }
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

    pub(super) fn after_confirm(
        &mut self,
        cx: &mut Context<'_>,
        held: Result<Held, Error>,
        if_absent: IfAbsent,
    ) -> State {
        match (held, if_absent) {
            (Ok(Held::There), _) => self.settle(Brought::Sent),
            (Ok(Held::Absent(_)), IfAbsent::Probe) => self.probe(cx),
            (Ok(Held::Absent(reply)), IfAbsent::Wait(asked)) if asked < LOOKS => {
                let (request, after) = (reply.asked.to_string(), cx.backoff(asked));
                let why = "the registry has taken the blob, but does not have it yet".to_owned();
                self.notes.push_back(Event::Retrying { request, why, after });
                State::Pausing(cx.now + after, Then::Confirm(IfAbsent::Wait(asked + 1)))
            }
            (Ok(Held::Absent(reply)), IfAbsent::Restart | IfAbsent::Wait(_)) => self.restart(cx, &reply),
            (Err(why), _) => self.fail(cx, why),
        }
    }

    pub(super) fn after_pause(&mut self, cx: &mut Context<'_>, then: Then) -> State {
        match then {
            Then::GoOn => self.next(cx),
            Then::Probe => self.probe(cx),
            Then::Confirm(if_absent) => State::Confirming(self.look(), if_absent),
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
}
