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
mod workload;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use registry_tests::bench::wire::Connection;
use registry_tests::bench::{
    Options, Outcome, Run, Section, Target, Who, interleaved, machine, memory_folder, run, wait_for_quiet,
};
use registry_tests::docker_registry::DockerRegistry;
use registry_tests::runtimes::Runtime;

use crate::contender::Contender;
use crate::workload::{Prepared, Workload};

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
    match Options::read(&words, "push") {
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

fn compare(options: &Options) {
    let folder = memory_folder("push-bench-");
    let contenders = Contender::ALL.into_iter().filter(|contender| options.invites(contender.word()));
    let contenders: Vec<(Contender, Who)> = contenders.map(|contender| (contender, contender.who())).collect();
    let (mut sections, mut second_section, mut repeated) = (Vec::new(), None, 0);
    for workload in Workload::ALL.into_iter().filter(|workload| options.wants(workload.letter())) {
        eprintln!("({}) {}", workload.letter(), workload.title());
        let place = folder.path().join(workload.letter());
        let prepared = workload.prepare(&place);
        let measured = interleaved(&contenders, options.runs, &mut repeated, |who| measure_one(who, &prepared, &place));
        let mut measured = measured.into_iter();
        sections.extend(measured.next().map(|outcomes| of_something_new(workload, outcomes)));
        second_section = second_section.or_else(|| measured.next().map(of_what_is_there));
        // Gone before the next: both at once would need twice the memory.
        std::fs::remove_dir_all(place).unwrap();
    }
    println!("{}", machine(options.runs, repeated));
    for section in sections.into_iter().chain(second_section) {
        println!("{section}");
    }
}

fn of_something_new(workload: Workload, outcomes: Vec<(Who, Outcome)>) -> Section {
    let target: fn(Runtime) -> Target = match workload {
        Workload::Large | Workload::Usual => |runtime| match runtime {
            Runtime::Tokio | Runtime::Blocking => Target::TimesFloor(1.25),
            Runtime::AsyncStd => Target::TimesFloor(1.5),
            Runtime::Smol | Runtime::StdNet => Target::Open,
        },
        Workload::Small => |_| Target::TimesFloor(2.0),
    };
    Section { title: format!("({}) {}", workload.letter(), workload.title()), target, ahead: true, outcomes }
}

fn of_what_is_there(outcomes: Vec<(Who, Outcome)>) -> Section {
    let title = "(d) the image of (b) once more".to_owned();
    Section { title, target: |_| Target::Seconds(0.05), ahead: false, outcomes }
}

/// A push to a registry of its own and, of the usual image, the same once more.
fn measure_one(who: Contender, what: &Prepared, place: &Path) -> Vec<Result<Run, String>> {
    let registry = DockerRegistry::start();
    wait_for_quiet();
    let mut measured = vec![push(who, what, &registry, place)];
    if measured[0].is_ok() && what.workload == Workload::Usual {
        measured.push(push(who, what, &registry, place));
    }
    measured
}

/// One push, and a look whether it really happened.
fn push(who: Contender, what: &Prepared, registry: &DockerRegistry, place: &Path) -> Result<Run, String> {
    let (host, repository) = (registry.host(), "bench/image");
    let ran = run(&who.command(what, &host, repository), place)?;
    match Connection::open(&host).and_then(|mut connection| connection.look_up(repository, "1")) {
        Ok(Some(digest)) if digest == what.digest || !who.keeps_the_digest() => Ok(ran),
        Ok(Some(digest)) => Err(format!("pushed {digest}, which is not {}", what.digest)),
        Ok(None) => Err("said that it pushed, but nothing is there".into()),
        Err(why) => Err(format!("the registry is gone: {why}")),
    }
}
