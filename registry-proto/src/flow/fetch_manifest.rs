//! Fetching one manifest.

use crate::endpoint::manifest;
use crate::error::Error;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready, unreachable_loss};
use crate::job::Completion;
use crate::spec::{Descriptor, Manifest, Reference, Repository, TagOrDigest};

/// Fetches a manifest or an index by tag or digest: `GET /v2/<name>/manifests/<reference>` (end-3). Its bytes are kept as
/// they came; asked for by digest, they are verified.
///
/// Yields a [`Manifest`].
#[derive(Debug)]
pub struct FetchManifest {
    repository: Repository,
    reference: TagOrDigest,
    expected: Option<Descriptor>,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Asking(Exchange),
    Cancelled,
}

impl FetchManifest {
    /// Of the image that a reference names: by its digest if it has one, else by its tag, else `latest`.
    pub fn new(reference: &Reference) -> Self {
        Self {
            repository: reference.repository().clone(),
            reference: reference.target(),
            expected: None,
            state: State::New,
        }
    }

    /// Of what a descriptor points to, such as one of an index's manifests: its digest, size and type have to be right.
    pub fn described(repository: Repository, descriptor: Descriptor) -> Self {
        let reference = TagOrDigest::Digest(descriptor.digest.clone());
        Self { repository, reference, expected: Some(descriptor), state: State::New }
    }
}

impl Flow for FetchManifest {
    type Output = Manifest;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Manifest> {
        loop {
            match &mut self.state {
                State::New => {
                    let origin = match cx.origin(self.repository.registry()) {
                        Ok(origin) => origin,
                        Err(why) => return Step::Done(Err(why)),
                    };
                    let limits = cx.session.config().limits;
                    let ask = manifest::get(&origin, self.repository.name(), &self.reference, &limits);
                    self.state = State::Asking(Exchange::new(ask, self.repository.registry()));
                }
                State::Asking(exchange) => {
                    return Step::Done(match ready!(exchange.poll(cx)) {
                        Ok(Answer::Reply(reply)) => manifest::read(&reply, &self.reference, self.expected.as_ref()),
                        Ok(Answer::Lost(lost)) => Err(unreachable_loss(lost)),
                        Err(why) => Err(why),
                    });
                }
                State::Cancelled => return Step::Done(Err(Error::Cancelled)),
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Asking(exchange) => exchange.handle(cx, done),
            State::New | State::Cancelled => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Asking(exchange) => exchange.cancel(),
            State::New => self.state = State::Cancelled,
            State::Cancelled => {}
        }
    }
}
