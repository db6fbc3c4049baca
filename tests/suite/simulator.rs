//! Seeded pushes under faults: every one ends with exactly the right content or with an error that names the cause.
//!
//! ```text
//! SIM_SEED=4711 cargo test -p registry-tests --test simulator        replays one seed and shows what happened
//! SIM_SEEDS=1000000 cargo test -p registry-tests --test simulator    runs that many
//! ```

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use registry_proto::testing::simulation::Faults;
use registry_tests::scenario::Scenario;
use registry_tests::seeds::{for_every_seed, number};

/// How many seeds are run where nobody says otherwise.
const SEEDS: u64 = 100_000;

#[test]
fn pushes_end_right_or_with_a_clear_error() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let succeeded = for_every_seed("simulator", "pushes_end_right_or_with_a_clear_error", seeds, |seed| {
        let scenario = Scenario::new(seed);
        let mut world = scenario.world();
        let ran = world.run(&mut scenario.session(), scenario.push());
        if number("SIM_SEED").is_some() {
            println!("{scenario:#?}\n{:#?}\n{:#?}\n{:?}", ran.requests, ran.events, ran.result);
        }
        scenario.check(&mut world, &ran);
        ran.result.is_ok()
    });
    println!("{succeeded} of {seeds} pushes succeeded; the others ended with a clear error");
    // Most do: the retries are there for a purpose.
    assert!(number("SIM_SEED").is_some() || succeeded > seeds * 7 / 10, "only {succeeded} of {seeds} succeeded");
}

#[test]
fn a_killed_push_is_simply_done_again() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS) / 10;
    for_every_seed("simulator", "a_killed_push_is_simply_done_again", seeds, |seed| {
        let mut scenario = Scenario::new(seed);
        scenario.faults = Faults::default();
        let mut world = scenario.world();
        let kill_at = 1 + seed % 30;
        let killed = world.run_until(&mut scenario.session(), scenario.push(), kill_at).is_err();
        scenario.check_registry(&mut world);
        let sent = world.registry().ledger().commits.clone();
        let ran = world.run(&mut scenario.session(), scenario.push());
        scenario.check(&mut world, &ran);
        // What was committed before the kill is not committed again.
        for (blob, times) in &world.registry().ledger().commits {
            assert!(*times <= 1 || !sent.contains_key(blob), "{blob:?} was sent {times} times");
        }
        killed
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..300 {
        let run = || {
            let scenario = Scenario::new(seed);
            let ran = scenario.world().run(&mut scenario.session(), scenario.push());
            (ran.requests, ran.took, format!("{:?}", ran.result))
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn a_second_push_asks_for_the_manifest_and_nothing_else() {
    for seed in (0..2000).step_by(10) {
        let scenario = Scenario::new(seed);
        let mut world = scenario.world();
        world.run(&mut scenario.session(), scenario.push()).result.unwrap();
        let again = world.run(&mut scenario.session(), scenario.push());
        again.result.unwrap();
        for request in &again.requests {
            let harmless = request.line.contains("/token")
                || request.line.starts_with("HEAD") && request.line.contains("/manifests/");
            assert!(harmless, "seed {seed}: {}", request.line);
        }
    }
}
