//! A registry as the attacker (PROTOCOL §6, actor R): what it says, how it says it, and where it would have us go.
//!
//! Each test is named by the attacks that it is about; `registry-proto/THREATS.md` lists them all.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use registry_proto::flow::{
    Copy, CopyOptions, FetchBlob, FetchConfig, FetchManifest, Inspect, ListCatalog, ListReferrers, ListTags, Platforms,
    Pull, PullOptions, ReadBlob, Resolve,
};
use registry_proto::job::FailureKind;
use registry_proto::spec::{Descriptor, Digest, Manifest, MediaType, Platform};
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Error, Flow, Session};
use registry_tests::hostile::{Answer, by, check_text, disk, push, reply, serve, texts, user};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn anonymous() -> Session {
    Session::new(Config::default(), 1)
}

fn fetch() -> FetchManifest {
    FetchManifest::new(&"r.example/n:v1".parse().unwrap())
}

/// A manifest, as text, with whatever in place of its one layer.
fn manifest_with(layer: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"layers":[{layer}]}}"#,
        Digest::of(b"{}")
    )
}

fn layer(digest: &str, size: &str, more: &str) -> String {
    format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}{more}}}"#)
}

/// Fetches whatever is served as a manifest.
fn fetched(kind: &str, body: &str) -> Result<Manifest, Error> {
    Script::new(|_: &Request| serve(kind, body)).run(&mut anonymous(), fetch())
}

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

/// A flow, run against these answers: why it failed, and after how many requests.
type Fails = fn(&mut dyn FnMut(&Request) -> Answer) -> (Error, usize);

/// The flows that keep a reply in memory, each with what it is a reply to.
fn in_memory() -> Vec<(&'static str, Fails)> {
    fn run<F: Flow>(answer: &mut dyn FnMut(&Request) -> Answer, flow: F) -> (Error, usize) {
        let mut script = Script::new(|request: &Request| answer(request));
        let Err(why) = script.run(&mut anonymous(), flow) else { panic!("it was taken for good") };
        (why, script.requests().len())
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
        let (why, _) = flow(&mut |_| reply(404, &[], "x".repeat(20 << 20)));
        assert_eq!(why.status().unwrap(), 404, "{what}: {why}");
        check_text(&why.to_string());
        let (why, _) =
            flow(&mut |_| reply(404, &[], format!(r#"{{"errors":[{}{{}}]}}"#, r#"{"code":"A"},"#.repeat(5000))));
        check_text(&why.to_string());
    }
}

#[test]
fn a12_c42_a_manifest_of_many_little_things() {
    // Four megabytes that would be ten times as many once they are parsed.
    let urls = format!(r#","urls":[{}""]"#, r#""","#.repeat(1_000_000));
    let why = fetched(MANIFEST, &manifest_with(&layer(Digest::of(b"").as_str(), "0", &urls))).unwrap_err();
    assert!(why.to_string().contains("more values than any manifest has"), "{why}");
    let layers = vec![layer(Digest::of(b"").as_str(), "0", ""); 5000].join(",");
    fetched(MANIFEST, &manifest_with(&layers)).unwrap();
}

#[test]
fn a13_sizes_that_nobody_should_believe() {
    for size in ["-1", "1.5", "1e3", "\"5\"", "18446744073709551616", "null", "[]"] {
        let why = fetched(MANIFEST, &manifest_with(&layer(Digest::of(b"").as_str(), size, ""))).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{size}: {why}");
    }
    // Nothing is allocated by a number: neither in memory nor, as far as it makes no sense, on a disk.
    for size in ["18446744073709551615", "9223372036854775808", "9000000000000000000"] {
        let text = manifest_with(&layer(Digest::of(b"").as_str(), size, ""))
            .replace("\"size\":2}", &format!("\"size\":{size}}}"));
        let mut script = Script::new(|_: &Request| serve(MANIFEST, &text));
        let flow = FetchConfig::new("r.example/n:v1".parse().unwrap(), Platform::of_this_machine());
        let why = script.run(&mut anonymous(), flow).unwrap_err();
        assert!(why.to_string().contains("Limits::config"), "{why}");
        let mut config = Config::default();
        config.piece = NonZeroU64::MAX;
        let mut script = Script::new(|request: &Request| match request.method.as_str() {
            "HEAD" => reply(200, &[("content-length", size)], ""),
            _ => serve("", "short"),
        });
        let flow = ReadBlob::new("r.example/n".parse().unwrap(), Digest::of(b"other"));
        assert!(script.run(&mut Session::new(config, 1), flow).is_err());
    }
    // More or fewer bytes than were said.
    for size in ["1", "3"] {
        let text = manifest_with("").replace("\"size\":2}", &format!("\"size\":{size}}}"));
        let mut script = Script::new(|request: &Request| match request.url.path().contains("/manifests/") {
            true => serve(MANIFEST, &text),
            false => serve("", "{}"),
        });
        let flow = FetchConfig::new("r.example/n:v1".parse().unwrap(), Platform::of_this_machine());
        assert!(matches!(script.run(&mut anonymous(), flow), Err(Error::Protocol { .. })), "{size}");
    }
}

#[test]
fn a14_a_page_is_no_blob() {
    let page = "<html><form>Log in to go on</form></html>";
    let text = manifest_with(&layer(Digest::of(b"layer").as_str(), "5", ""));
    let answer = |request: &Request| match request.url.path().contains("/manifests/") {
        true => serve(MANIFEST, &text),
        false => reply(200, &[("content-type", "text/html")], page),
    };
    let mut script = Script::new(answer);
    let mut options = PullOptions::default();
    options.platforms = Platforms::All;
    let flow = Pull::new(["r.example/n:v1".parse().unwrap()], "/out.tar", options);
    let why = script.run(&mut anonymous(), flow).unwrap_err();
    assert!(matches!(why, Error::Protocol { .. } | Error::Integrity { .. }), "{why}");

    let mut destination = Registry::new(Profile::distribution_3());
    let mut script = Script::new(|request: &Request| match request.host() {
        "d.example" => Ok(by(&mut destination, request)),
        _ => answer(request),
    });
    let flow = Copy::new("r.example/n:v1".parse().unwrap(), "d.example/n:v1".parse().unwrap(), CopyOptions::default());
    let why = script.run(&mut anonymous(), flow).unwrap_err();
    drop(script);
    assert!(matches!(why, Error::Protocol { .. } | Error::Integrity { .. }), "{why}");
    assert!(destination.tags("n").is_empty());
    assert_eq!(destination.ledger().mismatches, []);
}

#[test]
fn a15_a_header_does_not_say_what_a_manifest_is() {
    let text = manifest_with("");
    let other = Digest::of(b"other");
    // By tag: what came is not what was said.
    let claims = [("content-type", MANIFEST), ("docker-content-digest", other.as_str())];
    let why = Script::new(|_: &Request| reply(200, &claims, &text)).run(&mut anonymous(), fetch()).unwrap_err();
    assert!(matches!(why, Error::Integrity { .. }), "{why}");
    // By digest: what was asked for counts.
    let by_digest = FetchManifest::new(&format!("r.example/n@{}", Digest::of(text.as_bytes())).parse().unwrap());
    let manifest = Script::new(|_: &Request| reply(200, &claims, &text)).run(&mut anonymous(), by_digest).unwrap();
    assert_eq!(*manifest.digest(), Digest::of(text.as_bytes()));
    let by_other = FetchManifest::new(&format!("r.example/n@{other}").parse().unwrap());
    let why = Script::new(|_: &Request| reply(200, &claims, &text)).run(&mut anonymous(), by_other).unwrap_err();
    assert!(matches!(why, Error::Integrity { .. }), "{why}");
    // A HEAD's word is a HEAD's word: for a digest that was asked for, another one is no answer.
    let mut script = Script::new(|request: &Request| match request.method.as_str() {
        "HEAD" => reply(
            200,
            &[("content-type", INDEX), ("docker-content-digest", other.as_str()), ("content-length", "9")],
            "",
        ),
        _ => reply(200, &claims, &text),
    });
    let asked: registry_proto::spec::Reference =
        format!("r.example/n@{}", Digest::of(text.as_bytes())).parse().unwrap();
    let found = script.run(&mut anonymous(), Resolve::new(asked)).unwrap();
    assert_eq!(found.digest, Digest::of(text.as_bytes()));
}

#[test]
fn a16_digests_that_are_paths_or_nothing() {
    let hex = "a".repeat(64);
    for digest in [
        "sha256:../../../etc/passwd",
        "../../x:abc",
        "sha256:..",
        "sha256:",
        &format!("sha256:{}", &hex[1..]),
        &format!("sha256:{hex}/../x"),
        &format!("SHA256:{hex}"),
        &format!("sha256:{hex}?x=y"),
        &format!("sha256:{hex}\\r\\nX-Evil: 1"),
    ] {
        let why = fetched(MANIFEST, &manifest_with(&layer(digest, "5", ""))).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{digest}: {why}");
        check_text(&why.to_string());
    }
    // An algorithm that nobody knows verifies nothing: no use is made of what it names.
    for digest in ["md5:abcdef", "sha256+b64:abcdef", "none:x"] {
        let text = manifest_with(&layer(digest, "5", ""));
        let mut script = Script::new(|request: &Request| match request.url.path().contains("/manifests/") {
            true => serve(MANIFEST, &text),
            false if request.url.path().contains(Digest::of(b"{}").encoded()) => serve("", "{}"),
            false => serve("", "hello"),
        });
        let mut options = PullOptions::default();
        options.platforms = Platforms::All;
        let flow = Pull::new(["r.example/n:v1".parse().unwrap()], "/out.tar", options);
        let why = script.run(&mut anonymous(), flow).unwrap_err();
        assert!(why.to_string().contains(digest), "{why}");
        let by_it = FetchManifest::new(&format!("r.example/n@{digest}").parse().unwrap());
        let why =
            Script::new(|_: &Request| serve(MANIFEST, manifest_with(""))).run(&mut anonymous(), by_it).unwrap_err();
        assert!(why.to_string().contains("can't be verified"), "{why}");
    }
}

#[test]
fn a17_a18_documents_that_two_readers_read_differently() {
    let good = manifest_with("");
    fetched(MANIFEST, &good).unwrap();
    let first = |key: &str| good.replacen('{', &format!("{{{key},"), 1);
    let child = r#""manifests":[]"#;
    for (what, kind, body) in [
        ("an image that lists manifests", MANIFEST, first(child)),
        ("an index with layers", INDEX, first(child)),
        ("an image handed out as an index", INDEX, good.clone()),
        ("an index handed out as an image", MANIFEST, format!(r#"{{"schemaVersion":2,{child}}}"#)),
        ("a type that is another", "application/vnd.docker.distribution.manifest.v2+json", good.clone()),
        ("two lists of layers", MANIFEST, first(r#""layers":[]"#)),
        ("two configurations", MANIFEST, first(r#""config":{}"#)),
        ("a key twice, deep inside", MANIFEST, good.replacen("\"size\":2", "\"size\":2,\"size\":3", 1)),
        ("schema 1 beside schema 2", MANIFEST, first(r#""fsLayers":[]"#)),
        ("something after the end", MANIFEST, format!("{good}{{}}")),
    ] {
        let why = fetched(kind, &body).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{what}: {why}");
    }
    // `Layers` is not `layers`, whatever Go makes of it.
    let cased =
        good.replacen("\"layers\":[]", &format!("\"layers\":[],\"Layers\":[{}]", layer("sha256:x", "1", "")), 1);
    assert!(fetched(MANIFEST, &cased).unwrap().image().unwrap().layers.is_empty());
}

#[test]
fn a19_indexes_in_indexes() {
    // Each level is an index of the one below, ten deep.
    let mut documents = vec![(MANIFEST, manifest_with(""))];
    for _ in 0..10 {
        let (kind, text) = documents.last().unwrap();
        let child =
            format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, Digest::of(text.as_bytes()), text.len());
        // Named a hundred times, and fetched once.
        let children = vec![child; 100].join(",");
        documents.push((INDEX, format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{children}]}}"#)));
    }
    let pull = |depth: usize| {
        let top = documents[depth].clone();
        let mut script = Script::new(|request: &Request| {
            let path = request.url.path();
            let found = documents.iter().find(|(_, text)| path.contains(Digest::of(text.as_bytes()).encoded()));
            match found {
                _ if path.ends_with("/manifests/v1") => serve(top.0, &top.1),
                Some((kind, text)) => serve(kind, text),
                None => serve("", "{}"),
            }
        });
        let mut options = PullOptions::default();
        options.platforms = Platforms::All;
        let flow = Pull::new(["r.example/n:v1".parse().unwrap()], "/out.tar", options);
        let result = script.run(&mut anonymous(), flow).map(drop);
        (result, script.requests().len())
    };
    let (result, requests) = pull(3);
    result.unwrap();
    assert_eq!(requests, 5, "four manifests and a configuration");
    let (result, requests) = pull(10);
    let why = result.unwrap_err();
    assert!(why.to_string().contains("nested too deep"), "{why}");
    assert!(requests < 12, "{requests}");
}

#[test]
fn a19_an_index_of_more_than_is_taken() {
    let child = |n: usize| {
        format!(r#"{{"mediaType":"{MANIFEST}","digest":"{}","size":100}}"#, Digest::of(n.to_string().as_bytes()))
    };
    let pull = |children: String| {
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{children}]}}"#);
        let mut script = Script::new(|_: &Request| serve(INDEX, &text));
        let mut options = PullOptions::default();
        options.platforms = Platforms::All;
        let why = script.run(&mut anonymous(), Pull::new(["r.example/n:v1".parse().unwrap()], "/o.tar", options));
        (why.unwrap_err().to_string(), script.requests().len())
    };
    let (why, requests) = pull((0..12_000).map(child).collect::<Vec<_>>().join(","));
    assert!(why.contains("more than 10000 manifests") && requests == 1, "{why}");
    let (why, requests) = pull((0..20).map(child).collect::<Vec<_>>().join(",").replace("100}", "4000000}"));
    assert!(why.contains("67108864 bytes") && requests == 1, "{why}");
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
fn a48_only_what_is_for_a_platform_is_taken_for_it() {
    let entry = |os: &str, architecture: &str, variant: &str, kind: &str| {
        format!(
            r#"{{"mediaType":"{kind}","digest":"{}","size":5,"platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}}}"#,
            Digest::of(format!("{os}{architecture}{variant}").as_bytes())
        )
    };
    let index = |entries: &[String]| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","))
    };
    let amd64: Platform = "linux/amd64".parse().unwrap();
    for others in [
        vec![entry("unknown", "unknown", "", MANIFEST)],
        vec![entry("linux", "arm64", "", MANIFEST), entry("windows", "amd64", "", MANIFEST)],
        vec![entry("linux", "unknown", "", MANIFEST), entry("unknown", "amd64", "", MANIFEST)],
        vec![entry("linux", "amd64", r#","variant":"v3""#, MANIFEST), entry("darwin", "arm64", "", MANIFEST)],
        vec![],
    ] {
        let text = index(&others);
        let mut script = Script::new(|_: &Request| serve(INDEX, &text));
        let flow = FetchConfig::new("r.example/n:v1".parse().unwrap(), amd64.clone());
        let why = script.run(&mut anonymous(), flow).unwrap_err();
        assert!(matches!(why, Error::Misuse(_)) && why.to_string().contains("no image for linux/amd64"), "{why}");
        assert_eq!(script.lines().len(), 1);
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
