//! Many operations of one session that want tokens at the same time.

use super::*;

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
