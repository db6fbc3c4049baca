//! Many seeds on all cores, and one alone to look at.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// So many seeds that fail are enough for one day.
const ENOUGH: usize = 10;
/// How often is told how far a long run has come.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A number in the environment.
///
/// # Panics
/// When it is none.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// The seeds to run: `SIM_SEEDS` is how many, or from which one to before which one (`5000..6000`).
///
/// # Panics
/// When it is neither.
pub fn seeds(otherwise: u64) -> Range<u64> {
    let Ok(text) = std::env::var("SIM_SEEDS") else { return 0..otherwise };
    let read = |text: &str| text.parse().unwrap_or_else(|_| panic!("SIM_SEEDS is a number or a range, not {text:?}"));
    match text.split_once("..") {
        Some((from, to)) => read(from)..read(to),
        None => 0..read(&text),
    }
}

/// As [`for_seeds`], from the first seed on.
///
/// # Panics
/// When one fails.
pub fn for_every_seed(suite: &str, test: &str, seeds: u64, check: impl Fn(u64) -> bool + Sync) -> u64 {
    for_seeds(suite, test, 0..seeds, check)
}

/// Runs a check for every seed on all cores (or on `SIM_THREADS`), or for `SIM_SEED` alone. Yields of how many it was true.
/// Seeds that fail are printed with the command that replays them.
///
/// # Panics
/// When one fails.
pub fn for_seeds(suite: &str, test: &str, seeds: Range<u64>, check: impl Fn(u64) -> bool + Sync) -> u64 {
    if let Some(seed) = number("SIM_SEED") {
        return u64::from(check(seed));
    }
    let threads = number("SIM_THREADS").and_then(|threads| usize::try_from(threads).ok());
    let threads = threads.unwrap_or_else(|| thread::available_parallelism().map_or(2, usize::from));
    let next = AtomicU64::new(seeds.start);
    let succeeded = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let (began, told) = (Instant::now(), Mutex::new(Instant::now()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().unwrap().len() < ENOUGH {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    match catch_unwind(AssertUnwindSafe(|| check(seed))) {
                        Ok(good) => _ = succeeded.fetch_add(u64::from(good), Ordering::Relaxed),
                        Err(_) => {
                            eprintln!("{}", replay(suite, test, seed));
                            failed.lock().unwrap().push(seed);
                        }
                    }
                    let mut told = told.lock().unwrap();
                    if told.elapsed() > TOLD_EVERY {
                        *told = Instant::now();
                        eprintln!("{test}: up to seed {seed} of {seeds:?} after {} s", began.elapsed().as_secs());
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    let first = failed.first().map(|seed| replay(suite, test, *seed)).unwrap_or_default();
    assert!(failed.is_empty(), "{failed:?} failed; {first}");
    succeeded.into_inner()
}

fn replay(suite: &str, test: &str, seed: u64) -> String {
    format!(
        "seed {seed} fails; replay it with: SIM_SEED={seed} cargo test -p registry-tests --test {suite} {test} -- --nocapture"
    )
}
