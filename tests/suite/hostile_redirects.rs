//! What a redirect leads to as the attacker (PROTOCOL §6, actor X). What is shown to whom on the way is in `redirects.rs`, by the
//! cases of the protocol (C28–C32).
//!
//! Each test is named by the attacks that it is about; `registry-proto/THREATS.md` lists them all.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use registry_proto::flow::{FetchBlob, FetchManifest, Flow, ListTags, Platforms, Pull, PullOptions};
use registry_proto::spec::{Descriptor, Digest, MediaType};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Error, Event};
use registry_tests::hostile::{
    Answer, MANIFEST, check_text, fetch, layer, manifest_with, reply, serve, texts, to, user,
};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{self, Server};

fn blob() -> FetchBlob {
    let blob = Descriptor::new(MediaType::OCI_CONFIG, Digest::of(b"{}"), 2);
    FetchBlob::new("r.example/n".parse().unwrap(), blob)
}

fn run<F: Flow>(
    flow: F,
    answer: impl FnMut(&Request) -> Answer,
) -> (Result<F::Output, Error>, Vec<Request>, Vec<Event>) {
    let mut script = Script::new(answer);
    let result = script.run(&mut user(), flow);
    (result, script.requests().to_vec(), script.events().to_vec())
}

#[test]
fn a02_a10_not_to_where_only_we_could_get() {
    for inside in [
        "https://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "https://localhost/admin",
        "https://localhost./admin",
        "https://127.0.0.1:8443/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0.0.0.0/",
        "https://[::]/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[fe80::1]/",
        "https://[64:ff9b::a9fe:a9fe]/",
    ] {
        let (result, requests, _) = run(blob(), |_| to(inside));
        let why = result.unwrap_err();
        assert!(
            matches!(why, Error::Protocol { .. }) && why.to_string().contains("inside a network"),
            "{inside}: {why}"
        );
        assert_eq!(requests.len(), 1, "{inside}");
        // Nor by way of somebody else.
        let (result, requests, _) = run(blob(), |request| match request.host() {
            "r.example" => to("https://s3.example/x"),
            _ => to(inside),
        });
        assert!(result.is_err(), "{inside}");
        assert_eq!(requests.len(), 2, "{inside}");
    }
    // Storage inside of the company's network is common.
    let (result, ..) = run(blob(), |request| match request.host() {
        "r.example" => to("https://10.0.0.5:9000/bucket/x"),
        _ => serve("", "{}"),
    });
    result.unwrap();
}

#[test]
fn a10_statuses_that_are_no_redirects() {
    for status in [300, 304, 305, 306, 309, 399] {
        let (result, requests, _) = run(fetch(), |_| reply(status, &[("location", "https://evil.example/")], ""));
        assert!(result.is_err(), "{status}");
        assert_eq!(requests.len(), 1, "{status}");
    }
    // 201 and 200 have a Location, too.
    let (result, requests, _) = run(blob(), |_| reply(200, &[("location", "https://evil.example/")], "{}"));
    result.unwrap();
    assert_eq!(requests.len(), 1);
}

#[test]
fn a06_nothing_of_ours_goes_along() {
    let answer = |request: &Request| match (request.host(), request.header("authorization")) {
        ("r.example", "") => reply(401, &[("www-authenticate", "Basic"), ("set-cookie", "session=secret")], ""),
        ("r.example", _) => reply(
            307,
            &[("location", "https://s3.example/x?sig=1#part"), ("set-cookie", "session=secret; Domain=example")],
            "",
        ),
        _ => serve("", "{}"),
    };
    let (result, requests, _) = run(blob(), answer);
    result.unwrap();
    let there = requests.iter().find(|request| request.host() == "s3.example").unwrap();
    assert_eq!(there.url, "https://s3.example/x?sig=1");
    let mut headers: Vec<&str> = there.headers.keys().map(http::HeaderName::as_str).collect();
    headers.sort_unstable();
    assert_eq!(headers, ["accept-encoding", "user-agent"]);
    assert!(requests.iter().all(|request| request.header("cookie").is_empty()));
}

/// A realm of its own does not get it the registry's password, by whatever name it calls itself.
#[test]
fn a01_a06_a_target_that_asks_for_credentials() {
    for wants in [
        "Basic realm=\"r.example\"",
        "Bearer realm=\"https://s3.example/token\",service=\"r.example\",scope=\"repository:n:pull,push\"",
        "Bearer realm=\"https://r.example/token\",service=\"r.example\",scope=\"repository:n:pull,push\"",
    ] {
        let answer = |request: &Request| match (request.host(), request.url.path(), request.header("authorization")) {
            (_, "/token", _) => reply(200, &[], r#"{"token":"A"}"#),
            ("r.example", _, "") => reply(401, &[("www-authenticate", "Basic")], ""),
            ("r.example", ..) => to("https://s3.example/x"),
            _ => reply(401, &[("www-authenticate", wants)], ""),
        };
        let (result, requests, _) = run(blob(), answer);
        assert!(result.is_err(), "{wants}");
        let basic = requests.iter().filter(|request| request.header("authorization").starts_with("Basic"));
        assert!(
            basic.clone().all(|request| request.host() == "r.example" && request.url.path() != "/token"),
            "{wants}: {:?}",
            basic.map(Request::line).collect::<Vec<_>>()
        );
        assert!(requests.len() < 12, "{wants}");
    }
}

#[test]
fn a14_a38_a_target_that_lies() {
    let text = manifest_with(&layer(Digest::of(b"layer").as_str(), "5", ""));
    for (status, body) in [
        (200, "reyal"),
        (200, "layers"),
        (200, "lay"),
        (200, "<html>"),
        (206, "layer"),
        (404, "\u{1b}[31m"),
        (403, "no"),
    ] {
        let answer = |request: &Request| match request.url.path() {
            path if path.contains("/manifests/") => serve(MANIFEST, &text),
            path if path.contains(Digest::of(b"{}").encoded()) => serve("", "{}"),
            _ if request.host() == "r.example" => to("https://s3.example/x?X-Sig=secret"),
            _ => reply(
                status,
                &[("warning", "299 - \"call this number\""), ("docker-content-digest", Digest::of(b"layer").as_str())],
                body,
            ),
        };
        let mut options = PullOptions::default();
        options.platforms = Platforms::All;
        let flow = Pull::new(["r.example/n:v1".parse().unwrap()], "/out.tar", options);
        let (result, _, events) = run(flow, answer);
        let why = result.unwrap_err().to_string();
        for text in texts(&events).iter().chain([&why]) {
            check_text(text);
            assert!(!text.contains("secret") && !text.contains("call this number"), "{text}");
        }
    }
}

/// What a list's pages were redirected to has no say in where the list goes on.
#[test]
fn a08_a_target_does_not_lead_a_list_on() {
    let answer = |request: &Request| match request.host() {
        "r.example" => to("https://evil.example/v2/n/tags/list"),
        _ => reply(200, &[("link", "</v2/n/tags/list?last=a>; rel=\"next\"")], r#"{"name":"n","tags":["a"]}"#),
    };
    let (result, requests, _) = run(ListTags::new("r.example/n".parse().unwrap()), answer);
    assert!(matches!(result, Err(Error::Protocol { .. })));
    assert_eq!(requests.len(), 2);
}

/// A pause that the storage asks for is the storage's.
#[test]
fn a32_a_target_does_not_stop_the_registry() {
    let mut script = Script::new(|request: &Request| match (request.host(), request.url.path()) {
        (_, path) if path.contains("/tags/") => reply(200, &[], r#"{"name":"n","tags":["a"]}"#),
        ("r.example", _) => to("https://s3.example/x"),
        _ => reply(503, &[("retry-after", "999999")], ""),
    });
    let mut session = user();
    script.run(&mut session, blob()).unwrap_err();
    let before = script.now();
    script.run(&mut session, ListTags::new("r.example/n".parse().unwrap())).unwrap();
    assert!(script.now().since(before) < std::time::Duration::from_secs(1));
}

/// Over sockets: nobody but the core follows, and the core not to where it must not.
fn a02_a06_a10_over_sockets(runtime: Runtime) {
    let elsewhere = Server::start(
        registry_proto::testing::registry::Registry::new(registry_proto::testing::registry::Profile::distribution_3()),
        |_| server::Answer::raw(server::reply("200 OK", &[], "{}")),
    );
    for location in [
        format!("http://{}@{}/x", "user:pass", elsewhere.host()),
        format!("ftp://{}/x", elsewhere.host()),
        format!("gopher://{}/x", elsewhere.host()),
        "javascript:alert(1)".to_owned(),
        "http://".to_owned(),
        "http://:80/".to_owned(),
        "http://[::1".to_owned(),
    ] {
        let to = format!("Location: {location}");
        let server = Server::start(
            registry_proto::testing::registry::Registry::new(
                registry_proto::testing::registry::Profile::distribution_3(),
            ),
            move |_| server::Answer::raw(server::reply("302 Found", &[&to], "")),
        );
        let flow = FetchManifest::new(&format!("{}/n:v1", server.host()).parse().unwrap());
        let ran = registry_tests::hostile::run(runtime, registry_tests::hostile::quick(), flow);
        assert!(matches!(ran.result, Err(Error::Protocol { .. })), "{location}: {:?}", ran.result.map(drop));
        assert_eq!(server.log().len(), 1, "{location}");
    }
    assert_eq!(elsewhere.log().len(), 0);
}

on_all_runtimes!(a02_a06_a10_over_sockets);
