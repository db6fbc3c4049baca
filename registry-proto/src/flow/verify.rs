//! Checking that an archive's blobs are what their digests say.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use crate::archive::{Archive, ArchiveBlob, ArchiveError, BlobContent, Examined};
use crate::digester::Digester;
use crate::error::Error;
use crate::flow::{Context, ExamineArchive, Fleet, Flow, Step, ready};
use crate::job::{BlobPart, Completion, Failure, FailureKind, FileRange, Job, JobId, LocalJob, Meter, Outcome};
use crate::spec::Digest;

/// How many blobs are hashed at a time: more would only make the disk seek.
const WIDTH: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");

/// Reads an archive's table of contents and then every blob, to see whether its bytes have its digest. Sends nothing.
///
/// Yields what was [`Verified`]: every fault of the archive is part of it, not an error.
///
/// ```
/// # use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::VerifyArchive;
/// # use std::path::Path;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::with("app.tar", make::docker_save_oci(&[SampleImage::new(&["app:v1"], &[b"a layer"])])));
/// # let mut session = Session::new(Config::default(), 1);
/// let verified = world.run(&mut session, VerifyArchive::new(Path::new("app.tar"))).result?;
/// assert!(verified.is_whole());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Local`] when the work itself breaks down.
#[derive(Debug)]
pub struct VerifyArchive {
    state: State,
}

/// The result of [`VerifyArchive`].
#[derive(Clone, Debug)]
pub struct Verified {
    /// The archive with those of its images that can be used, if any.
    pub archive: Option<Archive>,
    /// What is wrong with its documents and its structure.
    pub faults: Vec<ArchiveError>,
    /// The blobs that are not what they should be, and why.
    pub damaged: Vec<(Digest, Failure)>,
}

impl Verified {
    /// Whether nothing is wrong.
    pub const fn is_whole(&self) -> bool {
        self.faults.is_empty() && self.damaged.is_empty()
    }
}

#[derive(Debug)]
enum State {
    Reading(ExamineArchive),
    Hashing(Box<Examined>, Fleet<HashBlob>),
    Over,
}

impl VerifyArchive {
    /// Of the archive (a tar file or an OCI layout folder) at this path.
    pub fn new(path: impl Into<Arc<Path>>) -> Self {
        Self { state: State::Reading(ExamineArchive::new(path)) }
    }
}

impl Flow for VerifyArchive {
    type Output = Verified;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Verified> {
        loop {
            self.state = match &mut self.state {
                State::Reading(reading) => match ready!(reading.poll(cx)) {
                    Ok(found) => {
                        let blobs: Vec<_> = found.archive.iter().flat_map(Archive::blobs).map(HashBlob::new).collect();
                        State::Hashing(Box::new(found), Fleet::new(blobs, WIDTH))
                    }
                    Err(why) => return Step::Done(Err(why)),
                },
                State::Hashing(_, fleet) => {
                    let damaged = ready!(fleet.poll(cx));
                    let State::Hashing(found, _) = std::mem::replace(&mut self.state, State::Over) else {
                        unreachable!("the state was just matched")
                    };
                    return Step::Done(damaged.map(|damaged| Verified {
                        archive: found.archive,
                        faults: found.faults,
                        damaged: damaged.into_iter().flatten().collect(),
                    }));
                }
                State::Over => panic!("polled after it was done"),
            };
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Reading(reading) => reading.handle(cx, done),
            State::Hashing(_, fleet) => fleet.handle(cx, done),
            State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Reading(reading) => reading.cancel(),
            State::Hashing(_, fleet) => fleet.cancel(),
            State::Over => {}
        }
    }
}

/// One blob, read and compared with its digest. Yields the fault, if there is one.
#[derive(Debug)]
struct HashBlob {
    digest: Digest,
    blob: Option<ArchiveBlob>,
    running: Option<JobId>,
    found: Option<Result<Option<(Digest, Failure)>, Error>>,
}

impl HashBlob {
    fn new(blob: &ArchiveBlob) -> Self {
        Self { digest: blob.digest().clone(), blob: Some(blob.clone()), running: None, found: None }
    }

    fn fault(&self, why: Failure) -> Option<(Digest, Failure)> {
        Some((self.digest.clone(), why))
    }
}

impl Flow for HashBlob {
    type Output = Option<(Digest, Failure)>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Self::Output> {
        if let Some(found) = self.found.take() {
            if let (Err(Error::Cancelled), Some(job)) = (&found, self.running.take()) {
                self.found = Some(found);
                return Step::Abort(job);
            }
            return Step::Done(found);
        }
        let Some(blob) = self.blob.take() else { return Step::Wait(None) };
        let Some(algorithm) = self.digest.algorithm() else {
            let why = Failure::new(FailureKind::Mismatch, "its algorithm can't be verified here");
            return Step::Done(Ok(self.fault(why)));
        };
        match blob.content() {
            BlobContent::Bytes(bytes) => {
                let wrong = Digest::compute(algorithm, bytes) != self.digest;
                Step::Done(Ok(wrong.then(|| self.fault(Failure::new(FailureKind::Mismatch, ""))).flatten()))
            }
            // It was hashed as it went by, and its archive has no fault.
            BlobContent::Passed { .. } => Step::Done(Ok(None)),
            BlobContent::File { path, range } => {
                let part = BlobPart {
                    offset: 0,
                    size: blob.size(),
                    expected: self.digest.clone(),
                    digester: Digester::new(algorithm),
                    meter: Meter::default(),
                };
                let ticket = cx.ticket();
                self.running = Some(ticket.id());
                let range = FileRange::new(path.clone(), range.clone(), part);
                Step::Run(Job::Local(LocalJob::hash(ticket, range)))
            }
        }
    }

    fn handle(&mut self, _: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        if self.running != Some(done.id) {
            return Err(done);
        }
        self.running = None;
        self.found = Some(match done.outcome {
            Outcome::Failed { why, .. } => Ok(self.fault(why)),
            // A range without bytes never compares; the empty blob is the only one that may have none.
            Outcome::Hashed(digester) if digester.digest() != self.digest => {
                Ok(self.fault(Failure::new(FailureKind::Mismatch, format_args!("it holds {}", digester.digest()))))
            }
            Outcome::Hashed(_) => Ok(None),
            _ => unreachable!("tickets are typed: a hash job gets a digester"),
        });
        Ok(())
    }

    fn cancel(&mut self) {
        if self.found.is_none() {
            self.found = Some(Err(Error::Cancelled));
        }
    }
}
