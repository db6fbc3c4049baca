//! Deleting a tag alone.

use http::StatusCode;

use crate::endpoint::Reply;
use crate::error::Error;
use crate::flow::delete::{Deleted, Remove, remove};
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Origin, Repository, Tag, TagOrDigest};

/// Deletes a tag and leaves the manifest: `DELETE /v2/<name>/manifests/<tag>` (end-9).
///
/// Not every registry can: distribution 2 wants a digest (400 or 405), and what it then deletes is the manifest with all
/// its tags ([`DeleteManifest`](super::DeleteManifest)). That is never done instead of this.
///
/// Yields what was [`Deleted`].
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry, Support};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::Untag;
///
/// # let mut profile = Profile::distribution_3();
/// # (profile.delete, profile.delete_tags) = (Support::Yes, true);
/// # let mut registry = Registry::new(profile);
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// # let repository = "localhost:5000/app".parse::<registry_proto::spec::Reference>()?.repository().clone();
/// world.run(&mut session, Untag::new(repository, "v1".parse()?)).result?;
/// assert!(world.registry().tags("app").is_empty());
/// assert_eq!(world.registry().manifests("app").len(), 1, "it is still there, by its digest");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`]: the tag is not there (404), or the registry does not delete tags (400, 405).
#[derive(Debug)]
pub struct Untag {
    repository: Repository,
    tag: TagOrDigest,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Looking(Origin, Exchange),
    Removing(Remove),
    Settled(Box<Result<Deleted, Error>>),
    Over,
}

impl Untag {
    /// This tag of this repository.
    pub const fn new(repository: Repository, tag: Tag) -> Self {
        Self { repository, tag: TagOrDigest::Tag(tag), state: State::New }
    }

    fn look(&self, cx: &Context<'_>) -> State {
        match cx.origin(self.repository.registry()) {
            Ok(origin) => {
                let ask = remove::look(&origin, &self.repository, &self.tag, cx);
                State::Looking(origin, Exchange::new(ask, self.repository.registry()))
            }
            Err(why) => State::Settled(Box::new(Err(why))),
        }
    }

    fn after_look(&self, origin: Origin, reply: &Reply) -> State {
        if reply.status == StatusCode::NOT_FOUND {
            let why = reply.refusal(Some("there is no such tag: check the repository's name and the tag"));
            return State::Settled(Box::new(Err(why)));
        }
        State::Removing(Remove::new(self.repository.clone(), origin, self.tag.clone()))
    }
}

impl Flow for Untag {
    type Output = Deleted;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Deleted> {
        loop {
            self.state = match &mut self.state {
                State::New => self.look(cx),
                State::Looking(origin, exchange) => match ready!(exchange.poll(cx)).and_then(Answer::into_reply) {
                    Ok(reply) => {
                        let origin = origin.clone();
                        self.after_look(origin, &reply)
                    }
                    Err(why) => State::Settled(Box::new(Err(why))),
                },
                State::Removing(remove) => State::Settled(Box::new(ready!(remove.poll(cx)))),
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => return Step::Done(*result),
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Looking(_, exchange) => exchange.handle(cx, done),
            State::Removing(remove) => remove.handle(cx, done),
            State::New | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Looking(_, exchange) => exchange.cancel(),
            State::Removing(remove) => remove.cancel(),
            State::New => self.state = State::Settled(Box::new(Err(Error::Cancelled))),
            State::Settled(_) | State::Over => {}
        }
    }
}
