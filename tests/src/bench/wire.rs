//! HTTP/1.1 over a bare socket with one fixed buffer, for floors: no more of it than `docker-registry` makes necessary.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::thread;

/// As many connections as our drivers use.
const CONNECTIONS: usize = 4;
/// What is moved at a time.
const BUFFER: usize = 256 << 10;

/// A connection, for one request after another.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    host: String,
    buffer: Box<[u8]>,
}

/// What goes along with a request.
#[derive(Debug)]
pub enum Body<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A part of a file.
    File {
        /// The file.
        file: File,
        /// Where in it.
        offset: u64,
        /// How many bytes.
        size: u64,
    },
    /// What another connection hands out.
    Piped {
        /// The connection.
        from: &'a mut Connection,
        /// For which path.
        path: &'a str,
        /// How many bytes that is.
        size: u64,
    },
}

/// What matters of a reply.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The path and query of its `Location`.
    pub location: Option<String>,
    /// Its `Docker-Content-Digest`.
    pub digest: Option<String>,
}

impl Reply {
    /// The reply, if it has this status.
    ///
    /// # Errors
    /// When it has another one.
    pub fn expect(self, status: u16) -> io::Result<Self> {
        match self.status == status {
            true => Ok(self),
            false => Err(io::Error::other(format!("the registry answered {}, not {status}", self.status))),
        }
    }
}

/// Takes the bytes of a reply's body.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn open(host: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host: host.to_owned(), buffer: vec![0; BUFFER].into() })
    }

    /// Asks, and throws the reply's body away. `headers` are whole lines.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: Option<Body<'_>>) -> io::Result<Reply> {
        match body {
            None => self.start(method, path, headers, None, &[])?,
            Some(Body::Bytes(bytes)) => self.start(method, path, headers, Some(bytes.len() as u64), bytes)?,
            Some(Body::File { file, offset, size }) => {
                self.send(method, path, headers, &file, offset..offset + size)?
            }
            Some(Body::Piped { from, path: source, size }) => {
                from.start("GET", source, "", None, &[])?;
                self.start(method, path, headers, Some(size), &[])?;
                from.reply(false, &mut |bytes| self.stream.write_all(bytes))?.expect(200)?;
            }
        }
        self.reply(method == "HEAD", &mut |_| Ok(()))
    }

    /// `GET`s something, and hands its bytes on.
    ///
    /// # Errors
    /// When the connection breaks, it is not there, or the sink doesn't take it.
    pub fn fetch(&mut self, path: &str, headers: &str, sink: Sink<'_>) -> io::Result<Reply> {
        self.start("GET", path, headers, None, &[])?;
        self.reply(false, sink)?.expect(200)
    }

    /// The digest of what a registry has under a reference.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn look_up(&mut self, repository: &str, reference: &str) -> io::Result<Option<String>> {
        let reply = self.ask("HEAD", &format!("/v2/{repository}/manifests/{reference}"), ACCEPT, None)?;
        Ok(reply.digest.filter(|_| reply.status == 200))
    }

    fn start(&mut self, method: &str, path: &str, headers: &str, length: Option<u64>, body: &[u8]) -> io::Result<()> {
        let head = head(method, path, &self.host, headers, length);
        self.stream.write_all(&[head.as_bytes(), body].concat())
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        file: &File,
        mut range: std::ops::Range<u64>,
    ) -> io::Result<()> {
        let head = head(method, path, &self.host, headers, Some(range.end - range.start));
        // The head travels with the first bytes of the body.
        self.buffer[..head.len()].copy_from_slice(head.as_bytes());
        let mut used = head.len();
        loop {
            let left = range.end - range.start;
            let amount = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER - used);
            file.read_exact_at(&mut self.buffer[used..used + amount], range.start)?;
            self.stream.write_all(&self.buffer[..used + amount])?;
            range.start += amount as u64;
            used = 0;
            if range.is_empty() {
                return Ok(());
            }
        }
    }

    fn reply(&mut self, bodiless: bool, sink: Sink<'_>) -> io::Result<Reply> {
        let mut got = 0;
        let end = loop {
            if let Some(end) = self.buffer[..got].windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            match self.stream.read(&mut self.buffer[got..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => got += more,
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.ok_or_else(|| io::Error::other("no HTTP"))?;
        let header = |wanted: &str| {
            let found = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
            found.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned()).next()
        };
        let length: u64 = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        // What is no success is an explanation, which nobody wants here.
        let wanted = (200..300).contains(&status);
        let mut left = if bodiless { 0 } else { length };
        let mut at = (end + 4)..got;
        while left > 0 {
            if at.is_empty() {
                let room = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
                at = 0..self.stream.read(&mut self.buffer[..room])?;
                if at.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            left -= at.len() as u64;
            if wanted {
                sink(&self.buffer[at])?;
            }
            at = 0..0;
        }
        let location = header("location").map(|location| match location.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or_else(|| "/".to_owned(), |(_, path)| format!("/{path}")),
            None => location,
        });
        Ok(Reply { status, location, digest: header("docker-content-digest") })
    }
}

/// Does something with every item, the last first, on four connections of which the first is open already.
///
/// # Errors
/// The first thing that went wrong.
///
/// # Panics
/// When the work does.
pub fn spread<C: Send, T: Send>(
    first: C,
    open: impl Fn() -> io::Result<C> + Sync,
    items: Vec<T>,
    work: impl Fn(&mut C, T) -> io::Result<()> + Sync,
) -> io::Result<C> {
    let connections = CONNECTIONS.min(items.len());
    let queue = Mutex::new(items);
    let work = |mut connection: C| -> io::Result<C> {
        loop {
            let next = queue.lock().unwrap().pop();
            let Some(item) = next else { return Ok(connection) };
            work(&mut connection, item)?;
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..connections).map(|_| scope.spawn(|| work(open()?).map(drop))).collect();
        let first = work(first)?;
        others.into_iter().try_for_each(|other| other.join().unwrap())?;
        Ok(first)
    })
}

/// The manifests that there are.
pub const ACCEPT: &str =
    "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json\r\n";

fn head(method: &str, path: &str, host: &str, headers: &str, length: Option<u64>) -> String {
    let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}{length}\r\n")
}
