//! One blob by its digest: into a file, or piece by piece to whoever asked for it.
//!
//! ```text
//!   SaveBlob   Size ─▶ File (as a pull into a folder does)
//!   ReadBlob   Size ─▶ Asking for a piece ─▶ telling it ─▶ … ─▶ the last one, if the digest is right
//! ```

mod piece;
mod read;
mod save;
mod size;

pub(crate) use piece::{Pieces, too_large};
pub use read::ReadBlob;
pub use save::SaveBlob;
