//! Many seeds on all cores, and one alone to look at.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// A number in the environment.
///
/// # Panics
/// When it is none.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Runs a check for every seed on all cores. The first seed that fails is printed with the command that replays it.
///
/// # Panics
/// When one fails.
pub fn for_every_seed(suite: &str, test: &str, seeds: u64, check: impl Fn(u64) -> bool + Sync) -> u64 {
    if let Some(seed) = number("SIM_SEED") {
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
        "seed {failed} fails; replay it with: SIM_SEED={failed} cargo test -p registry-tests --test {suite} {test} -- --nocapture"
    );
    succeeded.into_inner()
}
