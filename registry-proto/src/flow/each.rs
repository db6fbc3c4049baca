//! A flow whose failure is a result.

use std::fmt;

use crate::error::Error;
use crate::flow::{Context, Flow, Step, ready};
use crate::job::Completion;

/// Runs a flow and yields what came of it, good or bad: in a [`Fleet`](crate::flow::Fleet), whose first failure stops the
/// others, one that fails this way stops nobody.
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::{Each, Fleet, Resolve};
/// use std::num::NonZeroUsize;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let references = ["localhost:5000/app:v1".parse()?, "localhost:5000/app:missing".parse()?];
/// let flows = references.map(|reference| Each::new(Resolve::new(reference)));
/// let ran = world.run(&mut session, Fleet::new(flows, NonZeroUsize::MIN));
/// let results = ran.result?;
/// assert!(results[0].is_ok() && results[1].is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
