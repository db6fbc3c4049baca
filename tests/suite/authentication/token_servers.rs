//! What is asked of token servers and of registries with ways of their own, and which answers are believed.

use super::*;

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
