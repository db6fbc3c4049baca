//! The work itself: one job, done once, answered once.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_std::future::timeout;
use futures_util::{AsyncBufRead as _, FutureExt as _, select_biased};
use http_client::http_types::{self, Method, Url};
use registry_proto::Digester;
use registry_proto::job::{
    Attended, Completion, Failure, FailureKind, Job, More, Patience, Payload, Phase, Plan, Progress, Received, Stage,
    Supply, Timeouts,
};
use surf::Client as Surf;

use crate::body::{self, Feed, Piece};
use crate::connect::failure_of;
use crate::disk::LocalDisk;
use crate::stream::Line;
use crate::taking::Taking;
use crate::transport::Supplied;

/// The ends of a body that is supplied.
pub(crate) type Ends = Supply<Sender<Piece>, Receiver<Piece>>;

/// Does a job. Its ticket is answered whatever happens, also if the work panics.
pub(crate) async fn perform(surf: Surf, job: Job, supply: Ends) -> Completion {
    match job {
        Job::Exchange(ticket, request, plan, timeouts) => {
            let done = AssertUnwindSafe(exchange(&surf, request, supply, plan, timeouts)).catch_unwind().await;
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
            async_std::task::spawn_blocking(move || job.run(&Attended::new(&LocalDisk, &unwanted))).await
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
    surf: &Surf,
    request: http::Request<Payload>,
    supply: Ends,
    plan: Plan,
    timeouts: Timeouts,
) -> Exchanged {
    let (head, payload) = request.into_parts();
    let (length, is_supplied) = (payload.len(), matches!(payload, Payload::Supplied(_)));
    let fed = |(body, pump, feed)| {
        // 32-bit machines can't express a longer body in http-types.
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        (http_types::Body::from_reader(body, Some(length)), Some((pump, feed)))
    };
    let (body, pump) = match (payload, supply) {
        (Payload::Bytes(bytes), _) => (http_types::Body::from_bytes(bytes.to_vec()), None),
        (Payload::File(range), _) => fed(body::start(range)),
        (Payload::Supplied(length), Supply::From(pieces)) => fed(body::supplied(pieces, length)),
        (Payload::Empty | Payload::Supplied(_), _) => (http_types::Body::empty(), None),
    };
    let feed = pump.as_ref().map(|(_, feed)| feed.as_ref());
    let (mut line, captures) = Line::new();
    let sent = || feed.is_none_or(|feed| feed.moved() >= length);
    let result = match surf_request(&head, body) {
        Ok(mut request) => {
            let inner: &mut http_types::Request = request.as_mut();
            inner.ext_mut().insert(captures);
            if is_supplied {
                inner.ext_mut().insert(Supplied);
            }
            reply(surf, request, plan, timeouts, stalled(&mut line, feed, length, timeouts)).await
        }
        Err(why) => Err(why),
    };
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
        Some((pump, _)) => Some(pump.stop().await),
        None => None,
    };
    // What is wrong with the file is told apart from what became of the connection because of it.
    let (sent, local) = pumped.map_or((None, None), |pumped| (pumped.digester, pumped.failure));
    match result {
        Ok(replied) => Exchanged { result: Ok(replied), moved: sent },
        Err((why, filed)) => Exchanged { result: Err(local.unwrap_or(why)), moved: sent.or(filed) },
    }
}

fn surf_request(head: &http::request::Parts, body: http_types::Body) -> Result<surf::Request, Failure> {
    let unusable = |why: &dyn std::fmt::Display| Failure::new(FailureKind::Protocol, why);
    let method: Method = head.method.as_str().parse().map_err(|why| unusable(&why))?;
    let url = Url::parse(&head.uri.to_string()).map_err(|why| unusable(&why))?;
    let mut request = surf::Request::builder(method, url).body(body).build();
    // Setting a body set a content type, too; only what the core said is sent.
    request.remove_header("content-type");
    for (name, value) in &head.headers {
        let value = value.to_str().map_err(|why| unusable(&why))?;
        request.append_header(name.as_str(), value);
    }
    Ok(request)
}

/// The head of a reply, and its body taken in as far as it came, or was `cut`.
async fn reply(
    surf: &Surf,
    request: surf::Request,
    plan: Plan,
    timeouts: Timeouts,
    stalled: impl Future<Output = Phase>,
) -> Result<(http::response::Parts, Taking, Option<Failure>), Failure> {
    let mut sending = pin!(surf.send(request).fuse());
    let mut stalled = pin!(stalled.fuse());
    let mut response = select_biased! {
        response = sending => response.map_err(|why| failure_of_surf(&why))?,
        phase = stalled => return Err(Failure::new(FailureKind::Timeout(phase), "")),
    };
    let head: Option<http::response::Parts> = {
        let response: &mut http_types::Response = response.as_mut();
        response.ext_mut().remove()
    };
    let head = head.ok_or_else(|| Failure::new(FailureKind::Panicked, "a transport without heads"))?;
    let mut taking = Taking::new(plan.sink(&head));
    let cut = take(response.take_body(), &mut taking, timeouts).await.err();
    Ok((head, taking, cut))
}

async fn take(mut body: surf::Body, taking: &mut Taking, timeouts: Timeouts) -> Result<(), Failure> {
    let mut progress = Progress::new(timeouts);
    loop {
        let asked = Instant::now();
        let next = std::future::poll_fn(|cx| {
            let taken = match Pin::new(&mut body).poll_fill_buf(cx) {
                Poll::Pending => {
                    taking.pause();
                    return Poll::Pending;
                }
                Poll::Ready(Err(why)) => Err(failure_of(&why, Stage::Exchanging)),
                Poll::Ready(Ok([])) => return Poll::Ready(None),
                Poll::Ready(Ok(bytes)) => taking.take(bytes),
            };
            let taken = taken.map(|(amount, more)| {
                Pin::new(&mut body).consume(amount);
                (amount, more)
            });
            Poll::Ready(Some(taken))
        });
        let (amount, more) = match timeout(progress.patience(), next).await {
            Err(_) => return Err(Failure::new(FailureKind::Timeout(Phase::Body), "")),
            Ok(None) => return Ok(()),
            Ok(Some(taken)) => taken?,
        };
        progress.moved(amount as u64, asked.elapsed());
        if more == More::Unwanted || taking.hand_over().await == More::Unwanted {
            return Ok(()); // dropping the body closes the connection
        }
    }
}

/// surf's errors are text, but for the one that our transport put inside.
fn failure_of_surf(why: &surf::Error) -> Failure {
    why.downcast_ref::<Failure>().cloned().unwrap_or_else(|| Failure::new(FailureKind::Cut, why))
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
            Ok(pause) => async_std::task::sleep(pause).await,
            Err(phase) => return phase,
        }
    }
}
