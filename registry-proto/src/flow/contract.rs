//! The contract between flows and drivers.

use crate::error::Error;
use crate::event::Event;
use crate::job::{Completion, Job, JobId};
use crate::session::Context;
use crate::time::Time;

/// One registry operation, as a state machine without I/O, clock, lock, waker or thread.
///
/// ```text
///     new ─▶ poll ─┬▶ Run(job)     start it, poll again at once
///             ▲    ├▶ Abort(id)    stop that job, poll again
///             │    ├▶ Note(event)  tell the user, poll again
///             │    ├▶ Wait(until)  drained: wait for an answer, that time, or a wake-up
///             │    └▶ Done(r)      the end: return `r`
///             └─── handle(completion)
/// ```
///
/// # What a driver owes a flow
/// 1. After construction, after [`handle`](Flow::handle) and after a wake-up: poll until `Wait` or `Done`.
/// 2. Run each job once and give its ticket back once, also when the work panics. An aborted job may still be answered;
///    `handle` hands such a late answer back, and it is dropped.
/// 3. Never follow redirects, retry, decompress, authenticate, keep cookies or look at a status.
///    Connect to what [`reachable`](crate::job::reachable) leaves of a name's addresses, and by way of the
///    [`Tunnel`](crate::session::Tunnel) that the configuration has for a URL, if it has one.
/// 4. Send a [`FileRange`](crate::job::FileRange) through its [`Outgoing`](crate::job::Outgoing) only, with its length as
///    `Content-Length`; feed a reply's body to the job's [`Incoming`](crate::job::Incoming) only. A body that is
///    [`Supplied`](crate::job::Payload::Supplied) is what the [`Supply`](crate::job::Job::Supply) jobs bring that follow:
///    [`Supplies`](crate::job::Supplies) tells which goes where. Such a body is made of replies: a request that has one must not be in
///    the way of others. If connections to a host are limited, it does not count.
/// 5. When [`Session::generation`](crate::Session::generation) has moved, wake the drivers of the session's other flows.
/// 6. Hold the session only for the length of one `poll` or `handle`.
/// 7. Run it as an [`Operation`](super::Operation): a user's patience has an end.
/// 8. When it is dropped before `Done`, tell [`Session::abandon`](crate::Session::abandon) which jobs it was running.
///
/// ```
/// use registry_proto::{Flow, Session, Step, Time};
///
/// /// Drives a flow that needs no I/O; a real driver starts jobs where this one gives up.
/// fn drive<F: Flow>(session: &mut Session, mut flow: F) -> Result<F::Output, registry_proto::Error> {
///     loop {
///         match flow.poll(&mut session.at(Time::ZERO)) {
///             Step::Run(job) => panic!("nobody here to run {job:?}"),
///             Step::Abort(_) | Step::Note(_) => {}
///             Step::Wait(_) => panic!("nothing to wait for"),
///             Step::Done(result) => return result,
///         }
///     }
/// }
/// ```
pub trait Flow {
    /// What the operation yields.
    type Output;

    /// The next thing to do. Harmless when nothing has changed.
    ///
    /// # Panics
    /// When polled again after [`Step::Done`], like a future.
    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Self::Output>;

    /// Takes the answer to a job.
    ///
    /// # Errors
    /// Hands the answer back untouched when this flow has no such job in flight: it belongs to a sibling, or comes too
    /// late. (Hence a parent needs no table of who runs what: it offers the answer to each of its children.)
    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion>;

    /// Asks the flow to wind down: it aborts what is in flight, closes upload sessions as well as it can, and ends with
    /// `Done(Err(`[`Error::Cancelled`]`))`, unless it was about to end anyway. Harmless when it was asked before.
    ///
    /// An answer that it has been given and not acted upon may have it begin something else all the same; that this is the last
    /// of it, an [`Operation`](super::Operation) sees to.
    fn cancel(&mut self);
}

/// What a flow wants of its driver.
#[derive(Debug)]
#[must_use = "a step is a request to the driver"]
pub enum Step<T> {
    /// Start this job and poll again.
    Run(Job),
    /// Stop this job, as soon as that is possible, and poll again.
    Abort(JobId),
    /// Tell the user and poll again.
    Note(Event),
    /// Nothing to do until a job is answered, the session's generation moves, or this time has come (`None`: no time).
    Wait(Option<Time>),
    /// The operation is over.
    Done(Result<T, Error>),
}

/// `?` for steps: yields the result of a child that is done, and passes everything else up unchanged.
macro_rules! ready {
    ($step:expr) => {
        match $step {
            $crate::Step::Done(result) => result,
            $crate::Step::Run(job) => return $crate::Step::Run(job),
            $crate::Step::Abort(id) => return $crate::Step::Abort(id),
            $crate::Step::Note(event) => return $crate::Step::Note(event),
            $crate::Step::Wait(until) => return $crate::Step::Wait(until),
        }
    };
}
pub(crate) use ready;
