//! Runs flows against the in-memory registry under virtual time, with seeded faults.
//!
//! Nothing here takes real time or depends on anything but the seed: a run that fails is the same run whenever its seed is
//! given again. What a driver may expect of a flow is checked on the way, and a violation is a panic:
//!
//! - no job is numbered twice, and none is under way when the flow is done;
//! - a flow never waits for nothing, and never spins;
//! - no more jobs are under way than the configuration allows;
//! - no password and no token is in an error, an event, or what `Debug` shows of a flow, a job or the session, and no query of a URL
//!   that a redirect led to is in an error or an event.
//!
//! Several operations at a time are one flow: a [`Fleet`](crate::flow::Fleet) of [`Each`](crate::flow::Each).

mod drive;
mod faults;
mod shown;
mod wire;

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::archive::make::MemoryDisk;
use crate::job::JobId;
use crate::rng::Rng;
use crate::testing::files::MemoryFiles;
use crate::testing::registries::Registries;
use crate::testing::registry::Registry;
use crate::testing::watch::Watch;
use crate::{Flow, Session, Time};

pub use drive::{Asked, Ran};
pub use faults::Faults;
use shown::Shown;
use wire::Supplied;

/// A world for flows: a registry, a disk, a clock, and a share of misfortune.
///
/// ```
/// use registry_proto::archive::make;
/// use registry_proto::flow::Pinging;
/// use registry_proto::testing::registry::{Profile, Registry};
/// use registry_proto::testing::simulation::Simulation;
/// use registry_proto::{Config, Session};
///
/// let mut session = Session::new(Config::default(), 1);
/// let registry = Registry::new(Profile::distribution_3());
/// let mut world = Simulation::new(1, registry, make::MemoryDisk::default());
/// let ran = world.run(&mut session, Pinging::new("localhost:5000".parse()?));
/// assert!(ran.result.is_ok());
/// assert_eq!(ran.requests[0].line, "GET http://localhost:5000/v2/");
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Debug)]
pub struct Simulation {
    registry: Registries,
    disk: MemoryFiles,
    faults: Faults,
    rng: Rng,
    now: Time,
    misfortunes: u64,
    /// Of requests under way whose bodies come in pieces.
    supplied: BTreeMap<JobId, Supplied>,
    shown: Shown,
    watch: Watch,
}

impl Simulation {
    /// A world without misfortune.
    pub fn new(seed: u64, registry: Registry, disk: MemoryDisk) -> Self {
        Self {
            registry: Registries::new(registry),
            disk: MemoryFiles::new(disk),
            faults: Faults::default(),
            rng: Rng::new(seed),
            now: Time::ZERO,
            misfortunes: 0,
            supplied: BTreeMap::new(),
            shown: Shown::default(),
            watch: Watch::default(),
        }
    }

    /// With these misfortunes.
    #[must_use]
    pub const fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// With one more registry, which answers for this host (and port); for all others it is the first one that does.
    #[must_use]
    pub fn with_registry(mut self, host: &str, registry: Registry) -> Self {
        self.registry.add(host, registry);
        self
    }

    /// The registry as it is now.
    pub const fn registry(&mut self) -> &mut Registry {
        &mut self.registry.first
    }

    /// The registry that answers for a host, as it is now.
    pub fn registry_of(&mut self, host: &str) -> &mut Registry {
        self.registry.of(host)
    }

    /// The file system as it is now.
    pub const fn files(&self) -> &MemoryFiles {
        &self.disk
    }

    /// How much has gone wrong so far: requests that did, upload sessions that vanished, and whatever else [`Faults`] caused.
    pub const fn misfortunes(&self) -> u64 {
        self.misfortunes
    }

    /// Two hosts (with their ports) that were shown the same credential, if there are such. With a password of its own for
    /// each registry, that would be one that came to where it doesn't belong.
    pub fn shown_to_two(&self) -> Option<[String; 2]> {
        self.shown.to_two()
    }

    /// Whether a text has a password or a token in it that was shown to anybody so far.
    pub fn gives_away(&self, text: &str) -> bool {
        self.shown.is_in(text)
    }

    /// Runs a flow to its end.
    ///
    /// # Panics
    /// When the flow breaks the contract with its driver, or a secret is told.
    pub fn run<F: Flow + Debug>(&mut self, session: &mut Session, flow: F) -> Ran<F::Output> {
        self.run_until(session, flow, u64::MAX).unwrap_or_else(|_| unreachable!("it never comes to that many jobs"))
    }
}
