//! One blob to its place in a file.
//!
//! ```text
//!         there may be something         all of it is there, and right
//!   New ─▶ Surveying ──────┬───────────────────────────────────────────────────────▶ the end
//!    │                     ▼                                                            ▲
//!    └──────────────▶ Asking (GET, or GET of the rest) ─┬─ complete and right ──────────┤
//!                          ▲ ▲ ▲                        ├─ complete and wrong ─▶ (error)┘
//!                          │ │ └── ask for the rest ────┼─ a part
//!                          │ └──── from the beginning ──┼─ wrong, but of several pieces, or a mirror's; bytes that don't fit
//!                          └─────── Pausing ◀───────────┴─ cut
//! ```

use std::collections::VecDeque;

use crate::digester::Digester;
use crate::endpoint::blob::{self, Came};
use crate::endpoint::{Ask, Mirrored, Reply};
use crate::error::{Asked, Error};
use crate::event::{BlobId, Event};
use crate::flow::exchange::{Lost, reject};
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::{Alone, Completion, FailureKind, FilePlace, Job, JobId, LocalJob, Outcome};
use crate::spec::{Algorithm, Descriptor, Repository};
use crate::time::Time;

/// How often a blob is fetched from its beginning again, because what was there could not be gone on with.
const RESTARTS: u32 = 2;

/// Fetches a blob to its place in a file: `GET /v2/<name>/blobs/<digest>` (end-2), verified while it comes. What is cut goes
/// on where it stopped. Yields how many bytes were there already, from an interrupted run.
#[derive(Debug)]
pub(crate) struct Download {
    repository: Repository,
    blob: Descriptor,
    algorithm: Algorithm,
    place: FilePlace,
    alone: Alone,
    left: u64,
    /// What is there did not come in one reply: if it is wrong, then not necessarily by the registry's fault.
    pieced: bool,
    restarts: u32,
    /// How often it ran into trouble since it last got ahead.
    troubles: u32,
    /// Where it was then.
    mark: u64,
    notes: VecDeque<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    New { survey: bool },
    Surveying(JobId),
    Asking(Exchange),
    Pausing(Time),
    Cancelling(JobId),
    Settled(Box<Result<u64, Error>>),
    Over,
}

/// Where in a file a blob goes.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub(crate) path: std::sync::Arc<std::path::Path>,
    pub(crate) start: u64,
    pub(crate) alone: Alone,
    /// An interrupted run may have left something there.
    pub(crate) survey: bool,
}

impl Download {
    /// Of what a descriptor of a manifest in `repository` points to.
    ///
    /// # Errors
    /// [`Error::Misuse`] when its digest's algorithm is unknown here, so that nothing could be verified.
    pub(crate) fn new(repository: Repository, blob: Descriptor, spot: Spot) -> Result<Self, Error> {
        let algorithm = blob.digest.algorithm().ok_or_else(|| {
            Error::Misuse(format!("{repository}: {} can't be verified: its algorithm is unknown here", blob.digest))
        })?;
        let place = FilePlace::new(spot.path, spot.start, blob.size, Digester::new(algorithm));
        let (meter, id) = (place.meter().clone(), BlobId::from(&blob));
        let fetching = Event::Fetching { repository: repository.clone(), blob: id, meter };
        Ok(Self {
            repository,
            blob,
            algorithm,
            place,
            alone: spot.alone,
            left: 0,
            pieced: false,
            restarts: 0,
            troubles: 0,
            mark: 0,
            notes: VecDeque::from([fetching]),
            state: State::New { survey: spot.survey },
        })
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// Asks for what is missing, if anything is.
    fn go_on(&mut self, cx: &mut Context<'_>) -> State {
        if self.place.has() == self.place.size() {
            return self.complete(cx, None);
        }
        match self.ask(cx) {
            Ok(ask) => State::Asking(Exchange::new(ask, self.repository.registry())),
            Err(why) => settled(Err(why)),
        }
    }

    fn after_survey(&mut self, cx: &mut Context<'_>, found: Digester) -> State {
        (self.left, self.mark) = (found.at(), found.at());
        self.pieced = self.left > 0;
        self.place.holds(found);
        self.go_on(cx)
    }

    fn after_reply(&mut self, cx: &mut Context<'_>, reply: &Reply) -> State {
        let (has, size) = (self.place.has(), self.place.size());
        match blob::downloaded(reply, has, reply.moved.as_ref().map(Digester::at), size) {
            Ok(Came::Something) => {
                self.advance(cx, reply.moved.clone());
                if self.place.has() == size {
                    return self.complete(cx, Some(reply));
                }
                // Less than was asked for. That is allowed, but not a byte at a time.
                self.pieced = true;
                self.troubles += 1;
                if self.troubles > cx.session.config().retries {
                    return settled(Err(reply.broken("it hands out next to nothing of the blob at a time")));
                }
                self.go_on(cx)
            }
            Ok(Came::Nothing) => {
                let told = reply.header("content-range").unwrap_or("no range");
                let why = format!("asked for bytes {has}-{}, it answered {} with {told}", size - 1, reply.status);
                self.notes.extend(reject(cx, reply, &why));
                self.restart(cx, &reply.asked, &why).unwrap_or_else(|| settled(Err(reply.broken(why))))
            }
            Err(why) => {
                let again = self.reject(cx, reply, &why.to_string());
                again.unwrap_or_else(|| settled(Err(why)))
            }
        }
    }

    fn after_loss(&mut self, cx: &mut Context<'_>, lost: Lost) -> State {
        if lost.moved.as_ref().is_some_and(|moved| moved.at() > self.place.has()) {
            self.advance(cx, lost.moved);
        }
        self.pieced |= self.place.has() > 0;
        self.troubles += 1;
        if self.troubles > cx.session.config().retries {
            let error = Error::Transport { asked: lost.asked, last: lost.why, tries: self.troubles };
            return settled(Err(error));
        }
        let after = cx.backoff(self.troubles);
        self.notes.push_back(Event::Retrying { request: lost.asked.to_string(), why: lost.why.to_string(), after });
        State::Pausing(cx.now + after)
    }

    /// All bytes are there: are they the right ones?
    fn complete(&mut self, cx: &mut Context<'_>, reply: Option<&Reply>) -> State {
        let found = self.place.digester().digest();
        if found == self.blob.digest {
            let (repository, blob) = (self.repository.clone(), self.id());
            self.notes.push_back(Event::Fetched { repository, blob });
            return settled(Ok(self.left));
        }
        let asked = match (reply, self.ask(cx)) {
            (Some(reply), _) => reply.asked.clone(),
            (None, Ok(ask)) => ask.asked(),
            (None, Err(why)) => return settled(Err(why)),
        };
        let why = format!("the pieces of the blob don't make the right whole: {found}");
        let mirror = reply.and_then(|reply| reject(cx, reply, &why));
        let again = self.pieced || mirror.is_some();
        self.notes.extend(mirror);
        let again = if again { self.restart(cx, &asked, &why) } else { None };
        again.unwrap_or_else(|| settled(Err(self.wrong(asked, found, reply))))
    }

    /// A mirror's reply that is of no use: from the beginning, with somebody else. `None`: it is the registry's.
    fn reject(&mut self, cx: &mut Context<'_>, reply: &Reply, why: &str) -> Option<State> {
        let note = reject(cx, reply, why)?;
        self.notes.push_back(note);
        self.restart(cx, &reply.asked, why)
    }

    /// From the beginning, as if nothing was there. `None`: that was done often enough.
    fn restart(&mut self, cx: &mut Context<'_>, asked: &Asked, why: &str) -> Option<State> {
        if self.restarts >= RESTARTS {
            return None;
        }
        self.restarts += 1;
        (self.left, self.pieced, self.mark) = (0, false, 0);
        self.place.holds(Digester::new(self.algorithm));
        let (request, after) = (asked.to_string(), std::time::Duration::ZERO);
        self.notes.push_back(Event::Retrying { request, why: why.to_owned(), after });
        Some(self.go_on(cx))
    }

    // ── what the transitions are made of ─────────────────────────────────────────────────────────────────────────────

    fn ask(&self, cx: &Context<'_>) -> Result<Ask, Error> {
        let origin = cx.origin(self.repository.registry())?;
        let limits = cx.session.config().limits;
        let ask = blob::download(&origin, self.repository.name(), &self.blob.digest, self.place.clone(), &limits);
        Ok(ask.mirrored(Mirrored::ByDigest))
    }

    /// There is more of it now. Only what is worth mentioning makes up for trouble: a peer that cuts after each byte would
    /// have us ask for ever.
    fn advance(&mut self, cx: &Context<'_>, moved: Option<Digester>) {
        let Some(moved) = moved else { return };
        self.place.holds(moved);
        let (has, size) = (self.place.has(), self.place.size());
        if cx.session.config().timeouts.is_ahead(has.saturating_sub(self.mark), size) {
            (self.mark, self.troubles) = (has, 0);
        }
    }

    fn id(&self) -> BlobId {
        BlobId::from(&self.blob)
    }

    fn wrong(&self, asked: Asked, found: crate::spec::Digest, reply: Option<&Reply>) -> Error {
        let coding = reply.and_then(|reply| reply.header("content-encoding"));
        match coding.filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
            Some(coding) => Error::Protocol {
                asked,
                what: format!("the content came encoded ({coding}), though `identity` was asked for"),
            },
            None => Error::Integrity { asked, expected: self.blob.digest.clone(), found },
        }
    }

    /// Only a registry that hands out more than there should be runs into that limit.
    fn too_large(&self, why: Error) -> Error {
        match why {
            Error::Transport { asked, last, .. } if last.kind() == FailureKind::TooLarge => {
                let what = format!("it hands out more than the {} bytes that the blob should have", self.place.size());
                Error::Protocol { asked, what }
            }
            why => why,
        }
    }
}

fn settled(result: Result<u64, Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for Download {
    type Output = u64;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<u64> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            let next = match &mut self.state {
                State::New { survey: true } => {
                    let ticket = cx.ticket();
                    let range = self.place.to_range(self.blob.digest.clone());
                    self.state = State::Surveying(ticket.id());
                    return Step::Run(Job::Local(LocalJob::survey(ticket, range, self.alone)));
                }
                State::New { survey: false } => self.go_on(cx),
                State::Asking(exchange) => match ready!(exchange.poll(cx)) {
                    Ok(Answer::Reply(reply)) => self.after_reply(cx, &reply),
                    Ok(Answer::Lost(lost)) => self.after_loss(cx, lost),
                    Ok(Answer::NotAsked) => settled(Err(Error::Cancelled)),
                    Err(why) => settled(Err(self.too_large(why))),
                },
                State::Pausing(until) if *until > cx.now => return Step::Wait(Some(*until)),
                State::Pausing(_) => self.go_on(cx),
                State::Surveying(_) => return Step::Wait(None),
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
            self.state = next;
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Asking(exchange) => exchange.handle(cx, done),
            State::Surveying(job) if *job == done.id => {
                self.state = match done.outcome {
                    Outcome::Hashed(found) => self.after_survey(cx, found),
                    Outcome::Failed { why, .. } => settled(Err(Error::Local(why))),
                    _ => unreachable!("tickets are typed: a survey gets a digester"),
                };
                Ok(())
            }
            _ => Err(done),
        }
    }

    fn cancel(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Asking(mut exchange) => {
                exchange.cancel();
                State::Asking(exchange)
            }
            State::Surveying(job) => State::Cancelling(job),
            State::New { .. } | State::Pausing(_) => settled(Err(Error::Cancelled)),
            other => other,
        };
    }
}
