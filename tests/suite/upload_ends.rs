//! How an upload ends, well or otherwise: PROTOCOL C72 to C79, each dialogue written out.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{Copy, CopyOptions, Flow};
use registry_proto::job::{Completion, FailureKind, Phase};
use registry_proto::spec::Digest;
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Context, Error, Event, Session, Step};
use registry_tests::dialogue::{
    LAYER, Line, by_fours, from_u, hold, in_chunks, line, lost, refusal, session, status, whole,
};
use registry_tests::hostile::{by, push, reply};

/// The whole of it in one request.
const ALL: &str = "PUT /u?digest=D 0123456789";
const ASK: &str = "HEAD /v2/n/blobs/D";
const OPEN: &str = "POST /v2/n/blobs/uploads/";

#[test]
fn c72_c73_no_answer_to_the_last_request() {
    let timeout = || lost(FailureKind::Timeout(Phase::Head));
    let there = || reply(200, &[("content-length", "10")], "");
    let lost_again = || [line(ALL, timeout()), line(ASK, status(404))];
    // It had gone through.
    whole([line(ALL, timeout()), line(ASK, there())]).well();
    // It had not: how far did it come?
    let [put, look] = lost_again();
    whole([
        put,
        look,
        line("GET /u", session(204, "/v", "0-3")),
        line("PATCH /v 4-9 456789", session(202, "/v", "0-9")),
        line("PUT /v?digest=D", status(201)),
    ])
    .well();
    let [put, look] = lost_again();
    whole([put, look, line("GET /u", status(404)), line(OPEN, session(202, "/u", "")), line(ALL, status(201))]).well();
    // It had gone through after all, when it was asked for once more (GHCR).
    let [put, look] = lost_again();
    let [again, found] = [line(ALL, refusal(404, "BLOB_UPLOAD_UNKNOWN")), line(ASK, there())];
    whole([put, look, line("GET /u", session(204, "/u", "0--1")), again, found]).well();
    // What is there must have the right size.
    let other = reply(200, &[("content-length", "9")], "");
    whole([
        line(ALL, timeout()),
        line(ASK, other),
        line("GET /u", status(404)),
        line(OPEN, session(202, "/u", "")),
        line(ALL, status(201)),
    ])
    .well();
}

#[test]
fn c74_a_digest_that_it_calls_wrong() {
    for code in ["DIGEST_INVALID", "SIZE_INVALID", "BLOB_UPLOAD_INVALID"] {
        whole([line(ALL, refusal(400, code)), line(OPEN, session(202, "/u", "")), line(ALL, status(201))]).well();
        let why = whole([
            line(ALL, refusal(400, code)),
            line(OPEN, session(202, "/u", "")),
            line(ALL, refusal(400, code)),
            line("DELETE /u", status(204)),
        ])
        .with(code);
        assert_eq!(why.status().unwrap(), 400);
    }
    // Another 400 is about the request, which will be the same.
    whole([line(ALL, refusal(400, "NAME_INVALID")), line("DELETE /u", status(204))]).with("NAME_INVALID");
}

#[test]
fn c75_every_way_of_saying_that_it_is_done() {
    for ok in [200, 201, 204] {
        whole([line(ALL, status(ok))]).well();
    }
    // Not yet.
    whole([line(ALL, status(202)), line(ASK, reply(200, &[("content-length", "10")], ""))]).well();
    let later = [line(ALL, status(202)), line(ASK, status(404)), line(ASK, status(404))];
    let there = line(ASK, reply(200, &[("content-length", "10")], ""));
    let ended = whole(later.into_iter().chain([there]));
    assert_eq!(ended.pauses().len(), 2);
    ended.well();
    // Nor after a while.
    let never = [line(ALL, status(202)), line(ASK, status(404)), line(ASK, status(404)), line(ASK, status(404))];
    let again = [line(ASK, status(404)), line(OPEN, session(202, "/u", "")), line(ALL, status(201))];
    whole(never.into_iter().chain(again)).well();
}

#[test]
fn c76_mounts() {
    const MOUNT: &str = "POST /v2/n/blobs/uploads/?mount=D&from=src";
    let image = SampleImage::new(&[], &[LAYER]);
    let manifest = image.manifest(false);
    let copy = |dialogue: Vec<Line>| {
        let flow =
            Copy::new("r.example/src:v1".parse().unwrap(), "r.example/n:v1".parse().unwrap(), CopyOptions::default());
        let mut source = Registry::new(Profile::distribution_3());
        for blob in image.layers.iter().cloned().chain([image.config()]) {
            source.insert_blob("src", blob);
        }
        source.insert_manifest("src", Some("v1"), manifest.bytes().clone(), manifest.media_type().as_str()).unwrap();
        let config = Digest::of(&image.config());
        let mut settings = Config::default();
        settings.backoff = std::time::Duration::from_secs(1);
        hold(&mut Session::new(settings, 1), flow, MemoryDisk::default(), &Digest::of(LAYER), dialogue, |request| {
            let (path, line) = (request.url.path(), request.line());
            match request.method.as_str() {
                _ if path.starts_with("/v2/src/") => Some(Ok(by(&mut source, request))),
                "POST" if line.contains(config.as_str()) => Some(status(201)),
                "HEAD" if path.contains("/manifests/") => Some(status(404)),
                "PUT" if path.contains("/manifests/") => Some(status(201)),
                _ => None,
            }
        })
    };
    let ended = copy(vec![line(MOUNT, reply(201, &[("location", "/v2/n/blobs/D")], ""))]);
    assert_eq!(ended.pauses(), [0; 0]);
    ended.well();
    // A session instead: into that one, and no other is opened.
    copy(vec![line(MOUNT, session(202, "/u", "")), line(ALL, status(201))]).well();
    // It does not: a plain upload, at once.
    for no in [status(400), status(403), status(404), status(405), status(500)] {
        let ended = copy(vec![
            line(MOUNT, no),
            line(ASK, status(404)),
            line(OPEN, session(202, "/u", "")),
            line(ALL, status(201)),
        ]);
        assert_eq!(ended.pauses(), [0; 0]);
        ended.well();
    }
    // Nobody may read the source, or nobody here.
    let denied = reply(401, &[("www-authenticate", "Basic realm=\"here\"")], "");
    copy(vec![line(MOUNT, denied), line(ASK, status(404)), line(OPEN, session(202, "/u", "")), line(ALL, status(201))])
        .well();
    // It is only too much at the moment: a mount is worth a pause, which costs less than the blob.
    let ended = copy(vec![line(MOUNT, reply(429, &[("retry-after", "3")], "")), line(MOUNT, status(201))]);
    assert_eq!(ended.pauses(), [3]);
    ended.well();
}

/// Cancels a flow as soon as it tells that something was sent.
#[derive(Debug)]
struct Stopped<F>(F);

impl<F: Flow> Flow for Stopped<F> {
    type Output = F::Output;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<F::Output> {
        let step = self.0.poll(cx);
        if matches!(step, Step::Note(Event::Sent { .. })) {
            self.0.cancel();
        }
        step
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        self.0.handle(cx, done)
    }

    fn cancel(&mut self) {
        self.0.cancel();
    }
}

#[test]
fn c77_who_stops_closes_the_session() {
    let image = SampleImage::new(&["r.example/n:v1"], &[LAYER]);
    let known = format!("/v2/n/blobs/{}", Digest::of(&image.config()));
    let disk = MemoryDisk::with("app.tar", make::docker_save_oci(&[image]));
    // Whatever comes of that, nobody starts a conversation about it.
    for closed in [
        status(204),
        status(404),
        status(405),
        status(500),
        lost(FailureKind::Cut),
        reply(401, &[("www-authenticate", r#"Bearer realm="https://t/token",scope="repository:n:delete""#)], ""),
    ] {
        let dialogue = from_u([line("PATCH /u 0-3 0123", session(202, "/v", "0-3")), line("DELETE /v", closed)]);
        let ended = hold(
            &mut Session::new(in_chunks(4), 1),
            Stopped(push()),
            disk.clone(),
            &Digest::of(LAYER),
            dialogue,
            |request| match request.url.path() {
                path if path == known => Some(status(200)),
                path if path.contains("/manifests/") => Some(status(404)),
                _ => None,
            },
        );
        assert!(matches!(ended.result, Err(Error::Cancelled)), "{:?}", ended.result);
    }
}

/// C78 is about who sends a blob with its `POST`. Nobody does here: a registry that doesn't know of it would be sent it twice.
#[test]
fn c78_a_post_carries_no_blob() {
    for profile in [Profile::distribution_2_8(), Profile::distribution_3(), Profile::strict()] {
        let mut registry = Registry::new(profile);
        let image = SampleImage::new(&["r.example/n:v1"], &[LAYER, b""]);
        let mut script = Script::new(|request: &Request| Ok(by(&mut registry, request)))
            .with_disk(MemoryDisk::with("app.tar", make::docker_save_oci(&[image])));
        script.run(&mut Session::new(Config::default(), 1), push()).unwrap();
        let posts: Vec<&Request> = script.requests().iter().filter(|request| request.method == "POST").collect();
        assert_eq!(posts.len(), 3);
        for post in posts {
            assert!(post.body.is_empty() && post.url.query().is_none(), "{}", post.line());
        }
    }
}

#[test]
fn c79_trouble_with_a_chunk() {
    let first = || line("PATCH /u 0-3 0123", session(202, "/u", "0-3"));
    let rest = |session_at: &str| {
        let at = session_at.to_owned();
        [
            line(format!("PATCH {at} 4-7 4567"), session(202, &at, "0-7")),
            line(format!("PATCH {at} 8-9 89"), session(202, &at, "0-9")),
            line(format!("PUT {at}?digest=D"), status(201)),
        ]
    };
    for (trouble, least) in [
        (status(500), 0),
        (reply(503, &[("retry-after", "2")], ""), 2),
        (reply(429, &[("retry-after", "2")], ""), 2),
        (lost(FailureKind::Cut), 0),
        (lost(FailureKind::Timeout(Phase::Body)), 0),
    ] {
        // How far did it come?
        let ended = by_fours(
            [first(), line("PATCH /u 4-7 4567", trouble.clone()), line("GET /u", session(204, "/v", "0-3"))]
                .into_iter()
                .chain(rest("/v")),
        );
        assert!(ended.at.since_epoch().as_secs() >= least, "{trouble:?}: it went on at {}", ended.at);
        assert_eq!(ended.pauses().len(), 1, "{trouble:?}");
        ended.well();
        // It had come through.
        let [_, chunk, end] = rest("/v");
        by_fours([
            first(),
            line("PATCH /u 4-7 4567", trouble.clone()),
            line("GET /u", session(204, "/v", "0-7")),
            chunk,
            end,
        ])
        .well();
        // It doesn't know, or doesn't say: from the beginning.
        for state in [404, 405] {
            by_fours(
                [
                    first(),
                    line("PATCH /u 4-7 4567", trouble.clone()),
                    line("GET /u", status(state)),
                    line(OPEN, session(202, "/v", "")),
                    line("PATCH /v 0-3 0123", session(202, "/v", "0-3")),
                ]
                .into_iter()
                .chain(rest("/v")),
            )
            .well();
        }
    }
}
