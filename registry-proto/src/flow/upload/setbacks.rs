//! What follows when something did not go through: a request was refused or lost, or its session is of no use any more. The other
//! arrows of the picture in [`upload`](super) are in [`transitions`](super::transitions).

use std::time::Duration;

use super::part::Part;
use super::session::may_pass;
use super::{IfAbsent, Pause, State, Then, Upload};
use crate::endpoint::Reply;
use crate::endpoint::upload;
use crate::error::{Asked, Error};
use crate::event::Event;
use crate::flow::{Context, Lost};
use crate::job::{Failure, FailureKind};
use crate::session::UploadPolicy;
use crate::spec::{ErrorCode, is_transient};

/// How often an upload starts over because of what the registry says (as opposed to a bad network).
const RESTARTS: u32 = 2;
/// How often because it says that the bytes are wrong, which they are not: what was sent has the digest.
const RESTARTS_OF_BLAME: u32 = 1;
/// How many bytes of a body from a file may be gone before it shows that nobody takes them. (Of a supplied one, as many are not counted
/// in the first place.)
const TAKEN_ON: u64 = 1 << 20;

impl Upload {
    /// The registry does not take a part, or not now.
    pub(super) fn after_no(&mut self, cx: &mut Context<'_>, reply: &Reply, part: Part) -> State {
        let limits = cx.session.config().limits;
        match reply.status.as_u16() {
            // After a lost reply the blob may have been committed all the same (GHCR).
            404 if part.closes => State::Confirming(self.look(), IfAbsent::Restart),
            404 => self.restart(cx, reply),
            400 if self.restarts < RESTARTS_OF_BLAME && blames_content(reply) => {
                // Our bytes are right, so they went to the wrong place.
                self.misled(cx);
                self.restart(cx, reply)
            }
            405 | 501 if !part.closes && part.length > 0 => {
                let learned = self.learned(cx);
                if learned.takes_whole(self.size) {
                    learned.refuses_chunks = true;
                    self.begin_again(cx, reply)
                } else {
                    self.fail(cx, reply.refusal(Some("this registry takes neither bodies of this size nor chunks")))
                }
            }
            413 | 416 if part.length > 0 && cx.session.config().upload == UploadPolicy::Monolithic => {
                self.fail(cx, reply.refusal(Some("allow chunks: one request is too large for this registry")))
            }
            // Nothing is no size that could be too large: it is about the whole blob.
            413 if part.length == 0 => self.fail(cx, reply.refusal(None)),
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
                let Some(session) = self.session.clone() else { return self.restart(cx, reply) };
                let (told, url) = upload::refused_at(reply, &session);
                self.session_is(Some(url));
                self.known(cx);
                let told = told.and_then(|at| self.count(cx, at)).filter(|at| *at <= self.handed.min(self.size));
                self.refused = Some(part);
                let then = match told {
                    Some(at) => {
                        self.after_refusal(cx, Some(at));
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
                self.begin_again(cx, reply)
            }
            _ if is_transient(reply.status) => {
                let why = reply.status.to_string();
                let then = if part.closes { Then::Confirm(IfAbsent::Probe) } else { Then::Probe };
                if self.troubles >= cx.session.config().retries {
                    return self.fail(cx, reply.refusal(Some("it was tried again and again")));
                }
                self.trouble(cx, &reply.asked, &why, then, Pause::Backoff)
            }
            _ => self.fail(cx, reply.refusal(None)),
        }
    }

    /// Where the session goes on, if anybody knows, after it has refused a part (416). If it is where that part began, it was too
    /// large.
    pub(super) fn after_refusal(&mut self, cx: &mut Context<'_>, at: Option<u64>) {
        let limits = cx.session.config().limits;
        if let Some(part) = self.refused.take()
            && part.length > 0
            && at.is_none_or(|at| at == part.at)
        {
            self.learned(cx).refused_size(&limits, part.length);
        }
    }

    /// A request of which nobody knows how much arrived.
    pub(super) fn after_loss(&mut self, cx: &mut Context<'_>, lost: Lost, part: Part) -> State {
        let limits = cx.session.config().limits;
        let got = lost.moved.as_ref().map_or(0, |sent| sent.body_at().saturating_sub(part.at).min(part.length));
        self.adopt(lost.moved.as_ref());
        // Of a peer that had gone before, sockets and drivers hear before they have taken on more than this.
        let is_stale = lost.why.kind() == FailureKind::Stale && got <= TAKEN_ON;
        if part.length > 0 && !lost.why.sent_nothing() && !is_stale {
            self.learned(cx).cut(&limits, got, part.length);
        }
        // Only what was handed over whole can have been committed; of what was in memory nobody knows how much that was.
        let whole = got == part.length || self.source.is_some();
        let then = if part.closes && whole { Then::Confirm(IfAbsent::Probe) } else { Then::Probe };
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
