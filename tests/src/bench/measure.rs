//! One run: time as a clock on the wall tells it, memory and processor time as the kernel does.
//!
//! Whoever shares the machine slows everything down, and not everything alike: so it is measured, too, how much processor
//! time others took during a run, and runs that were disturbed are repeated. What is kept is never chosen by how fast it was.

use std::fs;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// From starting the process to its end.
    pub wall: Duration,
    /// What only `/usr/bin/time` knows.
    pub usage: Option<Usage>,
    /// Processor time that neither the process nor the registry took.
    pub others: Option<f64>,
}

/// What a process and those that it started used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The largest of them at its largest.
    pub peak_kib: u64,
    /// User and system time.
    pub processor: f64,
}

impl Run {
    /// Whether others left the machine to us. What the kernel counts comes in hundredths of a second.
    pub fn is_quiet(&self) -> bool {
        self.others.is_none_or(|others| others <= 0.05 + 0.05 * self.wall.as_secs_f64())
    }

    /// How much others took, to compare runs by.
    pub fn disturbance(&self) -> f64 {
        self.others.map_or(0.0, |others| others / self.wall.as_secs_f64())
    }
}

const TIME: &str = "/usr/bin/time";

/// Runs a command. It gets `folder` for what it writes on the way.
///
/// # Errors
/// What it wrote to standard error, when it fails.
pub fn run(command: &[String], folder: &Path) -> Result<Run, String> {
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
    let before = busy().zip(children());
    let started = Instant::now();
    let ran = process.output().map_err(|why| format!("{}: {why}", command[0]))?;
    let wall = started.elapsed();
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).trim().to_owned());
    }
    let after = busy().zip(children());
    let usage = timed.then(|| fs::read_to_string(&notes).ok()).flatten().and_then(|text| usage(&text));
    let others = before.zip(after).zip(usage).map(|(((busy, children), (busy_then, children_then)), usage)| {
        ((busy_then - busy) - (children_then - children) - usage.processor).max(0.0)
    });
    Ok(Run { wall, usage, others })
}

/// Waits until the machine is nearly idle, but not for ever.
pub fn wait_for_quiet() {
    const LOOK: Duration = Duration::from_millis(200);
    for _ in 0..100 {
        let before = busy();
        sleep(LOOK);
        let Some((before, after)) = before.zip(busy()) else { return };
        if after - before < 0.1 * LOOK.as_secs_f64() {
            return;
        }
    }
}

/// Linux tells processor time in hundredths of a second on every architecture.
fn seconds<'a>(ticks: impl Iterator<Item = &'a str>) -> Option<f64> {
    ticks.map(|ticks| ticks.parse::<f64>().ok()).sum::<Option<f64>>().map(|ticks| ticks / 100.0)
}

/// User and system time of all programs since the machine started.
fn busy() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    seconds(stat.lines().next()?.split_whitespace().skip(1).take(3))
}

/// User and system time of this process's children that are still there: of the registry.
fn children() -> Option<f64> {
    let this = process::id().to_string();
    let stats =
        fs::read_dir("/proc").ok()?.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    let times = stats.filter_map(|stat| {
        // The program's name, in parentheses, may itself hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        (*fields.get(1)? == this).then(|| seconds(fields.iter().skip(11).take(2).copied()))?
    });
    Some(times.sum())
}

fn usage(text: &str) -> Option<Usage> {
    let mut numbers = text.lines().last()?.split(' ');
    let peak_kib = numbers.next()?.parse().ok()?;
    let (user, system): (f64, f64) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some(Usage { peak_kib, processor: user + system })
}

/// The middle of some numbers.
pub(super) fn median(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}
