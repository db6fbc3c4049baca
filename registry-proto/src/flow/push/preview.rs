//! What a push would do, without doing it.
//!
//! ```text
//!   Reading(the archive), or Known ─▶ Finding(roots by digest) ─▶ Looking(for the blobs of those that are missing) ─▶ the end
//! ```

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use crate::archive::Archive;
use crate::error::Error;
use crate::event::BlobId;
use crate::flow::deliver::{Errand, PushedReference, Target, digest_of, errands, has_root};
use crate::flow::push::{Destination, PushOptions, plan};
use crate::flow::{Context, Fleet, Flow, HasBlob, HasManifest, Held, ReadArchive, Step, ready};
use crate::job::Completion;
use crate::spec::Repository;

/// Finds out what a [`Push`](crate::flow::Push) with the same arguments would send, by asking and sending nothing.
///
/// Asks `HEAD` for manifests (end-3) and blobs (end-2).
///
/// Yields what was [`Previewed`].
///
/// ```
/// # use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::{Destination, Preview, PushOptions};
/// # use std::path::Path;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::with("app.tar", make::docker_save_oci(&[SampleImage::new(&["app:v1"], &[b"a layer"])])));
/// # let mut session = Session::new(Config::default(), 1);
/// let to = Destination::Reference("localhost:5000/app:v1".parse()?);
/// let ran = world.run(&mut session, Preview::new(Path::new("app.tar"), to, PushOptions::default()));
/// let previewed = ran.result?;
/// assert_eq!((previewed.missing.len(), previewed.present), (2, 0));
/// assert!(world.registry().repositories().is_empty(), "nothing was sent");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of a push, as far as they show by asking: [`Error::Archive`], [`Error::Misuse`], [`Error::Unsuitable`], [`Error::Denied`] and
/// [`Error::Transport`].
#[derive(Debug)]
pub struct Preview {
    to: Destination,
    options: PushOptions,
    targets: Vec<Target>,
    archive: Option<Box<Archive>>,
    errands: Vec<Errand>,
    mounts: usize,
    state: State,
}

/// The result of a [`Preview`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Previewed {
    /// The references that would lead to their images.
    pub references: Vec<PushedReference>,
    /// The blobs that would be sent, and where to.
    pub missing: Vec<(Repository, BlobId)>,
    /// How many blobs the registry has already.
    pub present: usize,
    /// How many blobs would be mounted from a repository that they are sent to first.
    pub mounts: usize,
}

impl Previewed {
    /// How many bytes of blobs would be sent.
    pub fn bytes(&self) -> u64 {
        self.missing.iter().map(|(_, blob)| blob.size).sum()
    }
}

#[derive(Debug)]
enum State {
    Known,
    Reading(ReadArchive),
    Finding(Fleet<HasManifest>),
    Looking(Fleet<HasBlob>),
    Over,
}

impl Preview {
    /// Of a push with the same arguments.
    pub fn new(archive: impl Into<Arc<Path>>, to: Destination, options: PushOptions) -> Self {
        Self {
            to,
            options,
            targets: Vec::new(),
            archive: None,
            errands: Vec::new(),
            mounts: 0,
            state: State::Reading(ReadArchive::new(archive)),
        }
    }

    /// Of a push of what goes by, of which it is known what it holds.
    pub fn known(archive: Archive, to: Destination, options: PushOptions) -> Self {
        let path = Arc::clone(archive.path());
        Self { archive: Some(Box::new(archive)), state: State::Known, ..Self::new(path, to, options) }
    }

    /// What the archive holds is known: what is there of it?
    fn after_reading(&mut self, cx: &Context<'_>, archive: Box<Archive>) -> Result<State, Error> {
        self.targets = plan::targets(cx.session, &archive, &self.to, &self.options)?;
        let roots: Vec<_> = self.targets.iter().map(|target| has_root(target, digest_of(&target.root))).collect();
        self.archive = Some(archive);
        Ok(State::Finding(Fleet::new(roots, cx.session.config().transfers)))
    }

    fn previewed(&self, there: &[Held]) -> Previewed {
        let missing: Vec<_> = self
            .errands
            .iter()
            .zip(there)
            .filter(|(_, there)| matches!(there, Held::Absent(_)))
            .map(|(errand, _)| {
                let blob = BlobId { digest: errand.blob.digest.clone(), size: errand.blob.size };
                (errand.repository.clone(), blob)
            })
            .collect();
        let references = self.targets.iter().flat_map(|target| {
            target.references().into_iter().map(|reference| PushedReference {
                repository: target.repository.clone(),
                reference,
                digest: target.root.digest().clone(),
            })
        });
        let all: usize = self.targets.iter().map(|target| target.blobs.len()).sum();
        Previewed {
            references: references.collect(),
            present: all.saturating_sub(missing.len() + self.mounts),
            missing,
            mounts: self.mounts,
        }
    }
}

impl Flow for Preview {
    type Output = Previewed;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Previewed> {
        let width: NonZeroUsize = cx.session.config().transfers;
        loop {
            self.state = match &mut self.state {
                State::Known | State::Reading(_) => {
                    let read = match &mut self.state {
                        State::Reading(reading) => ready!(reading.poll(cx)).map(Box::new),
                        _ => self.archive.take().ok_or(Error::Cancelled),
                    };
                    match read.and_then(|archive| self.after_reading(cx, archive)) {
                        Ok(state) => state,
                        Err(why) => {
                            self.state = State::Over;
                            return Step::Done(Err(why));
                        }
                    }
                }
                State::Finding(fleet) => match ready!(fleet.poll(cx)) {
                    Ok(complete) => {
                        let archive = self.archive.as_ref().expect("read in the state before");
                        let errands = errands(archive.as_ref(), &self.targets, &complete);
                        (self.errands, self.mounts) = (errands.first, errands.then.len());
                        let looks: Vec<_> = self
                            .errands
                            .iter()
                            .filter_map(|errand| {
                                let origin = cx.session.origin(errand.repository.registry())?;
                                let (digest, size) = (errand.blob.digest.clone(), errand.blob.size);
                                Some(HasBlob::new(errand.repository.clone(), origin, digest, size))
                            })
                            .collect();
                        State::Looking(Fleet::new(looks, width))
                    }
                    Err(why) => return Step::Done(Err(why)),
                },
                State::Looking(fleet) => {
                    let there = ready!(fleet.poll(cx));
                    self.state = State::Over;
                    return Step::Done(there.map(|there| self.previewed(&there)));
                }
                State::Over => panic!("polled after it was done"),
            };
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Reading(reading) => reading.handle(cx, done),
            State::Finding(fleet) => fleet.handle(cx, done),
            State::Looking(fleet) => fleet.handle(cx, done),
            State::Known | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Reading(reading) => reading.cancel(),
            State::Finding(fleet) => fleet.cancel(),
            State::Looking(fleet) => fleet.cancel(),
            State::Known => self.archive = None,
            State::Over => {}
        }
    }
}
