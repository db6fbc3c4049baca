//! Deleting all of a repository.
//!
//! ```text
//!   New ─▶ Listing(the tags) ─▶ Identifying(what they lead to) ─┬─ indexes name others ─▶ Identifying(these) …
//!                                                               └─▶ Removing(level by level, parents first) ─▶ Settled
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::endpoint::tags;
use crate::error::Error;
use crate::event::Event;
use crate::flow::delete::{Deleted, Remove};
use crate::flow::identify::{Identified, Identify};
use crate::flow::{Collected, Context, Fleet, Flow, ListTags, Step, ready};
use crate::job::Completion;
use crate::spec::{Digest, Repository, TagOrDigest};

/// Deletes every manifest of a repository that can be found: what its tags lead to and, below indexes, what these name. An
/// index goes before what it names, so that none is ever left with something missing below it.
///
/// All tags are listed and resolved before anything is deleted. Registries have no list of manifests without tags: what
/// nothing leads to stays where it is, and so do blobs, until the registry collects its garbage. Tags that are pushed
/// meanwhile may stay, too.
///
/// Tells of each manifest as [`Event::Deleted`], and yields all of them in the order of their deletion.
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry, Support};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::DeleteRepository;
///
/// # let mut profile = Profile::distribution_3();
/// # (profile.delete, profile.delete_tags) = (Support::Yes, true);
/// # let mut registry = Registry::new(profile);
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// # let repository = "localhost:5000/app".parse::<registry_proto::spec::Reference>()?.repository().clone();
/// let ran = world.run(&mut session, DeleteRepository::new(repository));
/// assert_eq!(ran.result?.len(), 1);
/// assert!(world.registry().manifests("app").is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`]: the repository is not there (404), or the registry deletes nothing (405). An error in the middle
/// leaves the rest as it is; the events have told what is gone.
#[derive(Debug)]
pub struct DeleteRepository {
    repository: Repository,
    /// The manifests found, and which manifests each names.
    found: BTreeMap<Digest, Vec<Digest>>,
    /// What was looked for.
    sought: BTreeSet<Digest>,
    deleted: Vec<Deleted>,
    note: Option<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Listing(Box<Collected<ListTags>>),
    Identifying(Fleet<Identify>),
    /// Those under way, and those that wait for them.
    Removing(Fleet<Remove>, VecDeque<Vec<Digest>>),
    Settled(Option<Error>),
}

impl DeleteRepository {
    /// This repository.
    pub const fn new(repository: Repository) -> Self {
        Self {
            repository,
            found: BTreeMap::new(),
            sought: BTreeSet::new(),
            deleted: Vec::new(),
            note: None,
            state: State::New,
        }
    }

    fn after_list(&mut self, cx: &Context<'_>, tags: &[String]) -> Result<State, Error> {
        if tags.is_empty() {
            let what = format!("{} has no tags: nothing is known that could be deleted", self.repository);
            self.note = Some(Event::Notice(what));
        }
        // A name that is no tag was not listed.
        let tags = tags.iter().filter_map(|tag| tag.parse().ok()).map(TagOrDigest::Tag).collect();
        self.identify(cx, tags)
    }

    fn identify(&self, cx: &Context<'_>, references: Vec<TagOrDigest>) -> Result<State, Error> {
        let origin = cx.origin(self.repository.registry())?;
        let flow = |reference| Identify::new(self.repository.clone(), origin.clone(), reference);
        Ok(State::Identifying(Fleet::new(references.into_iter().map(flow), cx.session.config().transfers)))
    }

    /// Takes in what was found, and looks for what it names.
    fn after_identify(&mut self, cx: &Context<'_>, identified: Vec<Identified>) -> Result<State, Error> {
        let mut next = Vec::new();
        for one in identified {
            // What is missing was deleted meanwhile, or an index names what was never there.
            let Identified::As(found) = one else { continue };
            self.sought.insert(found.digest.clone());
            self.found.entry(found.digest).or_insert(found.children);
        }
        let named = self.found.values().flatten();
        let unseen: Vec<Digest> = named.filter(|digest| !self.sought.contains(*digest)).cloned().collect();
        for digest in unseen {
            if self.sought.insert(digest.clone()) {
                next.push(TagOrDigest::Digest(digest));
            }
        }
        let limits = cx.session.config().limits;
        if self.sought.len() as u64 > limits.entries {
            let origin = cx.origin(self.repository.registry())?;
            let asked = tags::first(&origin, self.repository.name(), None, &limits).asked();
            let what = format!("its tags lead to more than {} manifests; nothing was deleted", limits.entries);
            return Err(Error::Protocol { asked, what });
        }
        if !next.is_empty() {
            return self.identify(cx, next);
        }
        let levels = levels(&std::mem::take(&mut self.found));
        self.remove(cx, levels)
    }

    fn remove(&self, cx: &Context<'_>, mut levels: VecDeque<Vec<Digest>>) -> Result<State, Error> {
        let Some(level) = levels.pop_front() else { return Ok(State::Settled(None)) };
        let origin = cx.origin(self.repository.registry())?;
        let flow = |digest| Remove::new(self.repository.clone(), origin.clone(), TagOrDigest::Digest(digest));
        Ok(State::Removing(Fleet::new(level.into_iter().map(flow), cx.session.config().transfers), levels))
    }
}

/// Manifests in the order in which they may go: each level after all that name one of it.
fn levels(names: &BTreeMap<Digest, Vec<Digest>>) -> VecDeque<Vec<Digest>> {
    // What each waits for: how many of those that name it are still there.
    let mut waits: BTreeMap<&Digest, usize> = names.keys().map(|digest| (digest, 0)).collect();
    for children in names.values() {
        for child in children.iter().collect::<BTreeSet<_>>() {
            if let Some(count) = waits.get_mut(child) {
                *count += 1;
            }
        }
    }
    let mut levels = VecDeque::new();
    let mut level: Vec<&Digest> = waits.iter().filter(|(_, count)| **count == 0).map(|(digest, _)| *digest).collect();
    while !level.is_empty() {
        let mut next = Vec::new();
        for child in level.iter().flat_map(|digest| names[*digest].iter().collect::<BTreeSet<_>>()) {
            if let Some(count) = waits.get_mut(child) {
                *count -= 1;
                if *count == 0 {
                    next.push(child);
                }
            }
        }
        levels.push_back(level.into_iter().cloned().collect());
        level = next;
    }
    levels
}

impl Flow for DeleteRepository {
    type Output = Vec<Deleted>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Vec<Deleted>> {
        loop {
            if let Some(note) = self.note.take() {
                return Step::Note(note);
            }
            let next = match &mut self.state {
                State::New => {
                    let list = ListTags::new(self.repository.clone()).collected();
                    Ok(State::Listing(Box::new(list)))
                }
                State::Listing(listing) => match ready!(listing.poll(cx)) {
                    Ok(tags) => self.after_list(cx, &tags),
                    Err(why) => Err(why),
                },
                State::Identifying(fleet) => match ready!(fleet.poll(cx)) {
                    Ok(identified) => self.after_identify(cx, identified),
                    Err(why) => Err(why),
                },
                State::Removing(fleet, levels) => match ready!(fleet.poll(cx)) {
                    Ok(deleted) => {
                        let levels = std::mem::take(levels);
                        self.deleted.extend(deleted);
                        self.remove(cx, levels)
                    }
                    Err(why) => Err(why),
                },
                State::Settled(failure) => {
                    let deleted = std::mem::take(&mut self.deleted);
                    return Step::Done(failure.take().map_or(Ok(deleted), Err));
                }
            };
            self.state = next.unwrap_or_else(|why| State::Settled(Some(why)));
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Listing(listing) => listing.handle(cx, done),
            State::Identifying(fleet) => fleet.handle(cx, done),
            State::Removing(fleet, _) => fleet.handle(cx, done),
            State::New | State::Settled(_) => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Listing(listing) => listing.cancel(),
            State::Identifying(fleet) => fleet.cancel(),
            State::Removing(fleet, _) => fleet.cancel(),
            State::New => self.state = State::Settled(Some(Error::Cancelled)),
            State::Settled(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_others_goes_before_them() {
        let digest = |name: &str| Digest::of(name.as_bytes());
        // `list` names `index` and `a`; `index` names `a`, `b` twice and one that isn't there.
        let names = BTreeMap::from([
            (digest("list"), vec![digest("index"), digest("a")]),
            (digest("index"), vec![digest("a"), digest("b"), digest("b"), digest("missing")]),
            (digest("a"), vec![]),
            (digest("b"), vec![]),
            (digest("alone"), vec![]),
        ]);
        let levels: Vec<BTreeSet<Digest>> =
            levels(&names).into_iter().map(|level| level.into_iter().collect()).collect();
        let set = |names: &[&str]| names.iter().map(|name| digest(name)).collect::<BTreeSet<_>>();
        assert_eq!(levels, [set(&["list", "alone"]), set(&["index"]), set(&["a", "b"])]);
    }
}
