//! What refers to a manifest: listed by registries in their several ways, and by clients for registries that don't; in the
//! simulator under faults, and over sockets on all runtimes.
//!
//! ```text
//! SIM_SEED=4711 cargo test -p registry-tests --test referrers lists_end      replays one seed and shows what happened
//! ```

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::time::Duration;

use http::StatusCode;
use registry_proto::flow::ListReferrers;
use registry_proto::spec::{Descriptor, Digest, Manifest, MediaType, Tag};
use registry_proto::testing::registry::{Auth, Profile, Referrers, Registry};
use registry_proto::{Config, Credential, Error, Event};
use registry_tests::images::{image, put, put_index, put_manifest, reference};
use registry_tests::on_all_runtimes;
use registry_tests::referrers::{ListScenario, put_about, put_list};
use registry_tests::runtimes::Runtime;
use registry_tests::seeds::{for_every_seed, number};
use registry_tests::server::{self, Answer, Server};

/// How many seeds are run where nobody says otherwise.
const SEEDS: u64 = 5_000;
const SBOM: &str = "application/vnd.example.sbom+json";
const SIGNATURE: &str = "application/vnd.example.signature";

#[test]
fn lists_end_right_or_with_a_clear_error() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let succeeded = for_every_seed("referrers", "lists_end_right_or_with_a_clear_error", seeds, |seed| {
        ListScenario::new(seed).run(number("SIM_SEED").is_some())
    });
    println!("{succeeded} of {seeds} lists were found; the others ended with a clear error");
    assert!(number("SIM_SEED").is_some() || succeeded > seeds * 7 / 10, "only {succeeded} of {seeds} succeeded");
}

fn quick() -> Config {
    let mut config = Config::default();
    config.backoff = Duration::from_millis(10);
    config.backoff_limit = Duration::from_millis(20);
    config
}

/// An image `app:v1` with three things said about it, in the order of their digests.
fn filled(profile: Profile) -> (Registry, Manifest, Vec<Descriptor>) {
    let mut registry = Registry::new(profile);
    let subject = put(&mut registry, "app", Some("v1"), &image(&[b"a layer"]));
    let mut listed: Vec<Descriptor> = [(SBOM, "parts"), (SIGNATURE, "mine"), (SIGNATURE, "yours")]
        .map(|(kind, content)| put_about(&mut registry, "app", &subject, kind, content).referrer())
        .into();
    listed.sort_by(|one, other| one.digest.cmp(&other.digest));
    // Said about something else.
    let other = put(&mut registry, "app", None, &image(&[b"another layer"]));
    put_about(&mut registry, "app", &other, SBOM, "other parts");
    (registry, subject, listed)
}

fn listed_by_the_registry_page_by_page(runtime: Runtime) {
    for filters in [true, false] {
        let profile = Profile {
            referrers: Referrers::Listed,
            referrers_page: Some(1),
            filters_referrers: filters,
            requires_auth: Some(Auth::bearer_for("/token", "registry.test", "me", "secret")),
            ..Profile::distribution_3()
        };
        let (registry, subject, listed) = filled(profile);
        let server = Server::start(registry, |_| Answer::registry());
        let mut config = quick();
        config.log_in(&server.host().parse().unwrap(), Credential::password("me", "secret"));
        for what in [format!("app@{}", subject.digest()), "app:v1".to_owned()] {
            let about = reference(&server.host(), &what);
            assert_eq!(runtime.run(config.clone(), ListReferrers::new(&about)).unwrap(), listed, "{what}");
            let signatures = ListReferrers::new(&about).of_type(MediaType::new(SIGNATURE));
            let signatures = runtime.run(config.clone(), signatures).unwrap();
            assert_eq!(signatures.len(), 2, "{what}");
            assert!(signatures.iter().all(|one| one.artifact_type == Some(MediaType::new(SIGNATURE))));
        }
        let asked: Vec<String> = server
            .log()
            .iter()
            .filter(|asked| asked.is("GET", "/referrers/"))
            .filter_map(|asked| asked.head.uri.query().map(str::to_owned))
            .collect();
        assert!(asked.iter().any(|query| query == "artifactType=application/vnd.example.signature"), "{asked:?}");
        assert!(asked.iter().any(|query| query.starts_with("last=sha256%3A")), "{asked:?}");
    }
    let (registry, ..) = filled(Profile::strict());
    let server = Server::start(registry, |_| Answer::registry());
    let nothing = reference(&server.host(), &format!("app@{}", Digest::of(b"not there")));
    assert_eq!(runtime.run(quick(), ListReferrers::new(&nothing)).unwrap(), []);
    let why = runtime.run(quick(), ListReferrers::new(&reference(&server.host(), "app:v2"))).unwrap_err().to_string();
    assert!(why.contains("/v2/app/manifests/v2") && why.contains("MANIFEST_UNKNOWN"), "{why}");
}

fn c87_c88_listed_under_a_tag_where_the_registry_does_not(runtime: Runtime) {
    let status = |status| Referrers::Unknown(StatusCode::from_u16(status).unwrap());
    for (instead, notices) in [
        (status(404), 0),
        (status(405), 0),
        (status(406), 0),
        (status(501), 0),
        (Referrers::Page("<html>"), 1),
        (Referrers::Page("{}"), 1),
        (Referrers::Page(""), 1),
    ] {
        let (mut registry, subject, listed) = filled(Profile { referrers: instead, ..Profile::distribution_3() });
        let server = Server::start(registry.clone(), |_| Answer::registry());
        let run = |host: &str| {
            let mut told = Vec::new();
            let flow = ListReferrers::new(&reference(host, &format!("app@{}", subject.digest())));
            let found = runtime.run_with(quick(), flow, |event| {
                if let Event::Notice(what) = event {
                    told.push(what);
                }
            });
            (found.unwrap(), told)
        };
        assert_eq!(run(&server.host()).0, [], "C87: {instead:?}");
        put_list(&mut registry, "app", subject.digest(), listed.clone());
        let server = Server::start(registry, |_| Answer::registry());
        let (found, told) = run(&server.host());
        assert_eq!(found, listed, "{instead:?}");
        assert_eq!(told.len(), notices, "{instead:?}: {told:?}");
        assert!(told.iter().all(|what| what.contains(Tag::of_referrers(subject.digest()).as_str())), "{told:?}");
        assert_eq!(server.log().len(), 2, "{instead:?}");
    }
}

/// Where the digest as a tag leads to what has that digest, there is no list; not even if what has it is an index.
fn gitlab_hands_out_the_subject_for_its_list(runtime: Runtime) {
    let mut registry = Registry::new(Profile { digests_as_tags: true, ..Profile::distribution_3() });
    let one = put(&mut registry, "app", None, &image(&[b"a layer"]));
    let index = put_index(&mut registry, "app", "v1");
    let server = Server::start(registry, |_| Answer::registry());
    for subject in [one, index] {
        let flow = ListReferrers::new(&reference(&server.host(), &format!("app@{}", subject.digest())));
        assert_eq!(runtime.run(quick(), flow).unwrap(), [], "{subject:?}");
    }
    assert_eq!(server.count("GET", "/manifests/sha256-"), 2);
}

fn refusals_are_told(runtime: Runtime) {
    for (status, says) in [("403 Forbidden", "access denied (403)"), ("400 Bad Request", "answered 400")] {
        let (registry, subject, _) = filled(Profile::strict());
        let server = Server::start(registry, move |asked| {
            if asked.is("GET", "/referrers/") {
                Answer::raw(server::reply(status, &[], ""))
            } else {
                Answer::registry()
            }
        });
        let flow = ListReferrers::new(&reference(&server.host(), &format!("app@{}", subject.digest())));
        let why = runtime.run(quick(), flow).unwrap_err().to_string();
        assert!(why.contains(says) && why.contains("/v2/app/referrers/sha256:"), "{status}: {why}");
        assert_eq!(server.log().len(), 1, "a refusal is no reason to look elsewhere");
    }
}

/// A server whose lists of referrers are what the script says of a request's number.
fn scripted(page: impl Fn(u64) -> String + Send + Sync + 'static) -> Server {
    Server::start(Registry::new(Profile::strict()), move |asked| Answer::raw(page(asked.number)))
}

fn lists_end_and_stay_where_they_are(runtime: Runtime) {
    let one = |n: u64| {
        let digest = Digest::of(&n.to_be_bytes());
        format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"a/b","digest":"{digest}","size":1}}]}}"#)
    };
    let page = move |n: u64, link: &str| server::reply("200 OK", &[&format!("Link: <{link}>; rel=next")], &one(n));
    let elsewhere = Server::start(Registry::new(Profile::strict()), |_| Answer::registry());
    let away = format!("http://{}/v2/app/referrers/x", elsewhere.host());
    for (says, most, server) in [
        ("leads to another origin", 1, scripted(move |n| page(n, &away))),
        ("leads back", 2, scripted(move |n| page(n, "?last=a"))),
        ("does not get ahead", 2, scripted(move |n| page(0, &format!("?last={n}")))),
        ("20 pages, which is the limit", 20, scripted(move |n| page(n, &format!("?last={n}")))),
        ("lists more than 10 referrers", 11, scripted(move |n| page(n, &format!("?last={n}")))),
        (
            "goes on with something else",
            2,
            scripted(move |n| if n == 0 { page(n, "?last=a") } else { server::reply("404 Not Found", &[], "") }),
        ),
        (
            "goes on with something else",
            2,
            scripted(move |n| if n == 0 { page(n, "?last=a") } else { server::reply("200 OK", &[], "<html>") }),
        ),
    ] {
        let mut config = quick();
        config.limits.pages = 20;
        if most == 11 {
            config.limits.entries = 10;
        }
        let flow = ListReferrers::new(&reference(&server.host(), &format!("app@{}", Digest::of(b""))));
        let why = runtime.run(config, flow).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }) && why.to_string().contains(says), "{says}: {why}");
        assert_eq!(server.log().len(), most, "{says}");
    }
    assert!(elsewhere.log().is_empty(), "nothing is asked of another origin");
}

/// What a list under a tag says is looked at as any other manifest.
fn a_list_that_is_none_is_no_list(runtime: Runtime) {
    let (mut registry, subject, _) = filled(Profile::distribution_3());
    let tag = Tag::of_referrers(subject.digest());
    let other = put(&mut registry, "app", None, &image(&[b"no list"]));
    put_manifest(&mut registry, "app", Some(tag.as_str()), &other);
    let about = format!("app@{}", subject.digest());
    let server = Server::start(registry.clone(), |_| Answer::registry());
    assert_eq!(runtime.run(quick(), ListReferrers::new(&reference(&server.host(), &about))).unwrap(), []);

    put_list(&mut registry, "app", subject.digest(), vec![other.descriptor()]);
    let server = Server::start(registry, move |asked| {
        let damage = |reply: &mut http::Response<bytes::Bytes>| {
            *reply.body_mut() = String::from_utf8_lossy(reply.body()).replace("schemaVersion", "schemaversion").into();
        };
        if asked.is("GET", tag.as_str()) { Answer::edited(damage) } else { Answer::registry() }
    });
    let why = runtime.run(quick(), ListReferrers::new(&reference(&server.host(), &about))).unwrap_err();
    assert!(matches!(why, Error::Integrity { .. }), "{why}");
}

on_all_runtimes!(
    listed_by_the_registry_page_by_page,
    c87_c88_listed_under_a_tag_where_the_registry_does_not,
    gitlab_hands_out_the_subject_for_its_list,
    refusals_are_told,
    lists_end_and_stay_where_they_are,
    a_list_that_is_none_is_no_list,
);
