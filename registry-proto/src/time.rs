//! A clock that the core can read but never consult.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment, counted from the driver's epoch (usually the start of its client).
///
/// The core has no clock: every [`Time`] it knows came from a driver, as an argument. That makes a moment constructible
/// in a test, printable in a trace, and the same in every replay of a seed.
///
/// ```
/// use registry_proto::Time;
/// use std::time::Duration;
///
/// let soon = Time::ZERO + Duration::from_millis(1250);
/// assert_eq!(soon.to_string(), "t+1.250s");
/// assert_eq!(soon.since(Time::ZERO), Duration::from_millis(1250));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// The driver's epoch.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment `since_epoch` after the driver's epoch.
    pub const fn from_epoch(since_epoch: Duration) -> Self {
        Self(since_epoch)
    }

    /// How long after the driver's epoch this is.
    pub const fn since_epoch(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates: a deadline too far to express is one that never comes.
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t+{:.3}s", self.0.as_secs_f64())
    }
}
