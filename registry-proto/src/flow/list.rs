//! Listing: a repository's tags, a registry's repositories.
//!
//! ```text
//!   New ─▶ Asking ─┬─ a page ─▶ told; Asking the next, or Over at the end
//!            ▲     ├─ 400, 413 to the first page, with `n` ─┐
//!            └─────┼─────────── without `n` ◀───────────────┘
//!                  └─ anything else ─▶ Over (Err)
//! ```

use std::collections::VecDeque;
use std::num::NonZeroU32;

use http::{StatusCode, Uri};

use crate::endpoint::page::Names;
use crate::endpoint::{Ask, Reply, catalog, tags};
use crate::error::{DeniedBecause, Error};
use crate::event::Event;
use crate::flow::walk::Walk;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::limits::Limits;
use crate::spec::{Origin, Registry, Repository};

/// Lists a repository's tags: `GET /v2/<name>/tags/list` (end-8), page by page. Each page is told as [`Event::Listed`] as
/// soon as it is there, so that a list of any length takes the memory of a page; [`collected`](Self::collected) keeps them.
///
/// Yields how many tags there were. Entries that are no tags, which some registries list, are left out with a
/// [`Event::Notice`].
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::ListTags;
/// use registry_proto::Event;
/// use std::num::NonZeroU32;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # ["v2", "v3"].iter().for_each(|tag| _ = registry.insert_image("app", Some(tag), &SampleImage::new(&[], &[b"a layer"])));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// # let repository = "localhost:5000/app".parse::<registry_proto::spec::Reference>()?.repository().clone();
/// let ran = world.run(&mut session, ListTags::new(repository).page(NonZeroU32::MIN));
/// assert_eq!(ran.result?, 3);
/// let pages: Vec<&Event> = ran.events.iter().filter(|event| matches!(event, Event::Listed { .. })).collect();
/// assert_eq!(pages.len(), 3, "a tag on each");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`] when the repository is not known (404); [`Error::Protocol`] when a page leads to another origin, or
/// the list runs in a circle, does not get ahead or has more pages than [`Config::limits`](crate::Config::limits) allows.
#[derive(Debug)]
pub struct ListTags(Listing);

/// Lists a registry's repositories: `GET /v2/_catalog`, page by page, as [`ListTags`] does.
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::ListCatalog;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let ran = world.run(&mut session, ListCatalog::new("localhost:5000".parse()?).collected());
/// assert_eq!(ran.result?, ["app"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As those of [`ListTags`]. Many registries, and nearly all that are services, don't have this list, or not for everybody:
/// [`Error::Registry`] (404, 405) or [`Error::Denied`] (401, 403).
#[derive(Debug)]
pub struct ListCatalog(Listing);

impl ListTags {
    /// Of this repository.
    pub const fn new(repository: Repository) -> Self {
        Self(Listing::new(What::Tags(repository)))
    }

    /// Asks for so many entries a page (`n`) instead of as many as the registry likes. It may give fewer or not care; one
    /// that refuses the number is asked again without it.
    #[must_use]
    pub const fn page(mut self, n: NonZeroU32) -> Self {
        self.0.n = Some(n);
        self
    }

    /// Yields the tags themselves instead of telling of them.
    pub fn collected(mut self) -> Collected<Self> {
        self.0.whole = true;
        Collected::new(self)
    }
}

impl ListCatalog {
    /// Of this registry.
    pub const fn new(registry: Registry) -> Self {
        Self(Listing::new(What::Catalog(registry)))
    }

    /// As [`ListTags::page`].
    #[must_use]
    pub const fn page(mut self, n: NonZeroU32) -> Self {
        self.0.n = Some(n);
        self
    }

    /// Yields the repositories themselves instead of telling of them.
    pub fn collected(mut self) -> Collected<Self> {
        self.0.whole = true;
        Collected::new(self)
    }
}

macro_rules! delegate {
    ($($flow:ty),*) => {$(
        impl Flow for $flow {
            type Output = u64;

            fn poll(&mut self, cx: &mut Context<'_>) -> Step<u64> {
                self.0.poll(cx)
            }

            fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
                self.0.handle(cx, done)
            }

            fn cancel(&mut self) {
                self.0.cancel();
            }
        }
    )*};
}

delegate!(ListTags, ListCatalog);

/// What is listed.
#[derive(Debug)]
enum What {
    Tags(Repository),
    Catalog(Registry),
}

impl What {
    const fn registry(&self) -> &Registry {
        match self {
            Self::Tags(repository) => repository.registry(),
            Self::Catalog(registry) => registry,
        }
    }

    fn first(&self, origin: &Origin, n: Option<NonZeroU32>, limits: &Limits) -> Ask {
        match self {
            Self::Tags(repository) => tags::first(origin, repository.name(), n, limits),
            Self::Catalog(_) => catalog::first(origin, n, limits),
        }
    }

    fn page(&self, url: Uri, limits: &Limits) -> Ask {
        match self {
            Self::Tags(repository) => tags::page(url, repository.name(), limits),
            Self::Catalog(_) => catalog::page(url, limits),
        }
    }

    fn read(&self, reply: &Reply, limits: &Limits) -> Result<Names, Error> {
        match self {
            Self::Tags(_) => tags::read(reply, limits),
            Self::Catalog(_) => catalog::read(reply, limits),
        }
    }

    const fn called(&self) -> &'static str {
        match self {
            Self::Tags(_) => "tags",
            Self::Catalog(_) => "repositories",
        }
    }
}

#[derive(Debug)]
struct Listing {
    what: What,
    n: Option<NonZeroU32>,
    /// Somebody keeps the whole list, so that its length matters.
    whole: bool,
    count: u64,
    odd: u64,
    example: Option<String>,
    notes: VecDeque<Event>,
    /// From the first request on.
    walk: Option<Walk>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Asking(Exchange),
    Settled(Box<Result<(), Error>>),
    Over,
}

impl Listing {
    const fn new(what: What) -> Self {
        Self {
            what,
            n: None,
            whole: false,
            count: 0,
            odd: 0,
            example: None,
            notes: VecDeque::new(),
            walk: None,
            state: State::New,
        }
    }

    fn first(&mut self, cx: &Context<'_>) -> State {
        match cx.origin(self.what.registry()) {
            Ok(origin) => {
                let ask = self.what.first(&origin, self.n, &cx.session.config().limits);
                self.walk = Some(Walk::from(ask.url.clone()));
                State::Asking(Exchange::new(ask, self.what.registry()))
            }
            Err(why) => settled(Err(why)),
        }
    }

    /// What follows from the answer for a page: the only place that decides it.
    fn after_page(&mut self, cx: &Context<'_>, answer: Result<Answer, Error>) -> State {
        let reply = match answer.and_then(Answer::into_reply) {
            Ok(reply) => reply,
            Err(why) => return settled(Err(self.explained(why))),
        };
        // Too many to a page for this registry (distribution, ECR: 400; Quay: 413).
        if matches!(reply.status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE)
            && self.count == 0
            && let Some(n) = self.n.take()
        {
            let what =
                format!("the registry does not give {n} {} at a time: asked without a number", self.what.called());
            self.notes.push_back(Event::Notice(what));
            return self.first(cx);
        }
        match self.take(cx, &reply) {
            Ok(Some(next)) => {
                let ask = self.what.page(next, &cx.session.config().limits);
                State::Asking(Exchange::new(ask, self.what.registry()))
            }
            Ok(None) => settled(Ok(())),
            Err(why) => settled(Err(why)),
        }
    }

    /// Takes a page in, and says where the list goes on.
    fn take(&mut self, cx: &Context<'_>, reply: &Reply) -> Result<Option<Uri>, Error> {
        let limits = &cx.session.config().limits;
        let page = self.what.read(reply, limits)?;
        let entries = page.len();
        self.count += page.names.len() as u64;
        self.odd += page.odd.len() as u64;
        self.example = self.example.take().or_else(|| page.odd.into_iter().next());
        if self.whole && self.count > limits.entries {
            return Err(reply.broken(format!(
                "it lists more than {} {}, which is more than are kept: take them page by page",
                limits.entries,
                self.what.called()
            )));
        }
        if !page.names.is_empty() {
            self.notes.push_back(Event::Listed { names: page.names });
        }
        let walk = self.walk.get_or_insert_with(|| Walk::from(reply.url.clone()));
        let next = walk.after(reply, entries, limits)?;
        if next.is_none() {
            self.remarks(entries);
        }
        Ok(next)
    }

    /// What should be known about a list at its end.
    fn remarks(&mut self, last_page: usize) {
        let called = self.what.called();
        if let Some(example) = &self.example {
            let odd = self.odd;
            let what =
                format!("left out of the list: {odd} that can't be the names of {called}, such as \"{example}\"");
            self.notes.push_back(Event::Notice(what));
        }
        if self.n.is_some_and(|n| u32::try_from(last_page) == Ok(n.get())) {
            let what = format!("the last page is full: if the registry forgot to name the next, {called} are missing");
            self.notes.push_back(Event::Notice(what));
        }
    }

    fn explained(&self, why: Error) -> Error {
        match why {
            Error::Denied(mut denied)
                if matches!(self.what, What::Catalog(_)) && denied.because == DeniedBecause::NotAllowed =>
            {
                denied.because = DeniedBecause::NoCatalog;
                Error::Denied(denied)
            }
            why => why,
        }
    }
}

fn settled(result: Result<(), Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for Listing {
    type Output = u64;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<u64> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Step::Note(note);
            }
            self.state = match &mut self.state {
                State::New => self.first(cx),
                State::Asking(exchange) => {
                    let answer = ready!(exchange.poll(cx));
                    self.after_page(cx, answer)
                }
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => return Step::Done(result.map(|()| self.count)),
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Asking(exchange) => exchange.handle(cx, done),
            State::New | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Asking(exchange) => exchange.cancel(),
            State::New => self.state = settled(Err(Error::Cancelled)),
            State::Settled(_) | State::Over => {}
        }
    }
}

/// A list kept whole: what `F` tells as [`Event::Listed`], this yields. Longer ones than
/// [`Config::limits`](crate::Config::limits) says are an error.
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::ListTags;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # ["v2", "v3"].iter().for_each(|tag| _ = registry.insert_image("app", Some(tag), &SampleImage::new(&[], &[b"a layer"])));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// # let repository = "localhost:5000/app".parse::<registry_proto::spec::Reference>()?.repository().clone();
/// let ran = world.run(&mut session, ListTags::new(repository).collected());
/// assert_eq!(ran.result?, ["v1", "v2", "v3"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Collected<F> {
    flow: F,
    names: Vec<String>,
}

impl<F> Collected<F> {
    const fn new(flow: F) -> Self {
        Self { flow, names: Vec::new() }
    }
}

impl<F: Flow<Output = u64>> Flow for Collected<F> {
    type Output = Vec<String>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Vec<String>> {
        loop {
            match self.flow.poll(cx) {
                Step::Note(Event::Listed { names }) => self.names.extend(names),
                step => {
                    let result = ready!(step);
                    return Step::Done(result.map(|_| std::mem::take(&mut self.names)));
                }
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        self.flow.handle(cx, done)
    }

    fn cancel(&mut self) {
        self.flow.cancel();
    }
}
