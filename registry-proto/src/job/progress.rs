//! Whether a body gets ahead.

use std::time::Duration;

use crate::job::Timeouts;

/// The limit of [`Timeouts::idle`] while a body is under way, counted so that a byte now and then is not enough (A31).
///
/// Only what is spent waiting for the peer counts: a disk that is slow, or a reader, is not the peer's fault.
///
/// ```
/// use registry_proto::job::{Progress, Timeouts};
/// use std::time::Duration;
///
/// let second = Duration::from_secs(1);
/// let limits = Timeouts { idle: 10 * second, idle_bytes: 1000, ..Timeouts::default() };
/// let mut progress = Progress::new(limits);
/// progress.moved(999, 6 * second);
/// assert_eq!(progress.patience(), 4 * second);
/// progress.moved(1, 3 * second); // a thousand in nine seconds: it gets ahead
/// assert_eq!(progress.patience(), 10 * second);
/// for _ in 0..11 {
///     progress.moved(1, second);
/// }
/// assert!(progress.is_stalled());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    limits: Timeouts,
    moved: u64,
    waited: Duration,
}

impl Progress {
    /// Of a body that begins now.
    pub const fn new(limits: Timeouts) -> Self {
        Self { limits, moved: 0, waited: Duration::ZERO }
    }

    /// How long the next bytes may take.
    pub const fn patience(&self) -> Duration {
        self.limits.idle.saturating_sub(self.waited)
    }

    /// Whether the peer took too long.
    pub const fn is_stalled(&self) -> bool {
        self.patience().is_zero()
    }

    /// So many bytes moved after waiting so long for them; or none.
    pub fn moved(&mut self, bytes: u64, after: Duration) {
        self.moved = self.moved.saturating_add(bytes);
        self.waited = self.waited.saturating_add(after);
        if self.moved >= self.limits.idle_bytes.max(1) {
            *self = Self::new(self.limits);
        }
    }
}
