//! A blob piece by piece, to whoever asked for it.

use std::ops::Range;

use bytes::Bytes;

use super::piece::{Pieces, too_large};
use super::size::Size;
use crate::digester::Digester;
use crate::endpoint::blob;
use crate::error::{Asked, Error};
use crate::event::{Event, Piece};
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Descriptor, Digest, Repository};

/// What there is for a blob that is handed out as a whole only.
const INTO_A_FILE: &str = ", or fetch it into a file, which takes no memory (`SaveBlob`)";

/// Reads a blob in pieces: `GET /v2/<name>/blobs/<digest>` (end-2) with `Range`, one piece of [`Config::piece`] in memory at a
/// time. Each is told as [`Event::Content`]; the last one only if the whole has the right digest, so that nobody ever gets all
/// of a wrong blob.
///
/// Yields the blob's [`Descriptor`], of which nobody knows the type.
///
/// ```
/// # use registry_proto::archive::make::MemoryDisk;
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// use registry_proto::flow::ReadBlob;
/// use registry_proto::{Config, Event, Session};
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # let digest = registry.insert_blob("app", "hello".into());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// // With a client: client.run_with(ReadBlob::new(repository, digest), |event| …)
/// let ran = world.run(&mut session, ReadBlob::new("localhost:5000/app".parse()?, digest));
/// let mut content = Vec::new();
/// for event in ran.events {
///     if let Event::Content(piece) = event {
///         content.extend_from_slice(&piece);
///     }
/// }
/// assert_eq!(content, b"hello");
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
///
/// # Errors
/// [`Error::Registry`] when it is not there, [`Error::Integrity`] when it is not what its digest says, [`Error::Protocol`] when
/// the registry takes no notice of `Range` and the blob is larger than a piece.
///
/// [`Config::piece`]: crate::Config::piece
#[derive(Debug)]
pub struct ReadBlob {
    repository: Repository,
    digest: Digest,
    pieces: Pieces,
    state: State,
}

#[derive(Debug)]
enum State {
    New(Size),
    Asking { exchange: Box<Exchange>, blob: Descriptor, digester: Digester, range: Range<u64> },
    Told { blob: Descriptor, digester: Digester },
    Settled(Box<Result<Descriptor, Error>>),
    Over,
}

impl ReadBlob {
    /// The blob with this digest.
    pub fn new(repository: Repository, digest: Digest) -> Self {
        let state = State::New(Size::new(repository.clone(), digest.clone()));
        Self { repository, digest, pieces: Pieces::default(), state }
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn after_size(&self, cx: &Context<'_>, blob: Descriptor) -> Result<State, Error> {
        let algorithm = self.digest.algorithm().ok_or_else(|| {
            let (repository, digest) = (&self.repository, &self.digest);
            Error::Misuse(format!("{repository}: {digest} can't be verified: its algorithm is unknown here"))
        })?;
        self.go_on(cx, blob, Digester::new(algorithm))
    }

    /// The next piece, if there is one.
    fn go_on(&self, cx: &Context<'_>, blob: Descriptor, digester: Digester) -> Result<State, Error> {
        let (at, config) = (digester.at(), cx.session.config());
        let range = at..at.saturating_add(config.piece.get()).min(blob.size);
        let origin = cx.origin(self.repository.registry())?;
        if range.is_empty() {
            let found = digester.digest();
            if found == self.digest {
                return Ok(settled(Ok(blob)));
            }
            let asked = Asked::new(&http::Method::GET, &blob::url(&origin, self.repository.name(), &self.digest));
            return Err(Error::Integrity { asked, expected: self.digest.clone(), found });
        }
        let part = (range != (0..blob.size)).then_some(&range);
        let most = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let ask = blob::piece(&origin, self.repository.name(), &self.digest, part, most, &config.limits);
        let exchange = Box::new(Exchange::new(ask, self.repository.registry()));
        Ok(State::Asking { exchange, blob, digester, range })
    }

    fn after_reply(
        &mut self,
        cx: &Context<'_>,
        (blob, mut digester, range): (Descriptor, Digester, Range<u64>),
        answer: Result<Answer, Error>,
    ) -> Result<(State, Option<Bytes>), Error> {
        let reply = match answer.and_then(Answer::into_reply) {
            Ok(reply) => reply,
            Err(why) => return Err(too_large(cx, why, blob.size, INTO_A_FILE)),
        };
        let Some((at, bytes)) = self.pieces.take(&reply, &range, blob.size)? else {
            return Ok((self.go_on(cx, blob, digester)?, None));
        };
        // All of it may have come once more.
        let known = usize::try_from(digester.at() - at).unwrap_or(usize::MAX).min(bytes.len());
        digester.feed(at, &bytes).map_err(|gap| reply.broken(gap.to_string()))?;
        let bytes = bytes.slice(known..);
        if digester.at() < range.end {
            self.pieces.fell_short(cx, &reply, bytes.len() as u64, range.end - range.start)?;
        }
        if digester.at() < blob.size || digester.digest() == self.digest {
            return Ok((State::Told { blob, digester }, Some(bytes)));
        }
        Err(Error::Integrity { asked: reply.asked, expected: self.digest.clone(), found: digester.digest() })
    }
}

fn settled(result: Result<Descriptor, Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for ReadBlob {
    type Output = Descriptor;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Descriptor> {
        loop {
            let next = match &mut self.state {
                State::New(size) => ready!(size.poll(cx)).and_then(|blob| self.after_size(cx, blob)),
                State::Asking { exchange, blob, digester, range } => {
                    let answer = ready!(exchange.poll(cx));
                    let at = (blob.clone(), digester.clone(), range.clone());
                    match self.after_reply(cx, at, answer) {
                        Ok((state, Some(bytes))) => {
                            self.state = state;
                            return Step::Note(Event::Content(Piece(bytes)));
                        }
                        Ok((state, None)) => Ok(state),
                        Err(why) => Err(why),
                    }
                }
                State::Told { blob, digester } => {
                    let at = (blob.clone(), digester.clone());
                    self.go_on(cx, at.0, at.1)
                }
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => return Step::Done(*result),
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
            self.state = next.unwrap_or_else(|why| settled(Err(why)));
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::New(size) => size.handle(cx, done),
            State::Asking { exchange, .. } => exchange.handle(cx, done),
            _ => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::New(size) => size.cancel(),
            State::Asking { exchange, .. } => exchange.cancel(),
            State::Told { .. } => self.state = settled(Err(Error::Cancelled)),
            State::Settled(_) | State::Over => {}
        }
    }
}
