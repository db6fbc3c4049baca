//! Running the command.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tokio::runtime::Runtime;

/// Where nobody's credentials are, so that it doesn't matter who runs the tests.
const NOBODY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tug/nobody.json");

/// What would lead requests elsewhere.
pub(crate) const PROXIES: [&str; 7] =
    ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"];

/// The command, to be given its arguments.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tug"));
    for name in PROXIES {
        command.env_remove(name);
    }
    command.env("REGISTRY_AUTH_FILE", NOBODY);
    command
}

/// Runs it without input.
pub(crate) fn tug(arguments: &[&str]) -> Output {
    command().args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs it with something to read.
pub(crate) fn tug_reading(arguments: &[&str], input: &str) -> Output {
    let pipe = Stdio::piped;
    let mut child = command().args(arguments).stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    // A command that takes no notice of its input may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What it printed, however it ended.
pub(crate) fn printed(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// What it printed, when it succeeded.
#[track_caller]
pub(crate) fn out(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    printed(output)
}

/// What it said beside that.
pub(crate) fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// The JSON that it printed.
#[track_caller]
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_str(out(output)).unwrap()
}

/// For a registry beside the command.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
