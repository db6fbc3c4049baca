//! A whole runtime in one file, over smol and hyper:
//! `cargo run -p registry-proto --example smol -- ARCHIVE REFERENCE` pushes an archive and prints the digest.
//!
//! It shows what an asynchronous driver owes a flow, and no more: a connection for each request, no TLS, no proxy, one operation at a time.
//! What blocks (files, hashing) is done by smol's threads for that. The tests run it beside the real ones.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the core opens nothing, but its drivers do")]

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1;
use registry_proto::archive::{Disk, Opened};
use registry_proto::flow::{Destination, Operation, Push, PushOptions};
use registry_proto::job::{
    Collecting, Completion, Failure, FailureKind, FileRange, Filing, Incoming, Job, JobId, More, Patience, Payload,
    Phase, Plan, Progress, Received, Stage, Storage, Supplies, Supply, Timeouts, reachable, share,
};
use registry_proto::{Config, Digester, Error, Event, Flow, Session, Step, Time};
use smol::channel::{Receiver, Sender, bounded, unbounded};
use smol::net::TcpStream;
use smol::stream::Stream;
use smol::{Task, Timer};
use smol_hyper::rt::FuturesIo;

/// How much of a file moves at a time, and how many such pieces may wait.
const PIECE: usize = 256 << 10;
const DEPTH: usize = 2;

/// The most that the head of a reply may have: bytes, and headers.
const HEAD: usize = 256 << 10;
const HEADERS: usize = 200;

// ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Runs a flow to its end.
///
/// # Errors
/// The flow's.
pub async fn drive<F: Flow>(session: &mut Session, flow: F, mut tell: impl FnMut(Event)) -> Result<F::Output, Error> {
    let mut flow = Operation::new(flow);
    let epoch = Instant::now();
    let (sender, answers) = unbounded();
    let mut running = Running { session, tasks: BTreeMap::new(), supplies: Supplies::default() };
    loop {
        let now = Time::from_epoch(epoch.elapsed());
        let until = match flow.poll(&mut running.session.at(now)) {
            Step::Run(job) => {
                let (id, sender) = (job.id(), sender.clone());
                let supply = running.supplies.connect(&job, || bounded(1));
                let task = smol::spawn(async move { drop(sender.send(perform(job, supply).await).await) });
                running.tasks.insert(id, task);
                continue;
            }
            Step::Abort(id) => {
                running.supplies.remove(id);
                running.tasks.remove(&id);
                continue;
            }
            Step::Note(event) => {
                tell(event);
                continue;
            }
            Step::Done(result) => return result,
            Step::Wait(until) => until,
        };
        // What no clock can show is never.
        let until = until.and_then(|until| epoch.checked_add(until.since_epoch()));
        let due = async {
            match until {
                Some(at) => drop(Timer::at(at).await),
                None => std::future::pending().await,
            }
            None
        };
        if let Some(done) = smol::future::or(async { answers.recv().await.ok() }, due).await {
            running.supplies.remove(done.id());
            running.tasks.remove(&done.id());
            // An answer that nobody wants belongs to a job that was aborted.
            let _ = flow.handle(&mut running.session.at(Time::from_epoch(epoch.elapsed())), done);
        }
    }
}

/// Jobs under way. Whoever drops a task cancels it: that goes for aborted jobs as well as for all of them when the loop is dropped
/// before its flow is done, of which the session has to hear.
struct Running<'a> {
    session: &'a mut Session,
    tasks: BTreeMap<JobId, Task<()>>,
    /// Where the pieces of bodies go that are supplied while they are sent.
    supplies: Supplies<Sender<Piece>>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.session.abandon(std::mem::take(&mut self.tasks).into_keys());
    }
}

/// Does a job, and answers its ticket: also if the work panics, or its flow would wait for ever.
async fn perform(job: Job, supply: Supply<Sender<Piece>, Receiver<Piece>>) -> Completion {
    match job {
        Job::Exchange(ticket, request, plan, timeouts) => {
            let (head, payload) = request.into_parts();
            let (body, pump) = Outbound::new(payload, supply);
            let exchanging = exchange(http::Request::from_parts(head, body), plan, timeouts);
            let exchanged = smol::future::FutureExt::catch_unwind(AssertUnwindSafe(exchanging)).await;
            let exchanged = exchanged.unwrap_or_else(|_| Err((Failure::new(FailureKind::Panicked, "a bug"), None)));
            // Whatever became of the request, how far its file was read is worth knowing.
            let (sent, local) = match pump {
                Some(pump) => pump.await,
                None => (None, None),
            };
            match exchanged {
                Ok((head, body)) => ticket.replied(head, body, sent),
                Err((why, filed)) => ticket.failed(local.unwrap_or(why), sent.or(filed)),
            }
        }
        Job::Supply(ticket, _, piece) => {
            if let Supply::Into(body) = supply {
                // Waits until the last one is on its way. That nobody takes it any more is told by the exchange.
                drop(body.send(Ok(piece)).await);
            }
            ticket.supplied()
        }
        Job::Local(job) => smol::unblock(move || job.run(&LocalDisk)).await,
    }
}

// ── one request and its reply ────────────────────────────────────────────────────────────────────────────────────────

/// What went wrong, and how much of a reply is in its file all the same.
type Broken = (Failure, Option<Digester>);

async fn exchange(
    mut request: http::Request<Outbound>,
    plan: Plan,
    timeouts: Timeouts,
) -> Result<(http::response::Parts, Received), Broken> {
    let plain = |why| (why, None);
    let late = |phase| Failure::new(FailureKind::Timeout(phase), "");
    let socket = within(timeouts.connect, connect(request.uri(), timeouts.connect)).await;
    let socket = socket.unwrap_or_else(|| Err(late(Phase::Connect))).map_err(plain)?;
    let host = request.uri().authority().map_or(String::new(), ToString::to_string);
    let target = request.uri().path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    *request.uri_mut() = target.into();
    let host = host.parse().map_err(|why| plain(Failure::new(FailureKind::Connect, why)))?;
    request.headers_mut().insert(http::header::HOST, host);

    let mut handshake = http1::Builder::new();
    handshake.max_headers(HEADERS).max_buf_size(HEAD);
    let (mut asking, connection) =
        handshake.handshake(FuturesIo::new(socket)).await.map_err(|why| plain(failure_of(&why)))?;
    let connection = smol::spawn(async move { drop(connection.await) });
    let (feed, length) = (Arc::clone(&request.body().feed), request.body().left);
    let reply = patient(asking.send_request(request), &feed, length, timeouts).await;
    let result = match reply {
        Ok(reply) => {
            let (head, body) = reply.into_parts();
            take(body, plan.sink(&head), timeouts).await.map(|received| (head, received))
        }
        Err(why) => Err(plain(why)),
    };
    // Whoever refuses a body is not sent the rest of it.
    connection.cancel().await;
    result
}

async fn connect(uri: &http::Uri, limit: Duration) -> Result<TcpStream, Failure> {
    let failed = |why: io::Error| Failure::new(Stage::Connecting.kind_of(why.kind()), why);
    if uri.scheme_str() != Some("http") {
        return Err(Failure::new(FailureKind::Tls, "this example speaks no TLS"));
    }
    let (host, began) = (uri.host().unwrap_or_default(), Instant::now());
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let found = smol::net::resolve((bare, uri.port_u16().unwrap_or(80))).await.map_err(failed)?;
    let addresses = reachable(host, found)?;
    let mut last = Failure::new(FailureKind::Connect, "the name leads nowhere");
    for (tried, address) in addresses.iter().enumerate() {
        let patience = share(limit.saturating_sub(began.elapsed()), addresses.len() - tried);
        match within(patience, TcpStream::connect(address)).await {
            Some(Ok(socket)) => return Ok(socket),
            Some(Err(why)) => last = failed(why),
            None => last = Failure::new(FailureKind::Timeout(Phase::Connect), ""),
        }
    }
    Err(last)
}

/// Waits for a reply: for the request to get ahead, and once it is sent, for as long as a head may take.
async fn patient<T>(
    reply: impl Future<Output = hyper::Result<T>>,
    feed: &Feed,
    length: u64,
    timeouts: Timeouts,
) -> Result<T, Failure> {
    let mut reply = pin!(reply);
    let (mut patience, mut looked) = (Patience::new(timeouts, length), Instant::now());
    loop {
        let since = looked.elapsed();
        looked += since;
        // While there is nothing to send, nobody is slow to take it.
        let waited = if feed.waits_for_more.load(Ordering::Relaxed) { Duration::ZERO } else { since };
        let pause = patience.look(feed.moved.load(Ordering::Relaxed), waited);
        let pause = pause.map_err(|phase| Failure::new(FailureKind::Timeout(phase), ""))?;
        if let Some(reply) = within(pause, &mut reply).await {
            return reply.map_err(|why| failure_of(&why));
        }
    }
}

/// Takes a body in, to where the plan says.
async fn take(body: hyper::body::Incoming, incoming: Incoming, timeouts: Timeouts) -> Result<Received, Broken> {
    match incoming {
        Incoming::Memory(collecting) => {
            let mut taking = Taking::Memory(collecting);
            pieces(body, &mut taking, timeouts).await.map_err(|why| (why, None))?;
            match taking {
                Taking::Memory(collecting) => Ok(collecting.finish()),
                Taking::File(_) => unreachable!("it is what it was made"),
            }
        }
        Incoming::File(filing) => {
            let (sender, waiting) = bounded(DEPTH);
            let writer = smol::unblock(move || write(filing, &waiting));
            let mut taking = Taking::File(sender);
            let taken = pieces(body, &mut taking, timeouts).await;
            drop(taking);
            match (writer.await, taken) {
                ((Ok(()), Some(digester)), Ok(())) => Ok(Received::Filed(digester)),
                ((Err(why), digester), _) | ((Ok(()), digester), Err(why)) => Err((why, digester)),
                ((Ok(()), None), Ok(())) => unreachable!("what was written has a digester"),
            }
        }
    }
}

/// Where a body goes: to memory, or to the thread that writes it to a file.
enum Taking {
    Memory(Collecting),
    File(Sender<Bytes>),
}

async fn pieces(mut body: hyper::body::Incoming, taking: &mut Taking, timeouts: Timeouts) -> Result<(), Failure> {
    let mut progress = Progress::new(timeouts);
    loop {
        let asked = Instant::now();
        let frame = match within(progress.patience(), body.frame()).await {
            None => return Err(Failure::new(FailureKind::Timeout(Phase::Body), "")),
            Some(None) => return Ok(()),
            Some(Some(frame)) => frame.map_err(|why| failure_of(&why))?,
        };
        let Ok(bytes) = frame.into_data() else { continue };
        progress.moved(bytes.len() as u64, asked.elapsed());
        let more = match taking {
            Taking::Memory(collecting) => collecting.feed(&bytes)?,
            // A writer that has stopped says why in the end.
            Taking::File(writer) if writer.send(bytes).await.is_ok() => More::Wanted,
            Taking::File(_) => More::Unwanted,
        };
        if more == More::Unwanted {
            return Ok(());
        }
    }
}

fn write(filing: Filing, pieces: &Receiver<Bytes>) -> (Result<(), Failure>, Option<Digester>) {
    let mut writing = match filing.write_to(LocalDisk) {
        Ok(writing) => writing,
        Err(why) => return (Err(why), None),
    };
    while let Ok(piece) = pieces.recv_blocking() {
        if let Err(why) = writing.feed(&piece) {
            return (Err(why), Some(writing.into_digester()));
        }
    }
    (Ok(()), Some(writing.into_digester()))
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let late = async {
        Timer::after(limit).await;
        None
    };
    smol::future::or(async { Some(work.await) }, late).await
}

fn failure_of(why: &hyper::Error) -> Failure {
    if let Some(ours) = why.source().and_then(|source| source.downcast_ref::<Failure>()) {
        return ours.clone();
    }
    let kind = match why {
        why if why.is_parse() || why.is_parse_status() => FailureKind::Protocol,
        _ => FailureKind::Cut,
    };
    Failure::new(kind, why)
}

// ── a request's body ─────────────────────────────────────────────────────────────────────────────────────────────────

/// A request's body: from memory at once, from a file or from other jobs piece by piece.
struct Outbound {
    small: Option<Bytes>,
    pieces: Option<Pin<Box<Receiver<Piece>>>>,
    left: u64,
    feed: Arc<Feed>,
}

/// What a body tells whoever waits for it to be sent.
#[derive(Default)]
struct Feed {
    moved: AtomicU64,
    /// More is wanted than there is.
    waits_for_more: AtomicBool,
}

/// A piece of a body.
type Piece = Result<Bytes, Failure>;

/// What reads a file for a body: yields how far it came, and what was wrong with the file.
type Pump = Task<(Option<Digester>, Option<Failure>)>;

impl Outbound {
    fn new(payload: Payload, supply: Supply<Sender<Piece>, Receiver<Piece>>) -> (Self, Option<Pump>) {
        let mut body = Self { small: None, pieces: None, left: payload.len(), feed: Arc::default() };
        match payload {
            Payload::Empty => (body, None),
            Payload::Bytes(bytes) => {
                body.small = Some(bytes);
                (body, None)
            }
            Payload::File(range) => {
                let (sender, pieces) = bounded(DEPTH);
                body.pieces = Some(Box::pin(pieces));
                (body, Some(smol::unblock(move || read(range, &sender))))
            }
            Payload::Supplied(_) => {
                if let Supply::From(pieces) = supply {
                    body.pieces = Some(Box::pin(pieces));
                }
                (body, None)
            }
        }
    }
}

fn read(range: FileRange, pieces: &Sender<Piece>) -> (Option<Digester>, Option<Failure>) {
    let mut outgoing = match range.open_with(|path| File::open(path)) {
        Ok(outgoing) => outgoing,
        Err(why) => {
            drop(pieces.send_blocking(Err(why.clone())));
            return (None, Some(why));
        }
    };
    loop {
        match outgoing.piece(PIECE) {
            Ok(Some(piece)) => {
                if pieces.send_blocking(Ok(piece)).is_err() {
                    return (Some(outgoing.into_digester()), None); // nobody wants the rest
                }
            }
            Ok(None) => return (Some(outgoing.into_digester()), None),
            Err(why) => {
                drop(pieces.send_blocking(Err(why.clone())));
                return (Some(outgoing.into_digester()), Some(why));
            }
        }
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = self.get_mut();
        let next = match (this.small.take(), &mut this.pieces) {
            (Some(small), _) => Some(Ok(small)),
            (None, Some(pieces)) if this.left > 0 => {
                let polled = pieces.as_mut().poll_next(cx);
                this.feed.waits_for_more.store(polled.is_pending(), Ordering::Relaxed);
                std::task::ready!(polled)
            }
            (None, _) => None,
        };
        if let Some(Ok(piece)) = &next {
            this.left -= (piece.len() as u64).min(this.left);
            this.feed.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(next.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

// ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The local file system.
struct LocalDisk;

impl Disk for LocalDisk {
    type File = File;

    fn open(&self, path: &Path) -> io::Result<Opened<File>> {
        let found = fs::metadata(path)?;
        match found.file_type() {
            kind if kind.is_dir() => Ok(Opened::Folder),
            kind if kind.is_file() => Ok(Opened::File { file: File::open(path)?, size: found.len() }),
            _ => Err(io::Error::new(ErrorKind::InvalidInput, "neither a file nor a folder")),
        }
    }
}

impl Storage for LocalDisk {
    type Out = File;

    fn open_out(&self, path: &Path) -> io::Result<File> {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
    }

    fn resize(&self, file: &mut File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn settle(&self, file: &mut File) -> io::Result<()> {
        file.sync_data()
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        File::open(from)?.sync_all()?;
        fs::rename(from, to)
    }

    fn open_private(&self, path: &Path) -> io::Result<File> {
        match fs::remove_file(path) {
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

// ── the program ──────────────────────────────────────────────────────────────────────────────────────────────────────

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [archive, reference] = &arguments[..] else {
        eprintln!("usage: smol ARCHIVE REFERENCE");
        return ExitCode::from(2);
    };
    match smol::block_on(push(archive, reference)) {
        Ok(digest) => {
            println!("{digest}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn push(archive: &str, reference: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut session = Session::new(Config::default(), u64::from(std::process::id()));
    let flow = Push::new(Path::new(archive), Destination::Reference(reference.parse()?), PushOptions::default());
    let pushed = drive(&mut session, flow, |event| eprintln!("{event:?}")).await?;
    Ok(pushed.references[0].digest.to_string())
}
