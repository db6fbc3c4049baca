//! How large is this blob?

use crate::endpoint::blob;
use crate::error::Error;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Descriptor, Digest, MediaType, Origin, Repository, ScopeSet};

/// Asks for a blob's size. Yields its descriptor; what type it has nobody knows.
///
/// ```text
///   New ─┬─▶ Asking(HEAD) ─┬─ so large ─────────────────────────────────▶ the end
///        │                 └─ a storage that takes no HEAD, no length ─┐     ▲
///        └─ as is known of this registry ──────────────────────────────┴▶ Peeking(GET of the first byte)
/// ```
#[derive(Debug)]
pub(super) struct Size {
    repository: Repository,
    digest: Digest,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Asking(Exchange, Origin),
    Peeking(Exchange),
    Cancelled,
}

impl Size {
    pub(super) const fn new(repository: Repository, digest: Digest) -> Self {
        Self { repository, digest, state: State::New }
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn start(&self, cx: &mut Context<'_>) -> Result<State, Error> {
        let origin = cx.origin(self.repository.registry())?;
        if cx.session.learned(&origin).hides_blobs_from_head {
            return Ok(self.peek(cx, &origin));
        }
        let limits = cx.session.config().limits;
        let ask = blob::look(&origin, self.repository.name(), &self.digest, &limits);
        Ok(State::Asking(Exchange::new(ask, self.repository.registry()), origin))
    }

    /// `Err`: it has to be asked for in the other way.
    fn after_asking(
        &self,
        cx: &Context<'_>,
        origin: &Origin,
        answer: Result<Answer, Error>,
    ) -> Result<Result<Descriptor, State>, Error> {
        let reply = answer?.into_reply()?;
        let url = blob::url(origin, self.repository.name(), &self.digest);
        let told = blob::size(&reply, &url, &self.digest)?;
        Ok(told.map(|size| self.descriptor(size)).ok_or_else(|| self.peek(cx, origin)))
    }

    fn after_peeking(&self, answer: Result<Answer, Error>) -> Result<Descriptor, Error> {
        let reply = answer?.into_reply()?;
        blob::peeked_size(&reply, &self.digest).map(|size| self.descriptor(size))
    }

    // ── what the transitions are made of ─────────────────────────────────────────────────────────────────────────────

    fn peek(&self, cx: &Context<'_>, origin: &Origin) -> State {
        let (limits, name) = (cx.session.config().limits, self.repository.name());
        let ask = blob::peek(origin, name, &self.digest, ScopeSet::pull(name), &limits);
        State::Peeking(Exchange::new(ask, self.repository.registry()))
    }

    fn descriptor(&self, size: u64) -> Descriptor {
        Descriptor::new(MediaType::new("application/octet-stream"), self.digest.clone(), size)
    }
}

impl Flow for Size {
    type Output = Descriptor;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Descriptor> {
        loop {
            let next = match &mut self.state {
                State::New => self.start(cx),
                State::Asking(exchange, origin) => {
                    let origin = origin.clone();
                    let answer = ready!(exchange.poll(cx));
                    match self.after_asking(cx, &origin, answer) {
                        Ok(Ok(found)) => return Step::Done(Ok(found)),
                        Ok(Err(state)) => Ok(state),
                        Err(why) => Err(why),
                    }
                }
                State::Peeking(exchange) => {
                    let answer = ready!(exchange.poll(cx));
                    return Step::Done(self.after_peeking(answer));
                }
                State::Cancelled => Err(Error::Cancelled),
            };
            match next {
                Ok(state) => self.state = state,
                Err(why) => return Step::Done(Err(why)),
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Asking(exchange, _) | State::Peeking(exchange) => exchange.handle(cx, done),
            State::New | State::Cancelled => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Asking(exchange, _) | State::Peeking(exchange) => exchange.cancel(),
            State::New => self.state = State::Cancelled,
            State::Cancelled => {}
        }
    }
}
