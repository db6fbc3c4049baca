//! Standard output, and what can go wrong.

use std::fmt::Display;
use std::io::{self, Write as _};

use registry_tokio::proto::job::FailureKind;
use registry_tokio::proto::{DeniedBecause, Error};
use serde_json::Value;

use crate::args::Format;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// An operation of the client did.
    Operation(Error),
    /// Standard output can't be written to.
    Output(io::Error),
    /// What was typed makes no sense, though each part of it does.
    Usage(String),
    /// Somebody stopped it: what is left of it, or how to go on.
    Stopped(String),
    Other(String),
}

impl Trouble {
    /// If somebody stopped it, this is what is left of it.
    pub(crate) fn if_stopped(self, left: &str) -> Self {
        match self {
            Self::Operation(Error::Cancelled) => Self::Stopped(format!("stopped; {left}")),
            why => why,
        }
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Operation(why) => {
                why.fmt(f)?;
                f.write_str(flags_for(why))
            }
            Self::Output(why) => write!(f, "standard output can't be written to: {why}"),
            Self::Usage(why) | Self::Stopped(why) | Self::Other(why) => f.write_str(why),
        }
    }
}

impl From<Error> for Trouble {
    fn from(why: Error) -> Self {
        match why {
            Error::Misuse(why) => Self::Usage(why),
            why => Self::Operation(why),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(why: io::Error) -> Self {
        Self::Output(why)
    }
}

/// What the command has for it, where the error's own advice can't name that.
fn flags_for(why: &Error) -> &'static str {
    match why {
        Error::Denied(denied) if denied.because == DeniedBecause::NoCredentials => {
            " (here: `tug login`, or --username with --password-stdin)"
        }
        Error::Transport { last, .. } if last.kind() == FailureKind::Tls => " (here, if it speaks http: --plain-http)",
        _ => "",
    }
}

/// Prints a result: its text as it is, or its JSON on a line of its own.
pub(crate) fn print(format: Format, text: impl Display, json: impl FnOnce() -> Value) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    match format {
        Format::Text => write!(out, "{text}")?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &json()).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(out.flush()?)
}

/// Prints a result that is bytes, exactly as they are.
pub(crate) fn print_raw(bytes: &[u8]) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// What is said to somebody at a terminal, broken where words end; in a log it stays one line.
pub(crate) fn for_stderr(text: impl Display) -> String {
    match terminal_size::terminal_size_of(io::stderr()) {
        Some((width, _)) => wrapped(&text.to_string(), width.0.into()),
        None => text.to_string(),
    }
}

/// Breaks a line where words end. A word that is longer than a line is left to the terminal: it may be copied from there.
fn wrapped(line: &str, width: usize) -> String {
    const INDENT: &str = "  ";
    let mut text = String::new();
    let mut column = 0;
    for (at, word) in line.split(' ').enumerate() {
        let length = word.chars().count();
        if at > 0 && column + 1 + length > width {
            text.push('\n');
            text.push_str(INDENT);
            column = INDENT.len();
        } else if at > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column = (column + length) % width.max(1);
    }
    text
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> impl Display {
    indicatif::BinaryBytes(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrapped("short", 40), "short");
        assert_eq!(wrapped("one two three four", 9), "one two\n  three\n  four");
        assert_eq!(wrapped("sha256:0123456789 put", 10), "sha256:0123456789\n  put");
    }
}
