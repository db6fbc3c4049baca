//! The work itself: one job, done once, answered once.

use std::fs::File;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use http::Method;
use registry_proto::Digester;
use registry_proto::job::{
    Attended, Completion, Failure, FailureKind, Incoming, Job, More, Outgoing, Payload, Phase, Plan, Progress,
    Received, Supply, Timeouts,
};
use ureq::{Agent, Body, SendBody};

use crate::connect::{Agents, failure_of, failure_of_io};
use crate::disk::LocalDisk;
use crate::socket::{SendingBody, Stoppable};

/// What is taken of a reply at a time that goes to a file.
const BUFFER: usize = 256 << 10;

/// How often somebody who waits for a piece looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Longer than any request takes.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Set when nobody wants a job's answer any more. Whoever waits for the network notices soon.
pub(crate) type Stop = Arc<AtomicBool>;

/// The ends of a body that is supplied.
pub(crate) type Ends = Supply<SyncSender<Bytes>, Receiver<Bytes>>;

/// Does a job. Its ticket is answered whatever happens, also if the work panics.
pub(crate) fn perform(agents: &Agents, job: Job, supply: Ends, stop: &Stop) -> Completion {
    match job {
        Job::Exchange(ticket, request, plan, timeouts) => {
            let mut moved = None;
            let done =
                catch_unwind(AssertUnwindSafe(|| exchange(agents, request, supply, plan, timeouts, stop, &mut moved)));
            match done.unwrap_or_else(|_| Err(panicked())) {
                Ok((head, body)) => ticket.replied(head, body, moved),
                Err(why) => ticket.failed(why, moved),
            }
        }
        Job::Supply(ticket, _, piece) => {
            if let Supply::Into(body) = supply {
                // Whether anybody takes it is told by the exchange.
                let _ = body.send(piece);
            }
            ticket.supplied()
        }
        Job::Local(job) => job.run(&Attended::new(&LocalDisk, stop)),
    }
}

fn panicked() -> Failure {
    Failure::new(FailureKind::Panicked, "this is a bug")
}

fn exchange(
    agents: &Agents,
    request: http::Request<Payload>,
    supply: Ends,
    plan: Plan,
    timeouts: Timeouts,
    stop: &Stop,
    moved: &mut Option<Digester>,
) -> Result<(http::response::Parts, Received), Failure> {
    let agent = agents.to(request.uri())?;
    let stoppable = Stoppable::by(stop);
    let (head, payload) = request.into_parts();
    let response = match payload {
        Payload::File(range) => {
            let outgoing = range.open_with(|path| File::open(path))?;
            let left = outgoing.remaining();
            let mut body = OutgoingBody::new(outgoing, left, timeouts, Arc::clone(stop));
            let response = send(agent, head, &mut body, timeouts);
            let (outgoing, failure) = body.finish();
            *moved = Some(outgoing.into_digester());
            // What is wrong with the file is told apart from what became of the connection because of it.
            match (response, failure) {
                (Err(_), Some(local)) => return Err(local),
                (response, _) => response,
            }
        }
        Payload::Supplied(length) => {
            let Supply::From(pieces) = supply else { return Err(panicked()) };
            let supplied = Supplied { pieces, piece: Bytes::new(), stop: Arc::clone(stop) };
            send(agent, head, &mut OutgoingBody::new(supplied, length, timeouts, Arc::clone(stop)), timeouts)
        }
        Payload::Bytes(bytes) => agent.run(configured(agent, http::Request::from_parts(head, &bytes[..]), timeouts)),
        // Without the explicit nothing, ureq would announce a body of unknown length.
        Payload::Empty if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
            agent.run(configured(agent, http::Request::from_parts(head, &b""[..]), timeouts))
        }
        Payload::Empty => agent.run(configured(agent, http::Request::from_parts(head, ()), timeouts)),
    };
    let response = response.map_err(|why| {
        let why = failure_of(&why);
        match why.kind() {
            FailureKind::Cut if stoppable.met_a_stale_connection() => Failure::new(FailureKind::Stale, why.detail()),
            _ => why,
        }
    });
    let response = response?;
    agents.check(response.headers())?;
    receive(response, plan, timeouts, stop, moved)
}

/// Sends a request whose body comes as it can.
fn send<F: Fill>(
    agent: &Agent,
    head: http::request::Parts,
    body: &mut OutgoingBody<F>,
    timeouts: Timeouts,
) -> Result<http::Response<Body>, ureq::Error> {
    let request = configured(agent, http::Request::from_parts(head, ()), timeouts);
    let (head, ()) = request.into_parts();
    agent.run(http::Request::from_parts(head, SendBody::from_reader(body)))
}

/// The request with its time limits.
fn configured<B: ureq::AsSendBody>(agent: &Agent, request: http::Request<B>, limits: Timeouts) -> http::Request<B> {
    // What no clock can show is never: ureq would add it to the time.
    let [connect, head, idle] =
        [limits.connect, limits.head, limits.idle].map(|it| Some(it).filter(|it| *it < FOREVER));
    agent
        .configure_request(request)
        .timeout_resolve(connect)
        .timeout_connect(connect)
        .timeout_recv_response(head)
        .timeout_per_read(idle)
        .timeout_per_write(idle)
        .build()
}

fn receive(
    response: http::Response<Body>,
    plan: Plan,
    timeouts: Timeouts,
    stop: &Stop,
    moved: &mut Option<Digester>,
) -> Result<(http::response::Parts, Received), Failure> {
    let (head, mut body) = response.into_parts();
    let received = match plan.sink(&head) {
        Incoming::Memory(mut collecting) => {
            pieces(&mut body, &mut [0; 16 << 10], timeouts, stop, |piece| collecting.feed(piece))?;
            collecting.finish()
        }
        Incoming::File(filing) => {
            let mut writing = filing.write_to(LocalDisk)?;
            let taken = pieces(&mut body, &mut vec![0; BUFFER], timeouts, stop, |piece| {
                writing.feed(piece)?;
                Ok(More::Wanted)
            });
            let digester = writing.into_digester();
            if let Err(why) = taken {
                *moved = Some(digester);
                return Err(why);
            }
            Received::Filed(digester)
        }
    };
    Ok((head, received))
}

fn pieces(
    body: &mut Body,
    buffer: &mut [u8],
    timeouts: Timeouts,
    stop: &Stop,
    mut take: impl FnMut(&[u8]) -> Result<More, Failure>,
) -> Result<(), Failure> {
    let mut reader = body.as_reader();
    let mut progress = Progress::new(timeouts);
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(aborted());
        }
        // Read to the end even where nobody wants it: ureq keeps only connections whose reply was read.
        let asked = Instant::now();
        match reader.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => {
                progress.moved(got as u64, asked.elapsed());
                // (A read that brings nothing at all has the same limit, in the socket.)
                if progress.is_stalled() {
                    return Err(Failure::new(FailureKind::Timeout(Phase::Body), ""));
                }
                if take(&buffer[..got])? == More::Unwanted {
                    return Ok(());
                }
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(failure_of_io(&why)),
        }
    }
}

pub(crate) fn aborted() -> Failure {
    Failure::new(FailureKind::Cut, "aborted")
}

/// Where the bytes of a body come from.
trait Fill {
    /// Some bytes, at least one.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Failure>;
}

/// A file, hashed as it is read.
impl Fill for Outgoing<File> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        Self::fill(self, buffer)
    }
}

/// What other jobs bring.
struct Supplied {
    pieces: Receiver<Bytes>,
    piece: Bytes,
    stop: Stop,
}

impl Fill for Supplied {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        while self.piece.is_empty() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(aborted());
            }
            match self.pieces.recv_timeout(LOOK) {
                Ok(piece) => self.piece = piece,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(FailureKind::Source, "the body ended early"));
                }
            }
        }
        let got = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..got]);
        Ok(got)
    }
}

/// A body on its way into ureq's buffer, exactly as long as was announced.
struct OutgoingBody<F> {
    outgoing: F,
    sending: SendingBody,
    /// What ureq has not been given yet; also of a body that is only pretended to be sent.
    left: u64,
    stop: Stop,
    failure: Option<Failure>,
}

impl<F> OutgoingBody<F> {
    fn new(outgoing: F, left: u64, timeouts: Timeouts, stop: Stop) -> Self {
        Self { left, outgoing, sending: SendingBody::start(timeouts), stop, failure: None }
    }

    fn finish(self) -> (F, Option<Failure>) {
        (self.outgoing, self.failure)
    }
}

impl<F: Fill> Read for OutgoingBody<F> {
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
