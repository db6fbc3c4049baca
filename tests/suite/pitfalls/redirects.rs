//! Redirects are followed by the core, with what is allowed to go along.

use super::*;

fn redirects_are_the_cores_business(runtime: Runtime) {
    let elsewhere = Arc::new(serve(|_| Answer::raw(pong())));
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let to = format!("Location: http://{}/v2/", elsewhere.host());
        let server = serve(move |_| Answer::raw(reply(status, &[&to], "")));
        let mut config = once();
        config.limits.redirects = 0;
        let before = elsewhere.log().len();
        let why = run(runtime, config, ping(&server)).result.unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{why:?}");
        assert_eq!(elsewhere.log().len(), before, "{status}: nobody but the core may follow");
        let ran = run(runtime, once(), ping(&server));
        assert!(is_pong(&ran.result), "{status}: {:?}", ran.result);
    }
    // An upload is never redirected to another origin, whoever would follow.
    let sample = Sample::small();
    let to = format!("Location: http://{}/v2/upload", elsewhere.host());
    let server = serve(move |asked| match is_blob_put(asked) {
        true => Answer::raw(reply("307 Temporary Redirect", &[&to], "")),
        false => Answer::registry(),
    });
    let ran = sample.push(runtime, once(), &server);
    assert!(matches!(ran.result, Err(Error::Protocol { .. })), "{:?}", ran.result);
    assert_eq!(elsewhere.count("PUT", ""), 0);
}

fn credentials_stay_at_home(runtime: Runtime) {
    let elsewhere = serve(|_| Answer::raw(reply("404 Not Found", &[], "")));
    let to = format!("http://{}", elsewhere.host());
    let server = serve(move |asked| {
        if asked.header("authorization").is_empty() {
            return Answer::raw(reply("401 Unauthorized", &["WWW-Authenticate: Basic realm=\"here\""], ""));
        }
        match asked.is("HEAD", "/blobs/") {
            true => Answer::raw(reply("307 Temporary Redirect", &[&format!("Location: {to}{}", asked.head.uri)], "")),
            false => Answer::registry(),
        }
    });
    let sample = Sample::small();
    let mut config = once();
    config.log_in(&server.host().parse().unwrap(), Credential::password("user", "secret"));
    let ran = sample.push(runtime, config, &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    assert!(elsewhere.count("HEAD", "/blobs/") >= 2, "the redirect was followed");
    for asked in elsewhere.log() {
        assert_eq!(asked.header("authorization"), "", "{asked:?}");
        assert_eq!(asked.header("cookie"), "");
        assert_eq!(asked.header("host"), elsewhere.host());
    }
}

/// Storage behind a URL that is signed for `GET` only: whether a blob is there can be told all the same, and what is known of
/// one blob is not found out again for the next.
fn c54_storage_that_takes_no_head(runtime: Runtime) {
    let sample = Sample::new(&[b"one", b"another", b""]);
    let storage = serve(|asked| match (asked.head.method.as_str(), asked.header("range")) {
        ("GET", "bytes=0-0") if asked.head.uri.path().ends_with(Digest::of(b"").encoded()) => {
            Answer::raw(reply("416 Range Not Satisfiable", &["Content-Range: bytes */0"], ""))
        }
        ("GET", "bytes=0-0") => {
            let size = asked.head.uri.query().unwrap();
            Answer::raw(reply("206 Partial Content", &[&format!("Content-Range: bytes 0-0/{size}")], "?"))
        }
        _ => Answer::raw(reply("403 Forbidden", &[], "<Error><Code>SignatureDoesNotMatch</Code></Error>")),
    });
    let to = storage.host();
    let sizes: std::collections::BTreeMap<String, usize> = sample
        .image
        .layers
        .iter()
        .chain([&sample.image.config()])
        .map(|content| (Digest::of(content).to_string(), content.len()))
        .collect();
    let server = serve(move |asked| {
        let blob = asked.head.uri.path().strip_prefix(&format!("/v2/{REPOSITORY}/blobs/")).unwrap_or_default();
        let Some(size) = sizes.get(blob).filter(|_| blob != Digest::of(b"another").as_str()) else {
            return Answer::registry();
        };
        // A digest as a path would be for the storage to refuse.
        let target = format!("Location: http://{to}/{}?{size}", blob.replace(':', "/"));
        Answer::raw(reply("307 Temporary Redirect", &[&target], ""))
    });
    for content in [sample.image.layers[0].clone(), sample.image.layers[2].clone(), sample.image.config()] {
        server.registry().insert_blob(REPOSITORY, content);
    }
    let mut config = once();
    config.transfers = NonZeroUsize::MIN;
    let ran = sample.push(runtime, config, &server);
    let totals = ran.result.unwrap().totals;
    assert_eq!((totals.existed, totals.sent), (3, 1));
    sample.check(&server);
    assert_eq!(storage.count("HEAD", "/"), 1, "it was tried once");
    assert_eq!(storage.count("GET", "/"), 3);
}

on_all_runtimes!(redirects_are_the_cores_business, credentials_stay_at_home, c54_storage_that_takes_no_head,);
