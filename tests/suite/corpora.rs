//! Every input that fuzzing has kept, and every one that was a finding once, through the targets' own checks (`tests/fuzz`).

#![allow(clippy::unwrap_used, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use registry_tests::fuzzed::TARGETS;

/// A corpus is read by everybody who runs the suite: it is to be small. (A tar can't be smaller than its records.)
const MOST_FILES: usize = 80;
const MOST_BYTES: u64 = 8 << 10;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The names in a folder, without what comes behind a dot.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_corpus_is_replayed() {
    for (name, target) in TARGETS {
        let folder = fuzz().join("corpus").join(name);
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap_or_else(|why| panic!("{}: {why}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!((1..=MOST_FILES).contains(&files.len()), "{} has {} files", folder.display(), files.len());
        for file in files {
            let content = fs::read(&file).unwrap();
            assert!(content.len() as u64 <= MOST_BYTES, "{} has {} bytes", file.display(), content.len());
            let replayed = catch_unwind(AssertUnwindSafe(|| target(&content)));
            assert!(replayed.is_ok(), "{} is a finding", file.display());
        }
    }
}

#[test]
fn every_target_is_known() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), known);
    assert_eq!(names(&fuzz().join("corpus")), known);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in known {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not built");
    }
}
