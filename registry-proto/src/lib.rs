//! Docker Registry HTTP API V2 and OCI distribution, as pure state machines.

pub mod archive;
pub mod spec;
#[cfg(feature = "testing")]
pub mod testing;
mod time;

pub use digester::{Digester, Gap};
pub use endpoint::ping::Ping;
pub use error::{Asked, Denied, DeniedBecause, Error, Refusal};
pub use event::{BlobId, Event};
pub use flow::{Context, Flow, Step};
pub use secret::{Credential, Secret};
pub use session::{Config, Scheme, Session, UploadPolicy};
pub use time::Time;
