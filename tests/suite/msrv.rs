//! The stated minimum Rust version is true: no dependency asks for a newer one.
//!
//! (Older toolchains can't be installed everywhere; what the standard library's own items need is checked by clippy's
//! `incompatible_msrv`, which knows the workspace's `rust-version`.)

#![allow(clippy::unwrap_used, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let ran = Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn no_dependency_of_a_published_crate_asks_for_more() {
    let stated = version(env!("CARGO_PKG_RUST_VERSION"));
    assert!(stated.len() >= 2, "the workspace states a rust-version");
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--all-features"])).unwrap();
    let needs: BTreeMap<String, String> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|package| {
            let name = format!("{} v{}", package["name"].as_str()?, package["version"].as_str()?);
            Some((name, package["rust_version"].as_str()?.to_owned()))
        })
        .collect();
    let mut checked = 0;
    let mut newer = Vec::new();
    for package in ["registry-proto", "registry-tokio", "registry-async-std", "registry-blocking"] {
        let tree = cargo(&[
            "tree",
            "--all-features",
            "-e",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "-p",
            package,
        ]);
        for line in tree.lines() {
            let name: Vec<&str> = line.split(' ').take(2).collect();
            let Some(needs) = needs.get(&name.join(" ")) else { continue };
            checked += 1;
            if version(needs) > stated {
                newer.push(format!("{line} needs {needs}"));
            }
        }
    }
    assert!(checked > 50, "cargo told nothing about versions");
    newer.sort();
    newer.dedup();
    assert!(newer.is_empty(), "{newer:#?}");
}
