//! What the tests share: scenarios by seed, runtimes by name, and the real programs that they are tried on.

#![allow(clippy::unwrap_used, reason = "a test that can't go on may as well stop")]

pub mod docker_registry;
pub mod runtimes;
pub mod scenario;
pub mod series;
pub mod server;
