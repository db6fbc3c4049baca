//! Fetching a small blob into memory.

use bytes::Bytes;

use crate::endpoint::{Mirrored, blob};
use crate::error::Error;
use crate::event::Event;
use crate::flow::exchange::reject;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::{Completion, FailureKind};
use crate::spec::{Descriptor, Repository};

/// Fetches a small blob, such as an image's configuration, into memory: `GET /v2/<name>/blobs/<digest>` (end-2). It has to
/// have the digest and the size of its descriptor, and is at most [`Limits::config`](crate::session::Limits::config) long.
///
/// Yields its bytes, verified.
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::{FetchBlob, FetchManifest};
/// use registry_proto::spec::{ManifestContent, Reference};
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let reference: Reference = "localhost:5000/app:v1".parse()?;
/// let manifest = world.run(&mut session, FetchManifest::new(&reference)).result?;
/// let ManifestContent::Image(image) = manifest.content() else { panic!("an image") };
/// let layer = image.layers[0].clone();
/// let ran = world.run(&mut session, FetchBlob::new(reference.repository().clone(), layer));
/// assert_eq!(ran.result?, "a layer");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`] when it is not there, [`Error::Denied`], [`Error::Integrity`] when it is not what its digest says,
/// [`Error::Protocol`] when it is larger than it should be, or than is taken.
#[derive(Debug)]
pub struct FetchBlob {
    repository: Repository,
    expected: Descriptor,
    note: Option<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Asking(Exchange),
    Cancelled,
}

impl FetchBlob {
    /// Of what a descriptor points to.
    pub const fn new(repository: Repository, expected: Descriptor) -> Self {
        Self { repository, expected, note: None, state: State::New }
    }

    /// The request, unless there is no use in asking.
    fn ask(&self, cx: &Context<'_>) -> Result<Exchange, Error> {
        let origin = cx.origin(self.repository.registry())?;
        let limits = cx.session.config().limits;
        let (name, digest, size) = (self.repository.name(), &self.expected.digest, self.expected.size);
        // A byte too many shows as such: what is longer than its descriptor says is not read to its end.
        let limit = usize::try_from(size).unwrap_or(usize::MAX);
        let ask =
            blob::get_small(&origin, name, digest, limit.min(limits.config), &limits).mirrored(Mirrored::ByDigest);
        let most = limits.config;
        if size > most as u64 {
            let what = format!("a manifest says that it has {size} bytes; only {most} are taken (`Limits::config`)");
            return Err(Error::Protocol { asked: ask.asked(), what });
        }
        Ok(Exchange::new(ask, self.repository.registry()))
    }

    /// `None`: it was a mirror's, and is something else; somebody else is to be asked.
    fn after_answer(&mut self, cx: &mut Context<'_>, answer: Result<Answer, Error>) -> Option<Result<Bytes, Error>> {
        Some(match answer.and_then(Answer::into_reply) {
            Ok(reply) => match blob::read_small(&reply, &self.expected) {
                Ok(bytes) => Ok(bytes),
                Err(why) => {
                    self.note = reject(cx, &reply, &why.to_string());
                    return self.note.is_none().then_some(Err(why));
                }
            },
            Err(Error::Transport { asked, last, .. }) if last.kind() == FailureKind::TooLarge => {
                let what = format!("the content has more than the {} bytes that its manifest says", self.expected.size);
                Err(Error::Protocol { asked, what })
            }
            Err(why) => Err(why),
        })
    }
}

impl Flow for FetchBlob {
    type Output = Bytes;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Bytes> {
        loop {
            if let Some(note) = self.note.take() {
                return Step::Note(note);
            }
            match &mut self.state {
                State::New => match self.ask(cx) {
                    Ok(exchange) => self.state = State::Asking(exchange),
                    Err(why) => return Step::Done(Err(why)),
                },
                State::Asking(exchange) => {
                    let answer = ready!(exchange.poll(cx));
                    match self.after_answer(cx, answer) {
                        Some(result) => return Step::Done(result),
                        None => self.state = State::New,
                    }
                }
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
