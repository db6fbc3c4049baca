//! The tests that there are, by the numbers that their names carry: of attacks (`a07`), of cases (`c57`).

use std::collections::BTreeSet;

use crate::sources::below;

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
    let packages = ["registry-proto", "runtime-tokio", "runtime-async-std", "runtime-blocking", "tests"];
    let mut found = BTreeSet::new();
    for (_, text) in packages.into_iter().flat_map(below) {
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
