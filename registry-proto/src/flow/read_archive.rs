//! Reading an archive's table of contents.

use std::path::Path;
use std::sync::Arc;

use crate::archive::{Archive, Examined};
use crate::error::Error;
use crate::flow::{Context, Flow, Step, ready};
use crate::job::{Completion, Job, JobId, LocalJob, Outcome};

/// Reads which images an archive holds and where in the file their blobs lie. Nothing is copied, nothing is sent.
///
/// Yields an [`Archive`].
///
/// ```
/// # use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::ReadArchive;
/// # use std::path::Path;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::with("app.tar", make::docker_save_oci(&[SampleImage::new(&["app:v1"], &[b"a layer"])])));
/// # let mut session = Session::new(Config::default(), 1);
/// let archive = world.run(&mut session, ReadArchive::new(Path::new("app.tar"))).result?;
/// assert_eq!(archive.images()[0].names()[0].as_written(), "docker.io/library/app:v1");
/// assert_eq!(archive.blobs().count(), 2, "the layer and the configuration");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Archive`]: the first fault that it has. [`Error::Local`] when the work itself breaks down.
#[derive(Debug)]
pub struct ReadArchive(ExamineArchive);

impl ReadArchive {
    /// Of the archive (a tar file or an OCI layout folder) at this path.
    pub fn new(path: impl Into<Arc<Path>>) -> Self {
        Self(ExamineArchive::new(path))
    }
}

impl Flow for ReadArchive {
    type Output = Archive;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Archive> {
        Step::Done(ready!(self.0.poll(cx)).and_then(|found| Ok(found.into_result()?)))
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        self.0.handle(cx, done)
    }

    fn cancel(&mut self) {
        self.0.cancel();
    }
}

/// As [`ReadArchive`], but goes on after a fault where it can.
///
/// Yields what was [`Examined`].
///
/// ```
/// # use registry_proto::archive::make::MemoryDisk;
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::ExamineArchive;
/// # use std::path::Path;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::with("app.tar", &b"no tar at all"[..]));
/// # let mut session = Session::new(Config::default(), 1);
/// let examined = world.run(&mut session, ExamineArchive::new(Path::new("app.tar"))).result?;
/// assert!(examined.archive.is_none());
/// assert_eq!(examined.faults.len(), 1, "{:?}", examined.faults);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Local`] when the work itself breaks down: faults are part of what is yielded.
#[derive(Debug)]
pub struct ExamineArchive {
    path: Arc<Path>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Reading(JobId),
    Cancelling(JobId),
    Settled(Box<Result<Examined, Error>>),
    Over,
}

impl ExamineArchive {
    /// Of the archive (a tar file or an OCI layout folder) at this path.
    pub fn new(path: impl Into<Arc<Path>>) -> Self {
        Self { path: path.into(), state: State::New }
    }
}

impl Flow for ExamineArchive {
    type Output = Examined;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Examined> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::New => {
                let ticket = cx.ticket();
                self.state = State::Reading(ticket.id());
                let limits = cx.session.config().archive;
                Step::Run(Job::Local(LocalJob::index(ticket, Arc::clone(&self.path), limits)))
            }
            State::Reading(job) => {
                self.state = State::Reading(job);
                Step::Wait(None)
            }
            State::Cancelling(job) => {
                self.state = State::Settled(Box::new(Err(Error::Cancelled)));
                Step::Abort(job)
            }
            State::Settled(result) => Step::Done(*result),
            State::Over => panic!("polled after it was done"),
        }
    }

    fn handle(&mut self, _: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match self.state {
            State::Reading(job) if job == done.id => {}
            _ => return Err(done),
        }
        self.state = State::Settled(Box::new(match done.outcome {
            Outcome::Indexed(found) => Ok(*found),
            Outcome::Failed { why, .. } => Err(Error::Local(why)),
            _ => unreachable!("tickets are typed: an index job gets an archive"),
        }));
        Ok(())
    }

    fn cancel(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Reading(job) => State::Cancelling(job),
            State::New => State::Settled(Box::new(Err(Error::Cancelled))),
            other => other,
        };
    }
}
