//! Copies images from one repository to another, of the same registry or of two.
//!
//! ```text
//!   one image:                  New ─▶ Fetching(all manifests) ─┬──────────────────────────────────▶ Delivering ─▶ the end
//!                                         ▲                     └─▶ Attaching(what refers to it) ─▶   ▲   │
//!   all tags:   New ─▶ Naming ─▶ Looking(at the next few) ─▶ Fetching … ──────────────────────────────┘   │
//!                                   ▲                                                                     │
//!                                   └───────────────────────── while there are more ──────────────────────┘
//! ```
//!
//! Nothing is written to disk. Within a registry blobs are mounted; between two they go through memory in
//! [pieces](crate::Config::piece), of which each blob under way has two at most. Of all tags only a few are in memory at a
//! time, with their manifests; a blob that they share goes once, since the session knows it to be there.

mod options;
mod referrers;
mod remote;

pub use options::{Copied, CopyOptions, LeftOut};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroUsize;

use http::StatusCode;

use referrers::{FetchReferrers, Referring};
use remote::Remote;

use crate::endpoint::referrers::listed_under_tag;
use crate::error::Error;
use crate::event::Event;
use crate::flow::deliver::{Deliver, Delivered, PushedReference, Target, Totals};
use crate::flow::tree::{FetchTree, Tree};
use crate::flow::{Collected, Context, Each, FetchManifest, Fleet, Flow, ListTags, Step, ready};
use crate::job::Completion;
use crate::spec::{Digest, Manifest, Reference, Repository, Tag};

/// How many tags are copied together: what they lead to is in memory.
const TOGETHER: usize = 16;

/// Copies an image (or an index with all its images) from one reference to another, byte for byte, so that its digest stays
/// what it was. With [`CopyOptions`], every tag of a repository, and what refers to the images.
///
/// Blobs that the destination has are left alone, those that it can mount from the source are mounted, and the others are
/// brought side by side ([`Config::transfers`](crate::Config::transfers) at a time, the largest first, each once). Then come
/// the manifests, children before parents, then what refers to them, and the tag at the end. If the destination has the image
/// already, only the tag is put.
///
/// Foreign layers stay where they are.
///
/// Reads manifests (end-3) and blobs (end-2) of the one, of all tags lists them (end-8), and puts blobs (end-4 to end-6, end-11) and
/// manifests (end-7) into the other.
///
/// Yields what was [`Copied`].
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::{Copy, CopyOptions};
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let other = Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default()).with_registry("localhost:5001", other);
/// # let mut session = Session::new(Config::default(), 1);
/// let (source, destination) = ("localhost:5000/app:v1".parse()?, "localhost:5001/mirror/app:v1".parse()?);
/// let ran = world.run(&mut session, Copy::new(source, destination, CopyOptions::default()));
/// assert_eq!(ran.result?.totals.sent, 2, "the layer and the configuration");
/// # let digest = world.registry_of("localhost:5000").tagged("app", "v1");
/// # assert_eq!(world.registry_of("localhost:5001").tagged("mirror/app", "v1"), digest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`] when the image is not there or the destination does not take it, [`Error::Denied`] by either, [`Error::Integrity`]
/// and [`Error::Protocol`] when the source hands out something else, [`Error::Unsuitable`] when there is nothing to copy or more than
/// is taken, [`Error::Misuse`] when the references don't fit together.
#[derive(Debug)]
pub struct Copy {
    source: Reference,
    destination: Reference,
    options: CopyOptions,
    /// Tags that are still to be copied.
    tags: VecDeque<Tag>,
    /// What was taken for a list of referrers and is none: it goes like everything else.
    strays: Vec<Tagged>,
    batch: Batch,
    /// As far as it is.
    references: Vec<PushedReference>,
    referrers: Vec<Digest>,
    left_out: Vec<LeftOut>,
    totals: Totals,
    notes: VecDeque<Event>,
    state: State,
}

/// What some tags lead to.
#[derive(Debug)]
struct Tagged {
    root: Manifest,
    tags: Vec<Tag>,
}

/// What is copied together.
#[derive(Debug, Default)]
struct Batch {
    /// Each with the tags that will lead to it.
    trees: Vec<(Tree, Vec<Tag>)>,
    /// Lists of what refers to these manifests.
    lists: Vec<(Digest, Tagged)>,
}

#[derive(Debug)]
enum State {
    New,
    Naming(Box<Collected<ListTags>>),
    Looking(Fleet<Each<FetchManifest>>, Vec<Tag>),
    Fetching(Fleet<Each<FetchTree>>, Vec<Vec<Tag>>),
    Attaching(Box<FetchReferrers>),
    Delivering(Box<Deliver<Remote>>),
    Settled(Box<Result<Copied, Error>>),
    Over,
}

impl Copy {
    /// A copy of what `source` names, by its digest or tag, to `destination`: under its tag, or by its digest alone, or as
    /// `latest` if it has neither.
    pub fn new(source: Reference, destination: Reference, options: CopyOptions) -> Self {
        Self {
            source,
            destination,
            options,
            tags: VecDeque::new(),
            strays: Vec::new(),
            batch: Batch::default(),
            references: Vec::new(),
            referrers: Vec::new(),
            left_out: Vec::new(),
            totals: Totals::default(),
            notes: VecDeque::new(),
            state: State::New,
        }
    }

    fn repository(&self) -> &Repository {
        self.source.repository()
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn start(&self) -> Result<State, Error> {
        let (source, destination) = (&self.source, &self.destination);
        if !self.options.all_tags {
            let tree = FetchTree::new(source.clone(), self.options.platform.clone());
            let fleet = Fleet::new([Each::forgiving(tree, |_| false)], NonZeroUsize::MIN);
            return Ok(State::Fetching(fleet, vec![self.tag().into_iter().collect()]));
        }
        for named in [source, destination] {
            if named.tag().is_some() || named.digest().is_some() {
                let why = "to copy all tags of a repository, name it without a tag or digest";
                return Err(Error::Misuse(format!("`{named}`: {why}")));
            }
        }
        Ok(State::Naming(Box::new(ListTags::new(self.repository().clone()).collected())))
    }

    fn after_naming(&mut self, cx: &Context<'_>, names: Vec<String>) -> Result<State, Error> {
        // A name that is no tag was not listed.
        self.tags = names.iter().filter_map(|name| name.parse().ok()).collect();
        if self.tags.is_empty() {
            return Err(Error::Unsuitable(format!("{} has no tags: there is nothing to copy", self.repository())));
        }
        self.next_few(cx)
    }

    fn next_few(&mut self, cx: &Context<'_>) -> Result<State, Error> {
        if !self.strays.is_empty() {
            let strays = std::mem::take(&mut self.strays);
            return Ok(self.fetch(cx, strays));
        }
        if self.tags.is_empty() {
            return self.end().map(|copied| settled(Ok(copied)));
        }
        let tags: Vec<Tag> = self.tags.drain(..TOGETHER.min(self.tags.len())).collect();
        let look = |tag| Each::forgiving(FetchManifest::new(&self.tagged(tag)), is_bearable);
        let looks: Vec<_> = tags.iter().map(look).collect();
        Ok(State::Looking(Fleet::new(looks, cx.session.config().transfers), tags))
    }

    fn after_looking(&mut self, cx: &Context<'_>, tags: Vec<Tag>, found: Vec<Result<Manifest, Error>>) -> State {
        let mut images: Vec<Tagged> = Vec::new();
        for (tag, found) in tags.into_iter().zip(found) {
            let root = match found {
                Ok(root) => root,
                Err(why) => {
                    self.leave_out(&tag, &why);
                    continue;
                }
            };
            let list = subject_of(&tag).filter(|subject| listed_under_tag(&root, subject).is_some());
            if let Some(subject) = list {
                self.batch.lists.push((subject, Tagged { root, tags: vec![tag] }));
            } else if let Some(same) = images.iter_mut().find(|image| image.root.digest() == root.digest()) {
                same.tags.push(tag);
            } else {
                images.push(Tagged { root, tags: vec![tag] });
            }
        }
        self.fetch(cx, images)
    }

    fn fetch(&self, cx: &Context<'_>, images: Vec<Tagged>) -> State {
        let (mut fetches, mut tags) = (Vec::new(), Vec::new());
        for image in images {
            let tree = FetchTree::new(self.tagged(&image.tags[0]), self.options.platform.clone()).below(image.root);
            fetches.push(Each::forgiving(tree.one_of(TOGETHER as u64), is_bearable));
            tags.push(image.tags);
        }
        State::Fetching(Fleet::new(fetches, cx.session.config().transfers), tags)
    }

    fn after_fetching(
        &mut self,
        cx: &Context<'_>,
        tags: Vec<Vec<Tag>>,
        trees: Vec<Result<Tree, Error>>,
    ) -> Result<State, Error> {
        for (tags, tree) in tags.into_iter().zip(trees) {
            match tree {
                Ok(tree) => self.batch.trees.push((tree, tags)),
                Err(why) => tags.iter().for_each(|tag| self.leave_out(tag, &why)),
            }
        }
        let manifests = self.batch.trees.iter().flat_map(|(tree, _)| &tree.manifests).map(Manifest::digest);
        let about: Vec<Digest> = manifests.filter(|_| self.options.referrers).cloned().collect();
        let entries = |(subject, list): &(Digest, Tagged)| {
            (subject.clone(), listed_under_tag(&list.root, subject).unwrap_or_default().to_vec())
        };
        let listed: Vec<_> = self.batch.lists.iter().map(entries).collect();
        if about.is_empty() && listed.is_empty() {
            return self.deliver(cx, Referring::default());
        }
        let fetch = FetchReferrers::new(self.repository().clone(), about, listed, self.options.referrers);
        Ok(State::Attaching(Box::new(fetch)))
    }

    fn after_attaching(&mut self, cx: &Context<'_>, referring: Referring) -> Result<State, Error> {
        for (subject, list) in std::mem::take(&mut self.batch.lists) {
            let refers = |tree: &Tree| tree.root.subject().is_some_and(|named| named.digest == subject);
            let is_empty = list.root.index().is_some_and(|index| index.manifests.is_empty());
            if !is_empty && !referring.trees.iter().any(refers) {
                self.strays.push(list);
            }
        }
        self.deliver(cx, referring)
    }

    fn deliver(&mut self, cx: &Context<'_>, referring: Referring) -> Result<State, Error> {
        self.left_out.extend(referring.left_out);
        self.referrers.extend(referring.trees.iter().map(|tree| tree.root.digest().clone()));
        let mut seen: BTreeSet<Digest> = BTreeSet::new();
        let (mut targets, mut sizes) = (Vec::new(), BTreeMap::new());
        for (tree, tags) in std::mem::take(&mut self.batch.trees) {
            let root = tree.root.digest();
            if let Some(named) = self.destination.digest().filter(|digest| *digest != root) {
                let (source, destination) = (&self.source, &self.destination);
                return Err(Error::Misuse(format!("{destination} names {named}, but {source} is {root}")));
            }
            seen.insert(root.clone());
            targets.push(self.target(cx, tree, tags, false, &mut sizes)?);
        }
        for tree in referring.trees {
            // (It may have a tag, too.)
            if seen.insert(tree.root.digest().clone()) {
                targets.push(self.target(cx, tree, Vec::new(), true, &mut sizes)?);
            }
        }
        let supply = Remote::new(cx, self.repository(), self.destination.repository(), sizes)?;
        Ok(State::Delivering(Box::new(Deliver::new(supply, targets))))
    }

    fn after_delivering(&mut self, cx: &Context<'_>, delivered: Delivered) -> Result<State, Error> {
        self.references.extend(delivered.references);
        self.totals.add(delivered.totals);
        self.next_few(cx)
    }

    fn end(&mut self) -> Result<Copied, Error> {
        let digest = self.references.first().map(|first| first.digest.clone()).ok_or_else(|| {
            let why = self.left_out.first().map_or("there is nothing to copy", |left_out| &left_out.why);
            Error::Unsuitable(format!("{}: nothing was copied: {why}", self.repository()))
        })?;
        Ok(Copied {
            digest,
            references: std::mem::take(&mut self.references),
            referrers: std::mem::take(&mut self.referrers),
            left_out: std::mem::take(&mut self.left_out),
            totals: self.totals,
        })
    }

    // ── what the transitions are made of ─────────────────────────────────────────────────────────────────────────────

    /// The tag that the destination names.
    fn tag(&self) -> Option<Tag> {
        match (self.destination.tag(), self.destination.digest()) {
            (Some(tag), _) => Some(tag.clone()),
            (None, Some(_)) => None,
            (None, None) => Some(Tag::latest()),
        }
    }

    fn tagged(&self, tag: &Tag) -> Reference {
        Reference::new(self.repository().clone()).with_tag(tag.clone())
    }

    fn target(
        &self,
        cx: &Context<'_>,
        tree: Tree,
        tags: Vec<Tag>,
        attached: bool,
        sizes: &mut BTreeMap<Digest, u64>,
    ) -> Result<Target, Error> {
        let repository = self.destination.repository().clone();
        let origin = cx.origin(repository.registry())?;
        let blobs = tree.blobs.iter().map(|blob| blob.digest.clone()).collect();
        sizes.extend(tree.blobs.into_iter().map(|blob| (blob.digest, blob.size)));
        Ok(Target { repository, origin, root: tree.root, tags, attached, manifests: tree.manifests, blobs })
    }

    fn leave_out(&mut self, tag: &Tag, why: &Error) {
        let reference = self.tagged(tag);
        self.notes.push_back(Event::Notice(format!("{reference} is left out: {why}")));
        self.left_out.push(LeftOut { reference, why: why.to_string() });
    }
}

/// What is wrong with one manifest only: it is gone since it was listed, or can't be copied by anybody.
fn is_bearable(why: &Error) -> bool {
    matches!(why, Error::Misuse(_) | Error::Unsuitable(_)) || why.status() == Some(StatusCode::NOT_FOUND)
}

/// Of what a tag lists the referrers, if it is one that clients keep such lists under.
fn subject_of(tag: &Tag) -> Option<Digest> {
    let (algorithm, encoded) = tag.as_str().split_once('-')?;
    let subject: Digest = format!("{algorithm}:{encoded}").parse().ok()?;
    (subject.is_verifiable() && Tag::of_referrers(&subject) == *tag).then_some(subject)
}

fn settled(result: Result<Copied, Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for Copy {
    type Output = Copied;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Copied> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            let next = match &mut self.state {
                State::New => self.start(),
                State::Naming(names) => match ready!(names.poll(cx)) {
                    Ok(names) => self.after_naming(cx, names),
                    Err(why) => Err(why),
                },
                State::Looking(fleet, tags) => match ready!(fleet.poll(cx)) {
                    Ok(found) => {
                        let tags = std::mem::take(tags);
                        Ok(self.after_looking(cx, tags, found))
                    }
                    Err(why) => Err(why),
                },
                State::Fetching(fleet, tags) => match ready!(fleet.poll(cx)) {
                    Ok(trees) => {
                        let tags = std::mem::take(tags);
                        self.after_fetching(cx, tags, trees)
                    }
                    Err(why) => Err(why),
                },
                State::Attaching(fetch) => match ready!(fetch.poll(cx)) {
                    Ok(referring) => self.after_attaching(cx, referring),
                    Err(why) => Err(why),
                },
                State::Delivering(deliver) => match ready!(deliver.poll(cx)) {
                    Ok(delivered) => self.after_delivering(cx, delivered),
                    Err(why) => Err(why),
                },
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => return Step::Done(*result),
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
            self.state = next.unwrap_or_else(|why| settled(Err(why)));
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Naming(names) => names.handle(cx, done),
            State::Looking(fleet, _) => fleet.handle(cx, done),
            State::Fetching(fleet, _) => fleet.handle(cx, done),
            State::Attaching(fetch) => fetch.handle(cx, done),
            State::Delivering(deliver) => deliver.handle(cx, done),
            State::New | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Naming(names) => names.cancel(),
            State::Looking(fleet, _) => fleet.cancel(),
            State::Fetching(fleet, _) => fleet.cancel(),
            State::Attaching(fetch) => fetch.cancel(),
            State::Delivering(deliver) => deliver.cancel(),
            State::New => self.state = settled(Err(Error::Cancelled)),
            State::Settled(_) | State::Over => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_are_lists() {
        let subject = |tag: &str| subject_of(&tag.parse().unwrap());
        let digest = Digest::of(b"x");
        assert_eq!(subject(Tag::of_referrers(&digest).as_str()), Some(digest));
        let hex = "a".repeat(64);
        // (What stands for a longer hash is only its beginning.)
        for other in
            ["v1", "latest", "sha256-abc", &format!("sha256-{hex}.sig"), &format!("sha512-{hex}"), &format!("x-{hex}")]
        {
            assert_eq!(subject(other), None, "{other}");
        }
    }
}
