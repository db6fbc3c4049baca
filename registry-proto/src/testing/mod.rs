//! For tests, ours and yours: an in-memory [registry](registry::Registry) as a pure value, a seeded
//! [simulation](simulation::Simulation) that runs any flow against it under virtual time, and [scripts](script::Script) for
//! single cases.

pub mod files;
mod registries;
pub mod registry;
pub mod script;
pub mod simulation;
