//! Container images on async-std and surf.
//!
//! [`Client`] pushes, pulls, copies, lists, inspects, tags and deletes images. Everything that there is to decide is decided in
//! [`registry_proto`]; this crate opens sockets and files, and reports what happened.
//!
//! surf is the interface here, but none of its own backends carries a registry's traffic (they mix up replies on reused
//! connections, hang on `HEAD`, or keep whole bodies in memory). So it runs over a transport of ours: hyper on async-std's
//! sockets, with rustls.

mod body;
mod client;
mod connect;
mod disk;
mod drive;
mod perform;
mod stream;
mod taking;
mod tls;
mod transport;

pub use client::{Client, ClientBuilder};
pub use registry_proto as proto;
