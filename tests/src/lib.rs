//! What the tests share: scenarios by seed, runtimes by name, and the real programs that they are tried on.

#![allow(clippy::unwrap_used, reason = "a test that can't go on may as well stop")]

pub mod authority;
pub mod bench;
pub mod clients;
pub mod copies;
pub mod dialogue;
pub mod docker_registry;
pub mod fuzzed;
pub mod hand_made;
pub mod hostile;
pub mod images;
pub mod keeping;
pub mod memory;
pub mod mirrors;
pub mod numbered;
pub mod operation;
pub mod proxy;
pub mod pulls;
pub mod referrers;
pub mod relay;
pub mod runtimes;
pub mod scenario;
pub mod secrets;
pub mod seeds;
pub mod series;
pub mod server;
pub mod sources;
pub mod together;
pub mod token_server;

/// The READMEs' examples are compiled, and run where they can be.
#[cfg(doctest)]
mod readmes {
    #[doc = include_str!("../../README.md")]
    struct Project;
    #[doc = include_str!("../../registry-proto/README.md")]
    struct Core;
    #[doc = include_str!("../../runtime-tokio/README.md")]
    struct Tokio;
    #[doc = include_str!("../../runtime-async-std/README.md")]
    struct AsyncStd;
    #[doc = include_str!("../../runtime-blocking/README.md")]
    struct Blocking;
}
