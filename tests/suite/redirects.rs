//! Redirects, and what is shown to whom on the way (PROTOCOL §7, C28–C32).

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::num::NonZeroU64;

use bytes::Bytes;
use http::Response;
use registry_proto::flow::{Copy, CopyOptions, FetchManifest};
use registry_proto::job::{Failure, FailureKind};
use registry_proto::spec::Digest;
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Credential, Error, Secret, Session};

type Answer = Result<Response<Bytes>, Failure>;

const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;

fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut reply = Response::builder().status(status);
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    Ok(reply.body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
}

fn to(location: &str) -> Answer {
    reply(307, &[("location", location)], "")
}

fn manifest() -> Answer {
    reply(200, &[("content-type", TYPE)], MANIFEST)
}

fn fetch() -> FetchManifest {
    FetchManifest::new(&"r.example/n:v1".parse().unwrap())
}

fn user() -> Session {
    let mut config = Config::default();
    config.log_in(&"r.example".parse().unwrap(), Credential::password("user", "pass"));
    Session::new(config, 1)
}

/// A registry that has asked for a password once, so that it is shown from the first request on.
fn acquainted(answer: impl FnMut(&Request) -> Answer) -> (Session, Script<impl FnMut(&Request) -> Answer>) {
    let mut session = user();
    let mut first = Script::new(|request: &Request| match request.header("authorization") {
        "" => reply(401, &[("www-authenticate", "Basic")], ""),
        _ => manifest(),
    });
    first.run(&mut session, fetch()).unwrap();
    (session, Script::new(answer))
}

fn shown<A: FnMut(&Request) -> Answer>(script: &Script<A>) -> Vec<bool> {
    script.requests().iter().map(|request| !request.header("authorization").is_empty()).collect()
}

/// A copy of an image whose layer lies in storage that answers as `storage` says.
fn copy(storage: impl Fn(&Request, &mut Registry) -> Answer) -> (Result<(), Error>, Vec<Request>) {
    let layer = Bytes::from(vec![7; 2500]);
    let mut source = Registry::new(Profile::distribution_3());
    let (config, layer) = (source.insert_blob("n", Bytes::from_static(b"{}")), source.insert_blob("n", layer));
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{TYPE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":2500}}]}}"#
    );
    source.insert_manifest("n", Some("v1"), Bytes::from(text), TYPE).unwrap();
    let mut destination = Registry::new(Profile::distribution_3());
    let mut script = Script::new(|request: &Request| match request.host() {
        "d.example" => Ok(destination.handle(&request.head(), request.body.clone())),
        "s3.example" => storage(request, &mut source),
        _ if request.header("authorization").is_empty() => reply(401, &[("www-authenticate", "Basic")], ""),
        _ if request.url.path().ends_with(layer.as_str()) => {
            to(&format!("https://s3.example{}?X-Sig=secret", request.url.path()))
        }
        _ => Ok(source.handle(&request.head(), request.body.clone())),
    });
    let mut config = Config::default();
    config.piece = NonZeroU64::new(1000).unwrap();
    config.log_in(&"r.example".parse().unwrap(), Credential::password("user", "pass"));
    let flow = Copy::new("r.example/n:v1".parse().unwrap(), "d.example/n:v1".parse().unwrap(), CopyOptions::default());
    let result = script.run(&mut Session::new(config, 1), flow).map(drop);
    let requests = script.requests().to_vec();
    drop(script);
    if result.is_ok() {
        assert_eq!(Digest::of(&destination.blob("n", layer.as_str()).unwrap()), layer);
    }
    (result, requests)
}

fn stored(request: &Request, source: &mut Registry) -> Answer {
    Ok(source.handle(&request.head(), Bytes::new()))
}

#[test]
fn c28_a_blob_in_storage() {
    let (result, requests) = copy(stored);
    result.unwrap();
    let in_storage: Vec<&Request> = requests.iter().filter(|request| request.host() == "s3.example").collect();
    let ranges: Vec<&str> = in_storage.iter().map(|request| request.header("range")).collect();
    assert_eq!(ranges, ["bytes=0-999", "bytes=1000-1999", "bytes=2000-2499"]);
    for request in in_storage {
        assert_eq!((request.header("authorization"), request.header("cookie")), ("", ""));
    }
}

#[test]
fn c29_credentials_stay_at_home_for_good() {
    // Another port is another origin.
    let (mut session, mut script) = acquainted(|request| match request.host() {
        "r.example" => to("https://r.example:8443/v2/n/manifests/v1"),
        _ => manifest(),
    });
    script.run(&mut session, fetch()).unwrap();
    assert_eq!(shown(&script), [true, false]);

    // Encryption is never given up.
    let (mut session, mut script) = acquainted(|_| to("http://r.example/v2/n/manifests/v1"));
    let why = script.run(&mut session, fetch()).unwrap_err();
    assert!(matches!(why, Error::Protocol { .. }) && why.to_string().contains("give up encryption"), "{why}");
    assert_eq!(script.lines().len(), 1);

    // Whoever is led back is still a stranger, also when he is asked who he is.
    for (back, requests) in [(manifest(), 3), (reply(401, &[("www-authenticate", "Basic")], ""), 3)] {
        let mut back = Some(back);
        let (mut session, mut script) = acquainted(move |request| match (request.host(), request.url.path()) {
            ("r.example", "/v2/n/manifests/v1") => to("https://elsewhere.example/"),
            ("r.example", _) => back.take().unwrap(),
            _ => to("https://r.example/v2/secret/manifests/v1"),
        });
        let _ = script.run(&mut session, fetch());
        assert_eq!(shown(&script)[..], [true, false, false][..requests]);
    }
}

#[test]
fn c30_a10_redirects_end() {
    let (mut session, mut script) = acquainted(|request| to(&format!("https://h{}.example/", request.number)));
    let why = script.run(&mut session, fetch()).unwrap_err();
    assert!(why.to_string().contains("redirects again and again"), "{why}");
    assert_eq!(script.lines().len(), 11);

    let (mut session, mut script) = acquainted(|request| match request.host() {
        "r.example" => to("https://b.example/x"),
        _ => to("https://r.example/v2/n/manifests/v1"),
    });
    let why = script.run(&mut session, fetch()).unwrap_err();
    assert!(why.to_string().contains("in a circle"), "{why}");
    assert_eq!(script.lines().len(), 2);

    for nowhere in ["javascript:alert(1)", "file:///etc/passwd", "", "https://u:p@r.example/", "ftp://r.example/"] {
        let (mut session, mut script) = acquainted(|_| to(nowhere));
        let why = script.run(&mut session, fetch()).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{nowhere}: {why}");
        assert_eq!(script.lines().len(), 1, "{nowhere}");
    }
    // Without a Location it is an answer like any other, if not a good one.
    let (mut session, mut script) = acquainted(|_| reply(307, &[], ""));
    assert!(matches!(script.run(&mut session, fetch()), Err(Error::Registry(_))));
}

/// `r.example` leads to `x.example`, which wants to be shown a token of its own.
fn lead_on(request: &Request, wants: &str, scheme: &str) -> Answer {
    match (request.host(), request.header("authorization")) {
        ("r.example", "") => reply(401, &[("www-authenticate", "Basic")], ""),
        ("r.example", _) => to(&format!("{scheme}://x.example/v2/owner/n/manifests/v1")),
        ("t.example", _) => reply(200, &[], r#"{"token":"X"}"#),
        ("x.example", "Bearer X") => manifest(),
        _ => reply(401, &[("www-authenticate", wants)], ""),
    }
}

#[test]
fn c31_where_a_redirect_leads_there_may_be_another_door() {
    let wants = r#"Bearer realm="https://t.example/token",service="x",scope="repository:owner/n:pull,push""#;
    // By an anonymous token: the registry's password is not for its neighbours.
    let mut session = user();
    let mut script = Script::new(|request: &Request| lead_on(request, wants, "https"));
    script.run(&mut session, fetch()).unwrap();
    let asked: Vec<&Request> = script.requests().iter().filter(|request| request.host() == "t.example").collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line(), "GET https://t.example/token?service=x&scope=repository:owner/n:pull");
    assert_eq!(asked[0].header("authorization"), "");
    for request in script.requests().iter().filter(|request| request.host() != "r.example") {
        assert!(!request.header("authorization").starts_with("Basic"), "{request:?}");
    }
    // The next time, the token is still there. It is shown when it is asked for.
    script.run(&mut session, fetch()).unwrap();
    assert_eq!(script.requests().iter().filter(|request| request.host() == "t.example").count(), 1);

    // By what is stored for that very host.
    let mut config = Config::default();
    config.log_in(&"r.example".parse().unwrap(), Credential::password("user", "pass"));
    config.log_in(&"x.example".parse().unwrap(), Credential::password("guest", "x"));
    let mut session = Session::new(config.clone(), 1);
    let mut script = Script::new(|request: &Request| lead_on(request, wants, "https"));
    script.run(&mut session, fetch()).unwrap();
    let asked = script.requests().iter().find(|request| request.host() == "t.example").unwrap();
    assert_eq!(asked.header("authorization"), "Basic Z3Vlc3Q6eA==");

    // Its password, if it wants that. But not in the clear: who is spoken to over http has not been asked for.
    for (scheme, fine) in [("https", true), ("http", false)] {
        let mut config = config.clone();
        config.scheme = if fine { registry_proto::Scheme::Https } else { registry_proto::Scheme::Http };
        let mut session = Session::new(config, 1);
        let mut script = Script::new(|request: &Request| match (request.host(), request.header("authorization")) {
            ("x.example", "Basic Z3Vlc3Q6eA==") => manifest(),
            _ => lead_on(request, "Basic", scheme),
        });
        assert_eq!(script.run(&mut session, fetch()).is_ok(), fine);
        let to_x = script.requests().iter().filter(|request| request.host() == "x.example");
        assert_eq!(to_x.filter(|request| !request.header("authorization").is_empty()).count(), usize::from(fine));
    }
}

#[test]
fn c31_a_stored_token_is_for_its_registry_alone() {
    let mut config = Config::default();
    config.log_in(&"r.example".parse().unwrap(), Credential::IdentityToken(Secret::new("refresh")));
    let mut session = Session::new(config, 1);
    let wants = r#"Bearer realm="https://t.example/token",service="x",scope="repository:owner/n:pull""#;
    let mut script = Script::new(|request: &Request| match (request.host(), request.header("authorization")) {
        ("r.example", "") if request.number == 0 => {
            reply(401, &[("www-authenticate", r#"Bearer realm="https://auth.r.example/""#)], "")
        }
        ("auth.r.example", _) => reply(200, &[], r#"{"token":"R"}"#),
        _ => lead_on(request, wants, "https"),
    });
    script.run(&mut session, fetch()).unwrap();
    for request in script.requests().iter().filter(|request| request.host() != "auth.r.example") {
        assert!(!request.body.windows(7).any(|window| window == b"refresh"), "{request:?}");
    }
}

#[test]
fn c32_a_signature_that_expires_on_the_way() {
    // Cut in the middle of the second piece, then refused: the registry is asked for a new URL, with the same range.
    let turn = std::cell::Cell::new(0);
    let (result, requests) = copy(|request, source| {
        if request.header("range") != "bytes=1000-1999" {
            return stored(request, source);
        }
        turn.set(turn.get() + 1);
        match turn.get() {
            1 => Err(Failure::new(FailureKind::Cut, "")),
            2 => reply(403, &[], "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"),
            _ => stored(request, source),
        }
    });
    result.unwrap();
    let hosts: Vec<&str> = requests
        .iter()
        .filter(|request| request.header("range") == "bytes=1000-1999")
        .map(|request| request.url.host().unwrap())
        .collect();
    assert_eq!(hosts, ["r.example", "s3.example"].repeat(3));

    // Not for ever; and the error says who refused, without the signature.
    let (result, requests) = copy(|_, _| reply(403, &[], ""));
    let why = result.unwrap_err().to_string();
    assert!(why.contains("https://s3.example/") && !why.contains("secret"), "{why}");
    assert_eq!(requests.iter().filter(|request| request.host() == "s3.example").count(), 3);
}
