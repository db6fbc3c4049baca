//! Pulls images into an archive, or a folder.
//!
//! ```text
//!   New ─▶ Fetching the manifests ─▶ plan ─┬─ a tar:    Laying OUT.partial ─▶ Bringing the blobs into it ─▶ Publishing ─▶ the end
//!                                          └─ a folder: Reading its index ─▶ Filling it ─▶ Indexing ─────────────────▶ the end
//! ```
//!
//! One that is gone on with after its process has ended takes up what the references led to when it began: by now, tags may
//! lead elsewhere.
//!
//! Every blob goes straight to its place: a tar is laid out beforehand, since manifests know all sizes. What an interrupted
//! run left is found by laying out the same tar, and looking for the last byte that is not zero in each place.

mod plan;
mod record;

use std::path::Path;
use std::sync::Arc;

use plan::Plan;
use record::Record;

use crate::archive::ArchiveFormat;
use crate::error::Error;
use crate::event::Event;
use crate::flow::download::{Download, Spot};
use crate::flow::file::{File, partial};
use crate::flow::tree::{FetchTree, Tree};
use crate::flow::{Context, Fleet, Flow, Resume, Step, ready};
use crate::job::{Alone, Completion, Job, JobId, Laid, LocalJob, Outcome};
use crate::snapshot::Snapshot;
use crate::spec::{Digest, Platform, Reference};

/// The largest `index.json` of a folder that is read, in bytes.
const LARGEST_INDEX: usize = 8 << 20;

/// Pulls images into one archive, which is there under its name only when it is whole and verified.
///
/// Manifests first, then all blobs side by side ([`Config::transfers`](crate::Config::transfers) at a time, the largest first,
/// each once), straight to their places in `OUT.partial`, which gets its name in the end. If it is interrupted, the same pull
/// goes on where it stopped. A folder keeps the blobs that are there and right, and what else its index lists.
///
/// Foreign layers, which registries don't hold, are left out, and a [`Event::Notice`] says so.
///
/// Yields what was [`Pulled`].
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::archive::ArchiveFormat;
/// use registry_proto::flow::{Platforms, Pull, PullOptions};
/// # use std::path::Path;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let mut options = PullOptions::default();
/// options.format = ArchiveFormat::Oci;
/// options.platforms = Platforms::All;
/// let ran = world.run(&mut session, Pull::new(["localhost:5000/app:v1".parse()?], "app.tar", options));
/// assert_eq!(ran.result?.totals.fetched, 2, "the layer and the configuration");
/// assert!(world.files().snapshot().0.contains_key(Path::new("app.tar")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`] when an image is not there, [`Error::Integrity`] and [`Error::Protocol`] when it is not what it should
/// be, [`Error::Local`] when it can't be written, [`Error::Unsuitable`] when there is none for the platform.
#[derive(Debug)]
pub struct Pull {
    references: Vec<Reference>,
    out: Arc<Path>,
    options: PullOptions,
    keeps: Keeps,
    plan: Option<Plan>,
    totals: PullTotals,
    notes: Vec<Event>,
    state: State,
}

/// What a later process gets to know of it.
#[derive(Debug)]
enum Keeps {
    Nothing,
    /// What an earlier one has left is to be looked at.
    Before(Option<Box<Snapshot>>),
    All(Record),
}

/// What to pull of what references name, and how to keep it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PullOptions {
    /// What to make of it.
    pub format: ArchiveFormat,
    /// Which images of an index.
    pub platforms: Platforms,
}

/// Which images of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Platforms {
    /// The one for the machine that this runs on; an image by itself, whatever it is for. The default.
    #[default]
    ThisMachine,
    /// The one for this platform.
    Only(Platform),
    /// All of them, and the index itself.
    All,
}

/// The result of a [`Pull`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// What was asked for, in that order.
    pub images: Vec<PulledImage>,
    /// What became of the blobs.
    pub totals: PullTotals,
}

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PulledImage {
    /// What was asked for.
    pub reference: Reference,
    /// The digest of its manifest; of the index, if all platforms were wanted.
    pub digest: Digest,
}

/// What became of the blobs of a [`Pull`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PullTotals {
    /// Blobs that were fetched, at least in part.
    pub fetched: usize,
    /// Their bytes that were fetched.
    pub fetched_bytes: u64,
    /// Blobs that were here.
    pub kept: usize,
    /// Bytes that were here, of those and of what an interrupted run had fetched.
    pub kept_bytes: u64,
}

#[derive(Debug)]
enum State {
    New,
    Fetching(Fleet<FetchTree>),
    Lay,
    Laying(JobId),
    Bringing(Fleet<Download>),
    Publish,
    Publishing(JobId),
    Read,
    Reading(JobId),
    Filling(Fleet<File>, bytes::Bytes),
    Indexing(Box<File>),
    Cancelling(JobId),
    Settled(Box<Result<Pulled, Error>>),
    Over,
}

impl Pull {
    /// Of what these references name, by their digests or tags, into one archive or folder.
    pub fn new(references: impl IntoIterator<Item = Reference>, out: impl AsRef<Path>, options: PullOptions) -> Self {
        let mut wanted: Vec<Reference> = Vec::new();
        for reference in references {
            if !wanted.contains(&reference) {
                wanted.push(reference);
            }
        }
        Self {
            references: wanted,
            out: out.as_ref().into(),
            options,
            keeps: Keeps::Nothing,
            plan: None,
            totals: PullTotals::default(),
            notes: Vec::new(),
            state: State::New,
        }
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn start(&mut self, cx: &Context<'_>) -> Result<State, Error> {
        let platform = match (&self.options.platforms, self.options.format) {
            _ if self.references.is_empty() => return Err(Error::Misuse("nothing was said to be pulled".to_owned())),
            (Platforms::All, ArchiveFormat::Docker) => {
                let why = "a docker-archive holds an image for one platform: choose one, or another format for all";
                return Err(Error::Misuse(why.to_owned()));
            }
            (Platforms::All, _) => None,
            (Platforms::Only(platform), _) => Some(platform.clone()),
            (Platforms::ThisMachine, _) => Some(Platform::of_this_machine()),
        };
        if let Keeps::Before(before) = &mut self.keeps {
            let before = before.take().map(|before| *before);
            self.keeps = Keeps::All(Record::new(&self.references, &self.options, before)?);
        }
        let trees = self.references.iter().enumerate().map(|(at, reference)| {
            let pinned = match &self.keeps {
                Keeps::All(record) => record.pinned(at, reference),
                _ => reference.clone(),
            };
            let tree = FetchTree::new(pinned, platform.clone());
            if self.options.platforms == Platforms::ThisMachine { tree.or_the_only_one() } else { tree }
        });
        Ok(State::Fetching(Fleet::new(trees, cx.session.config().transfers)))
    }

    fn after_fetching(&mut self, trees: Vec<Tree>) -> Result<State, Error> {
        if let Keeps::All(record) = &self.keeps {
            let roots = trees.iter().map(|tree| tree.entry.clone()).collect();
            self.notes.push(Event::Snapshot(Box::new(record.snapshot(roots))));
        }
        let machine = match &self.options.platforms {
            Platforms::Only(platform) => platform.clone(),
            Platforms::ThisMachine | Platforms::All => Platform::of_this_machine(),
        };
        let plan = Plan::new(&self.references, trees, machine, &self.out, self.options.format)?;
        self.notes.extend(plan.notes());
        let is_tar = plan.tar().is_some();
        self.plan = Some(plan);
        Ok(if is_tar { State::Lay } else { State::Read })
    }

    fn after_lay(&mut self, cx: &Context<'_>, found: Laid) -> Result<State, Error> {
        let plan = self.plan();
        let mut downloads = Vec::new();
        for (blob, repository, start) in plan.places() {
            let path = partial(&self.out);
            let spot = Spot { path, start, alone: Alone::No, survey: found == Laid::Resumed };
            downloads.push(Download::new(repository.clone(), blob.clone(), spot)?);
        }
        Ok(State::Bringing(Fleet::new(downloads, cx.session.config().transfers)))
    }

    fn after_read(&mut self, cx: &Context<'_>, index: Option<bytes::Bytes>) -> Result<State, Error> {
        let plan = self.plan();
        let index = plan.contents.index_after(index.as_deref()).map_err(|why| {
            let index = self.out.join("index.json");
            Error::Misuse(format!("{} is no index of images ({why}): pull to another folder", index.display()))
        })?;
        let files = plan.files(&self.out);
        Ok(State::Filling(Fleet::new(files, cx.session.config().transfers), index))
    }

    fn after_bringing(&mut self, left: &[u64]) -> State {
        self.count(left);
        State::Publish
    }

    fn after_filling(&mut self, left: &[u64], index: bytes::Bytes) -> State {
        // The blobs come before the documents.
        let blobs = self.plan().blobs.len();
        self.count(&left[..blobs.min(left.len())]);
        let path = self.out.join("index.json").into();
        State::Indexing(Box::new(File::document(path, index)))
    }

    fn pulled(&mut self) -> State {
        let images = self.plan().images(&self.references);
        settled(Ok(Pulled { images, totals: self.totals }))
    }

    // ── what the transitions are made of ─────────────────────────────────────────────────────────────────────────────

    /// What a tag led to may be gone by the time somebody goes on.
    fn unfetched(&self, why: Error) -> Error {
        match (why, &self.keeps) {
            (Error::Registry(mut refusal), Keeps::All(Record { roots: Some(_), .. }))
                if refusal.status == http::StatusCode::NOT_FOUND =>
            {
                refusal.advice = Some(
                    "this is what the pull was begun with, and it is not there any more: start anew, without the state, to \
                     pull what is there now"
                        .to_owned(),
                );
                Error::Registry(refusal)
            }
            (why, _) => why,
        }
    }

    fn plan(&self) -> &Plan {
        self.plan.as_ref().expect("all states after Fetching have a plan")
    }

    fn count(&mut self, left: &[u64]) {
        let mut totals = self.totals;
        for ((blob, _), left) in self.plan().blobs.iter().zip(left) {
            totals.kept_bytes += left;
            if *left == blob.size {
                totals.kept += 1;
            } else {
                totals.fetched += 1;
                totals.fetched_bytes += blob.size - left;
            }
        }
        self.totals = totals;
    }
}

impl Resume for Pull {
    fn resume(self, from: Option<Snapshot>) -> Self {
        Self { keeps: Keeps::Before(from.map(Box::new)), ..self }
    }
}

fn settled(result: Result<Pulled, Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for Pull {
    type Output = Pulled;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Pulled> {
        loop {
            if !self.notes.is_empty() {
                return Step::Note(self.notes.remove(0));
            }
            let next = match &mut self.state {
                State::New => self.start(cx),
                State::Fetching(trees) => {
                    let trees = ready!(trees.poll(cx));
                    trees.map_err(|why| self.unfetched(why)).and_then(|trees| self.after_fetching(trees))
                }
                State::Bringing(blobs) => ready!(blobs.poll(cx)).map(|left| self.after_bringing(&left)),
                State::Filling(files, index) => {
                    let left = ready!(files.poll(cx));
                    let index = index.clone();
                    left.map(|left| self.after_filling(&left, index))
                }
                State::Indexing(file) => ready!(file.poll(cx)).map(|_| self.pulled()),
                State::Lay => {
                    let ticket = cx.ticket();
                    self.state = State::Laying(ticket.id());
                    return Step::Run(Job::Local(LocalJob::lay(ticket, self.plan().blueprint(&self.out))));
                }
                State::Publish => {
                    let ticket = cx.ticket();
                    self.state = State::Publishing(ticket.id());
                    let job = LocalJob::publish(ticket, partial(&self.out), Arc::clone(&self.out));
                    return Step::Run(Job::Local(job));
                }
                State::Read => {
                    let ticket = cx.ticket();
                    self.state = State::Reading(ticket.id());
                    let index = self.out.join("index.json").into();
                    return Step::Run(Job::Local(LocalJob::read(ticket, index, LARGEST_INDEX)));
                }
                State::Laying(_) | State::Publishing(_) | State::Reading(_) => return Step::Wait(None),
                State::Cancelling(job) => {
                    let job = *job;
                    self.state = settled(Err(Error::Cancelled));
                    return Step::Abort(job);
                }
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
            State::Fetching(fleet) => return fleet.handle(cx, done),
            State::Bringing(fleet) => return fleet.handle(cx, done),
            State::Filling(fleet, _) => return fleet.handle(cx, done),
            State::Indexing(file) => return file.handle(cx, done),
            State::Laying(job) | State::Publishing(job) | State::Reading(job) if *job == done.id => {}
            _ => return Err(done),
        }
        let next = match done.outcome {
            Outcome::Laid(found) => self.after_lay(cx, found),
            Outcome::Content(index) => self.after_read(cx, index.map(|index| index.0)),
            Outcome::Published => Ok(self.pulled()),
            Outcome::Failed { why, .. } => Err(Error::Local(why)),
            _ => unreachable!("tickets are typed: these are all that were asked for"),
        };
        self.state = next.unwrap_or_else(|why| settled(Err(why)));
        Ok(())
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Fetching(fleet) => fleet.cancel(),
            State::Bringing(fleet) => fleet.cancel(),
            State::Filling(fleet, _) => fleet.cancel(),
            State::Indexing(file) => file.cancel(),
            State::Laying(job) | State::Publishing(job) | State::Reading(job) => self.state = State::Cancelling(*job),
            State::New | State::Lay | State::Publish | State::Read => self.state = settled(Err(Error::Cancelled)),
            State::Cancelling(_) | State::Settled(_) | State::Over => {}
        }
    }
}
