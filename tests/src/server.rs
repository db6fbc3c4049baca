//! An HTTP/1.1 server that can be told to misbehave.
//!
//! It speaks HTTP by hand, since no library would let a test cut a reply short, answer before the body was read, or say
//! more than it announced. A script decides about each request how much of its body is read, what is answered, and what
//! becomes of the connection; behind it is the [`Registry`] in memory, for whatever is to go well.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use registry_proto::testing::registry::Registry;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::authority::{Identity, server_config};

/// What the kernel may take on of a connection that nobody reads from, in bytes. By itself it goes up to 32 MiB, now and then,
/// and a body that fits into that looks as if it had arrived.
const UNREAD: u32 = 256 << 10;

/// A listener at a free port, whose connections fill up soon when nobody reads from them.
///
/// # Panics
/// When there is none to be had.
pub fn listen() -> TcpListener {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let listener = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(UNREAD)?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        socket.listen(1024)?.into_std()
    });
    let listener = listener.unwrap();
    listener.set_nonblocking(false).unwrap();
    listener
}

/// A request's head, as the script sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which connection it came on, from 0.
    pub connection: u64,
    /// Which request of that connection it is, from 0.
    pub nth: u64,
    /// Which request of all it is, from 0.
    pub number: u64,
    /// Method, path and query, headers.
    pub head: Parts,
}

impl Asked {
    /// Whether it is `method` of something whose path contains `part`.
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.head.method == method && self.head.uri.path().contains(part)
    }

    /// A header's value, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.head.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The length that the request's body is announced to have.
    pub fn length(&self) -> u64 {
        self.header("content-length").parse().unwrap_or_default()
    }
}

/// What becomes of a request: how much of its body is read first, what is answered, and what comes then.
pub struct Answer {
    first: Vec<u8>,
    read: u64,
    reply: Reply,
    then: Then,
}

type Make = Box<dyn FnOnce(&[u8]) -> Vec<u8> + Send>;

type Edit = Box<dyn FnOnce(&mut http::Response<Bytes>) + Send>;

enum Reply {
    /// The registry's, which hears of a cut if it didn't get all of the body.
    Registry,
    /// The registry's, changed.
    Edited(Edit),
    /// None, though the registry has taken the request.
    Lost,
    /// These bytes and nothing else.
    Raw(Vec<u8>),
    /// What is made of the request's body.
    Made(Make),
    /// These bytes at once, and those one at a time.
    Drip(Vec<u8>, Vec<u8>, Duration),
}

/// What becomes of the connection once the answer is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The rest of the request is read, and the next one is waited for.
    Go,
    /// It is closed. If there is anything in it that was not read, the kernel resets it.
    Close,
    /// Its sending half is closed; the rest of what comes is read and thrown away.
    Drain,
    /// Its sending half is closed, nothing more is read, and after half a second it is reset: as Go's `net/http` does.
    Linger,
    /// Nothing at all happens until the client closes it or the server ends: nothing is read, nothing is said.
    Hold,
}

impl Answer {
    /// The registry's answer.
    pub const fn registry() -> Self {
        Self { first: Vec::new(), read: u64::MAX, reply: Reply::Registry, then: Then::Go }
    }

    /// The registry's answer with changes.
    pub fn edited(edit: impl FnOnce(&mut http::Response<Bytes>) + Send + 'static) -> Self {
        Self { reply: Reply::Edited(Box::new(edit)), ..Self::registry() }
    }

    /// The registry takes the request, but the connection is closed before it can say so.
    pub fn lost() -> Self {
        Self { reply: Reply::Lost, then: Then::Close, ..Self::registry() }
    }

    /// These bytes, once the whole request was read.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self { reply: Reply::Raw(bytes.as_ref().to_vec()), ..Self::registry() }
    }

    /// The bytes that are made of the request's body, once all of it was read.
    pub fn made(make: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static) -> Self {
        Self { reply: Reply::Made(Box::new(make)), ..Self::registry() }
    }

    /// `head` at once, then `rest` byte by byte, a pause before each.
    pub fn drip(head: impl AsRef<[u8]>, rest: impl AsRef<[u8]>, pause: Duration) -> Self {
        Self { reply: Reply::Drip(head.as_ref().to_vec(), rest.as_ref().to_vec(), pause), ..Self::registry() }
    }

    /// These bytes, before any of the request's body was asked for.
    pub fn early(bytes: impl AsRef<[u8]>) -> Self {
        Self { read: 0, ..Self::raw(bytes) }
    }

    /// No answer: the connection is closed after so many bytes of the body.
    pub const fn cut(after: u64) -> Self {
        Self { first: Vec::new(), read: after, reply: Reply::Raw(Vec::new()), then: Then::Close }
    }

    /// No answer, and the connection stays as it is.
    pub const fn stall(after: u64) -> Self {
        Self { first: Vec::new(), read: after, reply: Reply::Raw(Vec::new()), then: Then::Hold }
    }

    /// Says this before anything else, while the request's body is still on its way.
    #[must_use]
    pub fn first(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.first = bytes.as_ref().to_vec();
        self
    }

    /// What comes then, if it isn't the next request.
    #[must_use]
    pub const fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }
}

/// Bytes of a reply with these header lines and this body; the body's length is announced.
pub fn reply(status: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("read", &self.read).field("then", &self.then).finish_non_exhaustive()
    }
}

type Script = Box<dyn Fn(&Asked) -> Answer + Send + Sync>;

/// The server. It ends when it is dropped, and every connection with it.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    root: Option<Vec<u8>>,
}

struct Shared {
    script: Script,
    tls: Option<Arc<ServerConfig>>,
    registry: Mutex<Registry>,
    requests: AtomicU64,
    ended: AtomicBool,
    state: Mutex<State>,
    /// Told whenever a connection closes or the server ends.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: BTreeMap<u64, TcpStream>,
    accepted: u64,
    /// How many connections there may be at a time, and whether there were more.
    limit: Option<usize>,
    exceeded: bool,
    log: Vec<Asked>,
}

impl Server {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start(registry: Registry, script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(registry, script, None)
    }

    /// Starts one that speaks TLS, with a certificate of its own making: [`Server::root`].
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start_tls(registry: Registry, script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let config = server_config(made.cert.der().clone(), made.signing_key.serialize_der());
        let root = made.cert.der().to_vec();
        let mut server = Self::start_with(registry, script, Some(Arc::new(config)));
        server.root = Some(root);
        server
    }

    /// Starts one that speaks TLS and shows this.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start_as(
        identity: &Identity,
        registry: Registry,
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(registry, script, Some(Arc::new(identity.server_config())))
    }

    /// Starts one that speaks TLS like this.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start_speaking(
        tls: ServerConfig,
        registry: Registry,
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(registry, script, Some(Arc::new(tls)))
    }

    fn start_with(
        registry: Registry,
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            tls,
            registry: Mutex::new(registry),
            requests: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let inside = Arc::clone(&shared);
        let acceptor = thread::spawn(move || inside.accept(&listener));
        Self { address, shared, acceptor: Some(acceptor), root: None }
    }

    /// Its address, as references name it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The certificate to trust, if it speaks TLS.
    pub fn root(&self) -> Option<Vec<u8>> {
        self.root.clone()
    }

    /// The registry behind it.
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.shared.registry)
    }

    /// The requests so far, in the order of their heads.
    pub fn log(&self) -> Vec<Asked> {
        lock(&self.shared.state).log.clone()
    }

    /// How many requests there were with this method of something whose path contains `part`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.log().iter().filter(|asked| asked.is(method, part)).count()
    }

    /// How many connections there ever were.
    pub fn accepted(&self) -> u64 {
        lock(&self.shared.state).accepted
    }

    /// Watches from now on that there are at most so many connections at a time.
    pub fn limit(&self, connections: usize) {
        lock(&self.shared.state).limit = Some(connections);
    }

    /// Whether there were more connections at a time than the limit allows.
    pub fn exceeded(&self) -> bool {
        lock(&self.shared.state).exceeded
    }

    /// Waits until the server has closed every connection, or seen it closed.
    ///
    /// # Panics
    /// When that takes longer than five seconds.
    pub fn wait_for_closing(&self) {
        let state = lock(&self.shared.state);
        let wait =
            self.shared.changed.wait_timeout_while(state, Duration::from_secs(5), |state| !state.open.is_empty());
        let (state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        assert!(state.open.is_empty(), "connections stay open: {:?}", state.open.keys());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for stream in lock(&self.shared.state).open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
        // The acceptor looks up at every connection: this is the last.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A script that panicked has failed its test already; the others' view of the server stays.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let id = {
                let mut state = lock(&self.state);
                let id = state.accepted;
                state.accepted += 1;
                let Ok(twin) = stream.try_clone() else { continue };
                state.open.insert(id, twin);
                id
            };
            let shared = Arc::clone(&self);
            thread::spawn(move || {
                let stream: Box<dyn Stream> = match &shared.tls {
                    None => Box::new(stream),
                    Some(config) => match ServerConnection::new(Arc::clone(config)) {
                        Ok(connection) => Box::new(StreamOwned::new(connection, stream)),
                        Err(why) => panic!("TLS: {why}"),
                    },
                };
                let mut wire = Wire { stream, buffer: Vec::new() };
                // How a connection ends is the client's affair; tests look at what it made of it.
                let _ = shared.serve(id, &mut wire);
                // Both handles have to go before anybody is told that it is closed.
                let twin = lock(&shared.state).open.remove(&id);
                drop((wire, twin));
                shared.changed.notify_all();
            });
            self.watch_limit();
        }
    }

    fn watch_limit(&self) {
        let state = lock(&self.state);
        let Some(limit) = state.limit else { return };
        // The end of another connection has arrived by now if the client sent it first, but its thread may not have seen it.
        let wait = self.changed.wait_timeout_while(state, Duration::from_secs(1), |state| state.open.len() > limit);
        let (mut state, waited) = wait.unwrap_or_else(PoisonError::into_inner);
        state.exceeded |= waited.timed_out();
    }

    fn serve(&self, connection: u64, wire: &mut Wire) -> io::Result<()> {
        for nth in 0.. {
            let Some(head) = wire.head()? else { return Ok(()) };
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            let asked = Asked { connection, nth, number, head };
            lock(&self.state).log.push(asked.clone());
            let Answer { first, read, reply, then } = (self.script)(&asked);
            wire.stream.write_all(&first)?;
            let mut body = Body::of(&asked.head);
            let got = wire.body(&mut body, read)?;
            let head = &asked.head;
            let from_registry = matches!(reply, Reply::Registry | Reply::Edited(_) | Reply::Lost);
            if !body.is_over() && (from_registry || then == Then::Close && read > 0) {
                lock(&self.registry).cut(head, got.clone().into());
            }
            match reply {
                _ if from_registry && !body.is_over() => return Ok(()),
                Reply::Lost => drop(lock(&self.registry).handle(head, got.into())),
                Reply::Registry => self.answer(wire, head, got, |_| {})?,
                Reply::Edited(edit) => self.answer(wire, head, got, edit)?,
                Reply::Raw(bytes) => wire.stream.write_all(&bytes)?,
                Reply::Made(make) => wire.stream.write_all(&make(&got))?,
                Reply::Drip(start, rest, pause) => {
                    wire.stream.write_all(&start)?;
                    for byte in rest {
                        self.pause(pause);
                        wire.stream.write_all(&[byte])?;
                    }
                }
            }
            match then {
                Then::Go => drop(wire.body(&mut body, u64::MAX)?),
                Then::Close => return Ok(()),
                Then::Drain => {
                    wire.stream.finish()?;
                    return wire.drain();
                }
                Then::Linger => {
                    wire.stream.finish()?;
                    self.pause(Duration::from_millis(500));
                    return Ok(());
                }
                Then::Hold => {
                    self.pause(Duration::from_secs(3600));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        wire: &mut Wire,
        head: &Parts,
        body: Vec<u8>,
        edit: impl FnOnce(&mut http::Response<Bytes>),
    ) -> io::Result<()> {
        let mut reply = lock(&self.registry).handle(head, body.into());
        edit(&mut reply);
        let mut bytes = format!("HTTP/1.1 {}\r\n", reply.status()).into_bytes();
        for (name, value) in reply.headers() {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        if !reply.headers().contains_key("content-length") && reply.status() != 204 {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", reply.body().len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(reply.body());
        wire.stream.write_all(&bytes)
    }

    /// Lets time pass, but no more of it than the server has.
    fn pause(&self, time: Duration) {
        let state = lock(&self.state);
        let _unused = self.changed.wait_timeout_while(state, time, |_| !self.ended.load(Ordering::SeqCst));
    }
}

/// Plain or TLS.
trait Stream: Read + Write + Send {
    /// Says that nothing more will be said.
    fn finish(&mut self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn finish(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush()?;
        self.sock.shutdown(Shutdown::Write)
    }
}

/// The receiving end of a connection.
struct Wire {
    stream: Box<dyn Stream>,
    /// What came beyond what was asked for.
    buffer: Vec<u8>,
}

/// How much of a request's body is still to come.
enum Body {
    Sized(u64),
    /// Whether the last chunk was seen, and what is left of this one.
    Chunked(bool, u64),
}

impl Body {
    fn of(head: &Parts) -> Self {
        let text = |name| head.headers.get(name).map_or("", |value: &http::HeaderValue| value.to_str().unwrap_or(""));
        if text("transfer-encoding").eq_ignore_ascii_case("chunked") {
            return Self::Chunked(false, 0);
        }
        Self::Sized(text("content-length").parse().unwrap_or_default())
    }

    const fn is_over(&self) -> bool {
        matches!(self, Self::Sized(0) | Self::Chunked(true, _))
    }
}

impl Wire {
    /// Waits for more; false at the end of the connection.
    fn more(&mut self) -> io::Result<bool> {
        let mut piece = [0; 64 << 10];
        let got = self.stream.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..got]);
        Ok(got > 0)
    }

    fn until(&mut self, end: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let rest = self.buffer.split_off(at + end.len());
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    fn head(&mut self) -> io::Result<Option<Parts>> {
        let Some(text) = self.until(b"\r\n\r\n")? else { return Ok(None) };
        let text = String::from_utf8(text).map_err(io::Error::other)?;
        let mut lines = text.trim_end().split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        let mut request = http::Request::builder().method(method).uri(target);
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other("a header without a colon"))?;
            request = request.header(name, value.trim());
        }
        Ok(Some(request.body(()).map_err(io::Error::other)?.into_parts().0))
    }

    /// Reads up to `most` bytes of a body; fewer if the client goes away.
    fn body(&mut self, body: &mut Body, most: u64) -> io::Result<Vec<u8>> {
        let mut got = Vec::new();
        while (got.len() as u64) < most {
            let room = most - got.len() as u64;
            match body {
                Body::Sized(0) | Body::Chunked(true, _) => break,
                Body::Sized(left) | Body::Chunked(false, left) if *left > 0 => {
                    if self.buffer.is_empty() && !self.more()? {
                        break;
                    }
                    let take = (self.buffer.len() as u64).min(*left).min(room);
                    // (Byte by byte, without optimisation, a cut would be noticed seconds after it.)
                    let rest = self.buffer.split_off(usize::try_from(take).map_err(io::Error::other)?);
                    got.append(&mut self.buffer);
                    self.buffer = rest;
                    *left -= take;
                    if let Body::Chunked(false, 0) = body {
                        self.until(b"\r\n")?;
                    }
                }
                Body::Sized(_) => break,
                Body::Chunked(over, left) => {
                    let Some(line) = self.until(b"\r\n")? else { break };
                    let line = String::from_utf8_lossy(&line);
                    *left = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                    if *left == 0 {
                        self.until(b"\r\n")?;
                        *over = true;
                    }
                }
            }
        }
        Ok(got)
    }

    fn drain(&mut self) -> io::Result<()> {
        while self.more()? {
            self.buffer.clear();
        }
        Ok(())
    }
}
