//! Fetching one manifest.

use std::collections::VecDeque;

use crate::endpoint::{Mirrored, Reply, manifest};
use crate::error::Error;
use crate::event::Event;
use crate::flow::exchange::reject;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Descriptor, Manifest, Reference, Repository, TagOrDigest};

/// Fetches a manifest or an index by tag or digest: `GET /v2/<name>/manifests/<reference>` (end-3). Its bytes are kept as
/// they came; asked for by digest, they are verified.
///
/// Yields a [`Manifest`].
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::FetchManifest;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let ran = world.run(&mut session, FetchManifest::new(&"localhost:5000/app:v1".parse()?));
/// let manifest = ran.result?;
/// assert_eq!(manifest.media_type().as_str(), "application/vnd.oci.image.manifest.v1+json");
/// assert_eq!(Some(manifest.digest().clone()), world.registry().tagged("app", "v1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`] when it is not there, [`Error::Denied`], [`Error::Integrity`] when it is not what its digest says,
/// [`Error::Protocol`] when it is no manifest or larger than is taken.
#[derive(Debug)]
pub struct FetchManifest {
    repository: Repository,
    reference: TagOrDigest,
    expected: Option<Descriptor>,
    /// Whether mirrors are believed as far as they are trusted.
    mirrored: bool,
    notes: VecDeque<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Asking(Exchange),
    Cancelled,
}

impl FetchManifest {
    /// Of the image that a reference names: by its digest if it has one, else by its tag, else `latest`.
    pub fn new(reference: &Reference) -> Self {
        Self {
            repository: reference.repository().clone(),
            reference: reference.target(),
            expected: None,
            mirrored: true,
            notes: VecDeque::new(),
            state: State::New,
        }
    }

    /// Of what a descriptor points to, such as one of an index's manifests: its digest, size and type have to be right.
    pub fn described(repository: Repository, descriptor: Descriptor) -> Self {
        let reference = TagOrDigest::Digest(descriptor.digest.clone());
        let (expected, notes) = (Some(descriptor), VecDeque::new());
        Self { repository, reference, expected, mirrored: true, notes, state: State::New }
    }

    /// From the registry itself, whatever mirrors it has: for whoever is about to change something there.
    #[must_use]
    pub(crate) const fn unmirrored(mut self) -> Self {
        self.mirrored = false;
        self
    }

    fn after_reply(&mut self, cx: &mut Context<'_>, reply: &Reply) -> Option<Result<Manifest, Error>> {
        let why = match manifest::read(reply, &self.reference, self.expected.as_ref()) {
            Ok(manifest) => return Some(Ok(manifest)),
            Err(why) => why,
        };
        let Some(note) = reject(cx, reply, &why.to_string()) else { return Some(Err(why)) };
        self.notes.push_back(note);
        None
    }
}

impl Flow for FetchManifest {
    type Output = Manifest;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Manifest> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            match &mut self.state {
                State::New => {
                    let origin = match cx.origin(self.repository.registry()) {
                        Ok(origin) => origin,
                        Err(why) => return Step::Done(Err(why)),
                    };
                    let limits = cx.session.config().limits;
                    let by = if self.mirrored { Mirrored::by(&self.reference) } else { Mirrored::Never };
                    let ask = manifest::get(&origin, self.repository.name(), &self.reference, &limits).mirrored(by);
                    self.state = State::Asking(Exchange::new(ask, self.repository.registry()));
                }
                State::Asking(exchange) => match ready!(exchange.poll(cx)).and_then(Answer::into_reply) {
                    Ok(reply) => match self.after_reply(cx, &reply) {
                        Some(result) => return Step::Done(result),
                        None => self.state = State::New,
                    },
                    Err(why) => return Step::Done(Err(why)),
                },
                State::Cancelled => return Step::Done(Err(Error::Cancelled)),
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Asking(exchange) => exchange.handle(cx, done),
            State::New | State::Cancelled => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Asking(exchange) => exchange.cancel(),
            State::New => self.state = State::Cancelled,
            State::Cancelled => {}
        }
    }
}
