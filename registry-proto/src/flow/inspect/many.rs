//! Looking at many images at once.

use crate::error::Error;
use crate::flow::{Context, Each, Fleet, Flow, Inspect, Inspected, Step, ready};
use crate::job::Completion;
use crate::spec::Reference;

/// Looks at many references side by side, as many at a time as
/// [`requests_per_registry`](crate::Config::requests_per_registry) says. One that fails does not stop the others.
///
/// Asks what [`Inspect`] asks.
///
/// Yields a result for each reference, in their order.
///
/// # Errors
/// Only [`Error::Cancelled`](crate::Error::Cancelled): all others are results.
#[derive(Debug)]
pub struct InspectMany {
    state: State,
}

#[derive(Debug)]
enum State {
    New(Vec<Reference>),
    Running(Box<Fleet<Each<Inspect>>>),
    Cancelled,
}

impl InspectMany {
    /// Of these references, of any registries.
    pub fn new(references: impl IntoIterator<Item = Reference>) -> Self {
        Self { state: State::New(references.into_iter().collect()) }
    }
}

impl Flow for InspectMany {
    type Output = Vec<Result<Inspected, Error>>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Self::Output> {
        loop {
            match &mut self.state {
                State::New(references) => {
                    let flows = std::mem::take(references).into_iter().map(|one| Each::new(Inspect::new(one)));
                    let fleet = Fleet::new(flows, cx.session.config().requests_per_registry);
                    self.state = State::Running(Box::new(fleet));
                }
                State::Running(fleet) => return Step::Done(ready!(fleet.poll(cx))),
                State::Cancelled => return Step::Done(Err(Error::Cancelled)),
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Running(fleet) => fleet.handle(cx, done),
            State::New(_) | State::Cancelled => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Running(fleet) => fleet.cancel(),
            State::New(_) => self.state = State::Cancelled,
            State::Cancelled => {}
        }
    }
}
