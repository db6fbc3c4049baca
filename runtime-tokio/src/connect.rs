//! Connections: names, sockets, TLS and the pool.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::future::{Future, ready};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use registry_proto::Config;
use registry_proto::job::{Failure, FailureKind, Phase, Stage, reachable};
use registry_proto::session::{Proxies, Tunnel};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower_service::Service;

use crate::body::OutgoingBody;
use crate::stream::{Early, Limited};
use crate::tls::Tls;

type BoxError = Box<dyn StdError + Send + Sync>;

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);

/// hyper with our connector: what every operation of a client sends through.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pool: Pool<LimitedConnector, OutgoingBody>,
    /// For requests whose bodies other requests supply. Each has its connection until those are over, which must not have to wait for
    /// it: so it is another one.
    waiting: Pool<LimitedConnector, OutgoingBody>,
}

impl Http {
    pub(crate) fn new(tls: Tls, config: &Config) -> Self {
        let (per_host, connect) = (config.requests_per_registry.get(), config.timeouts.connect);
        let limits = &config.limits;
        let tcp = sockets(Resolver(GaiResolver::new()), connect);
        let tls = Arc::new(LazyTls { tls, https: OnceLock::new() });
        let tcp = EarlyConnector { tcp, proxies: Arc::new(config.proxies.clone()), limit: connect };
        let connector =
            || LimitedConnector { tcp: tcp.clone(), tls: Arc::clone(&tls), per_host, connect, hosts: Arc::default() };
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
        Self { pool: pool.build(connector()), waiting: pool.build(connector()) }
    }

    /// Sends a request; resolves with the head of the reply.
    pub(crate) fn request(
        &self,
        request: http::Request<OutgoingBody>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, hyper_util::client::legacy::Error>> + use<> {
        let pool = if request.body().is_supplied() { &self.waiting } else { &self.pool };
        pool.request(request)
    }
}

/// What opens sockets to the addresses that are found.
fn sockets<R>(resolver: R, limit: Duration) -> HttpConnector<R> {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Each address of a name has its share of it, so that one that swallows everything leaves time for the others.
    tcp.set_connect_timeout(Some(limit));
    tcp
}

/// How hyper says that a head is larger than it may be. (The method that tells is there for servers only; the suite `pitfalls` sees to
/// it that it still says so.)
const HEAD_TOO_LARGE: &str = "message head is too large";

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
            let kind = if hyper.to_string() == HEAD_TOO_LARGE { FailureKind::TooLarge } else { FailureKind::Protocol };
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
                Ok(Ok(stream)) => Ok(Limited::new(stream, place)),
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
            Ok(Early::new(stream))
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Socket};

    use super::*;

    /// A listener whose backlog is full, and one beside it, with the same port, that lets one in.
    fn deaf_and_live() -> (TcpListener, Vec<Socket>, TcpListener) {
        let deaf = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = deaf.local_addr().expect("it is bound");
        let filling = std::iter::repeat_with(|| Socket::connect_timeout(&address, Duration::from_millis(200)));
        let waiting = filling.map_while(Result::ok).collect();
        let live = TcpListener::bind(("127.0.0.2", address.port())).expect("all of 127/8 is this machine's");
        (deaf, waiting, live)
    }

    #[derive(Clone)]
    struct Both([SocketAddr; 2]);

    impl Service<Name> for Both {
        type Response = std::array::IntoIter<SocketAddr, 2>;
        type Error = io::Error;
        type Future = std::future::Ready<io::Result<Self::Response>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            ready(Ok(self.0.into_iter()))
        }
    }

    #[tokio::test]
    async fn one_dead_address_leaves_time_for_the_others() {
        let (deaf, _waiting, live) = deaf_and_live();
        let addresses = [deaf.local_addr().expect("it is bound"), live.local_addr().expect("it is bound")];
        let resolver = Both(addresses);
        let mut sockets = sockets(resolver, Duration::from_secs(2));
        let url = format!("http://two.example:{}/", addresses[0].port());
        let stream = sockets.call(url.parse().expect("it is a URL")).await.expect("one lets in");
        assert_eq!(stream.inner().peer_addr().expect("it is connected"), addresses[1]);
    }
}
