//! Reading an archive that goes by once, to its end.
//!
//! ```text
//!   New ─▶ Winding ─┬─ a file ─▶ Next ─▶ Winding
//!             │     └─ the end ─▶ (what comes after it) ─▶ the end
//!             └─ cancelled ─▶ Stopping ─▶ the end
//! ```

use crate::archive::{Compressor, Examined, Feed, Tape, Wind, Wound};
use crate::error::Error;
use crate::flow::rest::Rest;
use crate::flow::{Context, Flow, Step};
use crate::job::{Completion, Job, JobId, LocalJob, Outcome};

/// Reads an archive that goes by once: which images it holds, and whether all of them is what it should be, since every byte
/// has to be read anyway. Nothing is kept but documents, nothing is sent.
///
/// Yields what was [`Examined`].
///
/// ```
/// # use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::ReadFeed;
/// use registry_proto::archive::Feed;
/// # use std::io::Cursor;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// # let tar = make::docker_save_oci(&[SampleImage::new(&["app:v1"], &[b"a layer"])]);
/// let feed = Feed::new("standard input", Cursor::new(tar)); // or `std::io::stdin()`
/// let examined = world.run(&mut session, ReadFeed::new(feed)).result?;
/// let archive = examined.into_result()?;
/// assert_eq!(archive.images().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Archive`] when it is no tar, or ends before its end; faults of its documents and blobs are part of the result.
#[derive(Debug)]
pub struct ReadFeed {
    compressor: Option<Compressor>,
    /// What comes after the archive.
    rest: Rest,
    state: State,
}

#[derive(Debug)]
enum State {
    New(Feed),
    Winding(JobId),
    Next(Box<Tape>),
    Stopping(JobId),
    Settled(Box<Result<Examined, Error>>),
    Over,
}

impl ReadFeed {
    /// Of what comes from this feed.
    pub const fn new(feed: Feed) -> Self {
        Self { compressor: None, rest: Rest::Over, state: State::New(feed) }
    }

    /// For a [`PushFeed`](crate::flow::PushFeed) that [compresses](crate::flow::PushFeed::compressing): what it will send has to be
    /// told by where it is, also where it is small.
    #[must_use]
    pub fn compressing(mut self, compressor: Compressor) -> Self {
        self.compressor = Some(compressor);
        self
    }
}

impl Flow for ReadFeed {
    type Output = Examined;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Examined> {
        if let Some(job) = self.rest.start(cx) {
            return Step::Run(job);
        }
        let tape = match std::mem::replace(&mut self.state, State::Over) {
            State::New(feed) => {
                Box::new(Tape::new(feed, &cx.session.config().archive).compressing(self.compressor.clone()))
            }
            State::Next(tape) => tape,
            State::Winding(job) => {
                self.state = State::Winding(job);
                return Step::Wait(None);
            }
            State::Stopping(job) => {
                self.state = State::Settled(Box::new(Err(Error::Cancelled)));
                return Step::Abort(job);
            }
            State::Settled(result) => match self.rest.end(cx, result.is_ok()) {
                Some(step) => {
                    self.state = State::Settled(result);
                    return step;
                }
                None => return Step::Done(*result),
            },
            State::Over => panic!("polled after it was done"),
        };
        let ticket = cx.ticket();
        self.state = State::Winding(ticket.id());
        Step::Run(Job::Local(LocalJob::wind(ticket, tape, Wind::On)))
    }

    fn handle(&mut self, _: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        let done = match self.rest.handle(done) {
            Ok(()) => return Ok(()),
            Err(done) => done,
        };
        match self.state {
            State::Winding(job) if job == done.id => {}
            _ => return Err(done),
        }
        self.state = match done.outcome {
            Outcome::Wound(Ok(Wound::File(tape, _) | Wound::Piece(tape, ..))) => State::Next(tape),
            Outcome::Wound(Ok(Wound::Over(tape, found))) => {
                self.rest = Rest::New(tape);
                State::Settled(Box::new(Ok(*found)))
            }
            Outcome::Wound(Err(why)) => State::Settled(Box::new(Err(why.into()))),
            Outcome::Failed { why, .. } => State::Settled(Box::new(Err(Error::Local(why)))),
            _ => unreachable!("tickets are typed: winding yields what was wound"),
        };
        Ok(())
    }

    fn cancel(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Winding(job) => State::Stopping(job),
            State::New(_) | State::Next(_) => State::Settled(Box::new(Err(Error::Cancelled))),
            other => other,
        };
    }
}
