//! Replies that are odd, but right; and what is no HTTP at all.

use super::*;

fn replies_without_a_body_that_announce_one(runtime: Runtime) {
    // Blobs that are there: HEAD says how large they are.
    let sample = Sample::new(&[&noise(1 << 20), b"small"]);
    let server = serve(|_| Answer::registry());
    let mut config = quick();
    config.requests_per_registry = NonZeroUsize::MIN;
    for layer in sample.image.layers.iter().cloned().chain([sample.image.config()]) {
        server.registry().insert_blob(REPOSITORY, layer);
    }
    let ran = sample.push(runtime, config, &server);
    assert_eq!(ran.result.as_ref().unwrap().totals.existed, 3);
    assert_eq!(server.accepted(), 1, "the connection is good for another request");

    for status in ["204 No Content", "304 Not Modified"] {
        let bare = format!("HTTP/1.1 {status}\r\nContent-Length: 1234\r\n\r\n");
        let server = serve(move |asked| if asked.number == 0 { Answer::raw(&bare) } else { Answer::raw(pong()) });
        let ran = pings(runtime, once(), &server, 2);
        let results = ran.result.unwrap();
        assert_eq!(results[0].as_ref().unwrap_err().status().unwrap().to_string(), status);
        assert!(is_pong(&results[1]), "{status}: {results:?}");
        assert!(ran.took < secs(2), "{status}: it took {:?}", ran.took);
    }
}

fn c94_interim_replies_are_passed_over(runtime: Runtime) {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let server = serve(move |_| Answer::raw(interim.to_owned() + &pong()));
    let ran = pings(runtime, once(), &server, 3);
    assert!(ran.result.as_ref().unwrap().iter().all(is_pong), "{:?}", ran.result);
    // So many that there is no sense in them may be passed over as well, or be an error; but they end.
    let many = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(17);
    let server = serve(move |_| Answer::raw(many.clone() + &pong()));
    let ran = run(runtime, once(), ping(&server));
    assert!(is_pong(&ran.result) || kind_of(&ran.result) == FailureKind::TooLarge, "{:?}", ran.result);
    // In the middle of an upload, too.
    let sample = Sample::big();
    let server = serve(move |_| Answer::registry().first(interim));
    let ran = sample.push(runtime, once(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
}

fn old_and_endless_replies(runtime: Runtime) {
    for told in [
        format!("HTTP/1.0 200 OK\r\n{VERSION}\r\n\r\n{{}}"),
        format!("HTTP/1.0 200 OK\r\n{VERSION}\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nConnection: close\r\n\r\n{{}}"),
    ] {
        let server = serve(move |_| Answer::raw(&told).then(Then::Close));
        let ran = pings(runtime, once(), &server, 2);
        assert!(ran.result.as_ref().unwrap().iter().all(is_pong), "{:?}", ran.result);
    }
    // What such a reply says is heard.
    let body = r#"{"errors":[{"code":"DENIED","message":"until the end"}]}"#;
    let server = serve(move |_| Answer::raw(format!("HTTP/1.0 404 Nope\r\n\r\n{body}")).then(Then::Close));
    let why = run(runtime, once(), ping(&server)).result.unwrap_err();
    assert!(why.to_string().contains("until the end"), "{why}");
}

fn a_location_of_eight_kilobytes(runtime: Runtime) {
    let sample = Sample::small();
    let server = serve(|asked| match asked.is("POST", "/blobs/uploads/") {
        true => Answer::edited(|reply| {
            let location = reply.headers()["location"].to_str().unwrap();
            let long = format!("{location}&pad={}", "x".repeat(8 << 10));
            reply.headers_mut().insert("location", long.parse().unwrap());
        }),
        false => Answer::registry(),
    });
    let ran = sample.push(runtime, once(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    let longest = server.log().iter().map(|asked| asked.head.uri.to_string().len()).max();
    assert!(longest > Some(8 << 10), "it comes back whole");
}

fn many_headers(runtime: Runtime) {
    let with = |headers: usize| {
        let lines: Vec<String> = (0..headers).map(|n| format!("X-Number-{n}: {n}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).chain([VERSION]).collect();
        reply(OK, &lines, "{}")
    };
    let few = with(90);
    let server = serve(move |_| Answer::raw(&few));
    let ran = run(runtime, once(), ping(&server));
    assert!(is_pong(&ran.result), "{:?}", ran.result);
    let many = with(300);
    let server = serve(move |_| Answer::raw(&many));
    let ran = run(runtime, once(), ping(&server));
    assert!(is_pong(&ran.result) || kind_of(&ran.result) == FailureKind::TooLarge, "{:?}", ran.result);
    assert!(ran.took < secs(2), "it took {:?}", ran.took);
}

fn headers_beyond_ascii(runtime: Runtime) {
    let mut told = b"HTTP/1.1 200 OK\r\nX-Latin: K\xe4se\r\nX-Utf: ".to_vec();
    told.extend_from_slice(format!("Käse\r\n{VERSION}\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes());
    let server = serve(move |_| Answer::raw(&told));
    let ran = pings(runtime, once(), &server, 2);
    assert!(ran.result.as_ref().unwrap().iter().all(is_pong), "{:?}", ran.result);
}

fn what_is_no_http(runtime: Runtime) {
    for told in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 banana\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"]
    {
        let server = serve(move |_| Answer::raw(told).then(Then::Close));
        let ran = run(runtime, once(), ping(&server));
        assert_eq!(kind_of(&ran.result), FailureKind::Protocol, "{told:?}: {:?}", ran.result);
    }
}

fn content_encodings_are_left_alone(runtime: Runtime) {
    // If anybody undid the coding, there would be nothing to be read: it is not really there.
    let body = r#"{"errors":[{"code":"DENIED","message":"as it is"}]}"#;
    for coding in ["gzip", "deflate", "br"] {
        let header = format!("Content-Encoding: {coding}");
        let server = serve(move |_| Answer::raw(reply("404 Not Found", &[&header], body)));
        let why = run(runtime, once(), ping(&server)).result.unwrap_err();
        assert!(why.to_string().contains("as it is"), "{coding}: {why}");
        assert_eq!(server.log()[0].header("accept-encoding"), "identity");
    }
}

on_all_runtimes!(
    replies_without_a_body_that_announce_one,
    c94_interim_replies_are_passed_over,
    old_and_endless_replies,
    a_location_of_eight_kilobytes,
    many_headers,
    headers_beyond_ascii,
    what_is_no_http,
    content_encodings_are_left_alone,
);
