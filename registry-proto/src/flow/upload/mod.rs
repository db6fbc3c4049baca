//! Brings one blob to a repository.
//!
//! ```text
//!                        there                        mounted
//!   New ─▶ Checking ──────────▶ Settled ◀──────────────────────────┐
//!             │ absent                                             │
//!             └────────▶ Opening(POST, mounting if it can) ────────┤
//!                          ▲          │ session (Outside: waits)   │
//!           the session is │          ▼                            │ committed
//!           lost: restart  │        next() ◀── CatchingUp(Hash)    │
//!                          │          │  ▲ ◀─ Fetching(a piece)    │
//!                          │   ┌──────┼──┴─────▲──────┐            │
//!                          │   ▼      ▼        │      ▼            │
//!                          │ Chunk  Whole ─────┼─▶  Commit ────────┤
//!                          │   │      │        │      │            │
//!                          │   └──────┴─ lost, │refused ─▶ Pausing │
//!                          │                   │              │    │
//!                          ├───── gone ──── Probing ◀─────────┤    │
//!                          └───── absent ── Confirming ◀──────┘ ───┘
//!
//!   an error with a session open: ─▶ GivingUp(DELETE) ─▶ Settled
//! ```
//!
//! Where the bytes come from makes little difference: a file is described to the driver, and what another registry has is
//! fetched in pieces ([`source`]), the next one while the last one is being sent.
//!
//! Whatever happens to a `PATCH` or `PUT`, the registry is asked how far it came ([Probing](State::Probing)) or whether the
//! blob is there after all ([Confirming](State::Confirming)) before another byte is sent.

mod content;
mod source;

pub(crate) use content::{Content, Load};

use std::collections::VecDeque;
use std::time::Duration;

use http::{Method, StatusCode, Uri};

use source::Source;

use crate::archive::ArchiveBlob;
use crate::digester::Digester;
use crate::endpoint::Reply;
use crate::endpoint::upload::{self, SessionState, Started};
use crate::error::{Asked, Error};
use crate::event::{BlobId, Event};
use crate::flow::{Answer, Context, Exchange, Flow, HasBlob, Held, Lost, Step, ready, unreachable_loss};
use crate::job::{
    BlobPart, Completion, Failure, FailureKind, FileRange, Job, JobId, LocalJob, Meter, Outcome, Payload,
};
use crate::session::{Learned, UploadPolicy};
use crate::spec::{AckedOffset, Digest, ErrorCode, Origin, Repository, RepositoryName};
use crate::time::Time;

/// How often an upload starts over because of what the registry says (as opposed to a bad network).
const RESTARTS: u32 = 2;

/// How many times the configured size a piece in memory may have for a registry that takes no smaller chunks.
const MOST_PIECES: u64 = 4;

/// Brings one blob to one repository, by the cheapest way that works: it is there already, the registry mounts it from
/// another repository, or it is sent, in one request or in chunks, resumed after every interruption.
///
/// Yields what was [`Uploaded`].
#[derive(Debug)]
pub struct Upload {
    repository: Repository,
    origin: Origin,
    digest: Digest,
    size: u64,
    content: Content,
    /// What fetches the pieces, if the content is another registry's.
    source: Option<Box<Source>>,
    from: Option<RepositoryName>,
    /// It asks whether the blob is there, or can be mounted, and waits to be let in before it moves a byte.
    outside: bool,
    digester: Digester,
    meter: Meter,
    /// Where the session's next request goes: always the newest `Location`.
    session: Option<Uri>,
    chunk_min: u64,
    /// How many bytes the registry holds, by its word.
    acked: u64,
    /// Whether this session was sent anything: a registry that then says `0-0` may hold a byte or none.
    handed: bool,
    /// The most it ever held: only beyond it is there progress.
    best: u64,
    /// What that was when troubles last counted as made up for.
    mark: u64,
    /// Troubles in a row without progress.
    troubles: u32,
    restarts: u32,
    notes: VecDeque<Event>,
    state: State,
}

/// The result of an [`Upload`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// How it came there.
    pub brought: Brought,
}

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// An earlier operation of this session had brought or seen it; the registry was not asked.
    Known,
    /// The registry had it.
    Existed,
    /// The registry took it over from another of its repositories.
    Mounted,
    /// It was sent.
    Sent,
}

#[derive(Debug)]
enum State {
    New,
    Checking(Box<HasBlob>),
    Opening {
        post: Exchange,
        mounting: bool,
    },
    /// The blob is not there; nothing is moved before this is let in.
    Outside,
    Sending {
        exchange: Exchange,
        part: Part,
    },
    /// Nothing can be sent before the source has the next piece.
    Fetching,
    Behind,
    CatchingUp(JobId),
    Pausing(Time, Then),
    Probing(Exchange),
    Confirming(Box<HasBlob>, Then),
    StoppingHash(JobId),
    Stopped,
    GivingUp(Exchange, Box<Error>),
    Settled(Box<Result<Uploaded, Error>>),
    Over,
}

/// Which bytes a request carries, and whether it closes the session.
#[derive(Clone, Copy, Debug)]
struct Part {
    at: u64,
    length: u64,
    closes: bool,
    began: Time,
}

/// Whether to wait before going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// The registry said what it wants instead.
    None,
    /// It may be overloaded, or the network broken.
    Backoff,
}

/// What follows a pause, or a blob that turned out not to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Probe,
    Confirm,
    Restart,
}

impl Upload {
    /// An upload of a blob of an archive. `from` is another repository of the same registry that is known to hold it.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the repository's registry has no usable address, or the blob's digest can't be verified.
    pub fn new(
        cx: &Context<'_>,
        repository: &Repository,
        blob: &ArchiveBlob,
        from: Option<RepositoryName>,
    ) -> Result<Self, Error> {
        Self::of(cx, repository, Load::from(blob), from)
    }

    /// As [`Upload::new`], of a blob from wherever it is.
    pub(crate) fn of(
        cx: &Context<'_>,
        repository: &Repository,
        load: Load,
        from: Option<RepositoryName>,
    ) -> Result<Self, Error> {
        let Load { digest, size, content } = load;
        let origin = cx.origin(repository.registry())?;
        let digester = running(&digest)?;
        let source = match &content {
            Content::Remote(holder) => Some(Box::new(Source::new(cx, holder, &digest, size)?)),
            Content::Bytes(_) | Content::File { .. } => None,
        };
        Ok(Self {
            repository: repository.clone(),
            origin,
            digest,
            size,
            content,
            source,
            from,
            outside: false,
            digester,
            meter: Meter::default(),
            session: None,
            chunk_min: 0,
            acked: 0,
            handed: false,
            best: 0,
            mark: 0,
            troubles: 0,
            restarts: 0,
            notes: VecDeque::new(),
            state: State::New,
        })
    }

    /// To be let in before it moves a byte: until then it costs the registry a few words.
    pub(crate) const fn outside(mut self) -> Self {
        self.outside = true;
        self
    }

    /// Whether there is nothing more to do before it is let in.
    pub(crate) const fn waits_outside(&self) -> bool {
        self.outside && matches!(self.state, State::Outside)
    }

    pub(crate) const fn let_in(&mut self) {
        self.outside = false;
    }

    fn name(&self) -> &RepositoryName {
        self.repository.name()
    }

    fn id(&self) -> BlobId {
        BlobId { digest: self.digest.clone(), size: self.size }
    }

    fn ask(&self, ask: crate::endpoint::Ask) -> Exchange {
        Exchange::new(ask, self.repository.registry())
    }

    fn learned<'a>(&self, cx: &'a mut Context<'_>) -> &'a mut Learned {
        cx.session.learned(&self.origin)
    }

    // ── transitions: every decision about what follows what ──────────────────────────────────────────────────────────

    fn start(&mut self, cx: &Context<'_>) -> State {
        if cx.session.known.holds(&self.origin, self.name(), &self.digest) {
            return self.settle(Brought::Known);
        }
        // Where a mount is likely to succeed, asking first whether the blob is there would only cost a request: mounting a
        // blob that is there already does no harm.
        if self.from.is_some() { self.open(cx, true) } else { State::Checking(self.look()) }
    }

    fn after_check(&mut self, cx: &mut Context<'_>, held: Result<Held, Error>) -> State {
        match held {
            Ok(Held::There) => self.settle(Brought::Existed),
            Ok(Held::Absent(_)) if self.from.is_some() => self.open(cx, true),
            Ok(Held::Absent(_)) if self.outside => State::Outside,
            Ok(Held::Absent(_)) => self.after_let_in(cx),
            Err(why) => self.fail(cx, why),
        }
    }

    /// The blob is not there: it has to be moved.
    fn after_let_in(&mut self, cx: &mut Context<'_>) -> State {
        if self.session.is_some() {
            return self.begin(cx);
        }
        self.look_ahead(cx);
        self.open(cx, false)
    }

    fn after_open(&mut self, cx: &mut Context<'_>, answer: Result<Answer, Error>, mounting: bool) -> State {
        let limits = cx.session.config().limits;
        let started = match answer {
            // A token server that refuses the source repository's scope refuses the whole token: go without a mount.
            Err(Error::Denied(_)) if mounting => Ok(Started::NotMounted),
            answer => reply_of(answer).and_then(|reply| upload::started(&reply, mounting, &limits)),
        };
        match started {
            Ok(Started::Mounted) => self.settle(Brought::Mounted),
            Ok(Started::NotMounted) => {
                self.from = None;
                State::Checking(self.look())
            }
            Ok(Started::Session { url, chunk_min }) => {
                self.session = Some(url);
                self.chunk_min = chunk_min;
                self.acked = 0;
                self.handed = false;
                // Instead of mounting it, the registry has opened a session.
                if self.outside { State::Outside } else { self.begin(cx) }
            }
            Err(why) => self.fail(cx, why),
        }
    }

    /// A new session is there, and nothing was sent.
    fn begin(&mut self, cx: &mut Context<'_>) -> State {
        // What is fetched once more is looked at once more, too: it may be other bytes now.
        if self.source.is_some()
            && let Ok(fresh) = running(&self.digest)
        {
            self.digester = fresh;
        }
        self.notes.push_back(Event::Sending {
            repository: self.repository.clone(),
            blob: self.id(),
            meter: self.meter.clone(),
        });
        self.next(cx)
    }

    /// The one place that decides what is sent next: catch up, everything at once, another chunk, or the commit.
    fn next(&mut self, cx: &mut Context<'_>) -> State {
        let Some(session) = self.session.clone() else { return self.open(cx, false) };
        if self.source.is_some() {
            // It can't hold what it was not sent: some count one too many (PROTOCOL §1.9).
            self.acked = self.acked.min(self.digester.at());
        }
        if self.digester.at() < self.acked {
            return State::Behind;
        }
        let limits = cx.session.config().limits;
        let policy = cx.session.config().upload;
        let left = self.size - self.acked;
        if left > 0 {
            let mut part = match self.chunk_size(cx, policy, left) {
                None => Part { at: self.acked, length: left, closes: true, began: cx.now },
                Some(chunk) => Part { at: self.acked, length: chunk.min(left), closes: false, began: cx.now },
            };
            if self.source.is_some() {
                part = match self.fetched(cx, part) {
                    Ok(part) => part,
                    Err(state) => return *state,
                };
            }
            self.handed = true;
            let payload = self.payload(part);
            if self.source.is_some()
                && self.digester.at() == self.size
                && let Err(why) = self.check()
            {
                return self.fail(cx, why);
            }
            let ask = if part.closes {
                upload::finish(&session, self.name(), &self.digest, payload, &limits)
            } else {
                upload::patch(&session, self.name(), part.at, payload, &limits)
            };
            return State::Sending { exchange: self.ask(ask), part };
        }
        if let Err(why) = self.check() {
            return self.fail(cx, why);
        }
        let part = Part { at: self.size, length: 0, closes: true, began: cx.now };
        let ask = upload::finish(&session, self.name(), &self.digest, Payload::Empty, &limits);
        State::Sending { exchange: self.ask(ask), part }
    }

    /// The first piece can come while the session is being opened.
    fn look_ahead(&mut self, cx: &Context<'_>) {
        let length = cx.session.config().piece.get().min(self.size);
        if let Some(source) = &mut self.source {
            source.look_ahead(cx, length);
        }
    }

    /// As much of a part as has been fetched by now, with the next piece on its way. `Err`: nothing to send yet, or ever.
    fn fetched(&mut self, cx: &mut Context<'_>, part: Part) -> Result<Part, Box<State>> {
        // The registry's least chunk may be larger than our pieces, but not without end: they are in memory.
        let policy = cx.session.config().upload;
        let piece = cx.session.config().piece.get();
        let least = self.chunk_min.min(piece.saturating_mul(MOST_PIECES));
        let piece = piece.max(least);
        let too_large = part.closes && part.length > piece;
        if too_large && (policy == UploadPolicy::Monolithic || self.learned(cx).refuses_chunks()) {
            let (size, asked) = (self.size, self.asked(&Method::PUT));
            let what =
                format!("{asked}: a blob of {size} bytes would have to be sent in one request, from memory, where");
            let why =
                format!("{what} pieces of {piece} bytes are allowed: allow larger ones, or chunks if they are not");
            return Err(Box::new(self.fail(cx, Error::Misuse(why))));
        }
        let part = Part { closes: part.closes && !too_large, ..part };
        let length = part.length.min(piece);
        let least = if part.closes { length } else { least.min(length) };
        let Some(source) = &mut self.source else { return Ok(part) };
        if part.at < self.digester.at() && !source.holds(part.at) {
            // It has lost bytes that it had confirmed. Fetched again, they could not be checked in the middle of a hash.
            return Err(Box::new(self.start_over(cx)));
        }
        match source.bytes_at(cx, part.at, least, length) {
            Ok(Some(here)) => {
                source.look_ahead(cx, length);
                Ok(Part { length: length.min(here), ..part })
            }
            Ok(None) => Err(Box::new(State::Fetching)),
            Err(why) => Err(Box::new(self.fail(cx, why))),
        }
    }

    /// Whether what was hashed, the whole blob, is what it should be.
    fn check(&self) -> Result<(), Error> {
        let found = self.digester.digest();
        if found == self.digest {
            return Ok(());
        }
        Err(match &self.source {
            Some(source) => source.mismatch(found),
            None => {
                let why = format!("a blob was to be {}, but its bytes are {found}", self.digest);
                Error::Local(Failure::new(FailureKind::Mismatch, why))
            }
        })
    }

    /// How large the next chunk is; `None` to send all that is left in the closing request.
    fn chunk_size(&self, cx: &mut Context<'_>, policy: UploadPolicy, left: u64) -> Option<u64> {
        let limits = cx.session.config().limits;
        let (acked, size, min) = (self.acked, self.size, self.chunk_min);
        let learned = self.learned(cx);
        if learned.refuses_chunks() {
            return None;
        }
        match policy {
            UploadPolicy::Monolithic => None,
            UploadPolicy::Chunked(chunk) if acked == 0 && size <= chunk.get() && learned.takes_whole(size) => None,
            UploadPolicy::Chunked(chunk) if learned.takes_whole(chunk.get()) => Some(chunk.get().max(min)),
            UploadPolicy::Auto if acked == 0 && learned.takes_whole(left) => None,
            UploadPolicy::Chunked(_) | UploadPolicy::Auto => Some(learned.chunk(&limits, min)),
        }
    }

    fn after_part(&mut self, cx: &mut Context<'_>, answer: Result<Answer, Error>, part: Part) -> State {
        let reply = match answer {
            Ok(Answer::Reply(reply)) => reply,
            Ok(Answer::Lost(lost)) => return self.after_loss(cx, lost, part),
            Err(why) => return self.fail(cx, why),
        };
        self.adopt(reply.moved.as_ref());
        if reply.status.is_success() {
            return if part.closes { self.after_commit(cx, &reply) } else { self.after_chunk(cx, &reply, part) };
        }
        let limits = cx.session.config().limits;
        match reply.status.as_u16() {
            // After a lost reply the blob may have been committed all the same (GHCR).
            404 if part.closes => State::Confirming(self.look(), Then::Restart),
            404 => self.restart(cx, &reply),
            400 if self.restarts < RESTARTS && blames_content(&reply) => self.restart(cx, &reply),
            405 | 501 if !part.closes && part.length > 0 => {
                let learned = self.learned(cx);
                if learned.takes_whole(self.size) {
                    learned.refused_chunks();
                    self.restart(cx, &reply)
                } else {
                    self.fail(cx, reply.refusal(Some("this registry takes neither bodies of this size nor chunks")))
                }
            }
            413 | 416 if part.length > 0 && cx.session.config().upload == UploadPolicy::Monolithic => {
                self.fail(cx, reply.refusal(Some("allow chunks: one request is too large for this registry")))
            }
            413 => {
                if self.learned(cx).refused_size(&limits, part.length) {
                    self.trouble(cx, &reply.asked, "it takes no bodies of this size", Then::Probe, Pause::None)
                } else {
                    self.fail(cx, reply.refusal(Some("even the smallest chunk is too large for it")))
                }
            }
            // Out of order, or (GHCR) too large: the session's state tells which.
            416 => {
                self.learned(cx).refused_size(&limits, part.length);
                self.trouble(cx, &reply.asked, "it wants other bytes first", Then::Probe, Pause::None)
            }
            _ if is_worth_another_try(reply.status) => {
                let why = reply.status.to_string();
                let then = if part.closes { Then::Confirm } else { Then::Probe };
                if self.troubles >= cx.session.config().retries {
                    return self.fail(cx, reply.refusal(Some("it was tried again and again")));
                }
                self.trouble(cx, &reply.asked, &why, then, Pause::Backoff)
            }
            _ => self.fail(cx, reply.refusal(None)),
        }
    }

    /// A request of which nobody knows how much arrived.
    fn after_loss(&mut self, cx: &mut Context<'_>, lost: Lost, part: Part) -> State {
        let limits = cx.session.config().limits;
        let got = lost.moved.as_ref().map_or(0, |sent| sent.at().saturating_sub(part.at).min(part.length));
        self.adopt(lost.moved.as_ref());
        if part.length > 0 && !lost.why.sent_nothing() {
            self.learned(cx).cut(&limits, got, part.length);
        }
        // Only what was handed over whole can have been committed; of what was in memory nobody knows how much that was.
        let whole = got == part.length || self.source.is_some();
        let then = if part.closes && whole { Then::Confirm } else { Then::Probe };
        if self.troubles >= cx.session.config().retries {
            let error = Error::Transport { asked: lost.asked, last: lost.why, tries: self.troubles + 1 };
            return self.fail(cx, error);
        }
        self.trouble(cx, &lost.asked, &lost.why.to_string(), then, Pause::Backoff)
    }

    fn after_chunk(&mut self, cx: &mut Context<'_>, reply: &Reply, part: Part) -> State {
        let Some(session) = self.session.clone() else { return self.open(cx, false) };
        let (acked, url) = match upload::patched(reply, &session, part.at, part.length) {
            Ok(news) => news,
            Err(why) => return self.fail(cx, why),
        };
        let limits = cx.session.config().limits;
        let at = match acked {
            AckedOffset::At(at) => at,
            AckedOffset::Unknown => part.at + part.length,
            AckedOffset::Forward(at) => {
                return self
                    .fail(cx, reply.broken(format!("it claims to hold {at} bytes, of which it was sent fewer")));
            }
        };
        self.session = Some(url);
        let mark = self.mark;
        self.progress(cx, at);
        if at == part.at + part.length {
            let took = cx.now.since(part.began);
            self.learned(cx).chunk_went_through(&limits, part.length, took);
            return self.next(cx);
        }
        // What it didn't keep is sent again: in smaller chunks, and not for ever (A34).
        self.learned(cx).cut(&limits, at.saturating_sub(part.at), part.length);
        if self.mark == mark {
            self.troubles += 1;
        }
        if self.troubles > cx.session.config().retries {
            return self.fail(cx, reply.broken("it keeps next to nothing of what it is sent"));
        }
        self.next(cx)
    }

    fn after_commit(&mut self, cx: &mut Context<'_>, reply: &Reply) -> State {
        self.learned(cx).went_through();
        // 202 is no commit yet; whether it will be one is seen by asking.
        if reply.status == StatusCode::ACCEPTED {
            return State::Confirming(self.look(), Then::Restart);
        }
        self.settle(Brought::Sent)
    }

    fn after_probe(&mut self, cx: &mut Context<'_>, answer: Result<Answer, Error>) -> State {
        let Some(session) = self.session.clone() else { return self.open(cx, false) };
        let known = (!self.handed || self.acked > 0).then_some(self.acked);
        let state = reply_of(answer).and_then(|reply| {
            let state = upload::state(&reply, &session, known)?;
            match state {
                SessionState::At { at, .. } if at > self.size => {
                    Err(reply.broken(format!("it claims to hold {at} bytes of a blob of {}", self.size)))
                }
                state => Ok(state),
            }
        });
        match state {
            Ok(SessionState::At { at, url }) => {
                self.session = Some(url);
                self.progress(cx, at);
                self.next(cx)
            }
            Ok(SessionState::Gone) => {
                self.session = None;
                self.open(cx, false)
            }
            Err(why) => self.fail(cx, why),
        }
    }

    fn after_confirm(&mut self, cx: &mut Context<'_>, held: Result<Held, Error>, then: Then) -> State {
        match held {
            Ok(Held::There) => self.settle(Brought::Sent),
            Ok(Held::Absent(reply)) if then == Then::Restart => self.restart(cx, &reply),
            Ok(Held::Absent(_)) => self.probe(cx),
            Err(why) => self.fail(cx, why),
        }
    }

    /// The registry will not go on with this session: start over, but not for ever.
    fn restart(&mut self, cx: &Context<'_>, reply: &Reply) -> State {
        if self.restarts >= RESTARTS {
            return self.fail(cx, reply.refusal(Some("starting over did not help")));
        }
        self.restarts += 1;
        self.session = None;
        self.open(cx, false)
    }

    /// The registry has gone back in this session to where we can't follow: the same, without a reply that says "no".
    fn start_over(&mut self, cx: &Context<'_>) -> State {
        if self.restarts >= RESTARTS {
            let asked = self.asked(&Method::GET);
            let what =
                format!("it holds only {} bytes of an upload again and again, after it had confirmed more", self.acked);
            return self.fail(cx, Error::Protocol { asked, what });
        }
        self.restarts += 1;
        self.session = None;
        self.open(cx, false)
    }

    fn trouble(&mut self, cx: &mut Context<'_>, asked: &Asked, why: &str, then: Then, pause: Pause) -> State {
        self.troubles += 1;
        if self.troubles > cx.session.config().retries {
            let last = Failure::new(FailureKind::Protocol, why);
            return self.fail(cx, Error::Transport { asked: asked.clone(), last, tries: self.troubles });
        }
        let after = match pause {
            Pause::None => Duration::ZERO,
            Pause::Backoff => cx.backoff(self.troubles),
        };
        self.notes.push_back(Event::Retrying { request: asked.to_string(), why: why.to_owned(), after });
        State::Pausing(cx.now + after, then)
    }

    fn after_pause(&self, cx: &Context<'_>, then: Then) -> State {
        match then {
            Then::Probe => self.probe(cx),
            Then::Confirm => State::Confirming(self.look(), Then::Probe),
            Then::Restart => self.open(cx, false),
        }
    }

    fn settle(&mut self, brought: Brought) -> State {
        let (repository, blob) = (self.repository.clone(), self.id());
        self.stop_source();
        self.session = None;
        self.meter.raise(self.size);
        self.notes.push_back(match brought {
            Brought::Known | Brought::Existed => Event::Exists { repository, blob },
            Brought::Mounted => Event::Mounted { repository, blob },
            Brought::Sent => Event::Sent { repository, blob, sent: self.size },
        });
        State::Settled(Box::new(Ok(Uploaded { digest: self.digest.clone(), size: self.size, brought })))
    }

    fn fail(&mut self, cx: &Context<'_>, why: Error) -> State {
        self.stop_source();
        match self.session.take() {
            None => State::Settled(Box::new(Err(why))),
            Some(session) => {
                let ask = upload::cancel(&session, self.name(), &cx.session.config().limits);
                State::GivingUp(self.ask(ask), Box::new(why))
            }
        }
    }

    // ── what the transitions are made of ─────────────────────────────────────────────────────────────────────────────

    fn look(&self) -> Box<HasBlob> {
        let (repository, origin) = (self.repository.clone(), self.origin.clone());
        Box::new(HasBlob::new(repository, origin, self.digest.clone(), self.size))
    }

    fn open(&self, cx: &Context<'_>, mounting: bool) -> State {
        let mount = self.from.as_ref().filter(|_| mounting).map(|from| (&self.digest, from));
        let ask = upload::start(&self.origin, self.name(), mount, &cx.session.config().limits);
        State::Opening { post: self.ask(ask), mounting: mount.is_some() }
    }

    fn probe(&self, cx: &Context<'_>) -> State {
        match &self.session {
            Some(session) => {
                State::Probing(self.ask(upload::status(session, self.name(), &cx.session.config().limits)))
            }
            None => self.open(cx, false),
        }
    }

    /// What is asked of the session, for errors.
    fn asked(&self, method: &Method) -> Asked {
        Asked::new(method, &self.session.clone().unwrap_or_default())
    }

    fn payload(&mut self, part: Part) -> Payload {
        match &self.content {
            Content::Bytes(bytes) => {
                let (from, to) = (clamp(part.at, bytes.len()), clamp(part.at + part.length, bytes.len()));
                let piece = bytes.slice(from..to);
                self.digester.feed(part.at, &piece).expect("a part starts at or below the digester's watermark");
                Payload::Bytes(piece)
            }
            Content::Remote(_) => {
                let source = self.source.as_ref().expect("made with the content");
                let piece = source.slice(part.at, part.length);
                self.digester.feed(part.at, &piece).expect("a part starts at or below the digester's watermark");
                Payload::Bytes(piece)
            }
            Content::File { path, range } => {
                let start = range.start + part.at;
                Payload::File(FileRange::new(path.clone(), start..start + part.length, self.blob_part(part.at)))
            }
        }
    }

    fn blob_part(&self, offset: u64) -> BlobPart {
        BlobPart {
            offset,
            size: self.size,
            expected: self.digest.clone(),
            digester: self.digester.clone(),
            meter: self.meter.clone(),
        }
    }

    /// Takes over the digester that a driver sent back, if it got further than ours.
    fn adopt(&mut self, sent: Option<&Digester>) {
        if let Some(sent) = sent
            && sent.at() > self.digester.at()
        {
            self.digester = sent.clone();
        }
    }

    fn stop_source(&mut self) {
        if let Some(source) = &mut self.source {
            source.stop();
        }
    }

    fn progress(&mut self, cx: &Context<'_>, at: u64) {
        self.acked = at;
        if at > self.best {
            self.best = at;
            self.meter.raise(at);
            if cx.session.config().timeouts.is_ahead(at - self.mark, self.size) {
                (self.mark, self.troubles) = (at, 0);
            }
            self.notes.push_back(Event::Sent { repository: self.repository.clone(), blob: self.id(), sent: at });
        }
    }

    /// The registry holds bytes that our hash has not seen (a reply was lost, and the digester with it): reads them here.
    fn catch_up(&mut self, cx: &mut Context<'_>) -> Option<Job> {
        let (at, acked) = (self.digester.at(), self.acked);
        match &self.content {
            // It was hashed before it was sent.
            Content::Remote(_) => {
                self.state = self.next(cx);
                None
            }
            Content::Bytes(bytes) => {
                let gap = &bytes[clamp(at, bytes.len())..clamp(acked, bytes.len())];
                self.digester.feed(at, gap).expect("it starts at the watermark");
                self.state = self.next(cx);
                None
            }
            Content::File { path, range } => {
                let gap = FileRange::new(path.clone(), range.start + at..range.start + acked, self.blob_part(at));
                let ticket = cx.ticket();
                self.state = State::CatchingUp(ticket.id());
                Some(Job::Local(LocalJob::hash(ticket, gap)))
            }
        }
    }

    fn hashed(&mut self, cx: &mut Context<'_>, outcome: Outcome) -> State {
        match outcome {
            Outcome::Hashed(digester) => {
                self.adopt(Some(&digester));
                // A driver that stopped short would send us round in circles.
                if self.digester.at() < self.acked {
                    let why = Failure::new(FailureKind::Source, "fewer bytes were hashed than were asked for");
                    return self.fail(cx, Error::Local(why));
                }
                self.next(cx)
            }
            Outcome::Failed { why, .. } => self.fail(cx, Error::Local(why)),
            _ => unreachable!("tickets are typed: a hash job gets a digester"),
        }
    }
}

impl Upload {
    /// The next step of the upload itself; what its source does beside that is its own.
    fn step(&mut self, cx: &mut Context<'_>) -> Step<Uploaded> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            self.state = match &mut self.state {
                State::New => self.start(cx),
                State::Checking(look) => {
                    let held = ready!(look.poll(cx));
                    self.after_check(cx, held)
                }
                State::Opening { post, mounting } => {
                    let mounting = *mounting;
                    let answer = ready!(post.poll(cx));
                    self.after_open(cx, answer, mounting)
                }
                State::Sending { exchange, part } => {
                    let part = *part;
                    let answer = ready!(exchange.poll(cx));
                    self.after_part(cx, answer, part)
                }
                State::Outside if self.outside => return Step::Wait(None),
                State::Outside => self.after_let_in(cx),
                State::Fetching => match self.next(cx) {
                    State::Fetching => return Step::Wait(None),
                    state => state,
                },
                State::Behind => match self.catch_up(cx) {
                    Some(job) => return Step::Run(job),
                    None => continue,
                },
                State::CatchingUp(_) => return Step::Wait(None),
                State::StoppingHash(job) => {
                    let job = *job;
                    self.state = self.fail(cx, Error::Cancelled);
                    return Step::Abort(job);
                }
                State::Pausing(until, then) if *until <= cx.now => {
                    let then = *then;
                    self.after_pause(cx, then)
                }
                State::Pausing(until, _) => return Step::Wait(Some(*until)),
                State::Stopped => self.fail(cx, Error::Cancelled),
                State::Probing(exchange) => {
                    let answer = ready!(exchange.poll(cx));
                    self.after_probe(cx, answer)
                }
                State::Confirming(look, then) => {
                    let then = *then;
                    let held = ready!(look.poll(cx));
                    self.after_confirm(cx, held, then)
                }
                State::GivingUp(exchange, _) => {
                    // Whatever comes of it: the error that led here is the one to tell.
                    let _ = ready!(exchange.poll(cx));
                    match std::mem::replace(&mut self.state, State::Over) {
                        State::GivingUp(_, why) => State::Settled(Box::new(Err(*why))),
                        _ => unreachable!("the state was just matched"),
                    }
                }
                // Something is still to be aborted.
                State::Settled(_) if self.source.as_ref().is_some_and(|source| source.is_restless()) => {
                    return Step::Wait(None);
                }
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => {
                        if result.is_ok() {
                            cx.session.known.remember(&self.origin, self.repository.name(), &self.digest);
                        }
                        return Step::Done(*result);
                    }
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
        }
    }
}

impl Flow for Upload {
    type Output = Uploaded;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Uploaded> {
        loop {
            let beside = match self.source.as_mut().map(|source| source.poll(cx)) {
                None => None,
                Some(Step::Wait(until)) => until,
                Some(Step::Done(_)) => continue,
                Some(Step::Run(job)) => return Step::Run(job),
                Some(Step::Abort(job)) => return Step::Abort(job),
                Some(Step::Note(event)) => return Step::Note(event),
            };
            match self.step(cx) {
                Step::Wait(_) if self.source.as_ref().is_some_and(|source| source.is_restless()) => {}
                Step::Wait(until) => return Step::Wait(until.into_iter().chain(beside).min()),
                step => return step,
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        let done = match &mut self.source {
            Some(source) => match source.handle(cx, done) {
                Ok(()) => return Ok(()),
                Err(done) => done,
            },
            None => done,
        };
        match &mut self.state {
            State::Checking(look) | State::Confirming(look, _) => look.handle(cx, done),
            State::Opening { post: exchange, .. }
            | State::Sending { exchange, .. }
            | State::Probing(exchange)
            | State::GivingUp(exchange, _) => exchange.handle(cx, done),
            State::CatchingUp(job) if *job == done.id => {
                self.state = self.hashed(cx, done.outcome);
                Ok(())
            }
            _ => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Checking(look) | State::Confirming(look, _) => look.cancel(),
            State::Opening { post: exchange, .. } | State::Sending { exchange, .. } | State::Probing(exchange) => {
                exchange.cancel();
            }
            State::CatchingUp(job) => self.state = State::StoppingHash(*job),
            State::New | State::Outside | State::Fetching | State::Behind | State::Pausing(..) => {
                self.state = State::Stopped;
            }
            // Tidying up is already under way, and short.
            State::GivingUp(..) | State::StoppingHash(_) | State::Stopped | State::Settled(_) | State::Over => {}
        }
    }
}

fn reply_of(answer: Result<Answer, Error>) -> Result<Reply, Error> {
    match answer? {
        Answer::Reply(reply) => Ok(reply),
        Answer::Lost(lost) => Err(unreachable_loss(lost)),
    }
}

fn clamp(at: u64, length: usize) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX).min(length)
}

fn running(digest: &Digest) -> Result<Digester, Error> {
    let unknown = || Error::Misuse(format!("{digest} uses an algorithm that can't be verified here"));
    digest.algorithm().map(Digester::new).ok_or_else(unknown)
}

/// Whether a 400 says that the bytes were wrong or out of order, which starting over may mend, rather than the request.
fn blames_content(reply: &Reply) -> bool {
    reply.errors().iter().any(|error| {
        matches!(
            error.code(),
            Some(
                ErrorCode::DigestInvalid
                    | ErrorCode::SizeInvalid
                    | ErrorCode::BlobUploadInvalid
                    | ErrorCode::RangeInvalid
            )
        )
    })
}

const fn is_worth_another_try(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429) || status.as_u16() >= 500 && !matches!(status.as_u16(), 501 | 505)
}
