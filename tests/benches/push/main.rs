//! How fast pushes are, ours and others', side by side against one real registry:
//!
//! ```text
//! cargo bench -p registry-tests --features peers --bench push [-- [--runs N] [--only LETTERS] [--who NAME,NAME…]]
//! ```
//!
//! For a look at a single push, the program that this builds makes an archive with `prepare LETTER FOLDER`, and pushes it as
//! `as NAME FOLDER/image.tar HOST REPOSITORY` (the floor and oci-client take `plan.json`, curl `files.json`).
//!
//! What is measured and what came of it the last time: `tests/benches/README.md`.

#![allow(clippy::unwrap_used, reason = "a bench that can't go on may as well stop")]

mod contender;
mod floor;
mod measure;
mod table;
mod workload;

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::ExitCode;

use registry_tests::docker_registry::DockerRegistry;
use tempfile::Builder;

use crate::contender::Contender;
use crate::measure::Run;
use crate::table::{Outcome, Section};
use crate::workload::{Prepared, Workload};

/// Memory, where there is some: disks of shared machines would drown what is measured.
const MEMORY: &str = "/dev/shm";

/// How often a run is tried until others leave the machine alone meanwhile; the least disturbed one counts otherwise.
const TRIES: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["as", who, input, host, repository] = words[..] {
        let who = Contender::by_word(who).expect("the bench starts only contenders that it knows");
        return match who.push(Path::new(input), host, repository) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
        };
    }
    if let ["prepare", letter, folder] = words[..] {
        let workload = Workload::ALL.into_iter().find(|workload| workload.letter() == letter).expect("a, b or c");
        println!("{:#?}", workload.prepare(Path::new(folder)));
        return ExitCode::SUCCESS;
    }
    match Options::read(&words) {
        Ok(options) => {
            compare(&options);
            ExitCode::SUCCESS
        }
        Err(usage) => {
            eprintln!("{usage}");
            ExitCode::from(2)
        }
    }
}

struct Options {
    runs: usize,
    workloads: Vec<Workload>,
    who: Vec<Contender>,
}

impl Options {
    fn read(words: &[&str]) -> Result<Self, String> {
        let mut options = Self { runs: 5, workloads: Workload::ALL.to_vec(), who: Contender::ALL.to_vec() };
        // `cargo test --benches` starts benches, too, but without this word: nobody wants to wait for minutes there.
        if !words.contains(&"--bench") {
            return Err("this is a bench: `cargo bench -p registry-tests --features peers --bench push`".into());
        }
        let mut words = words.iter().filter(|word| **word != "--bench");
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
            match *word {
                "--runs" => options.runs = value.parse().map_err(|why| format!("--runs {value}: {why}"))?,
                "--only" => options.workloads.retain(|workload| value.contains(workload.letter())),
                "--who" => options.who.retain(|who| value.split(',').any(|name| name == who.word())),
                _ => return Err(format!("unknown: {word}; there are --runs N, --only abc, --who floor,tokio,…")),
            }
        }
        Ok(options)
    }
}

fn compare(options: &Options) {
    let memory = Path::new(MEMORY);
    // An interrupted bench leaves gigabytes of memory in use: by this name they are found.
    let place = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
    let folder = Builder::new().prefix("push-bench-").tempdir_in(place).unwrap();
    // The registries' storage, too.
    tempfile::env::override_temp_dir(folder.path()).expect("nobody has set it before");
    let (mut sections, mut second_section, mut repeated) = (Vec::new(), None, 0);
    for &workload in &options.workloads {
        eprintln!("({}) {}", workload.letter(), workload.title());
        let place = folder.path().join(workload.letter());
        let prepared = workload.prepare(&place);
        let (first, second) = measure_all(&prepared, options, &place, &mut repeated);
        sections.push(Section::first(workload, first));
        if workload == Workload::Usual {
            second_section = Some(Section::second(second));
        }
        // Gone before the next: both at once would need twice the memory.
        std::fs::remove_dir_all(place).unwrap();
    }
    println!("{}", table::machine(options.runs, repeated));
    for section in sections.into_iter().chain(second_section) {
        println!("{section}");
    }
}

type Outcomes = Vec<(Contender, Outcome)>;

/// Every contender once, then all of them again: what else the machine does meanwhile hits all alike.
fn measure_all(what: &Prepared, options: &Options, place: &Path, repeated: &mut usize) -> (Outcomes, Outcomes) {
    let mut first: BTreeMap<&str, Outcome> = BTreeMap::new();
    let mut second: BTreeMap<&str, Outcome> = BTreeMap::new();
    for run in 1..=options.runs {
        for &who in &options.who {
            if let Some(why) = who.absence() {
                first.insert(who.word(), Outcome::Absent(why.clone()));
                second.insert(who.word(), Outcome::Absent(why));
                continue;
            }
            let mut best = measure_one(who, what, place);
            for _ in 1..TRIES {
                if best.0.as_ref().map_or(true, Run::is_quiet) {
                    break;
                }
                *repeated += 1;
                let next = measure_one(who, what, place);
                let disturbed = |ran: &Result<Run, String>| ran.as_ref().map_or(-1.0, Run::disturbance);
                // A failure counts for more than any time.
                if disturbed(&next.0) < disturbed(&best.0) {
                    best = next;
                }
            }
            note(run, who, &best.0);
            first.entry(who.word()).or_default().add(best.0);
            if let Some(again) = best.1 {
                note(run, who, &again);
                second.entry(who.word()).or_default().add(again);
            }
        }
    }
    let in_order = |mut outcomes: BTreeMap<&str, Outcome>| {
        options.who.iter().filter_map(|&who| Some((who, outcomes.remove(who.word())?))).collect()
    };
    (in_order(first), in_order(second))
}

/// A push to a registry of its own and, of the usual image, the same once more.
fn measure_one(who: Contender, what: &Prepared, place: &Path) -> (Result<Run, String>, Option<Result<Run, String>>) {
    let registry = DockerRegistry::start();
    measure::wait_for_quiet();
    let first = push(who, what, &registry, place);
    let again = (first.is_ok() && what.workload == Workload::Usual).then(|| push(who, what, &registry, place));
    (first, again)
}

fn note(run: usize, who: Contender, ran: &Result<Run, String>) {
    match ran {
        Ok(ran) => {
            let others = ran.others.unwrap_or_default();
            eprintln!("  run {run}, {}: {:.3} s (others: {others:.2} s)", who.word(), ran.wall.as_secs_f64());
        }
        Err(why) => eprintln!("  run {run}, {}: {why}", who.word()),
    }
}

/// One push, and a look whether it really happened.
fn push(who: Contender, what: &Prepared, registry: &DockerRegistry, place: &Path) -> Result<Run, String> {
    let (host, repository) = (registry.host(), "bench/image");
    let ran = measure::run(&who.command(what, &host, repository), place)?;
    match floor::look_up(&host, repository, "1") {
        Ok(Some(digest)) if digest == what.digest || !who.keeps_the_digest() => Ok(ran),
        Ok(Some(digest)) => Err(format!("pushed {digest}, which is not {}", what.digest)),
        Ok(None) => Err("said that it pushed, but nothing is there".into()),
        Err(why) => Err(format!("the registry is gone: {why}")),
    }
}
