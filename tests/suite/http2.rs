//! HTTP/2, where the server offers it: what hyper speaks on tokio. The other two stacks know only HTTP/1.1.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use registry_proto::archive::make::{self, SampleImage};
use registry_proto::flow::{Destination, Platforms, Pull, PullOptions, Push, PushOptions};
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::{Config, Event, Scheme};
use registry_tests::images::noise;
use registry_tokio::Client;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A registry that speaks HTTP/2 over TLS and nothing else.
struct Served {
    host: String,
    root: Vec<u8>,
    seen: Arc<Seen>,
}

struct Seen {
    registry: Mutex<Registry>,
    /// After so many requests a connection is told to end (GOAWAY).
    most: u64,
    /// Each third request is refused before it is looked at (REFUSED_STREAM).
    refuses: bool,
    refused: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
}

impl Served {
    async fn start(most: u64, refuses: bool) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let (acceptor, root) = (TlsAcceptor::from(Arc::new(tls)), made.cert.der().to_vec());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let registry = Mutex::new(Registry::new(Profile::distribution_3()));
        let (connections, requests, refused) = Default::default();
        let seen = Arc::new(Seen { registry, most, refuses, refused, connections, requests });
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&shared)));
            }
        });
        Self { host, root, seen }
    }

    fn client(&self) -> Client {
        let mut config = Config::default();
        config.scheme = Scheme::Https;
        config.backoff = std::time::Duration::from_millis(1);
        Client::builder().config(config).seed(1).root_certificate(self.root.clone()).build().unwrap()
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, seen: Arc<Seen>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    if seen.refuses {
        return refuse(stream, seen).await;
    }
    let (answered, most) = (Arc::new(AtomicU64::new(0)), seen.most);
    let counting = Arc::clone(&answered);
    let service = service_fn(move |request| {
        counting.fetch_add(1, Ordering::Relaxed);
        answer(request, Arc::clone(&seen))
    });
    let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut told = false;
    std::future::poll_fn(|cx| {
        if answered.load(Ordering::Relaxed) >= most && !told {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        Future::poll(connection.as_mut(), cx)
    })
    .await
    .ok();
}

/// By hand, since hyper refuses no single stream.
async fn refuse(stream: TlsStream<TcpStream>, seen: Arc<Seen>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if seen.requests.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
            seen.refused.fetch_add(1, Ordering::Relaxed);
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        }
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let mut got = Vec::new();
            while let Some(Ok(piece)) = body.data().await {
                got.extend_from_slice(&piece);
                let _ = body.flow_control().release_capacity(piece.len());
            }
            let (head, bytes) = seen.registry.lock().unwrap().handle(&head, got.into()).into_parts();
            let sent = respond.send_response(Response::from_parts(head, ()), bytes.is_empty());
            if let (Ok(mut sending), false) = (sent, bytes.is_empty()) {
                let _ = sending.send_data(bytes, true);
            }
        });
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.version(), Version::HTTP_2);
    seen.requests.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(Response::default()) };
    Ok(seen.registry.lock().unwrap().handle(&head, body.to_bytes()).map(Full::new))
}

fn archive(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("app.tar");
    let large = noise(1_600_000);
    let small: Vec<Vec<u8>> = (0..12_u8).map(|at| vec![at; 1000]).collect();
    let layers: Vec<&[u8]> = small.iter().map(Vec::as_slice).chain([large.as_slice()]).collect();
    std::fs::write(&path, make::docker_save_oci(&[SampleImage::new(&["app:v1"], &layers)])).unwrap();
    path
}

async fn there_and_back(most: u64) -> (u64, u64) {
    let served = Served::start(most, false).await;
    let folder = TempDir::new().unwrap();
    let reference = format!("{}/app:v1", served.host).parse().unwrap();
    let to = Destination::Reference(format!("{}/app:v1", served.host).parse().unwrap());
    let pushed = served.client().push(archive(folder.path()), to).await.unwrap();
    let mut options = PullOptions::default();
    options.platforms = Platforms::All;
    let mut retried = Vec::new();
    let flow = Pull::new([reference], folder.path().join("back.tar"), options);
    let client = served.client();
    let pulled = client.run_with(flow, |event| {
        if let Event::Retrying { why, .. } = event {
            retried.push(why);
        }
    });
    assert_eq!(pulled.await.unwrap().images[0].digest, pushed.references[0].digest, "{retried:?}");
    assert!(served.client().verify_archive(folder.path().join("back.tar")).await.unwrap().is_whole());
    (served.seen.connections.load(Ordering::Relaxed), served.seen.requests.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_carries_everything() {
    let (connections, requests) = there_and_back(u64::MAX).await;
    assert!(requests > 40, "{requests} requests");
    // One for each client; hyper may start a second one before it knows that the first speaks HTTP/2.
    assert!(connections <= 8, "{connections} connections for {requests} requests");
}

/// GOAWAY: what was not taken any more goes on another connection, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_end_are_replaced() {
    let (connections, requests) = there_and_back(5).await;
    assert!(connections >= 6, "{connections} connections for {requests} requests");
}

/// REFUSED_STREAM: nothing was done with the request, so that it is sent again without a question, whatever it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_taken_up_is_sent_again() {
    let served = Served::start(u64::MAX, true).await;
    let folder = TempDir::new().unwrap();
    let to = Destination::Reference(format!("{}/app:v1", served.host).parse().unwrap());
    let flow = Push::new(archive(folder.path()), to, PushOptions::default());
    let (mut retried, mut asked) = (Vec::new(), Vec::new());
    let client = served.client();
    let pushed = client.run_with(flow, |event| match event {
        Event::Retrying { why, .. } => retried.push(why),
        Event::Asked { request, .. } => asked.push(request.to_string()),
        _ => {}
    });
    pushed.await.unwrap();
    assert!(served.seen.refused.load(Ordering::Relaxed) > 10);
    assert!(retried.iter().all(|why| why.contains("did not take the request up")), "{retried:?}");
    let probed = asked.iter().filter(|asked| asked.starts_with("GET") && asked.contains("/uploads/")).count();
    assert_eq!(probed, 0, "{asked:?}");
}
