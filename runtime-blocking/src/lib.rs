//! Container images with plain threads and ureq: no async runtime.
//!
//! [`Client`] pushes, pulls, copies, lists, inspects, tags and deletes images. Everything that there is to decide is decided in
//! [`registry_proto`]; this crate opens sockets and files, and reports what happened.
//!
//! ureq logs what no log should show, unless its targets are capped at `debug`: see the README.

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
