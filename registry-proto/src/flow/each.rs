//! A flow whose failure is a result.

use std::fmt;

use crate::error::Error;
use crate::flow::{Context, Flow, Step, ready};
use crate::job::Completion;

/// Runs a flow and yields what came of it, good or bad: in a [`Fleet`](crate::flow::Fleet), whose first failure stops the
/// others, one that fails this way stops nobody.
pub struct Each<F> {
    flow: F,
    forgives: fn(&Error) -> bool,
}

impl<F> Each<F> {
    /// Whatever goes wrong is a result.
    pub const fn new(flow: F) -> Self {
        Self { flow, forgives: |_| true }
    }

    /// What `forgives` says yes to is a result; any other failure stays one.
    pub(crate) const fn forgiving(flow: F, forgives: fn(&Error) -> bool) -> Self {
        Self { flow, forgives }
    }
}

impl<F: Flow> Flow for Each<F> {
    type Output = Result<F::Output, Error>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Self::Output> {
        Step::Done(match ready!(self.flow.poll(cx)) {
            // Nobody asks for the results of what was stopped.
            Err(why) if matches!(why, Error::Cancelled) || !(self.forgives)(&why) => Err(why),
            result => Ok(result),
        })
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        self.flow.handle(cx, done)
    }

    fn cancel(&mut self) {
        self.flow.cancel();
    }
}

impl<F: fmt::Debug> fmt::Debug for Each<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Each").field(&self.flow).finish()
    }
}
