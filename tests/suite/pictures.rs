//! The pictures in the documentation of flows are of the code: every state has its place in them, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeSet;

use registry_tests::sources::{below, root};

/// How a flow begins and ends is the same everywhere, and not drawn everywhere.
const ENDS: [&str; 6] = ["New", "Settled", "Over", "Done", "Cancelling", "Cancelled"];

/// With more states than this, nobody sees by himself what follows what.
const OBVIOUS: usize = 2;

/// The variants of the file's `enum State`, less those that every flow has.
fn states(text: &str) -> BTreeSet<&str> {
    let Some((_, rest)) = text.split_once("\nenum State") else { return BTreeSet::new() };
    let (body, _) = rest.split_once("\n}").unwrap();
    let names = body.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?;
        let end = name.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(name.len());
        name.starts_with(|letter: char| letter.is_ascii_uppercase()).then(|| &name[..end])
    });
    names.filter(|name| !ENDS.contains(name)).collect()
}

/// The pictures in the documentation of the file, and of what is in it.
fn pictures(text: &str) -> String {
    let (mut within, mut found) = (false, String::new());
    for line in text.lines() {
        let Some(line) = line.strip_prefix("//!").or_else(|| line.strip_prefix("///")) else { continue };
        match line.trim() {
            "```text" => within = true,
            "```" => within = false,
            _ if within => found.extend([line, "\n"]),
            _ => {}
        }
    }
    found
}

/// What looks like a state: an upper-case letter and then lower-case ones.
fn names(picture: &str) -> BTreeSet<&str> {
    let words = picture.split(|letter: char| !letter.is_ascii_alphanumeric());
    let is_name = |word: &&str| {
        word.starts_with(|first: char| first.is_ascii_uppercase())
            && word.chars().filter(|letter| letter.is_ascii_lowercase()).count() > 1
    };
    words.filter(is_name).filter(|word| !ENDS.contains(word)).collect()
}

/// A picture without what is in parentheses, which says more about a state.
fn bare(picture: &str) -> String {
    let mut depth = 0_usize;
    let keep = |letter: &char| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    };
    picture.chars().filter(keep).collect()
}

/// What is about to be done and what is being done may be one in a picture: `Lay` and `Laying`.
fn is_drawn(state: &str, named: &BTreeSet<&str>) -> bool {
    named.contains(state) || named.contains(&*format!("{state}ing"))
}

#[test]
fn every_state_is_in_the_picture_and_every_name_in_it_is_a_state() {
    let flows = "registry-proto/src/flow";
    let (mut wrong, mut drawn) = (Vec::new(), 0);
    for (file, text) in below(flows) {
        let (states, picture) = (states(&text), pictures(&text));
        if states.is_empty() {
            continue;
        }
        let file = file.strip_prefix(root().join(flows)).unwrap().display();
        if picture.is_empty() {
            if states.len() > OBVIOUS {
                wrong.push(format!("{file}: {states:?} and no picture"));
            }
            continue;
        }
        drawn += 1;
        let (named, bare) = (names(&picture), bare(&picture));
        let missing: Vec<_> = states.iter().filter(|state| !is_drawn(state, &named)).collect();
        let strange: Vec<_> = names(&bare).into_iter().filter(|name| !states.contains(name)).collect();
        if !missing.is_empty() || !strange.is_empty() {
            wrong.push(format!("{file}: not drawn {missing:?}; no states {strange:?}"));
        }
    }
    assert!(drawn > 10, "only {drawn} pictures were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
