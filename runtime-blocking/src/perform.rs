//! The work itself: one job, done once, answered once.

use std::fs::File;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use registry_proto::Digester;
use registry_proto::archive::{self, Archive};
use registry_proto::job::{
    Completion, Failure, FailureKind, FileRange, Job, More, Outgoing, Payload, Plan, Received, Timeouts,
};
use ureq::{Agent, Body, SendBody};

use crate::connect::{failure_of, failure_of_io};
use crate::disk::LocalDisk;
use crate::socket::{SendingBody, Stoppable};

/// What is read of a file or a reply at a time where ureq brings no buffer of its own.
const BUFFER: usize = 256 << 10;

/// Set when nobody wants a job's answer any more. Whoever waits for the network notices soon.
pub(crate) type Stop = Arc<AtomicBool>;

/// Does a job. Its ticket is answered whatever happens, also if the work panics.
pub(crate) fn perform(agent: &Agent, limits: &archive::Limits, job: Job, stop: &Stop) -> Completion {
    match job {
        Job::Exchange(ticket, request, plan, timeouts) => {
            let mut sent = None;
            let done = catch_unwind(AssertUnwindSafe(|| exchange(agent, request, plan, timeouts, stop, &mut sent)));
            match done.unwrap_or_else(|_| Err(panicked())) {
                Ok((head, body)) => ticket.replied(head, body, sent),
                Err(why) => ticket.failed(why, sent),
            }
        }
        Job::Index(ticket, path) => {
            match catch_unwind(AssertUnwindSafe(|| Archive::examine(&LocalDisk, &path, limits))) {
                Ok(found) => ticket.indexed(found),
                Err(_) => ticket.failed(panicked()),
            }
        }
        Job::Hash(ticket, range) => match catch_unwind(AssertUnwindSafe(|| hash(range))) {
            Ok(Ok(digester)) => ticket.hashed(digester),
            Ok(Err(why)) => ticket.failed(why),
            Err(_) => ticket.failed(panicked()),
        },
    }
}

fn panicked() -> Failure {
    Failure::new(FailureKind::Panicked, "this is a bug")
}

fn hash(range: FileRange) -> Result<Digester, Failure> {
    let file = File::open(range.path())?;
    range.read_from(file)?.hash_all(&mut vec![0; BUFFER])
}

fn exchange(
    agent: &Agent,
    request: http::Request<Payload>,
    plan: Plan,
    timeouts: Timeouts,
    stop: &Stop,
    sent: &mut Option<Digester>,
) -> Result<(http::response::Parts, Received), Failure> {
    let _stoppable = Stoppable::by(stop);
    let (head, payload) = request.into_parts();
    let response = match payload {
        Payload::File(range) => {
            let file = File::open(range.path())?;
            let mut body = OutgoingBody::new(range.read_from(file)?, Arc::clone(stop));
            let request = configured(agent, http::Request::from_parts(head, ()), timeouts);
            let (head, ()) = request.into_parts();
            let request = http::Request::from_parts(head, SendBody::from_reader(&mut body));
            let response = agent.run(request);
            let (digester, failure) = body.finish();
            *sent = Some(digester);
            // What is wrong with the file is told apart from what became of the connection because of it.
            match (response, failure) {
                (Err(_), Some(local)) => return Err(local),
                (response, _) => response,
            }
        }
        Payload::Bytes(bytes) => agent.run(configured(agent, http::Request::from_parts(head, &bytes[..]), timeouts)),
        // Without the explicit nothing, ureq would announce a body of unknown length.
        Payload::Empty if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
            agent.run(configured(agent, http::Request::from_parts(head, &b""[..]), timeouts))
        }
        Payload::Empty => agent.run(configured(agent, http::Request::from_parts(head, ()), timeouts)),
    };
    receive(response.map_err(|why| failure_of(&why))?, plan, stop)
}

/// The request with its time limits.
fn configured<B: ureq::AsSendBody>(agent: &Agent, request: http::Request<B>, limits: Timeouts) -> http::Request<B> {
    agent
        .configure_request(request)
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_recv_response(Some(limits.head))
        .timeout_per_read(Some(limits.idle))
        .timeout_per_write(Some(limits.idle))
        .build()
}

fn receive(
    response: http::Response<Body>,
    plan: Plan,
    stop: &Stop,
) -> Result<(http::response::Parts, Received), Failure> {
    let (head, mut body) = response.into_parts();
    let mut incoming = plan.sink(&head);
    let mut reader = body.as_reader();
    let mut buffer = [0; 16 << 10];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(aborted());
        }
        // Read to the end even where nobody wants it: ureq keeps only connections whose reply was read.
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => {
                if incoming.feed(&buffer[..got])? == More::Unwanted {
                    break;
                }
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(failure_of_io(&why)),
        }
    }
    Ok((head, incoming.finish()))
}

pub(crate) fn aborted() -> Failure {
    Failure::new(FailureKind::Cut, "aborted")
}

/// A file on its way into ureq's buffer: hashed as it is read, exactly as long as was announced.
struct OutgoingBody {
    outgoing: Outgoing<File>,
    sending: SendingBody,
    /// What ureq has not been given yet; also of a body that is only pretended to be sent.
    left: u64,
    stop: Stop,
    failure: Option<Failure>,
}

impl OutgoingBody {
    fn new(outgoing: Outgoing<File>, stop: Stop) -> Self {
        Self { left: outgoing.remaining(), outgoing, sending: SendingBody::start(), stop, failure: None }
    }

    fn finish(self) -> (Digester, Option<Failure>) {
        (self.outgoing.into_digester(), self.failure)
    }
}

impl Read for OutgoingBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other(aborted()));
        }
        let got = if self.sending.refused() {
            // Nothing goes out any more. ureq looks at what came in once it believes that it sent everything.
            usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len())
        } else {
            self.outgoing.fill(buffer).map_err(|failure| {
                self.failure = Some(failure.clone());
                io::Error::other(failure)
            })?
        };
        self.left -= got as u64;
        Ok(got)
    }
}
