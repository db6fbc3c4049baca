//! A body that is sent while it is fetched, for registries that take no chunks: what is too large for memory goes in one request
//! all the same, whose pieces follow it one by one.
//!
//! ```text
//!   source:    ── piece ── piece ── piece ──▶ (fetched by range, one ahead)
//!                    │ Job::Supply, when the one before was taken
//!                    ▼
//!   registry:  PUT ═════════════════════════▶ (one request, of the blob's whole length)
//! ```
//!
//! A piece that was handed over is gone. When the request has to be made once more (its token had expired, the connection was
//! cut), the blob is fetched again from its beginning, in a session of its own; what the source sends is still resumed by
//! ranges, and never makes the request fail.

use super::part::Part;
use super::{Pause, State, Then, Upload, Uploaded};
use crate::endpoint::upload;
use crate::error::Error;
use crate::flow::{Answer, Context, Flow, Lost, Step};
use crate::job::{Job, JobId, Payload};

/// How far the body of a request under way was handed over.
#[derive(Debug)]
pub(super) struct Supplying {
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

impl Upload {
    /// Sends all that is left in one request, and its bytes as they come.
    pub(super) fn supply(&mut self, cx: &Context<'_>, part: Part) -> State {
        let (Some(session), Some(source)) = (self.session.clone(), &mut self.source) else {
            return self.open(cx, false);
        };
        if part.at < self.digester.at() && !source.holds(part.at) {
            return self.start_over(cx);
        }
        let (payload, limits) = (Payload::Supplied(part.length), &cx.session.config().limits);
        let ask = upload::finish(&session, self.name(), &self.digest, payload, limits);
        let supplying = Supplying { to: None, at: part.at, handing: None, taken: part.at, called_off: None };
        State::Supplying { exchange: self.ask(ask), part, supplying }
    }

    /// What the request does next, or the next of its pieces. `Err`: what follows.
    pub(super) fn step_of_supply(&mut self, cx: &mut Context<'_>) -> Result<Step<Uploaded>, State> {
        let State::Supplying { exchange, part, supplying } = &mut self.state else {
            unreachable!("it is only called in this state")
        };
        let part = *part;
        match exchange.poll(cx) {
            Step::Run(job) => Ok(Step::Run(job)),
            Step::Abort(job) => Ok(Step::Abort(job)),
            Step::Note(event) => Ok(Step::Note(event)),
            Step::Done(answer) => {
                // A piece that nobody takes any more.
                self.stray = supplying.handing.take();
                let (called_off, taken) = (supplying.called_off.take(), supplying.taken);
                let answer = answer.map(|answer| self.as_far_as(answer, taken));
                Err(self.after_supply(cx, answer, called_off, part))
            }
            Step::Wait(until) if supplying.called_off.is_some() || supplying.handing.is_some() => Ok(Step::Wait(until)),
            Step::Wait(until) => match self.hand_over(cx, part) {
                Ok(Some(job)) => Ok(Step::Run(job)),
                Ok(None) => Ok(Step::Wait(until)),
                Err(why) => {
                    let State::Supplying { exchange, supplying, .. } = &mut self.state else {
                        unreachable!("handing over doesn't change it")
                    };
                    supplying.called_off = Some(why);
                    exchange.cancel();
                    self.step_of_supply(cx)
                }
            },
        }
    }

    /// The next piece, if it is here and the request is under way.
    fn hand_over(&mut self, cx: &mut Context<'_>, part: Part) -> Result<Option<Job>, CalledOff> {
        let (State::Supplying { exchange, supplying, .. }, Some(source)) = (&mut self.state, &mut self.source) else {
            return Ok(None);
        };
        let Some(to) = exchange.sending() else {
            if supplying.to.take().is_some() {
                source.stop_awaited();
            }
            return Ok(None);
        };
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
        let piece = source.slice(at, here.min(left));
        source.look_ahead(cx, length);
        supplying.at = at + piece.len() as u64;
        self.handed = self.handed.max(supplying.at);
        let ticket = cx.ticket();
        supplying.handing = Some(ticket.id());
        self.digester.feed(at, &piece).expect("pieces follow each other, from the digester's watermark or below");
        // The last bytes go out only if it is the right blob.
        if self.digester.at() == self.size {
            self.check().map_err(CalledOff::Failed)?;
        }
        Ok(Some(Job::Supply(ticket, to, piece)))
    }

    /// A piece was taken, or nobody takes it any more. Whether it was one of ours.
    pub(super) fn supplied(&mut self, job: JobId) -> bool {
        if self.stray == Some(job) {
            self.stray = None;
            return true;
        }
        let State::Supplying { supplying, .. } = &mut self.state else { return false };
        if supplying.handing != Some(job) {
            return false;
        }
        (supplying.handing, supplying.taken) = (None, supplying.at);
        self.meter.raise(supplying.at);
        true
    }

    /// What drivers say of a file's range that was cut, with how much of the body was taken.
    fn as_far_as(&self, answer: Answer, taken: u64) -> Answer {
        match answer {
            Answer::Lost(lost) => Answer::Lost(Lost { moved: Some(self.digester.clone().of_body(taken)), ..lost }),
            answer => answer,
        }
    }

    fn after_supply(
        &mut self,
        cx: &mut Context<'_>,
        answer: Result<Answer, Error>,
        called_off: Option<CalledOff>,
        part: Part,
    ) -> State {
        if let Some(source) = &mut self.source {
            source.stop_awaited();
        }
        match called_off {
            None => self.after_part(cx, answer, part),
            Some(CalledOff::Failed(why)) => self.fail(cx, why),
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
