//! What comes after the end of an archive that goes by: nothing that anybody needs, but its writer may not like to be cut off.
//!
//! ```text
//!   New ─▶ Running ─┬─ it came to its end ──────────────────────────────▶ Over
//!                   └─ all else is done, and a moment has passed: aborted ▶ Over
//! ```
//!
//! It is read beside everything else: who writes may keep its pipe open for as long as it likes.

use std::time::Duration;

use crate::archive::{Tape, Wind};
use crate::flow::{Context, Step};
use crate::job::{Completion, Job, JobId, LocalJob};
use crate::time::Time;

/// How long a writer has to come to its end.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) enum Rest {
    New(Box<Tape>),
    Running(JobId, Time),
    Over,
}

impl Rest {
    /// Begins to read it, if nobody has yet.
    pub(crate) fn start(&mut self, cx: &mut Context<'_>) -> Option<Job> {
        match std::mem::replace(self, Self::Over) {
            Self::New(tape) => {
                let ticket = cx.ticket();
                *self = Self::Running(ticket.id(), cx.now + GRACE);
                Some(Job::Local(LocalJob::wind(ticket, tape, Wind::Out)))
            }
            other => {
                *self = other;
                None
            }
        }
    }

    pub(crate) fn handle(&mut self, done: Completion) -> Result<(), Completion> {
        match self {
            Self::Running(job, _) if *job == done.id => {
                // Whatever came of it: the archive is complete.
                *self = Self::Over;
                Ok(())
            }
            _ => Err(done),
        }
    }

    /// What is to be done about it when all else is: nothing, or to wait for it a little, or not even that.
    pub(crate) fn end<T>(&mut self, cx: &Context<'_>, waits: bool) -> Option<Step<T>> {
        match self {
            Self::Running(_, until) if waits && *until > cx.now => Some(Step::Wait(Some(*until))),
            Self::Running(job, _) => {
                let job = *job;
                *self = Self::Over;
                Some(Step::Abort(job))
            }
            Self::New(_) | Self::Over => None,
        }
    }
}
