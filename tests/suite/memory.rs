//! A layer is never in memory: the peak of a whole process that pushes a large one stays small.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use registry_proto::Config;
use registry_proto::flow::{Destination, Push, PushOptions};
use registry_tests::docker_registry::DockerRegistry;
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;

/// Far more than may be in memory.
const LAYER: u64 = 300 << 20;

/// In KiB. What a release build is held to; this one has debug information and a test harness in it as well.
const PEAK: u64 = 32 << 10;

/// Tells the process that is measured what to push where; without it, this is the process that measures.
const TASK: &str = "MEMORY_TEST_TASK";

fn stays_small(runtime: Runtime) {
    match std::env::var(TASK) {
        Ok(task) => {
            let (archive, reference) = task.split_once(' ').unwrap();
            let to = Destination::Reference(reference.parse().unwrap());
            runtime.run(Config::default(), Push::new(PathBuf::from(archive), to, PushOptions::default())).unwrap();
            println!("peak: {}", peak());
        }
        Err(_) => {
            let folder = tempfile::tempdir().unwrap();
            let (archive, registry) = (archive(folder.path()), DockerRegistry::start());
            let task = format!("{} {}/{runtime}/big:v1", archive.display(), registry.host());
            // This very test, alone in a process of its own.
            let this = std::thread::current().name().unwrap().to_owned();
            let output = Command::new(std::env::current_exe().unwrap())
                .args([&this, "--exact", "--nocapture"])
                .env(TASK, task)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
            let peak: u64 = said.split_once("peak: ").unwrap().1.lines().next().unwrap().parse().unwrap();
            println!("{runtime}: {} MiB at most", peak / 1024);
            assert!(peak < PEAK, "{runtime}: {peak} KiB for a layer of {} KiB", LAYER / 1024);
        }
    }
}

on_all_runtimes!(stays_small);

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// A `docker save` tar with one large layer, which takes no room on disk: it is a hole.
fn archive(folder: &Path) -> PathBuf {
    let path = folder.join("big.tar");
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    let mut add = |name: &str, content: &[u8]| {
        tar.append_data(&mut header(content.len() as u64), name, content).unwrap();
    };
    let digest = zeros_digest(LAYER);
    add(
        "c.json",
        format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#)
            .as_bytes(),
    );
    add("manifest.json", br#"[{"Config":"c.json","RepoTags":["big:v1"],"Layers":["big/layer.tar"]}]"#);
    let mut last = header(LAYER);
    last.set_path("big/layer.tar").unwrap();
    last.set_cksum();
    let mut file = tar.into_inner().unwrap();
    // `into_inner` closed the tar with two empty records: the layer takes their place.
    use std::io::{Seek as _, SeekFrom, Write as _};
    file.seek(SeekFrom::End(-1024)).unwrap();
    file.write_all(last.as_bytes()).unwrap();
    let end = file.stream_position().unwrap() + LAYER + 1024;
    file.set_len(end).unwrap();
    path
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

fn zeros_digest(count: u64) -> registry_proto::spec::Digest {
    let mut digester = registry_proto::Digester::new(registry_proto::spec::Algorithm::Sha256);
    let zeros = vec![0; 1 << 20];
    for at in (0..count).step_by(zeros.len()) {
        digester.feed(at, &zeros).unwrap();
    }
    digester.digest()
}
