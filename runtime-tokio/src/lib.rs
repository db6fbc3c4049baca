//! Container images on tokio and hyper.
//!
//! [`Client`] pushes images to registries. Everything that there is to decide is decided in [`registry_proto`]; this
//! crate opens sockets and files, and reports what happened.

mod body;
mod client;
mod connect;
mod disk;
mod drive;
#[cfg(any(feature = "gzip", feature = "zstd"))]
pub mod pack;
mod perform;
#[cfg(feature = "serve")]
pub mod serve;
mod taking;
mod tls;
#[cfg(any(feature = "gzip", feature = "zstd"))]
pub mod unpack;

pub use client::{Client, ClientBuilder};
pub use registry_proto as proto;
