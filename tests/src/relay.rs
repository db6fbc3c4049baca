//! A relay between a client and a real server, which cuts what passes through it, and keeps a record of it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::server::listen;

/// What a head may be long. Upload sessions of docker-registry have some hundred bytes of state in their address.
const HEAD: usize = 64 << 10;

/// What a relay does to those who send too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Never,
    /// A connection is cut once so many bytes of bodies were sent over it.
    Connections(u64),
    /// A request is cut after so many bytes of its body.
    Requests(u64),
}

/// A request that passed through, or began to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// How many bytes of its body were passed on.
    pub body: u64,
    /// The status of the reply, if there was one.
    pub status: Option<u16>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    bytes: AtomicU64,
    passed: Mutex<Vec<Passed>>,
}

/// A relay at a port of its own.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay before the server at this host.
    ///
    /// # Panics
    /// When there is no port to be had.
    pub fn before(host: &str, cut: Cut) -> Self {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (host, known) = (host.to_owned(), Arc::clone(&shared));
        let listening = thread::spawn(move || {
            for client in listener.incoming() {
                if known.over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), host, known) = (client, host.clone(), Arc::clone(&known)) else { return };
                thread::spawn(move || {
                    // Whatever is wrong with one side, the other one sees its connection end.
                    let _ = connection(&client, &host, cut, &known);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, shared, listening: Some(listening) }
    }

    /// Its address, as references name it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// How many bytes of requests' bodies passed through so far.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// What passed through so far, in the order in which it ended.
    pub fn passed(&self) -> Vec<Passed> {
        self.shared.passed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

fn connection(client: &TcpStream, host: &str, cut: Cut, shared: &Shared) -> io::Result<()> {
    let server = TcpStream::connect(host)?;
    let _ended = Ended(&server);
    let (mut requests, mut replies) = (Side::new(client), Side::new(&server));
    let mut left = match cut {
        Cut::Never => u64::MAX,
        Cut::Connections(bytes) | Cut::Requests(bytes) => bytes,
    };
    while let Some(head) = requests.head()? {
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut words = text.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let record = |body, status| {
            let passed = Passed { method: method.clone(), target: target.clone(), body, status };
            shared.passed.lock().unwrap_or_else(PoisonError::into_inner).push(passed);
        };
        (&server).write_all(&head)?;
        let length = length_of(&text).unwrap_or(0);
        let wanted = length.min(left);
        // A server that has had enough says so while the rest is still on its way.
        let sent = requests.pass(wanted, &server, &shared.bytes);
        if let Cut::Connections(_) = cut {
            left -= sent;
        }
        if sent == wanted && wanted < length {
            record(sent, None);
            return Ok(());
        }
        let reply = loop {
            match replies.head() {
                Ok(Some(head)) if head.starts_with(b"HTTP/1.1 1") => (&*client).write_all(&head)?,
                Ok(Some(head)) => break head,
                _ => {
                    record(sent, None);
                    return Ok(());
                }
            }
        };
        let said = String::from_utf8_lossy(&reply).into_owned();
        let status = said.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        record(sent, status);
        (&*client).write_all(&reply)?;
        let bodiless = method == "HEAD" || matches!(status, Some(204 | 304));
        // A body without a length ends with its connection.
        let length = if bodiless { 0 } else { length_of(&said).unwrap_or(u64::MAX) };
        if replies.pass(length, client, &AtomicU64::new(0)) < length || sent < wanted {
            return Ok(());
        }
    }
    Ok(())
}

/// Closes a connection however its relay ends.
struct Ended<'a>(&'a TcpStream);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

fn length_of(head: &str) -> Option<u64> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

/// One side of a connection: what it sends, head by head and body by body.
struct Side<'a> {
    socket: &'a TcpStream,
    read: Vec<u8>,
}

impl<'a> Side<'a> {
    const fn new(socket: &'a TcpStream) -> Self {
        Self { socket, read: Vec::new() }
    }

    /// The next head, if there is one.
    fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                return Ok(Some(std::mem::replace(&mut self.read, rest)));
            }
            let mut buffer = [0; 4096];
            let got = self.socket.read(&mut buffer)?;
            if got == 0 || self.read.len() > HEAD {
                return Ok(None);
            }
            self.read.extend_from_slice(&buffer[..got]);
        }
    }

    /// Passes so many bytes of a body on, as far as either side goes along. Tells how many it were.
    fn pass(&mut self, length: u64, mut to: &TcpStream, count: &AtomicU64) -> u64 {
        let mut passed = 0;
        let mut buffer = vec![0; 128 << 10];
        while passed < length {
            let most = usize::try_from(length - passed).unwrap_or(usize::MAX).min(buffer.len());
            let got = if self.read.is_empty() {
                self.socket.read(&mut buffer[..most]).unwrap_or(0)
            } else {
                let got = most.min(self.read.len());
                buffer[..got].copy_from_slice(&self.read[..got]);
                self.read.drain(..got);
                got
            };
            if got == 0 || to.write_all(&buffer[..got]).is_err() {
                break;
            }
            passed += got as u64;
            count.fetch_add(got as u64, Ordering::Relaxed);
        }
        passed
    }
}
