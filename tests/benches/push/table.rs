//! What is printed: Markdown, with the targets beside what was reached.

use std::fmt;
use std::fs;
use std::process::Command;
use std::thread;

use registry_tests::runtimes::Runtime;

use crate::contender::Contender;
use crate::measure::{Run, median};
use crate::workload::Workload;

/// What became of one contender's runs.
#[derive(Debug)]
pub(crate) enum Outcome {
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
    pub(crate) fn add(&mut self, ran: Result<Run, String>) {
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

/// The most that a push of ours may take.
#[derive(Clone, Copy, Debug)]
enum Target {
    TimesFloor(f64),
    Seconds(f64),
}

/// One table.
#[derive(Debug)]
pub(crate) struct Section {
    title: String,
    target: fn(Runtime) -> Target,
    /// Whether ours are to be ahead of skopeo and oci-client, beside the target.
    ahead: bool,
    outcomes: Vec<(Contender, Outcome)>,
}

impl Section {
    /// Pushes of something new.
    pub(crate) fn first(workload: Workload, outcomes: Vec<(Contender, Outcome)>) -> Self {
        let target: fn(Runtime) -> Target = match workload {
            Workload::Large | Workload::Usual => |runtime| match runtime {
                Runtime::Tokio | Runtime::Blocking => Target::TimesFloor(1.25),
                Runtime::AsyncStd => Target::TimesFloor(1.5),
            },
            Workload::Small => |_| Target::TimesFloor(2.0),
        };
        Self { title: format!("({}) {}", workload.letter(), workload.title()), target, ahead: true, outcomes }
    }

    /// Pushes of what the registry has already.
    pub(crate) fn second(outcomes: Vec<(Contender, Outcome)>) -> Self {
        let title = "(d) the image of (b) once more".to_owned();
        Self { title, target: |_| Target::Seconds(0.05), ahead: false, outcomes }
    }

    fn seconds(&self, wanted: Contender) -> Option<f64> {
        self.outcomes.iter().find(|(who, _)| *who == wanted).and_then(|(_, outcome)| outcome.seconds())
    }

    fn verdict(&self, who: Contender, seconds: f64) -> String {
        let Contender::Ours(runtime) = who else { return String::new() };
        let floor = self.seconds(Contender::Floor);
        let (target, reached) = match (self.target)(runtime) {
            Target::TimesFloor(times) => (format!("≤ {times} ×"), floor.map(|floor| seconds <= times * floor)),
            Target::Seconds(most) => (format!("< {:.0} ms", most * 1000.0), Some(seconds < most)),
        };
        let target = match reached {
            Some(true) => format!("{target}: reached"),
            Some(false) => format!("{target}: **missed**"),
            None => format!("{target}: unknown"),
        };
        let others = [Contender::Skopeo, Contender::SkopeoGzip, Contender::OciClient];
        let faster: Vec<&str> = others
            .into_iter()
            .filter(|other| self.seconds(*other).is_some_and(|theirs| theirs <= seconds))
            .map(Contender::word)
            .collect();
        match self.ahead && !faster.is_empty() {
            true => format!("{target}; **behind {}**", faster.join(", ")),
            false => target,
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n", self.title)?;
        writeln!(
            f,
            "| | × floor | median, s | fastest to slowest, s | processor, s | others, s | peak memory, MiB | target |"
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")?;
        let floor = self.seconds(Contender::Floor);
        for (who, outcome) in &self.outcomes {
            let runs = match outcome {
                Outcome::Absent(why) => {
                    writeln!(f, "| {who} | — | — | — | — | — | — | not measured: {why} |")?;
                    continue;
                }
                Outcome::Failed(why) => {
                    let why = why.lines().next().unwrap_or_default().replace('|', "\\|");
                    writeln!(f, "| {who} | — | — | — | — | — | — | failed: {why} |")?;
                    continue;
                }
                Outcome::Runs(runs) => runs,
            };
            let Some(seconds) = outcome.seconds() else { continue };
            let walls = || runs.iter().map(|run| run.wall.as_secs_f64());
            let (least, most) = (walls().fold(f64::MAX, f64::min), walls().fold(0.0, f64::max));
            let usage = || runs.iter().filter_map(|run| run.usage);
            writeln!(
                f,
                "| {who} | {} | {seconds:.3} | {least:.3} to {most:.3} | {} | {} | {} | {} |",
                or_dash(floor.map(|floor| format!("{:.2}", seconds / floor))),
                or_dash(median(usage().map(|usage| usage.processor)).map(|processor| format!("{processor:.2}"))),
                or_dash(median(runs.iter().filter_map(|run| run.others)).map(|others| format!("{others:.2}"))),
                or_dash(median(usage().map(|usage| usage.peak_kib as f64 / 1024.0)).map(|peak| format!("{peak:.0}"))),
                self.verdict(*who, seconds),
            )?;
        }
        Ok(())
    }
}

/// What it was measured on, and with whom.
pub(crate) fn machine(runs: usize, repeated: usize) -> String {
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
