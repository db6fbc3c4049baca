//! Dialogues, written out as PROTOCOL §7 does: what a client has to ask, line by line, and what it is answered.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::Flow;
use registry_proto::job::{Failure, FailureKind};
use registry_proto::spec::Digest;
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Error, Event, Session, Time, UploadPolicy};

use crate::hostile::{Answer, push, reply};

/// A request as the dialogue has it, and its answer.
pub type Line = (String, Answer);

/// `asks` is the method, the path with its query (or the whole URL, if it isn't `https://r.example`), the range and the body, of
/// which those that there are.
pub fn line(asks: impl Into<String>, answer: Answer) -> Line {
    (asks.into(), answer)
}

/// No answer.
///
/// # Errors
/// Always.
pub fn lost(kind: FailureKind) -> Answer {
    Err(Failure::new(kind, ""))
}

/// A reply with nothing but a status.
pub fn status(status: u16) -> Answer {
    reply(status, &[], "")
}

/// A reply of an upload's session: where it goes on, and how far it has come.
pub fn session(status: u16, location: &str, range: &str) -> Answer {
    let headers = [("location", location), ("range", range)];
    let wanted: Vec<(&str, &str)> = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    reply(status, &wanted, "")
}

/// How a dialogue ended.
#[derive(Debug)]
pub struct Ended<T> {
    /// The flow's end.
    pub result: Result<T, Error>,
    /// What it told.
    pub events: Vec<Event>,
    /// When.
    pub at: Time,
}

impl<T: std::fmt::Debug> Ended<T> {
    /// It ended well.
    ///
    /// # Panics
    /// When it didn't.
    #[track_caller]
    pub fn well(self) -> T {
        self.result.unwrap()
    }

    /// It ended with an error that says this.
    ///
    /// # Panics
    /// When it didn't.
    #[track_caller]
    pub fn with(self, says: &str) -> Error {
        let why = self.result.unwrap_err();
        assert!(why.to_string().contains(says), "{why}");
        why
    }

    /// What was waited for, in whole seconds, before each time that something was tried again.
    pub fn pauses(&self) -> Vec<u64> {
        let pause = |event: &Event| match event {
            Event::Retrying { after, .. } => Some(after.as_secs()),
            _ => None,
        };
        self.events.iter().filter_map(pause).collect()
    }
}

/// What a request asks, as a line has it. The digest of `blob` is written `D`.
fn asked(request: &Request, blob: &Digest) -> String {
    let url = request.url.to_string();
    let path = url.strip_prefix("https://r.example").filter(|path| path.starts_with('/'));
    let mut text = format!("{} {}", request.method, path.unwrap_or(&url));
    for name in ["content-range", "range"] {
        if !request.header(name).is_empty() {
            text = format!("{text} {}", request.header(name));
        }
    }
    if !request.body.is_empty() {
        text = format!("{text} {}", String::from_utf8_lossy(&request.body));
    }
    text.replace(blob.as_str(), "D")
}

/// Holds the dialogue with a flow. What `aside` answers is no part of it. To the blob `D` belongs the digest that is written so.
///
/// # Panics
/// When something else is asked than the dialogue says, or not all of it.
#[track_caller]
pub fn hold<F: Flow>(
    session: &mut Session,
    flow: F,
    disk: MemoryDisk,
    blob: &Digest,
    dialogue: impl IntoIterator<Item = Line>,
    mut aside: impl FnMut(&Request) -> Option<Answer>,
) -> Ended<F::Output> {
    let mut dialogue: VecDeque<Line> = dialogue.into_iter().collect();
    let (mut wrong, mut told) = (None, Vec::new());
    let mut script = Script::new(|request: &Request| {
        if let Some(answer) = aside(request) {
            return answer;
        }
        let asks = asked(request, blob);
        told.push(asks.clone());
        match dialogue.pop_front() {
            Some((expected, answer)) if expected == asks => answer,
            expected => {
                let expected = expected.map_or_else(|| "nothing".to_owned(), |(expected, _)| expected);
                wrong.get_or_insert_with(|| format!("asked for `{asks}` where it should have been `{expected}`"));
                status(418)
            }
        }
    })
    .with_disk(disk);
    let result = script.run(session, flow);
    let (events, at) = (script.events().to_vec(), script.now());
    drop(script);
    let why = result.as_ref().err().map(ToString::to_string);
    assert_eq!(wrong, None, "after {told:#?}: {why:?}");
    let left: Vec<String> = dialogue.into_iter().map(|(asks, _)| asks).collect();
    assert!(left.is_empty(), "{left:?} was not asked for, after {told:#?}: {why:?}");
    Ended { result, events, at }
}

/// Pushes an image with one layer, of these bytes, to `r.example/n:v1`; the dialogue is about the layer (`D`). Its configuration
/// is there already, and its manifest goes through.
///
/// # Panics
/// As [`hold`].
#[track_caller]
pub fn push_layer(layer: &[u8], config: Config, dialogue: impl IntoIterator<Item = Line>) -> Ended<()> {
    let image = SampleImage::new(&["r.example/n:v1"], &[layer]);
    let known = format!("/v2/n/blobs/{}", Digest::of(&image.config()));
    let disk = MemoryDisk::with("app.tar", make::docker_save_oci(std::slice::from_ref(&image)));
    let ended = hold(&mut Session::new(config, 1), push(), disk, &Digest::of(layer), dialogue, |request| {
        let path = request.url.path();
        match request.method.as_str() {
            "HEAD" if path == known => Some(status(200)),
            "HEAD" if path.contains("/manifests/") => Some(status(404)),
            "PUT" if path.contains("/manifests/") => Some(status(201)),
            _ => None,
        }
    });
    Ended { result: ended.result.map(drop), events: ended.events, at: ended.at }
}

/// A layer of ten bytes, to be seen through.
pub const LAYER: &[u8] = b"0123456789";

/// Uploads in chunks of this size, down to single bytes.
///
/// # Panics
/// When there is no such size.
pub fn in_chunks(size: u64) -> Config {
    let mut config = Config::default();
    config.upload = UploadPolicy::Chunked(NonZeroU64::new(size).unwrap());
    config.limits.chunk_min = 1;
    config
}

/// Pushes [`LAYER`] in one request; the dialogue goes on from an open session at `/u`.
///
/// # Panics
/// As [`hold`].
#[track_caller]
pub fn whole(rest: impl IntoIterator<Item = Line>) -> Ended<()> {
    push_layer(LAYER, Config::default(), from_u(rest))
}

/// Pushes [`LAYER`] in chunks of four bytes; the dialogue goes on from an open session at `/u`.
///
/// # Panics
/// As [`hold`].
#[track_caller]
pub fn by_fours(rest: impl IntoIterator<Item = Line>) -> Ended<()> {
    push_layer(LAYER, in_chunks(4), from_u(rest))
}

/// The dialogue of an upload that goes on from an open session at `/u`.
pub fn from_u(rest: impl IntoIterator<Item = Line>) -> Vec<Line> {
    opened("/u").into_iter().chain(rest).collect()
}

/// A refusal with a code of the specification's.
pub fn refusal(status: u16, code: &str) -> Answer {
    reply(status, &[], format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#))
}

/// The beginning of most uploads: the blob is not there, and a session is opened.
pub fn opened(location: &str) -> Vec<Line> {
    vec![line("HEAD /v2/n/blobs/D", status(404)), line("POST /v2/n/blobs/uploads/", session(202, location, ""))]
}
