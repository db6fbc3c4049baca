//! The work itself: one job, done once, answered once.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt as _;
use http_body::Body as _;
use registry_proto::Digester;
use registry_proto::job::{
    Attended, Completion, Failure, FailureKind, Job, More, Patience, Payload, Phase, Plan, Progress, Received, Supply,
    Timeouts,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::body::{Feed, OutgoingBody, Piece};
use crate::connect::{Http, failure_of};
use crate::disk::LocalDisk;
use crate::stream::Line;
use crate::taking::Taking;

/// The ends of a body that is supplied.
pub(crate) type Ends = Supply<mpsc::Sender<Piece>, mpsc::Receiver<Piece>>;

/// Does a job. Its ticket is answered whatever happens, also if the work panics.
pub(crate) async fn perform(http: Http, job: Job, supply: Ends) -> Completion {
    match job {
        Job::Exchange(ticket, request, plan, timeouts) => {
            let supplied = if let Supply::From(pieces) = supply { Some(pieces) } else { None };
            let done = AssertUnwindSafe(exchange(&http, request, supplied, plan, timeouts)).catch_unwind().await;
            match done.unwrap_or_else(|_| Exchanged { result: Err(panicked()), moved: None }) {
                Exchanged { result: Ok((head, body)), moved } => ticket.replied(head, body, moved),
                Exchanged { result: Err(why), moved } => ticket.failed(why, moved),
            }
        }
        Job::Supply(ticket, _, piece) => {
            if let Supply::Into(body) = supply {
                // Whether anybody takes it is told by the exchange.
                let _ = body.send(Ok(piece)).await;
            }
            ticket.supplied()
        }
        Job::Local(job) => {
            let wanted = Wanted::default();
            let unwanted = Arc::clone(&wanted.0);
            if job.reads_a_feed() {
                // A pipe may say nothing for ever, and a runtime that shuts down waits for all threads of its own.
                let (answer, answered) = oneshot::channel();
                thread::spawn(move || drop(answer.send(job.run(&Attended::new(&LocalDisk, &unwanted)))));
                return answered.await.expect("its panics are caught inside");
            }
            let done = tokio::task::spawn_blocking(move || job.run(&Attended::new(&LocalDisk, &unwanted))).await;
            done.expect("its panics are caught inside, and a runtime that shuts down polls nobody")
        }
    }
}

/// Says when it is dropped that nobody waits any more: a thread can't be aborted as a task can.
#[derive(Debug, Default)]
pub(crate) struct Wanted(pub(crate) Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn panicked() -> Failure {
    Failure::new(FailureKind::Panicked, "this is a bug")
}

struct Exchanged {
    result: Result<(http::response::Parts, Received), Failure>,
    moved: Option<Digester>,
}

async fn exchange(
    http: &Http,
    request: http::Request<Payload>,
    supplied: Option<mpsc::Receiver<Piece>>,
    plan: Plan,
    timeouts: Timeouts,
) -> Exchanged {
    let (head, payload) = request.into_parts();
    let (body, pump) = OutgoingBody::new(payload, supplied);
    let mut request = http::Request::from_parts(head, body);
    let length = request.body().size_hint().exact().unwrap_or(0);
    let feed = pump.as_ref().map(|pump| Arc::clone(pump.feed()));
    let mut line = Line::of(&mut request);
    let sent = || feed.as_ref().is_none_or(|feed| feed.moved() >= length);
    let result = reply(http, request, plan, timeouts, stalled(&mut line, feed.as_deref(), length, timeouts)).await;
    // hyper hands the connection on as soon as the reply was read: what becomes of the file after that is no reason to hang up.
    if matches!(result, Ok((.., None))) && sent() {
        line.keep();
    }
    let was_resting = line.was_resting();
    drop(line);
    let stale = |why: Failure| match why.kind() {
        FailureKind::Cut if was_resting => Failure::new(FailureKind::Stale, why.detail()),
        _ => why,
    };
    let result = match result {
        Ok((head, taking, cut)) => taking.finish(cut.map(stale)).await.map(|received| (head, received)),
        Err(why) => Err((stale(why), None)),
    };
    let pumped = match pump {
        Some(pump) => Some(pump.stop().await),
        None => None,
    };
    // What is wrong with the file is told apart from what became of the connection because of it.
    let (sent, local) = pumped.map_or((None, None), |pumped| (pumped.digester, pumped.failure));
    match result {
        Ok(replied) => Exchanged { result: Ok(replied), moved: sent },
        Err((why, filed)) => Exchanged { result: Err(local.unwrap_or(why)), moved: sent.or(filed) },
    }
}

/// The head of a reply, and its body taken in as far as it came, or was `cut`.
async fn reply(
    http: &Http,
    request: http::Request<OutgoingBody>,
    plan: Plan,
    timeouts: Timeouts,
    stalled: impl Future<Output = Phase>,
) -> Result<(http::response::Parts, Taking, Option<Failure>), Failure> {
    let mut sending = pin!(http.request(request));
    let response = tokio::select! {
        response = &mut sending => response.map_err(|why| failure_of(&why))?,
        phase = stalled => {
            return Err(Failure::new(FailureKind::Timeout(phase), ""));
        }
    };
    let (head, body) = response.into_parts();
    let mut taking = Taking::new(plan.sink(&head));
    let cut = take(body, &mut taking, timeouts).await.err();
    Ok((head, taking, cut))
}

async fn take(body: hyper::body::Incoming, taking: &mut Taking, timeouts: Timeouts) -> Result<(), Failure> {
    let mut body = pin!(body);
    let mut progress = Progress::new(timeouts);
    loop {
        let asked = Instant::now();
        let frame = timeout(progress.patience(), std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)));
        match frame.await {
            Err(_) => return Err(Failure::new(FailureKind::Timeout(Phase::Body), "")),
            Ok(None) => return Ok(()),
            Ok(Some(Err(why))) => return Err(failure_of(&why)),
            Ok(Some(Ok(frame))) => {
                let Ok(bytes) = frame.into_data() else { continue };
                progress.moved(bytes.len() as u64, asked.elapsed());
                if taking.take(bytes).await? == More::Unwanted {
                    return Ok(()); // dropping the body closes the connection
                }
            }
        }
    }
}

/// Resolves when the request has made no progress for too long. An upload as a whole may take as long as it likes.
async fn stalled(line: &mut Line, feed: Option<&Feed>, length: u64, timeouts: Timeouts) -> Phase {
    // Connecting has its own limit, which comes out of the connector.
    line.connected().await;
    let (mut patience, mut looked) = (Patience::new(timeouts, length), Instant::now());
    loop {
        let now = Instant::now();
        // What is slow to come to us is no fault of the peer's.
        let waited = if feed.is_some_and(Feed::waits_for_more) { Duration::ZERO } else { now - looked };
        looked = now;
        // Bodies in memory are handed over at once.
        match patience.look(feed.map_or(length, Feed::moved), waited) {
            Ok(pause) => sleep(pause).await,
            Err(phase) => return phase,
        }
    }
}
