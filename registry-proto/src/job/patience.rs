//! How long a reply is waited for.

use std::time::Duration;

use crate::job::{Phase, Progress, Timeouts};

/// The shortest time between two looks.
const LEAST: Duration = Duration::from_millis(5);

/// Which limit of [`Timeouts`] runs out while a request is under way, and when: as long as its body is being sent, it has to
/// [get ahead](Progress); from then on, the head of the reply has [`Timeouts::head`].
///
/// A driver looks once there is a connection, says how far the body has come, and looks again after the time that it is told.
///
/// ```
/// use registry_proto::job::{Patience, Phase, Timeouts};
/// use std::time::Duration;
///
/// let second = Duration::from_secs(1);
/// let limits = Timeouts { head: 3 * second, idle: 8 * second, idle_bytes: 1, ..Timeouts::default() };
/// let mut patience = Patience::new(limits, 1000);
/// assert_eq!(patience.look(0, Duration::ZERO), Ok(second * 3 / 4)); // often enough for either limit
/// assert_eq!(patience.look(10, 4 * second), Ok(second * 3 / 4));
/// assert_eq!(patience.look(10, 8 * second), Err(Phase::Body));
///
/// let mut patience = Patience::new(limits, 1000);
/// patience.look(1000, 5 * second).unwrap();
/// assert_eq!(patience.look(1000, 3 * second), Err(Phase::Head));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    limits: Timeouts,
    length: u64,
    progress: Progress,
    seen: u64,
    /// Since the body was found to be sent.
    heard_nothing: Option<Duration>,
}

impl Patience {
    /// With a request whose body has so many bytes.
    pub const fn new(limits: Timeouts, length: u64) -> Self {
        Self { limits, length, progress: Progress::new(limits), seen: 0, heard_nothing: None }
    }

    /// Whether so many bytes are all of the body.
    pub const fn is_sent(&self, moved: u64) -> bool {
        moved >= self.length
    }

    /// Of the body, `moved` bytes are gone. `waited`: how long it is since the last look, as far as the peer had to be waited for; a
    /// file that is slow to come is no fault of the peer's. Yields how long to wait until the next look, at most.
    ///
    /// # Errors
    /// What took too long.
    pub fn look(&mut self, moved: u64, waited: Duration) -> Result<Duration, Phase> {
        self.progress.moved(moved.saturating_sub(self.seen), waited);
        self.seen = moved;
        let (phase, left) = if self.is_sent(moved) {
            // (The first look finds out that it is sent: from then on it counts.)
            let since = self.heard_nothing.map_or(Duration::ZERO, |before| before.saturating_add(waited));
            self.heard_nothing = Some(since);
            (Phase::Head, self.limits.head.saturating_sub(since))
        } else {
            (Phase::Body, self.progress.patience())
        };
        if left.is_zero() {
            return Err(phase);
        }
        // Often enough for either limit: which of them it is changes meanwhile.
        Ok(left.min((self.limits.head.min(self.limits.idle) / 4).max(LEAST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Timeouts {
        Timeouts { head: 2 * SECOND, idle: 4 * SECOND, idle_bytes: 100, ..Timeouts::default() }
    }

    /// Looks as often as it is told, with a body that moves so many bytes a second; what ran out, and when.
    fn run(limits: Timeouts, length: u64, rate: u64) -> (Phase, Duration) {
        let (mut patience, mut now, mut waited) = (Patience::new(limits, length), Duration::ZERO, Duration::ZERO);
        loop {
            let moved = (now.as_secs_f64() * rate as f64) as u64;
            match patience.look(moved.min(length), waited) {
                Ok(pause) => (waited, now) = (pause, now + pause),
                Err(phase) => return (phase, now),
            }
        }
    }

    #[test]
    fn each_limit_runs_out_in_its_time() {
        assert_eq!(run(limits(), 0, 0), (Phase::Head, 2 * SECOND));
        assert_eq!(run(limits(), 1000, 0), (Phase::Body, 4 * SECOND));
        assert_eq!(run(limits(), 1000, 24), (Phase::Body, 4 * SECOND), "96 bytes in 4 s are none");
        let (phase, at) = run(limits(), 1000, 100);
        assert!(phase == Phase::Head && at >= 12 * SECOND && at <= 13 * SECOND, "ten seconds of body, then {at:?}");
    }

    #[test]
    fn without_limits_nothing_runs_out() {
        let none = Timeouts { head: Duration::MAX, idle: Duration::MAX, ..limits() };
        let mut patience = Patience::new(none, 10);
        for moved in [0, 5, 10, 10] {
            assert!(patience.look(moved, 1_000_000 * SECOND).is_ok());
        }
    }

    #[test]
    fn a_slow_file_is_no_fault_of_the_peers() {
        let mut patience = Patience::new(limits(), 1000);
        for _ in 0..100 {
            assert!(patience.look(0, Duration::ZERO).is_ok());
        }
    }
}
