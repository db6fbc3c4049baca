//! The core stays pure: neither its sources nor its dependencies know sockets, files, threads, clocks or a runtime.

#![allow(clippy::unwrap_used, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeSet;
use std::process::Command;

use registry_tests::sources::{below, root};

/// The code of a file: comments, and what documentation is made of, may well say what the code must not do.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()));
    lines.filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with("#[doc = include_str!"))
}

#[test]
fn sources_name_nothing_of_the_world() {
    let banned = [
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::net::ToSocketAddrs",
        "std::thread",
        "std::process",
        "std::env",
        "Instant::now",
        "SystemTime",
        "std::os",
        "tokio",
        "async_std",
        "smol",
        "hyper",
        "surf",
        "ureq",
        "Mutex",
        "RwLock",
        "Condvar",
        "mpsc",
        "thread_local",
        "HashMap",
        "HashSet",
        "RandomState",
        "unsafe",
        "println!",
        "eprintln!",
    ];
    let files = below("registry-proto/src");
    assert!(files.len() > 40, "the core's sources were not found");
    let mut found = Vec::new();
    for (file, text) in files {
        for (line, code) in code(&text) {
            // `env!` is the compiler's, and the crate's version is known to it.
            for word in banned.iter().filter(|word| code.contains(**word)) {
                found.push(format!("{}:{line}: {word}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "the core is pure, but names:\n{}", found.join("\n"));
}

/// What cargo says that a package is built from, a crate a line: its name and its version.
fn tree(package: &str, more: &[&str]) -> String {
    let ran = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "-p", package, "--prefix", "none", "--format", "{p}"])
        .args(more)
        .current_dir(root().join("registry-proto"))
        .output()
        .expect("cargo runs this test, so it is there");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn dependencies_are_values_only() {
    let allowed = [
        // named in Cargo.toml
        "base64",
        "bytes",
        "http",
        "serde",
        "serde_json",
        "sha2",
        "tar",
        "thiserror",
        // what these need
        "block-buffer",
        "cfg-if",
        "const-oid",
        "cpufeatures",
        "crypto-common",
        "digest",
        "filetime",
        "hybrid-array",
        "itoa",
        "libc",
        "memchr",
        "serde_core",
        "serde_derive",
        "thiserror-impl",
        "proc-macro2",
        "quote",
        "syn",
        "typenum",
        "unicode-ident",
        "zmij",
        "registry-proto",
    ];
    let tree = tree("registry-proto", &["-e", "normal", "--features", "testing"]);
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"http"), "the tree was not read: {tree}");
    let strangers: Vec<&&str> = names.iter().filter(|name| !name.is_empty() && !allowed.contains(name)).collect();
    assert!(strangers.is_empty(), "new dependencies of the core, to be thought about: {strangers:?}");
}

/// Neither async-std nor surf is maintained any more: who doesn't ask for them doesn't get them.
#[test]
fn what_is_unmaintained_stays_where_it_is_asked_for() {
    for (package, has_them) in [
        ("registry-proto", false),
        ("registry-tokio", false),
        ("registry-blocking", false),
        ("registry-async-std", true),
    ] {
        let tree = tree(package, &["-e", "normal,build", "--all-features"]);
        let found = tree.lines().any(|line| {
            ["async-std ", "surf ", "http-types ", "http-client "].iter().any(|name| line.starts_with(name))
        });
        assert_eq!(found, has_them, "{package}:\n{tree}");
    }
}

/// A simple tool that moves images without a runtime is built from little.
#[test]
fn the_blocking_crate_is_under_eighty_with_all_below_it() {
    let tree = tree("registry-blocking", &["-e", "normal,build", "--no-dedupe"]);
    let crates: BTreeSet<&str> = tree.lines().collect();
    assert!((30..80).contains(&crates.len()), "{} crates: {crates:#?}", crates.len());
}

/// The layers from the top down, and below them the words that all of them speak.
const LAYERS: [&str; 6] = ["flow", "session", "endpoint", "archive", "credentials", "spec"];

#[test]
fn layers_import_downwards_only() {
    let mut found = Vec::new();
    for (depth, layer) in LAYERS.iter().enumerate() {
        let files = below(&format!("registry-proto/src/{layer}"));
        assert!(files.len() > 3, "the layer `{layer}` was not found");
        for (file, text) in files {
            for (line, code) in code(&text) {
                for above in LAYERS[..depth].iter().filter(|above| code.contains(&format!("crate::{above}"))) {
                    found.push(format!("{}:{line}: `{layer}` uses `{above}`", file.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What a name resolves to only drivers see. No test here can make a name lead anywhere, so this one reads.
#[test]
fn a02_every_driver_asks_before_it_connects() {
    for runtime in ["runtime-tokio", "runtime-async-std", "runtime-blocking"] {
        let files = below(&format!("{runtime}/src"));
        let calls = files
            .iter()
            .flat_map(|(_, text)| code(text))
            .filter(|(_, line)| line.contains("reachable(&host") || line.contains("reachable(host"));
        assert_eq!(
            calls.count(),
            1,
            "{runtime} connects without `registry_proto::job::reachable`, or in several places"
        );
    }
}
