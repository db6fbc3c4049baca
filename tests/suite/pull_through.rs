//! Mirrors: who is asked first, what is believed to whom, and who is asked when a mirror is no help.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{
    DeleteManifest, Destination, FetchManifest, Inspect, ListReferrers, ListTags, Platforms, Pull, PullOptions, Pulled,
    Push, PushOptions, Resolve, Retag,
};
use registry_proto::job::{Failure, FailureKind};
use registry_proto::spec::{Digest, Manifest, Reference};
use registry_proto::testing::registry::{Auth, Profile, Registry, Support};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Credential, Error, Event, Mirror, Session};
use registry_tests::images::{image, put};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{self, Server};
use tempfile::TempDir;

type Answer = Result<Response<Bytes>, Failure>;

const MIRROR: &str = "m.example";

fn config() -> Config {
    let mut config = Config::default();
    config.mirrors.add(&"r.example".parse().unwrap(), Mirror::new(MIRROR.parse().unwrap()));
    config
}

fn trusting() -> Config {
    let mut config = Config::default();
    config.mirrors.add(&"r.example".parse().unwrap(), Mirror::new(MIRROR.parse().unwrap()).trusted_with_tags());
    config
}

fn status(status: u16, headers: &[(&str, &str)]) -> Answer {
    let mut reply = Response::builder().status(status);
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    Ok(reply.body(Bytes::new()).unwrap())
}

/// What `r.example` and its mirror have: the same image, under the same tag.
struct World {
    registry: Registry,
    mirror: Registry,
    manifest: Manifest,
}

fn world() -> World {
    let profile = || Profile { delete: Support::Yes, ..Profile::distribution_3() };
    let (mut registry, mut mirror) = (Registry::new(profile()), Registry::new(profile()));
    let (image, other) = (image(&[b"a layer", b"another"]), image(&[b"older things"]));
    let manifest = put(&mut registry, "n", Some("v1"), &image);
    put(&mut mirror, "n", None, &image);
    put(&mut mirror, "n", Some("v1"), &other);
    World { registry, mirror, manifest }
}

impl World {
    /// Answers as they do.
    fn answer(&mut self, request: &Request) -> Answer {
        let of = if request.host() == MIRROR { &mut self.mirror } else { &mut self.registry };
        Ok(of.handle(&request.head(), request.body.clone()))
    }
}

fn pull() -> Pull {
    let mut options = PullOptions::default();
    options.platforms = Platforms::All;
    Pull::new(["r.example/n:v1".parse().unwrap()], "out.tar", options)
}

/// Pulls from a world where the mirror answers like that; what was pulled, what was asked and told, and how long it took.
fn pulled(
    config: Config,
    mut mirror: impl FnMut(&Request, &mut World) -> Answer,
) -> (Result<Pulled, Error>, Vec<Request>, Vec<Event>, Duration) {
    let mut world = world();
    let mut script = Script::new(|request: &Request| match request.host() {
        MIRROR => mirror(request, &mut world),
        _ => world.answer(request),
    });
    let result = script.run(&mut Session::new(config, 1), pull());
    let (requests, events) = (script.requests().to_vec(), script.events().to_vec());
    (result, requests, events, script.now().since(registry_proto::Time::ZERO))
}

fn lines(requests: &[Request], host: &str) -> Vec<String> {
    requests.iter().filter(|request| request.host() == host).map(Request::line).collect()
}

fn notices(events: &[Event]) -> Vec<&str> {
    let told = events.iter().filter_map(|event| match event {
        Event::Notice(what) => Some(what.as_str()),
        _ => None,
    });
    told.collect()
}

// ── who is believed what ─────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a45_a_tag_is_the_registrys_own_word() {
    let (result, requests, events, _) = pulled(config(), |request, world| world.answer(request));
    assert_eq!(result.unwrap().images[0].digest, *world().manifest.digest());
    assert_eq!(lines(&requests, "r.example"), ["GET https://r.example/v2/n/manifests/v1"], "blobs are the mirror's");
    let asked = lines(&requests, MIRROR);
    assert_eq!(asked.len(), 3, "{asked:?}");
    let is_a_blob =
        |line: &String| line.starts_with("GET https://m.example/v2/n/blobs/sha256:") && line.ends_with("?ns=r.example");
    assert!(asked.iter().all(is_a_blob), "{asked:?}");
    assert_eq!(notices(&events), [""; 0]);

    let mut world = world();
    let digest = world.manifest.digest().clone();
    let mut script = Script::new(|request: &Request| world.answer(request));
    let mut session = Session::new(config(), 1);
    let (tag, by_digest) = ("r.example/n:v1".parse().unwrap(), format!("r.example/n@{digest}").parse().unwrap());
    assert_eq!(script.run(&mut session, Resolve::new(tag)).unwrap().digest, digest);
    assert_eq!(
        script.run(&mut session, FetchManifest::new(&"r.example/n:v1".parse().unwrap())).unwrap().digest(),
        &digest
    );
    assert_eq!(script.run(&mut session, FetchManifest::new(&by_digest)).unwrap().digest(), &digest);
    assert_eq!(script.run(&mut session, Inspect::new("r.example/n:v1".parse().unwrap())).unwrap().digest(), &digest);
    let of_the_mirror = lines(script.requests(), MIRROR);
    assert!(of_the_mirror.iter().all(|line| line.contains("sha256:")), "{of_the_mirror:?}");
    assert!(of_the_mirror.contains(&format!("GET https://m.example/v2/n/manifests/{digest}?ns=r.example")));
}

#[test]
fn a45_only_who_is_trusted_with_tags_is_believed_them() {
    let (result, requests, ..) = pulled(trusting(), |request, world| world.answer(request));
    assert_ne!(result.unwrap().images[0].digest, *world().manifest.digest(), "that is what trusting it means");
    assert_eq!(lines(&requests, "r.example"), [""; 0]);
    assert_eq!(requests[0].line(), "GET https://m.example/v2/n/manifests/v1?ns=r.example");

    // It says itself that this is of another registry.
    let (result, ..) = pulled(trusting(), |request, world| {
        let mut reply = world.answer(request)?;
        reply.headers_mut().insert("oci-namespace", "elsewhere.example".parse().unwrap());
        Ok(reply)
    });
    assert_eq!(result.unwrap().images[0].digest, *world().manifest.digest());
}

#[test]
fn a45_other_bytes_than_asked_for_are_not_taken() {
    type Lie = fn(&Request, &mut World) -> Answer;
    let changed: Lie = |request, world| {
        let mut reply = world.answer(request)?;
        *reply.body_mut() = reply.body().iter().map(|byte| byte ^ 1).collect::<Vec<_>>().into();
        Ok(reply)
    };
    let page: Lie = |_, _| Ok(Response::new(Bytes::from_static(b"<html>Welcome!</html>")));
    let short: Lie = |request, world| {
        let mut reply = world.answer(request)?;
        *reply.body_mut() = reply.body().slice(..1);
        reply.headers_mut().remove("content-length");
        Ok(reply)
    };
    let long: Lie = |_, _| Ok(Response::new(Bytes::from(vec![b'x'; 9_000_000])));
    for (name, lie) in [("changed", changed), ("page", page), ("short", short), ("long", long)] {
        let (result, requests, events, _) = pulled(config(), lie);
        assert_eq!(result.unwrap().images[0].digest, *world().manifest.digest(), "{name}");
        let told = notices(&events).join("\n");
        assert!(told.contains("https://m.example"), "{name}: {told}");
        // What was under way when it was found out may have been asked of it, too.
        assert!(lines(&requests, MIRROR).len() <= 4, "{name}: {requests:?}");
        assert!(lines(&requests, "r.example").len() >= 2, "{name}");

        let digest = world().manifest.digest().clone();
        let by_digest = format!("r.example/n@{digest}").parse().unwrap();
        let mut world = world();
        let mut script = Script::new(|request: &Request| match request.host() {
            MIRROR => lie(request, &mut world),
            _ => world.answer(request),
        });
        let found = script.run(&mut Session::new(config(), 1), FetchManifest::new(&by_digest)).unwrap();
        assert_eq!(found.digest(), &digest, "{name}");
    }
}

#[test]
fn a45_nobody_sees_credentials_that_are_for_somebody_else() {
    let answer = |request: &Request, world: &mut World| match request.header("authorization") {
        "" => status(401, &[("www-authenticate", "Basic realm=\"here\"")]),
        _ => world.answer(request),
    };
    let shown = |config: Config| {
        let mut world = world();
        let mut script = Script::new(|request: &Request| answer(request, &mut world));
        script.run(&mut Session::new(config, 1), pull()).unwrap();
        let of = |host: &str| {
            let mut all: Vec<String> = script
                .requests()
                .iter()
                .filter(|one| one.host() == host)
                .map(|one| one.header("authorization").to_owned())
                .collect();
            all.sort();
            all.dedup();
            all
        };
        (of("r.example"), of(MIRROR))
    };
    let (users, guests) = ("Basic dXNlcjpwYXNz".to_owned(), "Basic Z3Vlc3Q6cGFzcw==".to_owned());
    let mut config = config();
    config.log_in(&"r.example".parse().unwrap(), Credential::password("user", "pass"));
    assert_eq!(shown(config.clone()), (vec![String::new(), users.clone()], vec![String::new()]));
    config.log_in(&MIRROR.parse().unwrap(), Credential::password("guest", "pass"));
    assert_eq!(shown(config), (vec![String::new(), users], vec![String::new(), guests]));
}

// ── when a mirror is no help ─────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn whoever_does_not_answer_is_not_waited_for() {
    type Trouble = fn() -> Answer;
    let refused: Trouble = || Err(Failure::new(FailureKind::Connect, "refused"));
    for (trouble, told) in [
        (refused, "refused"),
        (|| Err(Failure::new(FailureKind::Tls, "a stranger")), "a stranger"),
        (|| Err(Failure::new(FailureKind::Cut, "gone")), "gone"),
        (|| status(500, &[]), "500"),
        (|| status(503, &[("retry-after", "3600")]), "503"),
        (|| status(429, &[]), "429"),
        (|| status(400, &[]), "400"),
        (|| status(307, &[("location", "http://m.example/in/the/clear")]), "in the clear"),
        (|| status(404, &[]), ""),
        (|| status(401, &[]), ""),
        (|| status(403, &[]), ""),
    ] {
        let (result, requests, events, took) = pulled(config(), |_, _| trouble());
        result.unwrap();
        let notices = notices(&events);
        assert_eq!(notices.len(), usize::from(!told.is_empty()), "{told}: {notices:?}");
        assert!(
            told == "in the clear"
                || notices.iter().all(|notice| notice.contains(told) && notice.contains("r.example")),
            "{notices:?}"
        );
        assert!(took < Duration::from_millis(100), "{told}: it took {took:?}");
        assert_eq!(lines(&requests, "r.example").len(), 4, "{told}");
    }
}

#[test]
fn a_mirror_rests_for_a_while() {
    let (mut world, mut broken) = (world(), true);
    let digest = world.manifest.digest().clone();
    let fetch = || FetchManifest::new(&format!("r.example/n@{digest}").parse().unwrap());
    let mut session = Session::new(config(), 1);
    let mut script = Script::new(|request: &Request| match request.host() {
        MIRROR if std::mem::take(&mut broken) => status(502, &[]),
        _ => world.answer(request),
    });
    let mut asked = |script: &mut Script<_>, after: u64| {
        script.pass(Duration::from_secs(after));
        let before = script.requests().len();
        script.run(&mut session, fetch()).unwrap();
        script.requests()[before..].iter().map(|request| request.host().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(asked(&mut script, 0), [MIRROR, "r.example"]);
    assert_eq!(asked(&mut script, 30), ["r.example"]);
    assert_eq!(asked(&mut script, 31), [MIRROR]);
}

#[test]
fn mirrors_are_asked_in_their_order() {
    let mut config = config();
    config.mirrors.add(&"r.example".parse().unwrap(), Mirror::new("m2.example:5000".parse().unwrap()));
    config.mirrors.add(&"other.example".parse().unwrap(), Mirror::new("m3.example".parse().unwrap()));
    let mut world = world();
    let digest = world.manifest.digest().clone();
    let fetch = FetchManifest::new(&format!("r.example/n@{digest}").parse().unwrap());
    let mut script = Script::new(|request: &Request| match request.host() {
        "r.example" => world.answer(request),
        _ => status(404, &[]),
    });
    script.run(&mut Session::new(config, 1), fetch).unwrap();
    let rest = format!("/v2/n/manifests/{digest}");
    assert_eq!(
        script.lines(),
        [
            format!("GET https://m.example{rest}?ns=r.example"),
            format!("GET https://m2.example:5000{rest}?ns=r.example"),
            format!("GET https://r.example{rest}"),
        ]
    );
}

/// A blob that a mirror breaks off goes on at the registry, from where it stopped.
#[test]
fn what_a_mirror_began_the_registry_ends() {
    let (result, requests, ..) = pulled(config(), |request, world| {
        let mut reply = world.answer(request)?;
        if reply.body().len() == b"a layer".len() {
            // Less than was announced is a cut.
            *reply.body_mut() = reply.body().slice(..3);
        }
        Ok(reply)
    });
    assert_eq!(result.unwrap().images[0].digest, *world().manifest.digest());
    assert!(requests.iter().any(|request| request.host() == "r.example" && request.url.path().contains("/blobs/")));
}

// ── what mirrors never hear of ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn whatever_changes_something_is_not_for_mirrors() {
    let mut world = world();
    let tar = make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &[b"a layer of its own"])]);
    let disk = MemoryDisk([("app.tar".into(), tar)].into());
    let mut script = Script::new(|request: &Request| world.answer(request)).with_disk(disk);
    let mut session = Session::new(trusting(), 1);
    let reference = |text: &str| -> Reference { text.parse().unwrap() };
    let to = Destination::Reference("r.example/app:v1".parse().unwrap());
    script.run(&mut session, Push::new(std::path::Path::new("app.tar"), to, PushOptions::default())).unwrap();
    script.run(&mut session, Retag::new(&reference("r.example/n:v1"), vec!["v2".parse().unwrap()])).unwrap();
    script.run(&mut session, ListTags::new("r.example/n".parse().unwrap())).unwrap();
    script.run(&mut session, ListReferrers::new(&reference("r.example/n:v1"))).unwrap();
    script.run(&mut session, DeleteManifest::new(&reference("r.example/n:v2"))).unwrap();
    assert_eq!(lines(script.requests(), MIRROR), [""; 0]);
    assert!(script.requests().len() > 8);
}

// ── over sockets ─────────────────────────────────────────────────────────────────────────────────────────────────────

fn a45_a_pull_by_way_of_a_mirror(runtime: Runtime) {
    let profile = Profile { requires_auth: Some(Auth::basic("user", "swordfish")), ..Profile::distribution_3() };
    let (mut upstream, mut copy) = (Registry::new(profile), Registry::new(Profile::distribution_3()));
    let image = image(&[b"what only the registry has", &[7; 300_000], b"a layer"]);
    let manifest = put(&mut upstream, "n", Some("v1"), &image);
    put(&mut copy, "n", Some("v1"), &image);
    copy.remove_blob("n", Digest::of(b"what only the registry has").as_str());
    assert!(copy.damage_blob("n", Digest::of(b"a layer").as_str(), 3));
    let registry = Server::start(upstream, |_| server::Answer::registry());
    let mirror = Server::start(copy, |_| server::Answer::registry());

    let mut config = Config::default();
    config.transfers = std::num::NonZeroUsize::MIN;
    config.mirrors.add(&registry.host().parse().unwrap(), Mirror::new(mirror.host().parse().unwrap()));
    config.log_in(&registry.host().parse().unwrap(), Credential::password("user", "swordfish"));
    let pull = |out: &std::path::Path| {
        let mut options = PullOptions::default();
        options.platforms = Platforms::All;
        let flow = Pull::new([format!("{}/n:v1", registry.host()).parse().unwrap()], out, options);
        let pulled = runtime.run(config.clone(), flow).unwrap();
        assert_eq!(pulled.images[0].digest, *manifest.digest());
        fs::read(out).unwrap()
    };
    let folder = TempDir::new().unwrap();
    let with_mirror = pull(&folder.path().join("out.tar"));
    assert_eq!(
        mirror.log().len(),
        4,
        "the configuration and three layers, of which one is not there and one is damaged"
    );
    for asked in mirror.log() {
        assert_eq!(asked.head.uri.query(), Some(format!("ns={}", registry.host()).as_str()));
        assert!(asked.is("GET", "/v2/n/blobs/") && asked.header("authorization").is_empty(), "{asked:?}");
    }
    assert!(registry.log().iter().all(|asked| asked.head.uri.query().is_none()));

    let asked = registry.log().len();
    drop(mirror);
    assert_eq!(pull(&folder.path().join("again.tar")), with_mirror, "without it, too");
    assert!(registry.log().len() > asked + 3);
}

on_all_runtimes!(a45_a_pull_by_way_of_a_mirror);
