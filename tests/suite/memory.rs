//! A layer is never in memory: the peak of a whole process that pushes, pulls or copies a large one stays small. Nor is it
//! written twice.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;
use std::path::{Path, PathBuf};

use registry_proto::flow::{Copy, CopyOptions, Destination, Platforms, Pull, PullOptions, Push, PushOptions};
use registry_proto::spec::Reference;
use registry_proto::{Config, UploadPolicy};
use registry_tests::docker_registry::DockerRegistry;
use registry_tests::memory::{self, LAYER, huge};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use tempfile::TempDir;

/// In KiB. What a release build is held to; this one has debug information and a test harness in it as well.
const PEAK: u64 = 32 << 10;

fn push(runtime: Runtime, archive: &Path, to: &str) {
    let to = Destination::Reference(to.parse().unwrap());
    runtime.run(Config::default(), Push::new(archive, to, PushOptions::default())).unwrap();
}

/// Does the task of the process that is measured, if this is it.
fn is_task(runtime: Runtime) -> bool {
    let Some(task) = memory::task() else { return false };
    let [verb, from, to] = task.split(' ').collect::<Vec<_>>()[..] else { panic!("{task}") };
    let reference = |text: &str| -> Reference { text.parse().unwrap() };
    let mut config = Config::default();
    match verb {
        "push" => push(runtime, &PathBuf::from(from), to),
        "copy" | "copy-in-one-request" => {
            if verb != "copy" {
                config.upload = UploadPolicy::Monolithic;
            }
            let flow = Copy::new(reference(from), reference(to), CopyOptions::default());
            let copied = runtime.run(config, flow).unwrap();
            assert!(copied.totals.sent_bytes >= LAYER);
        }
        "pull" => {
            let mut options = PullOptions::default();
            options.platforms = Platforms::All;
            runtime.run(config, Pull::new([reference(from)], to, options)).unwrap();
        }
        _ => panic!("{task}"),
    }
    memory::report();
    true
}

#[track_caller]
fn measure(runtime: Runtime, task: &str) -> u64 {
    let needed = memory::measure(task);
    println!("{runtime}: {} KiB at most, {} bytes written", needed.peak, needed.written);
    assert!(needed.peak < PEAK, "{runtime}: {} KiB for a layer of {} KiB", needed.peak, LAYER / 1024);
    needed.written
}

fn a_push_stays_small(runtime: Runtime) {
    if !is_task(runtime) {
        let (registry, folder) = (DockerRegistry::start(), TempDir::new().unwrap());
        measure(runtime, &format!("push {} {}/big:v1", huge(folder.path()).display(), registry.host()));
    }
}

fn a_copy_stays_small(runtime: Runtime) {
    if !is_task(runtime) {
        let (source, destination) = (DockerRegistry::start(), DockerRegistry::start());
        let folder = TempDir::new().unwrap();
        let from = format!("{}/big:v1", source.host());
        push(runtime, &huge(folder.path()), &from);
        for verb in ["copy", "copy-in-one-request"] {
            let to = format!("{}/{verb}:v1", destination.host());
            measure(runtime, &format!("{verb} {from} {to}"));
        }
    }
}

fn a_pull_stays_small_and_writes_everything_once(runtime: Runtime) {
    if !is_task(runtime) {
        let (registry, folder) = (DockerRegistry::start(), TempDir::new().unwrap());
        let (from, out) = (format!("{}/big:v1", registry.host()), folder.path().join("out.tar"));
        push(runtime, &huge(folder.path()), &from);
        let written = measure(runtime, &format!("pull {from} {}", out.display()));
        let size = fs::metadata(&out).unwrap().len();
        assert!(size > LAYER && written * 100 <= size * 102, "{runtime}: {written} bytes for an archive of {size}");
    }
}

on_all_runtimes!(a_push_stays_small, a_copy_stays_small, a_pull_stays_small_and_writes_everything_once);
