//! The floor: the requests of a push over bare sockets, and nothing else. No hashing, no checks, no archive to read, one
//! fixed buffer per connection. What a client needs beyond this time is its own doing.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use crate::workload::{Blob, Plan};

/// As many as our drivers use.
const CONNECTIONS: usize = 4;
/// What is read of the file at a time, the request's head included.
const BUFFER: usize = 256 << 10;

/// Pushes what a plan names.
pub(crate) fn push(plan: &Path, host: &str, repository: &str) -> io::Result<()> {
    let plan = Plan::read(plan);
    let mut first = Connection::open(host)?;
    let manifest = |reference: &str| format!("/v2/{repository}/manifests/{reference}");
    if first.ask("HEAD", &manifest(&plan.digest), "", None)?.status == 200 {
        if first.ask("HEAD", &manifest("1"), "", None)?.digest.as_ref() == Some(&plan.digest) {
            return Ok(());
        }
    } else {
        let mut blobs: Vec<&Blob> = plan.blobs.iter().collect();
        blobs.sort_by_key(|blob| blob.size);
        let connections = CONNECTIONS.min(blobs.len());
        let queue = Mutex::new(blobs); // the largest are taken first
        let work = |mut connection: Connection| -> io::Result<Connection> {
            loop {
                let next = queue.lock().unwrap().pop();
                let Some(blob) = next else { return Ok(connection) };
                connection.upload(repository, blob)?;
            }
        };
        first = thread::scope(|scope| {
            let others: Vec<_> =
                (1..connections).map(|_| scope.spawn(|| work(Connection::open(host)?).map(drop))).collect();
            let first = work(first)?;
            others.into_iter().try_for_each(|other| other.join().unwrap())?;
            io::Result::Ok(first)
        })?;
    }
    let kind = format!("Content-Type: {}\r\n", plan.media_type);
    let body = Body::Bytes(plan.manifest.as_bytes());
    expect(first.ask("PUT", &manifest("1"), &kind, Some(body))?, 201)?;
    Ok(())
}

/// The digest of what a registry has under a reference.
pub(crate) fn look_up(host: &str, repository: &str, reference: &str) -> io::Result<Option<String>> {
    let accept =
        "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json\r\n";
    let reply =
        Connection::open(host)?.ask("HEAD", &format!("/v2/{repository}/manifests/{reference}"), accept, None)?;
    Ok(reply.digest.filter(|_| reply.status == 200))
}

fn expect(reply: Reply, status: u16) -> io::Result<Reply> {
    if reply.status == status {
        return Ok(reply);
    }
    Err(io::Error::other(format!("the registry answered {}, not {status}", reply.status)))
}

struct Connection {
    stream: TcpStream,
    host: String,
    buffer: Box<[u8]>,
}

enum Body<'a> {
    Bytes(&'a [u8]),
    File { file: File, offset: u64, size: u64 },
}

struct Reply {
    status: u16,
    location: Option<String>,
    digest: Option<String>,
}

impl Connection {
    fn open(host: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host: host.to_owned(), buffer: vec![0; BUFFER].into() })
    }

    fn upload(&mut self, repository: &str, blob: &Blob) -> io::Result<()> {
        if self.ask("HEAD", &format!("/v2/{repository}/blobs/{}", blob.digest), "", None)?.status == 200 {
            return Ok(());
        }
        let started = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", Some(Body::Bytes(b"")))?;
        let location = expect(started, 202)?.location.ok_or_else(|| io::Error::other("no Location"))?;
        let path = location.strip_prefix("http://").and_then(|rest| rest.split_once('/')).map(|(_, path)| path);
        let path = path.ok_or_else(|| io::Error::other(format!("an unusable Location: {location}")))?;
        let body = Body::File { file: File::open(&blob.path)?, offset: blob.offset, size: blob.size };
        let kind = "Content-Type: application/octet-stream\r\n";
        let committed = self.ask("PUT", &format!("/{path}&digest={}", blob.digest), kind, Some(body))?;
        expect(committed, 201).map(drop)
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str, body: Option<Body<'_>>) -> io::Result<Reply> {
        let length = match &body {
            None => String::new(),
            Some(Body::Bytes(bytes)) => format!("Content-Length: {}\r\n", bytes.len()),
            Some(Body::File { size, .. }) => format!("Content-Length: {size}\r\n"),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}{length}\r\n", self.host);
        match body {
            None => self.stream.write_all(head.as_bytes())?,
            Some(Body::Bytes(bytes)) => self.stream.write_all(&[head.as_bytes(), bytes].concat())?,
            Some(Body::File { file, mut offset, size }) => {
                // The head travels with the first bytes of the body.
                self.buffer[..head.len()].copy_from_slice(head.as_bytes());
                let mut used = head.len();
                let end = offset + size;
                loop {
                    let amount = usize::try_from(end - offset).unwrap_or(usize::MAX).min(BUFFER - used);
                    file.read_exact_at(&mut self.buffer[used..used + amount], offset)?;
                    self.stream.write_all(&self.buffer[..used + amount])?;
                    offset += amount as u64;
                    used = 0;
                    if offset == end {
                        break;
                    }
                }
            }
        }
        self.reply(method == "HEAD")
    }

    fn reply(&mut self, bodiless: bool) -> io::Result<Reply> {
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
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let header = |wanted: &str| {
            let found = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
            found.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned()).next()
        };
        let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut left = if bodiless { 0 } else { length.saturating_sub(got - end - 4) };
        while left > 0 {
            let room = left.min(BUFFER);
            match self.stream.read(&mut self.buffer[..room])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => left -= more,
            }
        }
        let status = status.ok_or_else(|| io::Error::other("no HTTP"))?;
        Ok(Reply { status, location: header("location"), digest: header("docker-content-digest") })
    }
}
