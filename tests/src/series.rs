//! Several flows of a kind, one after another, on one client.

use std::collections::VecDeque;
use std::fmt;

use registry_proto::job::Completion;
use registry_proto::{Context, Error, Flow, Step};

/// Runs flows one after another and yields what came of each. What is between them can be watched: connections are kept,
/// tokens are remembered.
pub struct Series<F: Flow> {
    flows: VecDeque<F>,
    results: Vec<Result<F::Output, Error>>,
    between: Box<dyn FnMut(usize) + Send>,
}

impl<F: Flow> Series<F> {
    /// These flows, in this order.
    pub fn new(flows: impl IntoIterator<Item = F>) -> Self {
        Self { flows: flows.into_iter().collect(), results: Vec::new(), between: Box::new(|_| {}) }
    }

    /// Called after each of the flows with the number of those that are done. It may block.
    #[must_use]
    pub fn between(mut self, call: impl FnMut(usize) + Send + 'static) -> Self {
        self.between = Box::new(call);
        self
    }
}

impl<F: Flow> Flow for Series<F> {
    type Output = Vec<Result<F::Output, Error>>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Self::Output> {
        while let Some(flow) = self.flows.front_mut() {
            match flow.poll(cx) {
                Step::Done(result) => {
                    self.results.push(result);
                    self.flows.pop_front();
                    (self.between)(self.results.len());
                }
                Step::Run(job) => return Step::Run(job),
                Step::Abort(id) => return Step::Abort(id),
                Step::Note(event) => return Step::Note(event),
                Step::Wait(until) => return Step::Wait(until),
            }
        }
        Step::Done(Ok(std::mem::take(&mut self.results)))
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match self.flows.front_mut() {
            Some(flow) => flow.handle(cx, done),
            None => Err(done),
        }
    }

    fn cancel(&mut self) {
        self.flows.truncate(1);
        if let Some(flow) = self.flows.front_mut() {
            flow.cancel();
        }
    }
}

impl<F: Flow> fmt::Debug for Series<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series").field("left", &self.flows.len()).finish_non_exhaustive()
    }
}
