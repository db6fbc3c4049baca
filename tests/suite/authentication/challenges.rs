//! What a registry asks for, and when it is not answered: challenges, scopes, tokens that have expired.

use super::*;

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
