//! Brings one blob to a repository.
//!
//! ```text
//!   New ─┬─ it is known to be there ───────────────────────────────────────────────────▶ Settled
//!        ├─ it may be mounted ─▶ Opening(POST, mounting) ─ mounted ──────────────────────▶ ▲
//!        │                          │           │ not mounted                              │
//!        │                          │ a session ▼                                          │
//!        ├─ nothing is known ───────┼───────▶ Checking ─ there ────────────────────────────┤
//!        │                          │           │ absent                                   │
//!        │                          ▼           ▼                                          │
//!        │                        (Outside, until it is let in, where many ask)            │
//!        │                          │           ├─ begun by an earlier process ─▶ Probing  │
//!        │                          │           ▼                                          │
//!        └─ not even its digest ────┼───────▶ Opening(POST) ◀── the session is lost ───┐   │
//!                                   │           │ a session                            │   │
//!                                   ▼           ▼                                      │   │
//!                                 next() ─ the registry has more than was hashed ─▶ Behind ─▶ CatchingUp ─▶ next()
//!                                   │  ▲ ▲ ◀─ Fetching(a piece)                        │   │
//!                                   ▼  │ │                                             │   │
//!                                 Sending(a chunk, everything, the end) ─ committed ───┼───┤
//!                                 Supplying(everything, piece by piece) ─ committed ───┼───┤
//!                                   │    │                                             │   │
//!                     lost, refused ▼    │                                             │   │
//!                                 Pausing│─▶ Probing(how far has it come?) ─ gone ─────┤   │
//!                                   │    └───── so far                                 │   │
//!                                   └─▶ Confirming(is it there after all?) ─ absent ───┘   │
//!                                          └─ there ───────────────────────────────────────┘
//!
//!   an error with a session open: ─▶ GivingUp(DELETE) ─▶ Settled
//!   a session that can't be used in the way that it was begun: ─▶ Discarding(DELETE) ─▶ Opening
//!   cancelled: what is under way is stopped (a hash: StoppingHash ─▶ Stopped) ─▶ GivingUp
//! ```
//!
//! Where the bytes come from makes little difference: a file is described to the driver, what another registry has is
//! fetched in pieces ([`source`]), the next one while the last one is being sent, and what goes by once is fed in such pieces.
//! Of that the digest is known when all of it was sent, in time for the closing `PUT`. What is fetched, is more than a piece and goes in
//! one request is not waited for: the request is sent first and the pieces after it ([`supply`]).
//!
//! Whatever happens to a `PATCH` or `PUT`, the registry is asked how far it came ([Probing](State::Probing)) or whether the
//! blob is there after all ([Confirming](State::Confirming)) before another byte is sent.
//!
//! An upload that is to be gone on with later tells every change of its session, and leaves it open when it is stopped. One
//! that goes on from such a session looks whether the blob is there, as any other, and then asks the registry how far it came
//! (`Checking ─▶ Probing`): nothing else is known of it.
//!
//! The arrows are in [`transitions`], and where something did not go through in [`setbacks`]; [`session`] is about sessions that
//! outlive their process, [`count`] about what a registry means by how far it came, [`part`] about the bytes of a request, [`hash`]
//! about the digest that runs along, and [`drive`] about being a flow.

mod content;
mod count;
mod drive;
mod hash;
mod part;
mod session;
mod setbacks;
mod source;
mod supply;
mod transitions;

pub(crate) use content::{Content, Load};

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use http::{Method, Uri};

use count::Doubt;
use hash::running;
use part::Part;
use source::Source;
use supply::Supplying;

use crate::archive::ArchiveBlob;
use crate::digester::Digester;
use crate::endpoint::upload::{self, ChunkHints};
use crate::error::{Asked, Error};
use crate::event::{BlobId, Event};
use crate::flow::{Context, Exchange, HasBlob};
use crate::job::{JobId, Meter};
use crate::session::{Counting, Learned};
use crate::snapshot::UploadSession;
use crate::spec::{Algorithm, Digest, Origin, Repository, RepositoryName};
use crate::time::Time;

/// Brings one blob to one repository, by the cheapest way that works: it is there already, the registry mounts it from
/// another repository, or it is sent, in one request or in chunks, resumed after every interruption.
///
/// Yields what was [`Uploaded`]. `Debug` doesn't show where its session is, which may be signed.
///
/// ```
/// # use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::{Brought, ReadArchive, Upload};
/// use registry_proto::spec::Reference;
/// use registry_proto::Time;
/// # use std::path::Path;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::with("app.tar", make::docker_save_oci(&[SampleImage::new(&["app:v1"], &[b"a layer"])])));
/// # let mut session = Session::new(Config::default(), 1);
/// let archive = world.run(&mut session, ReadArchive::new(Path::new("app.tar"))).result?;
/// let repository = "localhost:5000/app".parse::<Reference>()?.repository().clone();
/// let layer = archive.blobs().next().expect("it has a layer");
/// let upload = Upload::new(&session.at(Time::ZERO), &repository, layer, None)?;
/// let uploaded = world.run(&mut session, upload).result?;
/// assert_eq!(uploaded.brought, Brought::Sent);
/// assert_eq!(world.registry().blobs("app"), [uploaded.digest]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`] and [`Error::Denied`] when the registry does not take it, [`Error::Transport`] when there is no getting through,
/// [`Error::Local`] when its bytes can't be read or are others than its digest says.
pub struct Upload {
    repository: Repository,
    origin: Origin,
    /// What it has to be; or, until all has come, what nobody knows yet.
    digest: Digest,
    /// Whether it is known from the start.
    named: bool,
    size: u64,
    content: Content,
    /// Where the pieces come from, if the content is in no file.
    source: Option<Source>,
    from: Option<RepositoryName>,
    /// It asks whether the blob is there, or can be mounted, and waits to be let in before it moves a byte.
    outside: bool,
    /// It may be gone on with later: its session is told, and outlives it.
    resumable: bool,
    /// The session of an earlier process, as long as nobody has asked for it.
    before: Option<(Uri, UploadSession)>,
    /// What whoever keeps it knows of the session.
    told: Option<UploadSession>,
    /// Nobody knows yet how far the session came that an earlier process has begun.
    takes_up: bool,
    /// How many bytes an earlier process had sent in the session.
    resumed: u64,
    digester: Digester,
    meter: Meter,
    /// Where the session's next request goes: always the newest `Location`.
    session: Option<Uri>,
    hints: ChunkHints,
    /// How many bytes the registry holds, by its word.
    acked: u64,
    /// Up to where this session was sent anything, if it was: a registry that then says `0-0` may hold a byte or none.
    handed: u64,
    /// How the registry counts what it holds when it is asked, as far as this upload can tell.
    counting: Counting,
    /// Whether that is proven, where what is sent next depends on it.
    doubt: Doubt,
    /// What was refused without a word that says why, until it is known how far the session has come.
    refused: Option<Part>,
    /// The most it ever held: only beyond it is there progress.
    best: u64,
    /// What that was when troubles last counted as made up for.
    mark: u64,
    /// Troubles in a row without progress.
    troubles: u32,
    restarts: u32,
    /// A request has met with a kept connection that was closed, since it last got ahead.
    was_stale: bool,
    /// One request for all that is left, sent while it is fetched, was tried.
    tried_whole: bool,
    /// A piece of a request that is over, to be aborted.
    stray: Option<JobId>,
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
    /// How many of them the registry had from an earlier process, if the blob was sent.
    pub resumed: u64,
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
    Supplying(Box<Supplying>),
    /// Nothing can be sent before the source has the next piece.
    Fetching,
    Behind,
    CatchingUp(JobId),
    Pausing(Time, Then),
    Probing(Exchange),
    Confirming(Box<HasBlob>, IfAbsent),
    StoppingHash(JobId),
    Stopped,
    /// The session is whole, but of no use; the next one comes after it.
    Discarding {
        exchange: Exchange,
        cancelled: bool,
    },
    GivingUp(Exchange, Box<Error>),
    Settled(Box<Result<Uploaded, Error>>),
    Over,
}

/// The size of what has no end yet: however much is sent, there is something left.
const ENDLESS: u64 = u64::MAX;

/// Whether to wait before going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// The registry said what it wants instead.
    None,
    /// It may be overloaded, or the network broken.
    Backoff,
}

/// What follows a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    GoOn,
    Probe,
    Confirm(IfAbsent),
}

/// What follows if a blob that may have been committed turns out not to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IfAbsent {
    Probe,
    Restart,
    /// It may still come: the registry has taken all of it, and was asked so often.
    Wait(u32),
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("repository", &self.repository)
            .field("digest", &self.digest)
            .field("acked", &self.acked)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
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
            Content::Remote(holder) => Some(Source::remote(cx, holder, &digest, size)?),
            Content::Fed => Some(Source::gone(size, from.is_some())),
            Content::Bytes(_) | Content::File { .. } => None,
        };
        Ok(Self {
            repository: repository.clone(),
            origin,
            digest,
            named: true,
            size,
            content,
            source,
            from,
            outside: false,
            resumable: false,
            before: None,
            told: None,
            takes_up: false,
            resumed: 0,
            digester,
            meter: Meter::default(),
            session: None,
            hints: ChunkHints::default(),
            acked: 0,
            handed: 0,
            counting: Counting::LastByte,
            doubt: Doubt::None,
            refused: None,
            best: 0,
            mark: 0,
            troubles: 0,
            restarts: 0,
            was_stale: false,
            tried_whole: false,
            stray: None,
            notes: VecDeque::new(),
            state: State::New,
        })
    }

    /// An upload of a blob that goes by: nobody knows its digest yet (nor its size, if that is `None`), and its bytes come in pieces, by [`Upload::feed`].
    pub(crate) fn going_by(
        cx: &Context<'_>,
        repository: &Repository,
        algorithm: Algorithm,
        size: Option<u64>,
    ) -> Result<Self, Error> {
        let digest = Digester::new(algorithm).digest();
        let load = Load { digest, size: size.unwrap_or(ENDLESS), content: Content::Fed };
        let upload = Self::of(cx, repository, load, None)?;
        Ok(Self { named: false, source: Some(Source::fed(size)), ..upload })
    }

    /// Whether it wants more bytes, this many at a time. The answer may be another one after each poll.
    pub(crate) fn is_hungry(&self, piece: u64) -> bool {
        self.source.as_ref().is_some_and(|source| source.is_hungry(piece))
    }

    /// Takes the next bytes; `last`: there are no more.
    pub(crate) fn feed(&mut self, bytes: Bytes, last: bool) {
        if let Some(source) = &mut self.source {
            source.feed(bytes);
            if last {
                self.size = source.end().unwrap_or(self.size);
            }
        }
    }

    /// How far it has come, live.
    pub(crate) const fn meter(&self) -> &Meter {
        &self.meter
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

    /// What is sent to the session, for errors.
    fn asked(&self) -> Asked {
        Asked::new(&Method::PUT, &self.session.clone().unwrap_or_default())
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
                (self.mark, self.troubles, self.was_stale) = (at, 0, false);
            }
            // Nobody would know which blob that is about; and that all of it is there is told when it is the registry's blob.
            if self.named && at < self.size {
                self.notes.push_back(Event::Sent { repository: self.repository.clone(), blob: self.id(), sent: at });
            }
        }
    }
}
