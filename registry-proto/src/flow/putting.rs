//! Puts a single manifest.

use std::collections::VecDeque;

use crate::endpoint::manifest::{self, Put};
use crate::error::Error;
use crate::event::Event;
use crate::flow::referrers::Unlisted;
use crate::flow::{Answer, Context, Exchange, Flow, HasManifest, Step, ready};
use crate::job::Completion;
use crate::spec::{Manifest, Origin, Repository, TagOrDigest};
use crate::time::Time;

/// How often a manifest is put again whose blobs the registry doesn't see yet: some storage is consistent only after a
/// moment (OpenShift, GHCR).
const BLOB_UNKNOWN_TRIES: u32 = 3;

/// Puts a manifest under a tag or its digest, as a part of something larger whose owner may know what to do about a blob
/// that is missing; [`PutManifest`](super::PutManifest) is for who has nothing but the manifest.
///
/// ```text
///   new ─▶ Putting ─┬─ 2xx ────────────────▶ Settled(Put, and whether its subject's list has to be told)
///             ▲     ├─ blob unknown ─▶ Pausing ─▶ Putting, some times; then Settled(BlobUnknown)
///             │     ├─ 409, 412, 403 ▶ Looking ─┬─ it is what it should be ▶ Settled(Put)
///             │     │                           └─ it is not ──────────────▶ Settled(Err)
///             │     └─ anything else ──────▶ Settled(Err)
/// ```
#[derive(Debug)]
pub(crate) struct Putting {
    repository: Repository,
    origin: Origin,
    reference: TagOrDigest,
    manifest: Manifest,
    tries: u32,
    notes: VecDeque<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Putting(Exchange),
    Pausing(Time),
    Looking(HasManifest, Box<Error>),
    Settled(Box<Result<PutOutcome, Error>>),
    Over,
}

/// How putting a manifest ended.
#[derive(Debug)]
pub(crate) enum PutOutcome {
    /// It is there. If it has a subject whose list the registry may not keep itself: what is still to be done.
    Put(Option<Box<Unlisted>>),
    /// The registry doesn't know a blob that the manifest names. The blobs' owner may know better what to do.
    BlobUnknown(Error),
}

impl Putting {
    pub(crate) const fn new(
        repository: Repository,
        origin: Origin,
        reference: TagOrDigest,
        manifest: Manifest,
    ) -> Self {
        Self { repository, origin, reference, manifest, tries: 0, notes: VecDeque::new(), state: State::New }
    }

    fn put(&self, cx: &Context<'_>) -> State {
        let limits = cx.session.config().limits;
        let ask = manifest::put(&self.origin, self.repository.name(), &self.reference, &self.manifest, &limits);
        State::Putting(Exchange::new(ask, self.repository.registry()))
    }

    fn unlisted(&self, for_sure: bool) -> Option<Box<Unlisted>> {
        Unlisted::of(&self.repository, &self.origin, &self.manifest, for_sure).map(Box::new)
    }

    /// What follows from the answer to the `PUT`: the only place that decides it.
    fn after_put(&mut self, cx: &mut Context<'_>, answer: Result<Answer, Error>) -> State {
        let reply = match answer.and_then(Answer::into_reply) {
            Ok(reply) => reply,
            Err(why) => return settled(Err(why)),
        };
        match manifest::was_put(&reply, &self.manifest) {
            Ok(Put::Done) => {
                self.notes.push_back(Event::ManifestPut {
                    repository: self.repository.clone(),
                    reference: self.reference.clone(),
                    digest: self.manifest.digest().clone(),
                    media_type: self.manifest.media_type().clone(),
                });
                let listed = manifest::is_listed(&reply, &self.manifest);
                if listed {
                    cx.session.referrers.remember(&self.origin, self.repository.name(), true);
                }
                settled(Ok(PutOutcome::Put(if listed { None } else { self.unlisted(true) })))
            }
            Ok(Put::BlobUnknown) if self.tries < BLOB_UNKNOWN_TRIES => {
                self.tries += 1;
                let after = cx.backoff(self.tries);
                let why = "the registry does not see a blob yet that the manifest names".to_owned();
                self.notes.push_back(Event::Retrying { request: reply.asked.to_string(), why, after });
                State::Pausing(cx.now + after)
            }
            Ok(Put::BlobUnknown) => settled(Ok(PutOutcome::BlobUnknown(manifest::put_refused(&reply)))),
            Ok(Put::MaybeThere) => {
                let look = HasManifest::new(
                    self.repository.clone(),
                    self.origin.clone(),
                    self.reference.clone(),
                    self.manifest.digest().clone(),
                );
                State::Looking(look, Box::new(manifest::put_refused(&reply)))
            }
            Ok(Put::No) => settled(Err(manifest::put_refused(&reply))),
            Err(why) => settled(Err(why)),
        }
    }
}

fn settled(result: Result<PutOutcome, Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for Putting {
    type Output = PutOutcome;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<PutOutcome> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            self.state = match &mut self.state {
                State::New => self.put(cx),
                State::Putting(exchange) => {
                    let answer = ready!(exchange.poll(cx));
                    self.after_put(cx, answer)
                }
                State::Pausing(until) if *until <= cx.now => self.put(cx),
                State::Pausing(until) => return Step::Wait(Some(*until)),
                State::Looking(look, _) => {
                    let found = ready!(look.poll(cx));
                    match (std::mem::replace(&mut self.state, State::Over), found) {
                        (_, Ok(true)) => settled(Ok(PutOutcome::Put(self.unlisted(false)))),
                        (State::Looking(_, refused), Ok(false)) => settled(Err(*refused)),
                        (_, Ok(false)) => unreachable!("the state was just matched"),
                        (_, Err(why)) => settled(Err(why)),
                    }
                }
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => return Step::Done(*result),
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Putting(exchange) => exchange.handle(cx, done),
            State::Looking(look, _) => look.handle(cx, done),
            State::New | State::Pausing(_) | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Putting(exchange) => exchange.cancel(),
            State::Looking(look, _) => look.cancel(),
            State::New | State::Pausing(_) => self.state = settled(Err(Error::Cancelled)),
            State::Settled(_) | State::Over => {}
        }
    }
}
