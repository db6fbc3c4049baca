//! Who takes part in a bench, and in which order they run.

use std::env;
use std::path::Path;

use tempfile::{Builder, TempDir};

use super::measure::Run;
use super::table::{Outcome, Role};

/// Memory, where there is some: disks of shared machines would drown what is measured.
const MEMORY: &str = "/dev/shm";

/// How often a run is tried until others leave the machine alone meanwhile; the least disturbed one counts otherwise.
const TRIES: usize = 5;

/// One who takes part.
#[derive(Clone, Debug)]
pub struct Who {
    /// Its name on the command line.
    pub word: &'static str,
    /// Its name in tables.
    pub title: String,
    /// What it is there.
    pub role: Role,
    /// Why it can't take part, if it can't.
    pub absence: Option<String>,
}

/// What a bench is told on its command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often everyone runs.
    pub runs: usize,
    only: Option<String>,
    who: Option<Vec<String>>,
}

impl Options {
    /// Reads them. `bench` is the bench's name.
    ///
    /// # Errors
    /// How it is used.
    pub fn read(words: &[&str], bench: &str) -> Result<Self, String> {
        let mut options = Self { runs: 5, only: None, who: None };
        // `cargo test --benches` starts benches, too, but without this word: nobody wants to wait for minutes there.
        if !words.contains(&"--bench") {
            return Err(format!("this is a bench: `cargo bench -p registry-tests --features peers --bench {bench}`"));
        }
        let mut words = words.iter().filter(|word| **word != "--bench");
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
            match *word {
                "--runs" => options.runs = value.parse().map_err(|why| format!("--runs {value}: {why}"))?,
                "--only" => options.only = Some((*value).to_owned()),
                "--who" => options.who = Some(value.split(',').map(str::to_owned).collect()),
                _ => return Err(format!("unknown: {word}; there are --runs N, --only abc, --who floor,tokio,…")),
            }
        }
        Ok(options)
    }

    /// Whether the table of this letter is wanted.
    pub fn wants(&self, letter: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(letter))
    }

    /// Whether this one is to take part.
    pub fn invites(&self, word: &str) -> bool {
        self.who.as_ref().is_none_or(|who| who.iter().any(|name| name == word))
    }
}

/// A folder in memory, for the registries' storage as well. An interrupted bench leaves gigabytes in it: it is found by its
/// name.
///
/// # Panics
/// When it can't be made.
pub fn memory_folder(prefix: &str) -> TempDir {
    let memory = Path::new(MEMORY);
    let place = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
    let folder = Builder::new().prefix(prefix).tempdir_in(place).unwrap();
    tempfile::env::override_temp_dir(folder.path()).expect("nobody has set it before");
    folder
}

/// Everyone once, then all of them again: what else the machine does meanwhile hits all alike. `measure` yields a run for each
/// of some tables, of which the first tells how disturbed all were. Yields the tables' lines, and adds up how many runs were
/// repeated.
pub fn interleaved<C: Copy>(
    contenders: &[(C, Who)],
    runs: usize,
    repeated: &mut usize,
    mut measure: impl FnMut(C) -> Vec<Result<Run, String>>,
) -> Vec<Vec<(Who, Outcome)>> {
    let mut tables: Vec<Vec<Outcome>> = Vec::new();
    for run in 1..=runs {
        for (at, (contender, who)) in contenders.iter().enumerate() {
            if who.absence.is_some() {
                continue;
            }
            let mut best = measure(*contender);
            for _ in 1..TRIES {
                if is_good(&best) {
                    break;
                }
                *repeated += 1;
                let next = measure(*contender);
                if disturbance(&next) < disturbance(&best) {
                    best = next;
                }
            }
            for (table, ran) in best.into_iter().enumerate() {
                note(run, who, &ran);
                if tables.len() <= table {
                    tables.resize_with(table + 1, || contenders.iter().map(|_| Outcome::default()).collect());
                }
                tables[table][at].add(ran);
            }
        }
    }
    let line = |(who, outcome): (&Who, Outcome)| {
        let outcome = who.absence.clone().map_or(outcome, Outcome::Absent);
        (who.clone(), outcome)
    };
    let line_up = |outcomes: Vec<Outcome>| contenders.iter().map(|(_, who)| who).zip(outcomes).map(line).collect();
    tables.into_iter().map(line_up).collect()
}

/// Whether a try needs no other.
fn is_good(tried: &[Result<Run, String>]) -> bool {
    tried.first().is_none_or(|first| first.as_ref().map_or(true, Run::is_quiet))
}

/// A failure counts for more than any time.
fn disturbance(tried: &[Result<Run, String>]) -> f64 {
    tried.first().map_or(-1.0, |first| first.as_ref().map_or(-1.0, Run::disturbance))
}

fn note(run: usize, who: &Who, ran: &Result<Run, String>) {
    match ran {
        Ok(ran) => {
            let others = ran.others.unwrap_or_default();
            eprintln!("  run {run}, {}: {:.3} s (others: {others:.2} s)", who.word, ran.wall.as_secs_f64());
        }
        Err(why) => eprintln!("  run {run}, {}: {why}", who.word),
    }
}
