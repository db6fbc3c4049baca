//! What is pulled and copied: images of random bytes in gzip layers, the same each time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use registry_proto::Config;
use registry_proto::archive::make::gzip_stored;
use registry_proto::flow::{Destination, Push, PushOptions};
use registry_proto::spec::{Descriptor, Digest, ImageManifest, Index, Manifest, MediaType};
use registry_tests::bench::Random;
use registry_tests::runtimes::Runtime;
use serde_json::json;

/// One of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// Seven layers, 215 MB together.
    Usual,
    /// Sixty layers of 10 to 200 KB.
    Small,
    /// One layer of 1 GiB.
    Large,
}

impl Image {
    /// Puts it there as `bench/image:1`. Yields its manifest.
    pub(crate) fn put(self, host: &str, folder: &Path) -> Manifest {
        let layers: Vec<Bytes> = match self {
            Self::Usual => {
                let sizes = [100, 50, 30, 20, 10, 4, 1].map(|size| size * 1_000_000);
                (1..).zip(sizes).map(|(seed, size)| Random(seed << 48).bytes(size)).collect()
            }
            Self::Small => {
                let mut random = Random(60);
                (0..60).map(|_| random.layer(10_000, 200_000)).collect()
            }
            Self::Large => vec![Random(1 << 56).bytes(1 << 30)],
        };
        let layout = folder.join("layout");
        let manifest = write_layout(&layout, &layers);
        let to = Destination::Reference(format!("{host}/bench/image:1").parse().unwrap());
        Runtime::Blocking.run(Config::default(), Push::new(layout.as_path(), to, PushOptions::default())).unwrap();
        fs::remove_dir_all(layout).unwrap();
        manifest
    }
}

/// An OCI folder of these layers, each in a gzip that compresses nothing: random bytes can't be compressed anyway.
fn write_layout(folder: &Path, layers: &[Bytes]) -> Manifest {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let keep = |kind: MediaType, content: &[u8]| {
        let digest = Digest::of(content);
        fs::write(blobs.join(digest.encoded()), content).unwrap();
        Descriptor::new(kind, digest, content.len() as u64)
    };
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "created": "1970-01-01T00:00:00Z",
        "history": layers.iter().map(|_| json!({"created_by": "COPY"})).collect::<Vec<_>>(),
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| Digest::of(layer)).collect::<Vec<_>>()},
    });
    let manifest = ImageManifest {
        media_type: Some(MediaType::OCI_MANIFEST),
        artifact_type: None,
        config: keep(MediaType::OCI_CONFIG, config.to_string().as_bytes()),
        layers: layers.iter().map(|layer| keep(MediaType::OCI_LAYER_GZIP, &gzip_stored(layer))).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    }
    .to_manifest();
    let root = keep(manifest.media_type().clone(), manifest.bytes());
    let index = Index {
        media_type: Some(MediaType::OCI_INDEX),
        artifact_type: None,
        manifests: vec![root],
        subject: None,
        annotations: BTreeMap::new(),
    };
    fs::write(folder.join("index.json"), index.to_manifest().bytes()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    manifest
}
