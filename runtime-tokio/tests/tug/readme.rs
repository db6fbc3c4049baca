//! What the README has people type.

use std::fs;

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::testing::registry::{Profile, Registry};
use registry_tokio::serve::Server;
use tempfile::TempDir;

use crate::run::{command, printed, runtime, tug};

const README: &str = include_str!("../../../README.md");

#[test]
fn the_first_command() {
    let demo = tug(&["demo"]);
    assert!(demo.status.success(), "{demo:?}");
    for part in
        ["4 of 4 blobs sent", "everything was there already", "hello:v1", "is the same\n", "tug tags", "tug delete"]
    {
        assert!(printed(&demo).contains(part), "{part}: {}", printed(&demo));
    }
}

/// The block of commands, one after another: with another port, and without asking Docker Hub for an image.
#[test]
fn by_hand() {
    let (_, rest) = README.split_once("## By hand").unwrap();
    let (_, rest) = rest.split_once("```sh\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();

    let (runtime, folder) = (runtime(), TempDir::new().unwrap());
    let registry = Registry::new(Profile::distribution_3());
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
    let image = SampleImage::new(&["alpine:latest"], &[b"a layer"]);
    fs::write(folder.path().join("alpine.tar"), make::docker_save_oci(&[image])).unwrap();

    let mut last = String::new();
    for line in block.lines() {
        let line = line.split('#').next().unwrap().trim().replace("localhost:5000", &server.address().to_string());
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("tug"), "{line}");
        let arguments: Vec<&str> = words.collect();
        if arguments.last() == Some(&"&") || arguments == ["pull", "alpine", "alpine.tar"] {
            continue;
        }
        let ran = command().args(&arguments).current_dir(folder.path()).output().unwrap();
        assert!(ran.status.success(), "{line}: {ran:?}");
        last = printed(&ran).to_owned();
    }
    assert_eq!(last, "v1\n");
    server.registry(|registry| assert_eq!(registry.tags("mirror/alpine"), ["v1"]));
}
