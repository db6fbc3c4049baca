//! Whether a manifest is there.

use crate::endpoint::manifest::{self, Presence};
use crate::error::Error;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Digest, Origin, Repository, TagOrDigest};

/// Whether a repository's tag or digest leads to a certain manifest: one `HEAD`.
#[derive(Debug)]
pub(crate) struct HasManifest {
    repository: Repository,
    origin: Origin,
    reference: TagOrDigest,
    wanted: Digest,
    asking: Option<Exchange>,
    cancelled: bool,
}

impl HasManifest {
    pub(crate) const fn new(repository: Repository, origin: Origin, reference: TagOrDigest, wanted: Digest) -> Self {
        Self { repository, origin, reference, wanted, asking: None, cancelled: false }
    }
}

impl Flow for HasManifest {
    type Output = bool;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<bool> {
        if self.cancelled && self.asking.is_none() {
            return Step::Done(Err(Error::Cancelled));
        }
        let exchange = self.asking.get_or_insert_with(|| {
            let limits = cx.session.config().limits;
            let ask = manifest::head(&self.origin, self.repository.name(), &self.reference, &limits);
            Exchange::new(ask, self.repository.registry())
        });
        let answer = ready!(exchange.poll(cx));
        Step::Done(match answer.and_then(Answer::into_reply) {
            Ok(reply) => manifest::presence(&reply).map(|presence| match presence {
                Presence::There(Some(digest)) => digest == self.wanted,
                // Not every registry names the digest; what was found by its digest can have no other.
                Presence::There(None) => matches!(self.reference, TagOrDigest::Digest(_)),
                Presence::Absent => false,
            }),
            Err(why) => Err(why),
        })
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.asking {
            Some(exchange) => exchange.handle(cx, done),
            None => Err(done),
        }
    }

    fn cancel(&mut self) {
        self.cancelled = true;
        if let Some(exchange) = &mut self.asking {
            exchange.cancel();
        }
    }
}
