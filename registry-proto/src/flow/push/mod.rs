//! Pushes the images of an archive.
//!
//! ```text
//!   Reading ─▶ (plan: which image goes where) ─▶ Delivering ─▶ the end
//! ```

mod going_by;
mod plan;
mod preview;
mod record;
mod sending;

pub use going_by::PushFeed;
pub use plan::{Destination, PushOptions};
pub use preview::{Preview, Previewed};

use record::Record;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use crate::archive::Archive;
use crate::error::Error;
use crate::event::Event;
use crate::flow::deliver::{Deliver, PushedReference, Supply, Totals};
use crate::flow::upload::Load;
use crate::flow::{Context, Flow, ReadArchive, Resume, Step, ready};
use crate::job::Completion;
use crate::snapshot::Snapshot;
use crate::spec::{Digest, Origin, RepositoryName};

/// Pushes images of an archive (a `docker save` tar, an OCI archive, an OCI layout folder), as they are: the archive's own
/// bytes, read in place.
///
/// All blobs are brought side by side ([`Config::transfers`](crate::Config::transfers) at a time, the largest first, each
/// once per repository), then manifests, then indexes, then every tag. If the registry has the root manifest already,
/// nothing is read or sent but the tag.
///
/// Asks `HEAD` for manifests and blobs (end-2, end-3), opens, fills and closes upload sessions (end-4 to end-6, end-11, end-13), and
/// puts manifests (end-7).
///
/// Yields what was [`Pushed`].
///
/// ```
/// # use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// use registry_proto::flow::{Destination, Push, PushOptions};
/// use registry_proto::{Config, Session};
/// # use std::path::Path;
///
/// # let archive = make::docker_save_oci(&[SampleImage::new(&["app:v1"], &[b"a layer"])]);
/// # let mut world = Simulation::new(1, Registry::new(Profile::distribution_3()), MemoryDisk::with("app.tar", archive));
/// # let mut session = Session::new(Config::default(), 1);
/// // With a client: client.run(…)
/// let to = Destination::Reference("localhost:5000/app:v1".parse()?);
/// let ran = world.run(&mut session, Push::new(Path::new("app.tar"), to, PushOptions::default()));
/// assert_eq!(ran.result.unwrap().totals.sent, 2, "a layer and the configuration");
/// assert_eq!(world.registry().tags("app"), ["v1"]);
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
///
/// # Errors
/// [`Error::Archive`], [`Error::Misuse`] and [`Error::Unsuitable`] before anything is sent: it is no archive, or nobody can tell which
/// image goes where. Then [`Error::Registry`], [`Error::Denied`] and [`Error::Transport`], of whichever request first was refused or got
/// no answer; [`Error::Local`] when the archive can't be read, or its bytes are others than their digest says.
#[derive(Debug)]
pub struct Push {
    to: Destination,
    options: PushOptions,
    keeps: Keeps,
    notes: VecDeque<Event>,
    state: State,
}

/// What a later process gets to know of it.
#[derive(Debug)]
enum Keeps {
    Nothing,
    /// What an earlier one has left is to be looked at.
    Before(Option<Snapshot>),
    All(Record),
}

/// The result of a [`Push`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// What was pushed, in the archive's order.
    pub references: Vec<PushedReference>,
    /// What became of the blobs.
    pub totals: Totals,
}

#[derive(Debug)]
enum State {
    Reading(ReadArchive),
    Delivering(Box<Deliver<Archive>>),
    Over,
}

impl Supply for Archive {
    fn load(&self, digest: &Digest) -> Option<Load> {
        self.blob(digest).map(Load::from)
    }

    fn holder(&self, _: &Origin) -> Option<RepositoryName> {
        None
    }
}

impl Push {
    /// A push of the archive at this path.
    pub fn new(archive: impl Into<Arc<Path>>, to: Destination, options: PushOptions) -> Self {
        let state = State::Reading(ReadArchive::new(archive));
        Self { to, options, keeps: Keeps::Nothing, notes: VecDeque::new(), state }
    }

    fn after_reading(&mut self, cx: &Context<'_>, read: Result<Archive, Error>) -> Result<State, Error> {
        let archive = read?;
        self.notes.extend(archive.notes().iter().cloned().map(Event::Notice));
        let targets = plan::targets(cx.session, &archive, &self.to, &self.options)?;
        let record = match std::mem::replace(&mut self.keeps, Keeps::Nothing) {
            Keeps::Before(before) => Record::new(&archive, &targets, before)?,
            _ => return Ok(State::Delivering(Box::new(Deliver::new(archive, targets)))),
        };
        let deliver = Deliver::new(archive, targets).resumable(record.sessions().clone());
        self.notes.push_back(Event::Snapshot(Box::new(record.snapshot())));
        self.keeps = Keeps::All(record);
        Ok(State::Delivering(Box::new(deliver)))
    }
}

impl Resume for Push {
    fn resume(self, from: Option<Snapshot>) -> Self {
        Self { keeps: Keeps::Before(from), ..self }
    }
}

impl Flow for Push {
    type Output = Pushed;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Pushed> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            self.state = match &mut self.state {
                State::Reading(flow) => {
                    let read = ready!(flow.poll(cx));
                    match self.after_reading(cx, read) {
                        Ok(state) => state,
                        Err(why) => {
                            self.state = State::Over;
                            return Step::Done(Err(why));
                        }
                    }
                }
                State::Delivering(deliver) => {
                    let delivered = match (deliver.poll(cx), &mut self.keeps) {
                        (Step::Note(Event::Session { repository, blob, session }), Keeps::All(record)) => {
                            record.note(repository, blob, session);
                            return Step::Note(Event::Snapshot(Box::new(record.snapshot())));
                        }
                        (step, _) => ready!(step),
                    };
                    self.state = State::Over;
                    return Step::Done(
                        delivered.map(|done| Pushed { references: done.references, totals: done.totals }),
                    );
                }
                State::Over => panic!("polled after it was done"),
            };
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Reading(flow) => flow.handle(cx, done),
            State::Delivering(deliver) => deliver.handle(cx, done),
            State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Reading(flow) => flow.cancel(),
            State::Delivering(deliver) => deliver.cancel(),
            State::Over => {}
        }
    }
}
