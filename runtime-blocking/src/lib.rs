//! Container images with plain threads and ureq: no async runtime.
//!
//! [`Client`] pushes images to registries. Everything that there is to decide is decided in [`registry_proto`]; this
//! crate opens sockets and files, and reports what happened.

mod client;
mod connect;
mod disk;
mod drive;
mod next_hop;
mod perform;
mod socket;
mod tls;

pub use client::{Client, ClientBuilder};
pub use registry_proto as proto;
