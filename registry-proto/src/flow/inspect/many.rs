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
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::InspectMany;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let references = ["localhost:5000/app:v1".parse()?, "localhost:5000/app:missing".parse()?];
/// let ran = world.run(&mut session, InspectMany::new(references));
/// let results = ran.result?;
/// assert!(results[0].is_ok());
/// assert_eq!(results[1].as_ref().unwrap_err().status().map(|status| status.as_u16()), Some(404));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
