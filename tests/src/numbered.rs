//! The tests that there are, by the numbers that their names carry: of attacks (`a07`), of cases (`c57`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The workspace's folder.
///
/// # Panics
/// Never: this crate is in one.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root").to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The numbers after this letter that a test's name says it is about: 7 and 8 for `a` in `c57_a07_a08_locations`, up to the first
/// part that is no number of anything.
pub fn numbers(name: &str, letter: char) -> BTreeSet<u32> {
    let numbered = |part: &&str| {
        let digits = part.get(1..).unwrap_or_default();
        part.starts_with(char::is_alphabetic) && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let parts = name.split('_').take_while(numbered);
    parts.filter_map(|part| part.strip_prefix(letter)?.parse().ok()).collect()
}

/// The names of all functions that the compiler is told are tests: by `#[test]`, or by standing in `on_all_runtimes!` or
/// `on_hand_made_runtimes_too!`.
///
/// # Panics
/// When a source can't be read.
pub fn tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    for package in ["registry-proto", "runtime-tokio", "runtime-async-std", "runtime-blocking", "tests"] {
        sources(&root().join(package), &mut files);
    }
    let mut found = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            match line.strip_prefix("fn ") {
                Some(rest) if marked => {
                    found.insert(rest.split('(').next().unwrap_or_default().to_owned());
                    marked = false;
                }
                Some(_) => marked = false,
                None => marked |= line == "#[test]",
            }
        }
        for macro_call in ["on_all_runtimes!(", "on_hand_made_runtimes_too!("] {
            for list in text.split(macro_call).skip(1) {
                let names = list.split(')').next().unwrap_or_default().split(',').map(str::trim);
                found.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
            }
        }
    }
    found
}
