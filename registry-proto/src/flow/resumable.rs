//! An operation whose state is in a file, so that another process can go on with it.
//!
//! ```text
//!                  nothing
//!   New ─▶ Reading ──────▶ Running ─┬─ it fails ───▶ Failed (what was told last is written) ─▶ the end: the file stays
//!             │   a snapshot  ▲     └─ it is done ─▶ Removing (the file) ────────────────────▶ the end
//!             ├───────────────┘
//!             └─ not a right one ─▶ the end: nothing is touched
//! ```
//!
//! Beside all that, the newest snapshot is written: one at a time, so that those that come meanwhile are one when it is their turn.
//! Until it was written once, the operation waits: it is then certain that it can be.

use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::event::Event;
use crate::flow::file::partial;
use crate::flow::{Context, Flow, Pull, Push, Step};
use crate::job::{Completion, Failure, Job, JobId, Kept, LocalJob, Outcome};
use crate::snapshot::Snapshot;

/// The largest state that is read, in bytes. What is written is far below.
const LARGEST: usize = 16 << 20;

/// An operation that another process can go on with.
///
/// ```
/// use registry_proto::flow::{Destination, Push, PushOptions, Resume};
/// use registry_proto::{Event, Snapshot};
///
/// # fn example(reference: registry_proto::spec::Reference, stored: Option<&[u8]>) -> Result<(), registry_proto::Error> {
/// // Kept elsewhere than in a file: in a database, say.
/// let before = stored.map(Snapshot::parse).transpose()?;
/// let push = Push::new(std::path::Path::new("app.tar"), Destination::Reference(reference), PushOptions::default());
/// let push = push.resume(before);
/// let tell = |event: Event| {
///     if let Event::Snapshot(snapshot) = event {
///         let text = snapshot.to_secret(); // to be stored where only its owner can read it
/// #       let _ = text;
///     }
/// };
/// # let _ = (push, tell);
/// # Ok(())
/// # }
/// ```
pub trait Resume: Flow + sealed::Sealed {
    /// Goes on from a snapshot, if there is one, and tells by [`Event::Snapshot`] what a later process could go on from,
    /// whenever that has changed. If it is stopped, what that needs is left as it is: upload sessions stay open.
    ///
    /// A snapshot that is not of this operation ends it with [`Error::Snapshot`] before anything is transferred.
    #[must_use]
    fn resume(self, from: Option<Snapshot>) -> Self;
}

mod sealed {
    /// What may be resumed is known here.
    pub trait Sealed {}
    impl Sealed for super::Push {}
    impl Sealed for super::Pull {}
}

/// Runs a [`Push`] or [`Pull`] and keeps its state in a file while it runs, from which the same operation goes on if it was
/// interrupted, even by the end of its process. When it is done, the file is removed.
///
/// The file can be read by its owner only: it holds URLs of upload sessions. It is there whole or not at all (until then it is
/// `STATE.partial`). If it can't be written in the beginning, nothing is transferred; if that happens later, it is told and
/// nothing else.
///
/// Yields what the operation yields.
///
/// # Errors
/// Those of the operation, and [`Error::Snapshot`] when the file is of another one or damaged.
///
/// ```
/// use registry_proto::flow::{Destination, Push, PushOptions, Resumable};
///
/// # fn example(reference: registry_proto::spec::Reference) {
/// let push = Push::new(std::path::Path::new("app.tar"), Destination::Reference(reference), PushOptions::default());
/// let push = Resumable::new(push, std::path::Path::new("app.state"));
/// # let _ = push;
/// # }
/// ```
#[derive(Debug)]
pub struct Resumable<F: Flow> {
    path: Arc<Path>,
    /// `None` for a moment only: it is taken and given back by value.
    flow: Option<F>,
    /// The newest snapshot, if it is not in the file yet.
    unkept: Option<Box<Snapshot>>,
    keeping: Option<JobId>,
    /// The file was written once, so that it can be.
    proven: bool,
    notes: Vec<Event>,
    state: State<F::Output>,
}

#[derive(Debug)]
enum State<T> {
    New,
    Reading(JobId),
    Running,
    /// It is over; its state may have to be written once more.
    Failed(Box<Error>),
    Done(Box<T>),
    Removing(JobId, Box<T>),
    Cancelling(JobId),
    Settled(Box<Result<T, Error>>),
    Over,
}

impl<F: Resume> Resumable<F> {
    /// With its state in this file: a new one, or what an interrupted run has left.
    pub fn new(flow: F, state: impl AsRef<Path>) -> Self {
        Self {
            path: state.as_ref().into(),
            flow: Some(flow),
            unkept: None,
            keeping: None,
            proven: false,
            notes: Vec::new(),
            state: State::New,
        }
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn after_reading(&mut self, content: Option<&[u8]>) -> Result<State<F::Output>, Error> {
        let from = match content {
            None => None,
            Some(content) => Some(Snapshot::parse(content).map_err(|why| why.at(&self.path))?),
        };
        if from.is_some() {
            self.notes.push(Event::Notice(format!("going on from {}", self.path.display())));
        }
        self.flow = self.flow.take().map(|flow| flow.resume(from));
        Ok(State::Running)
    }

    fn after_running(&self, result: Result<F::Output, Error>) -> State<F::Output> {
        match result {
            Ok(done) => State::Done(Box::new(done)),
            Err(Error::Snapshot(why)) => State::Failed(Box::new(Error::Snapshot(why.at(&self.path)))),
            Err(why) => State::Failed(Box::new(why)),
        }
    }

    fn after_keeping(&mut self, failed: Option<Failure>) {
        self.keeping = None;
        match failed {
            None => self.proven = true,
            Some(why) if self.proven => self.unkeepable(&why),
            Some(why) => {
                // Nothing has been transferred, and nothing shall be.
                self.unkept = None;
                self.state = State::Settled(Box::new(Err(Error::Local(why))));
            }
        }
    }

    fn after_removing(&mut self, done: F::Output, failed: Option<&Failure>) {
        if let Some(why) = failed {
            self.notes.push(Event::Notice(format!("the state is of no use any more, but could not be removed: {why}")));
        }
        self.state = State::Settled(Box::new(Ok(done)));
    }

    // ── what the transitions are made of ─────────────────────────────────────────────────────────────────────────────

    fn unkeepable(&mut self, why: &Failure) {
        self.notes
            .push(Event::Notice(format!("the state could not be kept, so that what was kept before has to do: {why}")));
    }

    /// Writes the newest snapshot, unless one is being written.
    fn keep(&mut self, cx: &mut Context<'_>) -> Option<Job> {
        if self.keeping.is_some() {
            return None;
        }
        let snapshot = self.unkept.take()?;
        let ticket = cx.ticket();
        self.keeping = Some(ticket.id());
        let kept = Kept { path: Arc::clone(&self.path), partial: partial(&self.path), content: snapshot.to_secret() };
        Some(Job::Local(LocalJob::keep(ticket, kept)))
    }

    fn running(&mut self) -> &mut F {
        self.flow.as_mut().expect("it is only taken to be given back")
    }
}

impl<F: Resume> Flow for Resumable<F> {
    type Output = F::Output;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<F::Output> {
        loop {
            if !self.notes.is_empty() {
                return Step::Note(self.notes.remove(0));
            }
            if let Some(job) = self.keep(cx) {
                return Step::Run(job);
            }
            self.state = match std::mem::replace(&mut self.state, State::Over) {
                State::New => {
                    let ticket = cx.ticket();
                    self.state = State::Reading(ticket.id());
                    return Step::Run(Job::Local(LocalJob::read(ticket, Arc::clone(&self.path), LARGEST)));
                }
                State::Running => {
                    self.state = State::Running;
                    if self.keeping.is_some() && !self.proven {
                        return Step::Wait(None);
                    }
                    match self.running().poll(cx) {
                        Step::Note(Event::Snapshot(snapshot)) => {
                            self.unkept = Some(snapshot);
                            continue;
                        }
                        Step::Done(result) => self.after_running(result),
                        Step::Run(job) => return Step::Run(job),
                        Step::Abort(job) => return Step::Abort(job),
                        Step::Note(event) => return Step::Note(event),
                        Step::Wait(until) => return Step::Wait(until),
                    }
                }
                state @ (State::Failed(_) | State::Done(_)) if self.keeping.is_some() => {
                    self.state = state;
                    return Step::Wait(None);
                }
                State::Failed(why) => State::Settled(Box::new(Err(*why))),
                State::Done(done) => {
                    let ticket = cx.ticket();
                    self.state = State::Removing(ticket.id(), done);
                    return Step::Run(Job::Local(LocalJob::remove(ticket, Arc::clone(&self.path))));
                }
                state @ (State::Reading(_) | State::Removing(..)) => {
                    self.state = state;
                    return Step::Wait(None);
                }
                State::Cancelling(job) => {
                    self.state = State::Settled(Box::new(Err(Error::Cancelled)));
                    return Step::Abort(job);
                }
                State::Settled(result) => return Step::Done(*result),
                State::Over => panic!("polled after it was done"),
            };
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        let failed = |outcome: Outcome| match outcome {
            Outcome::Failed { why, .. } => Some(why),
            _ => None,
        };
        if self.keeping == Some(done.id) {
            self.after_keeping(failed(done.outcome));
            return Ok(());
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Reading(job) if job == done.id => {
                let next = match done.outcome {
                    Outcome::Content(content) => self.after_reading(content.as_deref()),
                    Outcome::Failed { why, .. } => Err(Error::Local(why)),
                    _ => unreachable!("tickets are typed: reading a file gets its content"),
                };
                self.state = next.unwrap_or_else(|why| State::Settled(Box::new(Err(why))));
                Ok(())
            }
            State::Removing(job, result) if job == done.id => {
                self.after_removing(*result, failed(done.outcome).as_ref());
                Ok(())
            }
            State::Running => {
                self.state = State::Running;
                self.running().handle(cx, done)
            }
            state => {
                self.state = state;
                Err(done)
            }
        }
    }

    fn cancel(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::New => State::Settled(Box::new(Err(Error::Cancelled))),
            State::Reading(job) => State::Cancelling(job),
            State::Running => {
                self.running().cancel();
                State::Running
            }
            // What is left to do is short, and not worth being stopped.
            state => state,
        };
    }
}
