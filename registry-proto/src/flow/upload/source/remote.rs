//! A blob of a registry as the content of an upload: fetched in pieces, one ahead of the one that is being sent.
//!
//! ```text
//!   pieces:   ──────────┬───────────┬───────────┬─────────
//!                 sent  │   held    │   ahead   │  not asked for yet
//!             ──────────┴───────────┴───────────┴─────────
//!
//!                wanted                   206 (or 200: all of it)
//!   Idle ────────────────▶ Asking(GET) ─┬────────────────────▶ held or ahead ─▶ Idle
//!     ▲                      ▲          ├─ fewer bytes: ask for the rest
//!     │                      └──────────┴─ other bytes: ask once more
//!     └──────── not wanted any more: aborted
//! ```
//!
//! A piece stays until the registry that it was sent to has confirmed it: what is sent twice is the same bytes, which the
//! digest has seen.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::Method;

use crate::endpoint::blob;
use crate::error::{Asked, Error};
use crate::flow::blob::{Pieces, too_large};
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Digest, Origin, Repository};

#[derive(Debug)]
pub(in crate::flow::upload) struct Remote {
    repository: Repository,
    origin: Origin,
    digest: Digest,
    size: u64,
    held: Piece,
    ahead: Option<Piece>,
    asking: Option<Asking>,
    /// A request under way waits for the pieces.
    awaited: bool,
    /// Requests that nobody wants any more, on their way to be aborted.
    stopping: Vec<Exchange>,
    failure: Option<Error>,
}

/// Bytes of the blob.
#[derive(Debug, Default)]
struct Piece {
    at: u64,
    bytes: Bytes,
}

/// A piece on its way.
#[derive(Debug)]
struct Asking {
    range: Range<u64>,
    /// What came of it so far, where a reply brought less than was asked for.
    got: BytesMut,
    exchange: Exchange,
    pieces: Pieces,
    /// It has not been started yet.
    new: bool,
}

impl Piece {
    fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    /// How many bytes it has from `at` on.
    fn from(&self, at: u64) -> u64 {
        if at < self.at { 0 } else { self.end().saturating_sub(at) }
    }
}

impl Remote {
    pub(super) fn new(cx: &Context<'_>, repository: &Repository, digest: &Digest, size: u64) -> Result<Self, Error> {
        let origin = cx.origin(repository.registry())?;
        Ok(Self {
            repository: repository.clone(),
            origin,
            digest: digest.clone(),
            size,
            held: Piece::default(),
            ahead: None,
            asking: None,
            awaited: false,
            stopping: Vec::new(),
            failure: None,
        })
    }

    /// Whether the byte at this offset is here.
    pub(super) fn holds(&self, at: u64) -> bool {
        self.held.from(at) > 0
    }

    /// How many bytes are here from `at` on. If they are fewer than `least` (and not the blob's last), `length` bytes are
    /// asked for and the answer is `None` until they have come.
    ///
    /// # Errors
    /// What came of asking, if it was nothing.
    pub(super) fn bytes_at(
        &mut self,
        cx: &Context<'_>,
        at: u64,
        least: u64,
        length: u64,
    ) -> Result<Option<u64>, Error> {
        let enough = |piece: &Piece| piece.from(at) >= least.max(1).min(self.size - at);
        let enough_held = loop {
            match self.ahead.take() {
                ahead if enough(&self.held) => {
                    self.ahead = ahead;
                    break true;
                }
                Some(ahead) if enough(&ahead) => self.held = ahead,
                // The end of a piece that was confirmed in part is too small for the registry by itself.
                Some(ahead) if self.holds(at) && ahead.at == self.held.end() => {
                    let rest = self.slice(at, self.held.from(at));
                    self.held = Piece { at, bytes: [rest, ahead.bytes].concat().into() };
                }
                Some(_) => {}
                None => break false,
            }
        };
        if enough_held {
            return Ok(Some(self.held.from(at)));
        }
        if let Some(why) = self.failure.take() {
            return Err(why);
        }
        let start = if self.holds(at) { self.held.end() } else { at };
        if self.asking.as_ref().is_none_or(|asking| asking.range.start != start) {
            self.stop();
            if start == at {
                // Room for what is asked for now.
                self.held = Piece::default();
            }
            self.ask(cx, start, length);
        }
        Ok(None)
    }

    /// Bytes that are here.
    pub(super) fn slice(&self, at: u64, length: u64) -> Bytes {
        let index = |at: u64| usize::try_from(at - self.held.at).expect("it is within a piece in memory");
        self.held.bytes.slice(index(at)..index(at + length))
    }

    /// Asks for the piece after the one that is here.
    pub(super) fn look_ahead(&mut self, cx: &Context<'_>, length: u64) {
        let next = self.held.end();
        if self.ahead.is_none() && self.asking.is_none() && next < self.size && self.failure.is_none() {
            self.ask(cx, next, length);
        }
    }

    /// A request under way waits for the pieces from now on.
    pub(super) fn await_pieces(&mut self) {
        self.awaited = true;
        if let Some(asking) = &mut self.asking {
            asking.exchange.awaited();
        }
    }

    /// No request waits for them any more.
    pub(super) fn stop_awaited(&mut self) {
        if std::mem::take(&mut self.awaited) {
            self.stop();
        }
    }

    /// Nothing more is wanted.
    pub(super) fn stop(&mut self) {
        if let Some(mut asking) = self.asking.take() {
            asking.exchange.cancel();
            self.stopping.push(asking.exchange);
        }
    }

    /// The error for bytes that are others than the digest says.
    pub(super) fn mismatch(&self, found: Digest) -> Error {
        let url = blob::url(&self.origin, self.repository.name(), &self.digest);
        Error::Integrity { asked: Asked::new(&Method::GET, &url), expected: self.digest.clone(), found }
    }

    fn ask(&mut self, cx: &Context<'_>, at: u64, length: u64) {
        let range = at..at.saturating_add(length).min(self.size);
        let exchange = self.exchange(cx, &range);
        self.asking = Some(Asking { range, got: BytesMut::new(), exchange, pieces: Pieces::default(), new: true });
    }

    fn exchange(&self, cx: &Context<'_>, range: &Range<u64>) -> Exchange {
        let config = cx.session.config();
        let whole = *range == (0..self.size);
        let length = range.end - range.start;
        // A registry that takes no notice of `Range` hands out everything: that is fine as long as it fits.
        let most = if self.size <= config.piece.get().saturating_mul(2) { self.size } else { length };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let range = (!whole).then_some(range);
        let ask = blob::piece(&self.origin, self.repository.name(), &self.digest, range, most, &config.limits);
        let mut exchange = Exchange::new(ask, self.repository.registry());
        if self.awaited {
            exchange.awaited();
        }
        exchange
    }

    /// What follows from a reply: the only place that decides it.
    fn after_asking(&mut self, cx: &Context<'_>, mut asking: Asking, answer: Result<Answer, Error>) {
        let reply = match answer.and_then(Answer::into_reply) {
            Ok(reply) => reply,
            Err(why) => return self.failure = Some(too_large(cx, why, self.size, "")),
        };
        let missing = asking.range.start + asking.got.len() as u64..asking.range.end;
        match asking.pieces.take(&reply, &missing, self.size) {
            Ok(Some((0, bytes))) if bytes.len() as u64 == self.size => self.keep(Piece { at: 0, bytes }),
            // The usual case: nothing has to be copied.
            Ok(Some((at, bytes))) if asking.got.is_empty() && at + bytes.len() as u64 == missing.end => {
                self.keep(Piece { at, bytes });
            }
            Ok(Some((_, bytes))) => {
                asking.got.extend_from_slice(&bytes);
                let missing = asking.range.start + asking.got.len() as u64..asking.range.end;
                if missing.is_empty() {
                    return self.keep(Piece { at: asking.range.start, bytes: asking.got.freeze() });
                }
                let asked_for = asking.range.end - asking.range.start;
                match asking.pieces.fell_short(cx, &reply, bytes.len() as u64, asked_for) {
                    Ok(()) => self.asking = Some(Asking { exchange: self.exchange(cx, &missing), new: true, ..asking }),
                    Err(why) => self.failure = Some(why),
                }
            }
            Ok(None) => self.asking = Some(Asking { exchange: self.exchange(cx, &missing), new: true, ..asking }),
            Err(why) => self.failure = Some(why),
        }
    }

    fn keep(&mut self, piece: Piece) {
        if self.held.bytes.is_empty() { self.held = piece } else { self.ahead = Some(piece) }
    }

    /// Whether there is something to abort.
    pub(super) const fn is_stopping(&self) -> bool {
        !self.stopping.is_empty()
    }

    /// Whether there is something to start, or to abort.
    pub(super) fn is_restless(&self) -> bool {
        self.is_stopping() || self.asking.as_ref().is_some_and(|asking| asking.new)
    }

    /// As [`Flow::poll`]; done whenever something has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Step<()> {
        while let Some(exchange) = self.stopping.last_mut() {
            // Whatever comes of it.
            let _ = ready!(exchange.poll(cx));
            self.stopping.pop();
        }
        let Some(asking) = &mut self.asking else { return Step::Wait(None) };
        asking.new = false;
        let answer = ready!(asking.exchange.poll(cx));
        if let Some(asking) = self.asking.take() {
            self.after_asking(cx, asking, answer);
        }
        Step::Done(Ok(()))
    }

    /// As [`Flow::handle`].
    pub(super) fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.asking {
            Some(asking) => asking.exchange.handle(cx, done),
            None => Err(done),
        }
    }
}
