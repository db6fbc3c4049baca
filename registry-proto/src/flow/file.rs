//! A file that is whole and right as soon as it has its name: a blob, or a document that is here already.
//!
//! ```text
//!   blob       Checking what has its name ─┬─ right ──────────────────────────────────────────────────────▶ the end (kept)
//!                                          └─▶ Laying the partial file ─▶ Fetching into it ─▶ Publishing ─▶ the end
//!   document   Reading what has its name ──┬─ the same ───────────────────────────────────────────────────▶ the end
//!                                          └─▶ Laying the partial file, with its content ───▶ Publishing ─▶ the end
//! ```

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::digester::Digester;
use crate::error::Error;
use crate::event::{BlobId, Event};
use crate::flow::download::{Download, Spot};
use crate::flow::{Context, Flow, Step, ready};
use crate::job::{Alone, Blueprint, Completion, FilePlace, Job, JobId, Laid, LocalJob, Outcome};
use crate::spec::{Descriptor, Repository};

/// Brings a file to its place in a folder, unless it is there. Yields how many bytes of it had not to be fetched.
#[derive(Debug)]
pub(crate) struct File {
    path: Arc<Path>,
    what: What,
    note: Option<Event>,
    /// How much was there.
    left: u64,
    state: State,
}

#[derive(Debug)]
enum What {
    Blob(Repository, Descriptor),
    Document(Bytes),
}

#[derive(Debug)]
enum State {
    New,
    Checking(JobId),
    Reading(JobId),
    Lay,
    Laying(JobId),
    Fetching(Box<Download>),
    Publish,
    Publishing(JobId),
    Cancelling(JobId),
    Settled(Box<Result<u64, Error>>),
    Over,
}

impl File {
    pub(crate) const fn blob(path: Arc<Path>, repository: Repository, blob: Descriptor) -> Self {
        Self { path, what: What::Blob(repository, blob), note: None, left: 0, state: State::New }
    }

    pub(crate) const fn document(path: Arc<Path>, content: Bytes) -> Self {
        Self { path, what: What::Document(content), note: None, left: 0, state: State::New }
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn start(&self, cx: &mut Context<'_>) -> (State, LocalJob) {
        match &self.what {
            // An empty file and none at all look the same.
            What::Blob(_, blob) if blob.size == 0 => self.lay(cx),
            What::Blob(_, blob) => {
                // What has no known algorithm is refused by its download.
                let algorithm = blob.digest.algorithm().unwrap_or(crate::spec::Algorithm::Sha256);
                let place = FilePlace::new(Arc::clone(&self.path), 0, blob.size, Digester::new(algorithm));
                let ticket = cx.ticket();
                let id = ticket.id();
                (State::Checking(id), LocalJob::survey(ticket, place.to_range(blob.digest.clone()), Alone::Yes))
            }
            What::Document(content) => {
                let ticket = cx.ticket();
                // One byte more tells that a file is longer, and so another one.
                let length = content.len().saturating_add(1);
                (State::Reading(ticket.id()), LocalJob::begin(ticket, Arc::clone(&self.path), length))
            }
        }
    }

    fn after_check(&mut self, found: &Digester) -> State {
        match &self.what {
            What::Blob(repository, blob) if found.at() == blob.size && found.digest() == blob.digest => {
                self.note = Some(Event::Kept { repository: repository.clone(), blob: BlobId::from(blob) });
                settled(Ok(blob.size))
            }
            _ => State::Lay,
        }
    }

    fn after_read(&self, found: Option<&Bytes>) -> State {
        match &self.what {
            What::Document(content) if found == Some(content) => settled(Ok(0)),
            _ => State::Lay,
        }
    }

    fn after_lay(&self, found: Laid) -> Result<State, Error> {
        match &self.what {
            What::Blob(repository, blob) => {
                let survey = found == Laid::Resumed;
                let spot = Spot { path: partial(&self.path), start: 0, alone: Alone::Yes, survey };
                Ok(State::Fetching(Box::new(Download::new(repository.clone(), blob.clone(), spot)?)))
            }
            What::Document(_) => Ok(State::Publish),
        }
    }

    // ── what the transitions are made of ─────────────────────────────────────────────────────────────────────────────

    fn lay(&self, cx: &mut Context<'_>) -> (State, LocalJob) {
        let (length, pieces) = match &self.what {
            What::Blob(_, blob) => (blob.size, Vec::new()),
            What::Document(content) => (content.len() as u64, vec![(0, content.clone())]),
        };
        let blueprint = Blueprint { path: partial(&self.path), becomes: Arc::clone(&self.path), length, pieces };
        let ticket = cx.ticket();
        (State::Laying(ticket.id()), LocalJob::lay(ticket, blueprint))
    }
}

/// The name of what is not whole yet.
pub(crate) fn partial(path: &Path) -> Arc<Path> {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    Path::new(&name).into()
}

fn settled(result: Result<u64, Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for File {
    type Output = u64;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<u64> {
        loop {
            if let Some(note) = self.note.take() {
                return Step::Note(note);
            }
            match &mut self.state {
                State::New | State::Lay => {
                    let (state, job) = if let State::New = self.state { self.start(cx) } else { self.lay(cx) };
                    self.state = state;
                    return Step::Run(Job::Local(job));
                }
                State::Fetching(download) => {
                    self.state = match ready!(download.poll(cx)) {
                        Ok(left) => {
                            self.left = left;
                            State::Publish
                        }
                        Err(why) => settled(Err(why)),
                    };
                }
                State::Publish => {
                    let ticket = cx.ticket();
                    self.state = State::Publishing(ticket.id());
                    let job = LocalJob::publish(ticket, partial(&self.path), Arc::clone(&self.path));
                    return Step::Run(Job::Local(job));
                }
                State::Checking(_) | State::Reading(_) | State::Laying(_) | State::Publishing(_) => {
                    return Step::Wait(None);
                }
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
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Fetching(download) => return download.handle(cx, done),
            State::Checking(job) | State::Reading(job) | State::Laying(job) | State::Publishing(job)
                if *job == done.id => {}
            _ => return Err(done),
        }
        self.state = match done.outcome {
            Outcome::Hashed(found) => self.after_check(&found),
            Outcome::Content(found) => self.after_read(found.as_ref().map(|found| &found.0)),
            Outcome::Laid(found) => self.after_lay(found).unwrap_or_else(|why| settled(Err(why))),
            Outcome::Published => settled(Ok(self.left)),
            Outcome::Failed { why, .. } => settled(Err(Error::Local(why))),
            _ => unreachable!("tickets are typed: these are all that were asked for"),
        };
        Ok(())
    }

    fn cancel(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Fetching(mut download) => {
                download.cancel();
                State::Fetching(download)
            }
            State::Checking(job) | State::Reading(job) | State::Laying(job) | State::Publishing(job) => {
                State::Cancelling(job)
            }
            State::New | State::Lay | State::Publish => settled(Err(Error::Cancelled)),
            other => other,
        };
    }
}
