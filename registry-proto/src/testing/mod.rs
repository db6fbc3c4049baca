//! For tests, ours and yours: an in-memory [registry](registry::Registry) as a pure value, and a seeded
//! [simulation](simulation::Simulation) that runs any flow against it under virtual time.

pub mod files;
mod registries;
pub mod registry;
pub mod simulation;
