//! Brings images to where they go: what a push and a copy have in common, wherever the bytes come from.
//!
//! ```text
//!   Finding(roots by digest) ─┬─ some missing ─▶ Sending(blobs) ─▶ Mounting(into further repositories)
//!                             │                      ▲                       │
//!                             │     blob unknown:    │                       ▼
//!                             │     once more, and   └────────────── Manifests(wave by wave,
//!                             │     believe nothing                   children before parents)
//!                             │                                              │
//!                             └─ all there ─▶ Listing(among referrers) ◀─────┘
//!                                                │         ▲       │
//!                                                ▼         │       └─ after the tags ─▶ the end
//!                                 Looking(at the tags) ─▶ Tagging(roots)
//! ```
//!
//! A manifest is put only after every blob it names is confirmed to be there, an index only after its manifests, a root
//! only after everything else. One with a subject is on its subject's list at the end.

mod delivered;
mod plan;

pub(crate) use delivered::Delivered;
pub use delivered::{PushedReference, Totals};
pub(crate) use plan::{Errand, Target, errands};

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;

use crate::error::Error;
use crate::event::{BlobId, Event};
use crate::flow::referrers::{Relist, Unlisted};
use crate::flow::upload::Load;
use crate::flow::{Brought, Context, Fleet, Flow, HasManifest, PutOutcome, Putting, Step, Upload, Uploaded, ready};
use crate::job::Completion;
use crate::snapshot::UploadSession;
use crate::spec::{Digest, Manifest, Origin, Repository, RepositoryName, TagOrDigest};

/// How many blobs are asked to be mounted at a time: that moves nothing, and each takes a trip to the registry and back.
const MOUNTS: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not 0");

/// Which blobs were begun to be brought to which repositories, and where that goes on.
pub(crate) type Sessions = BTreeMap<(Repository, Digest), UploadSession>;

/// Where the blobs of a delivery come from.
pub(crate) trait Supply {
    /// A blob that a manifest names; `None` if it is not here, nor to be brought (a foreign layer).
    fn load(&self, digest: &Digest) -> Option<Load>;

    /// A repository of this registry from which blobs may be mounted.
    fn holder(&self, origin: &Origin) -> Option<RepositoryName>;
}

/// Brings blobs, then manifests, then tags to their targets. If a registry has a target's root already, nothing is sent to it
/// but the tag.
#[derive(Debug)]
pub(crate) struct Deliver<S> {
    supply: S,
    targets: Vec<Target>,
    /// Where uploads go on that an earlier process has begun; `None` if there will be no later one to go on.
    sessions: Option<Sessions>,
    /// Targets whose root the registry has.
    complete: Vec<bool>,
    /// Where the blobs go that are on their way, in the fleet's order.
    under_way: Vec<Repository>,
    /// What became of each blob so far.
    brought: BTreeMap<(Repository, Digest), Uploaded>,
    /// A manifest was refused for want of a blob, and the blobs were looked at once more.
    second_look: bool,
    mounts: Vec<Errand>,
    /// Waves still to be put.
    waves: VecDeque<Vec<Putting>>,
    /// What is there and may not be on its subject's list.
    unlisted: Vec<Unlisted>,
    notes: VecDeque<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Finding(Fleet<HasManifest>),
    Sending(Fleet<Upload>),
    Mounting(Fleet<Upload>),
    Manifests(Fleet<Putting>),
    Listing(Fleet<Relist>, After),
    Looking(Fleet<HasManifest>),
    Tagging(Fleet<Putting>),
    Settled(Box<Result<Delivered, Error>>),
    Over,
}

/// What came before lists of referrers were brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Manifests,
    Tags,
}

impl<S: Supply> Deliver<S> {
    pub(crate) fn new(supply: S, targets: Vec<Target>) -> Self {
        let complete = vec![false; targets.len()];
        Self {
            supply,
            targets,
            sessions: None,
            complete,
            under_way: Vec::new(),
            brought: BTreeMap::new(),
            second_look: false,
            mounts: Vec::new(),
            waves: VecDeque::new(),
            unlisted: Vec::new(),
            notes: VecDeque::new(),
            state: State::New,
        }
    }

    /// To be gone on with later, and to go on in these sessions.
    pub(crate) fn resumable(self, sessions: Sessions) -> Self {
        Self { sessions: Some(sessions), ..self }
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn start(&self, cx: &Context<'_>) -> State {
        let finding = self.targets.iter().map(|target| has_root(target, digest_of(&target.root))).collect::<Vec<_>>();
        State::Finding(Fleet::new(finding, width(cx)))
    }

    fn after_finding(&mut self, cx: &Context<'_>, found: Vec<bool>) -> Result<State, Error> {
        for (target, _) in self.targets.iter().zip(&found).filter(|(_, found)| **found) {
            self.notes.push_back(Event::ManifestExists {
                repository: target.repository.clone(),
                reference: digest_of(&target.root),
                digest: target.root.digest().clone(),
            });
            // Whoever put them may have come no further.
            let unlisted = |manifest| Unlisted::of(&target.repository, &target.origin, manifest, false);
            self.unlisted.extend(target.manifests.iter().filter_map(unlisted));
        }
        self.complete = found;
        self.send(cx)
    }

    fn send(&mut self, cx: &Context<'_>) -> Result<State, Error> {
        let errands = errands(&self.supply, &self.targets, &self.complete);
        for errand in errands.first.iter().chain(&errands.then) {
            let blob = BlobId { digest: errand.blob.digest.clone(), size: errand.blob.size };
            self.notes.push_back(Event::Queued { repository: errand.repository.clone(), blob });
        }
        self.mounts = errands.then;
        Ok(State::Sending(self.bring(cx, &errands.first)?))
    }

    fn after_sending(&mut self, cx: &Context<'_>, sent: Vec<Uploaded>) -> Result<State, Error> {
        self.note(sent);
        let mounts = std::mem::take(&mut self.mounts);
        Ok(State::Mounting(self.bring(cx, &mounts)?))
    }

    fn after_mounting(&mut self, cx: &Context<'_>, mounted: Vec<Uploaded>) -> State {
        self.note(mounted);
        let missing =
            self.targets.iter().zip(&self.complete).filter(|(_, complete)| !**complete).map(|(target, _)| target);
        self.waves = plan::waves(missing)
            .into_iter()
            .map(|wave| {
                wave.into_iter().map(|(target, manifest)| put(target, digest_of(&manifest), manifest)).collect()
            })
            .collect();
        self.next_wave(cx)
    }

    fn next_wave(&mut self, cx: &Context<'_>) -> State {
        if let Some(wave) = self.waves.pop_front() {
            return State::Manifests(Fleet::new(wave, width(cx)));
        }
        self.list(cx, After::Manifests)
    }

    fn list(&mut self, cx: &Context<'_>, after: After) -> State {
        let lists = Relist::all(std::mem::take(&mut self.unlisted));
        State::Listing(Fleet::new(lists, width(cx)), after)
    }

    fn after_listing(&self, cx: &Context<'_>, after: After) -> State {
        match after {
            After::Manifests => self.look(cx),
            After::Tags => self.end(),
        }
    }

    fn look(&self, cx: &Context<'_>) -> State {
        // Where the root was there already, a tag may lead to it already, too.
        let looks = self
            .targets
            .iter()
            .zip(&self.complete)
            .filter(|(target, complete)| **complete && !target.tags.is_empty())
            .flat_map(|(target, _)| target.references().into_iter().map(|reference| has_root(target, reference)))
            .collect::<Vec<_>>();
        State::Looking(Fleet::new(looks, width(cx)))
    }

    fn after_manifests(&mut self, cx: &mut Context<'_>, put: Vec<PutOutcome>) -> Result<State, Error> {
        match self.were_put(put) {
            Ok(()) => Ok(self.next_wave(cx)),
            Err(why) => self.look_again(cx, why),
        }
    }

    fn after_looking(&mut self, cx: &Context<'_>, found: Vec<bool>) -> State {
        let mut found = found.into_iter();
        let mut puts = Vec::new();
        for (target, complete) in self.targets.iter().zip(&self.complete) {
            for reference in target.references() {
                let there = *complete && (target.tags.is_empty() || found.next().unwrap_or(false));
                if there {
                    self.notes.push_back(Event::ManifestExists {
                        repository: target.repository.clone(),
                        reference,
                        digest: target.root.digest().clone(),
                    });
                } else {
                    puts.push(put(target, reference, target.root.clone()));
                }
            }
        }
        State::Tagging(Fleet::new(puts, width(cx)))
    }

    fn after_tagging(&mut self, cx: &mut Context<'_>, put: Vec<PutOutcome>) -> Result<State, Error> {
        match self.were_put(put) {
            Ok(()) => Ok(self.list(cx, After::Tags)),
            Err(why) => self.look_again(cx, why),
        }
    }

    fn end(&self) -> State {
        let references = self
            .targets
            .iter()
            .flat_map(|target| {
                target.references().into_iter().map(|reference| PushedReference {
                    repository: target.repository.clone(),
                    reference,
                    digest: target.root.digest().clone(),
                })
            })
            .collect();
        State::Settled(Box::new(Ok(Delivered { references, totals: self.totals() })))
    }

    /// A registry misses a blob that we took for present: what is remembered about it is worth nothing. Once more from the
    /// blobs on, asking for each.
    fn look_again(&mut self, cx: &mut Context<'_>, why: Error) -> Result<State, Error> {
        if std::mem::replace(&mut self.second_look, true) {
            return Err(why);
        }
        for target in &self.targets {
            cx.session.known.forget_repository(&target.origin, target.repository.name());
        }
        self.complete.fill(false);
        self.notes.push_back(Event::Notice(format!("{why}; looking at every blob once more")));
        self.send(cx)
    }
}

impl<S: Supply> Flow for Deliver<S> {
    type Output = Delivered;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Delivered> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            let next = match &mut self.state {
                State::New => Ok(self.start(cx)),
                State::Finding(fleet) => {
                    let found = ready!(fleet.poll(cx));
                    found.and_then(|found| self.after_finding(cx, found))
                }
                State::Sending(fleet) => {
                    let sent = ready!(fleet.poll(cx));
                    sent.and_then(|sent| self.after_sending(cx, sent))
                }
                State::Mounting(fleet) => {
                    let mounted = ready!(fleet.poll(cx));
                    mounted.map(|mounted| self.after_mounting(cx, mounted))
                }
                State::Manifests(fleet) => {
                    let put = ready!(fleet.poll(cx));
                    put.and_then(|put| self.after_manifests(cx, put))
                }
                State::Listing(fleet, after) => {
                    let after = *after;
                    let listed = ready!(fleet.poll(cx));
                    listed.map(|_| self.after_listing(cx, after))
                }
                State::Looking(fleet) => {
                    let found = ready!(fleet.poll(cx));
                    found.map(|found| self.after_looking(cx, found))
                }
                State::Tagging(fleet) => {
                    let put = ready!(fleet.poll(cx));
                    put.and_then(|put| self.after_tagging(cx, put))
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
            State::Finding(fleet) | State::Looking(fleet) => fleet.handle(cx, done),
            State::Sending(fleet) | State::Mounting(fleet) => fleet.handle(cx, done),
            State::Manifests(fleet) | State::Tagging(fleet) => fleet.handle(cx, done),
            State::Listing(fleet, _) => fleet.handle(cx, done),
            State::New | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Finding(fleet) | State::Looking(fleet) => fleet.cancel(),
            State::Sending(fleet) | State::Mounting(fleet) => fleet.cancel(),
            State::Manifests(fleet) | State::Tagging(fleet) => fleet.cancel(),
            State::Listing(fleet, _) => fleet.cancel(),
            State::New => self.state = State::Settled(Box::new(Err(Error::Cancelled))),
            State::Settled(_) | State::Over => {}
        }
    }
}

impl<S> Deliver<S> {
    /// `Err`: one of them was not, for want of a blob.
    fn were_put(&mut self, put: Vec<PutOutcome>) -> Result<(), Error> {
        for outcome in put {
            match outcome {
                PutOutcome::Put(unlisted) => self.unlisted.extend(unlisted.map(|unlisted| *unlisted)),
                PutOutcome::BlobUnknown(why) => return Err(why),
            }
        }
        Ok(())
    }

    fn bring(&mut self, cx: &Context<'_>, errands: &[Errand]) -> Result<Fleet<Upload>, Error> {
        self.under_way = errands.iter().map(|errand| errand.repository.clone()).collect();
        uploads(cx, errands, &mut self.sessions)
    }

    /// What became of the blobs that were under way. One that is looked at once more is there because it was brought before.
    fn note(&mut self, uploaded: Vec<Uploaded>) {
        for (repository, blob) in std::mem::take(&mut self.under_way).into_iter().zip(uploaded) {
            let is_there = matches!(blob.brought, Brought::Known | Brought::Existed);
            let key = (repository, blob.digest.clone());
            if !is_there || !self.brought.contains_key(&key) {
                self.brought.insert(key, blob);
            }
        }
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for blob in self.brought.values() {
            match blob.brought {
                Brought::Known | Brought::Existed => totals.existed += 1,
                Brought::Mounted => totals.mounted += 1,
                Brought::Sent => {
                    totals.sent += 1;
                    totals.sent_bytes += blob.size;
                    totals.resumed_bytes += blob.resumed;
                }
            }
        }
        totals
    }
}

fn width(cx: &Context<'_>) -> NonZeroUsize {
    cx.session.config().transfers
}

pub(crate) fn digest_of(manifest: &Manifest) -> TagOrDigest {
    TagOrDigest::Digest(manifest.digest().clone())
}

pub(crate) fn has_root(target: &Target, reference: TagOrDigest) -> HasManifest {
    HasManifest::new(target.repository.clone(), target.origin.clone(), reference, target.root.digest().clone())
}

fn put(target: &Target, reference: TagOrDigest, manifest: Manifest) -> Putting {
    Putting::new(target.repository.clone(), target.origin.clone(), reference, manifest)
}

/// As many at a time as may move blobs. Where blobs can be mounted, more ask for that, of whom so many are let in whose blob has
/// to be moved all the same.
fn uploads(cx: &Context<'_>, errands: &[Errand], sessions: &mut Option<Sessions>) -> Result<Fleet<Upload>, Error> {
    let mut upload = |errand: &Errand| {
        let upload = Upload::of(cx, &errand.repository, errand.blob.clone(), errand.from.clone())?;
        match sessions {
            Some(sessions) => {
                upload.resumable(sessions.remove(&(errand.repository.clone(), errand.blob.digest.clone())))
            }
            None => Ok(upload),
        }
    };
    if errands.iter().all(|errand| errand.from.is_none()) {
        return Ok(Fleet::new(errands.iter().map(&mut upload).collect::<Result<Vec<_>, _>>()?, width(cx)));
    }
    let uploads = errands.iter().map(|errand| Ok(upload(errand)?.outside())).collect::<Result<Vec<_>, Error>>()?;
    let asking = width(cx).max(MOUNTS.min(cx.session.config().requests_per_registry));
    Ok(Fleet::new(uploads, asking).gated(width(cx), Upload::waits_outside, Upload::let_in))
}
