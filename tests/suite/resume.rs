//! Pushes and pulls that are killed at every step and gone on with from the state that they left, by a session that knows
//! nothing; and states that can't be gone on from.
//!
//! ```text
//! SIM_SEED=4711 cargo test -p registry-tests --test resume pushes    replays one seed
//! SIM_SEEDS=10000 cargo test -p registry-tests --test resume         runs that many
//! ```

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{Destination, Platforms, Pull, PullOptions, Push, PushOptions, Resumable, Resume};
use registry_proto::job::Completion;
use registry_proto::spec::Digest;
use registry_proto::testing::registry::{Outcome, Profile, Registry};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Context, Error, Event, Flow, Session, Snapshot, SnapshotFault, Step};
use registry_tests::images::{image, put, reference};
use registry_tests::pulls::PullScenario;
use registry_tests::scenario::Scenario;
use registry_tests::seeds::{for_every_seed, number};
use serde_json::Value;

/// How many seeds are run where nobody says otherwise. Each is killed at every one of its steps.
const SEEDS: u64 = 40;
/// A push in chunks of a byte has thousands of steps; the first ones are as good as the others.
const MOST_KILLS: u64 = 100;

const STATE: &str = "/state/of it.json";

fn state(world: &Simulation) -> Option<Value> {
    let files = world.files().snapshot().0;
    Some(serde_json::from_slice(files.get(Path::new(STATE))?).unwrap())
}

/// Which sessions a state tells of, and for which blobs.
fn sessions(state: &Value) -> BTreeMap<String, Digest> {
    let told = state["facts"]["push"]["sessions"].as_array().unwrap().iter();
    told.map(|one| {
        let url = one["session"]["url"].as_str().unwrap();
        let id = url.rsplit_once("/uploads/").unwrap().1.split('?').next().unwrap();
        (id.to_owned(), one["blob"].as_str().unwrap().parse().unwrap())
    })
    .collect()
}

#[test]
fn pushes_are_killed_at_every_step_and_gone_on_with() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let [kills, resumed, sent] = [const { AtomicU64::new(0) }; 3];
    for_every_seed("resume", "pushes_are_killed_at_every_step_and_gone_on_with", seeds, |seed| {
        let mut scenario = Scenario::new(seed);
        // Sessions that the registry loses by itself are the simulator's other tests' business.
        scenario.faults = Faults::default();
        for kill_at in 1..MOST_KILLS {
            let mut world = scenario.world();
            let push = || Resumable::new(scenario.push(), STATE);
            if world.run_until(&mut scenario.session(), push(), kill_at).is_ok() {
                break;
            }
            kills.fetch_add(1, Ordering::Relaxed);
            scenario.check_registry(&mut world);
            let told = state(&world).map(|state| sessions(&state)).unwrap_or_default();
            let before = world.registry().ledger().clone();
            let ran = world.run(&mut scenario.session(), push());
            scenario.check(&mut world, &ran);
            assert!(state(&world).is_none(), "kill {kill_at}: the state is still there");
            let registry = &*world.registry();
            let after = registry.ledger();
            for (blob, times) in &before.commits {
                assert_eq!(after.commits[blob], *times, "kill {kill_at}: {blob:?} was sent again");
            }
            // What is left of what a session held is all that is sent.
            for (id, digest) in told {
                let (then, now) = (&before.sessions[&id], &after.sessions[&id]);
                let went_on = then.outcome == Outcome::Open && scenario.profile.keep_partial;
                if went_on && now.outcome == Outcome::Committed(digest.clone()) {
                    let size = registry.blob(&now.repository, digest.as_str()).unwrap().len() as u64;
                    assert_eq!(now.received, size, "kill {kill_at}: {digest} was sent in part again");
                }
            }
            let totals = ran.result.unwrap().totals;
            resumed.fetch_add(totals.resumed_bytes, Ordering::Relaxed);
            sent.fetch_add(totals.sent_bytes, Ordering::Relaxed);
        }
        true
    });
    let [kills, resumed, sent] = [kills, resumed, sent].map(AtomicU64::into_inner);
    println!("{kills} kills; of {sent} bytes in blobs that were sent after them, {resumed} had been sent before");
    assert!(number("SIM_SEED").is_some() || kills > seeds * 10 && resumed > sent / 20, "{kills}: {resumed} of {sent}");
}

/// With everything that goes wrong besides, and killed again and again: it comes to its end all the same, rightly.
#[test]
fn pushes_are_killed_again_and_again_among_faults() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS) * 10;
    let succeeded = for_every_seed("resume", "pushes_are_killed_again_and_again_among_faults", seeds, |seed| {
        let scenario = Scenario::new(seed);
        let mut world = scenario.world();
        let push = || Resumable::new(scenario.push(), STATE);
        for kill in 0..4 {
            let _ = world.run_until(&mut scenario.session(), push(), 2 + (seed >> kill) % 50);
            scenario.check_registry(&mut world);
        }
        let ran = world.run(&mut scenario.session(), push());
        scenario.check(&mut world, &ran);
        assert!(ran.result.is_err() || state(&world).is_none(), "the state is still there");
        ran.result.is_ok()
    });
    assert!(number("SIM_SEED").is_some() || succeeded > seeds * 7 / 10, "only {succeeded} of {seeds} succeeded");
}

#[test]
fn pulls_are_killed_at_every_step_and_gone_on_with() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let kills = AtomicU64::new(0);
    for_every_seed("resume", "pulls_are_killed_at_every_step_and_gone_on_with", seeds, |seed| {
        let mut scenario = PullScenario::new(seed);
        scenario.faults = Faults::default();
        for kill_at in 1..MOST_KILLS {
            let mut world = scenario.world();
            let pull = || Resumable::new(scenario.pull(), STATE);
            if world.run_until(&mut scenario.session(), pull(), kill_at).is_ok() {
                break;
            }
            kills.fetch_add(1, Ordering::Relaxed);
            scenario.check_names(&world);
            let ran = world.run(&mut scenario.session(), pull());
            scenario.check(&mut world, &ran);
            assert!(state(&world).is_none(), "kill {kill_at}: the state is still there");
        }
        true
    });
    let kills = kills.into_inner();
    assert!(number("SIM_SEED").is_some() || kills > seeds * 10, "{kills}");
}

// ── what else becomes of it ──────────────────────────────────────────────────────────────────────────────────────────

const LAYER: &[u8] = &[7; 5000];

fn archive(layer: &[u8]) -> Bytes {
    make::oci_archive(&[SampleImage::new(&["app:v1"], &[layer, b"another"])])
}

fn pushing(to: &str) -> Push {
    Push::new(Path::new("app.tar"), Destination::Reference(to.parse().unwrap()), PushOptions::default())
}

/// A push that was killed while it sent its layer.
fn killed() -> Simulation {
    for kill_at in 5.. {
        let disk = MemoryDisk::with("app.tar", archive(LAYER));
        let mut world = Simulation::new(kill_at, Registry::new(Profile::distribution_3()), disk);
        let push = Resumable::new(pushing("localhost:5000/app:v1"), STATE);
        world.run_until(&mut session(), push, kill_at).unwrap_err();
        let open = state(&world).map(|state| sessions(&state)).unwrap_or_default();
        let ledger = world.registry().ledger();
        let is_begun = |id: &String| {
            let session = &ledger.sessions[id];
            session.outcome == Outcome::Open && session.received > 100
        };
        if open.keys().any(is_begun) {
            return world;
        }
    }
    unreachable!()
}

fn session() -> Session {
    Session::new(Config::default(), 1)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(ran: &Ran<T>) -> &SnapshotFault {
    let Err(Error::Snapshot(why)) = &ran.result else { panic!("{:?}", ran.result) };
    assert_eq!(why.path.as_deref(), Some(Path::new(STATE)));
    let text = why.to_string();
    assert!(text.starts_with(STATE) && text.contains("remove it or name another file"), "{text}");
    assert!(!text.contains("_state="), "{text}");
    assert_eq!(ran.requests.iter().filter(|asked| asked.got > 0).count(), 0, "something was sent");
    &why.fault
}

#[test]
fn a_state_that_can_t_be_gone_on_from_is_refused_and_stays() {
    let mut world = killed();
    let files = world.files().clone();
    let kept = files.snapshot().0[Path::new(STATE)].clone();
    let text = String::from_utf8(kept.to_vec()).unwrap();
    let resumed = |flow: Push, world: &mut Simulation| world.run(&mut session(), Resumable::new(flow, STATE));
    let same = || pushing("localhost:5000/app:v1");

    // Another reference, another repository.
    for to in ["localhost:5000/app:v2", "localhost:5000/other:v1", "localhost:5001/app:v1"] {
        let ran = resumed(pushing(to), &mut world);
        let fault = refused(&ran);
        assert_eq!(fault.to_string(), format!("it is of a push to localhost:5000/app:v1, not of a push to {to}"));
    }
    // Another archive, or a changed one.
    let before = files.snapshot().0[Path::new("app.tar")].clone();
    for other in [archive(&[8; 5000]), make::docker_save_oci(&[SampleImage::new(&["app:v1"], &[LAYER, b"another"])])] {
        files.put("app.tar", Some(other));
        let ran = resumed(same(), &mut world);
        let fault = refused(&ran);
        assert_eq!(fault.to_string(), "it was begun with another archive, or app.tar was changed since");
    }
    files.put("app.tar", Some(before));
    // Versions that are not known here, and what was damaged, or is something else.
    for (content, expected) in [
        (text.replace("\"version\":1", "\"version\":0"), Some(0)),
        (text.replace("\"version\":1", "\"version\":3"), Some(3)),
        (text[..text.len() / 2].to_owned(), None),
        (text.replace("localhost:5000/app", "localhost:5000/axp"), None),
        (String::new(), None),
        ("[1]".to_owned(), None),
        ("my notes".to_owned(), None),
    ] {
        files.put(STATE, Some(content.clone().into()));
        let ran = resumed(same(), &mut world);
        match (refused(&ran), expected) {
            (SnapshotFault::Version { found }, Some(version)) => assert_eq!(*found, version),
            (SnapshotFault::Damaged(_), None) => {}
            (other, _) => panic!("{other}: {content}"),
        }
        assert_eq!(files.snapshot().0[Path::new(STATE)], content, "it was touched");
    }
    // A pull's state is no push's.
    files.put(STATE, Some(kept));
    let pull = Pull::new([reference("localhost:5000", "app:v1")], "/out.tar", PullOptions::default());
    let ran = world.run(&mut session(), Resumable::new(pull, STATE));
    assert_eq!(refused(&ran), &SnapshotFault::Operation { found: "push", wanted: "pull" });

    // After all that, it is as good as ever.
    let ran = resumed(same(), &mut world);
    assert!(ran.result.unwrap().totals.resumed_bytes > 100);
    assert!(state(&world).is_none());
}

/// A session that somebody has put into a state leads nowhere but to the registry: credentials would go along.
#[test]
fn a07_a_session_in_a_state_stays_with_its_registry() {
    let world = killed();
    let kept = state(&world).unwrap();
    let url = kept["facts"]["push"]["sessions"][0]["session"]["url"].as_str().unwrap().to_owned();
    for elsewhere in ["http://evil.example/u", "http://localhost:5001/u", "ftp://localhost:5000/u", "http://"] {
        let facts = kept["facts"].to_string().replace(&url, elsewhere);
        // Whoever can write the file can reckon its digest, too.
        let snapshot = make_state(&facts);
        world.files().put(STATE, Some(snapshot.into()));
        let mut world = Simulation::new(1, Registry::new(Profile::distribution_3()), world.files().snapshot());
        let push = Resumable::new(pushing("localhost:5000/app:v1"), STATE);
        let ran = world.run(&mut session(), push);
        assert!(matches!(refused(&ran), SnapshotFault::Session(_)), "{elsewhere}: {:?}", ran.result);
        assert!(ran.requests.iter().all(|asked| asked.line.contains("http://localhost:5000/")), "{:?}", ran.requests);
    }
}

/// The document around facts, with its digest.
fn make_state(facts: &str) -> String {
    // In the order in which they are written, which `serde_json`'s values have not.
    let value: Value = serde_json::from_str(facts).unwrap();
    let push = &value["push"];
    let sessions: Vec<String> = push["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let session = &one["session"];
            format!(
                r#"{{"repository":{},"blob":{},"session":{{"url":{},"chunk_min":{}}}}}"#,
                one["repository"], one["blob"], session["url"], session["chunk_min"]
            )
        })
        .collect();
    let to = &push["to"];
    let facts = format!(
        r#"{{"push":{{"archive":{},"to":{{"words":{},"digest":{}}},"sessions":[{}]}}}}"#,
        push["archive"],
        to["words"],
        to["digest"],
        sessions.join(",")
    );
    format!(r#"{{"version":1,"facts":{facts},"digest":"{}"}}"#, Digest::of(facts.as_bytes()))
}

/// What is half-written has another name, and a disk that is full stops a push before it has begun.
#[test]
fn the_state_is_there_whole_or_not_at_all() {
    let mut world = killed();
    let files = world.files().clone();
    files.put(format!("{STATE}.partial"), Some(Bytes::from_static(b"{\"versi")));
    let push = || Resumable::new(pushing("localhost:5000/app:v1"), STATE);
    let ran = world.run(&mut session(), push());
    assert!(ran.result.unwrap().totals.resumed_bytes > 100);
    assert!(files.snapshot().0.keys().all(|path| path == Path::new("app.tar")), "something was left behind");

    // Below a file, nothing can be written.
    let mut world = killed();
    let ran = world.run(&mut session(), Resumable::new(pushing("localhost:5000/app:v1"), "app.tar/state"));
    assert!(
        matches!(&ran.result, Err(Error::Local(why)) if why.to_string().contains("app.tar/state")),
        "{:?}",
        ran.result
    );
    assert!(ran.requests.is_empty(), "{:?}", ran.requests);
}

/// Without a file: a program keeps what it is told wherever it likes.
#[test]
fn a_program_keeps_the_snapshot_itself() {
    let disk = MemoryDisk::with("app.tar", archive(LAYER));
    let mut world = Simulation::new(5, Registry::new(Profile::distribution_3()), disk);
    let ran = world.run(&mut session(), pushing("localhost:5000/app:v1").resume(None));
    let told: Vec<&Snapshot> = ran
        .events
        .iter()
        .filter_map(|event| if let Event::Snapshot(snapshot) = event { Some(&**snapshot) } else { None })
        .collect();
    // To begin with; and for each of three blobs, when its session is opened and when that is over.
    assert_eq!(told.len(), 7);
    for snapshot in &told {
        assert_eq!(&Snapshot::parse(snapshot.to_secret().expose().as_bytes()).unwrap(), *snapshot);
    }
    assert_eq!(told[0], told[6], "no session is left");
    // The last one but what is over by now: a new process sends nothing again.
    let ran = world.run(&mut session(), pushing("localhost:5000/app:v1").resume(Some(told[3].clone())));
    assert_eq!(ran.result.unwrap().totals.sent, 0);
}

/// Whoever stops it finds its sessions where they were; without anybody to go on, they are given back.
#[test]
fn what_is_cancelled_can_be_gone_on_with() {
    for resumable in [true, false] {
        for cancel_after in 3..20 {
            let disk = MemoryDisk::with("app.tar", archive(LAYER));
            let mut world = Simulation::new(cancel_after, Registry::new(Profile::distribution_3()), disk);
            let push = || pushing("localhost:5000/app:v1");
            let result = if resumable {
                world.run(&mut session(), Stopped::new(Resumable::new(push(), STATE), cancel_after)).result
            } else {
                world.run(&mut session(), Stopped::new(push(), cancel_after)).result
            };
            if result.is_ok() {
                continue;
            }
            assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
            let open = |world: &mut Simulation| {
                let sessions = world.registry().ledger().sessions.clone();
                sessions
                    .into_iter()
                    .filter(|(_, one)| one.outcome == Outcome::Open)
                    .map(|(id, _)| id)
                    .collect::<Vec<_>>()
            };
            let left = open(&mut world);
            if resumable {
                let told = state(&world).map(|state| sessions(&state)).unwrap_or_default();
                assert!(told.keys().all(|id| left.contains(id)), "a session was given back that is told of");
                let ran = world.run(&mut session(), Resumable::new(push(), STATE));
                ran.result.unwrap();
            }
        }
    }
}

/// A flow that is asked to wind down when it starts its `at`-th job.
#[derive(Debug)]
struct Stopped<F> {
    flow: F,
    at: u64,
}

impl<F> Stopped<F> {
    const fn new(flow: F, at: u64) -> Self {
        Self { flow, at }
    }
}

impl<F: Flow> Flow for Stopped<F> {
    type Output = F::Output;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<F::Output> {
        let step = self.flow.poll(cx);
        if let Step::Run(_) = step {
            self.at = self.at.saturating_sub(1);
            if self.at == 0 {
                self.flow.cancel();
            }
        }
        step
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        self.flow.handle(cx, done)
    }

    fn cancel(&mut self) {
        self.flow.cancel();
    }
}

/// Tags move. What a pull was begun with is what it ends with.
#[test]
fn a_tag_that_moves_does_not_matter() {
    let mut registry = Registry::new(Profile::distribution_3());
    let (old, new) = (image(&[LAYER, b"old"]), image(&[LAYER, b"new"]));
    put(&mut registry, "app", Some("v1"), &old);
    let pull = |format| {
        let mut options = PullOptions::default();
        (options.platforms, options.format) = (Platforms::All, format);
        Pull::new([reference("localhost:5000", "app:v1")], "/out.tar", options)
    };
    let tar = registry_proto::archive::ArchiveFormat::default();
    let mut world = Simulation::new(1, registry, MemoryDisk::default());
    // Manifest, state, layout, and the blobs are under way.
    world.run_until(&mut session(), Resumable::new(pull(tar), STATE), 7).unwrap_err();
    put(world.registry(), "app", Some("v1"), &new);
    let led_to = |result: Result<registry_proto::flow::Pulled, Error>| result.unwrap().images[0].digest.clone();

    // For another format it is another pull.
    let other = registry_proto::archive::ArchiveFormat::Oci;
    let ran = world.run(&mut session(), Resumable::new(pull(other), STATE));
    assert!(matches!(refused(&ran), SnapshotFault::Target { .. }));

    let ran = world.run(&mut session(), Resumable::new(pull(tar), STATE));
    assert_eq!(led_to(ran.result), *old.manifest(false).digest());
    assert!(state(&world).is_none());
    // Once more, and it is what the tag leads to now.
    let ran = world.run(&mut session(), Resumable::new(pull(tar), STATE));
    assert_eq!(led_to(ran.result), *new.manifest(false).digest());

    // What is gone can't be pulled, and why is said.
    let mut registry = Registry::new(Profile::distribution_3());
    put(&mut registry, "app", Some("v1"), &new);
    let mut world = Simulation::new(1, world.registry().clone(), MemoryDisk::default());
    world.run_until(&mut session(), Resumable::new(pull(tar), STATE), 7).unwrap_err();
    let mut world = Simulation::new(1, Registry::new(Profile::distribution_3()), world.files().snapshot());
    let why = world.run(&mut session(), Resumable::new(pull(tar), STATE)).result.unwrap_err();
    assert!(why.to_string().contains("404") && why.to_string().contains("start anew, without the state"), "{why}");
}
