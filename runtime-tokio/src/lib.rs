//! Container images on tokio and hyper.
//!
//! [`Client`] pushes, pulls, copies, lists, inspects, tags and deletes images. Everything that there is to decide is decided in
//! [`registry_proto`]; this crate opens sockets and files, and reports what happened.
//!
//! It needs a tokio runtime with I/O and time enabled (`enable_all`), of one thread or many.

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
mod stream;
mod taking;
mod tls;
#[cfg(any(feature = "gzip", feature = "zstd"))]
pub mod unpack;

pub use client::{Client, ClientBuilder};
pub use registry_proto as proto;
