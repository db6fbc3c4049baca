//! How fast pulls and copies are, ours and others', side by side against real registries:
//!
//! ```text
//! cargo bench -p registry-tests --features peers --bench read [-- [--runs N] [--only LETTERS] [--who NAME,NAME…]]
//! ```
//!
//! For a look at a single one, the program that this builds starts a registry with an image by `serve LETTER` (until its
//! input ends), and does one thing by `as NAME pull HOST/bench/image FILE` or `as NAME copy HOST/bench/image HOST/REPOSITORY`.
//!
//! What is measured and what came of it the last time: `tests/benches/README.md`.

#![allow(clippy::unwrap_used, reason = "a bench that can't go on may as well stop")]

mod contender;
mod floor;
mod image;
mod task;

use std::env;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use registry_tests::bench::{Options, Run, Section, Who, interleaved, machine, memory_folder, run, wait_for_quiet};

use crate::contender::Contender;
use crate::task::{Prepared, Task};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["as", who, verb, from, to] => {
            let who = Contender::by_word(who).expect("the bench starts only contenders that it knows");
            return match who.act(verb, from, to) {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => {
                    eprintln!("{why}");
                    ExitCode::FAILURE
                }
            };
        }
        ["serve", letter] => {
            let task = Task::ALL.into_iter().find(|task| task.letter() == letter).expect("e to k");
            let folder = memory_folder("read-bench-");
            let prepared = task.prepare(folder.path());
            println!("{}", prepared.source.host());
            io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    match Options::read(&words, "read") {
        Ok(options) => {
            compare(&options, memory_folder("read-bench-").path());
            ExitCode::SUCCESS
        }
        Err(usage) => {
            eprintln!("{usage}");
            ExitCode::from(2)
        }
    }
}

fn compare(options: &Options, memory: &Path) {
    let (mut sections, mut repeated) = (Vec::new(), 0);
    for task in Task::ALL.into_iter().filter(|task| options.wants(task.letter())) {
        let title = format!("({}) {}", task.letter(), task.title());
        eprintln!("{title}");
        let contenders = Contender::ALL.into_iter().filter(|who| who.does(task) && options.invites(who.word()));
        let contenders: Vec<(Contender, Who)> = contenders.map(|who| (who, who.who(task))).collect();
        let mut prepared = task.prepare(memory);
        let measured =
            interleaved(&contenders, options.runs, &mut repeated, |who| vec![measure_one(who, &mut prepared)]);
        let section = |outcomes| Section { title: title.clone(), target: task.target(), ahead: true, outcomes };
        sections.extend(measured.into_iter().map(section));
    }
    println!("{}", machine(options.runs, repeated));
    for section in sections {
        println!("{section}");
    }
}

/// One pull or copy, and a look whether it really happened.
fn measure_one(who: Contender, what: &mut Prepared) -> Result<Run, String> {
    let to = what.next();
    wait_for_quiet();
    let ran = run(&who.command(what, &to), what.folder());
    let checked = what.check(&to, who.wrote());
    let ran = ran?;
    checked.map(|()| ran)
}
