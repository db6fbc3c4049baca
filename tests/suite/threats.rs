//! `registry-proto/THREATS.md` against the tests that there are: every attack of PROTOCOL §6 (A1–A48) is in one of its tables, with
//! tests that exist and carry its number, or with the reason why there are none.

#![allow(clippy::unwrap_used, reason = "a test that can't go on may as well stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use registry_tests::numbered::{numbers, tests};
use registry_tests::sources::root;

/// How many attacks there are.
const ATTACKS: u32 = 48;

/// The attacks that a test's name says it is about.
fn attacks(name: &str) -> BTreeSet<u32> {
    numbers(name, 'a')
}

/// The rows of the tables under a heading: an attack's number and the row's cells.
fn rows(text: &str, heading: &str) -> BTreeMap<u32, Vec<String>> {
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).expect("the heading is there");
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| A")) {
        let cells: Vec<String> = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        let number = cells[0][1..].parse().unwrap();
        assert!(rows.insert(number, cells).is_none(), "A{number} is there twice");
    }
    rows
}

fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_attack_has_its_test_or_a_reason() {
    let text = fs::read_to_string(root().join("registry-proto/THREATS.md")).unwrap();
    let (defended, open) = (rows(&text, "Defended"), rows(&text, "Not defended"));
    let tests = tests();
    let tested: BTreeSet<u32> = tests.iter().flat_map(|name| attacks(name)).collect();
    for number in 1..=ATTACKS {
        match (defended.get(&number), open.get(&number)) {
            (Some(row), None) => {
                let [_, _, _, defence, place, tests_named] = &row[..] else { panic!("A{number}: {row:?}") };
                assert!(!defence.is_empty() && !place.is_empty(), "A{number} says nothing");
                let named = names(tests_named);
                assert!(!named.is_empty(), "A{number} names no test");
                for name in named {
                    assert!(tests.contains(name), "A{number} names `{name}`, which is no test");
                    assert!(attacks(name).contains(&number), "A{number} names `{name}`, which is not about it");
                }
            }
            (None, Some(row)) => {
                let [_, _, _, reason] = &row[..] else { panic!("A{number}: {row:?}") };
                assert!(!reason.is_empty(), "A{number} has no reason");
                assert!(!tested.contains(&number), "A{number} has a test: it belongs to what is defended");
            }
            (Some(_), Some(_)) => panic!("A{number} is both defended and not"),
            (None, None) => panic!("A{number} is missing"),
        }
    }
    let strangers: Vec<&u32> = defended.keys().chain(open.keys()).filter(|number| **number > ATTACKS).collect();
    assert!(strangers.is_empty(), "there are no such attacks: {strangers:?}");
}

/// No test by an attack's number that the table doesn't know of: whoever looks for it there would miss it.
#[test]
fn every_test_by_number_is_in_the_table() {
    let text = fs::read_to_string(root().join("registry-proto/THREATS.md")).unwrap();
    let defended = rows(&text, "Defended");
    let mut missing = Vec::new();
    for test in tests() {
        for number in attacks(&test) {
            if !defended.get(&number).is_some_and(|row| names(&row[5]).contains(&test.as_str())) {
                missing.push(format!("A{number}: {test}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The files that a row names are there.
#[test]
fn the_defences_are_where_the_table_says() {
    let text = fs::read_to_string(root().join("registry-proto/THREATS.md")).unwrap();
    let core = root().join("registry-proto/src");
    for (number, row) in rows(&text, "Defended") {
        for place in names(&row[4]) {
            let of_runtimes = ["disk.rs", "perform.rs"].contains(&place)
                && ["runtime-tokio", "runtime-async-std", "runtime-blocking"]
                    .iter()
                    .all(|runtime| root().join(runtime).join("src").join(place).exists());
            let of_tug = root().join("runtime-tokio/src/bin").join(place).exists();
            assert!(core.join(place).exists() || of_runtimes || of_tug, "A{number}: there is no `{place}`");
        }
    }
}
