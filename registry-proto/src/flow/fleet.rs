//! Many flows at once, so many at a time.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use crate::error::Error;
use crate::flow::{Context, Flow, Step, wind_down};
use crate::job::Completion;
use crate::time::Time;

/// Runs flows side by side, at most `width` at a time, in the order given. Yields their outputs in that order.
///
/// The first failure cancels the others, waits until they have wound down, and is the fleet's own.
///
/// ```
/// # use registry_proto::archive::make::MemoryDisk;
/// # use registry_proto::testing::registry::{self, Profile};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::{Fleet, Pinging};
/// use registry_proto::spec::Registry;
/// use std::num::NonZeroUsize;
///
/// # let registry = registry::Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry.clone(), MemoryDisk::default()).with_registry("localhost:5001", registry);
/// # let mut session = Session::new(Config::default(), 1);
/// let eight = NonZeroUsize::new(8).expect("not 0");
/// let registries: [Registry; 2] = ["localhost:5000".parse()?, "localhost:5001".parse()?];
/// let ran = world.run(&mut session, Fleet::new(registries.map(Pinging::new), eight));
/// assert_eq!(ran.result?.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Fleet<F: Flow> {
    queue: VecDeque<(usize, F)>,
    live: Vec<(usize, F)>,
    outputs: Vec<Option<F::Output>>,
    width: NonZeroUsize,
    gate: Option<Gate<F>>,
    /// Who is asked first: the turn goes round, so that a busy child doesn't keep the others from starting.
    turn: usize,
    failure: Option<Error>,
}

/// A narrower place on the way of each flow, at which it waits until it is let through.
#[derive(Debug)]
struct Gate<F> {
    width: NonZeroUsize,
    waits: fn(&F) -> bool,
    open: fn(&mut F),
    /// Those that were let through and are not done.
    through: Vec<usize>,
}

impl<F> Gate<F> {
    /// Lets through whom there is room for, in the fleet's order. Whether there was somebody.
    fn let_through(&mut self, live: &mut [(usize, F)]) -> bool {
        let before = self.through.len();
        while self.through.len() < self.width.get() {
            let waiting = live.iter_mut().filter(|(_, flow)| (self.waits)(flow));
            let Some((index, flow)) = waiting.min_by_key(|(index, _)| *index) else { break };
            (self.open)(flow);
            self.through.push(*index);
        }
        self.through.len() > before
    }
}

impl<F: Flow> Fleet<F> {
    /// A fleet of `flows`, `width` of them at a time.
    pub fn new(flows: impl IntoIterator<Item = F>, width: NonZeroUsize) -> Self {
        let queue: VecDeque<_> = flows.into_iter().enumerate().collect();
        let outputs = queue.iter().map(|_| None).collect();
        Self { queue, live: Vec::new(), outputs, width, gate: None, turn: 0, failure: None }
    }

    /// With a gate that lets `width` of them through at a time: what comes behind it is harder than what comes before. `waits`:
    /// whether a flow has come to it; `open`: lets it go on.
    pub(crate) fn gated(mut self, width: NonZeroUsize, waits: fn(&F) -> bool, open: fn(&mut F)) -> Self {
        self.gate = Some(Gate { width, waits, open, through: Vec::new() });
        self
    }

    fn wind_down(&mut self, why: Error) {
        if self.failure.is_none() {
            self.failure = Some(why);
        }
        self.queue.clear();
        for (_, flow) in &mut self.live {
            flow.cancel();
        }
    }
}

impl<F: Flow> Flow for Fleet<F> {
    type Output = Vec<F::Output>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Self::Output> {
        let mut until: Option<Time> = None;
        let mut idle = 0;
        loop {
            while self.live.len() < self.width.get()
                && let Some(next) = self.queue.pop_front()
            {
                self.live.push(next);
                idle = 0;
            }
            if self.live.is_empty() {
                return Step::Done(match self.failure.take() {
                    Some(why) => Err(why),
                    None => Ok(std::mem::take(&mut self.outputs).into_iter().flatten().collect()),
                });
            }
            if self.gate.as_mut().is_some_and(|gate| gate.let_through(&mut self.live)) {
                (idle, until) = (0, None);
            }
            if idle == self.live.len() {
                return Step::Wait(until);
            }
            self.turn %= self.live.len();
            let (index, flow) = &mut self.live[self.turn];
            let step = if self.failure.is_some() { wind_down(flow, cx) } else { flow.poll(cx) };
            match step {
                Step::Run(job) => {
                    self.turn += 1;
                    return Step::Run(job);
                }
                Step::Abort(job) => return Step::Abort(job),
                Step::Note(event) => return Step::Note(event),
                Step::Wait(time) => {
                    until = until.into_iter().chain(time).min();
                    idle += 1;
                    self.turn += 1;
                }
                Step::Done(result) => {
                    let index = *index;
                    self.live.swap_remove(self.turn);
                    if let Some(gate) = &mut self.gate {
                        gate.through.retain(|through| *through != index);
                    }
                    // Those asked so far may be affected by what the finished one did: ask them all again.
                    (idle, until) = (0, None);
                    match result {
                        Ok(output) => self.outputs[index] = Some(output),
                        Err(why) => self.wind_down(why),
                    }
                }
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, mut done: Completion) -> Result<(), Completion> {
        for (_, flow) in &mut self.live {
            match flow.handle(cx, done) {
                Ok(()) => return Ok(()),
                Err(not_mine) => done = not_mine,
            }
        }
        Err(done)
    }

    fn cancel(&mut self) {
        self.wind_down(Error::Cancelled);
    }
}
