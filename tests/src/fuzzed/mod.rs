//! What the fuzz targets run (`tests/fuzz`): one function for each, of bytes from a stranger.
//!
//! Every function checks what has to hold whatever the bytes, and panics when it doesn't. The test suite replays the corpora with
//! these same functions, on the stable compiler (`tests/suite/corpora.rs`). They need nothing but the core, so that the targets
//! are built quickly.

// The targets' package is no part of the workspace, and includes this folder.
#![allow(clippy::missing_panics_doc, reason = "to panic is how a target says that it has found something")]

mod archives;
mod auth_file;
mod documents;
mod flows;
mod headers;
mod names;
mod token;

pub use archives::{archive, tar};
pub use auth_file::auth_file;
pub use documents::{config, error_body, index, manifest};
pub use flows::flow;
pub use headers::{challenge, link, range};
pub use names::{digest, reference};
pub use token::token;

/// What a target does with an input.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus, too.
pub const TARGETS: [(&str, Target); 14] = [
    ("archive", archive),
    ("auth_file", auth_file),
    ("challenge", challenge),
    ("config", config),
    ("digest", digest),
    ("error_body", error_body),
    ("flow", flow),
    ("index", index),
    ("link", link),
    ("manifest", manifest),
    ("range", range),
    ("reference", reference),
    ("tar", tar),
    ("token", token),
];

/// The first line, and what follows it.
fn line(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    (&data[..end], data.get(end + 1..).unwrap_or_default())
}

/// What may be shown on a terminal: one line, without anything that controls it or turns its direction (A38).
fn is_printable(text: &str) -> bool {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| c.is_control() || turns(c))
}
