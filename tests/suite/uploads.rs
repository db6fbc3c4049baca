//! What a registry may answer while a blob is uploaded: PROTOCOL C56 to C71, each dialogue written out.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::Resume as _;
use registry_proto::spec::Digest;
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Error, Event, Session};
use registry_tests::dialogue::{
    LAYER, Line, by_fours, from_u, hold, in_chunks, line, opened, push_layer, refusal, session, status,
};
use registry_tests::hostile::{push, reply};

/// The whole of it in one request.
const ALL: &str = "PUT /u?digest=D 0123456789";
const ASK: &str = "HEAD /v2/n/blobs/D";
const OPEN: &str = "POST /v2/n/blobs/uploads/";

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
    for config in [Config::default(), in_chunks(4)] {
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
    push_layer(b"ab", in_chunks(1), one_by_one).well();
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
    let mut config = in_chunks(4);
    config.retries = 2;
    let mut dialogue = from_u([line("PATCH /u 0-3 0123", session(202, "/u", "0-3"))]);
    dialogue.push(line("PATCH /u 4-7 4567", session(416, "", "0-1")));
    // (It doesn't want these, either: is it certain?)
    dialogue.push(line("PATCH /u 2-5 2345", session(416, "", "0-1")));
    dialogue.push(line("GET /u", session(204, "/u", "0-1")));
    dialogue.push(line("PATCH /u 2-5 2345", session(416, "", "0-1")));
    dialogue.push(line("DELETE /u", status(204)));
    push_layer(LAYER, config, dialogue).with("it wants other bytes first");
    // It says one too many (Quay).
    by_fours([
        line("PATCH /u 0-3 0123", session(202, "/u", "0-4")),
        line("PATCH /u 4-7 4567", session(416, "/u", "0-4")),
        line("PATCH /u 5-8 5678", session(416, "/u", "0-4")),
        line("GET /u", session(204, "/u", "0-4")),
        line("PATCH /u 4-7 4567", session(202, "/u", "0-8")),
        line("PATCH /u 8-9 89", session(202, "/u", "0-10")),
        line("PUT /u?digest=D", status(201)),
    ])
    .well();
}

/// That its end is refused says nothing about how large a chunk may be.
#[test]
fn the_end_is_not_too_large() {
    let chunks = || {
        vec![
            line("PATCH /u 0-3 0123", session(202, "/u", "0-3")),
            line("PATCH /u 4-7 4567", session(202, "/u", "0-7")),
            line("PATCH /u 8-9 89", session(202, "/u", "0-9")),
        ]
    };
    let mut lost = chunks();
    lost.extend([
        line("PUT /u?digest=D", status(416)),
        line("GET /u", session(204, "/u", "0-1")),
        line("PATCH /u 2-5 2345", session(202, "/u", "0-5")),
        line("PATCH /u 6-9 6789", session(202, "/u", "0-9")),
        line("PUT /u?digest=D", status(201)),
    ]);
    by_fours(lost).well();
    let mut refused = chunks();
    refused.extend([line("PUT /u?digest=D", status(413)), line("DELETE /u", status(204))]);
    let why = by_fours(refused).with("413");
    assert!(!why.to_string().contains("smallest chunk"), "{why}");
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
    // They were not: it wants others.
    by_fours([
        line("PATCH /u 0-3 0123", session(202, "/u", "0-3")),
        line("PATCH /u 4-7 4567", status(416)),
        line("GET /u", session(204, "/u", "0-1")),
        line("PATCH /u 2-5 2345", session(202, "/u", "0-5")),
        line("PATCH /u 6-9 6789", session(202, "/u", "0-9")),
        line("PUT /u?digest=D", status(201)),
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
        push_layer(LAYER, in_chunks(8), dialogue).well();
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
    let mut config = in_chunks(4);
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
    let with =
        |least: &str, rest: Vec<Line>| push_layer(LAYER, in_chunks(4), told(least).into_iter().chain(rest)).well();
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

/// A session that is gone on with later is kept with what was said of its chunks, also where its URL stays the same.
#[test]
fn a_session_is_kept_with_its_hints() {
    let image = SampleImage::new(&["r.example/n:v1"], &[LAYER]);
    let known = format!("/v2/n/blobs/{}", Digest::of(&image.config()));
    let disk = MemoryDisk::with("app.tar", make::docker_save_oci(&[image]));
    let smaller = [("location", "/u"), ("range", "0-3"), ("oci-chunk-max-length", "3")];
    let dialogue = from_u([
        line("PATCH /u 0-3 0123", reply(202, &smaller, "")),
        line("PATCH /u 4-6 456", session(202, "/u", "0-6")),
        line("PATCH /u 7-9 789", session(202, "/u", "0-9")),
        line("PUT /u?digest=D", status(201)),
    ]);
    let session = &mut Session::new(in_chunks(4), 1);
    let ended = hold(session, push().resume(None), disk, &Digest::of(LAYER), dialogue, |request| {
        let path = request.url.path();
        match request.method.as_str() {
            "HEAD" if path == known => Some(status(200)),
            "HEAD" if path.contains("/manifests/") => Some(status(404)),
            "PUT" if path.contains("/manifests/") => Some(status(201)),
            _ => None,
        }
    });
    let kept = |event: &Event| match event {
        Event::Snapshot(snapshot) => Some(snapshot.to_secret().expose().to_owned()),
        _ => None,
    };
    let kept: Vec<String> = ended.events.iter().filter_map(kept).collect();
    assert!(ended.result.is_ok());
    let has = |what: &str| kept.iter().filter(|text| text.contains(what)).count();
    assert_eq!((has(r#""chunk_min":0}"#), has(r#""chunk_max":3}"#)), (1, 1), "{kept:#?}");
}

#[test]
fn c70_sessions_that_are_gone() {
    let gone = || refusal(404, "BLOB_UPLOAD_INVALID");
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
    let mut session_of = Session::new(in_chunks(4), 1);
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
        (_, "PATCH") if request.body == "4567" && !std::mem::replace(&mut expired, true) => bearer(),
        (_, "PATCH") => session(202, "/u", ""),
        _ => status(201),
    })
    .with_disk(disk);
    script.run(&mut session_of, push()).unwrap();
    let chunks: Vec<&str> = script
        .requests()
        .iter()
        .filter(|request| request.method == "PATCH")
        .map(|request| std::str::from_utf8(&request.body).unwrap())
        .filter(|body| "0123456789".contains(body))
        .collect();
    assert_eq!(chunks, ["0123", "4567", "4567", "89"], "the same chunk once more, and no question between");
    drop(script);
    assert!(tokens >= 2, "it was fetched anew");
}
