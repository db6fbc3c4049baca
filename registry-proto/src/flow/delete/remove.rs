//! One `DELETE`.

use http::StatusCode;

use crate::endpoint::delete::{self, Delete};
use crate::endpoint::manifest;
use crate::error::Error;
use crate::event::Event;
use crate::flow::delete::Deleted;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Origin, Repository, ScopeSet, TagOrDigest};

/// Deletes a manifest by its digest, or a tag, that was there a moment ago.
///
/// ```text
///   New ─▶ Deleting ─┬─ 2xx ──────────────▶ Settled
///            ▲       ├─ 404 ──▶ Looking ─┬─ gone: it was, or another did it ─▶ Settled
///            │       │                   └─ it is still there ──────────────▶ Settled (Err)
///            └───────┼─ the token server doesn't know the action `delete`: once more, with `*`
///                    └─ anything else ────▶ Settled (Err)
/// ```
#[derive(Debug)]
pub(crate) struct Remove {
    repository: Repository,
    origin: Origin,
    reference: TagOrDigest,
    /// What the token is asked for. Registries don't agree on who may delete: distribution wants `delete`; Quay refuses a
    /// token for that and wants to hear `push` or `*`.
    scopes: ScopeSet,
    note: Option<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Deleting(Exchange),
    Looking(Exchange, Box<Error>),
    Settled(Box<Result<(), Error>>),
    Over,
}

impl Remove {
    pub(crate) fn new(repository: Repository, origin: Origin, reference: TagOrDigest) -> Self {
        let scopes = ScopeSet::delete(repository.name());
        Self { repository, origin, reference, scopes, note: None, state: State::New }
    }

    fn delete(&self, cx: &Context<'_>) -> State {
        let limits = cx.session.config().limits;
        let scopes = self.scopes.clone();
        let ask = delete::manifest(&self.origin, self.repository.name(), &self.reference, scopes, &limits);
        State::Deleting(Exchange::new(ask, self.repository.registry()))
    }

    /// What follows from the answer to the `DELETE`: the only place that decides it.
    fn after_delete(&mut self, cx: &Context<'_>, answer: Result<Answer, Error>) -> State {
        let reply = match answer.and_then(Answer::into_reply) {
            Ok(reply) => reply,
            // A registry says 401 or 403; 400 is a token server that can't read the scope.
            Err(Error::Denied(denied))
                if denied.status == StatusCode::BAD_REQUEST
                    && self.scopes != ScopeSet::everything(self.repository.name()) =>
            {
                self.scopes = ScopeSet::everything(self.repository.name());
                return self.delete(cx);
            }
            Err(why) => return settled(Err(why)),
        };
        match delete::read(&reply, &self.reference) {
            Ok(Delete::Done) => self.gone(),
            Ok(Delete::Unknown(refusal)) => {
                let ask = look(&self.origin, &self.repository, &self.reference, cx);
                State::Looking(Exchange::new(ask, self.repository.registry()), Box::new(refusal))
            }
            Err(why) => settled(Err(why)),
        }
    }

    fn gone(&mut self) -> State {
        self.note = Some(Event::Deleted { repository: self.repository.clone(), reference: self.reference.clone() });
        settled(Ok(()))
    }
}

/// Asks whether a manifest is there, by `HEAD`.
pub(super) fn look(
    origin: &Origin,
    repository: &Repository,
    reference: &TagOrDigest,
    cx: &Context<'_>,
) -> crate::endpoint::Ask {
    let mut ask = manifest::head(origin, repository.name(), reference, &cx.session.config().limits);
    // Whoever may delete need not be one who may push.
    ask.scopes = ScopeSet::pull(repository.name());
    ask
}

fn settled(result: Result<(), Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for Remove {
    type Output = Deleted;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Deleted> {
        loop {
            if let Some(note) = self.note.take() {
                return Step::Note(note);
            }
            self.state = match &mut self.state {
                State::New => self.delete(cx),
                State::Deleting(exchange) => {
                    let answer = ready!(exchange.poll(cx));
                    self.after_delete(cx, answer)
                }
                State::Looking(exchange, _) => {
                    let answer = ready!(exchange.poll(cx)).and_then(Answer::into_reply);
                    match (std::mem::replace(&mut self.state, State::Over), answer) {
                        (_, Ok(reply)) if reply.status == StatusCode::NOT_FOUND => self.gone(),
                        (_, Err(why)) => settled(Err(why)),
                        (State::Looking(_, refusal), _) => settled(Err(*refusal)),
                        _ => unreachable!("the state was just matched"),
                    }
                }
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => {
                        let deleted =
                            Deleted { repository: self.repository.clone(), reference: self.reference.clone() };
                        return Step::Done(result.map(|()| deleted));
                    }
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Deleting(exchange) | State::Looking(exchange, _) => exchange.handle(cx, done),
            State::New | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Deleting(exchange) | State::Looking(exchange, _) => exchange.cancel(),
            State::New => self.state = settled(Err(Error::Cancelled)),
            State::Settled(_) | State::Over => {}
        }
    }
}
