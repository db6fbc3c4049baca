//! surf's transport: hyper on async-std.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_io::Timer;
use bytes::{Buf as _, Bytes};
use futures_util::{AsyncBufRead, AsyncRead};
use http_body::{Body, Frame, SizeHint};
use http_client::http_types;
use http_client::{HttpClient, Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Executor, Sleep};
use hyper_util::client::legacy::Client as Pool;
use registry_proto::Config;
use registry_proto::job::Stage;

use crate::connect::{Connector, failure_of};
use crate::tls::Tls;

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// The most that is handed to hyper at a time.
const PIECE: usize = 256 << 10;

/// hyper's client behind surf's interface.
#[derive(Debug)]
pub(crate) struct Transport {
    pool: Pool<Connector, SurfBody>,
    /// For requests that are [`Supplied`]. Each has its connection until others are over, which must not have to wait for it: so it is
    /// another one.
    waiting: Pool<Connector, SurfBody>,
}

/// Goes along with a request whose body other requests supply.
pub(crate) struct Supplied;

impl Transport {
    pub(crate) fn new(tls: Tls, config: &Config) -> Self {
        let (per_host, limits) = (config.requests_per_registry.get(), &config.limits);
        let mut pool = Pool::builder(Tasks);
        pool.pool_timer(Timers).timer(Timers).pool_idle_timeout(IDLE).pool_max_idle_per_host(per_host);
        // hyper has no smaller buffer than 8 KiB.
        pool.http1_max_headers(limits.headers).http1_max_buf_size(limits.head.max(8 << 10));
        #[cfg(feature = "http2")]
        pool.http2_max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX));
        // Wide windows: with hyper's defaults one stream over a line with 100 ms delay would come to 20 MB/s.
        #[cfg(feature = "http2")]
        pool.http2_initial_stream_window_size(8 << 20)
            .http2_initial_connection_window_size(8 << 20)
            .http2_max_frame_size(256 << 10);
        let connector = Connector::new(tls, config);
        Self { waiting: pool.build(connector.apart()), pool: pool.build(connector) }
    }
}

impl HttpClient for Transport {
    fn send<'a, 'async_trait>(
        &'a self,
        mut request: Request,
    ) -> Pin<Box<dyn Future<Output = Result<Response, http_types::Error>> + Send + 'async_trait>>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let outgoing = outgoing(&mut request)?;
            let pool = if request.ext().get::<Supplied>().is_some() { &self.waiting } else { &self.pool };
            let reply = pool.request(outgoing).await.map_err(|why| {
                let stage = if why.is_connect() { Stage::Connecting } else { Stage::Exchanging };
                http_types::Error::new(http_types::StatusCode::BadGateway, failure_of(&why, stage))
            })?;
            Ok(incoming(reply))
        })
    }
}

fn outgoing(request: &mut Request) -> Result<http::Request<SurfBody>, http_types::Error> {
    let body = request.take_body();
    let left = body.len().map_or(0, |length| length as u64);
    let mut outgoing = http::Request::builder().method(request.method().as_ref()).uri(request.url().as_str());
    for (name, values) in request.iter() {
        for value in values {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
    }
    let mut outgoing = outgoing
        .body(SurfBody { body: Mutex::new(body), left })
        .map_err(|why| http_types::Error::new(http_types::StatusCode::BadRequest, why))?;
    // What is in there tells our side which connection the request went over.
    outgoing.extensions_mut().extend(request.ext_mut().remove::<http::Extensions>().unwrap_or_default());
    Ok(outgoing)
}

fn incoming(reply: http::Response<Incoming>) -> Response {
    let (head, body) = reply.into_parts();
    // http-types knows fewer statuses than there are; the real one travels beside it.
    let status =
        http_types::StatusCode::try_from(head.status.as_u16()).unwrap_or(http_types::StatusCode::InternalServerError);
    let mut response = Response::new(status);
    let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    response.set_body(http_types::Body::from_reader(ReplyBody { body: Mutex::new(body), piece: Bytes::new() }, length));
    // http-types has its own idea of headers: ASCII only, and a `Content-Type` for every body. The real head travels along.
    response.ext_mut().insert(head);
    response
}

/// surf's request body as hyper's.
pub(crate) struct SurfBody {
    /// http-types wants bodies to be `Sync`, hyper wants them to be `Send`: the mutex is never contended.
    body: Mutex<http_types::Body>,
    left: u64,
}

impl Body for SurfBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let body = this.body.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut body = Pin::new(body);
        let piece = ready!(body.as_mut().poll_fill_buf(cx))?;
        if piece.is_empty() {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        let amount = piece.len().min(PIECE).min(usize::try_from(this.left).unwrap_or(usize::MAX));
        let bytes = Bytes::copy_from_slice(&piece[..amount]);
        body.consume(amount);
        this.left -= amount as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// hyper's reply body as surf's.
struct ReplyBody {
    body: Mutex<Incoming>,
    piece: Bytes,
}

impl AsyncBufRead for ReplyBody {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.piece.is_empty() {
            let body = this.body.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            match ready!(Pin::new(body).poll_frame(cx)) {
                None => break,
                Some(Ok(frame)) => this.piece = frame.into_data().unwrap_or_default(),
                Some(Err(why)) => return Poll::Ready(Err(io::Error::other(failure_of(&why, Stage::Exchanging)))),
            }
        }
        Poll::Ready(Ok(&this.piece))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.get_mut().piece.advance(amount);
    }
}

impl AsyncRead for ReplyBody {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let piece = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = piece.len().min(to.len());
        to[..amount].copy_from_slice(&piece[..amount]);
        self.consume(amount);
        Poll::Ready(Ok(amount))
    }
}

/// hyper's tasks, on async-std.
#[derive(Clone, Debug)]
struct Tasks;

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        async_std::task::spawn(task);
    }
}

/// hyper's timers, on async-io.
#[derive(Clone, Debug)]
struct Timers;

struct Sleeping(Timer);

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

impl Sleep for Sleeping {}

impl hyper::rt::Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(Timer::after(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(Timer::at(deadline)))
    }
}
