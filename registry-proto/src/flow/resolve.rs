//! Finding out what a reference leads to.

use crate::endpoint::{Mirrored, manifest};
use crate::error::Error;
use crate::flow::{Answer, Context, Exchange, FetchManifest, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Descriptor, Reference};

/// Finds out which manifest or index a reference leads to: `HEAD /v2/<name>/manifests/<reference>` (end-3), which costs no
/// pull where pulls are counted.
///
/// ```text
///   new ─▶ Looking ─┬─ digest, length and a known type ─▶ done, in the registry's word
///                   └─ anything else ─▶ Fetching ───────▶ done, verified (or an error that explains itself)
/// ```
///
/// Yields a [`Descriptor`]. The digest of a tag is the registry's word as long as nobody has fetched what it names; whoever
/// then asks for it by that digest gets these bytes or an error.
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::Resolve;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let ran = world.run(&mut session, Resolve::new("localhost:5000/app:v1".parse()?));
/// assert_eq!(Some(ran.result?.digest), world.registry().tagged("app", "v1"));
/// assert_eq!(ran.requests[0].line, "HEAD http://localhost:5000/v2/app/manifests/v1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`] when it leads to nothing, [`Error::Denied`]; and where it had to be fetched, those of [`FetchManifest`].
#[derive(Debug)]
pub struct Resolve {
    reference: Reference,
    mirrored: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Looking(Exchange),
    Fetching(FetchManifest),
    Cancelled,
}

impl Resolve {
    /// Of a reference: by its digest if it has one, else by its tag, else `latest`.
    pub const fn new(reference: Reference) -> Self {
        Self { reference, mirrored: true, state: State::New }
    }

    /// From the registry itself, whatever mirrors it has.
    #[must_use]
    pub(crate) const fn unmirrored(mut self) -> Self {
        self.mirrored = false;
        self
    }

    fn fetch(&self) -> FetchManifest {
        let fetch = FetchManifest::new(&self.reference);
        if self.mirrored { fetch } else { fetch.unmirrored() }
    }
}

impl Flow for Resolve {
    type Output = Descriptor;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Descriptor> {
        let repository = self.reference.repository();
        loop {
            match &mut self.state {
                State::New => {
                    let origin = match cx.origin(repository.registry()) {
                        Ok(origin) => origin,
                        Err(why) => return Step::Done(Err(why)),
                    };
                    let limits = cx.session.config().limits;
                    let target = self.reference.target();
                    let by = if self.mirrored { Mirrored::by(&target) } else { Mirrored::Never };
                    let ask = manifest::look(&origin, repository.name(), &target, &limits).mirrored(by);
                    self.state = State::Looking(Exchange::new(ask, repository.registry()));
                }
                State::Looking(exchange) => match ready!(exchange.poll(cx)).and_then(Answer::into_reply) {
                    Ok(reply) => {
                        let limits = cx.session.config().limits;
                        match manifest::told(&reply, &self.reference.target(), &limits) {
                            Some(descriptor) => return Step::Done(Ok(descriptor)),
                            None => self.state = State::Fetching(self.fetch()),
                        }
                    }
                    Err(why) => return Step::Done(Err(why)),
                },
                State::Fetching(fetch) => {
                    return Step::Done(ready!(fetch.poll(cx)).map(|manifest| manifest.descriptor()));
                }
                State::Cancelled => return Step::Done(Err(Error::Cancelled)),
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Looking(exchange) => exchange.handle(cx, done),
            State::Fetching(fetch) => fetch.handle(cx, done),
            State::New | State::Cancelled => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Looking(exchange) => exchange.cancel(),
            State::Fetching(fetch) => fetch.cancel(),
            State::New => self.state = State::Cancelled,
            State::Cancelled => {}
        }
    }
}
