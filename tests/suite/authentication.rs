//! Getting in, case by case (PROTOCOL §7, C1–C27): what a client asks when a registry and its token server answer so.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{
    Copy, CopyOptions, Destination, Each, FetchManifest, ListCatalog, Pinging, Push, PushOptions,
};
use registry_proto::job::{Failure, FailureKind};
use registry_proto::spec::{Manifest, Reference};
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Credential, Denied, DeniedBecause, Error, Secret, Session, TokenRequest};

type Answer = Result<Response<Bytes>, Failure>;

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
const BEARER: &str = r#"Bearer realm="https://t/token",service="s",scope="repository:n:pull""#;
const TOKEN: &str = "https://t/token?service=s&scope=repository:n:pull";
const GET: &str = "GET https://r.example/v2/n/manifests/v1";

fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut reply = Response::builder().status(status);
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    Ok(reply.body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
}

fn manifest() -> Answer {
    reply(200, &[("content-type", "application/vnd.oci.image.manifest.v1+json")], MANIFEST)
}

fn challenge(text: &str) -> Answer {
    reply(401, &[("www-authenticate", text)], "")
}

fn token(name: &str) -> Answer {
    reply(200, &[], &format!(r#"{{"token":"{name}","expires_in":300}}"#))
}

fn image() -> Reference {
    "r.example/n:v1".parse().unwrap()
}

fn fetch() -> FetchManifest {
    FetchManifest::new(&image())
}

fn anonymous() -> Session {
    Session::new(Config::default(), 1)
}

fn logged_in(credential: Credential) -> Session {
    let mut config = Config::default();
    config.log_in(&"r.example".parse().unwrap(), credential);
    Session::new(config, 1)
}

fn user() -> Session {
    logged_in(Credential::password("user", "pass"))
}

/// `user:pass` as a header has it.
const BASIC: &str = "Basic dXNlcjpwYXNz";

/// A registry that takes tokens of this name, and wants one as `wants` says.
fn takes(request: &Request, name: &str, wants: &str) -> Answer {
    if request.header("authorization") == format!("Bearer {name}") { manifest() } else { challenge(wants) }
}

fn denied<T: std::fmt::Debug>(result: &Result<T, Error>) -> &Denied {
    match result {
        Err(Error::Denied(denied)) => denied,
        other => panic!("not denied: {other:?}"),
    }
}

fn tokens(script: &[String]) -> usize {
    script.iter().filter(|line| line.contains("//t/token")).count()
}

#[test]
fn c01_an_open_registry_is_asked_without_a_token() {
    let mut script =
        Script::new(|request| if request.url.path() == "/v2/" { reply(200, &[], "{}") } else { manifest() });
    let mut session = user();
    assert_eq!(script.run(&mut session, Pinging::new("r.example".parse().unwrap())).unwrap().status, 200);
    script.run(&mut session, fetch()).unwrap();
    assert_eq!(script.lines(), ["GET https://r.example/v2/", GET]);
    assert!(script.requests().iter().all(|request| request.header("authorization").is_empty()));
}

#[test]
fn c02_a_challenge_a_token_and_the_same_request_again() {
    let mut script =
        Script::new(|request| if request.host() == "t" { token("A") } else { takes(request, "A", BEARER) });
    script.run(&mut anonymous(), fetch()).unwrap();
    assert_eq!(script.lines(), [GET, &format!("GET {TOKEN}"), GET]);
    let shown: Vec<&str> = script.requests().iter().map(|request| request.header("authorization")).collect();
    assert_eq!(shown, ["", "", "Bearer A"]);

    let mut script =
        Script::new(|request| if request.host() == "t" { token("A") } else { takes(request, "A", BEARER) });
    script.run(&mut user(), fetch()).unwrap();
    let shown: Vec<&str> = script.requests().iter().map(|request| request.header("authorization")).collect();
    assert_eq!(shown, ["", BASIC, "Bearer A"], "the password goes to the token server, and there alone");
}

#[test]
fn c03_a_token_under_either_name() {
    for body in [r#"{"access_token":"A"}"#, r#"{"token":"A"}"#, r#"{"token":"B","access_token":"A"}"#] {
        let mut script = Script::new(|request| match request.host() {
            "t" => reply(200, &[("content-type", "text/plain")], body),
            _ => takes(request, "A", BEARER),
        });
        script.run(&mut anonymous(), fetch()).unwrap_or_else(|why| panic!("{body}: {why}"));
    }
}

#[test]
fn c04_a_token_is_used_as_long_as_it_holds() {
    for (body, seconds, fetched) in [
        (r#"{"token":"A"}"#, 49, 1),
        (r#"{"token":"A"}"#, 61, 2),
        (r#"{"token":"A","expires_in":30}"#, 49, 1),
        (r#"{"token":"A","expires_in":30}"#, 61, 2),
        (r#"{"token":"A","expires_in":"300"}"#, 200, 1),
        (r#"{"token":"A","expires_in":"300"}"#, 301, 2),
        (r#"{"token":"A","expires_in":300.0}"#, 200, 1),
        (r#"{"token":"A","expires_in":300.0}"#, 301, 2),
        // What the server's clock says does not matter.
        (r#"{"token":"A","expires_in":300,"issued_at":"1999-01-01T00:00:00Z"}"#, 200, 1),
    ] {
        let mut script =
            Script::new(
                |request| if request.host() == "t" { reply(200, &[], body) } else { takes(request, "A", BEARER) },
            );
        let mut session = anonymous();
        script.run(&mut session, fetch()).unwrap();
        script.pass(Duration::from_secs(seconds));
        script.run(&mut session, fetch()).unwrap();
        assert_eq!(tokens(&script.lines()), fetched, "{body} after {seconds} s");
        // The challenge is remembered: there is no second one.
        assert_eq!(script.lines().len(), 3 + fetched, "{body} after {seconds} s");
    }
}

#[test]
fn c05_c06_c07_c08_c09_challenges_of_every_kind() {
    // C5 is `spec::challenge`'s table W1–W20; here is what is made of them.
    let bearer = ["", BASIC, "Bearer A"];
    let basic = ["", BASIC];
    for (fields, shown) in [
        (&[r#"Bearer realm="https://t/token",service="s""#, "Basic"][..], &bearer[..]),
        (&[r#"Basic realm="r", Bearer realm="https://t/token""#], &bearer),
        (&[r#"Negotiate, Basic realm="r""#], &basic),
        (&[r#"Negotiate YIIB+a/b==, Basic realm="x, y""#], &basic),
        (&[r#"BASIC realm="x""#], &basic),
        (&["Basic"], &basic),
        // No realm: nobody to ask for a token.
        (&["Bearer", "Basic"], &basic),
        (&[r#"Digest qop="auth, auth-int", nonce="x", Bearer realm="https://t/token""#], &bearer),
        (&["Bearer realm=https://t/token,service=s"], &bearer),
        (&[r#"Bearer realm="unterminated"#, r#"Basic realm="r""#], &basic),
    ] {
        let mut script = Script::new(|request| match (request.host(), request.header("authorization")) {
            ("t", _) => token("A"),
            (_, "") => {
                let mut reply = Response::builder().status(401);
                for field in fields {
                    reply = reply.header("www-authenticate", *field);
                }
                Ok(reply.body(Bytes::new()).unwrap())
            }
            _ => manifest(),
        });
        script.run(&mut user(), fetch()).unwrap_or_else(|why| panic!("{fields:?}: {why}"));
        let found: Vec<&str> = script.requests().iter().map(|request| request.header("authorization")).collect();
        assert_eq!(found, shown, "{fields:?}");
    }
    // C9: an empty service is none, and what comes after it is read.
    let empty = r#"Bearer realm="https://t/token",service="",scope="repository:n:pull,push""#;
    let mut script = Script::new(|request| if request.host() == "t" { token("A") } else { takes(request, "A", empty) });
    script.run(&mut anonymous(), fetch()).unwrap();
    assert_eq!(script.lines()[1], "GET https://t/token?scope=repository:n:pull,push");
    // What nobody here speaks is named.
    let mut script = Script::new(|_| challenge("Negotiate, NTLM"));
    let why = script.run(&mut user(), fetch()).unwrap_err().to_string();
    assert!(why.contains("offers negotiate, ntlm"), "{why}");
    // Basic, but nobody has logged in.
    let mut script = Script::new(|_| challenge("Basic"));
    let result = script.run(&mut anonymous(), fetch());
    assert_eq!((&denied(&result).because, script.lines().len()), (&DeniedBecause::NoCredentials, 1));
}

#[test]
fn c10_no_challenge_no_token() {
    let mut script = Script::new(|_| reply(401, &[], ""));
    let result = script.run(&mut user(), fetch());
    assert_eq!(denied(&result).status, StatusCode::UNAUTHORIZED);
    assert_eq!(script.lines(), [GET]);
}

#[test]
fn c11_an_expired_token_without_a_challenge() {
    for works in [true, false] {
        let mut session = anonymous();
        let mut script =
            Script::new(|request| if request.host() == "t" { token("A") } else { takes(request, "A", BEARER) });
        script.run(&mut session, fetch()).unwrap();
        let mut script = Script::new(|request| match (request.host(), request.header("authorization")) {
            ("t", _) => token("B"),
            (_, "Bearer B") if works => manifest(),
            _ => reply(401, &[], ""),
        });
        script.pass(Duration::from_secs(1));
        let result = script.run(&mut session, fetch());
        assert_eq!(script.lines(), [GET, &format!("GET {TOKEN}"), GET]);
        assert_eq!(result.is_ok(), works);
    }
}

#[test]
fn c12_a_fresh_token_that_is_refused_is_not_fetched_again() {
    let mut script = Script::new(|request| if request.host() == "t" { token("A") } else { challenge(BEARER) });
    let result = script.run(&mut anonymous(), fetch());
    assert_eq!(script.lines(), [GET, &format!("GET {TOKEN}"), GET]);
    let why = result.as_ref().unwrap_err().to_string();
    assert_eq!(denied(&result).because, DeniedBecause::NoCredentials, "nobody in particular may not do this");
    assert!(why.contains("asked for `repository:n:pull`"), "{why}");
    let mut script = Script::new(|request| if request.host() == "t" { token("A") } else { challenge(BEARER) });
    assert_eq!(denied(&script.run(&mut user(), fetch())).because, DeniedBecause::NotAllowed);

    // The same once the registry is known: then the token comes first.
    let mut session = anonymous();
    let mut script =
        Script::new(|request| if request.host() == "t" { token("A") } else { takes(request, "A", BEARER) });
    script.run(&mut session, fetch()).unwrap();
    let invalid = r#"Bearer realm="https://t/token",service="s",error="invalid_token""#;
    let mut script = Script::new(|request| if request.host() == "t" { token("B") } else { challenge(invalid) });
    script.pass(Duration::from_secs(1000));
    let result = script.run(&mut session, fetch());
    assert_eq!(script.lines(), [format!("GET {TOKEN}").as_str(), GET]);
    assert_eq!(denied(&result).because, DeniedBecause::TokenNotAccepted);
}

#[test]
fn c13_a_token_that_does_not_reach_far_enough_is_widened() {
    let wider =
        r#"Bearer realm="https://t/token",service="s",scope="repository:n:pull,push",error="insufficient_scope""#;
    let mut script = Script::new(|request| match (request.host(), request.header("authorization")) {
        ("t", _) if request.line().contains("push") => token("wide"),
        ("t", _) => token("narrow"),
        (_, "Bearer wide") => manifest(),
        (_, "Bearer narrow") => challenge(wider),
        _ => challenge(BEARER),
    });
    let mut session = anonymous();
    script.run(&mut session, fetch()).unwrap();
    let push = format!("GET {TOKEN},push");
    assert_eq!(script.lines(), [GET, &format!("GET {TOKEN}"), GET, &push, GET]);
    // And the wide one does for all that follows.
    script.run(&mut session, fetch()).unwrap();
    assert_eq!(script.lines().len(), 6);
}

#[test]
fn c14_a_registry_that_always_wants_more_is_given_up() {
    let mut more = 0;
    let mut script = Script::new(|request| {
        if request.host() == "t" {
            return token("A");
        }
        more += 1;
        challenge(&format!(
            r#"Bearer realm="https://t/token",service="s",error="insufficient_scope",scope="repository:n:pull,a{more}""#
        ))
    });
    let result = script.run(&mut anonymous(), fetch());
    denied(&result);
    assert_eq!(tokens(&script.lines()), 3, "{:?}", script.lines());
    assert_eq!(script.lines().len(), 7);
}

#[test]
fn c15_a29_a_challenge_for_another_repository() {
    for (scope, second) in [
        ("repository:secret:push", None),
        ("repository:secret:pull,push repository:n:pull", Some("scope=repository:secret:pull&scope=repository:n:pull")),
        ("registry:catalog:*", None),
    ] {
        let other = format!(r#"Bearer realm="https://t/token",service="s",scope="{scope}""#);
        let mut script = Script::new(|request| if request.host() == "t" { token("A") } else { challenge(&other) });
        denied(&script.run(&mut anonymous(), fetch()));
        let asked: Vec<String> = script.lines().into_iter().filter(|line| line.contains("//t/")).collect();
        assert_eq!(asked[0], format!("GET {TOKEN}"), "the first round asks for what is wanted");
        match second {
            Some(tail) => assert_eq!(asked[1..], [format!("GET https://t/token?service=s&{tail}")]),
            None => assert_eq!(asked.len(), 1, "{asked:?}"),
        }
        assert!(!asked.iter().any(|line| line.contains("push") || line.contains("catalog")), "{asked:?}");
    }
}

#[test]
fn c16_forbidden_is_final() {
    let body = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    let mut session = anonymous();
    let mut script =
        Script::new(|request| if request.host() == "t" { token("A") } else { takes(request, "A", BEARER) });
    script.run(&mut session, fetch()).unwrap();
    let mut script = Script::new(|_| reply(403, &[], body));
    let result = script.run(&mut session, fetch());
    assert_eq!((denied(&result).status, script.lines().len()), (StatusCode::FORBIDDEN, 1));
    assert_eq!(denied(&result).because, DeniedBecause::NotAllowed);
}

#[test]
fn c17_registries_that_say_400_or_403_of_an_expired_token() {
    let ecr = r#"{"errors":[{"code":"DENIED","message":"Your Authorization Token is invalid."}]}"#;
    let invalid = [("www-authenticate", r#"Bearer realm="https://t/token",error="invalid_token""#)];
    let no_headers: &[(&str, &str)] = &[];
    for (status, headers, body) in [(400, no_headers, ecr), (403, no_headers, ecr), (403, &invalid, "")] {
        let answers = |newest: &'static str| {
            move |request: &Request| match (request.host(), request.header("authorization")) {
                ("t", _) => token(newest),
                (_, "") => challenge(BEARER),
                (_, shown) if shown == format!("Bearer {newest}") && newest != "never" => manifest(),
                _ => reply(status, headers, body),
            }
        };
        let mut session = anonymous();
        Script::new(answers("A")).run(&mut session, fetch()).unwrap();
        let mut script = Script::new(answers("B"));
        script.pass(Duration::from_secs(1));
        script.run(&mut session, fetch()).unwrap();
        assert_eq!(script.lines(), [GET, &format!("GET {TOKEN}"), GET], "{status}: one refresh, one retry");
        // A fresh token that is refused so is refused for good.
        let mut script = Script::new(answers("never"));
        script.run(&mut anonymous(), fetch()).unwrap_err();
        assert_eq!(script.lines(), [GET, &format!("GET {TOKEN}"), GET], "{status}");
    }
}

#[test]
fn c18_realms_that_are_not_asked() {
    for realm in [
        "http://t/",
        "https://169.254.169.254/",
        "https://u@t/",
        "https://[::ffff:127.0.0.1]/",
        "https://localhost/",
        "ftp://t/",
        "",
    ] {
        let wants = format!(r#"Bearer realm="{realm}",service="s""#);
        let mut script = Script::new(|_| challenge(&wants));
        let result = script.run(&mut user(), fetch());
        assert_eq!(script.lines(), [GET], "{realm}");
        assert!(matches!(denied(&result).because, DeniedBecause::UnusableChallenge(_)), "{realm}");
    }
}

#[test]
fn c19_a_token_server_beside_a_private_registry() {
    let wants = r#"Bearer realm="https://10.0.0.5/token",service="s""#;
    let mut script =
        Script::new(|request| if request.url.path() == "/token" { token("A") } else { takes(request, "A", wants) });
    let flow = FetchManifest::new(&"10.0.0.5/n:v1".parse().unwrap());
    script.run(&mut anonymous(), flow).unwrap();
    assert_eq!(script.lines()[1], "GET https://10.0.0.5/token?service=s&scope=repository:n:pull");
}

#[test]
fn c20_identity_tokens_and_posted_passwords() {
    let form = |request: &Request| String::from_utf8(request.body.to_vec()).unwrap();
    let identity = || logged_in(Credential::IdentityToken(Secret::new("refresh")));
    let mut script =
        Script::new(|request| if request.host() == "t" { token("A") } else { takes(request, "A", BEARER) });
    script.run(&mut identity(), fetch()).unwrap();
    assert_eq!(script.lines(), [GET, "POST https://t/token", GET]);
    let posted = &script.requests()[1];
    assert_eq!(
        form(posted),
        "grant_type=refresh_token&refresh_token=refresh&client_id=registry-proto&service=s&scope=repository:n:pull"
    );
    assert_eq!(posted.header("authorization"), "");
    assert_eq!(posted.header("content-type"), "application/x-www-form-urlencoded");

    // There is no other way for a refresh token.
    for (status, because) in
        [(404, None), (405, None), (401, Some(DeniedBecause::TokenExpired)), (400, Some(DeniedBecause::TokenExpired))]
    {
        let mut script = Script::new(|request| match request.host() {
            "t" => reply(status, &[], r#"{"error":"invalid_grant"}"#),
            _ => challenge(BEARER),
        });
        let result = script.run(&mut identity(), fetch());
        assert_eq!(script.lines(), [GET, "POST https://t/token"], "{status}");
        match because {
            Some(because) => assert_eq!(denied(&result).because, because, "{status}"),
            None => assert!(matches!(denied(&result).because, DeniedBecause::UnusableToken(_)), "{status}"),
        }
    }

    // A password has one.
    for status in [404, 405, 401, 400] {
        let mut config = Config::default();
        config.log_in(&"r.example".parse().unwrap(), Credential::password("user", "pass"));
        config.token_request = TokenRequest::PostThenGet;
        let mut session = Session::new(config, 1);
        let mut script = Script::new(|request| match (request.host(), request.method.as_str()) {
            ("t", "POST") => reply(status, &[], ""),
            ("t", _) => token("A"),
            _ => takes(request, "A", BEARER),
        });
        script.run(&mut session, fetch()).unwrap();
        assert_eq!(script.lines(), [GET, "POST https://t/token", &format!("GET {TOKEN}"), GET], "{status}");
        assert!(form(&script.requests()[1]).starts_with("grant_type=password&username=user&password=pass&"));
        assert_eq!(script.requests()[2].header("authorization"), BASIC);
        // Once is enough to know it.
        script.pass(Duration::from_secs(1000));
        script.run(&mut session, fetch()).unwrap();
        assert_eq!(script.lines()[4..], [format!("GET {TOKEN}").as_str(), GET], "{status}");
    }
}

#[test]
fn c20_the_newest_identity_token_is_shown() {
    let mut turn = 0;
    let mut script = Script::new(|request| {
        if request.host() != "t" {
            return if request.header("authorization").is_empty() { challenge(BEARER) } else { manifest() };
        }
        turn += 1;
        let form = String::from_utf8(request.body.to_vec()).unwrap();
        let expected = if turn == 1 { "refresh_token=first&" } else { "refresh_token=second&" };
        assert!(form.contains(expected), "{form}");
        reply(200, &[], r#"{"access_token":"A","refresh_token":"second","expires_in":60}"#)
    });
    let mut session = logged_in(Credential::IdentityToken(Secret::new("first")));
    script.run(&mut session, fetch()).unwrap();
    script.pass(Duration::from_secs(61));
    script.run(&mut session, fetch()).unwrap();
    drop(script);
    assert_eq!(turn, 2);
}

#[test]
fn a_token_for_the_registry_itself() {
    let ready = || logged_in(Credential::RegistryToken(Secret::new("ready")));
    for wants in [BEARER, "Bearer", r#"Bearer realm="http://evil.example/""#] {
        let mut script = Script::new(|request| takes(request, "ready", wants));
        let mut session = ready();
        script.run(&mut session, fetch()).unwrap();
        script.run(&mut session, fetch()).unwrap();
        assert_eq!(script.lines(), [GET, GET, GET], "no token server is asked");
    }
    let mut script = Script::new(|_| challenge(BEARER));
    assert_eq!(denied(&script.run(&mut ready(), fetch())).because, DeniedBecause::TokenExpired);
    let mut script = Script::new(|_| challenge("Basic realm=\"r\""));
    let result = script.run(&mut ready(), fetch());
    assert!(result.unwrap_err().to_string().contains("what is stored for it is a token"));
    assert_eq!(script.requests()[0].header("authorization"), "", "A30: a token is never shown as a password");
    assert_eq!(script.lines().len(), 1);
}

#[test]
fn c21_a4_a_token_server_that_redirects() {
    for to in ["https://elsewhere.example/token", "/other", "https://t/other"] {
        for credential in [Credential::password("user", "pass"), Credential::IdentityToken(Secret::new("refresh"))] {
            let mut script = Script::new(|request| match request.host() {
                "t" => reply(307, &[("location", to)], ""),
                _ => challenge(BEARER),
            });
            let result = script.run(&mut logged_in(credential), fetch());
            assert_eq!(script.lines().len(), 2, "{to}: {:?}", script.lines());
            assert!(matches!(denied(&result).because, DeniedBecause::UnusableToken(_)), "{to}");
        }
    }
}

#[test]
fn c22_a5_answers_that_hold_no_usable_token() {
    let huge = format!(r#"{{"token":"A","rubbish":"{}"}}"#, "x".repeat(2 << 20));
    let long = format!(r#"{{"token":"{}"}}"#, "x".repeat(20 << 10));
    for body in [r#"{"token":"a\r\nX-Evil: 1"}"#, r#"{"token":"a b"}"#, "<html>log in</html>", "{}", "", &huge, &long] {
        let mut script =
            Script::new(|request| if request.host() == "t" { reply(200, &[], body) } else { challenge(BEARER) });
        let result = script.run(&mut anonymous(), fetch());
        let why = result.unwrap_err().to_string();
        assert_eq!(script.lines().len(), 2, "{}", &body[..body.len().min(40)]);
        assert!(why.contains("token server's answer can't be used"), "{why}");
    }
}

/// A copy within one registry, whose only layer can be mounted.
fn mounting(token_server: impl Fn(&str) -> Answer) -> (Vec<String>, Vec<String>) {
    let mut registry = Registry::new(Profile::distribution_3());
    let config = registry.insert_blob("src", Bytes::from_static(b"{}"));
    let manifest =
        MANIFEST.replace("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", config.as_str());
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    registry.insert_manifest("src", Some("v1"), Bytes::from(manifest), media_type).unwrap();
    let mut script = Script::new(|request| {
        if request.host() == "t" {
            return token_server(request.url.query().unwrap());
        }
        if !request.header("authorization").starts_with("Bearer ") {
            return challenge(r#"Bearer realm="https://t/token",service="s""#);
        }
        Ok(registry.handle(&request.head(), request.body.clone()))
    });
    let (source, destination) = ("r.example/src:v1".parse().unwrap(), "r.example/dst:v1".parse().unwrap());
    script.run(&mut anonymous(), Copy::new(source, destination, CopyOptions::default())).unwrap();
    let asked = script.requests().iter().filter(|request| request.host() == "t");
    let posts = script.requests().iter().filter(|request| request.method == "POST").map(Request::line);
    (asked.map(|request| request.url.query().unwrap().to_owned()).collect(), posts.collect())
}

#[test]
fn c23_c24_a_mount_asks_for_both_repositories_at_once() {
    let both = "service=s&scope=repository:dst:pull,push&scope=repository:src:pull";
    let (asked, posts) = mounting(|_| token("A"));
    assert_eq!(asked.iter().filter(|query| *query == both).count(), 1, "{asked:?}");
    assert_eq!(posts.len(), 1);
    assert!(posts[0].contains("?mount=") && posts[0].ends_with("&from=src"), "{posts:?}");

    // A token server that refuses all of it because of the source is asked for the destination alone.
    for status in [400, 401] {
        let (asked, posts) = mounting(|query| if query == both { reply(status, &[], "") } else { token("A") });
        let again = "service=s&scope=repository:dst:pull,push";
        assert_eq!(asked.iter().filter(|query| *query == again).count(), 1, "{status}: {asked:?}");
        assert_eq!(asked.iter().filter(|query| *query == both).count(), 1, "{status}: {asked:?}");
        assert!(!posts.last().unwrap().contains("mount="), "{status}: {posts:?}");
    }
}

#[test]
fn c25_docker_hub_has_three_names() {
    let mut config = Config::default();
    config.credentials.insert("https://index.docker.io/v1/", Credential::password("user", "pass"));
    let mut session = Session::new(config, 1);
    let mut script =
        Script::new(|request| if request.host() == "t" { token("A") } else { takes(request, "A", BEARER) });
    script.run(&mut session, FetchManifest::new(&"docker.io/x:v1".parse().unwrap())).unwrap();
    assert_eq!(script.lines()[0], "GET https://registry-1.docker.io/v2/library/x/manifests/v1");
    assert_eq!(script.requests()[1].header("authorization"), BASIC);
}

#[test]
fn c27_harbor_offers_basic_to_a_stale_token() {
    let mut session = user();
    let mut script =
        Script::new(|request| if request.host() == "t" { token("A") } else { takes(request, "A", BEARER) });
    script.run(&mut session, fetch()).unwrap();
    let mut script = Script::new(|request| match (request.host(), request.header("authorization")) {
        ("t", _) => token("B"),
        (_, "Bearer B") => manifest(),
        _ => challenge(r#"Basic realm="harbor""#),
    });
    script.pass(Duration::from_secs(1));
    script.run(&mut session, fetch()).unwrap();
    assert_eq!(script.lines(), [GET, &format!("GET {TOKEN}"), GET]);
    let to_registry = |request: &&Request| request.host() == "r.example";
    assert!(!script.requests().iter().filter(to_registry).any(|request| request.header("authorization") == BASIC));
    // Not even if the new one is refused, too.
    script.pass(Duration::from_secs(1000));
    let mut script = Script::new(|request| match request.host() {
        "t" => token("C"),
        _ => challenge(r#"Basic realm="harbor""#),
    });
    denied(&script.run(&mut session, fetch()));
    assert!(!script.requests().iter().filter(to_registry).any(|request| request.header("authorization") == BASIC));
}

#[test]
fn q50_harbors_catalog_has_a_challenge_of_its_own() {
    let mut script = Script::new(|request| match (request.url.path(), request.header("authorization")) {
        ("/token", _) => token("A"),
        ("/v2/_catalog", BASIC) => reply(200, &[], r#"{"repositories":["n"]}"#),
        ("/v2/_catalog", _) => challenge(r#"Basic realm="harbor""#),
        _ => takes(request, "A", BEARER),
    });
    let mut session = user();
    script.run(&mut session, fetch()).unwrap();
    let catalog = ListCatalog::new("r.example".parse().unwrap()).collected();
    assert_eq!(script.run(&mut session, catalog).unwrap(), ["n"]);
    script.run(&mut session, fetch()).unwrap();
    assert_eq!(tokens(&script.lines()), 1);
}

#[test]
fn q90_a_token_server_that_moves_is_followed() {
    let mut session = anonymous();
    let mut script =
        Script::new(|request| if request.host() == "t" { token("A") } else { takes(request, "A", BEARER) });
    script.run(&mut session, fetch()).unwrap();
    let moved = r#"Bearer realm="https://t2/token",service="s""#;
    let mut script = Script::new(|request| match request.host() {
        "t" => token("old"),
        "t2" => token("B"),
        _ => takes(request, "B", moved),
    });
    // Fetched before the request, from where tokens were to be had until now.
    script.pass(Duration::from_secs(1000));
    script.run(&mut session, fetch()).unwrap();
    let there = format!("GET {}", TOKEN.replace("//t/", "//t2/"));
    assert_eq!(script.lines(), [format!("GET {TOKEN}").as_str(), GET, &there, GET]);
}

#[test]
fn a28_challenges_that_never_end() {
    // Another realm, another scheme, another scope each time: whatever it is, it ends.
    let mut turn = 0;
    let mut script = Script::new(|request| {
        if request.url.path().starts_with("/token") {
            turn += 1;
            return token(&format!("T{turn}"));
        }
        turn += 1;
        match turn % 3 {
            0 => challenge(&format!(r#"Bearer realm="https://t/token{turn}",service="s{turn}""#)),
            1 => challenge(&format!(r#"Basic realm="b{turn}""#)),
            _ => challenge(&format!(r#"Bearer realm="https://t/token",scope="repository:n:pull,x{turn}""#)),
        }
    });
    denied(&script.run(&mut user(), fetch()));
    assert!(script.lines().len() <= 8, "{:?}", script.lines());
}

#[test]
fn a_token_is_renewed_before_a_commit_rather_than_after() {
    let archive = |layer: &[u8]| make::docker_save_oci(&[SampleImage::new(&["n:v1"], &[layer])]);
    let disk =
        MemoryDisk([("1", archive(b"one")), ("2", archive(b"two"))].map(|(name, tar)| (name.into(), tar)).into());
    let mut registry = Registry::new(Profile::distribution_3());
    let mut fetched = 0;
    let mut script = Script::new(|request| {
        if request.host() == "t" {
            fetched += 1;
            return token(&format!("T{fetched}"));
        }
        match request.header("authorization") {
            "" => challenge(BEARER),
            _ => Ok(registry.handle(&request.head(), request.body.clone())),
        }
    })
    .with_disk(disk);
    let mut session = anonymous();
    let push = |name: &str| Push::new(Path::new(name), Destination::Reference(image()), PushOptions::default());
    script.run(&mut session, push("1")).unwrap();
    let before = script.requests().len();
    // 40 seconds to go: enough for a question, not for a body that might be refused after it was sent.
    script.pass(Duration::from_secs(250));
    script.run(&mut session, push("2")).unwrap();
    let again = &script.requests()[before..];
    assert_eq!(again.iter().filter(|request| request.host() == "t").count(), 1, "{again:?}");
    assert_eq!(again[0].method, "HEAD");
    let old = again[0].header("authorization").to_owned();
    let puts: Vec<&Request> = again.iter().filter(|request| request.method == "PUT").collect();
    assert!(puts.len() >= 3, "layer, configuration and manifest: {puts:?}");
    assert!(puts.iter().all(|request| request.header("authorization") != old), "{puts:?}");
}

// ── many at once ─────────────────────────────────────────────────────────────────────────────────────────────────────

fn references(repositories: usize, each: usize) -> Vec<Reference> {
    let name = |repository: usize, tag: usize| format!("r.example/n{repository}:v{tag}").parse().unwrap();
    (0..repositories).flat_map(|repository| (0..each).map(move |tag| name(repository, tag))).collect()
}

fn wants_of(request: &Request) -> String {
    let name = request.url.path().split('/').nth(2).unwrap();
    format!(r#"Bearer realm="https://t/token",service="s",scope="repository:{name}:pull""#)
}

fn each_with_its_token(request: &Request) -> Answer {
    match request.host() {
        "t" => token("A"),
        _ => takes(request, "A", &wants_of(request)),
    }
}

#[test]
fn a_hundred_operations_fetch_one_token_per_scope() {
    for (repositories, each) in [(1, 100), (10, 10), (100, 1)] {
        for places in [1, 7, 100] {
            let mut config = Config::default();
            config.requests_per_registry = NonZeroUsize::new(places).unwrap();
            let mut session = Session::new(config, 1);
            let mut script = Script::new(each_with_its_token);
            let flows = references(repositories, each);
            let results = script.run_all(&mut session, flows.iter().map(FetchManifest::new));
            assert!(results.iter().all(Result::is_ok), "{results:?}");
            assert_eq!(tokens(&script.lines()), repositories, "{places} places: {:?}", script.lines());
        }
    }
}

#[test]
fn what_one_is_refused_all_that_waited_are_refused() {
    let mut script = Script::new(|request| match request.host() {
        "t" => reply(401, &[], r#"{"details":"incorrect username or password"}"#),
        _ => challenge(&wants_of(request)),
    });
    let flows = references(1, 100);
    let results = script.run_all(&mut user(), flows.iter().map(FetchManifest::new));
    assert_eq!(tokens(&script.lines()), 1, "a hundred wrong passwords lock an account");
    for result in &results {
        assert_eq!(denied(result).because, DeniedBecause::WrongCredentials);
    }
}

#[test]
fn a_token_server_in_trouble_is_not_stormed() {
    let mut troubles = 0;
    let mut script = Script::new(|request| match request.host() {
        "t" => {
            troubles += 1;
            match troubles {
                1 => reply(503, &[("retry-after", "7")], ""),
                2 => Err(Failure::new(FailureKind::Cut, "")),
                3 => reply(429, &[], ""),
                _ => token("A"),
            }
        }
        _ => takes(request, "A", &wants_of(request)),
    });
    let flows = references(1, 100);
    let results = script.run_all(&mut anonymous(), flows.iter().map(FetchManifest::new));
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(tokens(&script.lines()), 4);
    assert!(script.now().since_epoch() >= Duration::from_secs(7), "Retry-After holds for token servers, too");
    assert!(script.now().since_epoch() < Duration::from_secs(60));
}

#[test]
fn a_fetcher_that_is_cancelled_leaves_its_place_to_another() {
    use registry_proto::{Flow as _, Step};
    for cancel_while in ["fetching", "pausing"] {
        let mut session = anonymous();
        Script::new(each_with_its_token).run(&mut session, FetchManifest::new(&references(1, 1)[0])).unwrap();
        // The token has expired; this one starts to fetch a new one …
        let now = registry_proto::Time::from_epoch(Duration::from_secs(1000));
        let mut first = FetchManifest::new(&references(1, 1)[0]);
        let mut job = None;
        while let Step::Run(started) = first.poll(&mut session.at(now)) {
            job = Some(started);
        }
        if cancel_while == "pausing" {
            let Some(registry_proto::job::Job::Exchange(ticket, ..)) = job else { panic!("{job:?}") };
            let done = ticket.failed(Failure::new(FailureKind::Cut, ""), None);
            first.handle(&mut session.at(now), done).unwrap();
        }
        first.cancel();
        loop {
            match first.poll(&mut session.at(now)) {
                Step::Done(result) => break assert!(matches!(result, Err(Error::Cancelled))),
                Step::Wait(_) => panic!("it was cancelled"),
                Step::Run(_) | Step::Abort(_) | Step::Note(_) => {}
            }
        }
        // … and another does without waiting for anything.
        let mut script = Script::new(each_with_its_token);
        script.pass(Duration::from_secs(1000));
        script.run(&mut session, FetchManifest::new(&references(1, 1)[0])).unwrap();
        assert!(script.now().since_epoch() < Duration::from_secs(1001), "{cancel_while}: it waited");
        assert_eq!(tokens(&script.lines()), 1);
    }
}

#[test]
fn requests_for_tokens_count_where_they_go() {
    // Registry and token server are one origin with one place: a token and a manifest are never asked for at once, and
    // nobody waits for the place that he holds himself.
    let mut config = Config::default();
    config.requests_per_registry = NonZeroUsize::MIN;
    let mut session = Session::new(config, 1);
    let wants = r#"Bearer realm="https://r.example/token",service="s""#;
    let mut script =
        Script::new(|request| if request.url.path() == "/token" { token("A") } else { takes(request, "A", wants) });
    let flows = references(5, 4);
    let results = script.run_all(&mut session, flows.iter().map(FetchManifest::new));
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    // Each takes a millisecond, and none at the same time as another.
    let took = script.now().since_epoch().as_millis();
    assert!(took >= script.lines().len() as u128, "{took} ms for {} requests", script.lines().len());
}

#[test]
fn a_token_server_has_places_and_pauses_of_its_own() {
    for places in [1, 2] {
        let mut config = Config::default();
        config.requests_per_registry = NonZeroUsize::new(places).unwrap();
        let mut refused = false;
        let mut script = Script::new(|request| match request.host() {
            "t" if !std::mem::replace(&mut refused, true) => reply(429, &[("retry-after", "7")], ""),
            _ => each_with_its_token(request),
        });
        let flows = references(20, 1);
        let results = script.run_all(&mut Session::new(config, 1), flows.iter().map(FetchManifest::new));
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        let asked: Vec<&Request> = script.requests().iter().filter(|request| request.host() == "t").collect();
        for one in &asked {
            let at_once = asked.iter().filter(|other| other.at == one.at).count();
            assert!(at_once <= places, "{at_once} at once, {places} allowed");
        }
        // But for those under way already, nobody asks before the seven seconds are over.
        let early = asked.iter().filter(|request| request.at.since_epoch() < Duration::from_secs(7)).count();
        assert!(early <= places, "{early} asked too early");
    }
}

#[test]
fn different_accounts_for_parts_of_a_registry() {
    let mut config = Config::default();
    config.credentials.insert("r.example/a", Credential::password("user-a", "x"));
    config.credentials.insert("r.example", Credential::password("user", "pass"));
    let mut session = Session::new(config, 1);
    let mut script = Script::new(each_with_its_token);
    for name in ["r.example/a/x:v1", "r.example/b:v1"] {
        script.run(&mut session, FetchManifest::new(&name.parse().unwrap())).unwrap();
    }
    let shown: Vec<&str> =
        script.requests().iter().filter(|request| request.host() == "t").map(|r| r.header("authorization")).collect();
    assert_eq!(shown, ["Basic dXNlci1hOng=", BASIC]);
}

#[test]
fn a_wrong_password_fails_one_operation_and_not_its_neighbours() {
    let mut script = Script::new(|request| match (request.host(), request.url.query()) {
        ("t", Some(query)) if query.contains("repository:n0:") => reply(403, &[], ""),
        ("t", _) => token("A"),
        _ => takes(request, "A", &wants_of(request)),
    });
    let flows = references(2, 2);
    let results = script.run_all(&mut user(), flows.iter().map(|name| Each::new(FetchManifest::new(name))));
    let fine: Vec<bool> = results.iter().map(|result| matches!(result, Ok(Ok(Manifest { .. })))).collect();
    assert_eq!(fine, [false, false, true, true]);
}
