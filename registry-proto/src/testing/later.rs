//! A flow for which time goes by more quickly than for everybody else.

use std::fmt;
use std::time::Duration;

use crate::job::Completion;
use crate::{Context, Flow, Step, Time};

/// A flow whose clock is ahead of its driver's, by as much as a test wants at the moment. What takes a token's lifetime takes a
/// test no time, though sockets and everything that goes over them are real.
///
/// ```
/// use std::time::Duration;
/// use registry_proto::flow::Pinging;
/// use registry_proto::testing::later::Later;
///
/// let flow = Later::new(Pinging::new("localhost:5000".parse()?), || Duration::from_secs(3600));
/// # drop(flow);
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
pub struct Later<'a, F> {
    flow: F,
    ahead: Box<dyn Fn() -> Duration + Send + 'a>,
}

impl<'a, F> Later<'a, F> {
    /// `ahead`: by how much, which may only grow.
    pub fn new(flow: F, ahead: impl Fn() -> Duration + Send + 'a) -> Self {
        Self { flow, ahead: Box::new(ahead) }
    }
}

impl<F: Flow> Flow for Later<'_, F> {
    type Output = F::Output;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<F::Output> {
        let ahead = (self.ahead)();
        let by_the_driver = |until: Time| Time::from_epoch(until.since_epoch().saturating_sub(ahead));
        match self.flow.poll(&mut cx.session.at(cx.now + ahead)) {
            Step::Wait(until) => Step::Wait(until.map(by_the_driver)),
            other => other,
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        self.flow.handle(&mut cx.session.at(cx.now + (self.ahead)()), done)
    }

    fn cancel(&mut self) {
        self.flow.cancel();
    }
}

impl<F: fmt::Debug> fmt::Debug for Later<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Later").field("flow", &self.flow).finish_non_exhaustive()
    }
}
