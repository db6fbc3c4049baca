//! Keeps the list of a manifest's referrers where the registry doesn't (distribution-spec, "Pushing Manifests with Subject").
//!
//! ```text
//!   New ─ its turn ─┬─ the registry may have a list of its own ─▶ Asking ─ it has ─▶ Settled
//!                   │                                               │ it has not
//!                   └─▶ Reading(GET the tag) ◀──────────────────────┘
//!                         │  ▲   └─ nothing to change, or no list to be changed ──▶ Settled
//!                         ▼  └──────────────── Pausing ◀────────────┐
//!                       Putting ─┬─ 412, overtaken, nobody knows ───┤
//!                                └─▶ Checking(HEAD the tag) ─┬──────┘
//!                                                            └─ it is what was put ─▶ Settled
//!
//!   its turn was lost for a while, to a pause that was longer: Stopping(what was asked) ─▶ Reading
//! ```
//!
//! The list is one document that everybody reads, changes and puts again, so that one writer can undo what another did.
//! Against that:
//!
//! - flows of one session take turns;
//! - the `PUT` says what it is to replace (`If-Match`, `If-None-Match`), which is safe with registries that look at it;
//! - with those that don't, the tag is looked at afterwards: who was overwritten meanwhile does it again.
//!
//! What remains is a writer elsewhere that read before our `PUT` and writes after our look, at a registry without conditions.
//! Nothing in the protocol helps against that one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use http::StatusCode;

use crate::endpoint::Reply;
use crate::endpoint::manifest::{self, Presence, Put};
use crate::endpoint::referrers::{self, Listed, Over};
use crate::error::Error;
use crate::event::Event;
use crate::flow::{Answer, Context, Exchange, Flow, Lost, Step, ready};
use crate::job::Completion;
use crate::session::Had;
use crate::spec::{Descriptor, Digest, Manifest, Origin, Repository, Tag, TagOrDigest, is_transient, relist};
use crate::time::Time;

/// How often a list is read and put again because somebody else was faster.
const ROUNDS: u32 = 8;

/// A manifest that was put, or is there, and has to be on its subject's list.
#[derive(Clone, Debug)]
pub(crate) struct Unlisted {
    pub(crate) repository: Repository,
    pub(crate) origin: Origin,
    pub(crate) subject: Digest,
    /// As it stands in the list.
    pub(crate) referrer: Descriptor,
    /// The registry took it without a word about its subject: so it has no list of its own.
    pub(crate) for_sure: bool,
}

impl Unlisted {
    /// What there is to do about a manifest: nothing unless it has a subject.
    pub(crate) fn of(repository: &Repository, origin: &Origin, manifest: &Manifest, for_sure: bool) -> Option<Self> {
        Some(Self {
            repository: repository.clone(),
            origin: origin.clone(),
            subject: manifest.subject()?.digest.clone(),
            referrer: manifest.referrer(),
            for_sure,
        })
    }
}

/// Brings one list up to date, if it is not the registry's own.
///
/// Where the tag leads to something that is no list, nothing can be kept: that is told, and is no error.
#[derive(Debug)]
pub(crate) struct Relist {
    repository: Repository,
    origin: Origin,
    subject: Digest,
    add: Vec<Descriptor>,
    remove: Vec<Digest>,
    /// Whether the registry has a list of its own is known, or does not matter.
    for_sure: bool,
    turn: Option<u64>,
    cancelled: bool,
    /// Whether the registry seems to understand conditions.
    conditions: bool,
    /// The list that the last `PUT` was to replace, and whether it was refused because that is there no more.
    before: Option<Digest>,
    overtaken: bool,
    rounds: u32,
    troubles: u32,
    notes: VecDeque<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Asking(Exchange),
    Reading(Exchange),
    Putting(Exchange, Manifest),
    Checking(Exchange, Manifest),
    /// What was asked is worth nothing any more.
    Stopping(Exchange),
    Pausing(Time),
    Settled(Box<Result<(), Error>>),
    Over,
}

impl Relist {
    /// What it takes to have all of these on their lists: a flow for each list.
    pub(crate) fn all(unlisted: Vec<Unlisted>) -> Vec<Self> {
        let mut lists: BTreeMap<(Repository, Digest), Self> = BTreeMap::new();
        for Unlisted { repository, origin, subject, referrer, for_sure } in unlisted {
            let key = (repository.clone(), subject.clone());
            let list = lists.entry(key).or_insert_with(|| Self::new(repository, origin, subject));
            list.for_sure |= for_sure;
            if list.add.iter().all(|known| known.digest != referrer.digest) {
                list.add.push(referrer);
            }
        }
        lists.into_values().collect()
    }

    /// What it takes to have a manifest off its subject's list. A registry that has a list of its own may have one of its
    /// clients' from before it had, so that it is not asked.
    pub(crate) fn without(repository: Repository, origin: Origin, subject: Digest, gone: Digest) -> Self {
        Self { remove: vec![gone], for_sure: true, ..Self::new(repository, origin, subject) }
    }

    fn new(repository: Repository, origin: Origin, subject: Digest) -> Self {
        Self {
            repository,
            origin,
            subject,
            add: Vec::new(),
            remove: Vec::new(),
            for_sure: false,
            turn: None,
            cancelled: false,
            conditions: true,
            before: None,
            overtaken: false,
            rounds: 0,
            troubles: 0,
            notes: VecDeque::new(),
            state: State::New,
        }
    }

    fn tag(&self) -> TagOrDigest {
        TagOrDigest::Tag(Tag::of_referrers(&self.subject))
    }

    fn exchange(&self, ask: crate::endpoint::Ask) -> Exchange {
        Exchange::new(ask, self.repository.registry())
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn start(&self, cx: &Context<'_>) -> State {
        let name = self.repository.name();
        match cx.session.referrers.are_listed(&self.origin, name) {
            _ if self.for_sure => self.read(cx),
            Some(false) => self.read(cx),
            Some(true) => settled(Ok(())),
            None => {
                let limits = cx.session.config().limits;
                State::Asking(self.exchange(referrers::first(&self.origin, name, &self.subject, None, &limits)))
            }
        }
    }

    fn after_asking(&self, cx: &mut Context<'_>, reply: &Reply) -> Result<State, Error> {
        let listed = referrers::read(reply)?;
        if let Some(known) = referrers::are_listed(reply, &listed) {
            cx.session.referrers.remember(&self.origin, self.repository.name(), known);
        }
        Ok(match listed {
            Listed::Page(_) => settled(Ok(())),
            Listed::Not | Listed::Nonsense => self.read(cx),
        })
    }

    fn after_reading(&mut self, cx: &Context<'_>, reply: &Reply) -> Result<State, Error> {
        let list = if reply.status == StatusCode::NOT_FOUND {
            None
        } else {
            match manifest::read(reply, &self.tag(), None) {
                Ok(list) if referrers::listed_under_tag(&list, &self.subject).is_some() => Some(list),
                Ok(other) => return Ok(self.give_up(&format!("it leads to {}", other.media_type()))),
                Err(Error::Protocol { what, .. }) => return Ok(self.give_up(&what)),
                Err(why) => return Err(why),
            }
        };
        let changed = relist(list.as_ref(), &self.add, &self.remove);
        let Some(changed) = changed.map_err(|why| reply.broken(format!("its list can't be added to: {why}")))? else {
            return Ok(settled(Ok(())));
        };
        let before = list.map(|list| list.digest().clone());
        // It is there all the same: the registry, or something in front of it, has other ideas about conditions.
        if std::mem::take(&mut self.overtaken) && before == self.before {
            self.conditions = false;
        }
        let over = if self.conditions { Over::read_from(reply) } else { Over::Anything };
        self.before = before;
        let limits = cx.session.config().limits;
        let ask = referrers::put(&self.origin, self.repository.name(), &self.tag(), &changed, &over, &limits);
        Ok(State::Putting(self.exchange(ask), changed))
    }

    fn after_putting(&mut self, cx: &mut Context<'_>, list: Manifest, reply: &Reply) -> Result<State, Error> {
        match manifest::was_put(reply, &list)? {
            Put::Done => {
                self.notes.push_back(Event::ManifestPut {
                    repository: self.repository.clone(),
                    reference: self.tag(),
                    digest: list.digest().clone(),
                    media_type: list.media_type().clone(),
                });
                let limits = cx.session.config().limits;
                let ask = manifest::look(&self.origin, self.repository.name(), &self.tag(), &limits);
                Ok(State::Checking(self.exchange(ask), list))
            }
            Put::BlobUnknown => {
                self.leave_out_what_is_gone(&list, reply);
                self.again(cx, reply, "the registry misses what it names")
            }
            Put::MaybeThere if matches!(reply.status, StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED) => {
                self.overtaken = true;
                self.again(cx, reply, "somebody else has changed the list")
            }
            Put::MaybeThere | Put::No if is_transient(reply.status) => self.trouble(cx, reply),
            Put::MaybeThere | Put::No => Err(refused(reply)),
        }
    }

    /// Nobody knows whether it was put: what is there tells.
    fn after_loss(&mut self, cx: &mut Context<'_>, lost: Lost) -> Result<State, Error> {
        self.troubles += 1;
        if self.troubles > cx.session.config().retries {
            return Err(Error::Transport { asked: lost.asked, last: lost.why, tries: self.troubles });
        }
        let (request, why) = (lost.asked.to_string(), lost.why.to_string());
        Ok(self.pause(cx, self.troubles, request, why))
    }

    fn after_checking(&mut self, cx: &mut Context<'_>, list: &Manifest, reply: &Reply) -> Result<State, Error> {
        match manifest::presence(reply)? {
            Presence::There(Some(found))
                if found.algorithm() == list.digest().algorithm() && found != *list.digest() =>
            {
                self.again(cx, reply, "somebody else has put another list")
            }
            Presence::There(_) => Ok(settled(Ok(()))),
            Presence::Absent => self.again(cx, reply, "the list that was just put is not there"),
        }
    }

    /// Reads the list once more, since it is not what it should be; but not for ever.
    fn again(&mut self, cx: &mut Context<'_>, reply: &Reply, why: &str) -> Result<State, Error> {
        self.rounds += 1;
        if self.rounds >= ROUNDS {
            let tag = self.tag();
            return Err(if reply.status.is_client_error() && reply.asked.method() == http::Method::PUT {
                refused(reply)
            } else {
                reply.broken(format!("{why} ({tag}), {ROUNDS} times in a row: push once more when nobody else does"))
            });
        }
        let request = reply.asked.to_string();
        Ok(self.pause(cx, self.rounds, request, why.to_owned()))
    }

    fn trouble(&mut self, cx: &mut Context<'_>, reply: &Reply) -> Result<State, Error> {
        self.troubles += 1;
        if self.troubles > cx.session.config().retries {
            return Err(reply.refusal(Some("it was tried again and again")));
        }
        let request = reply.asked.to_string();
        Ok(self.pause(cx, self.troubles, request, reply.status.to_string()))
    }

    /// Nothing can be kept under this tag. (With GitLab it is the subject's own.)
    fn give_up(&mut self, why: &str) -> State {
        if !self.add.is_empty() {
            let what = format!("{}: the registry does not list what refers to {}", self.repository, self.subject);
            let tag = self.tag();
            self.notes.push_back(Event::Notice(format!("{what}, and no list can be kept under the tag {tag}: {why}")));
        }
        settled(Ok(()))
    }

    // ── what the transitions are made of ─────────────────────────────────────────────────────────────────────────────

    fn read(&self, cx: &Context<'_>) -> State {
        let limits = cx.session.config().limits;
        State::Reading(self.exchange(manifest::get(&self.origin, self.repository.name(), &self.tag(), &limits)))
    }

    fn pause(&mut self, cx: &mut Context<'_>, tries: u32, request: String, why: String) -> State {
        let after = cx.backoff(tries);
        self.notes.push_back(Event::Retrying { request, why, after });
        State::Pausing(cx.now + after)
    }

    /// Registries refuse a list that names a manifest which somebody has deleted without taking it off the list.
    fn leave_out_what_is_gone(&mut self, list: &Manifest, reply: &Reply) {
        let said = String::from_utf8_lossy(&reply.body);
        let entries = list.index().into_iter().flat_map(|index| &index.manifests).map(|entry| &entry.digest);
        let ours = |digest: &Digest| self.add.iter().any(|one| one.digest == *digest);
        let gone: Vec<Digest> =
            entries.filter(|digest| said.contains(digest.as_str()) && !ours(digest)).cloned().collect();
        for digest in gone {
            self.notes.push_back(Event::Notice(format!(
                "{}: the registry does not have {digest} any more: it is taken off the list of what refers to {}",
                self.repository, self.subject
            )));
            self.remove.push(digest);
        }
    }
}

/// How long a turn lasts of which nothing more is heard.
const TURN: Duration = Duration::from_secs(60);

impl Relist {
    /// Whether it is this flow's turn to change the list; until when to wait otherwise.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Had, Time> {
        let holder = *self.turn.get_or_insert_with(|| cx.number());
        let list = (self.origin.clone(), self.repository.name().clone(), self.subject.clone());
        cx.session.turns.take(list, holder, cx.now, cx.now + TURN)
    }

    /// The turn was lost for a while, to a pause that was longer: what was read before that may be another list now.
    fn after_absence(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Reading(mut exchange) | State::Putting(mut exchange, _) | State::Checking(mut exchange, _) => {
                exchange.cancel();
                State::Stopping(exchange)
            }
            other => other,
        };
    }

    fn after_stopping(&self, cx: &Context<'_>) -> Result<State, Error> {
        if self.cancelled { Err(Error::Cancelled) } else { Ok(self.read(cx)) }
    }

    fn end_turn(&mut self, cx: &mut Context<'_>) {
        if let Some(holder) = self.turn.take()
            && cx.session.turns.end(holder)
        {
            cx.session.moved();
        }
    }
}

fn settled(result: Result<(), Error>) -> State {
    State::Settled(Box::new(result))
}

fn refused(reply: &Reply) -> Error {
    reply.refusal(Some(
        "the manifest itself is there, but the registry does not list what refers to another, nor take a list of it",
    ))
}

impl Flow for Relist {
    type Output = ();

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<()> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            // (Who winds down changes nothing any more.)
            if !self.cancelled && !matches!(self.state, State::Settled(_) | State::Over) {
                match self.turn(cx) {
                    Ok(Had::Still) => {}
                    Ok(Had::Anew) => self.after_absence(),
                    Err(until) => return Step::Wait(Some(until)),
                }
            }
            let next = match &mut self.state {
                State::New => Ok(self.start(cx)),
                State::Pausing(until) if *until <= cx.now => Ok(self.read(cx)),
                State::Pausing(until) => return Step::Wait(Some(*until)),
                State::Stopping(exchange) => {
                    // Whatever comes of it.
                    let _ = ready!(exchange.poll(cx));
                    self.after_stopping(cx)
                }
                State::Asking(exchange)
                | State::Reading(exchange)
                | State::Putting(exchange, _)
                | State::Checking(exchange, _) => {
                    let answer = ready!(exchange.poll(cx));
                    match (std::mem::replace(&mut self.state, State::Over), answer) {
                        (_, Err(why)) => Err(why),
                        (_, Ok(Answer::Lost(lost))) => self.after_loss(cx, lost),
                        (_, Ok(Answer::NotAsked)) => Err(Error::Cancelled),
                        (State::Asking(_), Ok(Answer::Reply(reply))) => self.after_asking(cx, &reply),
                        (State::Reading(_), Ok(Answer::Reply(reply))) => self.after_reading(cx, &reply),
                        (State::Putting(_, list), Ok(Answer::Reply(reply))) => self.after_putting(cx, list, &reply),
                        (State::Checking(_, list), Ok(Answer::Reply(reply))) => self.after_checking(cx, &list, &reply),
                        _ => unreachable!("the state was just matched"),
                    }
                }
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => {
                        self.end_turn(cx);
                        return Step::Done(*result);
                    }
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
            self.state = next.unwrap_or_else(|why| settled(Err(why)));
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Asking(exchange)
            | State::Reading(exchange)
            | State::Putting(exchange, _)
            | State::Checking(exchange, _)
            | State::Stopping(exchange) => exchange.handle(cx, done),
            State::New | State::Pausing(_) | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        self.cancelled = true;
        match &mut self.state {
            State::Asking(exchange)
            | State::Reading(exchange)
            | State::Putting(exchange, _)
            | State::Checking(exchange, _)
            | State::Stopping(exchange) => exchange.cancel(),
            State::New | State::Pausing(_) => self.state = settled(Err(Error::Cancelled)),
            State::Settled(_) | State::Over => {}
        }
    }
}
