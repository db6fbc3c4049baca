//! How large is this blob?

use http::StatusCode;

use crate::endpoint::blob;
use crate::error::Error;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready, unreachable_loss};
use crate::job::Completion;
use crate::spec::{Descriptor, Digest, MediaType, Repository};

/// Asks for a blob's size: `HEAD /v2/<name>/blobs/<digest>` (end-2). Yields its descriptor; what type it has nobody knows.
#[derive(Debug)]
pub(super) struct Size {
    repository: Repository,
    digest: Digest,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Asking(Exchange),
    Cancelled,
}

impl Size {
    pub(super) const fn new(repository: Repository, digest: Digest) -> Self {
        Self { repository, digest, state: State::New }
    }

    fn after_reply(&self, answer: Result<Answer, Error>) -> Result<Descriptor, Error> {
        let reply = match answer? {
            Answer::Reply(reply) => reply,
            Answer::Lost(lost) => return Err(unreachable_loss(lost)),
        };
        match reply.status {
            StatusCode::OK => {
                let size = reply.header("content-length").and_then(|length| length.trim().parse().ok());
                let size =
                    size.ok_or_else(|| reply.broken("it does not say how large the blob is (Content-Length)"))?;
                Ok(Descriptor::new(MediaType::new("application/octet-stream"), self.digest.clone(), size))
            }
            StatusCode::NOT_FOUND => Err(reply.refusal(Some("check the repository's name and the digest"))),
            _ => Err(reply.refusal(None)),
        }
    }
}

impl Flow for Size {
    type Output = Descriptor;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Descriptor> {
        loop {
            match &mut self.state {
                State::New => match cx.origin(self.repository.registry()) {
                    Ok(origin) => {
                        let limits = cx.session.config().limits;
                        let ask = blob::look(&origin, self.repository.name(), &self.digest, &limits);
                        self.state = State::Asking(Exchange::new(ask, self.repository.registry()));
                    }
                    Err(why) => return Step::Done(Err(why)),
                },
                State::Asking(exchange) => {
                    let answer = ready!(exchange.poll(cx));
                    return Step::Done(self.after_reply(answer));
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
