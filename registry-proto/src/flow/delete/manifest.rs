//! Deleting a manifest.
//!
//! ```text
//!   New ─▶ Identifying(what the tag leads to) ─┬─ proven, or named by its digest ─▶ Removing ─┬─▶ Settled
//!                                              └─ neither ─▶ Settled (Err)                    │      ▲
//!                                                            it has a subject, whose list has it ─▶ Unlisting
//! ```

use crate::error::Error;
use crate::event::Event;
use crate::flow::delete::{Deleted, Remove};
use crate::flow::identify::{Found, Identified, Identify};
use crate::flow::referrers::Relist;
use crate::flow::{Context, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Digest, Origin, Reference, Repository, TagOrDigest};

/// Deletes a manifest: `DELETE /v2/<name>/manifests/<digest>` (end-9).
///
/// By digest, or by a tag that is resolved to the digest first. **The manifest goes, and every tag that leads to it**;
/// to delete a tag and keep the manifest, see [`Untag`](super::Untag). Blobs stay until the registry collects its garbage,
/// and so do the manifests that an index names.
///
/// Where clients keep the list of what refers to a manifest, one that refers to another is taken off its list.
///
/// The tag may come to mean another manifest while this runs; what is deleted is what it meant when it was looked up.
///
/// Yields what was [`Deleted`].
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry, Support};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::DeleteManifest;
///
/// # let mut profile = Profile::distribution_3();
/// # (profile.delete, profile.delete_tags) = (Support::Yes, true);
/// # let mut registry = Registry::new(profile);
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let ran = world.run(&mut session, DeleteManifest::new(&"localhost:5000/app:v1".parse()?));
/// let deleted = ran.result?;
/// assert!(deleted.to_reference().to_string().starts_with("localhost:5000/app@sha256:"));
/// assert!(world.registry().tags("app").is_empty(), "the tag went with it");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`]: the manifest is not there (404), the registry deletes nothing (405), or not this one (409, 412).
/// [`Error::Misuse`]: the reference has neither tag nor digest (deleting `latest` because nothing was said is nobody's
/// wish), or its tag leads to a manifest whose digest can't be proven.
#[derive(Debug)]
pub struct DeleteManifest {
    repository: Repository,
    reference: Option<TagOrDigest>,
    note: Option<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Identifying(Origin, Identify),
    Removing(Remove, Option<Digest>),
    /// Off its subject's list.
    Unlisting(Box<Relist>, Deleted),
    Settled(Box<Result<Deleted, Error>>),
    Over,
}

impl DeleteManifest {
    /// What this leads to, by its digest if it has one.
    pub fn new(reference: &Reference) -> Self {
        let said = reference.tag().is_some() || reference.digest().is_some();
        let target = said.then(|| reference.target());
        Self { repository: reference.repository().clone(), reference: target, note: None, state: State::New }
    }

    fn identify(&self, cx: &Context<'_>) -> Result<State, Error> {
        let reference = self.reference.clone().ok_or_else(|| {
            Error::Misuse(format!("`{0}` does not say what to delete: give a tag or a digest", self.repository))
        })?;
        let origin = cx.origin(self.repository.registry())?;
        Ok(State::Identifying(origin.clone(), Identify::new(self.repository.clone(), origin, reference)))
    }

    fn after_identify(&self, origin: Origin, identified: Identified) -> Result<State, Error> {
        let found = match identified {
            Identified::As(found) => found,
            Identified::Missing(why) => return Err(why),
        };
        let by_digest = matches!(self.reference, Some(TagOrDigest::Digest(_)));
        match found {
            Found { digest, proven, subject, .. } if proven || by_digest => {
                let remove = Remove::new(self.repository.clone(), origin, TagOrDigest::Digest(digest));
                Ok(State::Removing(remove, subject))
            }
            Found { digest, .. } => Err(Error::Misuse(format!(
                "the registry says that the tag leads to {digest}, but the bytes don't have that digest, as with images \
                 of Docker's schema 1: delete {}@{digest} if that is meant",
                self.repository
            ))),
        }
    }
}

impl DeleteManifest {
    fn after_remove(&self, cx: &Context<'_>, deleted: Deleted, subject: Option<Digest>) -> Result<State, Error> {
        let (Some(subject), TagOrDigest::Digest(digest)) = (subject, &deleted.reference) else {
            return Ok(State::Settled(Box::new(Ok(deleted))));
        };
        let origin = cx.origin(self.repository.registry())?;
        let relist = Relist::without(self.repository.clone(), origin, subject, digest.clone());
        Ok(State::Unlisting(Box::new(relist), deleted))
    }

    /// The manifest is gone, whatever came of the list.
    fn after_unlist(&mut self, deleted: Deleted, unlisted: Result<(), Error>) -> State {
        if let Err(why) = unlisted {
            let what = "it is still on the list of what refers to its subject";
            self.note = Some(Event::Notice(format!("{} is deleted, but {what}: {why}", deleted.to_reference())));
        }
        State::Settled(Box::new(Ok(deleted)))
    }
}

impl Flow for DeleteManifest {
    type Output = Deleted;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Deleted> {
        loop {
            if let Some(note) = self.note.take() {
                return Step::Note(note);
            }
            let next = match &mut self.state {
                State::New => self.identify(cx),
                State::Identifying(origin, identify) => match ready!(identify.poll(cx)) {
                    Ok(identified) => {
                        let origin = origin.clone();
                        self.after_identify(origin, identified)
                    }
                    Err(why) => Err(why),
                },
                State::Removing(remove, subject) => match ready!(remove.poll(cx)) {
                    Ok(deleted) => {
                        let subject = subject.take();
                        self.after_remove(cx, deleted, subject)
                    }
                    Err(why) => Err(why),
                },
                State::Unlisting(relist, deleted) => {
                    let unlisted = ready!(relist.poll(cx));
                    let deleted = deleted.clone();
                    Ok(self.after_unlist(deleted, unlisted))
                }
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => return Step::Done(*result),
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
            self.state = next.unwrap_or_else(|why| State::Settled(Box::new(Err(why))));
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Identifying(_, identify) => identify.handle(cx, done),
            State::Removing(remove, _) => remove.handle(cx, done),
            State::Unlisting(relist, _) => relist.handle(cx, done),
            State::New | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Identifying(_, identify) => identify.cancel(),
            State::Removing(remove, _) => remove.cancel(),
            State::Unlisting(relist, _) => relist.cancel(),
            State::New => self.state = State::Settled(Box::new(Err(Error::Cancelled))),
            State::Settled(_) | State::Over => {}
        }
    }
}
