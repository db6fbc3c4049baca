//! A token server as the attacker, and a registry that sends one to it (PROTOCOL §6, actors T and R). What an honest one makes a
//! client do is in `authentication/`, by the cases of the protocol (C1–C27).
//!
//! Each test is named by the attacks that it is about; `registry-proto/THREATS.md` lists them all.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::time::Duration;

use registry_proto::flow::{DeleteManifest, Flow, ListTags, Pinging};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Credential, Denied, DeniedBecause, Error, Secret, Session, Time, TokenRequest};
use registry_tests::hostile::{self, Answer, MANIFEST, check_text, disk, fetch, push, reply, serve, texts};

const PASSWORD: &str = "correct-horse";
/// With the user, as a header has it.
const BASIC: &str = "dXNlcjpjb3JyZWN0LWhvcnNl";
const BEARER: &str = r#"Bearer realm="https://t.example/token",service="s""#;

fn tags() -> ListTags {
    ListTags::new("r.example/n".parse().unwrap())
}

fn challenge(text: &str) -> Answer {
    reply(401, &[("www-authenticate", text)], "")
}

fn token(name: &str) -> Answer {
    reply(200, &[], format!(r#"{{"token":"{name}","expires_in":300}}"#))
}

fn manifest() -> Answer {
    serve(MANIFEST, hostile::manifest())
}

fn logged_in(credential: Credential) -> Session {
    let mut config = Config::default();
    config.log_in(&"r.example".parse().unwrap(), credential);
    Session::new(config, 1)
}

/// The kinds of things that are stored for a registry, none of which is to be had by anybody else.
fn credentials() -> [Credential; 3] {
    [
        Credential::password("user", PASSWORD),
        Credential::IdentityToken(Secret::new("refresh-me")),
        Credential::RegistryToken(Secret::new("stored-token")),
    ]
}

fn user() -> Session {
    logged_in(Credential::password("user", PASSWORD))
}

/// Whether anything of [`credentials`] is in it.
fn gives_away(request: &Request) -> bool {
    let shown =
        [request.header("authorization"), &request.url.to_string(), &String::from_utf8_lossy(&request.body)].join("\n");
    [PASSWORD, BASIC, "refresh-me", "stored-token"].iter().any(|secret| shown.contains(secret))
}

fn denied<T: std::fmt::Debug>(result: &Result<T, Error>) -> &Denied {
    match result {
        Err(Error::Denied(denied)) => denied,
        other => panic!("not denied: {other:?}"),
    }
}

fn run<F: Flow>(
    session: &mut Session,
    flow: F,
    answer: impl FnMut(&Request) -> Answer,
) -> (Result<F::Output, Error>, Vec<Request>, Vec<String>, Time) {
    let mut script = Script::new(answer).with_disk(disk());
    let result = script.run(session, flow);
    (result, script.requests().to_vec(), texts(script.events()), script.now())
}

// ── where a registry sends its clients ───────────────────────────────────────────────────────────────────────────────

#[test]
fn a01_a02_a03_realms_that_are_nobodys() {
    for realm in [
        "http://t.example/token",
        "http://r.example/token",
        "https://user@t.example/token",
        "https://169.254.169.254/latest/api/token",
        "https://127.0.0.1:2375/containers/json",
        "https://[::ffff:169.254.169.254]/",
        "https://0.0.0.0/",
        "https://[::]/",
        "https://2852039166/",
        "https://0251.0376.0251.0376/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://localhost/",
        "https://metadata.localhost/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "//t.example/token",
    ] {
        for credential in credentials() {
            // (A token for the registry itself needs no token server, and goes to the registry alone.)
            let stored = matches!(credential, Credential::RegistryToken(_));
            let wants = format!(r#"Bearer realm="{realm}",service="s",scope="repository:n:pull""#);
            let (result, requests, told, _) = run(&mut logged_in(credential), fetch(), |_| challenge(&wants));
            assert!(requests.iter().all(|request| request.host() == "r.example"), "{realm}");
            assert!(requests.iter().all(|request| request.url.path() == "/v2/n/manifests/v1"), "{realm}");
            assert!(stored || requests.iter().all(|request| !gives_away(request)), "{realm}");
            assert!(stored || matches!(denied(&result).because, DeniedBecause::UnusableChallenge(_)), "{realm}");
            let why = result.unwrap_err().to_string();
            told.iter().chain([&why]).for_each(|text| check_text(text));
        }
    }
}

/// Whatever realm a registry names: what goes there is what is stored for this registry, and nothing that is for another; not
/// even where the realm is that other one.
#[test]
fn a01_a_realm_gets_nothing_that_is_for_somebody_else() {
    for realm in ["https://other.example/token", "https://other.example:8443/token", "https://docker.io/token"] {
        let wants = format!(r#"Bearer realm="{realm}",service="other.example",scope="repository:n:pull""#);
        let mut config = Config::default();
        for other in ["other.example", "other.example:8443", "docker.io"] {
            config.log_in(&other.parse().unwrap(), Credential::password("user", PASSWORD));
        }
        let (result, requests, ..) = run(&mut Session::new(config, 1), fetch(), |request| {
            match (request.url.path(), request.header("authorization")) {
                ("/token", _) => token("A"),
                (_, "Bearer A") => manifest(),
                _ => challenge(&wants),
            }
        });
        result.unwrap();
        assert!(requests.iter().all(|request| !gives_away(request)), "{realm}: {requests:?}");
        assert!(requests.iter().any(|request| request.url.path() == "/token"), "{realm}: it was asked");
    }
}

/// A password that a token server was asked with is not handed to the registry because it says `Basic` one day, and a token of
/// whatever kind never as if it were a password.
#[test]
fn a30_basic_is_for_those_who_asked_for_it_from_the_start() {
    let mut held = user();
    let mut over = false;
    for basic in ["Basic realm=\"r.example\"", "Basic realm=\"t.example\", charset=\"UTF-8\""] {
        over = !over;
        let mut session = if over { std::mem::replace(&mut held, user()) } else { user() };
        let honest = |request: &Request| match (request.host(), request.header("authorization")) {
            ("t.example", _) => token("A"),
            (_, "Bearer A") => manifest(),
            _ => challenge(BEARER),
        };
        run(&mut session, fetch(), honest).0.unwrap();
        let (result, requests, ..) = run(&mut session, fetch(), |request| match request.host() {
            "t.example" => token("B"),
            _ => challenge(basic),
        });
        denied(&result);
        let shown: Vec<&str> = requests
            .iter()
            .filter(|request| request.host() == "r.example")
            .map(|request| request.header("authorization"))
            .collect();
        assert!(shown.iter().all(|header| header.starts_with("Bearer ")), "{shown:?}");
    }
    for credential in credentials().into_iter().skip(1) {
        let (result, requests, ..) = run(&mut logged_in(credential), fetch(), |_| challenge("Basic realm=\"here\""));
        assert!(matches!(denied(&result).because, DeniedBecause::UnusableChallenge(_)));
        assert_eq!(requests.len(), 1);
        assert!(!gives_away(&requests[0]));
    }
}

#[test]
fn a29_no_token_that_reaches_further_than_it_must() {
    for scope in [
        "repository:secret:pull,push",
        "repository:n:pull repository:secret:pull,push,delete",
        "registry:catalog:*",
        "repository:*:*",
        "repository(plugin):n:*",
        "* * *",
        "repository:n/../secret:pull,push",
        "repository::pull,push",
        "user:admin:*",
    ] {
        let wants = format!(r#"Bearer realm="https://t.example/token",service="s",scope="{scope}""#);
        let narrow = format!("{wants},error=\"insufficient_scope\"");
        for wants in [&wants, &narrow] {
            let (result, requests, ..) = run(&mut user(), fetch(), |request| match request.host() {
                "t.example" => token("A"),
                _ => challenge(wants),
            });
            denied(&result);
            for asked in requests.iter().filter(|request| request.host() == "t.example") {
                let query = asked.url.query().unwrap();
                let wide = ["push", "delete", "*", "catalog", "admin", "plugin"];
                assert!(!wide.iter().any(|word| query.contains(word)), "{scope}: {query}");
            }
        }
    }
}

/// However it goes on: each round changes something, and there are few.
#[test]
fn a28_a_registry_that_is_never_content() {
    type Wants = fn(usize) -> String;
    let wants: [(&str, Wants); 6] = [
        ("the same", |_| BEARER.to_owned()),
        ("another scope", |n| format!(r#"{BEARER},scope="repository:n:pull,a{n}",error="insufficient_scope""#)),
        ("another repository", |n| format!(r#"{BEARER},scope="repository:n{n}:pull",error="insufficient_scope""#)),
        ("another token server", |n| format!(r#"Bearer realm="https://t{n}.example/token",service="s""#)),
        ("another service", |n| format!(r#"Bearer realm="https://t.example/token",service="s{n}""#)),
        ("by turns", |n| if n % 2 == 0 { "Basic realm=\"x\"".to_owned() } else { BEARER.to_owned() }),
    ];
    for (what, wants) in wants {
        for credential in credentials() {
            let is_token_server = |request: &Request| request.url.path() == "/token";
            let answer = |request: &Request| match is_token_server(request) {
                true => token(&format!("T{}", request.number)),
                false => challenge(&wants(request.number)),
            };
            let mut session = logged_in(credential);
            let (result, requests, ..) = run(&mut session, fetch(), answer);
            denied(&result);
            assert!(requests.len() <= 8, "{what}: {} requests", requests.len());
            let (result, requests, ..) = run(&mut session, push(), answer);
            assert!(result.is_err(), "{what}");
            assert!(requests.len() <= 40, "{what}: {} requests of a push", requests.len());
            let flow = DeleteManifest::new(&"r.example/n:v1".parse().unwrap());
            let (result, requests, ..) = run(&mut session, flow, answer);
            assert!(result.is_err(), "{what}");
            assert!(requests.len() <= 16, "{what}: {} requests to delete", requests.len());
        }
    }
}

// ── what a token server says ─────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a04_a_token_server_that_passes_credentials_on() {
    for status in [300, 301, 302, 303, 307, 308] {
        for to in ["https://evil.example/token", "https://t.example/other", "http://t.example/token", "/other"] {
            for posted in [TokenRequest::Get, TokenRequest::PostThenGet] {
                for credential in credentials().into_iter().take(2) {
                    let mut config = logged_in(credential).config().clone();
                    config.token_request = posted;
                    let (result, requests, ..) = run(&mut Session::new(config, 1), fetch(), |request| {
                        match (request.host(), request.url.path()) {
                            ("t.example", "/token") => reply(status, &[("location", to)], ""),
                            ("r.example", _) => challenge(BEARER),
                            _ => token("A"),
                        }
                    });
                    assert_eq!(requests.len(), 2, "{status} {to}: {:?}", requests.last().map(Request::line));
                    assert!(matches!(denied(&result).because, DeniedBecause::UnusableToken(_)), "{status} {to}");
                }
            }
        }
    }
}

#[test]
fn a05_a12_tokens_that_are_none() {
    let limit = Config::default().limits.token_header;
    let named = |token: &str| format!(r#"{{"token":{}}}"#, serde_json::Value::from(token));
    let bad = [
        ("a line break", named("a\r\nX-Evil: 1")),
        ("a lone line feed", named("a\nX-Evil:1")),
        ("a blank", named("a b")),
        ("a NUL", named("a\0")),
        ("letters of others", named("tökén")),
        ("a control character", named("a\u{9b}2J")),
        ("a long one", named(&"x".repeat(limit + 1))),
        ("an empty one", named("")),
        ("a number", r#"{"token":5}"#.to_owned()),
        ("a list", format!("[{}]", named("A"))),
        ("nothing", String::new()),
        ("a page", "<html>log in</html>".to_owned()),
        ("a deep one", format!(r#"{{"token":{}"#, "[".repeat(500_000))),
        ("a list of the right length", r#"["A"]"#.to_owned()),
        ("a large one", format!(r#"{{"token":"A","rubbish":"{}"}}"#, "x".repeat(20 << 20))),
        ("no number at all", r#"{"token":"A","expires_in":1e999999}"#.to_owned()),
    ];
    for (what, body) in bad {
        let (result, requests, told, _) = run(&mut user(), fetch(), |request| match request.host() {
            "t.example" => reply(200, &[], &body),
            _ => challenge(BEARER),
        });
        let why = result.map(drop).unwrap_err().to_string();
        assert!(why.contains("token server's answer can't be used"), "{what}: {why}");
        assert_eq!(requests.len(), 2, "{what}");
        told.iter().chain([&why]).for_each(|text| {
            check_text(text);
            assert!(!text.contains("X-Evil") && !text.contains("xxxx"), "{what}: it is quoted: {text}");
        });
    }
    // What is nested beside it is passed by, however deep.
    let deep = format!(r#"{{"token":"A","x":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    let (result, ..) = run(&mut user(), fetch(), |request| match request.header("authorization") {
        _ if request.host() == "t.example" => reply(200, &[], &deep),
        "Bearer A" => manifest(),
        _ => challenge(BEARER),
    });
    result.unwrap();
    // The longest that is taken, with a lifetime that makes no sense.
    let longest = "x".repeat(limit);
    for lifetime in ["-1", "0", "18446744073709551616", "1e300", "\"soon\"", "null", "[]", "{}"] {
        let (result, requests, ..) = run(&mut user(), tags(), |request| match request.header("authorization") {
            _ if request.host() == "t.example" => {
                reply(200, &[], format!(r#"{{"token":"{longest}","expires_in":{lifetime}}}"#))
            }
            shown if shown.len() == "Bearer ".len() + limit => reply(200, &[], r#"{"tags":["a"]}"#),
            _ => challenge(BEARER),
        });
        result.unwrap_or_else(|why| panic!("{lifetime}: {why}"));
        assert_eq!(requests.len(), 3, "{lifetime}");
    }
}

#[test]
fn a32_a_token_server_that_has_all_the_time_in_the_world() {
    for wait in ["999999999", "18446744073709551616", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        for status in [429, 503] {
            let mut session = user();
            let (limit, retries) = (session.config().retry_after_limit, session.config().retries);
            let (result, requests, _, now) = run(&mut session, fetch(), |request| match request.host() {
                "t.example" => reply(status, &[("retry-after", wait), ("date", "Mon, 28 Feb 2028 23:59:59 GMT")], ""),
                _ => challenge(BEARER),
            });
            assert!(result.is_err());
            assert_eq!(requests.len(), 2 + retries as usize, "{wait}");
            assert!(now.since(Time::ZERO) <= limit * retries + Duration::from_secs(1), "{wait}: {now:?}");
        }
    }
}

// ── what is told of it ───────────────────────────────────────────────────────────────────────────────────────────────

/// No text that a user, a log or a bug report could come to see has a secret in it: credentials, tokens, signed queries.
#[test]
fn a42_secrets_are_nobodys_business() {
    let secrets = [PASSWORD, BASIC, "refresh-me", "stored-token", "T0PS3CRET", "sig=", "s1gned"];
    let check = |what: &str, text: &str| {
        for secret in secrets {
            assert!(!text.contains(secret), "{what}: {text}");
        }
    };
    type Attack = fn(&Request) -> Option<Answer>;
    let attacks: [(&str, Attack); 9] = [
        ("all is well", |_| None),
        ("the token is no header", |r| {
            (r.url.path() == "/token").then(|| reply(200, &[], r#"{"token":"T0PS3CRET\n"}"#))
        }),
        ("the token is no JSON", |r| {
            (r.url.path() == "/token").then(|| reply(200, &[], r#"{"token":"T0PS3CRET","expires_in":T0PS3CRET}"#))
        }),
        ("the token is of another kind", |r| {
            (r.url.path() == "/token").then(|| reply(200, &[], r#"{"token":["T0PS3CRET"]}"#))
        }),
        ("the token server is down", |r| (r.url.path() == "/token").then(|| reply(503, &[], ""))),
        ("the token is refused", |r| (r.url.path() != "/token").then(|| challenge(BEARER))),
        ("storage that refuses", |r| match r.host() {
            "s3.example" => Some(reply(403, &[], "")),
            "r.example" if r.header("authorization").starts_with("Bearer") => {
                Some(reply(307, &[("location", "https://s3.example/x?sig=s1gned")], ""))
            }
            _ => None,
        }),
        ("storage that is down", |r| match r.host() {
            "s3.example" => Some(reply(503, &[], "")),
            "r.example" if r.header("authorization").starts_with("Bearer") => {
                Some(reply(307, &[("location", "https://s3.example/x?sig=s1gned")], ""))
            }
            _ => None,
        }),
        ("storage that can't be", |r| {
            (r.header("authorization").starts_with("Bearer"))
                .then(|| reply(307, &[("location", "http://s3.example/x?sig=s1gned")], ""))
        }),
    ];
    for (what, attack) in attacks {
        for credential in credentials() {
            let mut session = logged_in(credential);
            let mut script = Script::new(|request: &Request| {
                attack(request).unwrap_or_else(|| match request.url.path() {
                    "/token" => token("T0PS3CRET"),
                    _ if request.header("authorization").starts_with("Bearer") => manifest(),
                    _ => challenge(BEARER),
                })
            });
            let result = script.run(&mut session, fetch());
            if let Err(why) = &result {
                check(what, &why.to_string());
                check(what, &format!("{why:?}"));
            }
            texts(script.events()).iter().for_each(|text| check(what, text));
            check(what, &format!("{:?}", script.events()));
            check(what, &format!("{session:?}"));
            check(what, &format!("{:?}", session.config()));
            // What goes out is marked, so that HTTP stacks that log don't.
            for request in script.requests() {
                check(what, &format!("{:?}", request.headers));
            }
        }
    }
}

/// An http registry that nobody has allowed to be one is not spoken to without encryption, whatever it answers.
#[test]
fn a41_https_is_not_given_up() {
    let (_, requests, ..) = run(&mut user(), Pinging::new("r.example".parse().unwrap()), |_| {
        Err(registry_proto::job::Failure::new(registry_proto::job::FailureKind::Connect, "not TLS"))
    });
    assert!(requests.len() > 1, "it was tried again");
    assert!(requests.iter().all(|request| request.url.scheme_str() == Some("https")), "{requests:?}");
    let (result, requests, ..) =
        run(&mut user(), fetch(), |_| reply(307, &[("location", "http://r.example/v2/n/manifests/v1")], ""));
    assert!(matches!(result, Err(Error::Protocol { .. })));
    assert_eq!(requests.len(), 1);
    assert!(requests.iter().all(|request| request.header("authorization").is_empty()));
}
