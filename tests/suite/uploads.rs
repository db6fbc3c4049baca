//! What a registry may answer while a blob is uploaded: PROTOCOL C56 to C79, each dialogue written out.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::num::NonZeroU64;

use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{Copy, CopyOptions, Flow};
use registry_proto::job::{Completion, FailureKind, Phase};
use registry_proto::spec::Digest;
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Context, Error, Event, Session, Step, UploadPolicy};
use registry_tests::dialogue::{Line, hold, line, lost, opened, push_layer, session, status};
use registry_tests::hostile::{Answer, by, push, reply};

const LAYER: &[u8] = b"0123456789";
/// The whole of it in one request.
const ALL: &str = "PUT /u?digest=D 0123456789";
const ASK: &str = "HEAD /v2/n/blobs/D";
const OPEN: &str = "POST /v2/n/blobs/uploads/";

/// In chunks of this size, down to single bytes.
fn chunks(size: u64) -> Config {
    let mut config = Config::default();
    config.upload = UploadPolicy::Chunked(NonZeroU64::new(size).unwrap());
    config.limits.chunk_min = 1;
    config
}

/// The dialogue that begins with an open session at `/u`.
fn from_u(rest: impl IntoIterator<Item = Line>) -> Vec<Line> {
    opened("/u").into_iter().chain(rest).collect()
}

fn whole(rest: impl IntoIterator<Item = Line>) -> registry_tests::dialogue::Ended<()> {
    push_layer(LAYER, Config::default(), from_u(rest))
}

fn by_fours(rest: impl IntoIterator<Item = Line>) -> registry_tests::dialogue::Ended<()> {
    push_layer(LAYER, chunks(4), from_u(rest))
}

fn error(status: u16, code: &str) -> Answer {
    reply(status, &[], format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#))
}

// ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn c56_the_sessions_url_is_not_touched() {
    let session = "/v2/n/blobs/uploads/u?_state=a%2Fb&x=";
    let put = line(format!("PUT {session}&digest=D 0123456789"), status(201));
    push_layer(LAYER, Config::default(), opened(session).into_iter().chain([put])).well();
}

#[test]
fn c57_where_a_session_may_be() {
    for (location, put) in [
        ("https://r.example/u?a=b", "/u?a=b&digest=D"),
        ("/u", "/u?digest=D"),
        ("u", "/v2/n/blobs/uploads/u?digest=D"),
        // Without a scheme it is a path (RFC 3986), whatever it looks like.
        ("r.example/u", "/v2/n/blobs/uploads/r.example/u?digest=D"),
        // From behind something that ends TLS.
        ("http://r.example/u", "/u?digest=D"),
        ("https://r.example:443/u", "https://r.example:443/u?digest=D"),
    ] {
        let put = line(format!("PUT {put} 0123456789"), status(201));
        push_layer(LAYER, Config::default(), opened(location).into_iter().chain([put])).well();
    }
    for foreign in ["https://elsewhere.example/u", "http://r.example:5000/u", "https://r.example:8443/u"] {
        let why = push_layer(LAYER, Config::default(), opened(foreign)).with("its Location is not used");
        assert!(matches!(why, Error::Protocol { .. }));
    }
}

#[test]
fn c58_a_session_without_a_place() {
    let dialogue = [line(ASK, status(404)), line(OPEN, status(202))];
    push_layer(LAYER, Config::default(), dialogue).with("without a Location");
    // Later on it stays where it is.
    by_fours([
        line("PATCH /u 0-3 0123", session(202, "", "0-3")),
        line("PATCH /u 4-7 4567", session(202, "/v", "0-7")),
        line("PATCH /v 8-9 89", session(202, "", "0-9")),
        line("PUT /v?digest=D", status(201)),
    ])
    .well();
}

#[test]
fn c59_c63_chunks_end_to_end() {
    for ok in [200, 201, 202, 204] {
        by_fours([
            line("PATCH /u 0-3 0123", session(ok, "/u?1", "0-3")),
            line("PATCH /u?1 4-7 4567", session(ok, "/u?2", "0-7")),
            line("PATCH /u?2 8-9 89", session(ok, "/u?3", "0-9")),
            line("PUT /u?3&digest=D", status(201)),
        ])
        .well();
    }
}

#[test]
fn c60_no_bytes_at_all() {
    for config in [Config::default(), chunks(4)] {
        push_layer(b"", config, from_u([line("PUT /u?digest=D", status(201))])).well();
    }
    let mut script = Script::new(|request: &Request| match request.method.as_str() {
        "HEAD" => status(404),
        "POST" => session(202, "/u", ""),
        _ => status(201),
    });
    let image = SampleImage::new(&["r.example/n:v1"], &[b""]);
    script = script.with_disk(MemoryDisk::with("app.tar", make::docker_save_oci(&[image])));
    script.run(&mut Session::new(Config::default(), 1), push()).unwrap();
    let empty = |request: &&Request| request.body.is_empty() && request.method != "HEAD";
    let told: Vec<&str> =
        script.requests().iter().filter(empty).map(|request| request.header("content-length")).collect();
    assert_eq!(told, ["0", "0", "0"], "the sessions of the layer and the configuration, and the layer's end");
}

#[test]
fn c61_every_way_of_saying_how_far_it_has_come() {
    for range in ["0-3", "bytes=0-3", "bytes 0-3", "0-0", "0--1", "", "0-4", "nonsense", "2-3"] {
        by_fours([
            line("PATCH /u 0-3 0123", session(202, "/u", range)),
            // Stale, or about this chunk alone.
            line("PATCH /u 4-7 4567", session(202, "/u", "0-3")),
            line("PATCH /u 8-9 89", session(202, "/u", "0-1")),
            line("PUT /u?digest=D", status(201)),
        ])
        .well();
    }
    // One byte is `0-0`, too.
    let one_by_one = from_u([
        line("PATCH /u 0-0 a", session(202, "/u", "0-0")),
        line("PATCH /u 1-1 b", session(202, "/u", "0-0")),
        line("PUT /u?digest=D", status(201)),
    ]);
    push_layer(b"ab", chunks(1), one_by_one).well();
}

#[test]
fn c62_more_than_was_sent_and_less() {
    let why = by_fours([line("PATCH /u 0-3 0123", session(202, "/v", "0-99")), line("DELETE /u", status(204))])
        .with("it claims to hold 100 bytes, of which it was sent fewer");
    assert!(matches!(why, Error::Protocol { .. }));
    // It kept a part; from there it goes on, where it says.
    by_fours([
        line("PATCH /u 0-3 0123", session(202, "/v", "0-1")),
        line("PATCH /v 2-5 2345", session(202, "/w", "0-5")),
        line("PATCH /w 6-9 6789", session(202, "/x", "0-9")),
        line("PUT /x?digest=D", status(201)),
    ])
    .well();
}

// ── refusals of single chunks ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn c64_other_bytes_are_wanted() {
    // It says which: it is believed, and not asked.
    by_fours([
        line("PATCH /u 0-3 0123", session(202, "/u", "0-3")),
        line("PATCH /u 4-7 4567", session(416, "/v", "0-1")),
        line("PATCH /v 2-5 2345", session(202, "/w", "0-5")),
        line("PATCH /w 6-9 6789", session(202, "/w", "0-9")),
        line("PUT /w?digest=D", status(201)),
    ])
    .well();
    // But not for ever.
    let mut config = chunks(4);
    config.retries = 2;
    let mut dialogue = from_u([line("PATCH /u 0-3 0123", session(202, "/u", "0-3"))]);
    dialogue.push(line("PATCH /u 4-7 4567", session(416, "", "0-1")));
    dialogue.extend((0..2).map(|_| line("PATCH /u 2-5 2345", session(416, "", "0-1"))));
    dialogue.push(line("DELETE /u", status(204)));
    push_layer(LAYER, config, dialogue.into_iter().map(|(asks, answer)| (asks, answer)))
        .with("it wants other bytes first");
}

#[test]
fn c65_it_is_asked_which_bytes_it_wants() {
    by_fours([
        line("PATCH /u 0-3 0123", session(202, "/u", "0-3")),
        line("PATCH /u 4-7 4567", status(416)),
        line("GET /u", session(204, "/v", "0-3")),
        // In smaller chunks, since these may have been too large.
        line("PATCH /v 4-5 45", session(202, "/v", "0-5")),
        line("PATCH /v 6-8 678", session(202, "/v", "0-8")),
        line("PATCH /v 9-9 9", session(202, "/v", "0-9")),
        line("PUT /v?digest=D", status(201)),
    ])
    .well();
}

#[test]
fn c66_chunks_that_are_too_large_are_halved() {
    // The session goes on, or (`0-0` is one byte or none) it takes another.
    for state in [session(204, "/u", "0--1"), session(204, "/u", "0-0"), status(404)] {
        let goes_on = state.as_ref().is_ok_and(|reply| reply.headers().get("range").is_some_and(|told| told == "0--1"));
        let mut dialogue = from_u([line("PATCH /u 0-7 01234567", status(416)), line("GET /u", state)]);
        if !goes_on {
            dialogue.push(line(OPEN, session(202, "/u", "")));
        }
        dialogue.extend([
            line("PATCH /u 0-3 0123", session(202, "/u", "0-3")),
            line("PATCH /u 4-9 456789", session(202, "/u", "0-9")),
            line("PUT /u?digest=D", status(201)),
        ]);
        push_layer(LAYER, chunks(8), dialogue).well();
    }
}

#[test]
fn c67_bodies_that_are_too_large_are_halved_down_to_an_end() {
    let html = || reply(413, &[("content-type", "text/html")], "<html>413</html>");
    let state = || line("GET /u", session(204, "/u", "0--1"));
    by_fours([
        line("PATCH /u 0-3 0123", html()),
        state(),
        line("PATCH /u 0-1 01", html()),
        state(),
        line("PATCH /u 0-0 0", session(202, "/u", "0-0")),
        line("PATCH /u 1-1 1", session(202, "/u", "0-1")),
        line("PATCH /u 2-2 2", session(202, "/u", "0-2")),
        line("PATCH /u 3-3 3", session(202, "/u", "0-3")),
        line("PATCH /u 4-4 4", session(202, "/u", "0-4")),
        line("PATCH /u 5-5 5", session(202, "/u", "0-5")),
        line("PATCH /u 6-6 6", session(202, "/u", "0-6")),
        line("PATCH /u 7-7 7", session(202, "/u", "0-7")),
        line("PATCH /u 8-8 8", session(202, "/u", "0-8")),
        line("PATCH /u 9-9 9", session(202, "/u", "0-9")),
        line("PUT /u?digest=D", status(201)),
    ])
    .well();
    let mut config = chunks(4);
    config.limits.chunk_min = 2;
    let dialogue = from_u([
        line("PATCH /u 0-3 0123", html()),
        state(),
        line("PATCH /u 0-1 01", html()),
        line("DELETE /u", status(204)),
    ]);
    let why = push_layer(LAYER, config, dialogue).with("even the smallest chunk is too large for it");
    assert_eq!(why.status().unwrap(), 413);
}

#[test]
fn c68_one_request_that_is_too_large_becomes_chunks() {
    let mut config = Config::default();
    config.limits.chunk_min = 1;
    let dialogue = from_u([
        line(ALL, reply(413, &[], "<html>413</html>")),
        line("GET /u", status(404)),
        line(OPEN, session(202, "/v", "")),
        line("PATCH /v 0-4 01234", session(202, "/v", "0-4")),
        line("PATCH /v 5-9 56789", session(202, "/v", "0-9")),
        line("PUT /v?digest=D", status(201)),
    ]);
    push_layer(LAYER, config, dialogue).well();
}

#[test]
fn c69_the_smallest_chunk_that_it_takes() {
    let told = |least: &str| {
        let headers = [("location", "/u"), ("oci-chunk-min-length", least)];
        [line(ASK, status(404)), line(OPEN, reply(202, &headers, ""))]
    };
    let with = |least: &str, rest: Vec<Line>| push_layer(LAYER, chunks(4), told(least).into_iter().chain(rest)).well();
    let ends = || line("PUT /u?digest=D", status(201));
    let two = |first: &str, second: &str| {
        vec![line(first, session(202, "/u", "")), line(second, session(202, "/u", "")), ends()]
    };
    with("6", two("PATCH /u 0-5 012345", "PATCH /u 6-9 6789"));
    for huge in ["9223372036854775807", "18446744073709551615"] {
        with(huge, vec![line("PATCH /u 0-9 0123456789", session(202, "/u", "")), ends()]);
    }
    for nonsense in ["x", "-1", "99999999999999999999999"] {
        let chunks = ["PATCH /u 0-3 0123", "PATCH /u 4-7 4567", "PATCH /u 8-9 89"];
        with(nonsense, chunks.into_iter().map(|asks| line(asks, session(202, "/u", ""))).chain([ends()]).collect());
    }
    // It may ask for more later on.
    let more = reply(202, &[("location", "/u"), ("oci-chunk-min-length", "6")], "");
    with("1", vec![line("PATCH /u 0-3 0123", more), line("PATCH /u 4-9 456789", session(202, "/u", "")), ends()]);
}

#[test]
fn c70_sessions_that_are_gone() {
    let gone = || error(404, "BLOB_UPLOAD_INVALID");
    let chunk = "PATCH /u 0-3 0123";
    by_fours([
        line(chunk, session(202, "/u", "0-3")),
        line("PATCH /u 4-7 4567", gone()),
        line(OPEN, session(202, "/u", "")),
        line(chunk, gone()),
        line(OPEN, session(202, "/u", "")),
        line(chunk, gone()),
        line("DELETE /u", status(404)),
    ])
    .with("starting over did not help");
}

#[test]
fn c71_a_token_that_expires_in_the_middle() {
    let bearer = || reply(401, &[("www-authenticate", r#"Bearer realm="https://t/token",service="s""#)], "");
    let token = || reply(200, &[], r#"{"token":"A"}"#);
    let asks = "GET https://t/token?service=s&scope=repository:n:pull,push";
    let asks = [asks.to_owned(), asks.replace("pull,push", "push,pull")];
    let mut session_of = Session::new(chunks(4), 1);
    let image = SampleImage::new(&["r.example/n:v1"], &[LAYER]);
    let disk = MemoryDisk::with("app.tar", make::docker_save_oci(&[image]));
    let mut expired = false;
    let mut tokens = 0;
    let mut script = Script::new(|request: &Request| match (request.host(), request.method.as_str()) {
        ("t", _) => {
            assert!(asks.contains(&request.line()), "{}", request.line());
            tokens += 1;
            token()
        }
        (_, _) if request.header("authorization").is_empty() => bearer(),
        (_, "HEAD") => status(404),
        (_, "POST") => session(202, "/u", ""),
        (_, "PATCH") if request.header("content-range") == "4-7" && !std::mem::replace(&mut expired, true) => bearer(),
        (_, "PATCH") => session(202, "/u", ""),
        _ => status(201),
    })
    .with_disk(disk);
    script.run(&mut session_of, push()).unwrap();
    let chunks: Vec<&str> = script
        .requests()
        .iter()
        .filter(|request| request.method == "PATCH" && request.body.len() <= 4)
        .map(|request| std::str::from_utf8(&request.body).unwrap())
        .filter(|body| LAYER.starts_with(b"0123") && "0123456789".contains(body))
        .collect();
    assert_eq!(chunks, ["0123", "4567", "4567", "89"], "the same chunk once more, and no question between");
    drop(script);
    assert!(tokens >= 2, "it was fetched anew");
}

// ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn c72_c73_no_answer_to_the_last_request() {
    let timeout = || lost(FailureKind::Timeout(Phase::Head));
    let there = || reply(200, &[("content-length", "10")], "");
    let lost_again = || [line(ALL, timeout()), line(ASK, status(404))];
    // It had gone through.
    whole([line(ALL, timeout()), line(ASK, there())]).well();
    // It had not: how far did it come?
    let [put, look] = lost_again();
    whole([put, look, line("GET /u", session(204, "/v", "0-3")), line("PUT /v?digest=D 456789", status(201))]).well();
    let [put, look] = lost_again();
    whole([put, look, line("GET /u", status(404)), line(OPEN, session(202, "/u", "")), line(ALL, status(201))]).well();
    // It had gone through after all, when it was asked for once more (GHCR).
    let [put, look] = lost_again();
    let [again, found] = [line(ALL, error(404, "BLOB_UPLOAD_UNKNOWN")), line(ASK, there())];
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
        whole([line(ALL, error(400, code)), line(OPEN, session(202, "/u", "")), line(ALL, status(201))]).well();
        let why = whole([
            line(ALL, error(400, code)),
            line(OPEN, session(202, "/u", "")),
            line(ALL, error(400, code)),
            line("DELETE /u", status(204)),
        ])
        .with(code);
        assert_eq!(why.status().unwrap(), 400);
    }
    // Another 400 is about the request, which will be the same.
    whole([line(ALL, error(400, "NAME_INVALID")), line("DELETE /u", status(204))]).with("NAME_INVALID");
}

#[test]
fn c75_every_way_of_saying_that_it_is_done() {
    for ok in [200, 201, 204] {
        whole([line(ALL, status(ok))]).well();
    }
    // Not yet.
    whole([line(ALL, status(202)), line(ASK, reply(200, &[("content-length", "10")], ""))]).well();
    whole([line(ALL, status(202)), line(ASK, status(404)), line(OPEN, session(202, "/u", "")), line(ALL, status(201))])
        .well();
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
            &mut Session::new(chunks(4), 1),
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
