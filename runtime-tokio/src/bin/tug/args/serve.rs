//! `serve` and `demo`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::values::address;

const SERVE_MORE: &str = "\
Examples:
  tug serve
  tug serve --addr 127.0.0.1:0
  tug serve --dir ~/images";

const DEMO_MORE: &str = "\
Examples:
  tug demo
  tug demo app.tar";

/// Run a small registry, for tests and CI
///
/// It keeps everything in memory and forgets it when it ends, unless --dir says where to keep it. Prints its address once it
/// listens, and runs until Ctrl-C, or until it is killed.
#[derive(Args, Debug)]
#[command(after_long_help = SERVE_MORE)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000", value_parser = address)]
    pub(crate) addr: SocketAddr,
    /// Keep everything in this folder, too, and begin with what is there; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Show it all at work, with a registry of its own
///
/// Starts a registry in memory on a free port of this machine, makes an image on the spot (or takes yours), pushes it, looks at
/// it, pulls it back, compares and deletes it, each step with the command that does it.
#[derive(Args, Debug)]
#[command(after_long_help = DEMO_MORE)]
pub(crate) struct Demo {
    /// Push this archive instead of an image made on the spot
    #[arg(value_name = "ARCHIVE")]
    pub(crate) archive: Option<PathBuf>,
}
