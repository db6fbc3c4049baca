//! Whether a repository holds a blob.

use crate::endpoint::Reply;
use crate::endpoint::blob::{self, Exists};
use crate::error::Error;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Digest, Origin, Repository, ScopeSet};

/// Asks whether a repository holds a blob.
///
/// ```text
///   New ─┬─▶ Looking(HEAD) ─┬─ there, or not ───────────────────────▶ the end
///        │                  └─ a storage that takes no HEAD ─┐          ▲
///        └─ as is known of this registry ────────────────────┴▶ Peeking(GET of the first byte)
/// ```
///
/// A registry may lead a `HEAD` to its storage by a URL that is signed for `GET` only (PROTOCOL §1.7).
#[derive(Debug)]
pub(crate) struct HasBlob {
    repository: Repository,
    origin: Origin,
    digest: Digest,
    size: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Looking(Exchange),
    Peeking(Exchange),
    Cancelled,
}

/// What there is.
#[derive(Debug)]
pub(crate) enum Held {
    /// The blob.
    There,
    /// Not the blob, in the registry's words.
    Absent(Box<Reply>),
}

impl HasBlob {
    pub(crate) const fn new(repository: Repository, origin: Origin, digest: Digest, size: u64) -> Self {
        Self { repository, origin, digest, size, state: State::New }
    }

    fn start(&self, cx: &mut Context<'_>) -> State {
        if cx.session.learned(&self.origin).hides_blobs_from_head {
            return self.peek(cx);
        }
        let limits = cx.session.config().limits;
        let ask = blob::head(&self.origin, self.repository.name(), &self.digest, &limits);
        State::Looking(Exchange::new(ask, self.repository.registry()))
    }

    fn peek(&self, cx: &Context<'_>) -> State {
        let (limits, name) = (cx.session.config().limits, self.repository.name());
        // As a HEAD, it is asked on the way to an upload.
        let ask = blob::peek(&self.origin, name, &self.digest, ScopeSet::push(name), &limits);
        State::Peeking(Exchange::new(ask, self.repository.registry()))
    }

    /// `None`: it has to be asked for in the other way.
    fn after_looking(&self, reply: Reply) -> Result<Option<Held>, Error> {
        let url = blob::url(&self.origin, self.repository.name(), &self.digest);
        Ok(match blob::exists(&reply, &url, self.size)? {
            Exists::Yes => Some(Held::There),
            Exists::No => Some(Held::Absent(Box::new(reply))),
            Exists::NotTold => None,
        })
    }

    fn after_peeking(&self, cx: &mut Context<'_>, reply: Reply) -> Result<Held, Error> {
        let there = blob::peeked(&reply, self.size)?;
        if there {
            cx.session.learned(&self.origin).hides_blobs_from_head = true;
        }
        Ok(if there { Held::There } else { Held::Absent(Box::new(reply)) })
    }
}

impl Flow for HasBlob {
    type Output = Held;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Held> {
        loop {
            self.state = match &mut self.state {
                State::New => self.start(cx),
                State::Looking(exchange) => {
                    let reply = ready!(exchange.poll(cx)).and_then(Answer::into_reply);
                    match reply.and_then(|reply| self.after_looking(reply)) {
                        Ok(Some(held)) => return Step::Done(Ok(held)),
                        Ok(None) => self.peek(cx),
                        Err(why) => return Step::Done(Err(why)),
                    }
                }
                State::Peeking(exchange) => {
                    let reply = ready!(exchange.poll(cx)).and_then(Answer::into_reply);
                    return Step::Done(reply.and_then(|reply| self.after_peeking(cx, reply)));
                }
                State::Cancelled => return Step::Done(Err(Error::Cancelled)),
            };
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Looking(exchange) | State::Peeking(exchange) => exchange.handle(cx, done),
            State::New | State::Cancelled => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Looking(exchange) | State::Peeking(exchange) => exchange.cancel(),
            State::New => self.state = State::Cancelled,
            State::Cancelled => {}
        }
    }
}
