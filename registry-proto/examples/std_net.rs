//! A whole runtime in one file, over nothing but `std::net`, threads and an HTTP/1 parser:
//! `cargo run -p registry-proto --example std_net -- ARCHIVE REFERENCE` pushes an archive and prints the digest.
//!
//! It shows what a driver owes a flow, and no more: a connection for each request, no TLS, no proxy, one operation at a time. All the
//! same it pushes, pulls and copies whatever the core can, since it decides nothing. The tests run it beside the real ones.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the core opens nothing, but its drivers do")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use registry_proto::archive::{Disk, Opened};
use registry_proto::flow::{Destination, Operation, Push, PushOptions};
use registry_proto::job::{
    Completion, Failure, FailureKind, Incoming, Job, JobId, More, Payload, Phase, Plan, Progress, Received, Stage,
    Storage, Supplies, Supply, Timeouts, reachable, share,
};
use registry_proto::{Config, Digester, Error, Event, Flow, Session, Step, Time};

/// How much moves at a time.
const PIECE: usize = 64 << 10;

/// The most that the head of a reply may have: bytes, and headers.
const HEAD: usize = 256 << 10;
const HEADERS: usize = 200;

// ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Runs a flow to its end.
///
/// # Errors
/// The flow's.
pub fn drive<F: Flow>(session: &mut Session, flow: F, mut tell: impl FnMut(Event)) -> Result<F::Output, Error> {
    let mut flow = Operation::new(flow);
    let epoch = Instant::now();
    let (sender, answers) = mpsc::channel();
    let mut running = Running { session, lines: BTreeMap::new(), supplies: Supplies::default() };
    loop {
        let now = Time::from_epoch(epoch.elapsed());
        let until = match flow.poll(&mut running.session.at(now)) {
            Step::Run(job) => {
                let (line, sender) = (Arc::new(Line::default()), sender.clone());
                running.lines.insert(job.id(), Arc::clone(&line));
                let supply = running.supplies.connect(&job, || mpsc::sync_channel(1));
                // The answer to a job that was aborted may come too late for anybody to take it.
                thread::spawn(move || drop(sender.send(perform(job, supply, &line))));
                continue;
            }
            Step::Abort(id) => {
                running.supplies.remove(id);
                if let Some(line) = running.lines.remove(&id) {
                    line.cut();
                }
                continue;
            }
            Step::Note(event) => {
                tell(event);
                continue;
            }
            Step::Done(result) => return result,
            Step::Wait(until) => until,
        };
        let pause = until.map_or(Duration::MAX, |until| until.since_epoch().saturating_sub(epoch.elapsed()));
        match answers.recv_timeout(pause.min(Duration::from_secs(86_400))) {
            Ok(done) => {
                running.supplies.remove(done.id());
                running.lines.remove(&done.id());
                // An answer that nobody wants belongs to a job that was aborted.
                let _ = flow.handle(&mut running.session.at(Time::from_epoch(epoch.elapsed())), done);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("this function holds a sender itself"),
        }
    }
}

/// Jobs under way. If the loop ends before its flow does (what is told somebody may panic), they are given up, here and in the
/// session.
struct Running<'a> {
    session: &'a mut Session,
    lines: BTreeMap<JobId, Arc<Line>>,
    /// Where the pieces of bodies go that are supplied while they are sent.
    supplies: Supplies<SyncSender<Bytes>>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.lines.values().for_each(|line| line.cut());
        self.session.abandon(std::mem::take(&mut self.lines).into_keys());
    }
}

/// What a job has to do with a body that other jobs supply.
type Ends = Supply<SyncSender<Bytes>, Receiver<Bytes>>;

/// Does a job, and answers its ticket: also if the work panics, or its flow would wait for ever.
fn perform(job: Job, supply: Ends, line: &Line) -> Completion {
    match job {
        Job::Exchange(ticket, request, plan, timeouts) => {
            let mut moved = None;
            let done = catch_unwind(AssertUnwindSafe(|| exchange(request, supply, plan, timeouts, line, &mut moved)));
            match done.unwrap_or_else(|_| Err(Failure::new(FailureKind::Panicked, "this is a bug"))) {
                Ok((head, body)) => ticket.replied(head, body, moved),
                Err(why) => ticket.failed(why, moved),
            }
        }
        Job::Supply(ticket, _, piece) => {
            if let Supply::Into(body) = supply {
                // Waits until the last one is on its way. That nobody takes it any more is told by the exchange.
                drop(body.send(piece));
            }
            ticket.supplied()
        }
        Job::Local(job) => job.run(&LocalDisk),
    }
}

/// A job's connection, so that the loop can cut it.
#[derive(Default)]
struct Line(Mutex<(bool, Option<TcpStream>)>);

impl Line {
    fn cut(&self) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.0 = true;
        if let Some(socket) = &line.1 {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn opened(&self, socket: &TcpStream) -> Result<(), Failure> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.1 = Some(socket.try_clone().map_err(|why| Failure::new(FailureKind::Connect, why))?);
        if line.0 { Err(Failure::new(FailureKind::Cut, "aborted")) } else { Ok(()) }
    }
}

// ── one request and its reply ────────────────────────────────────────────────────────────────────────────────────────

type Exchanged = (http::response::Parts, Received);

fn exchange(
    request: http::Request<Payload>,
    supply: Ends,
    plan: Plan,
    timeouts: Timeouts,
    line: &Line,
    moved: &mut Option<Digester>,
) -> Result<Exchanged, Failure> {
    let (head, payload) = request.into_parts();
    let mut socket = connect(&head.uri, timeouts)?;
    line.opened(&socket)?;
    socket.set_read_timeout(Some(timeouts.idle))?;
    socket.set_write_timeout(Some(timeouts.idle))?;
    // Whoever refuses a body may do so before it was read: what it says counts, not that it stopped listening.
    let sent = send(&mut socket, &head, payload, supply, moved)?;
    socket.set_read_timeout(Some(timeouts.head))?;
    let mut reader = Reader { socket: &socket, read: Vec::new(), phase: Phase::Head };
    let reply = loop {
        match reader.head() {
            Ok(reply) if reply.status.is_informational() => {}
            Ok(reply) => break reply,
            Err(why) => return Err(sent.err().unwrap_or(why)),
        }
    };
    socket.set_read_timeout(Some(timeouts.idle))?;
    reader.phase = Phase::Body;
    let framing = Framing::of(&head.method, &reply)?;
    let body = receive(&mut reader, framing, plan.sink(&reply), timeouts, moved)?;
    Ok((reply, body))
}

fn connect(uri: &http::Uri, timeouts: Timeouts) -> Result<TcpStream, Failure> {
    let failed = |why: io::Error| Failure::new(Stage::Connecting.kind_of(why.kind()), why);
    if uri.scheme_str() != Some("http") {
        return Err(Failure::new(FailureKind::Tls, "this example speaks no TLS"));
    }
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = (bare, uri.port_u16().unwrap_or(80)).to_socket_addrs().map_err(failed)?;
    let (addresses, began) = (reachable(host, found)?, Instant::now());
    let mut last = Failure::new(FailureKind::Connect, "the name leads nowhere");
    for (tried, address) in addresses.iter().enumerate() {
        let left = timeouts.connect.saturating_sub(began.elapsed());
        match TcpStream::connect_timeout(address, share(left, addresses.len() - tried)) {
            Ok(socket) => return Ok(socket),
            Err(why) => last = failed(why),
        }
    }
    Err(last)
}

/// Sends a request. What is wrong with a local file is an error; what became of the connection, the reply may explain.
fn send(
    socket: &mut TcpStream,
    head: &http::request::Parts,
    payload: Payload,
    supply: Ends,
    moved: &mut Option<Digester>,
) -> Result<Result<(), Failure>, Failure> {
    let target = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let host = head.uri.authority().map_or("", http::uri::Authority::as_str);
    let mut text = format!("{} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", head.method).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    if !payload.is_empty() && !head.headers.contains_key(http::header::CONTENT_LENGTH) {
        text.extend_from_slice(format!("content-length: {}\r\n", payload.len()).as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    if let Err(why) = socket.write_all(&text) {
        return Ok(Err(failure_of(&why, Phase::Body)));
    }
    match payload {
        Payload::Empty => Ok(Ok(())),
        Payload::Bytes(bytes) => Ok(socket.write_all(&bytes).map_err(|why| failure_of(&why, Phase::Body))),
        Payload::File(range) => {
            let mut outgoing = range.open_with(|path| File::open(path))?;
            let mut buffer = vec![0; PIECE];
            let sent = loop {
                let got = match outgoing.fill(&mut buffer) {
                    Ok(0) => break Ok(Ok(())),
                    Ok(got) => got,
                    Err(why) => break Err(why),
                };
                if let Err(why) = socket.write_all(&buffer[..got]) {
                    break Ok(Err(failure_of(&why, Phase::Body)));
                }
            };
            *moved = Some(outgoing.into_digester());
            sent
        }
        Payload::Supplied(mut left) => {
            let Supply::From(pieces) = supply else { return Ok(Ok(())) };
            while left > 0 {
                // It is told of an abort by there being no sender any more.
                let Ok(piece) = pieces.recv() else { break };
                if let Err(why) = socket.write_all(&piece) {
                    return Ok(Err(failure_of(&why, Phase::Body)));
                }
                left = left.saturating_sub(piece.len() as u64);
            }
            Ok(Ok(()))
        }
    }
}

/// How long a reply's body is.
enum Framing {
    Length(u64),
    Chunked,
    UntilClosed,
}

impl Framing {
    fn of(method: &http::Method, reply: &http::response::Parts) -> Result<Self, Failure> {
        let bodiless = method == http::Method::HEAD || matches!(reply.status.as_u16(), 204 | 304);
        let header = |name| reply.headers.get(name).and_then(|value| value.to_str().ok());
        let wrong = |why: &str| Failure::new(FailureKind::Protocol, why);
        match (header(http::header::TRANSFER_ENCODING), header(http::header::CONTENT_LENGTH)) {
            _ if bodiless => Ok(Self::Length(0)),
            (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Ok(Self::Chunked),
            (Some(_), _) => Err(wrong("an unknown transfer coding")),
            (None, Some(length)) => Ok(Self::Length(length.parse().map_err(|_| wrong("a length that is none"))?)),
            (None, None) => Ok(Self::UntilClosed),
        }
    }
}

/// Takes a body in, to where the plan says.
fn receive(
    reader: &mut Reader<'_>,
    framing: Framing,
    incoming: Incoming,
    timeouts: Timeouts,
    moved: &mut Option<Digester>,
) -> Result<Received, Failure> {
    match incoming {
        Incoming::Memory(mut collecting) => {
            pieces(reader, framing, timeouts, |piece| collecting.feed(piece))?;
            Ok(collecting.finish())
        }
        Incoming::File(filing) => {
            let mut writing = filing.write_to(LocalDisk)?;
            let taken = pieces(reader, framing, timeouts, |piece| writing.feed(piece).map(|()| More::Wanted));
            let digester = writing.into_digester();
            match taken {
                Ok(()) => Ok(Received::Filed(digester)),
                Err(why) => {
                    *moved = Some(digester);
                    Err(why)
                }
            }
        }
    }
}

fn pieces(
    reader: &mut Reader<'_>,
    framing: Framing,
    timeouts: Timeouts,
    mut take: impl FnMut(&[u8]) -> Result<More, Failure>,
) -> Result<(), Failure> {
    let mut progress = Progress::new(timeouts);
    let mut left = match framing {
        Framing::Length(length) => length,
        Framing::Chunked => reader.chunk()?,
        Framing::UntilClosed => u64::MAX,
    };
    while left > 0 {
        let asked = Instant::now();
        let piece = reader.some(left)?;
        progress.moved(piece.len() as u64, asked.elapsed());
        if progress.is_stalled() {
            return Err(Failure::new(FailureKind::Timeout(Phase::Body), ""));
        }
        if piece.is_empty() {
            // Only a body that ends with its connection has an end that looks like this.
            let whole = matches!(framing, Framing::UntilClosed);
            return if whole { Ok(()) } else { Err(Failure::new(FailureKind::Cut, "in the middle of a body")) };
        }
        left -= piece.len() as u64;
        if take(&piece)? == More::Unwanted {
            return Ok(()); // and the connection with it
        }
        if left == 0 && matches!(framing, Framing::Chunked) {
            reader.line()?;
            left = reader.chunk()?;
        }
    }
    Ok(())
}

/// What comes in on a connection.
struct Reader<'a> {
    socket: &'a TcpStream,
    read: Vec<u8>,
    phase: Phase,
}

impl Reader<'_> {
    fn more(&mut self) -> Result<usize, Failure> {
        let mut buffer = [0; 8 << 10];
        let got = self.socket.read(&mut buffer).map_err(|why| failure_of(&why, self.phase))?;
        self.read.extend_from_slice(&buffer[..got]);
        Ok(got)
    }

    fn head(&mut self) -> Result<http::response::Parts, Failure> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS];
            let mut parsed = httparse::Response::new(&mut headers);
            let wrong = |why: &dyn ToString| Failure::new(FailureKind::Protocol, why.to_string());
            if let httparse::Status::Complete(end) = parsed.parse(&self.read).map_err(|why| wrong(&why))? {
                let mut reply = http::Response::builder().status(parsed.code.unwrap_or(0));
                for header in parsed.headers.iter() {
                    reply = reply.header(header.name, header.value);
                }
                let (parts, ()) = reply.body(()).map_err(|why| wrong(&why))?.into_parts();
                self.read.drain(..end);
                return Ok(parts);
            }
            if self.read.len() > HEAD {
                return Err(Failure::new(FailureKind::TooLarge, format_args!("a head of more than {HEAD} bytes")));
            }
            if self.more()? == 0 {
                return Err(Failure::new(FailureKind::Cut, "before a reply"));
            }
        }
    }

    /// The next bytes of a body, at most so many; none at the end of the connection.
    fn some(&mut self, most: u64) -> Result<Vec<u8>, Failure> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(PIECE);
        if !self.read.is_empty() {
            let rest = self.read.split_off(most.min(self.read.len()));
            return Ok(std::mem::replace(&mut self.read, rest));
        }
        let mut piece = vec![0; most];
        let got = self.socket.read(&mut piece).map_err(|why| failure_of(&why, self.phase))?;
        piece.truncate(got);
        Ok(piece)
    }

    /// The size of the next chunk; behind the last one, what is left of the body is read.
    fn chunk(&mut self) -> Result<u64, Failure> {
        let line = self.line()?;
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, 0))) => {
                while self.line()?.len() > 2 {}
                Ok(0)
            }
            Ok(httparse::Status::Complete((_, size))) => Ok(size),
            _ => Err(Failure::new(FailureKind::Protocol, "a chunk without a size")),
        }
    }

    /// The next line, with its end.
    fn line(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.read, rest));
            }
            if self.read.len() > HEAD {
                return Err(Failure::new(FailureKind::Protocol, "a line without end"));
            }
            if self.more()? == 0 {
                return Err(Failure::new(FailureKind::Cut, "in the middle of a body"));
            }
        }
    }
}

fn failure_of(why: &io::Error, phase: Phase) -> Failure {
    match why.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::new(FailureKind::Timeout(phase), ""),
        kind => Failure::new(Stage::Exchanging.kind_of(kind), why),
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
        eprintln!("usage: std_net ARCHIVE REFERENCE");
        return ExitCode::from(2);
    };
    match push(archive, reference) {
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

fn push(archive: &str, reference: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut session = Session::new(Config::default(), u64::from(std::process::id()));
    let flow = Push::new(Path::new(archive), Destination::Reference(reference.parse()?), PushOptions::default());
    let pushed = drive(&mut session, flow, |event| eprintln!("{event:?}"))?;
    Ok(pushed.references[0].digest.to_string())
}
