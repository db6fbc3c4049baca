//! The project's own source files, for tests that look at how they are written.

use std::fs;
use std::path::{Path, PathBuf};

/// The workspace's folder.
///
/// # Panics
/// Never: this crate is in one.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root").to_owned()
}

/// Every Rust file below this folder of the workspace, and what is in it. What was built doesn't count.
///
/// # Panics
/// When something can't be read.
pub fn below(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    gather(&root().join(folder), &mut files);
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read_to_string(&file).unwrap())).collect()
}

fn gather(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            gather(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
