//! Copies an image from one repository to another, of the same registry or of two.
//!
//! ```text
//!   New ─▶ Fetching(the manifests) ─▶ Delivering(blobs, manifests, the tag) ─▶ the end
//! ```
//!
//! Nothing is written to disk. Within a registry blobs are mounted; between two they go through memory in
//! [pieces](crate::Config::piece), of which each blob under way has two at most. (Every tag of a repository, or what refers
//! to an image, would be more trees to fetch and more targets to deliver to, found out in a state before `Fetching`.)

use std::collections::BTreeMap;

use crate::flow::tree::{FetchTree, Tree};

use crate::error::Error;
use crate::flow::deliver::{Deliver, PushedReference, Supply, Target, Totals};
use crate::flow::upload::{Content, Load};
use crate::flow::{Context, Fleet, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Digest, Origin, Platform, Reference, Repository, RepositoryName, Tag};

/// Copies an image (or an index with all its images) from one reference to another, byte for byte, so that its digest stays
/// what it was.
///
/// Blobs that the destination has are left alone, those that it can mount from the source are mounted, and the others are
/// brought side by side ([`Config::transfers`](crate::Config::transfers) at a time, the largest first, each once). Then come
/// the manifests, children before parents, and the tag. If the destination has the image already, only the tag is put.
///
/// Foreign layers stay where they are.
///
/// Yields what was [`Copied`].
#[derive(Debug)]
pub struct Copy {
    source: Reference,
    destination: Reference,
    state: State,
}

/// What to copy of what a reference names.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Of an index only the image for this platform, which then is what the destination leads to.
    pub platform: Option<Platform>,
}

/// The result of a [`Copy`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The digest of the image, there as here.
    pub digest: Digest,
    /// What leads to it now.
    pub references: Vec<PushedReference>,
    /// What became of its blobs.
    pub totals: Totals,
}

#[derive(Debug)]
enum State {
    Fetching(Fleet<FetchTree>),
    Delivering(Box<Deliver<Remote>>, Digest),
    Over,
}

/// The blobs of another repository.
#[derive(Debug)]
struct Remote {
    repository: Repository,
    origin: Origin,
    /// Whether blobs can be mounted from it: not into itself.
    is_another: bool,
    sizes: BTreeMap<Digest, u64>,
}

impl Supply for Remote {
    fn load(&self, digest: &Digest) -> Option<Load> {
        let size = *self.sizes.get(digest)?;
        Some(Load { digest: digest.clone(), size, content: Content::Remote(self.repository.clone()) })
    }

    fn holder(&self, origin: &Origin) -> Option<RepositoryName> {
        (self.is_another && *origin == self.origin).then(|| self.repository.name().clone())
    }
}

impl Copy {
    /// A copy of what `source` names, by its digest or tag, to `destination`: under its tag, or by its digest alone, or as
    /// `latest` if it has neither.
    pub fn new(source: Reference, destination: Reference, options: CopyOptions) -> Self {
        let tree = FetchTree::new(source.clone(), options.platform);
        let state = State::Fetching(Fleet::new([tree], std::num::NonZeroUsize::MIN));
        Self { source, destination, state }
    }

    fn after_fetching(&self, cx: &Context<'_>, trees: Vec<Tree>) -> Result<State, Error> {
        let repository = self.destination.repository();
        let origin = cx.origin(repository.registry())?;
        let mut targets = Vec::new();
        let mut sizes = BTreeMap::new();
        for tree in trees {
            let root = tree.root.digest();
            if let Some(named) = self.destination.digest().filter(|digest| *digest != root) {
                let (source, destination) = (&self.source, &self.destination);
                return Err(Error::Misuse(format!("{destination} names {named}, but {source} is {root}")));
            }
            targets.push(Target {
                repository: repository.clone(),
                origin: origin.clone(),
                root: tree.root,
                tags: self.tag().into_iter().collect(),
                manifests: tree.manifests,
                blobs: tree.blobs.iter().map(|blob| blob.digest.clone()).collect(),
            });
            sizes.extend(tree.blobs.into_iter().map(|blob| (blob.digest, blob.size)));
        }
        let digest = targets.first().map(|target| target.root.digest().clone());
        let digest = digest.ok_or_else(|| Error::Misuse(format!("{}: nothing to copy", self.source)))?;
        let holder = self.source.repository();
        let source_origin = cx.origin(holder.registry())?;
        let is_another = (&source_origin, holder.name()) != (&origin, repository.name());
        let supply = Remote { repository: holder.clone(), origin: source_origin, is_another, sizes };
        Ok(State::Delivering(Box::new(Deliver::new(supply, targets)), digest))
    }

    fn tag(&self) -> Option<Tag> {
        match (self.destination.tag(), self.destination.digest()) {
            (Some(tag), _) => Some(tag.clone()),
            (None, Some(_)) => None,
            (None, None) => Some(Tag::latest()),
        }
    }
}

impl Flow for Copy {
    type Output = Copied;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Copied> {
        loop {
            self.state = match &mut self.state {
                State::Fetching(fleet) => {
                    let trees = ready!(fleet.poll(cx));
                    match trees.and_then(|trees| self.after_fetching(cx, trees)) {
                        Ok(state) => state,
                        Err(why) => {
                            self.state = State::Over;
                            return Step::Done(Err(why));
                        }
                    }
                }
                State::Delivering(deliver, digest) => {
                    let delivered = ready!(deliver.poll(cx));
                    let digest = digest.clone();
                    self.state = State::Over;
                    return Step::Done(delivered.map(|done| Copied {
                        digest,
                        references: done.references,
                        totals: done.totals,
                    }));
                }
                State::Over => panic!("polled after it was done"),
            };
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Fetching(fleet) => fleet.handle(cx, done),
            State::Delivering(deliver, _) => deliver.handle(cx, done),
            State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Fetching(fleet) => fleet.cancel(),
            State::Delivering(deliver, _) => deliver.cancel(),
            State::Over => {}
        }
    }
}
