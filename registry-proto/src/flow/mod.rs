//! Registry operations as state machines.
//!
//! ```text
//!   Push ──▶ Fleet<Upload> ──▶ Fleet<Putting> …          flows made of flows
//!                 │                   │
//!                 └──▶ Exchange ◀─────┘                  the leaf: authorised, paced, redirected, retried
//! ```

mod authenticate;
mod blob;
mod choose;
mod contract;
mod copy;
mod delete;
mod deliver;
mod download;
mod each;
mod exchange;
mod fetch_blob;
mod fetch_config;
mod fetch_manifest;
mod file;
mod fleet;
mod has_blob;
mod has_manifest;
mod identify;
mod inspect;
mod list;
mod operation;
mod ping;
mod pull;
mod push;
mod put_manifest;
mod putting;
mod read_archive;
mod read_feed;
mod recall;
mod referrers;
mod resolve;
mod rest;
mod resumable;
mod retag;
mod tree;
mod upload;
mod verify;
mod walk;
mod winding_down;

pub use crate::session::Context;
pub use authenticate::{Authenticate, Authenticated};
pub use blob::{ReadBlob, SaveBlob};
pub(crate) use contract::ready;
pub use contract::{Flow, Step};
pub use copy::{Copied, Copy, CopyOptions, LeftOut};
pub use delete::{DeleteManifest, DeleteRepository, Deleted, Untag};
pub use deliver::{PushedReference, Totals};
pub use each::Each;
pub(crate) use exchange::{Answer, Exchange, Lost};
pub use fetch_blob::FetchBlob;
pub use fetch_config::FetchConfig;
pub use fetch_manifest::FetchManifest;
pub(crate) use file::File;
pub use fleet::Fleet;
pub(crate) use has_blob::{HasBlob, Held};
pub(crate) use has_manifest::HasManifest;
pub use inspect::{Inspect, InspectMany, Inspected, InspectedChild};
pub use list::{Collected, ListCatalog, ListTags};
pub use operation::Operation;
pub use ping::Pinging;
pub use pull::{Platforms, Pull, PullOptions, PullTotals, Pulled, PulledImage};
pub use push::{Destination, Preview, Previewed, Push, PushFeed, PushOptions, Pushed};
pub use put_manifest::PutManifest;
pub(crate) use putting::{PutOutcome, Putting};
pub use read_archive::{ExamineArchive, ReadArchive};
pub use read_feed::ReadFeed;
pub use recall::Recall;
pub use referrers::ListReferrers;
pub use resolve::Resolve;
pub use resumable::{Resumable, Resume};
pub use retag::Retag;
pub use upload::{Brought, Upload, Uploaded};
pub use verify::{Verified, VerifyArchive};
pub(crate) use winding_down::wind_down;
