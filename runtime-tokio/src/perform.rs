//! The work itself: one job, done once, answered once.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http_body::Body as _;
use registry_proto::Digester;
use registry_proto::archive::{self, Archive};
use registry_proto::job::{
    Completion, Failure, FailureKind, FileRange, Job, More, Payload, Phase, Plan, Received, Timeouts,
};
use tokio::time::{Instant, sleep, timeout};

use crate::body::{Feed, OutgoingBody};
use crate::connect::{Http, Line, failure_of};
use crate::disk::LocalDisk;

/// What is read of a file at a time where nothing is sent.
const BUFFER: usize = 256 << 10;

/// Does a job. Its ticket is answered whatever happens, also if the work panics.
pub(crate) async fn perform(http: Http, limits: archive::Limits, job: Job) -> Completion {
    match job {
        Job::Exchange(ticket, request, plan, timeouts) => {
            let done = AssertUnwindSafe(exchange(&http, request, plan, timeouts)).catch_unwind().await;
            match done.unwrap_or_else(|_| Exchanged { result: Err(panicked()), sent: None }) {
                Exchanged { result: Ok((head, body)), sent } => ticket.replied(head, body, sent),
                Exchanged { result: Err(why), sent } => ticket.failed(why, sent),
            }
        }
        Job::Index(ticket, path) => {
            match tokio::task::spawn_blocking(move || Archive::examine(&LocalDisk, &path, &limits)).await {
                Ok(found) => ticket.indexed(found),
                Err(_) => ticket.failed(panicked()),
            }
        }
        Job::Hash(ticket, range) => match tokio::task::spawn_blocking(move || hash(range)).await {
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
    let file = std::fs::File::open(range.path())?;
    range.read_from(file)?.hash_all(&mut vec![0; BUFFER])
}

struct Exchanged {
    result: Result<(http::response::Parts, Received), Failure>,
    sent: Option<Digester>,
}

async fn exchange(http: &Http, request: http::Request<Payload>, plan: Plan, timeouts: Timeouts) -> Exchanged {
    let (head, payload) = request.into_parts();
    let (body, pump) = OutgoingBody::new(payload);
    let mut request = http::Request::from_parts(head, body);
    let length = request.body().size_hint().exact().unwrap_or(0);
    let feed = pump.as_ref().map(|pump| Arc::clone(pump.feed()));
    let mut line = Line::of(&mut request);
    // Bodies in memory are handed over at once.
    let sent = || feed.as_ref().is_none_or(|feed| feed.moved() >= length);
    let mut result = reply(http, request, plan, timeouts, stalled(&mut line, feed.as_deref(), &sent, timeouts)).await;
    if result.is_ok() && sent() {
        line.keep();
    }
    drop(line);
    let pumped = match pump {
        Some(pump) => Some(pump.stop().await),
        None => None,
    };
    // What is wrong with the file is told apart from what became of the connection because of it.
    let (sent, local) = pumped.map_or((None, None), |pumped| (pumped.digester, pumped.failure));
    if let (Err(_), Some(local)) = (&result, local) {
        result = Err(local);
    }
    Exchanged { result, sent }
}

async fn reply(
    http: &Http,
    request: http::Request<OutgoingBody>,
    plan: Plan,
    timeouts: Timeouts,
    stalled: impl Future<Output = Phase>,
) -> Result<(http::response::Parts, Received), Failure> {
    let mut sending = pin!(http.request(request));
    let response = tokio::select! {
        response = &mut sending => response.map_err(|why| failure_of(&why))?,
        phase = stalled => {
            return Err(Failure::new(FailureKind::Timeout(phase), ""));
        }
    };
    let (head, body) = response.into_parts();
    let mut incoming = plan.sink(&head);
    let mut body = pin!(body);
    loop {
        let frame = timeout(timeouts.idle, std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)));
        match frame.await {
            Err(_) => return Err(Failure::new(FailureKind::Timeout(Phase::Body), "")),
            Ok(None) => break,
            Ok(Some(Err(why))) => return Err(failure_of(&why)),
            Ok(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref()
                    && incoming.feed(bytes)? == More::Unwanted
                {
                    break; // dropping the body closes the connection
                }
            }
        }
    }
    Ok((head, incoming.finish()))
}

/// Resolves when the request has made no progress for too long. An upload as a whole may take as long as it likes.
async fn stalled(line: &mut Line, feed: Option<&Feed>, sent: &impl Fn() -> bool, timeouts: Timeouts) -> Phase {
    // Connecting has its own limit, which comes out of the connector.
    line.connected().await;
    // Often enough for either limit: which of them it is changes while this sleeps.
    let step = (timeouts.head.min(timeouts.idle) / 4).max(Duration::from_millis(5));
    let mut quiet_since = Instant::now();
    let mut seen = 0;
    loop {
        let moved = feed.map_or(0, Feed::moved);
        if moved != seen || feed.is_some_and(Feed::waits_for_file) {
            (seen, quiet_since) = (moved, Instant::now());
        }
        let (phase, limit) = if sent() { (Phase::Head, timeouts.head) } else { (Phase::Body, timeouts.idle) };
        let quiet = Instant::now().saturating_duration_since(quiet_since);
        if quiet >= limit {
            return phase;
        }
        sleep((limit - quiet).min(step)).await;
    }
}
