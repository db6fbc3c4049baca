//! The in-memory registry of [`registry_proto::testing`] over HTTP: a small registry for tests and CI that needs no daemon,
//! no disk and no image.
//!
//! ```
//! use registry_tokio::serve::Server;
//! use registry_tokio::proto::testing::registry::{Profile, Registry};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let registry = Registry::new(Profile::distribution_3());
//! let server = Server::bind("127.0.0.1:0".parse().expect("an address"), registry).await?;
//! println!("push to {}", server.address());
//! assert!(server.registry(|registry| registry.repositories().is_empty()));
//! # Ok(())
//! # }
//! ```

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use registry_proto::testing::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// How long the server waits before it accepts again, when it has run out of file descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// A registry that listens. It stops, and its connections with it, when this is dropped.
///
/// It speaks HTTP/1.1 without TLS, and holds everything that is pushed to it in memory.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    registry: Mutex<Registry>,
    started: Instant,
    keep: Option<Keep>,
}

/// What is done after each request that may have changed something.
type Keep = Box<dyn Fn(&Registry) -> io::Result<()> + Send + Sync>;

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts to serve this registry at an address; port 0 takes a free one. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// When the address can't be listened at.
    pub async fn bind(address: SocketAddr, registry: Registry) -> io::Result<Self> {
        Self::start(address, registry, None).await
    }

    /// As [`bind`](Server::bind), and calls `keep` after each request that may have changed something, before that is answered:
    /// when it fails, the answer is 500. All other requests wait for it.
    ///
    /// ```
    /// use std::fs;
    /// use registry_tokio::proto::testing::registry::{Profile, Registry};
    /// use registry_tokio::serve::Server;
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let registry = Registry::new(Profile::distribution_3());
    /// let keep = |registry: &Registry| fs::write("repositories.txt", registry.repositories().join("\n"));
    /// let server = Server::bind_keeping(([127, 0, 0, 1], 0).into(), registry, keep).await?;
    /// # drop(server);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`bind`](Server::bind).
    pub async fn bind_keeping(
        address: SocketAddr,
        registry: Registry,
        keep: impl Fn(&Registry) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start(address, registry, Some(Box::new(keep))).await
    }

    async fn start(address: SocketAddr, registry: Registry, keep: Option<Keep>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { registry: Mutex::new(registry), started: Instant::now(), keep });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Looks at the registry, or changes it. Requests wait meanwhile.
    ///
    /// ```
    /// # use registry_tokio::proto::testing::registry::{Profile, Registry};
    /// # use registry_tokio::serve::Server;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let server = Server::bind(([127, 0, 0, 1], 0).into(), Registry::new(Profile::distribution_3())).await?;
    /// let tags = server.registry(|registry| registry.tags("app"));
    /// assert!(tags.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn registry<T>(&self, look: impl FnOnce(&mut Registry) -> T) -> T {
        self.shared.with(look)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Every request moves the registry's clock on: its tokens expire as time goes by.
    fn with<T>(&self, look: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.advance(self.started.elapsed());
        look(&mut registry)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Connections live in here so that they end with the server.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => _ = connections.spawn(serve(stream, Arc::clone(&shared))),
            Err(why) => {
                tracing::warn!(%why, "no connection could be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    if let Err(why) = stream.set_nodelay(true) {
        tracing::debug!(%why, "a connection is gone already");
        return;
    }
    let service = service_fn(|request| answer(request, &shared));
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    if let Err(why) = connection.await {
        tracing::debug!(%why, "a connection ended early");
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut unfinished = Unfinished { head: &head, shared, got: BytesMut::new(), open: true };
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => unfinished.got.extend(frame.into_data().ok()),
            Err(why) => {
                tracing::debug!(%why, "a request was cut");
                drop(unfinished);
                return Ok(broken());
            }
        }
    }
    let whole = unfinished.finish();
    let (reply, kept) = shared.with(|registry| {
        let reply = registry.handle(&head, whole);
        let changes = !matches!(head.method, Method::GET | Method::HEAD);
        (reply, shared.keep.as_ref().filter(|_| changes).map_or(Ok(()), |keep| keep(registry)))
    });
    if let Err(why) = kept {
        tracing::error!(%why, "what was changed could not be kept");
        let mut refusal = Response::new(Full::from("what was changed could not be kept"));
        *refusal.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return Ok(refusal);
    }
    Ok(reply.map(Full::new))
}

/// What is said about a body that broke its framing, if anybody is there to hear it: 200 would mean that it was taken.
fn broken() -> Response<Full<Bytes>> {
    let mut refusal = Response::new(Full::from("the body of the request is broken"));
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    refusal.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    refusal
}

/// A request whose body is still coming. Dropped (hyper drops the service with the connection), it was cut: the registry
/// keeps of it what a registry keeps.
struct Unfinished<'a> {
    head: &'a http::request::Parts,
    shared: &'a Shared,
    got: BytesMut,
    open: bool,
}

impl Unfinished<'_> {
    fn finish(mut self) -> Bytes {
        self.open = false;
        self.got.split().freeze()
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.open {
            let got = self.got.split().freeze();
            self.shared.with(|registry| registry.cut(self.head, got));
        }
    }
}

#[cfg(test)]
mod tests {
    use registry_proto::testing::registry::Profile;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_broken_body_is_refused() {
        let registry = Registry::new(Profile::distribution_3());
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), registry).await.unwrap();
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let head = "PUT /v2/app/manifests/v1 HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}no size\r\n").as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        let reply = reply.to_ascii_lowercase();
        assert!(reply.starts_with("http/1.1 400 ") && reply.contains("connection: close"), "{reply}");
    }
}
