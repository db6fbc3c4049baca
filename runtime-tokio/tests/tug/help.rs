//! What the command says about itself.

use tempfile::TempDir;

use crate::run::{out, tug};

/// The verbs, as `tug --help` lists them.
fn verbs() -> Vec<String> {
    let help = tug(&["--help"]);
    let listed = out(&help).lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    // What a line goes on with is indented further.
    let verbs = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    verbs.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// CLI.md's table, from which nothing is missing.
#[test]
fn every_verb_is_there_and_shows_how_it_is_used() {
    let verbs = verbs();
    for verb in [
        "push",
        "pull",
        "copy",
        "tags",
        "catalog",
        "inspect",
        "manifest",
        "config",
        "digest",
        "blob",
        "tag",
        "delete",
        "referrers",
        "ping",
        "validate",
        "login",
        "logout",
        "serve",
        "demo",
        "completions",
        "man",
    ] {
        assert!(verbs.iter().any(|listed| listed == verb), "{verb}: {verbs:?}");
    }
    for verb in &verbs {
        let help = tug(&[verb, "--help"]);
        let help = out(&help);
        assert!(help.contains("Examples:\n") && help.contains(&format!("tug {verb}")), "{verb}: {help}");
        // What prints JSON says which.
        assert_eq!(help.contains("--format <FORMAT>"), help.contains("JSON (--format json)"), "{verb}: {help}");
    }
    for (alias, verb) in [("cp", "copy"), ("ls", "tags"), ("rm", "delete")] {
        let (short, long) = (tug(&[alias, "--help"]), tug(&[verb, "--help"]));
        assert_eq!(out(&short), out(&long), "{alias}");
    }
}

#[test]
fn man_pages_are_written() {
    let page = tug(&["man"]);
    assert!(out(&page).starts_with(".ie") || out(&page).contains(".TH tug 1"), "{}", out(&page));
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("man1");
    let written = tug(&["man", path.to_str().unwrap()]);
    let names: Vec<&str> = out(&written).lines().collect();
    assert_eq!(names.len(), verbs().len() + 1, "{names:?}");
    for name in names {
        let page = std::fs::read_to_string(name).unwrap();
        assert!(page.contains(".TH tug") && page.contains(".SH SYNOPSIS"), "{name}");
    }
    let push = std::fs::read_to_string(path.join("tug-push.1")).unwrap();
    assert!(push.contains("docker save app:v1") && push.contains("standard input"), "{push}");
}
