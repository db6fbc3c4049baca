//! What a user waits for: a flow, with an end to the user's patience.
//!
//! ```text
//!              answers, and bytes that move: one retry is given back, the clock stands still
//!                    ┌───┐
//!                    │   ▼
//!   running ─────────┴─ running ──▶ the flow's own end
//!                    │
//!                    └─ retries used up, or the next pause would end too late ─▶ cancelled ─▶ GivenUp
//! ```
//!
//! Each request and each blob has tries of its own, and gets new ones whenever it comes ahead. An operation of a thousand blobs
//! could so ask a registry that is down for the day tens of thousands of times. Here is counted over all of them.

use std::time::Duration;

use crate::error::Error;
use crate::event::Event;
use crate::flow::exchange::OVERSLEPT;
use crate::flow::{Context, Flow, Step, wind_down};
use crate::job::Completion;
use crate::spec::is_transient;
use crate::time::Time;

/// A flow as a driver runs it for a user: given up as a whole when its registry is in trouble for too long
/// ([`Config::patience`](crate::Config::patience)) or too often ([`Config::retry_budget`](crate::Config::retry_budget)).
///
/// It listens to what the flow tells, and once it is cancelled it sees to it that the flow ends, whatever that was about to do; a driver
/// wraps whatever it is given in it.
///
/// ```
/// # use registry_proto::archive::make::MemoryDisk;
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::{Operation, Pinging};
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let pinging = Operation::new(Pinging::new("localhost:5000".parse()?));
/// assert!(world.run(&mut session, pinging).result.is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Operation<F> {
    flow: F,
    /// Retries beyond the answers since.
    spent: u32,
    /// Since when nothing has come but trouble.
    since: Option<Time>,
    /// When it last wanted to be asked again.
    due: Option<Time>,
    given_up: Option<Error>,
    cancelled: bool,
}

impl<F: Flow> Operation<F> {
    /// With all the patience that the session's configuration gives it.
    pub const fn new(flow: F) -> Self {
        Self { flow, spent: 0, since: None, due: None, given_up: None, cancelled: false }
    }

    /// While the machine slept, or the program was stopped, nobody's patience was tried.
    fn after_wait(&mut self, now: Time) {
        let Some(slept) = self.due.take().map(|due| now.since(due)).filter(|slept| *slept > OVERSLEPT) else { return };
        self.since = self.since.map(|since| since + slept);
    }

    /// What follows from an event: the only place that decides it.
    fn after_event(&mut self, cx: &Context<'_>, event: &Event) -> Option<Error> {
        let config = cx.session.config();
        let (request, why, after) = match event {
            Event::Asked { reply, took, .. } => {
                let answered = reply.as_ref().is_ok_and(|status| !is_transient(*status));
                // A driver gives up what doesn't move: what took longer than its limits has moved bytes until it failed.
                let limits = config.timeouts;
                if answered || *took > limits.connect.saturating_add(limits.head).saturating_add(limits.idle) {
                    self.since = None;
                    self.spent = self.spent.saturating_sub(u32::from(answered));
                }
                return None;
            }
            Event::Retrying { request, why, after } => {
                self.spent += 1;
                (request.clone(), why.clone(), *after)
            }
            Event::Waiting { origin, after } => (origin.clone(), "it asked for a pause".to_owned(), *after),
            _ => return None,
        };
        let since = *self.since.get_or_insert(cx.now);
        let because = if self.spent > config.retry_budget {
            format!("{} requests of this operation had to be made again", self.spent)
        } else if cx.now.since(since).saturating_add(after) > config.patience {
            let so_far = Duration::from_secs(cx.now.since(since).as_secs());
            format!("nothing else has come for {so_far:?}, and another {after:?} would be too long")
        } else {
            return None;
        };
        Some(Error::GivenUp { request, why, because })
    }
}

impl<F: Flow> Flow for Operation<F> {
    type Output = F::Output;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<F::Output> {
        self.after_wait(cx.now);
        let step = if self.cancelled { wind_down(&mut self.flow, cx) } else { self.flow.poll(cx) };
        match step {
            Step::Note(event) => {
                if self.given_up.is_none()
                    && let Some(why) = self.after_event(cx, &event)
                {
                    self.given_up = Some(why);
                    self.cancel();
                }
                Step::Note(event)
            }
            Step::Done(Err(Error::Cancelled)) => Step::Done(Err(self.given_up.take().unwrap_or(Error::Cancelled))),
            Step::Wait(until) => {
                self.due = until;
                Step::Wait(until)
            }
            step => step,
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        self.flow.handle(cx, done)
    }

    fn cancel(&mut self) {
        self.cancelled = true;
        self.flow.cancel();
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::*;
    use crate::error::Asked;
    use crate::flow::Pinging;
    use crate::job::{Failure, FailureKind};
    use crate::{Config, Session};

    fn asked(reply: Result<u16, FailureKind>, took: u64) -> Event {
        Event::Asked {
            request: Asked::new(&Method::PUT, &"https://r.example/u".parse().unwrap()),
            reply: reply.map(|code| StatusCode::from_u16(code).unwrap()).map_err(|kind| Failure::new(kind, "")),
            took: Duration::from_secs(took),
        }
    }

    fn retrying(after: u64) -> Event {
        Event::Retrying { request: "PUT /u".into(), why: "cut".into(), after: Duration::from_secs(after) }
    }

    /// Each of these is told a minute after the last one. Whether the operation is given up at the last.
    fn is_given_up(events: &[Event]) -> bool {
        let config = Config { patience: Duration::from_secs(300), ..Config::default() };
        let mut session = Session::new(config, 1);
        let mut operation = Operation::new(Pinging::new("r.example".parse().unwrap()));
        let mut now = Time::ZERO;
        let mut last = None;
        for event in events {
            assert!(last.is_none(), "it was given up too early");
            now = now + Duration::from_secs(60);
            last = operation.after_event(&session.at(now), event);
        }
        last.is_some()
    }

    #[test]
    fn limits_without_end_are_added_up() {
        let mut config = Config::default();
        let timeouts = &mut config.timeouts;
        (timeouts.connect, timeouts.head, timeouts.idle) = (Duration::MAX, Duration::MAX, Duration::MAX);
        let mut session = Session::new(config, 1);
        let mut operation = Operation::new(Pinging::new("r.example".parse().unwrap()));
        let cut = asked(Err(FailureKind::Cut), 600);
        assert!(operation.after_event(&session.at(Time::ZERO), &cut).is_none());
    }

    #[test]
    fn a_machine_that_slept_has_no_patience_to_lose() {
        for (slept, is_given_up) in [(3600, false), (0, true)] {
            let config = Config { patience: Duration::from_secs(300), ..Config::default() };
            let mut session = Session::new(config, 1);
            let mut operation = Operation::new(Pinging::new("r.example".parse().unwrap()));
            let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
            assert!(operation.after_event(&session.at(at(10)), &retrying(1)).is_none());
            // It wanted to be asked again in a second, and was after an hour; or all the time.
            operation.due = Some(at(3611 - slept));
            operation.after_wait(at(3611));
            let last = operation.after_event(&session.at(at(3611)), &retrying(1));
            assert_eq!(last.is_some(), is_given_up, "{last:?}");
        }
    }

    #[test]
    fn the_clock_runs_while_there_is_nothing_but_trouble() {
        let cut = || asked(Err(FailureKind::Cut), 1);
        let in_vain = || asked(Ok(503), 1);
        assert!(!is_given_up(&[cut(), retrying(1), in_vain(), retrying(1), cut(), retrying(1)]));
        assert!(is_given_up(&[cut(), retrying(1), in_vain(), retrying(1), cut(), retrying(61)]));
        assert!(!is_given_up(&[cut(), retrying(1), asked(Ok(404), 1), retrying(1), cut(), retrying(180)]));
        // A body that was on its way for so long has got ahead until it was cut.
        let long = asked(Err(FailureKind::Cut), 600);
        assert!(!is_given_up(&[cut(), retrying(1), long, retrying(1), cut(), retrying(170)]));
        let waiting = |seconds| Event::Waiting { origin: "r".into(), after: Duration::from_secs(seconds) };
        assert!(is_given_up(&[waiting(1), waiting(u64::MAX)]), "a sum that can't be expressed");
        assert!(!is_given_up(&[waiting(300)]));
        assert!(is_given_up(&[waiting(301)]));
    }
}
