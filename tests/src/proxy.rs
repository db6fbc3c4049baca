//! A proxy that opens ways with `CONNECT`, and can be told to misbehave. It alone knows the names of who is behind it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::server::listen;

/// What a proxy is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where the way is to lead: `host:port`.
    pub to: String,
    /// The whole head.
    pub head: String,
    /// Which connection it is, from 0.
    pub number: usize,
}

/// What it does about that.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Opens the way.
    Open,
    /// Says this, and closes the connection.
    Says(Vec<u8>),
    /// Says this, and nothing more: the connection stays as it is.
    Holds(Vec<u8>),
    /// Says this over and over again, with a pause after each.
    Repeats(Vec<u8>, Duration),
}

impl Answer {
    /// This status, without a body.
    pub fn status(status: &str, fields: &[&str]) -> Self {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        Self::Says(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n").into_bytes())
    }
}

type Script = Box<dyn Fn(&Asked) -> Answer + Send + Sync>;

/// The proxy. It ends when it is dropped, and every connection with it.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    /// Where the names lead that it knows.
    names: BTreeMap<String, String>,
    script: Script,
    ended: AtomicBool,
    log: Mutex<Vec<Asked>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// One that lets everybody through, to these: `host:port` as it is asked for, and where that is.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn to(names: &[(&str, &str)]) -> Self {
        Self::start(names, |_| Answer::Open)
    }

    /// One that lets through who shows these credentials, in the form that `Basic` gives them.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn guarded(names: &[(&str, &str)], pair: &'static str) -> Self {
        Self::start(names, move |asked| {
            let shown = asked.head.lines().any(|line| line == format!("Proxy-Authorization: Basic {pair}"));
            let wants = "Proxy-Authenticate: Basic realm=\"the proxy\"";
            if shown { Answer::Open } else { Answer::status("407 Proxy Authentication Required", &[wants]) }
        })
    }

    /// One that does what this says.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start(names: &[(&str, &str)], script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let names = names.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned())).collect();
        let shared = Arc::new(Shared {
            names,
            script: Box::new(script),
            ended: AtomicBool::new(false),
            log: Mutex::default(),
            open: Mutex::default(),
        });
        let inside = Arc::clone(&shared);
        let acceptor = thread::spawn(move || inside.accept(&listener));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Its address: `host:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// What it was asked so far.
    pub fn log(&self) -> Vec<Asked> {
        lock(&self.shared.log).clone()
    }

    /// Where ways were to lead, each once.
    pub fn asked_for(&self) -> Vec<String> {
        let mut to: Vec<String> = self.log().into_iter().map(|asked| asked.to).collect();
        to.sort();
        to.dedup();
        to
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for stream in lock(&self.shared.open).iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // The acceptor looks up at every connection: this is the last.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for (number, stream) in listener.incoming().enumerate() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let Ok(twin) = stream.try_clone() else { continue };
            lock(&self.open).push(twin);
            let shared = Arc::clone(&self);
            // How a connection ends is its client's affair; tests look at what became of the request.
            thread::spawn(move || drop(shared.serve(stream, number)));
        }
    }

    fn serve(&self, mut client: TcpStream, number: usize) -> io::Result<()> {
        let Some(head) = head(&mut client)? else { return Ok(()) };
        let first = head.lines().next().unwrap_or_default();
        let to = first.strip_prefix("CONNECT ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
        let to = to.unwrap_or_else(|| panic!("no CONNECT: {head}")).to_owned();
        let asked = Asked { to, head, number };
        lock(&self.log).push(asked.clone());
        match (self.script)(&asked) {
            Answer::Open => self.open(client, &asked.to),
            Answer::Says(bytes) => {
                client.write_all(&bytes)?;
                client.shutdown(Shutdown::Both)
            }
            Answer::Holds(bytes) => {
                client.write_all(&bytes)?;
                // Until the client goes away, or the proxy ends.
                io::copy(&mut client, &mut io::sink()).map(drop)
            }
            Answer::Repeats(bytes, pause) => loop {
                client.write_all(&bytes)?;
                thread::sleep(pause);
            },
        }
    }

    fn open(&self, mut client: TcpStream, to: &str) -> io::Result<()> {
        let Some(address) = self.names.get(to) else {
            return client.write_all(b"HTTP/1.1 502 Nobody knows who that is\r\n\r\n");
        };
        let server = TcpStream::connect(address)?;
        lock(&self.open).push(server.try_clone()?);
        client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: the tests\r\n\r\n")?;
        let (mut up, mut down) = ((client.try_clone()?, server.try_clone()?), (server, client));
        let there = thread::spawn(move || {
            let _ = io::copy(&mut up.0, &mut up.1);
            let _ = up.1.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut down.0, &mut down.1);
        let _ = down.1.shutdown(Shutdown::Write);
        let _ = there.join();
        Ok(())
    }
}

/// The head of a request, byte by byte: what follows it is for somebody else.
fn head(client: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).map(Some).map_err(io::Error::other)
}
