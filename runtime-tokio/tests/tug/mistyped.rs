//! What is easily mistyped gets a word on what to type instead.

use std::fs;

use registry_proto::archive::make::{self, SampleImage};
use tempfile::TempDir;

use crate::run::{command, err};

/// The arguments, with what exit status it ends, and what the message says. `SAVED` is an archive, `.` a folder that holds it.
const MISTYPED: &[(&[&str], i32, &str)] = &[
    (&["push", "SAVED", "127.0.0.1:5000"], 2, "add a repository, as in `127.0.0.1:5000/app:v1`"),
    (&["copy", "localhost:5000", "localhost:5000/b"], 2, "that is a registry, and no image in it"),
    (&["inspect", "registry.example.org:5000"], 2, "that is a registry, and no image in it"),
    (&["tags", "localhost:5000"], 2, "`tug catalog localhost:5000` lists those"),
    (&["catalog", "http://localhost:5000"], 2, "write `localhost:5000`, and --plain-http if http is meant"),
    (&["catalog", "localhost:5000/app"], 2, "a registry alone is wanted: `localhost:5000`"),
    (&["pull", "docker://localhost:5000/app", "out.tar"], 2, "write `localhost:5000/app`"),
    (&["pull", "localhost:5000/app", "-"], 2, "name a file, not standard output"),
    (&["blob", "localhost:5000/app", "-"], 2, "leave it out for standard output"),
    (&["pull", "localhost:5000/app", "out.tar", "--jobs", "0"], 2, "a whole number above 0"),
    (&["ping", "localhost:5000", "--limit-rps", "0"], 2, "a whole number above 0"),
    (&["ping", "localhost:5000", "--ca-file", "nope.pem"], 1, "--ca-file nope.pem: No such file or directory"),
    (&["serve", "--addr", "localhost"], 2, "ADDRESS:PORT, such as 127.0.0.1:5000"),
    (&["serve", "--addr", "127.0.0.1:0", "--dir", "SAVED"], 1, "is no folder; name one (--dir)"),
    (&["push", "SAVED", "localhost:5000/app", "--image", "nope"], 1, "holds no image `nope`; it holds"),
    (&["push", "SAVED", "localhost:5000/app", "--platform", "plan9/mips"], 1, "it is one for linux/amd64"),
    (&["push", "NAMELESS", "--prefix", "localhost:5000/mirror"], 1, "has no tag: give a reference that it shall go to"),
];

#[test]
fn what_is_mistyped_is_told_apart() {
    let folder = TempDir::new().unwrap();
    let image = |tags: &[&str]| make::docker_save_legacy(&[SampleImage::new(tags, &[b"a layer"])]);
    fs::write(folder.path().join("SAVED"), image(&["app:v1"])).unwrap();
    fs::write(folder.path().join("NAMELESS"), image(&[])).unwrap();
    for (arguments, status, says) in MISTYPED {
        let ran = command().args(*arguments).current_dir(folder.path()).output().unwrap();
        let said = err(&ran).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(says), "{arguments:?}: {said}");
        assert_eq!(ran.status.code(), Some(*status), "{arguments:?}: {said}");
    }
}

/// Whatever has the name that a pull is to make is only replaced if it is a file.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_replaced() {
    use std::os::unix::fs::FileTypeExt as _;
    use std::process::Command;

    use registry_proto::testing::registry::{Profile, Registry};
    use registry_tokio::serve::Server;

    let (runtime, folder) = (crate::run::runtime(), TempDir::new().unwrap());
    let mut registry = Registry::new(Profile::distribution_3());
    registry.insert_image("app", Some("v1"), &SampleImage::new(&[], &[b"a layer"]));
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reference = format!("{}/app:v1", server.address());
    for (out, says) in [("pipe", "neither a file nor a folder"), (".", "is a folder: name a file")] {
        let pull = ["pull", &reference, out, "--platform", "linux/amd64"];
        let ran = command().args(pull).current_dir(folder.path()).output().unwrap();
        assert!(!ran.status.success() && err(&ran).contains(says), "{out}: {}", err(&ran));
    }
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "there is more than the pipe");
}
