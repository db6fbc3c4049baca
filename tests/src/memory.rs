//! How much memory a whole process needs, and how much it writes; and an archive that is far larger than that.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use registry_proto::Digester;
use registry_proto::spec::{Algorithm, Descriptor, Digest, ImageManifest, Index, MediaType};

/// Tells the process that is measured what to do; without it, this is the process that measures.
const TASK: &str = "MEMORY_TEST_TASK";

/// The size of the large layer: far more than may be in memory.
pub const LAYER: u64 = 300 << 20;

/// What a process needed.
#[derive(Clone, Copy, Debug)]
pub struct Needed {
    /// The most memory that it had at any time, in KiB.
    pub peak: u64,
    /// What it wrote to files and sockets, in bytes.
    pub written: u64,
}

/// In a test: what this process is to do, if it is the one that is measured.
pub fn task() -> Option<String> {
    std::env::var(TASK).ok()
}

/// Says what this process needed. To be called when the task is done.
///
/// # Panics
/// When the kernel doesn't tell.
pub fn report() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let io = fs::read_to_string("/proc/self/io").unwrap();
    let written = io.lines().find_map(|line| line.strip_prefix("wchar:")).unwrap();
    println!("peak: {}\nwritten: {}", peak.trim().strip_suffix(" kB").unwrap(), written.trim());
}

/// Runs the test that calls this, alone in a process of its own, with a task.
///
/// # Panics
/// When it fails.
pub fn measure(task: &str) -> Needed {
    let this = std::thread::current().name().unwrap().to_owned();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&this, "--exact", "--nocapture"])
        .env(TASK, task)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let told = |what: &str| said.split_once(what).unwrap().1.lines().next().unwrap().parse().unwrap();
    Needed { peak: told("peak: "), written: told("written: ") }
}

/// An OCI folder with one large layer, which takes no room on disk: it is a hole.
///
/// # Panics
/// When it can't be written.
pub fn huge(folder: &Path) -> PathBuf {
    holes(folder, &[LAYER])
}

/// An OCI folder with layers of these sizes in bytes, which take no room on disk: they are holes.
///
/// # Panics
/// When it can't be written.
pub fn holes(folder: &Path, sizes: &[u64]) -> PathBuf {
    let layers: Vec<_> = sizes.iter().map(|&size| (zeros_digest(size), size)).collect();
    let config = br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = ImageManifest {
        media_type: None,
        artifact_type: None,
        config: Descriptor::new(MediaType::OCI_CONFIG, Digest::of(config), config.len() as u64),
        layers: layers
            .iter()
            .map(|(layer, size)| Descriptor::new(MediaType::OCI_LAYER, layer.clone(), *size))
            .collect(),
        subject: None,
        annotations: BTreeMap::new(),
    }
    .to_manifest();
    let index = Index {
        media_type: None,
        artifact_type: None,
        manifests: vec![manifest.descriptor()],
        subject: None,
        annotations: BTreeMap::new(),
    };
    let path = folder.join("huge");
    let blob = |digest: &Digest| path.join(format!("blobs/{}", digest.as_str().replace(':', "/")));
    fs::create_dir_all(path.join("blobs/sha256")).unwrap();
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(path.join("index.json"), index.to_manifest().bytes()).unwrap();
    fs::write(blob(manifest.digest()), manifest.bytes()).unwrap();
    fs::write(blob(&Digest::of(config)), config).unwrap();
    for (layer, size) in &layers {
        File::create(blob(layer)).unwrap().set_len(*size).unwrap();
    }
    path
}

fn zeros_digest(count: u64) -> Digest {
    let mut digester = Digester::new(Algorithm::Sha256);
    let zeros = vec![0; 1 << 20];
    for at in (0..count).step_by(zeros.len()) {
        digester.feed(at, &zeros).unwrap();
    }
    digester.digest()
}
