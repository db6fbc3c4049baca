//! What concurrent flows of one client share: plain data, borrowed by `&mut` for the length of a step.

mod config;
mod context;
mod known;
mod learned;
mod mirrors;
mod pace;
mod proxy;
mod referrers;
mod tls;
mod tokens;
mod turns;
mod warned;

pub use crate::limits::Limits;
pub use config::{Config, Scheme, TokenRequest, UploadPolicy};
pub use context::Context;
pub use learned::{Counting, Learned, Lessons};
pub use mirrors::{Mirror, Mirrors};
pub(crate) use pace::{Load, NotYet, Rules, Strain};
pub use proxy::{Proxies, Proxy, ProxyError, Tunnel};
pub use tls::{ClientIdentity, TlsConfig};
pub(crate) use tokens::{Area, Permission, Scheme as AuthScheme, TokenKey, Wish};
pub(crate) use turns::Had;

use std::collections::VecDeque;

use crate::endpoint::Mirrored;
use crate::job::JobId;
use crate::rng::Rng;
use crate::spec::{Origin, Registry};
use crate::time::Time;

/// Everything that flows against the same registries have in common: configuration, tokens, what is known to exist, pace.
///
/// A plain value without locks. A client owns one (in a mutex, if it has threads) and lends it to a flow for each step:
///
/// ```
/// use registry_proto::{Config, Session, Time};
///
/// let mut session = Session::new(Config::default(), 42);
/// let context = session.at(Time::ZERO); // for one `poll` or `handle`
/// # let _ = context;
/// ```
#[derive(Debug)]
pub struct Session {
    config: Config,
    pub(crate) tokens: tokens::Tokens,
    pub(crate) known: known::Known,
    pub(crate) pace: pace::Pace,
    pub(crate) referrers: referrers::Referrers,
    pub(crate) turns: turns::Turns,
    pub(crate) warned: warned::Warned,
    pub(crate) resting: mirrors::Resting,
    learned: Lessons,
    last_id: u64,
    rng: Rng,
    generation: u64,
}

impl Session {
    /// A session that knows nothing yet. The seed is for jitter: same seed, same completions, same steps.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            tokens: tokens::Tokens::default(),
            known: known::Known::default(),
            pace: pace::Pace::default(),
            referrers: referrers::Referrers::default(),
            turns: turns::Turns::default(),
            warned: warned::Warned::default(),
            resting: mirrors::Resting::default(),
            learned: config.learned.clone(),
            last_id: 0,
            rng: Rng::new(seed),
            generation: 0,
            config,
        }
    }

    /// Lends the session to a flow for one step at the moment `now`.
    pub const fn at(&mut self, now: Time) -> Context<'_> {
        Context { session: self, now, ending: false }
    }

    /// The configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What the registries' answers have taught so far, and what the configuration began with.
    pub const fn lessons(&self) -> &Lessons {
        &self.learned
    }

    /// Moves whenever something has changed that another flow may be waiting for. The driver then wakes the others.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Forgets jobs that nobody will answer any more, because their driver was dropped: gives back their places in the
    /// pace and the tokens they were fetching.
    pub fn abandon(&mut self, jobs: impl IntoIterator<Item = JobId>) {
        for job in jobs {
            self.give_back(job, Strain::Unknown);
            self.tokens.abandon(job);
        }
        self.generation += 1;
    }

    /// A job gives its place back. Whether somebody may be waiting for it.
    pub(crate) fn give_back(&mut self, job: JobId, strain: Strain) -> bool {
        let rules = self.config.rules();
        self.pace.release(job, strain, rules)
    }

    pub(crate) fn moved(&mut self) {
        self.generation += 1;
    }

    /// Where requests for this registry go. `None` when its name is no authority (a port beyond 65535).
    pub(crate) fn origin(&self, registry: &Registry) -> Option<Origin> {
        let https = match self.config.scheme {
            Scheme::Auto => !registry.is_loopback(),
            Scheme::Http => false,
            Scheme::Https => true,
        };
        Origin::new(https, registry.wire_host())
    }

    /// The mirrors that have what a registry has, in the order in which they are asked: where they are, and who.
    pub(crate) fn mirrors_of(&self, registry: &Registry, mirrored: Mirrored) -> VecDeque<(Origin, Registry)> {
        let is_asked = |mirror: &&Mirror| match mirrored {
            Mirrored::Never => false,
            Mirrored::ByDigest => true,
            Mirrored::ByTag => mirror.has_tags,
        };
        let home = self.origin(registry);
        let asked = self.config.mirrors.of(registry).iter().filter(is_asked);
        let found = asked.filter_map(|mirror| Some((self.origin(&mirror.registry)?, mirror.registry.clone())));
        found.filter(|(origin, _)| Some(origin) != home.as_ref()).collect()
    }

    /// Whether a mirror can be asked without waiting for it.
    pub(crate) fn is_up(&self, mirror: &Origin, now: Time) -> bool {
        !self.resting.has(mirror, now) && !self.pace.is_paused(mirror, now)
    }

    pub(crate) fn learned(&mut self, origin: &Origin) -> &mut Learned {
        self.learned.of(origin)
    }
}
