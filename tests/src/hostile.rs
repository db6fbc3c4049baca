//! What the tests with attackers in them share: replies written out, and flows watched so that nobody hangs.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{Destination, FetchManifest, Push, PushOptions};
use registry_proto::job::Failure;
use registry_proto::spec::Digest;
use registry_proto::testing::registry::Registry;
use registry_proto::testing::script::Request;
use registry_proto::{Config, Credential, Error, Event, Flow, Session};

use crate::images::noise;
use crate::runtimes::Runtime;

/// No test comes near this, unless something hangs.
const WATCHDOG: Duration = Duration::from_secs(30);

/// What a script answers.
pub type Answer = Result<Response<Bytes>, Failure>;

/// A reply, written out.
///
/// # Panics
/// When a header can't be one.
pub fn reply(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    let mut reply = Response::builder().status(status);
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    Ok(reply.body(Bytes::copy_from_slice(body.as_ref())).unwrap())
}

/// A document of this type.
pub fn serve(kind: &str, body: impl AsRef<[u8]>) -> Answer {
    reply(200, &[("content-type", kind)], body)
}

/// A redirect that keeps the method.
pub fn to(location: &str) -> Answer {
    reply(307, &[("location", location)], "")
}

/// The media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The manifest of an image without layers, as text; its config is `{}`.
pub fn manifest() -> String {
    manifest_with("")
}

/// The same with whatever in place of its one layer.
pub fn manifest_with(layer: &str) -> String {
    let digest = Digest::of(b"{}");
    let config = format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}}"#);
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layer}]}}"#)
}

/// A layer's descriptor, as text, with whatever for its digest and size; and `more` after them.
pub fn layer(digest: &str, size: &str, more: &str) -> String {
    format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}{more}}}"#)
}

/// Fetches the manifest of `r.example/n:v1`.
///
/// # Panics
/// Never: that is a reference.
pub fn fetch() -> FetchManifest {
    FetchManifest::new(&"r.example/n:v1".parse().unwrap())
}

/// A session of somebody who is logged in nowhere.
pub fn anonymous() -> Session {
    Session::new(Config::default(), 1)
}

/// What a registry in memory answers.
pub fn by(registry: &mut Registry, request: &Request) -> Response<Bytes> {
    registry.handle(&request.head(), request.body.clone())
}

/// A session with a password for `r.example`.
pub fn user() -> Session {
    let mut config = Config::default();
    config.log_in(&"r.example".parse().unwrap(), Credential::password("user", "pass"));
    Session::new(config, 1)
}

/// What a user could come to read of events, one text each.
pub fn texts(events: &[Event]) -> Vec<String> {
    let mut texts = Vec::new();
    for event in events {
        match event {
            Event::Retrying { request, why, .. } => texts.extend([request.clone(), why.clone()]),
            Event::Asked { request, reply, .. } => {
                texts.push(request.to_string());
                texts.extend(reply.as_ref().err().map(ToString::to_string));
            }
            Event::Notice(text) => texts.push(text.clone()),
            _ => {}
        }
    }
    texts
}

/// Checks that a text can be printed to any terminal and log.
///
/// # Panics
/// When it can't.
#[track_caller]
pub fn check_text(text: &str) {
    let odd: Vec<char> = text.chars().filter(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(c)).collect();
    assert!(odd.is_empty(), "{odd:?} in {text:?}");
    assert!(text.len() < 20_000, "a text of {} bytes", text.len());
}

/// How a flow ended on a runtime, what it told, how long it took.
#[derive(Debug)]
pub struct Ran<T> {
    /// How it ended.
    pub result: Result<T, Error>,
    /// What it told.
    pub events: Vec<Event>,
    /// How long it took.
    pub took: Duration,
}

/// Runs a flow under a watchdog: what is wrong about attackers mostly hangs.
///
/// # Panics
/// When it hangs.
pub fn run<F>(runtime: Runtime, config: Config, flow: F) -> Ran<F::Output>
where
    F: Flow + Send + 'static,
    F::Output: Send + 'static,
{
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (began, mut events) = (Instant::now(), Vec::new());
        let result = runtime.run_with(config, flow, |event| events.push(event));
        let _ = sender.send(Ran { result, events, took: began.elapsed() });
    });
    receiver.recv_timeout(WATCHDOG).unwrap_or_else(|_| panic!("{runtime} hangs"))
}

/// Retries come at once, or nearly so.
pub fn quick() -> Config {
    let mut config = Config::default();
    config.backoff = Duration::from_millis(10);
    config.backoff_limit = Duration::from_millis(20);
    config.retries = 2;
    config
}

/// How large the layer of [`image`] is, in bytes.
pub const LAYER: usize = 300_000;

/// An image with one layer, for `r.example/n:v1`.
pub fn image() -> SampleImage {
    SampleImage::new(&["r.example/n:v1"], &[&noise(LAYER)])
}

/// Pushes `app.tar` to the names in it.
pub fn push() -> Push {
    Push::new(Path::new("app.tar"), Destination::OriginalTags, PushOptions::default())
}

/// A disk with [`image`] in `app.tar`.
pub fn disk() -> MemoryDisk {
    MemoryDisk::with("app.tar", make::docker_save_oci(&[image()]))
}
