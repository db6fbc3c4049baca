//! What a client has learned about registries.

use crate::flow::{Context, Flow, Step};
use crate::job::Completion;
use crate::session::Lessons;

/// Yields what a client's session has [learned](crate::Session::lessons) about registries so far, to be kept for the
/// [configuration](crate::Config::learned) of another. It asks nobody.
///
/// ```
/// # use registry_proto::archive::make::MemoryDisk;
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// use registry_proto::flow::Recall;
/// use registry_proto::{Config, Session};
///
/// # let mut world = Simulation::new(1, Registry::new(Profile::distribution_3()), MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// // With a client: client.run(Recall::default())
/// let lessons = world.run(&mut session, Recall::default()).result?;
/// let text = serde_json::to_string(&lessons)?;
/// assert_eq!(text, "{}"); // It has not met anybody yet.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Recall {}

impl Flow for Recall {
    type Output = Lessons;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Lessons> {
        Step::Done(Ok(cx.session.lessons().clone()))
    }

    fn handle(&mut self, _: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        Err(done)
    }

    fn cancel(&mut self) {}
}
