//! A test in a process of its own, whose memory can be measured.

use std::fs;
use std::process::Command;

/// Tells the process that is measured what to do; without it, this is the process that measures.
const TASK: &str = "ALONE_TASK";

/// Runs the test that calls this once more, alone in a new process, and yields the most memory that the process ever had, in
/// KiB. In that process `run` does the work, and nothing is yielded.
///
/// `prepare` says what the work is, and what has to live until it is done, such as a server.
///
/// # Panics
/// When the work fails, and outside of a test.
pub fn peak<T>(prepare: impl FnOnce() -> (String, T), run: impl FnOnce(&str)) -> Option<u64> {
    if let Ok(task) = std::env::var(TASK) {
        run(&task);
        println!("peak: {}", own_peak());
        return None;
    }
    let (task, _alive) = prepare();
    let test = std::thread::current().name().unwrap().to_owned();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&test, "--exact", "--nocapture"])
        .env(TASK, task)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let peak = said.split_once("peak: ").expect("the process that is measured tells").1;
    Some(peak.lines().next().unwrap().parse().unwrap())
}

/// The most memory that this process ever had, in KiB.
fn own_peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}
