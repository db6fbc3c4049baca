//! Connections: names, sockets, TLS, and how many there may be.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_std::net::{TcpStream, ToSocketAddrs as _};
use futures_rustls::rustls::{self, pki_types::ServerName};
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use http::Uri;
use registry_proto::Config;
use registry_proto::job::{Failure, FailureKind, Phase, Stage, reachable, share};
use registry_proto::session::{Proxies, Tunnel};
use tower_service::Service;

use crate::stream::{Conn, Early, Place};
use crate::tls::Tls;

/// Opens connections: so many to a host, each within its time.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    tls: Arc<Tls>,
    proxies: Arc<Proxies>,
    per_host: usize,
    limit: Duration,
    hosts: Arc<Mutex<BTreeMap<String, Places>>>,
}

/// A host's places: a full channel has none left.
type Places = (Sender<()>, Arc<Receiver<()>>);

impl Connector {
    pub(crate) fn new(tls: Tls, config: &Config) -> Self {
        let (per_host, limit) = (config.requests_per_registry.get(), config.timeouts.connect);
        let proxies = Arc::new(config.proxies.clone());
        Self { tls: Arc::new(tls), proxies, per_host, limit, hosts: Arc::default() }
    }

    /// Another one with places of its own.
    pub(crate) fn apart(&self) -> Self {
        Self { hosts: Arc::default(), ..self.clone() }
    }

    async fn place(&self, uri: &Uri) -> Place {
        let host = uri.authority().map_or_else(String::new, ToString::to_string);
        let (free, taken) = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            let places = || {
                let (free, taken) = async_channel::bounded(self.per_host);
                (free, Arc::new(taken))
            };
            hosts.entry(host).or_insert_with(places).clone()
        };
        // Both ends live in the map: the channel is never closed.
        let _ = free.send(()).await;
        Place(taken)
    }

    async fn connect(&self, uri: &Uri, place: Place) -> Result<Conn, Failure> {
        let stream = match self.proxies.tunnel_to(uri)? {
            None => tcp(uri, self.limit).await?,
            Some(mut tunnel) => {
                let limit = tunnel.patience(self.limit);
                let opening = async_std::future::timeout(limit, open(&mut tunnel, limit)).await;
                opening.unwrap_or_else(|_| Err(tunnel.late()))?
            }
        };
        if !is_https(uri) {
            return Ok(Conn::plain(Early::new(stream), place));
        }
        let name = ServerName::try_from(host(uri)).map_err(|why| Failure::new(FailureKind::Tls, why))?;
        let connecting = Arc::clone(&self.tls).connector().await?.connect(name, Early::new(stream));
        // What TLS itself has against the peer is in there; anything else is an accident of the line.
        let stream = connecting.await.map_err(|why| failure_of(&why, Stage::Handshaking))?;
        Ok(Conn::tls(stream, place))
    }
}

/// A socket to the host of a URL, at whichever of its addresses lets one in.
async fn tcp(uri: &Uri, limit: Duration) -> Result<TcpStream, Failure> {
    let began = Instant::now();
    let host = host(uri);
    let port = uri.port_u16().unwrap_or_else(|| if is_https(uri) { 443 } else { 80 });
    // (What a name server does not tell in time, it does not tell at all: nothing was connected to.)
    let found = (host.as_str(), port).to_socket_addrs().await;
    let found = found.map_err(|why| Failure::new(FailureKind::Connect, why))?;
    any_of(&reachable(&host, found)?, limit.saturating_sub(began.elapsed())).await
}

/// A socket to the first of these addresses that lets one in. Each has its share of the time, so that one that swallows everything
/// leaves some for the others.
async fn any_of(addresses: &[SocketAddr], limit: Duration) -> Result<TcpStream, Failure> {
    let began = Instant::now();
    let failed = |why: io::Error| Failure::new(Stage::Connecting.kind_of(why.kind()), why);
    let mut last = Failure::new(FailureKind::Connect, "the name leads to no address");
    for (tried, address) in addresses.iter().enumerate() {
        let patience = share(limit.saturating_sub(began.elapsed()), addresses.len() - tried);
        last = match async_std::future::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it, small requests would wait for one another's acknowledgements.
                stream.set_nodelay(true).map_err(failed)?;
                return Ok(stream);
            }
            Ok(Err(why)) => failed(why),
            Err(_) => Failure::new(FailureKind::Timeout(Phase::Connect), ""),
        };
    }
    Err(last)
}

/// The way through a proxy, opened.
async fn open(tunnel: &mut Tunnel, limit: Duration) -> Result<TcpStream, Failure> {
    let connected = tcp(tunnel.url(), limit).await;
    let mut stream = connected.map_err(|why| match why.kind() {
        FailureKind::Timeout(_) => tunnel.late(),
        _ => tunnel.unreachable(&why),
    })?;
    stream.write_all(tunnel.request()).await.map_err(|why| tunnel.cut(why))?;
    let mut piece = [0; 1024];
    loop {
        let got = stream.read(&mut piece).await.map_err(|why| tunnel.cut(why))?;
        if tunnel.receive(&piece[..got])? {
            return Ok(stream);
        }
    }
}

/// As resolvers and certificates want it: without the brackets of IPv6 addresses.
fn host(uri: &Uri) -> String {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned()
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

impl Service<Uri> for Connector {
    type Response = Conn;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Conn, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let place = this.place(&uri).await;
            let connecting = async_std::future::timeout(this.limit, this.connect(&uri, place));
            connecting.await.unwrap_or_else(|_| Err(Failure::new(FailureKind::Timeout(Phase::Connect), "")))
        })
    }
}

/// How hyper says that a head is larger than it may be. (The method that tells is there for servers only; the suite `pitfalls` sees to
/// it that it still says so.)
const HEAD_TOO_LARGE: &str = "message head is too large";

/// What an error means to the core, at this stage.
pub(crate) fn failure_of(error: &(dyn StdError + 'static), stage: Stage) -> Failure {
    let mut next = Some(error);
    let (mut innermost, mut kind) = (error, io::ErrorKind::Other);
    while let Some(why) = next {
        // io errors hide what they wrap: their `source` is that of the error inside.
        let io = why.downcast_ref::<io::Error>();
        kind = io.map_or(kind, io::Error::kind);
        let inside = io.and_then(io::Error::get_ref);
        let failure = why.downcast_ref::<Failure>().or_else(|| inside?.downcast_ref());
        if let Some(failure) = failure {
            return failure.clone();
        }
        let tls = why.downcast_ref::<rustls::Error>().or_else(|| inside?.downcast_ref());
        if let Some(tls) = tls {
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
        innermost = why;
        next = why.source();
    }
    Failure::new(stage.kind_of(kind), innermost)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Socket};

    use super::*;

    /// A listener whose backlog is full.
    fn deaf() -> (TcpListener, Vec<Socket>) {
        let deaf = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = deaf.local_addr().expect("it is bound");
        let filling = std::iter::repeat_with(|| Socket::connect_timeout(&address, Duration::from_millis(200)));
        let waiting = filling.map_while(Result::ok).collect();
        (deaf, waiting)
    }

    #[test]
    fn one_dead_address_leaves_time_for_the_others() {
        let (deaf, _waiting) = deaf();
        let live = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let addresses = [&deaf, &live].map(|listener| listener.local_addr().expect("it is bound"));
        let connected = async_std::task::block_on(any_of(&addresses, Duration::from_secs(2)));
        let stream = connected.expect("one lets in");
        assert_eq!(stream.peer_addr().expect("it is connected"), addresses[1]);
    }
}
