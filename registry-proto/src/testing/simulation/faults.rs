//! What goes wrong, how often, and where in a body.

use super::Simulation;

/// Which misfortunes happen, and how often.
///
/// ```
/// use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
/// use registry_proto::flow::{Destination, Push, PushOptions};
/// use registry_proto::testing::registry::{Profile, Registry};
/// use registry_proto::testing::simulation::{Faults, Simulation};
/// use registry_proto::{Config, Session};
/// # use std::path::Path;
///
/// let archive = make::docker_save_oci(&[SampleImage::new(&["app:v1"], &[b"a layer"])]);
/// let disk = MemoryDisk::with("app.tar", archive);
/// let mut faults = Faults::default();
/// faults.requests = 200; // one in five goes wrong
/// let registry = Registry::new(Profile::distribution_3());
/// let mut world = Simulation::new(7, registry, disk).with_faults(faults);
/// let mut session = Session::new(Config::default(), 7);
/// let to = Destination::Reference("localhost:5000/app:v1".parse()?);
/// let ran = world.run(&mut session, Push::new(Path::new("app.tar"), to, PushOptions::default()));
/// assert!(ran.result.is_ok(), "seed 7: {:?}", ran.result);
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// Of a thousand requests, how many go wrong: refused, cut, stalled, answered with 429 or 5xx, or their reply lost.
    pub requests: u64,
    /// Of a thousand requests, before how many every upload session vanishes.
    pub lost_sessions: u64,
    /// Of a thousand requests, before how many every token is revoked.
    pub revoked_tokens: u64,
    /// Of a thousand replies with a body, how many arrive with a byte changed.
    pub spoilt_replies: u64,
    /// Of a thousand requests with a body from a file, how many lose the digester ("the HTTP stack kept it").
    pub lost_digesters: u64,
    /// Of a thousand replies, how many take up to a minute from the registry to the client, so that others overtake them.
    pub late_replies: u64,
    /// Of a thousand requests, before how many the clock jumps by ten minutes to two hours, as when a laptop's lid was closed.
    pub clock_jumps: u64,
    /// A proxy between here and there that cuts every request after so many bytes of its body.
    pub body_limit: Option<u64>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Fine,
    Refused,
    Cut,
    Stalled,
    ReplyLost,
    Answered(u16),
}

impl Simulation {
    pub(super) fn fate(&mut self) -> Fate {
        if !self.happens(self.faults.requests) {
            return Fate::Fine;
        }
        self.misfortunes += 1;
        match self.below(6) {
            0 => Fate::Refused,
            1 => Fate::Stalled,
            2 => Fate::ReplyLost,
            3 => Fate::Answered([429, 500, 502, 503][self.below(4)]),
            _ => Fate::Cut,
        }
    }

    /// How much gets through of what is cut: nothing, the first byte, some, all but the last byte, or all of it, with the
    /// connection cut before what comes next.
    pub(super) fn cut_point(&mut self, length: usize) -> usize {
        match self.below(5) {
            0 => 0,
            1 => length.min(1),
            2 => length.saturating_sub(1),
            3 => length,
            _ => self.below(length.max(1)),
        }
    }

    pub(super) fn happens(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.rng.below(1000) < per_mille
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).expect("it is below a usize")
    }
}
