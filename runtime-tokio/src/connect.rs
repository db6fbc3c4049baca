//! Connections: names, sockets, TLS and the pool.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::future::{Future, ready};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{Extensions, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::{
    CaptureConnection, Connected, Connection, HttpConnector, capture_connection,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use registry_proto::Config;
use registry_proto::job::{Failure, FailureKind, Phase, Stage, reachable};
use registry_proto::session::{Proxies, Tunnel};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

use crate::body::OutgoingBody;
use crate::tls::Tls;

type BoxError = Box<dyn StdError + Send + Sync>;

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// How much is read at first from a connection that was kept.
const FIRST_READ: usize = 4 << 10;

/// hyper with our connector: what every operation of a client sends through.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pool: Pool<LimitedConnector, OutgoingBody>,
}

impl Http {
    /// `per_host`: how many connections to one host there may be at a time.
    pub(crate) fn new(tls: Tls, config: &Config) -> Self {
        let (per_host, connect) = (config.requests_per_registry.get(), config.timeouts.connect);
        let limits = &config.limits;
        let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Each address of a name has its share of it, so that one that swallows everything leaves time for the others.
        tcp.set_connect_timeout(Some(connect));
        let tls = Arc::new(LazyTls { tls, https: OnceLock::new() });
        let tcp = EarlyConnector { tcp, proxies: Arc::new(config.proxies.clone()), limit: connect };
        let connector = LimitedConnector { tcp, tls, per_host, connect, hosts: Arc::default() };
        let mut pool = Pool::builder(TokioExecutor::new());
        pool.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(per_host);
        // hyper has no smaller buffer than 8 KiB.
        pool.http1_max_headers(limits.headers).http1_max_buf_size(limits.head.max(8 << 10));
        #[cfg(feature = "http2")]
        pool.http2_max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX));
        // Wide windows: with hyper's defaults one stream over a line with 100 ms delay would come to 20 MB/s.
        #[cfg(feature = "http2")]
        pool.http2_initial_stream_window_size(8 << 20)
            .http2_initial_connection_window_size(8 << 20)
            .http2_max_frame_size(256 << 10);
        Self { pool: pool.build(connector) }
    }

    /// Sends a request; resolves with the head of the reply.
    pub(crate) fn request(
        &self,
        request: http::Request<OutgoingBody>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, hyper_util::client::legacy::Error>> + use<> {
        self.pool.request(request)
    }
}

/// What an error of hyper's means to the core.
pub(crate) fn failure_of(error: &(dyn StdError + 'static)) -> Failure {
    let mut next = Some(error);
    let (mut stage, mut kind) = (Stage::Exchanging, ErrorKind::Other);
    let mut innermost = error;
    while let Some(why) = next {
        if let Some(failure) = why.downcast_ref::<Failure>() {
            return failure.clone();
        }
        if let Some(tls) = why.downcast_ref::<rustls::Error>() {
            return Failure::new(FailureKind::Tls, tls);
        }
        if let Some(hyper) = why.downcast_ref::<hyper::Error>()
            && hyper.is_parse()
        {
            let kind = if hyper.is_parse_too_large() { FailureKind::TooLarge } else { FailureKind::Protocol };
            return Failure::new(kind, hyper);
        }
        #[cfg(feature = "http2")]
        if let Some(h2) = why.downcast_ref::<h2::Error>()
            && h2.is_remote()
            && (h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM))
        {
            // (What a GOAWAY names as taken up goes on, and fails otherwise if it does.)
            return Failure::new(FailureKind::Unprocessed, h2);
        }
        if why.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|e| e.is_connect()) {
            stage = Stage::Connecting;
        }
        innermost = why;
        // rustls hides in io errors, and those in others of their kind; `source` skips what they wrap.
        let io = why.downcast_ref::<io::Error>();
        kind = io.map_or(kind, io::Error::kind);
        let inside = io.and_then(io::Error::get_ref);
        next = inside.map_or_else(|| why.source(), |inside| Some(inside));
    }
    Failure::new(stage.kind_of(kind), innermost)
}

/// Bounds the connections to each host, and the time that opening one may take.
#[derive(Clone, Debug)]
struct LimitedConnector {
    tcp: EarlyConnector,
    tls: Arc<LazyTls>,
    per_host: usize,
    connect: Duration,
    hosts: Arc<Mutex<BTreeMap<String, Arc<Semaphore>>>>,
}

impl Service<Uri> for LimitedConnector {
    type Response = Limited;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Limited, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.authority().map_or_else(String::new, ToString::to_string);
        let places = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(self.per_host))))
        };
        let (tcp, tls, limit) = (self.tcp.clone(), Arc::clone(&self.tls), self.connect);
        Box::pin(async move {
            let place = places.acquire_owned().await?;
            match tokio::time::timeout(limit, connect(tcp, tls, uri)).await {
                Ok(Ok(stream)) => Ok(Limited { stream, hangup: Arc::default(), _place: place }),
                Ok(Err(why)) => Err(why),
                Err(_) => Err(Failure::new(FailureKind::Timeout(Phase::Connect), "").into()),
            }
        })
    }
}

/// A connection, with TLS if the URL says so.
async fn connect(mut tcp: EarlyConnector, tls: Arc<LazyTls>, uri: Uri) -> Result<MaybeHttpsStream<Early>, BoxError> {
    if uri.scheme_str() != Some("https") {
        return Ok(MaybeHttpsStream::Http(tcp.call(uri).await?));
    }
    let mut https = match tls.https.get() {
        Some(https) => https.clone(),
        // Files are read for it.
        None => tokio::task::spawn_blocking(move || tls.connector(tcp)).await?,
    }?;
    https.call(uri).await
}

/// What connects with TLS, once it is needed.
#[derive(Debug)]
struct LazyTls {
    tls: Tls,
    https: OnceLock<Result<HttpsConnector<EarlyConnector>, Failure>>,
}

impl LazyTls {
    fn connector(&self, tcp: EarlyConnector) -> Result<HttpsConnector<EarlyConnector>, Failure> {
        let connector = || {
            let https = HttpsConnectorBuilder::new().with_tls_config(self.tls.config()?).https_only().enable_http1();
            #[cfg(feature = "http2")]
            let https = https.enable_http2();
            Ok(https.wrap_connector(tcp))
        };
        self.https.get_or_init(connector).clone()
    }
}

/// The connection that a request goes over, once there is one.
///
/// A peer that answers early or says nothing, and holds the connection without reading, would keep hyper writing for ever,
/// and the connection in its place. Unless [`Line::keep`] is called, the connection is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Line {
    captured: CaptureConnection,
    keep: bool,
}

impl Line {
    pub(crate) fn of<B>(request: &mut http::Request<B>) -> Self {
        Self { captured: capture_connection(request), keep: false }
    }

    /// Resolves when there is a connection; never if there will be none.
    pub(crate) async fn connected(&mut self) {
        drop(self.captured.wait_for_connection_metadata().await);
    }

    /// The request went out whole: the connection is as good as new.
    pub(crate) const fn keep(&mut self) {
        self.keep = true;
    }

    /// Whether the connection was kept from an earlier request, and nothing was heard on it since.
    pub(crate) fn was_resting(&self) -> bool {
        self.hangup().is_some_and(|hangup| hangup.resting.load(Ordering::SeqCst))
    }

    /// (Of an HTTP/2 connection there is none.)
    fn hangup(&self) -> Option<Arc<Hangup>> {
        let mut extensions = Extensions::new();
        self.captured.connection_metadata().as_ref()?.get_extras(&mut extensions);
        extensions.remove()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let hangup = self.hangup();
        if self.keep {
            if let Some(hangup) = hangup {
                hangup.resting.store(true, Ordering::SeqCst);
            }
            return;
        }
        if let Some(connected) = self.captured.connection_metadata().as_ref() {
            // Its reply may have come just now, unheard, and the connection be about to serve somebody else.
            connected.poison();
        }
        if let Some(hangup) = hangup {
            hangup.over.store(true, Ordering::SeqCst);
            hangup.task.wake();
        }
    }
}

/// How a [`Line`] reaches its connection.
#[derive(Debug, Default)]
struct Hangup {
    over: AtomicBool,
    /// A request on it has ended well, and nothing was read from it since.
    resting: AtomicBool,
    /// hyper's, which reads and writes.
    task: AtomicWaker,
}

impl Hangup {
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.task.register(cx.waker());
        if self.over.load(Ordering::SeqCst) { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

/// A connection that holds one of its host's places.
#[derive(Debug)]
struct Limited {
    stream: MaybeHttpsStream<Early>,
    hangup: Arc<Hangup>,
    _place: OwnedSemaphorePermit,
}

impl Connection for Limited {
    fn connected(&self) -> Connected {
        let connected = self.stream.connected();
        // Other requests share an HTTP/2 connection, which can drop one of them without ending.
        if connected.is_negotiated_h2() { connected } else { connected.extra(Arc::clone(&self.hangup)) }
    }
}

impl Read for Limited {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.hangup.check(cx)?;
        if !self.hangup.resting.load(Ordering::SeqCst) {
            return Pin::new(&mut self.stream).poll_read(cx, to);
        }
        // Only of memory of our own can be told whether there is more in it afterwards.
        let mut first = [0; FIRST_READ];
        let room = to.remaining().min(FIRST_READ);
        let mut first = ReadBuf::new(&mut first[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, first.unfilled()))?;
        if !first.filled().is_empty() {
            self.hangup.resting.store(false, Ordering::SeqCst);
        }
        to.put_slice(first.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Limited {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.hangup.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.hangup.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hangup.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS would say goodbye first, to a peer that may take nothing any more.
        self.hangup.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The system's names, without the addresses that the core says nobody may be sent to.
#[derive(Clone, Debug)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.as_str().to_owned();
        let resolving = self.0.call(name);
        Box::pin(async move { Ok(reachable(&host, resolving.await?)?.into_iter()) })
    }
}

/// TCP connections that hear an early answer, by way of proxies where there are any.
#[derive(Clone, Debug)]
struct EarlyConnector {
    tcp: HttpConnector<Resolver>,
    proxies: Arc<Proxies>,
    /// For the whole connection.
    limit: Duration,
}

impl Service<Uri> for EarlyConnector {
    type Response = Early;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Early, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tunnel = match self.proxies.tunnel_to(&uri) {
            Ok(tunnel) => tunnel,
            Err(why) => return Box::pin(ready(Err(why.into()))),
        };
        let to = tunnel.as_ref().map_or(uri, |tunnel| tunnel.url().clone());
        let (connecting, limit) = (self.tcp.call(to), self.limit);
        Box::pin(async move {
            let stream = match tunnel {
                None => connecting.await?,
                Some(mut tunnel) => {
                    let opening = tokio::time::timeout(tunnel.patience(limit), open(&mut tunnel, connecting)).await;
                    opening.unwrap_or_else(|_| Err(tunnel.late()))?
                }
            };
            Ok(Early { stream, dead: false })
        })
    }
}

/// The way through a proxy, opened.
async fn open<E: StdError + 'static>(
    tunnel: &mut Tunnel,
    connecting: impl Future<Output = Result<TokioIo<TcpStream>, E>>,
) -> Result<TokioIo<TcpStream>, Failure> {
    let connected = connecting.await.map_err(|why| tunnel.unreachable(&failure_of(&why)))?;
    let mut stream = connected.into_inner();
    stream.write_all(tunnel.request()).await.map_err(|why| tunnel.cut(why))?;
    let mut piece = [0; 1024];
    loop {
        let got = stream.read(&mut piece).await.map_err(|why| tunnel.cut(why))?;
        if tunnel.receive(&piece[..got])? {
            return Ok(TokioIo::new(stream));
        }
    }
}

/// A socket that stays readable when it can't be written to any more.
///
/// A registry that refuses an upload (401, 413) answers and closes while the body is still on its way. The kernel keeps
/// what has been received readable after a reset: so errors of writing are swallowed, and reading tells how it ended.
/// Without this, half of such answers are lost to "broken pipe".
#[derive(Debug)]
struct Early {
    stream: TokioIo<TcpStream>,
    dead: bool,
}

impl Early {
    fn soften(&mut self, written: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(why)) if matches!(why.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                self.dead = true;
                Poll::Ready(Ok(length))
            }
            written => written,
        }
    }
}

impl Connection for Early {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl Read for Early {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl Write for Early {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.dead {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.soften(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.dead {
            return Poll::Ready(Ok(length));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.soften(written, length)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
