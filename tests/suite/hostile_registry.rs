//! A registry as the attacker (PROTOCOL §6, actor R): what it says, how it says it, and where it would have us go.
//!
//! Each test is named by the attacks that it is about; `registry-proto/THREATS.md` lists them all.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::time::Duration;

use bytes::Bytes;
use registry_proto::archive::make;
use registry_proto::flow::{
    Copy, CopyOptions, FetchBlob, FetchConfig, Inspect, ListCatalog, ListReferrers, ListTags, Platforms, Pull,
    PullOptions, PutManifest,
};
use registry_proto::job::FailureKind;
use registry_proto::spec::{Descriptor, Digest, MediaType, Platform};
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Error, Flow, Session};
use registry_tests::hostile::{
    Answer, INDEX, MANIFEST, anonymous, by, check_text, disk, fetch, layer, manifest_with, push, reply, serve, texts,
    user,
};

// ── where it would have us go ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a08_a_list_stays_with_its_registry() {
    for elsewhere in [
        "https://evil.example/v2/n/tags/list?last=b",
        "//evil.example/x",
        "http://r.example:8080/x",
        "file:///etc/passwd",
    ] {
        let link = format!("<{elsewhere}>; rel=\"next\"");
        let page = reply(200, &[("link", &link)], r#"{"name":"n","tags":["a"],"repositories":["a"]}"#);
        let subject = Digest::of(b"subject");
        let index = reply(200, &[("link", &link), ("content-type", INDEX)], r#"{"schemaVersion":2,"manifests":[]}"#);
        let answer = |request: &Request| match request.url.path().contains("referrers") {
            true => index.clone(),
            false => page.clone(),
        };
        let mut tags = Script::new(answer);
        let why = tags.run(&mut user(), ListTags::new("r.example/n".parse().unwrap())).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{elsewhere}: {why}");
        assert_eq!(tags.lines().len(), 1, "{elsewhere}");
        let mut catalog = Script::new(answer);
        let why = catalog.run(&mut user(), ListCatalog::new("r.example".parse().unwrap())).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{elsewhere}: {why}");
        assert_eq!(catalog.lines().len(), 1, "{elsewhere}");
        let mut referrers = Script::new(answer);
        let of = format!("r.example/n@{subject}").parse().unwrap();
        let _ = referrers.run(&mut user(), ListReferrers::new(&of));
        assert!(referrers.requests().iter().all(|request| request.host() == "r.example"), "{elsewhere}");
    }
}

#[test]
fn a09_lists_end() {
    // One entry a page, always another and always a next page; the same page under other names; round in a circle.
    type Page = fn(usize) -> (String, String);
    let pages: [Page; 3] = [
        |n| (format!("t{n}"), format!("last=t{n}")),
        |n| ("same".to_owned(), format!("last={n}")),
        |n| (format!("t{}", n % 2), format!("last=t{}", n % 2)),
    ];
    for page in pages {
        let mut session = anonymous();
        let mut config = session.config().clone();
        config.limits.pages = 50;
        session = Session::new(config, 1);
        let mut script = Script::new(|request: &Request| {
            let (tag, query) = page(request.number);
            let link = format!("</v2/n/tags/list?{query}>; rel=\"next\"");
            reply(200, &[("link", &link)], format!(r#"{{"name":"n","tags":["{tag}"]}}"#))
        });
        let why = script.run(&mut session, ListTags::new("r.example/n".parse().unwrap())).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{why}");
        assert!(script.lines().len() <= 50, "{}", script.lines().len());
    }
}

#[test]
fn a11_layers_are_not_fetched_from_wherever_a_manifest_says() {
    let elsewhere = r#","urls":["https://evil.example/layer","http://169.254.169.254/latest/meta-data"]"#;
    let digest = Digest::of(b"layer");
    for kind in [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ] {
        let text = manifest_with(
            &layer(digest.as_str(), "5", elsewhere).replace("application/vnd.oci.image.layer.v1.tar", kind),
        );
        for (n, status) in [(0, 404), (1, 401)] {
            let mut script = Script::new(|request: &Request| match request.url.path() {
                path if path.contains("/manifests/") => serve(MANIFEST, &text),
                path if path.contains(Digest::of(b"{}").encoded()) => serve("", "{}"),
                _ => reply(status, &[("www-authenticate", "Basic realm=\"here\"")], ""),
            });
            let mut options = PullOptions::default();
            options.platforms = Platforms::All;
            let _ =
                script.run(&mut user(), Pull::new(["r.example/n:v1".parse().unwrap()], format!("/{n}.tar"), options));
            assert!(script.requests().iter().all(|request| request.host() == "r.example"), "{:?}", script.lines());
        }
    }
}

// ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// A flow, run against these answers: why it failed, if it did, and after how many requests.
type Fails = fn(&mut dyn FnMut(&Request) -> Answer) -> (Option<Error>, usize);

/// The flows that keep a reply in memory, each with what it is a reply to.
fn in_memory() -> Vec<(&'static str, Fails)> {
    fn run<F: Flow>(answer: &mut dyn FnMut(&Request) -> Answer, flow: F) -> (Option<Error>, usize) {
        let mut script = Script::new(|request: &Request| answer(request));
        let failed = script.run(&mut anonymous(), flow).err();
        (failed, script.requests().len())
    }
    vec![
        ("manifest", |answer| run(answer, fetch())),
        ("inspect", |answer| run(answer, Inspect::new("r.example/n:v1".parse().unwrap()))),
        ("tags", |answer| run(answer, ListTags::new("r.example/n".parse().unwrap()))),
        ("tags, kept", |answer| run(answer, ListTags::new("r.example/n".parse().unwrap()).collected())),
        ("catalog", |answer| run(answer, ListCatalog::new("r.example".parse().unwrap()))),
        ("blob", |answer| {
            let blob = Descriptor::new(MediaType::OCI_CONFIG, Digest::of(b"{}"), 2);
            run(answer, FetchBlob::new("r.example/n".parse().unwrap(), blob))
        }),
    ]
}

#[test]
fn a12_replies_that_are_too_large() {
    let (huge, deep) = (" ".repeat(20 << 20), "[".repeat(200_000));
    let nested = format!("{deep}{}", "]".repeat(200_000));
    let many = format!(r#"{{"name":"n","tags":[{}"a"],"repositories":[]}}"#, r#""a","#.repeat(2_000_000));
    let bombs = [huge.as_str(), &deep, &nested, &many];
    for (what, flow) in in_memory() {
        for (n, bomb) in bombs.iter().enumerate() {
            // (A blob that doesn't parse is nobody's business: it has the wrong digest.)
            let (why, requests) = flow(&mut |_| serve(MANIFEST, bomb));
            let why = why.unwrap_or_else(|| panic!("{what}, {n}: it was taken for good"));
            let text = why.to_string();
            check_text(&text);
            assert!(
                matches!(&why, Error::Transport { last, .. } if last.kind() == FailureKind::TooLarge)
                    || matches!(why, Error::Protocol { .. } | Error::Integrity { .. }),
                "{what}, {n}: {text}"
            );
            assert_eq!(requests, 1, "{what}, {n}: it does not help to ask again");
        }
        // What a refusal says is cut, and never an error of its own.
        let why = flow(&mut |_| reply(404, &[], "x".repeat(20 << 20))).0.unwrap();
        assert_eq!(why.status().unwrap(), 404, "{what}: {why}");
        check_text(&why.to_string());
        let errors = format!(r#"{{"errors":[{}{{}}]}}"#, r#"{"code":"A"},"#.repeat(5000));
        let why = flow(&mut |_| reply(404, &[], &errors)).0.unwrap();
        check_text(&why.to_string());
    }
}

/// A reply that would unpack to more than it is: everybody is asked for what is not packed, and nobody unpacks.
#[test]
fn a46_replies_in_a_coding() {
    let tags = format!(r#"{{"name":"n","tags":["a"],"repositories":["a"],"token":"A"{}}}"#, " ".repeat(60_000));
    let packed = make::gzip_stored(tags.as_bytes());
    for coding in ["gzip", "GZIP", "br", "deflate, gzip", "zstd"] {
        for (what, flow) in in_memory() {
            let mut asked_for = Vec::new();
            let (why, requests) = flow(&mut |request| {
                asked_for.push(request.header("accept-encoding").to_owned());
                reply(200, &[("content-encoding", coding), ("content-type", MANIFEST)], &packed)
            });
            let why = why.unwrap_or_else(|| panic!("{what}, {coding}: it was unpacked"));
            assert!(
                matches!(why, Error::Protocol { .. } | Error::Integrity { .. } | Error::Transport { .. }),
                "{what}: {why}"
            );
            assert_eq!(requests, 1, "{what}");
            assert_eq!(asked_for, ["identity"], "{what}");
            check_text(&why.to_string());
        }
    }
}

#[test]
fn a36_what_a_registry_lists_as_referrers_is_its_word() {
    // The list says so, the manifest does not: it is not copied as one.
    let mut source = Registry::new(Profile::distribution_3());
    source.insert_blob("n", Bytes::from_static(b"{}"));
    let subject = source.insert_manifest("n", Some("v1"), Bytes::from(manifest_with("")), MANIFEST).unwrap();
    let stranger = manifest_with("").replacen("\"layers\"", "\"annotations\":{\"a\":\"b\"},\"layers\"", 1);
    let stranger = source.insert_manifest("n", None, Bytes::from(stranger), MANIFEST).unwrap();
    let mut destination = Registry::new(Profile::distribution_3());
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","digest":"{stranger}","size":{}}}]}}"#,
        source.manifest("n", stranger.as_str()).unwrap().0.len()
    );
    let mut script = Script::new(|request: &Request| match request.host() {
        "d.example" => Ok(by(&mut destination, request)),
        _ if request.url.path().contains("/referrers/") => serve(INDEX, &list),
        _ => Ok(by(&mut source, request)),
    });
    let mut options = CopyOptions::default();
    options.referrers = true;
    let flow = Copy::new("r.example/n:v1".parse().unwrap(), "d.example/n:v1".parse().unwrap(), options);
    script.run(&mut anonymous(), flow).unwrap();
    assert!(texts(script.events()).iter().any(|text| text.contains("says nothing about it")), "{:?}", script.events());
    drop(script);
    assert!(destination.manifest("n", subject.as_str()).is_some());
    assert!(destination.manifest("n", stranger.as_str()).is_none());
}

/// The list under a tag is anybody's to write. What is there is kept, as it is; what is no list is left alone.
#[test]
fn a37_a_list_that_others_write_into() {
    let subject = manifest_with("");
    let other = manifest_with("").replacen("\"layers\"", "\"annotations\":{\"by\":\"somebody\"},\"layers\"", 1);
    let put = |under_the_tag: &str, kind: &str| {
        let mut registry = Registry::new(Profile::distribution_2_8());
        registry.insert_blob("n", Bytes::from_static(b"{}"));
        registry.insert_manifest("n", None, Bytes::from(other.clone()), MANIFEST).unwrap();
        let digest = registry.insert_manifest("n", Some("v1"), Bytes::from(subject.clone()), MANIFEST).unwrap();
        let tag = digest.as_str().replace(':', "-");
        let mut script = Script::new(|request: &Request| {
            if request.method == "GET" && request.url.path().ends_with(&tag) {
                return serve(kind, under_the_tag);
            }
            Ok(by(&mut registry, request))
        });
        let named =
            format!(r#""subject":{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{}}},"layers""#, subject.len());
        let signature = subject.replacen("\"layers\"", &named, 1);
        let manifest = registry_proto::spec::Manifest::parse(Bytes::from(signature), Some(MANIFEST), None).unwrap();
        let flow = PutManifest::new(format!("r.example/n@{}", manifest.digest()).parse().unwrap(), manifest);
        let result = script.run(&mut anonymous(), flow).map(drop);
        let told = texts(script.events());
        let puts: Vec<(String, Bytes)> = script
            .requests()
            .iter()
            .filter(|request| request.method == "PUT" && request.url.path().ends_with(&tag))
            .map(|request| (request.header("if-match").to_owned(), request.body.clone()))
            .collect();
        (result, told, puts)
    };
    let strange = format!(
        r#"{{"mediaType":"application/x.nobody.knows","digest":"{}","size":7,"annotations":{{"a":"b"}},"data":"eA==","x":[1]}}"#,
        Digest::of(other.as_bytes())
    );
    let list =
        format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","annotations":{{"k":"v"}},"manifests":[{strange}]}}"#);
    let (result, _, puts) = put(&list, INDEX);
    result.unwrap();
    let (_, body) = puts.last().expect("the list is put again");
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&strange).unwrap();
    let listed = body["manifests"].as_array().unwrap();
    assert!(listed.len() == 2 && listed.contains(&kept), "{body}");
    assert_eq!(body["annotations"]["k"], "v");
    for (kind, other) in [(MANIFEST, subject.as_str()), ("text/html", "<html>"), (INDEX, "{}")] {
        let (result, told, puts) = put(other, kind);
        assert_eq!(puts.len(), 0, "{other}: it was replaced");
        assert!(result.is_err() || !told.is_empty(), "{other}: nobody was told");
    }
}

#[test]
fn a38_what_it_says_can_be_printed() {
    let odd = "\u{1b}]0;owned\u{7}\u{1b}[31m\u{202e}evil\u{0}\r\nInjected: line\u{9b}2J";
    let json = serde_json::Value::from(odd).to_string();
    let errors = format!(r#"{{"errors":[{{"code":{json},"message":{json},"detail":{json}}}]}}"#);
    let platform = format!(r#"{{"os":{json},"architecture":{json},"variant":{json}}}"#);
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","digest":"{}","size":5,"platform":{platform},"annotations":{{{json}:{json}}}}}]}}"#,
        Digest::of(b"x")
    );
    let image = manifest_with(&layer("sha256:bad", "1", "").replace("sha256:bad", "\\u001b[31m"));
    let kind = manifest_with("").replace(MANIFEST, "\\u001b[31m");
    let tags = format!(r#"{{"name":{json},"tags":[{json}],"repositories":[{json}]}}"#);
    let latin = [b"caf\xe9 \x1b[1m".as_slice(), b"\xc2\x9b2J"].concat();
    for (status, body) in [
        (404, errors.as_bytes()),
        (404, odd.as_bytes()),
        (403, errors.as_bytes()),
        (401, errors.as_bytes()),
        (500, errors.as_bytes()),
        (418, &latin),
        (200, index.as_bytes()),
        (200, image.as_bytes()),
        (200, kind.as_bytes()),
        (200, tags.as_bytes()),
        (200, odd.as_bytes()),
    ] {
        let answer = |_: &Request| {
            let mut reply = reply(status, &[("content-type", INDEX), ("retry-after", "0")], body)?;
            for (name, value) in [
                ("warning", b"299 - \"\xc2\x9b2J\t\xe2\x80\xaeevil\"".as_slice()),
                ("www-authenticate", b"Bearer realm=\"https://t.example/\xc2\x9b2J\",service=\"\xc2\x9b\""),
                ("content-range", b"bytes \t \xc2\x9b"),
                ("location", b"/\xc2\x9b2J"),
            ] {
                reply.headers_mut().append(name, http::HeaderValue::from_bytes(value).unwrap());
            }
            Ok(reply)
        };
        macro_rules! check {
            ($flow:expr) => {
                let mut script = Script::new(answer);
                let result = script.run(&mut user(), $flow);
                if let Err(why) = result {
                    check_text(&why.to_string());
                }
                texts(script.events()).iter().for_each(|text| check_text(text));
            };
        }
        check!(fetch());
        check!(ListTags::new("r.example/n".parse().unwrap()));
        check!(ListCatalog::new("r.example".parse().unwrap()));
        check!(Inspect::new("r.example/n:v1".parse().unwrap()));
        check!(FetchConfig::new("r.example/n:v1".parse().unwrap(), Platform::of_this_machine()));
        check!(Pull::new(["r.example/n:v1".parse().unwrap()], "/out.tar", PullOptions::default()));
        let mut script = Script::new(answer).with_disk(disk());
        if let Err(why) = script.run(&mut user(), push()) {
            check_text(&why.to_string());
        }
        texts(script.events()).iter().for_each(|text| check_text(text));
    }
}

#[test]
fn a32_pauses_are_limited_in_length_and_number() {
    for wait in ["999999999", "18446744073709551616", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        for status in [429, 503] {
            let mut script = Script::new(|_: &Request| {
                reply(status, &[("retry-after", wait), ("date", "Mon, 28 Feb 2028 23:59:59 GMT")], "")
            });
            let mut session = anonymous();
            let (limit, retries) = (session.config().retry_after_limit, session.config().retries);
            let why = script.run(&mut session, fetch()).unwrap_err();
            assert_eq!(why.status().unwrap(), status);
            assert_eq!(script.lines().len(), 1 + retries as usize, "{wait}");
            let most = limit * retries + Duration::from_secs(1);
            assert!(script.now().since(registry_proto::Time::ZERO) <= most, "{wait}: {:?}", script.now());
        }
    }
    for wait in ["-5", "0", "soon", "Thu, 01 Jan 1970 00:00:00 GMT"] {
        let mut script = Script::new(|_: &Request| reply(429, &[("retry-after", wait)], ""));
        script.run(&mut anonymous(), fetch()).unwrap_err();
        assert!(script.lines().len() <= 7, "{wait}: {:?}", script.lines().len());
    }
}
