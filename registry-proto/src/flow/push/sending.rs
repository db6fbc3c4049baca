//! One file of an archive that goes by, on its way from the tape to the registry.

use crate::archive::{Tape, TapeFile, Wind, Wound};
use crate::error::Error;
use crate::flow::{Context, Flow, Step, Upload, Uploaded, wind_down};
use crate::job::{Job, JobId, LocalJob, Outcome};
use crate::spec::Repository;

/// A file on its way from the tape to the registry.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) upload: Upload,
    pub(super) tape: Reel,
    pub(super) file: TapeFile,
    /// All of it has come.
    fed: bool,
    /// What is wrong with the archive; the upload winds down.
    pub(super) failure: Option<Error>,
}

/// Where the tape is while a file of it is being sent.
#[derive(Debug)]
pub(super) enum Reel {
    Here(Box<Tape>),
    With(JobId),
}

impl Sending {
    /// To this repository.
    pub(super) fn new(cx: &Context<'_>, home: &Repository, tape: Box<Tape>, file: TapeFile) -> Result<Self, Error> {
        let size = (!file.squeezed).then_some(file.size);
        let upload = Upload::going_by(cx, home, file.algorithm, size)?;
        Ok(Self { upload, tape: Reel::Here(tape), file, fed: false, failure: None })
    }

    /// Whether its tape is with this job.
    pub(super) fn waits_for(&self, id: JobId) -> bool {
        matches!(self.tape, Reel::With(job) if job == id)
    }

    /// The next step: of the upload, or a job that winds the tape on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Step<Uploaded> {
        let step = if self.failure.is_some() { wind_down(&mut self.upload, cx) } else { self.upload.poll(cx) };
        match step {
            Step::Wait(until) => self.wind(cx).map_or(Step::Wait(until), Step::Run),
            step => step,
        }
    }

    /// The next piece, if it is wanted and there is one.
    fn wind(&mut self, cx: &mut Context<'_>) -> Option<Job> {
        let piece = cx.session.config().piece.get();
        if matches!(self.tape, Reel::With(_)) || self.fed || !self.upload.is_hungry(piece) {
            return None;
        }
        let ticket = cx.ticket();
        let piece = usize::try_from(piece.min(self.file.size)).unwrap_or(usize::MAX);
        match std::mem::replace(&mut self.tape, Reel::With(ticket.id())) {
            Reel::Here(tape) => Some(Job::Local(LocalJob::wind(ticket, tape, Wind::By(piece)))),
            Reel::With(_) => unreachable!("it was here a moment ago"),
        }
    }

    pub(super) fn wound(&mut self, wound: Result<Wound, Error>) {
        match wound {
            Ok(Wound::Piece(tape, bytes, last)) => {
                self.fed = last;
                self.upload.feed(bytes, last);
                self.tape = Reel::Here(tape);
            }
            // Nothing more is asked for after the last.
            Ok(Wound::File(..) | Wound::Over(..) | Wound::Out) => {
                unreachable!("a tape does not skip bytes that were asked for")
            }
            Err(why) => {
                self.failure = Some(why);
                self.upload.cancel();
            }
        }
    }
}

/// What a job came to that wound a tape.
pub(super) fn wound(outcome: Outcome) -> Result<Wound, Error> {
    match outcome {
        Outcome::Wound(wound) => Ok(wound?),
        Outcome::Failed { why, .. } => Err(Error::Local(why)),
        _ => unreachable!("tickets are typed: winding yields what was wound"),
    }
}
