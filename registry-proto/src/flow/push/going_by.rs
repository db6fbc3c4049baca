//! Pushes an archive that goes by once: standard input, or what a decompressor makes of a file.
//!
//! ```text
//!            ┌──────────────── a file that nobody wants, or that is there ◀────┐
//!            ▼                                                                 │
//!   New ─▶ Next ─▶ Winding ─┬─ the file's name says its digest ─▶ Looking(HEAD) ┤
//!            ▲              │                                       │ absent   │
//!            │              ├─ it doesn't ─▶ Sending ◀──────────────┘          │
//!            │              │                 │  ▲                             │
//!            │              │                 │  └─ pieces of it, as the upload wants them
//!            └──────────────┼─────────────────┘ all of it is there
//!                           └─ the end of the archive: now its documents tell what all that was
//!                                  └─▶ (plan: which image goes where) ─▶ Delivering ─▶ the end
//!                                       (beside it, what comes after the archive: `rest`)
//!
//!   an error, or cancelled, while something is being read: ─▶ Stopping ─▶ the end
//! ```
//!
//! Blobs are sent in the archive's order, one at a time, before anybody knows which image they belong to: most archives say that
//! last. Each is committed under the digest that its bytes really have. At the end the archive's documents have to agree with
//! what went by, and only then is there a manifest. Blobs that no manifest names stay behind without a name, for the registry's
//! garbage collection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::archive::{Archive, BlobContent, Compressor, Examined, Feed, Squeezed, Tape, TapeFile, Wind, Wound};
use crate::error::Error;
use crate::event::{BlobId, Event};
use crate::flow::deliver::{Deliver, Totals};
use crate::flow::push::sending::{Reel, Sending, wound};
use crate::flow::push::{Destination, PushOptions, Pushed, plan};
use crate::flow::rest::Rest;
use crate::flow::{Context, Flow, HasBlob, Held, Step, Uploaded, ready};
use crate::job::{Completion, Job, JobId, LocalJob};
use crate::spec::{Digest, Reference, Repository};

/// Pushes an image of an archive that can be read only once and in order, in memory of a few [pieces](crate::Config::piece),
/// without a copy of it anywhere.
///
/// What a name in the archive says to be there already is not sent, nor read twice. The rest goes as it comes, one blob after
/// the other, in requests of a piece each; a piece is kept until the registry has confirmed it, so that a connection may break.
/// If the registry forgets an upload that it had confirmed in part, the push fails.
///
/// Yields what was [`Pushed`].
///
/// ```
/// # use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// use registry_proto::archive::Feed;
/// use registry_proto::flow::{PushFeed, PushOptions};
/// use registry_proto::{Config, Session};
///
/// # let archive = make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &[b"a layer"])]);
/// # let mut world = Simulation::new(1, Registry::new(Profile::distribution_3()), MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// // With a client: Feed::new("standard input", std::io::stdin()) and client.run(…)
/// let feed = Feed::new("standard input", std::io::Cursor::new(archive));
/// let ran = world.run(&mut session, PushFeed::new(feed, "localhost:5000/app:v1".parse()?, PushOptions::default()));
/// assert_eq!(world.registry().tags("app"), ["v1"]);
/// # assert!(ran.result.is_ok());
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
///
/// # Errors
/// [`Error::Archive`] when the archive turns out not to be what it should be, which may be after blobs were sent (but before a
/// manifest is); [`Error::Misuse`] when it holds several images and [`PushOptions::image`] says none; any other on the way.
#[derive(Debug)]
pub struct PushFeed {
    to: Destination,
    options: PushOptions,
    /// What an earlier pass found, if there was one.
    contents: Option<Contents>,
    /// What layers are compressed by that are not, and what became of those that went by, by where they began.
    compressor: Option<Compressor>,
    squeezed: BTreeMap<u64, Squeezed>,
    /// Where blobs go of which nobody knows yet what they are.
    home: Option<Repository>,
    /// Blobs that went by and are there, and those that were there before.
    there: BTreeSet<Digest>,
    totals: Totals,
    /// Those of them that the delivery counted as being there.
    counted_twice: BTreeSet<(Repository, Digest)>,
    /// What comes after the archive.
    rest: Rest,
    notes: VecDeque<Event>,
    state: State,
}

/// What is known of an archive that goes by for the second time.
#[derive(Debug)]
struct Contents {
    /// By where they begin.
    blobs: BTreeMap<u64, Digest>,
    archive: Archive,
    /// Which repository each goes to first.
    homes: BTreeMap<Digest, Repository>,
}

#[derive(Debug)]
enum State {
    New(Option<Feed>),
    /// The tape is to be wound on to the next file.
    Next(Box<Tape>),
    Winding(JobId),
    Looking(Box<HasBlob>, Box<Gone>),
    Sending(Box<Sending>),
    Stopping(JobId, Box<Error>),
    Delivering(Box<Deliver<Archive>>),
    Settled(Box<Result<Pushed, Error>>),
    Over,
}

/// A file whose bytes come next, and where they would go.
#[derive(Debug)]
struct Gone {
    tape: Box<Tape>,
    file: TapeFile,
    digest: Digest,
    home: Repository,
}

impl Contents {
    /// Whether a blob is not here, as documents are.
    fn goes_by(&self, digest: &Digest) -> bool {
        let blob = self.archive.blob(digest);
        blob.is_some_and(|blob| matches!(blob.content(), BlobContent::Passed { .. }))
    }
}

impl PushFeed {
    /// A push of what comes from `feed` to this reference. Of several images, [`PushOptions::image`] says which.
    pub fn new(feed: Feed, to: Reference, options: PushOptions) -> Self {
        let home = Some(to.repository().clone());
        Self::of(feed, Destination::Reference(to), options, home, None)
    }

    /// A push of what goes by once more: `archive` is what [`ReadFeed`](crate::flow::ReadFeed) made of it the first time, so that
    /// what goes where is known from the start. (Other bytes than the first time are an error.)
    pub fn again(feed: Feed, archive: Archive, to: Destination, options: PushOptions) -> Self {
        let place = |blob: &crate::archive::ArchiveBlob| match blob.content() {
            BlobContent::Passed { start } => Some((*start, blob.digest().clone())),
            BlobContent::Bytes(_) | BlobContent::File { .. } => None,
        };
        let blobs = archive.blobs().filter_map(place).collect();
        Self::of(feed, to, options, None, Some(Contents { blobs, archive, homes: BTreeMap::new() }))
    }

    /// Compresses the layers that are not compressed yet, on their way. Manifests are made anew for that, so that digests are
    /// others than the archive's; and since nobody knows what a layer becomes before it has, each is sent again each time.
    #[must_use]
    pub fn compressing(mut self, compressor: Compressor) -> Self {
        self.compressor = Some(compressor);
        self
    }

    fn of(
        feed: Feed,
        to: Destination,
        options: PushOptions,
        home: Option<Repository>,
        contents: Option<Contents>,
    ) -> Self {
        Self {
            to,
            options,
            contents,
            compressor: None,
            squeezed: BTreeMap::new(),
            home,
            there: BTreeSet::new(),
            totals: Totals::default(),
            counted_twice: BTreeSet::new(),
            rest: Rest::Over,
            notes: VecDeque::new(),
            state: State::New(Some(feed)),
        }
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn start(&mut self, cx: &Context<'_>, feed: Feed) -> Result<State, Error> {
        if let Some(home) = &self.home {
            // Better known now than when the first blob has come.
            cx.origin(home.registry())?;
        }
        if let Some(contents) = &mut self.contents {
            // Nothing is read if it can't go where it is to go.
            for target in plan::targets(cx.session, &contents.archive, &self.to, &self.options)? {
                for digest in &target.blobs {
                    let home =
                        contents.homes.entry(digest.clone()).or_insert_with(|| target.repository.clone()).clone();
                    // Within a registry it is mounted; to two it would have to be sent twice.
                    if contents.goes_by(digest) && cx.origin(home.registry())? != target.origin {
                        return Err(Error::Misuse(format!(
                            "{digest} is to go to {home} and to {}, but goes by once: push to one registry after the other, or save \
                             the archive to a file, not compressed, and push that",
                            target.repository
                        )));
                    }
                }
            }
        }
        let spared = self.contents.as_ref().map(|contents| contents.archive.no_layers()).unwrap_or_default();
        let tape = Tape::new(feed, &cx.session.config().archive).compressing(self.compressor.clone()).sparing(spared);
        Ok(State::Next(Box::new(tape)))
    }

    fn after_winding(&mut self, cx: &mut Context<'_>, wound: Wound) -> Result<State, Error> {
        match wound {
            Wound::File(tape, file) => self.meet(cx, tape, file),
            Wound::Over(tape, found) => {
                self.rest = Rest::New(tape);
                self.deliver(cx, *found)
            }
            Wound::Piece(..) | Wound::Out => unreachable!("it was wound on to the next file"),
        }
    }

    /// What becomes of the file that comes next.
    fn meet(&mut self, cx: &mut Context<'_>, tape: Box<Tape>, file: TapeFile) -> Result<State, Error> {
        let (digest, home) = match &self.contents {
            None => (file.claimed.clone(), self.home.clone()),
            Some(contents) => {
                let digest = contents.blobs.get(&file.start).cloned();
                let home = digest.as_ref().and_then(|digest| contents.homes.get(digest)).cloned();
                (digest, home)
            }
        };
        let Some(home) = home else { return Ok(State::Next(tape)) };
        let Some(digest) = digest.filter(|_| !file.squeezed) else { return self.send(cx, tape, file, &home) };
        let origin = cx.origin(home.registry())?;
        if cx.session.known.holds(&origin, home.name(), &digest) {
            return Ok(self.leave(cx, Gone { tape, file, digest, home }));
        }
        let look = HasBlob::new(home.clone(), origin, digest.clone(), file.size);
        Ok(State::Looking(Box::new(look), Box::new(Gone { tape, file, digest, home })))
    }

    fn after_looking(&mut self, cx: &mut Context<'_>, held: Result<Held, Error>, gone: Gone) -> Result<State, Error> {
        match held? {
            Held::There => Ok(self.leave(cx, gone)),
            Held::Absent(_) => self.send(cx, gone.tape, gone.file, &gone.home),
        }
    }

    /// What comes next is there already.
    fn leave(&mut self, cx: &mut Context<'_>, gone: Gone) -> State {
        let Gone { tape, file, digest, home } = gone;
        if let Ok(origin) = cx.origin(home.registry()) {
            cx.session.known.remember(&origin, home.name(), &digest);
        }
        if self.there.insert(digest.clone()) {
            self.totals.existed += 1;
            let blob = BlobId { digest, size: file.size };
            self.notes.push_back(Event::Queued { repository: home.clone(), blob: blob.clone() });
            self.notes.push_back(Event::Exists { repository: home, blob });
        }
        State::Next(tape)
    }

    fn send(&mut self, cx: &Context<'_>, tape: Box<Tape>, file: TapeFile, home: &Repository) -> Result<State, Error> {
        let sending = Sending::new(cx, home, tape, file)?;
        self.notes.push_back(Event::Passing {
            repository: home.clone(),
            name: sending.file.name.clone(),
            size: sending.file.size,
            meter: sending.upload.meter().clone(),
        });
        Ok(State::Sending(Box::new(sending)))
    }

    fn after_sending(&mut self, sent: Result<Uploaded, Error>, sending: Sending) -> Result<State, Error> {
        match (sent, sending.failure, sending.tape) {
            (_, Some(why), _) | (Err(why), None, Reel::Here(_)) => Err(why),
            (Err(why), None, Reel::With(job)) => Ok(State::Stopping(job, Box::new(why))),
            (Ok(Uploaded { digest, size, .. }), None, tape) => {
                if sending.file.squeezed {
                    self.squeezed.insert(sending.file.start, Squeezed { digest: digest.clone(), size });
                }
                if self.there.insert(digest) {
                    self.totals.sent += 1;
                    self.totals.sent_bytes += size;
                }
                match tape {
                    Reel::Here(tape) => Ok(State::Next(tape)),
                    Reel::With(_) => unreachable!("all of it has come, so that no more of it is asked for"),
                }
            }
        }
    }

    /// Everything went by: what it was is known now.
    fn deliver(&mut self, cx: &Context<'_>, found: Examined) -> Result<State, Error> {
        let mut archive = found.into_result()?;
        if let Some(compressor) = &self.compressor {
            archive = archive.with_squeezed(compressor, &self.squeezed)?;
        }
        self.notes.extend(archive.notes().iter().cloned().map(Event::Notice));
        let targets = plan::targets(cx.session, &archive, &self.to, &self.options)?;
        Ok(State::Delivering(Box::new(Deliver::new(archive, targets))))
    }

    fn end(&self, delivered: crate::flow::deliver::Delivered) -> Pushed {
        let mut totals = delivered.totals;
        totals.existed -= self.counted_twice.len().min(totals.existed);
        totals.add(self.totals);
        Pushed { references: delivered.references, totals }
    }

    /// Whether an event of the delivery is about a blob of which everything was told as it went by.
    fn is_told(&mut self, event: &Event) -> bool {
        match event {
            Event::Queued { blob, .. } => self.there.contains(&blob.digest),
            Event::Exists { repository, blob } if self.there.contains(&blob.digest) => {
                self.counted_twice.insert((repository.clone(), blob.digest.clone()));
                true
            }
            _ => false,
        }
    }

    fn settle(&mut self, why: Error) {
        self.state = State::Settled(Box::new(Err(why)));
    }
}

impl Flow for PushFeed {
    type Output = Pushed;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Pushed> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            if let Some(job) = self.rest.start(cx) {
                return Step::Run(job);
            }
            let next = match &mut self.state {
                State::New(feed) => match feed.take() {
                    Some(feed) => self.start(cx, feed),
                    None => Err(Error::Cancelled),
                },
                State::Next(_) => {
                    let ticket = cx.ticket();
                    match std::mem::replace(&mut self.state, State::Winding(ticket.id())) {
                        State::Next(tape) => return Step::Run(Job::Local(LocalJob::wind(ticket, tape, Wind::On))),
                        _ => unreachable!("the state was just matched"),
                    }
                }
                State::Winding(_) => return Step::Wait(None),
                State::Looking(look, _) => {
                    let held = ready!(look.poll(cx));
                    match std::mem::replace(&mut self.state, State::Over) {
                        State::Looking(_, gone) => self.after_looking(cx, held, *gone),
                        _ => unreachable!("the state was just matched"),
                    }
                }
                State::Sending(sending) => {
                    let sent = ready!(sending.poll(cx));
                    match std::mem::replace(&mut self.state, State::Over) {
                        State::Sending(sending) => self.after_sending(sent, *sending),
                        _ => unreachable!("the state was just matched"),
                    }
                }
                State::Stopping(job, why) => {
                    let (job, why) = (*job, (**why).clone());
                    self.settle(why);
                    return Step::Abort(job);
                }
                State::Delivering(deliver) => match deliver.poll(cx) {
                    Step::Note(event) if self.is_told(&event) => continue,
                    step => {
                        let delivered = ready!(step);
                        Ok(State::Settled(Box::new(delivered.map(|delivered| self.end(delivered)))))
                    }
                },
                State::Settled(result) => {
                    if let Some(step) = self.rest.end(cx, result.is_ok()) {
                        return step;
                    }
                    match std::mem::replace(&mut self.state, State::Over) {
                        State::Settled(result) => return Step::Done(*result),
                        _ => unreachable!("the state was just matched"),
                    }
                }
                State::Over => panic!("polled after it was done"),
            };
            match next {
                Ok(state) => self.state = state,
                Err(why) => self.settle(why),
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        let done = match self.rest.handle(done) {
            Ok(()) => return Ok(()),
            Err(done) => done,
        };
        match &mut self.state {
            State::Winding(job) if *job == done.id => {
                let next = wound(done.outcome).and_then(|wound| self.after_winding(cx, wound));
                match next {
                    Ok(state) => self.state = state,
                    Err(why) => self.settle(why),
                }
                Ok(())
            }
            State::Sending(sending) if sending.waits_for(done.id) => {
                sending.wound(wound(done.outcome));
                Ok(())
            }
            State::Sending(sending) => sending.upload.handle(cx, done),
            State::Looking(look, _) => look.handle(cx, done),
            State::Delivering(deliver) => deliver.handle(cx, done),
            _ => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::New(_) | State::Next(_) => self.settle(Error::Cancelled),
            State::Winding(job) => self.state = State::Stopping(*job, Box::new(Error::Cancelled)),
            State::Looking(look, _) => look.cancel(),
            State::Sending(sending) => sending.upload.cancel(),
            State::Delivering(deliver) => deliver.cancel(),
            State::Stopping(..) | State::Settled(_) | State::Over => {}
        }
    }
}
