//! The work itself: one job, done once, answered once.

use std::fs::File;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use registry_proto::Digester;
use registry_proto::job::{
    Attended, Completion, Failure, FailureKind, Incoming, Job, More, Outgoing, Payload, Phase, Plan, Progress,
    Received, Timeouts,
};
use ureq::{Agent, Body, SendBody};

use crate::connect::{Agents, failure_of, failure_of_io};
use crate::disk::LocalDisk;
use crate::socket::{SendingBody, Stoppable};

/// What is taken of a reply at a time that goes to a file.
const BUFFER: usize = 256 << 10;

/// Longer than any request takes.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Set when nobody wants a job's answer any more. Whoever waits for the network notices soon.
pub(crate) type Stop = Arc<AtomicBool>;

/// Does a job. Its ticket is answered whatever happens, also if the work panics.
pub(crate) fn perform(agents: &Agents, job: Job, stop: &Stop) -> Completion {
    match job {
        Job::Exchange(ticket, request, plan, timeouts) => {
            let mut moved = None;
            let done = catch_unwind(AssertUnwindSafe(|| exchange(agents, request, plan, timeouts, stop, &mut moved)));
            match done.unwrap_or_else(|_| Err(panicked())) {
                Ok((head, body)) => ticket.replied(head, body, moved),
                Err(why) => ticket.failed(why, moved),
            }
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
            let mut body = OutgoingBody::new(outgoing, timeouts, Arc::clone(stop));
            let request = configured(agent, http::Request::from_parts(head, ()), timeouts);
            let (head, ()) = request.into_parts();
            let request = http::Request::from_parts(head, SendBody::from_reader(&mut body));
            let response = agent.run(request);
            let (digester, failure) = body.finish();
            *moved = Some(digester);
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
    fn new(outgoing: Outgoing<File>, timeouts: Timeouts, stop: Stop) -> Self {
        Self { left: outgoing.remaining(), outgoing, sending: SendingBody::start(timeouts), stop, failure: None }
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
