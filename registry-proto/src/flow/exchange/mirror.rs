//! Whose turn it is: mirrors first, where a request may go to one, and then the registry itself.
//!
//! ```text
//!   the request may go ─┬─ no, or there are none ────────────────────────────────────────▶ the registry
//!   to mirrors          └─ yes ─▶ a mirror ─┬─ 2xx ─▶ the answer                              ▲
//!                                  ▲        ├─ not there, not let in ─────┬─▶ the next one ─┬─┘ there is none
//!                                  │        └─ 4xx, 5xx, no answer ─▶ it ─┘                 │
//!                                  │                         rests        │                 │
//!                                  └──────────────────────────────────────┴─────────────────┘
//! ```
//!
//! Nothing is tried twice at a mirror, and nobody waits for one: the next is as good. What goes on after 401 and redirects goes on as it
//! does with the registry, with the mirror's own credentials and from the mirror's own origin.
//!
//! A reply that turns out to be wrong when somebody looks at it is [given back](reject): its mirror is not asked again, and the owner
//! asks anew.

use std::collections::VecDeque;
use std::time::Duration;

use http::{StatusCode, Uri};

use crate::endpoint::token::encode;
use crate::endpoint::{Mirrored, Reply};
use crate::error::Error;
use crate::event::Event;
use crate::flow::Context;
use crate::flow::exchange::authorise::Authorisation;
use crate::flow::exchange::route::Route;
use crate::flow::exchange::{Answer, Exchange, Lost, State};
use crate::spec::{Origin, Registry};

/// How long a mirror rests that was no help.
const REST: Duration = Duration::from_secs(60);

/// Who may answer a request.
#[derive(Debug)]
pub(super) struct Turns {
    registry: Registry,
    mirrored: Mirrored,
    /// The mirrors that are still to be asked. `None`: nobody has been asked yet.
    left: Option<VecDeque<(Origin, Registry)>>,
    /// Whose turn it is, if it is a mirror's.
    mirror: Option<Origin>,
}

impl Turns {
    pub(super) fn new(registry: &Registry, mirrored: Mirrored) -> Self {
        Self { registry: registry.clone(), mirrored, left: None, mirror: None }
    }

    /// The mirror whose turn it is.
    pub(super) const fn mirror(&self) -> Option<&Origin> {
        self.mirror.as_ref()
    }

    /// Before each request: whether it is to go elsewhere, to a mirror at first, or away from one that is no help any more.
    pub(super) fn is_over(&mut self, cx: &Context<'_>) -> bool {
        if self.left.is_none() {
            let left = cx.session.mirrors_of(&self.registry, self.mirrored);
            return !self.left.insert(left).is_empty();
        }
        self.mirror.as_ref().is_some_and(|mirror| !cx.session.is_up(mirror, cx.now))
    }

    /// Whose turn is next: where a request goes that would go to `home` at the registry itself, and who that is.
    pub(super) fn next(&mut self, cx: &Context<'_>, home: &Uri) -> (Uri, Registry) {
        while let Some((origin, registry)) = self.left.as_mut().and_then(VecDeque::pop_front) {
            if !cx.session.is_up(&origin, cx.now) {
                continue;
            }
            let query = home.query().map(|query| format!("{query}&")).unwrap_or_default();
            let name = encode(self.registry.as_str());
            if let Some(url) = origin.at(&format!("{}?{query}ns={name}", home.path())) {
                self.mirror = Some(origin);
                return (url, registry);
            }
        }
        self.mirror = None;
        (home.clone(), self.registry.clone())
    }

    /// Whether a mirror's reply to a tag is about another registry's, by its own word.
    pub(super) fn is_foreign(&self, reply: &Reply) -> bool {
        self.mirrored == Mirrored::ByTag
            && reply.header("oci-namespace").is_some_and(|of| !of.trim().eq_ignore_ascii_case(self.registry.as_str()))
    }

    /// This mirror was no help: it is left alone for a while. What to tell people, if they don't know yet.
    pub(super) fn rest(&self, cx: &mut Context<'_>, mirror: &Origin, why: &str) -> Option<Event> {
        let until = Some(cx.now + REST);
        cx.session.resting.rest(mirror, cx.now, until).then(|| {
            let registry = &self.registry;
            Event::Notice(format!(
                "{mirror} is no help as a mirror of {registry}, which is asked instead for a while: {why}"
            ))
        })
    }
}

impl Exchange {
    /// The request begins anew, at whoever is next.
    pub(super) fn next_turn(&mut self, cx: &mut Context<'_>) {
        if let Some(holder) = self.authorisation.let_go() {
            cx.session.tokens.abandon(holder);
            cx.session.moved();
        }
        let (start, registry) = self.turns.next(cx, &self.ask.url);
        *self.route = Route::new(&start);
        *self.authorisation = Authorisation::new(&self.ask.scopes, &registry);
        (self.tries, self.detours, self.started) = (0, 0, None);
    }

    /// How often something is tried again: nothing is at a mirror.
    pub(super) fn most_tries(&self, cx: &Context<'_>) -> u32 {
        if self.turns.mirror().is_some() { 0 } else { cx.session.config().retries }
    }

    /// What is the end at a mirror is no reason to fail: whoever is next is asked.
    pub(super) fn or_elsewhere(&mut self, cx: &mut Context<'_>, next: State) -> State {
        let (Some(mirror), State::Settled(result)) = (self.turns.mirror().cloned(), &next) else { return next };
        let why = match &**result {
            Ok(Answer::Reply(reply)) if reply.status.is_success() && !self.turns.is_foreign(reply) => return next,
            Ok(Answer::Reply(reply)) if reply.status == StatusCode::NOT_FOUND => None,
            Ok(Answer::Reply(reply)) if reply.status.is_success() => {
                Some("its answer is about another registry".to_owned())
            }
            Ok(Answer::Reply(reply)) => Some(format!("it answered {}", reply.status)),
            Ok(Answer::Lost(lost)) => Some(lost.why.to_string()),
            // Mirrors are not tidied up.
            Ok(Answer::NotAsked) => return next,
            Err(Error::Denied(_)) => None,
            // A full disk is nobody's fault out there.
            Err(Error::Local(_)) => return next,
            Err(why) => Some(why.to_string()),
        };
        if let Some(why) = why {
            self.notes.extend(self.turns.rest(cx, &mirror, &why));
        }
        // A part of it came. Its owner goes on with that, and asks for the rest.
        if let Ok(Answer::Lost(Lost { moved: Some(_), .. })) = **result {
            return next;
        }
        self.next_turn(cx);
        State::Ready
    }
}

/// What a reply holds is not what it should be. If it is a mirror's, that one is not asked again, and it is worth asking anew: what to
/// tell people about it. `None`: it is the registry's own.
pub(crate) fn reject(cx: &mut Context<'_>, reply: &Reply, why: &str) -> Option<Event> {
    let mirror = reply.mirror.as_ref()?;
    cx.session.resting.rest(mirror, cx.now, None);
    Some(Event::Notice(format!("the mirror {mirror} handed out something else, and is not asked again: {why}")))
}
