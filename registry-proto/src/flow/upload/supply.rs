//! A body that is sent while it is fetched: what is too large for memory goes in one request all the same, whose pieces follow it
//! one by one. There are registries that take nothing else, and for the others it is faster than chunks.
//!
//! ```text
//!   source:    ── piece ── piece ── piece ──▶ (fetched by range, one ahead)
//!                    │ Job::Supply, when the one before was taken
//!                    ▼
//!   registry:  PUT ═════════════════════════▶ (one request, of the blob's whole length)
//! ```
//!
//! Of what was handed over, only the newest piece is still here. When the request has to be made once more (its token had expired,
//! the connection was cut) from a place before that, the blob is fetched again from its beginning, in a session of its own: in
//! chunks, where they are taken. What the source sends is resumed by ranges; only when the source gives nothing more for good does
//! the request come to nothing.

use super::part::Part;
use super::{Pause, State, Then, Upload, Uploaded};
use crate::endpoint::upload;
use crate::error::Error;
use crate::flow::{Answer, Context, Exchange, Flow, Lost, Step};
use crate::job::{Completion, Job, JobId, Payload};

/// How much is handed over at a time, in bytes. What a driver was given counts as moved before it is on the line: with more at a time,
/// a slow line would look like one that doesn't get ahead.
const SLICE: u64 = 256 << 10;

/// How much of what drivers were given may not have been sent yet, in bytes: what waits for its turn, and what is in sockets.
const UNSENT: u64 = 1 << 20;

/// A request under way, and how far its body was handed over.
#[derive(Debug)]
pub(super) struct Supplying {
    exchange: Exchange,
    part: Part,
    /// The job that takes the pieces; each try of the request is another one.
    to: Option<JobId>,
    /// Where in the blob the next piece begins.
    at: u64,
    /// The piece that is being taken.
    handing: Option<JobId>,
    /// Where in the blob the last piece ends that was taken.
    taken: u64,
    /// What becomes of the upload once the request is called off.
    called_off: Option<CalledOff>,
}

#[derive(Debug)]
enum CalledOff {
    /// The registry wants bytes that are gone.
    Again,
    /// There are no right bytes to send.
    Failed(Error),
}

impl Supplying {
    pub(super) fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        self.exchange.handle(cx, done)
    }

    pub(super) fn cancel(&mut self) {
        if matches!(self.called_off, Some(CalledOff::Again)) {
            self.called_off = None;
        }
        self.exchange.cancel();
    }
}

impl Upload {
    /// Sends all that is left in one request, and its bytes as they come.
    pub(super) fn supply(&mut self, cx: &Context<'_>, part: Part) -> State {
        let Some(session) = self.session.clone() else { return self.open(cx, false) };
        if part.at < self.digester.at() && !self.source.as_ref().is_some_and(|source| source.holds(part.at)) {
            return self.start_over(cx);
        }
        let (payload, limits) = (Payload::Supplied(part.length), &cx.session.config().limits);
        let exchange = self.ask(upload::finish(&session, self.name(), &self.digest, payload, limits));
        let (at, taken) = (part.at, part.at);
        State::Supplying(Box::new(Supplying { exchange, part, to: None, at, handing: None, taken, called_off: None }))
    }

    /// What the request does next, or the next of its pieces. `Err`: what follows.
    pub(super) fn step_of_supply(
        &mut self,
        cx: &mut Context<'_>,
        mut supplying: Box<Supplying>,
    ) -> Result<Step<Uploaded>, Box<State>> {
        let step = loop {
            match supplying.exchange.poll(cx) {
                Step::Run(job) => break Step::Run(job),
                Step::Abort(job) => break Step::Abort(job),
                Step::Note(event) => break Step::Note(event),
                Step::Done(answer) => return Err(Box::new(self.after_supply(cx, answer, *supplying))),
                Step::Wait(until) if supplying.called_off.is_some() => break Step::Wait(until),
                Step::Wait(until) => match self.hand_over(cx, &mut supplying) {
                    Ok(Some(job)) => break Step::Run(job),
                    Ok(None) => break Step::Wait(until),
                    Err(why) => {
                        supplying.called_off = Some(why);
                        supplying.exchange.cancel();
                    }
                },
            }
        };
        self.state = State::Supplying(supplying);
        Ok(step)
    }

    /// The next piece, if it is here, the request is under way, and the one before was taken.
    fn hand_over(&mut self, cx: &mut Context<'_>, supplying: &mut Supplying) -> Result<Option<Job>, CalledOff> {
        let (Some(source), part) = (&mut self.source, supplying.part) else { return Ok(None) };
        let Some(to) = supplying.exchange.sending() else {
            if supplying.to.take().is_some() {
                source.stop_awaited();
            }
            return Ok(None);
        };
        if supplying.handing.is_some() {
            return Ok(None);
        }
        if supplying.to != Some(to) {
            // A new try wants all of it.
            if supplying.at > part.at && !source.holds(part.at) {
                return Err(CalledOff::Again);
            }
            (supplying.to, supplying.at, supplying.taken) = (Some(to), part.at, part.at);
            source.await_pieces();
        }
        let (at, left) = (supplying.at, part.at + part.length - supplying.at);
        if left == 0 {
            return Ok(None);
        }
        let length = cx.session.config().piece.get().min(left);
        let Some(here) = source.bytes_at(cx, at, 1, length).map_err(CalledOff::Failed)? else { return Ok(None) };
        let piece = source.slice(at, here.min(left).min(SLICE));
        source.look_ahead(cx, length);
        self.digester.feed(at, &piece).expect("pieces follow each other, from the digester's watermark or below");
        // The last bytes go out only if it is the right blob.
        if self.digester.at() == self.size {
            self.check().map_err(CalledOff::Failed)?;
        }
        supplying.at = at + piece.len() as u64;
        self.handed = self.handed.max(supplying.at);
        let ticket = cx.ticket();
        supplying.handing = Some(ticket.id());
        Ok(Some(Job::Supply(ticket, to, piece)))
    }

    /// A piece was taken, or nobody takes it any more. Whether it was one of ours.
    pub(super) fn supplied(&mut self, job: JobId) -> bool {
        if self.stray == Some(job) {
            self.stray = None;
            return true;
        }
        let State::Supplying(supplying) = &mut self.state else { return false };
        if supplying.handing != Some(job) {
            return false;
        }
        (supplying.handing, supplying.taken) = (None, supplying.at);
        self.meter.raise(supplying.at);
        true
    }

    fn after_supply(&mut self, cx: &mut Context<'_>, answer: Result<Answer, Error>, supplying: Supplying) -> State {
        // A piece that nobody takes any more.
        self.stray = supplying.handing;
        self.tried_whole = true;
        if let Some(source) = &mut self.source {
            source.stop_awaited();
        }
        match supplying.called_off {
            None => {
                // As drivers say it of a file that was sent in part. What may still be on its way does not count: of a request on
                // a connection that turned out to be closed, nothing had been sent at all.
                let sent = supplying.taken.saturating_sub(UNSENT).max(supplying.part.at);
                let moved = || Some(self.digester.clone().of_body(sent));
                let answer = match answer {
                    Ok(Answer::Lost(lost)) => Ok(Answer::Lost(Lost { moved: moved(), ..lost })),
                    answer => answer,
                };
                self.after_part(cx, answer, supplying.part)
            }
            Some(CalledOff::Failed(why)) => self.fail(cx, why),
            // In chunks there is always something to begin again with, so that this happens once.
            Some(CalledOff::Again) if self.may_go_in_chunks(cx) => self.start_over(cx),
            Some(CalledOff::Again) => {
                let asked = self.asked();
                match self.trouble(cx, &asked, "it wants the blob from its beginning", Then::GoOn, Pause::None) {
                    State::Pausing(..) => self.start_over(cx),
                    failed => failed,
                }
            }
        }
    }
}
