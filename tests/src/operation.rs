//! Operations of every kind as one kind of flow, so that they can be run side by side.

use std::fmt;
use std::path::PathBuf;

use registry_proto::flow::{
    Copy, CopyOptions, DeleteManifest, Destination, Inspect, ListCatalog, ListTags, Pull, PullOptions, Pulled, Push,
    PushOptions, Pushed, Retag, Untag,
};
use registry_proto::job::Completion;
use registry_proto::spec::{Digest, Reference, Registry, Repository};
use registry_proto::{Context, Flow, Step};

/// Something to be done.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "their names are those of the flows' parameters")]
pub enum Operation {
    Push { archive: PathBuf, to: Destination },
    Pull { from: Reference, wanted: Digest, options: PullOptions, out: PathBuf },
    Copy { from: Reference, to: Reference, root: Digest },
    Tag { from: Reference, tag: String, root: Digest },
    Inspect { from: Reference, root: Digest },
    Tags(Repository),
    Catalog(Registry),
    Delete(Reference),
    Untag(Reference),
}

/// What came of it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "they are the flows' outputs")]
pub enum Came {
    Pushed(Pushed),
    Pulled(Pulled),
    Copied(Digest),
    Tagged(Digest),
    Inspected(Digest),
    Listed(Vec<String>),
    Deleted,
}

/// An operation that was started.
pub struct Running(Box<dyn Flow<Output = Came>>);

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Running").finish_non_exhaustive()
    }
}

impl Operation {
    /// The flow that does it.
    ///
    /// # Panics
    /// When it has no tag that is one.
    pub fn start(&self) -> Running {
        Running(match self.clone() {
            Self::Push { archive, to } => {
                Box::new(Yielding(Push::new(archive.as_path(), to, PushOptions::default()), Came::Pushed))
            }
            Self::Pull { from, options, out, .. } => Box::new(Yielding(Pull::new([from], out, options), Came::Pulled)),
            Self::Copy { from, to, .. } => {
                let copy = Copy::new(from, to, CopyOptions::default());
                Box::new(Yielding(copy, |copied: registry_proto::flow::Copied| Came::Copied(copied.digest)))
            }
            Self::Tag { from, tag, .. } => {
                let tag = Retag::new(&from, [tag.parse().unwrap()]);
                Box::new(Yielding(tag, |tagged: registry_proto::spec::Descriptor| Came::Tagged(tagged.digest)))
            }
            Self::Inspect { from, .. } => {
                let inspect = Inspect::new(from);
                let digest = |found: registry_proto::flow::Inspected| Came::Inspected(found.digest().clone());
                Box::new(Yielding(inspect, digest))
            }
            Self::Tags(repository) => Box::new(Yielding(ListTags::new(repository).collected(), Came::Listed)),
            Self::Catalog(registry) => Box::new(Yielding(ListCatalog::new(registry).collected(), Came::Listed)),
            Self::Delete(reference) => Box::new(Yielding(DeleteManifest::new(&reference), |_| Came::Deleted)),
            Self::Untag(reference) => {
                let tag = reference.tag().cloned().unwrap();
                Box::new(Yielding(Untag::new(reference.repository().clone(), tag), |_| Came::Deleted))
            }
        })
    }
}

impl Flow for Running {
    type Output = Came;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Came> {
        self.0.poll(cx)
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        self.0.handle(cx, done)
    }

    fn cancel(&mut self) {
        self.0.cancel();
    }
}

/// A flow, and what its output is among those of others.
struct Yielding<F, M>(F, M);

impl<F: Flow, M: Fn(F::Output) -> Came> Flow for Yielding<F, M> {
    type Output = Came;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Came> {
        match self.0.poll(cx) {
            Step::Done(result) => Step::Done(result.map(&self.1)),
            Step::Run(job) => Step::Run(job),
            Step::Abort(id) => Step::Abort(id),
            Step::Note(event) => Step::Note(event),
            Step::Wait(until) => Step::Wait(until),
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        self.0.handle(cx, done)
    }

    fn cancel(&mut self) {
        self.0.cancel();
    }
}
