//! What is said about a manifest.
//!
//! ```text
//!   New ─▶ Resolving, if only a tag is known ─┬─▶ Asking ─┬─ a page ──▶ Asking the next, or Settled at the end
//!                                             │           └─ no list ─┐
//!                                             └─ there was none before┴▶ Reading the tag for that case ─▶ Settled
//! ```

use std::collections::{BTreeSet, VecDeque};

use http::StatusCode;

use crate::endpoint::referrers::{self, Listed};
use crate::endpoint::{Reply, manifest};
use crate::error::Error;
use crate::event::Event;
use crate::flow::walk::Walk;
use crate::flow::{Answer, Context, Exchange, Flow, Resolve, Step, ready};
use crate::job::Completion;
use crate::spec::{Descriptor, Digest, MediaType, Origin, Reference, Repository, Tag, TagOrDigest};

/// Lists the manifests that say something about another, their subject: `GET /v2/<name>/referrers/<digest>` (end-12), all
/// pages; where the registry has no such endpoint, the index under the tag that the specification names for that case.
///
/// Yields their descriptors, each once, in the registry's order. They are the registry's word: whoever relies on one fetches
/// the manifest and looks whether its [`subject`](crate::spec::Manifest::subject) is the right one.
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::ListReferrers;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let ran = world.run(&mut session, ListReferrers::new(&"localhost:5000/app:v1".parse()?));
/// assert!(ran.result?.is_empty(), "nobody has signed it");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of a list ([`ListTags`](crate::flow::ListTags)), and [`Error::Registry`] when a tag leads to nothing. A digest that
/// is not there is no error: what is said about it may be there before it is.
#[derive(Debug)]
pub struct ListReferrers {
    subject: Reference,
    artifact_type: Option<MediaType>,
    seen: BTreeSet<Digest>,
    found: Vec<Descriptor>,
    notes: VecDeque<Event>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Resolving(Resolve),
    Asking(Exchange, Box<Asking>),
    Reading(Exchange, Digest),
    Settled(Box<Result<(), Error>>),
    Over,
}

#[derive(Debug)]
struct Asking {
    subject: Digest,
    walk: Walk,
    first: bool,
}

impl ListReferrers {
    /// Of what this leads to: a digest, or a tag that is resolved first.
    pub fn new(subject: &Reference) -> Self {
        Self {
            subject: subject.clone(),
            artifact_type: None,
            seen: BTreeSet::new(),
            found: Vec::new(),
            notes: VecDeque::new(),
            state: State::New,
        }
    }

    /// Only those of this type of artifact. The registry is asked to filter, and what it gives is filtered in any case.
    #[must_use]
    pub fn of_type(mut self, artifact_type: MediaType) -> Self {
        self.artifact_type = Some(artifact_type);
        self
    }

    fn repository(&self) -> &Repository {
        self.subject.repository()
    }

    fn origin(&self, cx: &Context<'_>) -> Result<Origin, Error> {
        cx.origin(self.repository().registry())
    }

    fn start(&self, cx: &Context<'_>) -> Result<State, Error> {
        match self.subject.digest() {
            Some(digest) => self.ask(cx, digest.clone()),
            None => Ok(State::Resolving(Resolve::new(self.subject.clone()).unmirrored())),
        }
    }

    fn ask(&self, cx: &Context<'_>, subject: Digest) -> Result<State, Error> {
        let (origin, name, limits) = (self.origin(cx)?, self.repository().name(), cx.session.config().limits);
        if cx.session.referrers.are_listed(&origin, name) == Some(false) {
            return self.fall_back(cx, subject);
        }
        let ask = referrers::first(&origin, name, &subject, self.artifact_type.as_ref(), &limits);
        let asking = Asking { subject, walk: Walk::from(ask.url.clone()), first: true };
        Ok(State::Asking(Exchange::new(ask, self.repository().registry()), Box::new(asking)))
    }

    /// What follows from a reply of the endpoint: the only place that decides it.
    fn after_page(&mut self, cx: &mut Context<'_>, mut asking: Box<Asking>, reply: &Reply) -> Result<State, Error> {
        let limits = cx.session.config().limits;
        let listed = referrers::read(reply)?;
        if asking.first
            && let Some(known) = referrers::are_listed(reply, &listed)
        {
            let origin = self.origin(cx)?;
            cx.session.referrers.remember(&origin, self.repository().name(), known);
        }
        let page = match listed {
            Listed::Page(page) => page,
            Listed::Not if asking.first => return self.fall_back(cx, asking.subject),
            Listed::Nonsense if asking.first => {
                let tag = Tag::of_referrers(&asking.subject);
                self.notes.push_back(Event::Notice(format!(
                    "{}: the registry answered with something that is no list of referrers; looking at the tag {tag}",
                    reply.asked
                )));
                return self.fall_back(cx, asking.subject);
            }
            Listed::Not | Listed::Nonsense => {
                return Err(reply.broken("a list of referrers goes on with something else"));
            }
        };
        let entries = page.len();
        self.take(page);
        if self.seen.len() as u64 > limits.entries {
            return Err(reply.broken(format!("it lists more than {} referrers", limits.entries)));
        }
        asking.first = false;
        let Some(next) = asking.walk.after(reply, entries, &limits)? else { return Ok(settled(Ok(()))) };
        let ask = referrers::page(next, self.repository().name(), &limits);
        Ok(State::Asking(Exchange::new(ask, self.repository().registry()), asking))
    }

    fn fall_back(&self, cx: &Context<'_>, subject: Digest) -> Result<State, Error> {
        let tag = TagOrDigest::Tag(Tag::of_referrers(&subject));
        let limits = cx.session.config().limits;
        let ask = manifest::get(&self.origin(cx)?, self.repository().name(), &tag, &limits);
        Ok(State::Reading(Exchange::new(ask, self.repository().registry()), subject))
    }

    fn after_fallback(&mut self, subject: &Digest, reply: &Reply) -> Result<State, Error> {
        if reply.status != StatusCode::NOT_FOUND {
            let list = manifest::read(reply, &TagOrDigest::Tag(Tag::of_referrers(subject)), None)?;
            self.take(referrers::listed_under_tag(&list, subject).unwrap_or_default().to_vec());
        }
        Ok(settled(Ok(())))
    }

    fn take(&mut self, page: Vec<Descriptor>) {
        for descriptor in page {
            let wanted = self.artifact_type.is_none() || descriptor.artifact_type == self.artifact_type;
            if self.seen.insert(descriptor.digest.clone()) && wanted {
                self.found.push(descriptor);
            }
        }
    }
}

fn settled(result: Result<(), Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for ListReferrers {
    type Output = Vec<Descriptor>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Vec<Descriptor>> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            let next = match &mut self.state {
                State::New => self.start(cx),
                State::Resolving(resolve) => match ready!(resolve.poll(cx)) {
                    Ok(found) => self.ask(cx, found.digest),
                    Err(why) => Err(why),
                },
                State::Asking(exchange, _) | State::Reading(exchange, _) => {
                    let answer = ready!(exchange.poll(cx)).and_then(Answer::into_reply);
                    match (std::mem::replace(&mut self.state, State::Over), answer) {
                        (State::Asking(_, asking), Ok(reply)) => self.after_page(cx, asking, &reply),
                        (State::Reading(_, subject), Ok(reply)) => self.after_fallback(&subject, &reply),
                        (_, Err(why)) => Err(why),
                        _ => unreachable!("the state was just matched"),
                    }
                }
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => return Step::Done(result.map(|()| std::mem::take(&mut self.found))),
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
            self.state = next.unwrap_or_else(|why| settled(Err(why)));
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Resolving(resolve) => resolve.handle(cx, done),
            State::Asking(exchange, _) | State::Reading(exchange, _) => exchange.handle(cx, done),
            State::New | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Resolving(resolve) => resolve.cancel(),
            State::Asking(exchange, _) | State::Reading(exchange, _) => exchange.cancel(),
            State::New => self.state = settled(Err(Error::Cancelled)),
            State::Settled(_) | State::Over => {}
        }
    }
}
