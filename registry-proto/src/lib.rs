//! Docker Registry HTTP API V2 and OCI distribution, as pure state machines.
//!
//! This crate decides everything that there is to decide about moving container images (which request, with which token,
//! when to retry, at which offset, what a reply means) and does nothing itself: no sockets, files, threads or clocks.
//! A [`Flow`] describes [`Job`](job::Job)s, a driver does them and hands back the answers. Three drivers exist, for tokio
//! with hyper, async-std with surf, and plain threads with ureq; a fourth is a loop of thirty lines and what does the jobs.
//!
//! | layer | what lives there |
//! | --- | --- |
//! | [`flow`] | operations: [`Push`](flow::Push) and what it is made of |
//! | [`session`] | what concurrent operations share: tokens, pace, what is known to exist |
//! | `endpoint` | one request and its reply, without state |
//! | [`credentials`] | what people are logged in with: Docker's and podman's files, credential helpers |
//! | [`archive`] | `docker save` tars, OCI archives and OCI layout folders, read in place |
//! | [`spec`] | values, parsed once |
//!
//! Each imports only those below it. [`job`], [`Time`], [`Digester`], [`Error`] and [`Event`] are the words that they speak.

pub mod archive;
pub mod credentials;
mod digester;
mod endpoint;
mod error;
mod event;
pub mod flow;
#[cfg(any(doc, doctest))]
pub mod guide;
pub mod job;
mod limits;
mod rng;
mod secret;
pub mod session;
mod snapshot;
pub mod spec;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
#[cfg(feature = "tracing")]
mod trace;

pub use digester::{Digester, Gap};
pub use endpoint::ping::Ping;
pub use error::{Asked, Denied, DeniedBecause, Error, Refusal};
pub use event::{BlobId, Event, Piece};
pub use flow::{Context, Flow, Step};
pub use secret::{Credential, Secret};
pub use session::{
    ClientIdentity, Config, Learned, Mirror, Mirrors, Proxies, Proxy, ProxyError, Scheme, Session, TlsConfig,
    TokenRequest, UploadPolicy,
};
pub use snapshot::{Snapshot, SnapshotError, SnapshotFault, UploadSession};
pub use time::Time;
#[cfg(feature = "tracing")]
pub use trace::{operation, trace};
