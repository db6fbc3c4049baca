//! For tests, ours and yours: an in-memory [registry](registry::Registry) as a pure value, a seeded
//! [simulation](simulation::Simulation) that runs any flow against it under virtual time, [scripts](script::Script) for
//! single cases, and flows for which time goes by [more quickly](later::Later).

pub mod files;
pub mod later;
mod registries;
pub mod registry;
pub mod script;
pub mod simulation;
mod watch;
