//! Seeded pushes under faults: every one ends with exactly the right content or with an error that names the cause.
//!
//! ```text
//! SIM_SEED=4711 cargo test -p registry-tests --test simulator        replays one seed and shows what happened
//! SIM_SEEDS=1000000 cargo test -p registry-tests --test simulator    runs that many
//! ```

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use registry_proto::testing::simulation::Faults;
use registry_tests::scenario::Scenario;

/// How many seeds are run where nobody says otherwise.
const SEEDS: u64 = 100_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Runs a check for every seed on all cores. The first seed that fails is printed with the command that replays it.
fn for_every_seed(test: &str, seeds: u64, check: impl Fn(u64) -> bool + Sync) -> u64 {
    if let Some(seed) = number("SIM_SEED") {
        println!("seed {seed}: {:#?}", Scenario::new(seed));
        return u64::from(check(seed));
    }
    let next = AtomicU64::new(0);
    let succeeded = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) == u64::MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    match catch_unwind(AssertUnwindSafe(|| check(seed))) {
                        Ok(good) => _ = succeeded.fetch_add(u64::from(good), Ordering::Relaxed),
                        Err(_) => _ = failed.fetch_min(seed, Ordering::Relaxed),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert!(
        failed == u64::MAX,
        "seed {failed} fails; replay it with: SIM_SEED={failed} cargo test -p registry-tests --test simulator {test} -- --nocapture"
    );
    succeeded.into_inner()
}

#[test]
fn pushes_end_right_or_with_a_clear_error() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let succeeded = for_every_seed("pushes_end_right_or_with_a_clear_error", seeds, |seed| {
        let scenario = Scenario::new(seed);
        let mut world = scenario.world();
        let ran = world.run(&mut scenario.session(), scenario.push());
        if number("SIM_SEED").is_some() {
            println!("{:#?}\n{:#?}\n{:?}", ran.requests, ran.events, ran.result);
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
    for_every_seed("a_killed_push_is_simply_done_again", seeds, |seed| {
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
