//! What is printed: Markdown, with the targets beside what was reached.

use std::fmt;
use std::fs;
use std::process::Command;
use std::thread;

use super::contest::Who;
use super::measure::{Run, median};
use crate::runtimes::Runtime;

/// What became of one contender's runs.
#[derive(Debug)]
pub enum Outcome {
    /// It could not take part.
    Absent(String),
    /// A run went wrong.
    Failed(String),
    /// All went well so far.
    Runs(Vec<Run>),
}

impl Default for Outcome {
    fn default() -> Self {
        Self::Runs(Vec::new())
    }
}

impl Outcome {
    /// One more run. A failure stays: the runs that went well are no result then.
    pub fn add(&mut self, ran: Result<Run, String>) {
        match (ran, self) {
            (Ok(run), Self::Runs(runs)) => runs.push(run),
            (Err(why), outcome @ Self::Runs(_)) => *outcome = Self::Failed(why),
            _ => {}
        }
    }

    fn seconds(&self) -> Option<f64> {
        match self {
            Self::Runs(runs) => median(runs.iter().map(|run| run.wall.as_secs_f64())),
            _ => None,
        }
    }
}

/// A number, or a dash where there is none.
fn or_dash(number: Option<String>) -> String {
    number.unwrap_or_else(|| "—".to_owned())
}

/// What somebody is in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the others are compared with.
    Floor,
    /// Ours, held to a target.
    Ours(Runtime),
    /// One whom ours are to be ahead of.
    Rival,
    /// One who is there for comparison.
    Beside,
}

/// The most that ours may take.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// So many times what the floor takes.
    TimesFloor(f64),
    /// So many seconds.
    Seconds(f64),
    /// So many MiB of memory at its peak.
    Mebibytes(f64),
    /// Whatever it takes: it is measured only.
    Open,
}

/// One table.
#[derive(Debug)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// What ours are held to.
    pub target: fn(Runtime) -> Target,
    /// Whether ours are to be ahead of their rivals, beside the target.
    pub ahead: bool,
    /// Who took part, in that order.
    pub outcomes: Vec<(Who, Outcome)>,
}

impl Section {
    fn floor(&self) -> Option<f64> {
        self.outcomes.iter().find(|(who, _)| who.role == Role::Floor).and_then(|(_, outcome)| outcome.seconds())
    }

    fn verdict(&self, who: &Who, seconds: f64, peak: Option<f64>) -> String {
        let Role::Ours(runtime) = who.role else { return String::new() };
        let (target, reached) = match (self.target)(runtime) {
            Target::TimesFloor(times) => {
                (format!("≤ {times} ×: "), self.floor().map_or("unknown", |floor| reached(seconds <= times * floor)))
            }
            Target::Seconds(most) => (format!("< {:.0} ms: ", most * 1000.0), reached(seconds < most)),
            Target::Mebibytes(most) => {
                (format!("< {most:.0} MiB: "), peak.map_or("unknown", |peak| reached(peak < most)))
            }
            Target::Open => (String::new(), ""),
        };
        let rivals = self.outcomes.iter().filter(|(who, _)| who.role == Role::Rival);
        let faster = rivals.filter(|(_, theirs)| theirs.seconds().is_some_and(|theirs| theirs <= seconds));
        let faster: Vec<&str> = faster.map(|(who, _)| who.word).collect();
        let behind = (self.ahead && !faster.is_empty()).then(|| format!("**behind {}**", faster.join(", ")));
        let verdicts = [Some(format!("{target}{reached}")), behind];
        verdicts.into_iter().flatten().filter(|verdict| !verdict.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

const fn reached(is: bool) -> &'static str {
    if is { "reached" } else { "**missed**" }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n", self.title)?;
        writeln!(
            f,
            "| | × floor | median, s | fastest to slowest, s | processor, s | others, s | peak memory, MiB | target |"
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")?;
        let floor = self.floor();
        for (who, outcome) in &self.outcomes {
            let title = &who.title;
            let runs = match outcome {
                Outcome::Absent(why) => {
                    writeln!(f, "| {title} | — | — | — | — | — | — | not measured: {why} |")?;
                    continue;
                }
                Outcome::Failed(why) => {
                    let why = why.lines().next().unwrap_or_default().replace('|', "\\|");
                    writeln!(f, "| {title} | — | — | — | — | — | — | failed: {why} |")?;
                    continue;
                }
                Outcome::Runs(runs) => runs,
            };
            let Some(seconds) = outcome.seconds() else { continue };
            let walls = || runs.iter().map(|run| run.wall.as_secs_f64());
            let (least, most) = (walls().fold(f64::MAX, f64::min), walls().fold(0.0, f64::max));
            let usage = || runs.iter().filter_map(|run| run.usage);
            let peak = median(usage().map(|usage| usage.peak_kib as f64 / 1024.0));
            writeln!(
                f,
                "| {title} | {} | {seconds:.3} | {least:.3} to {most:.3} | {} | {} | {} | {} |",
                or_dash(floor.map(|floor| format!("{:.2}", seconds / floor))),
                or_dash(median(usage().map(|usage| usage.processor)).map(|processor| format!("{processor:.2}"))),
                or_dash(median(runs.iter().filter_map(|run| run.others)).map(|others| format!("{others:.2}"))),
                or_dash(peak.map(|peak| format!("{peak:.0}"))),
                self.verdict(who, seconds, peak),
            )?;
        }
        Ok(())
    }
}

/// What it was measured on, and with whom.
pub fn machine(runs: usize, repeated: usize) -> String {
    let first_line = |program: &str| {
        let ran = Command::new(program).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&ran.stdout).lines().next()?.to_owned())
    };
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let sha = if processor.split_whitespace().any(|flag| flag == "sha_ni") { "with" } else { "without" };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let lines = [
        format!(
            "- {} × {}, {sha} SHA instructions; load averages at the end: {}",
            thread::available_parallelism().map_or(0, usize::from),
            model.map_or("unknown processor", |(_, model)| model.trim()),
            load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        ),
        format!("- {}", first_line("docker-registry").unwrap_or_else(|| "docker-registry".into())),
        format!("- {}", first_line("skopeo").unwrap_or_else(|| "no skopeo".into())),
        format!("- {}", first_line("curl").unwrap_or_else(|| "no curl".into())),
        format!(
            "- medians of {runs} runs without warm-up, interleaved, each against a fresh registry; {repeated} runs were \
             repeated because other programs kept the machine busy meanwhile\n"
        ),
    ];
    lines.join("\n")
}
