//! An upload as a flow: which state waits for what.

use super::source::Source;
use super::{State, Upload, Uploaded};
use crate::error::Error;
use crate::flow::{Context, Flow, Step, ready};
use crate::job::Completion;

impl Upload {
    /// The next step of the upload itself; what its source does beside that is its own.
    fn step(&mut self, cx: &mut Context<'_>) -> Step<Uploaded> {
        loop {
            if let Some(job) = self.stray.take() {
                return Step::Abort(job);
            }
            if self.source.as_ref().is_some_and(Source::is_stopping) {
                return Step::Wait(None);
            }
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            self.state = match &mut self.state {
                State::New => self.start(cx),
                State::Checking(look) => {
                    let held = ready!(look.poll(cx));
                    self.after_check(cx, held)
                }
                State::Opening { post, mounting } => {
                    let mounting = *mounting;
                    let answer = ready!(post.poll(cx));
                    self.after_open(cx, answer, mounting)
                }
                State::Sending { exchange, part } => {
                    let part = *part;
                    let answer = ready!(exchange.poll(cx));
                    self.after_part(cx, answer, part)
                }
                State::Supplying(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Supplying(supplying) => match self.step_of_supply(cx, supplying) {
                        Ok(step) => return step,
                        Err(next) => *next,
                    },
                    _ => unreachable!("the state was just matched"),
                },
                State::Outside if self.outside => return Step::Wait(None),
                State::Outside => self.after_let_in(cx),
                State::Fetching => match self.next(cx) {
                    State::Fetching => return Step::Wait(None),
                    state => state,
                },
                State::Behind => match self.catch_up(cx) {
                    Some(job) => return Step::Run(job),
                    None => continue,
                },
                State::CatchingUp(_) => return Step::Wait(None),
                State::StoppingHash(job) => {
                    let job = *job;
                    self.state = self.fail(cx, Error::Cancelled);
                    return Step::Abort(job);
                }
                State::Pausing(until, then) if *until <= cx.now => {
                    let then = *then;
                    self.after_pause(cx, then)
                }
                State::Pausing(until, _) => return Step::Wait(Some(*until)),
                State::Stopped => self.fail(cx, Error::Cancelled),
                State::Probing(exchange) => {
                    let answer = ready!(exchange.poll(cx));
                    self.after_probe(cx, answer)
                }
                State::Confirming(look, if_absent) => {
                    let if_absent = *if_absent;
                    let held = ready!(look.poll(cx));
                    self.after_confirm(cx, held, if_absent)
                }
                State::GivingUp(exchange, _) => {
                    // Whatever comes of it: the error that led here is the one to tell.
                    let _ = ready!(exchange.poll(cx));
                    match std::mem::replace(&mut self.state, State::Over) {
                        State::GivingUp(_, why) => State::Settled(Box::new(Err(*why))),
                        _ => unreachable!("the state was just matched"),
                    }
                }
                State::Discarding { exchange, cancelled } => {
                    let cancelled = *cancelled;
                    // Whatever comes of it: registries forget sessions that nobody comes back to.
                    let _ = ready!(exchange.poll(cx));
                    if cancelled { self.fail(cx, Error::Cancelled) } else { self.open(cx, false) }
                }
                // Something is still to be aborted.
                State::Settled(_) if self.source.as_ref().is_some_and(Source::is_restless) => {
                    return Step::Wait(None);
                }
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => {
                        if result.is_ok() {
                            cx.session.known.remember(&self.origin, self.repository.name(), &self.digest);
                        }
                        return Step::Done(*result);
                    }
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
        }
    }
}

impl Flow for Upload {
    type Output = Uploaded;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Uploaded> {
        loop {
            let beside = match self.source.as_mut().map(|source| source.poll(cx)) {
                None => None,
                Some(Step::Wait(until)) => until,
                Some(Step::Done(_)) => continue,
                Some(Step::Run(job)) => return Step::Run(job),
                Some(Step::Abort(job)) => return Step::Abort(job),
                Some(Step::Note(event)) => return Step::Note(event),
            };
            match self.step(cx) {
                Step::Wait(_) if self.source.as_ref().is_some_and(Source::is_restless) => {}
                Step::Wait(until) => return Step::Wait(until.into_iter().chain(beside).min()),
                step => return step,
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        let done = match &mut self.source {
            Some(source) => match source.handle(cx, done) {
                Ok(()) => return Ok(()),
                Err(done) => done,
            },
            None => done,
        };
        if self.supplied(done.id) {
            return Ok(());
        }
        match &mut self.state {
            State::Checking(look) | State::Confirming(look, _) => look.handle(cx, done),
            State::Opening { post: exchange, .. }
            | State::Sending { exchange, .. }
            | State::Probing(exchange)
            | State::Discarding { exchange, .. }
            | State::GivingUp(exchange, _) => exchange.handle(cx, done),
            State::Supplying(supplying) => supplying.handle(cx, done),
            State::CatchingUp(job) if *job == done.id => {
                self.state = self.hashed(cx, done.outcome);
                Ok(())
            }
            _ => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Checking(look) | State::Confirming(look, _) => look.cancel(),
            State::Opening { post: exchange, .. } | State::Sending { exchange, .. } | State::Probing(exchange) => {
                exchange.cancel();
            }
            State::Supplying(supplying) => supplying.cancel(),
            // It closes the session, as a cancelled upload should.
            State::Discarding { cancelled, .. } => *cancelled = true,
            State::CatchingUp(job) => self.state = State::StoppingHash(*job),
            State::New | State::Outside | State::Fetching | State::Behind | State::Pausing(..) => {
                self.state = State::Stopped;
            }
            // Tidying up is already under way, and short: its request is given a few seconds.
            State::GivingUp(..) | State::StoppingHash(_) | State::Stopped | State::Settled(_) | State::Over => {}
        }
    }
}
