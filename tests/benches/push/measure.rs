//! One run: time as a clock on the wall tells it, memory and processor time as the kernel does.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// From starting the process to its end.
    pub(crate) wall: Duration,
    /// What only `/usr/bin/time` knows.
    pub(crate) usage: Option<Usage>,
}

/// What a process and those that it started used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// The largest of them at its largest.
    pub(crate) peak_kib: u64,
    /// User and system time.
    pub(crate) processor: f64,
}

const TIME: &str = "/usr/bin/time";

/// Runs a command. It gets `folder` for what it writes on the way.
///
/// # Errors
/// What it wrote to standard error, when it fails.
pub(crate) fn run(command: &[String], folder: &Path) -> Result<Run, String> {
    let notes = folder.join("usage");
    let timed = Path::new(TIME).exists();
    let mut process = if timed {
        let mut time = Command::new(TIME);
        time.args(["-f", "%M %U %S", "-o"]).arg(&notes).args(command);
        time
    } else {
        let mut bare = Command::new(&command[0]);
        bare.args(&command[1..]);
        bare
    };
    // skopeo unpacks OCI archives: on the same kind of storage as everything else.
    process.env("TMPDIR", folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let ran = process.output().map_err(|why| format!("{}: {why}", command[0]))?;
    let wall = started.elapsed();
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).trim().to_owned());
    }
    Ok(Run { wall, usage: timed.then(|| fs::read_to_string(&notes).ok()).flatten().and_then(|text| usage(&text)) })
}

fn usage(text: &str) -> Option<Usage> {
    let mut numbers = text.lines().last()?.split(' ');
    let peak_kib = numbers.next()?.parse().ok()?;
    let (user, system): (f64, f64) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some(Usage { peak_kib, processor: user + system })
}

/// The middle of some numbers.
pub(crate) fn median(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}
