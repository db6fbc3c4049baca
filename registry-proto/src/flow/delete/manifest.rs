//! Deleting a manifest.

use crate::error::Error;
use crate::flow::delete::{Deleted, Remove};
use crate::flow::identify::{Found, Identified, Identify};
use crate::flow::{Context, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Origin, Reference, Repository, TagOrDigest};

/// Deletes a manifest: `DELETE /v2/<name>/manifests/<digest>` (end-9).
///
/// By digest, or by a tag that is resolved to the digest first. **The manifest goes, and every tag that leads to it**;
/// to delete a tag and keep the manifest, see [`Untag`](super::Untag). Blobs stay until the registry collects its garbage,
/// and so do the manifests that an index names.
///
/// The tag may come to mean another manifest while this runs; what is deleted is what it meant when it was looked up.
///
/// Yields what was [`Deleted`].
///
/// # Errors
/// [`Error::Registry`]: the manifest is not there (404), the registry deletes nothing (405), or not this one (409, 412).
/// [`Error::Misuse`]: the reference has neither tag nor digest (deleting `latest` because nothing was said is nobody's
/// wish), or its tag leads to a manifest whose digest can't be proven.
#[derive(Debug)]
pub struct DeleteManifest {
    repository: Repository,
    reference: Option<TagOrDigest>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Identifying(Origin, Identify),
    Removing(Remove),
    Settled(Box<Result<Deleted, Error>>),
    Over,
}

impl DeleteManifest {
    /// What this leads to, by its digest if it has one.
    pub fn new(reference: &Reference) -> Self {
        let said = reference.tag().is_some() || reference.digest().is_some();
        let target = said.then(|| reference.target());
        Self { repository: reference.repository().clone(), reference: target, state: State::New }
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
            Found { digest, proven, .. } if proven || by_digest => {
                Ok(State::Removing(Remove::new(self.repository.clone(), origin, TagOrDigest::Digest(digest))))
            }
            Found { digest, .. } => Err(Error::Misuse(format!(
                "the registry says that the tag leads to {digest}, but the bytes don't have that digest, as with images \
                 of Docker's schema 1: delete {}@{digest} if that is meant",
                self.repository
            ))),
        }
    }
}

impl Flow for DeleteManifest {
    type Output = Deleted;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Deleted> {
        loop {
            let next = match &mut self.state {
                State::New => self.identify(cx),
                State::Identifying(origin, identify) => match ready!(identify.poll(cx)) {
                    Ok(identified) => {
                        let origin = origin.clone();
                        self.after_identify(origin, identified)
                    }
                    Err(why) => Err(why),
                },
                State::Removing(remove) => Ok(State::Settled(Box::new(ready!(remove.poll(cx))))),
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
            State::Removing(remove) => remove.handle(cx, done),
            State::New | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Identifying(_, identify) => identify.cancel(),
            State::Removing(remove) => remove.cancel(),
            State::New => self.state = State::Settled(Box::new(Err(Error::Cancelled))),
            State::Settled(_) | State::Over => {}
        }
    }
}
