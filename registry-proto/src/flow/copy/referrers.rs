//! What refers to an image, and what refers to that, and so on: fetched, as trees.
//!
//! ```text
//!   New ─▶ Listing(what refers to these) ─▶ Fetching(each with all below it) ─┬─ recursively ─▶ Listing …
//!                                                                             └─▶ the end
//! ```
//!
//! A list is anybody's word. What is on it and does not refer to what it should is left out, and so is what is not there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::error::Error;
use crate::event::Event;
use crate::flow::copy::{LeftOut, is_bearable};
use crate::flow::tree::{FetchTree, Tree};
use crate::flow::{Context, Each, Fleet, Flow, ListReferrers, Step, ready};
use crate::job::Completion;
use crate::spec::{Descriptor, Digest, Kind, Manifest, Reference, Repository};

/// Fetches what refers to some manifests of a repository.
#[derive(Debug)]
pub(super) struct FetchReferrers {
    repository: Repository,
    /// Whether what refers to the referrers is wanted, too.
    recursive: bool,
    /// What lists are still to be asked for.
    about: Vec<Digest>,
    /// What lists say that are here already.
    listed: Vec<(Digest, Vec<Descriptor>)>,
    /// Whose list was seen, and what is being brought.
    seen: BTreeSet<Digest>,
    found: Referring,
    count: usize,
    bytes: u64,
    depth: usize,
    notes: VecDeque<Event>,
    state: State,
}

/// What refers to something.
#[derive(Debug, Default)]
pub(super) struct Referring {
    pub(super) trees: Vec<Tree>,
    /// What refers to it as well, as far as can be told, but can't be copied.
    pub(super) left_out: Vec<LeftOut>,
}

#[derive(Debug)]
enum State {
    New,
    Listing(Fleet<ListReferrers>, Vec<Digest>),
    /// Each with those on whose lists it is.
    Fetching(Fleet<Each<FetchTree>>, Vec<(Digest, Vec<Digest>)>),
    Settled,
    Cancelled,
}

impl FetchReferrers {
    /// What refers to `about`, and, if it is recursive, to that. `listed`: what is known to be on the lists of others.
    pub(super) const fn new(
        repository: Repository,
        about: Vec<Digest>,
        listed: Vec<(Digest, Vec<Descriptor>)>,
        recursive: bool,
    ) -> Self {
        Self {
            repository,
            recursive,
            about,
            listed,
            seen: BTreeSet::new(),
            found: Referring { trees: Vec::new(), left_out: Vec::new() },
            count: 0,
            bytes: 0,
            depth: 0,
            notes: VecDeque::new(),
            state: State::New,
        }
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn list(&mut self, cx: &Context<'_>) -> State {
        let about: Vec<Digest> =
            std::mem::take(&mut self.about).into_iter().filter(|digest| self.seen.insert(digest.clone())).collect();
        let lists = about.iter().map(|subject| ListReferrers::new(&self.by_digest(subject))).collect::<Vec<_>>();
        State::Listing(Fleet::new(lists, cx.session.config().transfers), about)
    }

    fn after_listing(
        &mut self,
        cx: &Context<'_>,
        about: Vec<Digest>,
        lists: Vec<Vec<Descriptor>>,
    ) -> Result<State, Error> {
        self.listed.extend(about.into_iter().zip(lists));
        let mut wanted: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for (subject, list) in std::mem::take(&mut self.listed) {
            for one in list {
                if self.seen.contains(&one.digest) {
                    continue;
                }
                if matches!(one.media_type.kind(), Kind::Manifest | Kind::Index) {
                    wanted.entry(one.digest).or_default().push(subject.clone());
                } else {
                    let why = format!(
                        "which blobs belong to it can't be told: its type is not known here ({})",
                        one.media_type
                    );
                    self.leave_out(&one.digest, &subject, why);
                }
            }
        }
        self.count += wanted.len();
        let (most, deepest) = (cx.session.config().limits.manifests, cx.session.config().limits.index_depth);
        if self.count > most || (self.depth >= deepest && !wanted.is_empty()) {
            let what = format!("more than {most} manifests refer to what is copied, or {deepest} in a row");
            return Err(Error::Unsuitable(format!("{}: {what}, which is more than is taken", self.repository)));
        }
        self.depth += 1;
        // They are all in memory before the first is looked at.
        let tree = |digest| FetchTree::new(self.by_digest(digest), None).one_of(wanted.len() as u64);
        let fetches: Vec<_> = wanted.keys().map(|digest| Each::forgiving(tree(digest), is_bearable)).collect();
        let fetched: Vec<_> = wanted.into_iter().collect();
        Ok(State::Fetching(Fleet::new(fetches, cx.session.config().transfers), fetched))
    }

    fn after_fetching(
        &mut self,
        cx: &Context<'_>,
        fetched: Vec<(Digest, Vec<Digest>)>,
        trees: Vec<Result<Tree, Error>>,
    ) -> Result<State, Error> {
        for ((digest, subjects), tree) in fetched.into_iter().zip(trees) {
            match tree {
                Ok(tree) if subjects.iter().any(|subject| refers_to(&tree.root, subject)) => self.take(tree),
                Ok(_) => self.notice(&digest, &subjects[0], "it says nothing about it"),
                Err(why) if why.status().is_some() => self.notice(&digest, &subjects[0], &why.to_string()),
                Err(why) => self.leave_out(&digest, &subjects[0], why.to_string()),
            }
        }
        let most = cx.session.config().limits.below_index;
        if self.bytes > most {
            let what = format!("what refers to it has more than {most} bytes of manifests");
            return Err(Error::Unsuitable(format!("{}: {what}, which is more than is taken", self.repository)));
        }
        Ok(if self.about.is_empty() { State::Settled } else { self.list(cx) })
    }

    // ── what the transitions are made of ─────────────────────────────────────────────────────────────────────────────

    fn by_digest(&self, digest: &Digest) -> Reference {
        Reference::new(self.repository.clone()).with_digest(digest.clone())
    }

    fn take(&mut self, tree: Tree) {
        self.bytes = tree.manifests.iter().fold(self.bytes, |sum, manifest| sum.saturating_add(manifest.size()));
        if self.recursive {
            self.about.extend(tree.manifests.iter().map(|manifest| manifest.digest().clone()));
        }
        self.found.trees.push(tree);
    }

    /// What can't be copied, though it may well belong to it.
    fn leave_out(&mut self, digest: &Digest, subject: &Digest, why: String) {
        self.notice(digest, subject, &why);
        self.found.left_out.push(LeftOut { reference: self.by_digest(digest), why });
    }

    fn notice(&mut self, digest: &Digest, subject: &Digest, why: &str) {
        let what = format!("{}: {digest} is left out, which is listed as referring to {subject}", self.repository);
        self.notes.push_back(Event::Notice(format!("{what}: {why}")));
    }
}

fn refers_to(manifest: &Manifest, subject: &Digest) -> bool {
    manifest.subject().is_some_and(|named| named.digest == *subject)
}

impl Flow for FetchReferrers {
    type Output = Referring;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Referring> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            let next = match &mut self.state {
                State::New => Ok(self.list(cx)),
                State::Listing(fleet, about) => match ready!(fleet.poll(cx)) {
                    Ok(lists) => {
                        let about = std::mem::take(about);
                        self.after_listing(cx, about, lists)
                    }
                    Err(why) => Err(why),
                },
                State::Fetching(fleet, fetched) => match ready!(fleet.poll(cx)) {
                    Ok(trees) => {
                        let fetched = std::mem::take(fetched);
                        self.after_fetching(cx, fetched, trees)
                    }
                    Err(why) => Err(why),
                },
                State::Settled => return Step::Done(Ok(std::mem::take(&mut self.found))),
                State::Cancelled => Err(Error::Cancelled),
            };
            match next {
                Ok(state) => self.state = state,
                Err(why) => return Step::Done(Err(why)),
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Listing(fleet, _) => fleet.handle(cx, done),
            State::Fetching(fleet, _) => fleet.handle(cx, done),
            State::New | State::Settled | State::Cancelled => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Listing(fleet, _) => fleet.cancel(),
            State::Fetching(fleet, _) => fleet.cancel(),
            State::New => self.state = State::Cancelled,
            State::Settled | State::Cancelled => {}
        }
    }
}
