//! Is there a registry?

use crate::endpoint::ping::{self, Ping};
use crate::error::Error;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Origin, Registry};

/// Asks a registry whether it is one, and how it wants to be authenticated: `GET /v2/` (end-1). Needs no credentials.
///
/// Yields a [`Ping`].
///
/// ```
/// # use registry_proto::archive::make::MemoryDisk;
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::Pinging;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let ran = world.run(&mut session, Pinging::new("localhost:5000".parse()?));
/// assert!(ran.result?.challenges.is_empty(), "it lets anybody in");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`] and [`Error::Protocol`] when it answers as no registry does, [`Error::Transport`] when nobody answers,
/// [`Error::Misuse`] when its name is no address.
#[derive(Debug)]
pub struct Pinging {
    registry: Registry,
    asking: Option<(Origin, Exchange)>,
    cancelled: bool,
}

impl Pinging {
    /// A question to this registry.
    pub const fn new(registry: Registry) -> Self {
        Self { registry, asking: None, cancelled: false }
    }
}

impl Flow for Pinging {
    type Output = Ping;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Ping> {
        if self.asking.is_none() {
            if self.cancelled {
                return Step::Done(Err(Error::Cancelled));
            }
            let origin = match cx.origin(&self.registry) {
                Ok(origin) => origin,
                Err(why) => return Step::Done(Err(why)),
            };
            let ask = ping::ask(&origin, &cx.session.config().limits);
            self.asking = Some((origin, Exchange::new(ask, &self.registry)));
        }
        let (origin, exchange) = self.asking.as_mut().expect("it was just made");
        let answer = ready!(exchange.poll(cx));
        Step::Done(match answer.and_then(Answer::into_reply) {
            Ok(reply) => ping::read(origin, &reply),
            Err(why) => Err(why),
        })
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.asking {
            Some((_, exchange)) => exchange.handle(cx, done),
            None => Err(done),
        }
    }

    fn cancel(&mut self) {
        self.cancelled = true;
        if let Some((_, exchange)) = &mut self.asking {
            exchange.cancel();
        }
    }
}
