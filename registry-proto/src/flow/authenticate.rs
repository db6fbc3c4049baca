//! Is one let in?

use crate::endpoint::ping::{self, Ping};
use crate::error::Error;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Origin, Registry};

/// Shows a registry what is configured for it, to see whether it lets one in: `GET /v2/` (end-1), and whatever its challenge
/// asks for. Nothing is stored anywhere.
///
/// Yields what was [`Authenticated`].
///
/// ```
/// # use registry_proto::archive::make::MemoryDisk;
/// # use registry_proto::testing::registry::{Auth, Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// use registry_proto::flow::Authenticate;
/// use registry_proto::{Config, Credential, Error, Session};
///
/// # let mut profile = Profile::distribution_3();
/// # profile.requires_auth = Some(Auth::basic("user", "right"));
/// # let mut world = Simulation::new(1, Registry::new(profile), MemoryDisk::default());
/// let registry = "localhost:5000".parse()?;
/// for password in ["right", "wrong"] {
///     let mut config = Config::default();
///     config.log_in(&registry, Credential::password("user", password));
///     let ran = world.run(&mut Session::new(config, 1), Authenticate::new(registry.clone()));
///     match ran.result {
///         Ok(authenticated) => assert!(authenticated.challenged && password == "right"),
///         Err(why) => assert!(matches!(why, Error::Denied(_)) && password == "wrong"),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Denied`] when it does not let one in, which says why; else those of [`Pinging`](crate::flow::Pinging).
#[derive(Debug)]
pub struct Authenticate {
    registry: Registry,
    asking: Option<(Origin, Exchange)>,
    cancelled: bool,
}

/// The result of [`Authenticate`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authenticated {
    /// What answered in the end.
    pub ping: Ping,
    /// Whether it wanted to be shown anything. If not, what is configured for it is neither right nor wrong.
    pub challenged: bool,
}

impl Authenticate {
    /// At this registry.
    pub const fn new(registry: Registry) -> Self {
        Self { registry, asking: None, cancelled: false }
    }
}

impl Flow for Authenticate {
    type Output = Authenticated;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Authenticated> {
        if self.asking.is_none() {
            if self.cancelled {
                return Step::Done(Err(Error::Cancelled));
            }
            let origin = match cx.origin(&self.registry) {
                Ok(origin) => origin,
                Err(why) => return Step::Done(Err(why)),
            };
            let mut ask = ping::ask(&origin, &cx.session.config().limits);
            ask.authenticate = true;
            self.asking = Some((origin, Exchange::new(ask, &self.registry)));
        }
        let (origin, exchange) = self.asking.as_mut().expect("it was just made");
        let answer = ready!(exchange.poll(cx));
        Step::Done(match answer.and_then(Answer::into_reply) {
            Ok(reply) => ping::read(origin, &reply).map(|ping| {
                let challenged = cx.session.tokens.knows(origin);
                Authenticated { ping, challenged }
            }),
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
