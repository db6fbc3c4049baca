//! The stated minimum Rust version is true: no dependency asks for a newer one.
//!
//! (Older toolchains can't be installed everywhere; what the standard library's own items need is checked by clippy's
//! `incompatible_msrv`, which knows the workspace's `rust-version`.)

use std::process::Command;

fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[test]
fn no_dependency_of_a_published_crate_asks_for_more() {
    let stated = version(env!("CARGO_PKG_RUST_VERSION"));
    assert!(stated.len() >= 2, "the workspace states a rust-version");
    let mut checked = 0;
    let mut newer = Vec::new();
    for package in ["registry-proto", "registry-tokio", "registry-async-std", "registry-blocking"] {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--all-features", "-e", "normal,build", "--prefix", "none", "-p", package, "--format", "{p}|{rust-version}"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs this test, so it is there");
        let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
        for line in tree.lines() {
            let Some((name, needs)) = line.split_once('|') else { continue };
            let needs = needs.trim().trim_end_matches(" (*)").trim();
            if !needs.is_empty() {
                checked += 1;
                if version(needs) > stated {
                    newer.push(format!("{name} needs {needs}"));
                }
            }
        }
    }
    assert!(checked > 50, "cargo tree told nothing about versions");
    newer.sort();
    newer.dedup();
    assert!(newer.is_empty(), "{newer:#?}");
}
