//! What people are logged in with, and where they keep it: Docker's `config.json`, podman's `auth.json`, credential helpers.
//!
//! As everywhere in this crate, nothing here opens a file or starts a program. [`look_up`], [`log_in`] and [`log_out`] decide
//! what is read, written and run, in which order, and what the answers mean; whoever calls them lends a [`System`] that does
//! it. What they find goes into [`Credentials`], which every client has in its [`Config`](crate::Config).
//!
//! ```text
//!   environment ─ places ─▶ [Place] ─ look_up ─┬─ read ─▶ AuthFile ─┬─ a helper for the host ─ run ─▶ Helper's answer ─┐
//!                                              │                    └─ an entry for host/a/b, host/a, host ───────────┤
//!                                              └─ nothing there: the next place                                       ▼
//!                                                                                                                  Found
//! ```
//!
//! There is a library for this, `docker_credential`, which is kept up and much used. It is not used here because it starts
//! helpers by whatever name the file says, without a limit of time or output; takes "not found" for a failure like any other, and
//! puts a failing helper's output into its error; knows no credentials for parts of a registry; prints passwords with `Debug`;
//! and only reads.

mod auth_file;
mod helper;
mod key;
mod known;
mod places;
mod store;

pub use auth_file::AuthFile;
pub use helper::{Action, Helper, Ran};
pub use known::Credentials;
pub use places::{Place, places};
pub use store::{Found, StoreError, Stored, System, log_in, log_out, look_up};
