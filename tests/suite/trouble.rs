//! One policy for trouble: what is asked again, after which pause, how often, and who is told.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::num::NonZeroUsize;
use std::time::Duration;

use registry_proto::flow::{FetchManifest, Fleet};
use registry_proto::job::{FailureKind, Phase};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Error, Event, Session, UploadPolicy};
use registry_tests::dialogue::{line, lost, opened, push_layer, session, status};
use registry_tests::hostile::{Answer, MANIFEST, anonymous, fetch, manifest, reply, serve};

const LAYER: &[u8] = b"0123456789";

fn there() -> Answer {
    serve(MANIFEST, manifest())
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Fetches a manifest from a registry in trouble: how often it was asked, the pauses told, and how it ended.
fn fetched(seed: u64, mut trouble: impl FnMut(usize) -> Answer) -> (usize, Vec<Duration>, Result<(), Error>) {
    let mut script = Script::new(|request: &Request| trouble(request.number));
    let result = script.run(&mut Session::new(Config::default(), seed), fetch()).map(drop);
    let pauses = script.events().iter().filter_map(|event| match event {
        Event::Retrying { after, .. } => Some(*after),
        _ => None,
    });
    (script.lines().len(), pauses.collect(), result)
}

// ── what is asked again ──────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn statuses_that_say_not_now() {
    let tries = 1 + Config::default().retries as usize;
    for code in (400..600).filter(|code| *code != 401) {
        let (asked, pauses, result) = fetched(1, |_| status(code));
        let again = matches!(code, 408 | 425 | 429 | 500 | 502..=504 | 507..=509 | 520..=599);
        assert_eq!((asked, pauses.len()), if again { (tries, tries - 1) } else { (1, 0) }, "{code}");
        let why = result.unwrap_err();
        assert_eq!((why.status().unwrap().as_u16(), why.is_transient()), (code, again), "{why}");
        if again {
            let (asked, pauses, result) = fetched(1, |number| if number < 3 { status(code) } else { there() });
            assert_eq!((asked, pauses.len()), (4, 3), "{code}");
            result.unwrap();
        }
    }
}

#[test]
fn failures_that_may_not_happen_again() {
    use FailureKind::{
        Connect, Cut, Forbidden, Mismatch, Panicked, Protocol, Source, Stale, Target, Timeout, Tls, TooLarge,
        Unprocessed,
    };
    let retries = Config::default().retries as usize;
    for (kind, again) in [
        (Connect, true),
        (Cut, true),
        (Unprocessed, true),
        (Protocol, true),
        (Timeout(Phase::Connect), true),
        (Timeout(Phase::Head), true),
        (Timeout(Phase::Body), true),
        (Timeout(Phase::Whole), false),
        (Tls, false),
        (Forbidden, false),
        (TooLarge, false),
        (Source, false),
        (Target, false),
        (Mismatch, false),
        (Panicked, false),
    ] {
        let (asked, pauses, result) = fetched(1, |_| lost(kind));
        assert_eq!((asked, pauses.len()), if again { (1 + retries, retries) } else { (1, 0) }, "{kind:?}");
        match result.unwrap_err() {
            Error::Transport { last, tries, .. } => assert_eq!((last.kind(), tries as usize), (kind, asked)),
            Error::Local(last) => assert_eq!(last.kind(), kind),
            why => panic!("{kind:?}: {why}"),
        }
    }
    // A connection that had ended while it was kept is no trouble, once.
    let (asked, pauses, result) = fetched(1, |number| if number == 0 { lost(Stale) } else { there() });
    assert_eq!((asked, pauses.len()), (2, 0));
    result.unwrap();
    let (asked, pauses, result) = fetched(1, |_| lost(Stale));
    assert_eq!((asked, pauses.len()), (2 + retries, retries));
    result.unwrap_err();
}

#[test]
fn a_token_server_may_close_its_connections_too() {
    let mut asked = 0;
    let mut script = Script::new(|request: &Request| {
        if request.host() == "t" {
            asked += 1;
            return if asked == 1 { lost(FailureKind::Stale) } else { reply(200, &[], r#"{"token":"A"}"#) };
        }
        match request.header("authorization") {
            "" => reply(401, &[("www-authenticate", r#"Bearer realm="https://t/token",service="s""#)], ""),
            _ => there(),
        }
    });
    script.run(&mut anonymous(), fetch()).unwrap();
    assert!(!script.events().iter().any(|event| matches!(event, Event::Retrying { .. })));
    assert_eq!(script.lines().len(), 4);
}

/// What changes something is sent again without a question only if the peer says that it did nothing.
#[test]
fn what_may_have_arrived_is_asked_about() {
    const PUT: &str = "PUT /u?digest=D 0123456789";
    let push = |rest: Vec<registry_tests::dialogue::Line>| {
        push_layer(LAYER, Config::default(), opened("/u").into_iter().chain(rest))
    };
    for kind in [FailureKind::Unprocessed, FailureKind::Connect, FailureKind::Timeout(Phase::Connect)] {
        let ended = push(vec![line(PUT, lost(kind)), line(PUT, status(201))]);
        assert_eq!(ended.pauses().len(), 1, "{kind:?}");
        ended.well();
    }
    let asked = |kind| {
        vec![line(PUT, lost(kind)), line("HEAD /v2/n/blobs/D", status(404)), line("GET /u", session(204, "/u", "0--1"))]
    };
    for (kind, pauses) in [
        (FailureKind::Stale, 0),
        (FailureKind::Cut, 1),
        (FailureKind::Protocol, 1),
        (FailureKind::Timeout(Phase::Head), 1),
        (FailureKind::Timeout(Phase::Body), 1),
    ] {
        let ended = push([asked(kind), vec![line(PUT, status(201))]].concat());
        assert_eq!(ended.pauses().len(), pauses, "{kind:?}");
        ended.well();
    }
    // The second in a row is trouble.
    let ended = push([asked(FailureKind::Stale), asked(FailureKind::Stale), vec![line(PUT, status(201))]].concat());
    assert_eq!(ended.pauses().len(), 1);
    ended.well();
}

// ── pauses ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn pauses_double_and_are_spread_over_all_of_their_length() {
    let config = Config::default();
    let mut longest = vec![0.0_f64; config.retries as usize];
    let mut shortest = vec![1.0_f64; config.retries as usize];
    for seed in 0..300 {
        let (_, pauses, _) = fetched(seed, |_| status(503));
        for (n, pause) in pauses.iter().enumerate() {
            let limit = config.backoff.saturating_mul(1 << n).min(config.backoff_limit);
            assert!(*pause <= limit, "{n}: {pause:?}");
            let share = pause.as_secs_f64() / limit.as_secs_f64();
            (longest[n], shortest[n]) = (longest[n].max(share), shortest[n].min(share));
        }
    }
    assert!(longest.iter().all(|share| *share > 0.9) && shortest.iter().all(|share| *share < 0.1));
}

#[test]
fn a_pause_that_a_registry_asks_for_is_everybodys() {
    let flow = |name: &str| FetchManifest::new(&format!("r.example/{name}:v1").parse().unwrap());
    let mut script = Script::new(|request: &Request| match request.number {
        0 => reply(429, &[("retry-after", "7")], ""),
        _ => there(),
    });
    let mut session = Session::new(one_place(), 1);
    script
        .run_all(&mut session, [flow("a"), flow("b"), flow("c")])
        .into_iter()
        .for_each(|result| drop(result.unwrap()));
    assert!(script.requests()[1..].iter().all(|request| request.at.since_epoch() >= secs(7)));
    let told: Vec<Duration> = script
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Waiting { origin, after } if origin == "https://r.example" => Some(*after),
            _ => None,
        })
        .collect();
    assert_eq!(told, [secs(7)], "those that wait for it are told why, once");
}

#[test]
fn a_limit_of_ones_own_is_a_reason_too() {
    let mut config = Config::default();
    config.requests_per_second = std::num::NonZeroU32::new(2);
    let mut script = Script::new(|_: &Request| there());
    script.run(&mut Session::new(config, 1), many(5)).unwrap();
    assert!(script.now().since_epoch() >= secs(2));
    let told: Vec<&String> = script
        .events()
        .iter()
        .filter_map(|event| if let Event::Notice(what) = event { Some(what) } else { None })
        .collect();
    assert!(
        told.len() == 1 && told[0].contains("https://r.example is asked no more than 2 times a second"),
        "{told:?}"
    );
}

fn one_place() -> Config {
    let mut config = Config::default();
    config.requests_per_registry = NonZeroUsize::MIN;
    config
}

// ── an operation as a whole ──────────────────────────────────────────────────────────────────────────────────────────

fn many(count: usize) -> Fleet<FetchManifest> {
    let flows = (0..count).map(|n| FetchManifest::new(&format!("r.example/n{n}:v1").parse().unwrap()));
    Fleet::new(flows, NonZeroUsize::new(4).unwrap())
}

/// Each of a thousand manifests comes at the fourth try: no request gives up, but the operation does.
#[test]
fn an_operation_has_a_budget() {
    let mut tries = std::collections::BTreeMap::<String, u32>::new();
    let mut config = Config::default();
    config.retry_budget = 50;
    let mut script = Script::new(|request: &Request| {
        let times = tries.entry(request.line()).or_default();
        *times += 1;
        if times.is_multiple_of(4) { there() } else { status(502) }
    });
    let why = script.run(&mut Session::new(config.clone(), 1), many(1000)).unwrap_err();
    assert!(matches!(why, Error::GivenUp { .. }) && why.is_transient(), "{why}");
    let text = why.to_string();
    assert!(text.contains("502") && text.contains("/v2/n") && text.contains("requests of this operation"), "{text}");
    assert!(script.lines().len() < 110, "{} requests", script.lines().len());
    drop(script);
    // A registry that answers more often than not is asked for as long as it takes.
    let mut script = Script::new(|request: &Request| if request.number % 3 == 2 { status(503) } else { there() });
    assert_eq!(script.run(&mut Session::new(config, 1), many(1000)).unwrap().len(), 1000);
}

#[test]
fn an_operations_patience_has_an_end() {
    let wait = || reply(429, &[("retry-after", "300")], "");
    let run = |patience, mut answer: Box<dyn FnMut(&Request) -> Answer>| {
        let mut config = Config::default();
        config.patience = patience;
        let mut script = Script::new(|request: &Request| answer(request));
        let result = script.run(&mut Session::new(config, 1), fetch());
        (result, script.lines().len(), script.now().since_epoch())
    };
    // Another pause would be too long: it is not waited for.
    let (result, asked, took) = run(secs(700), Box::new(move |_| wait()));
    let why = result.unwrap_err().to_string();
    assert!(why.contains("429") && why.contains("another 300s would be too long"), "{why}");
    assert!(asked == 3 && took < secs(601), "{asked} requests in {took:?}");
    // Within it, it is.
    let (result, asked, _) = run(secs(700), Box::new(move |request| if request.number < 2 { wait() } else { there() }));
    assert!(result.is_ok() && asked == 3);
    // Whoever has been answered meanwhile begins to wait anew.
    let mut config = Config::default();
    config.patience = secs(700);
    let mut script = Script::new(|request: &Request| if request.number % 3 < 2 { wait() } else { there() });
    let flows = (0..4).map(|n| FetchManifest::new(&format!("r.example/n{n}:v1").parse().unwrap()));
    script.run(&mut Session::new(config, 1), Fleet::new(flows, NonZeroUsize::MIN)).unwrap();
    assert!(script.now().since_epoch() > secs(2000));
}

/// An operation that is given up tidies up as one that is stopped does; but it doesn't sit out a pause to do so.
#[test]
fn what_is_given_up_closes_its_sessions() {
    let mut config = Config::default();
    config.upload = UploadPolicy::Chunked(std::num::NonZeroU64::new(4).unwrap());
    config.retry_budget = 1;
    let cut = |at: &str| line(format!("PATCH {at} 4-7 4567"), lost(FailureKind::Cut));
    let dialogue = opened("/u").into_iter().chain([
        line("PATCH /u 0-3 0123", session(202, "/u", "0-3")),
        cut("/u"),
        line("GET /u", status(503)),
        line("DELETE /u", status(204)),
    ]);
    let ended = push_layer(LAYER, config.clone(), dialogue);
    assert!(matches!(ended.with("given up"), Error::GivenUp { .. }));

    (config.retry_budget, config.patience) = (100, secs(100));
    let dialogue = opened("/u").into_iter().chain([
        line("PATCH /u 0-3 0123", session(202, "/u", "0-3")),
        line("PATCH /u 4-7 4567", reply(503, &[("retry-after", "200")], "")),
    ]);
    let ended = push_layer(LAYER, config, dialogue);
    assert!(ended.at.since_epoch() < secs(100), "it ended at {}", ended.at);
    ended.with("it asked for a pause");
}
