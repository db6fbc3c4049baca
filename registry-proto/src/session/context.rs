//! What a flow is lent for one step.

use std::time::Duration;

use crate::error::Error;
use crate::job::{JobId, Ticket};
use crate::session::Session;
use crate::spec::{Origin, Registry};
use crate::time::Time;

/// What a flow may use during one step: the session it shares with other flows, and the time.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) now: Time,
    /// Whoever is asked for this step is wanted to end: nothing is begun any more but what tidies up.
    pub(crate) ending: bool,
}

impl Context<'_> {
    /// A new job's ticket.
    pub(crate) fn ticket<K>(&mut self) -> Ticket<K> {
        Ticket::new(JobId::new(self.number()))
    }

    /// A number that nobody else in this session has.
    pub(crate) const fn number(&mut self) -> u64 {
        self.session.last_id += 1;
        self.session.last_id
    }

    /// Where a registry is reached.
    pub(crate) fn origin(&self, registry: &Registry) -> Result<Origin, Error> {
        self.session.origin(registry).ok_or_else(|| Error::Misuse(format!("`{registry}` is no address of a registry")))
    }

    /// As [`Session::abandon`], for a driver that is in the middle of a step.
    pub fn abandon(&mut self, jobs: impl IntoIterator<Item = JobId>) {
        self.session.abandon(jobs);
    }

    /// How long to wait before try number `tries + 1`: exponential, capped, full jitter.
    pub(crate) fn backoff(&mut self, tries: u32) -> Duration {
        let config = &self.session.config;
        let cap = config.backoff.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(config.backoff_limit);
        self.session.rng.jitter(cap)
    }
}
