//! What is pushed: archives of random bytes, the same each time, and what contenders without an archive reader of their own
//! need to know about them.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use registry_proto::Digester;
use registry_proto::archive::make::{SampleImage, oci_archive};
use registry_proto::archive::{Archive, BlobContent};
use registry_proto::spec::{Algorithm, Digest};
use registry_tests::bench::Random;
use serde_json::{Value, json};

/// One of the images that are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// One layer of 1 GiB in a `docker save` tar.
    Large,
    /// Seven layers, 570 MB together, in a `docker save` tar.
    Usual,
    /// Sixty layers of 10 to 200 KB in an OCI archive.
    Small,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::Large, Self::Usual, Self::Small];

    pub(crate) const fn letter(self) -> &'static str {
        match self {
            Self::Large => "a",
            Self::Usual => "b",
            Self::Small => "c",
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Large => "one layer of 1 GiB, docker save",
            Self::Usual => "7 layers, 570 MB, docker save",
            Self::Small => "60 layers of 10 to 200 KB, OCI archive",
        }
    }

    /// What skopeo calls such an archive.
    pub(crate) const fn transport(self) -> &'static str {
        match self {
            Self::Large | Self::Usual => "docker-archive",
            Self::Small => "oci-archive",
        }
    }

    /// Writes the archive and its [`Plan`] into a folder.
    pub(crate) fn prepare(self, folder: &Path) -> Prepared {
        fs::create_dir_all(folder).unwrap();
        let archive = folder.join("image.tar");
        match self {
            Self::Large => docker_save(&archive, &[1 << 30]),
            Self::Usual => docker_save(&archive, &[300, 120, 80, 40, 20, 8, 2].map(|size| size * 1_000_000)),
            Self::Small => {
                let mut random = Random(60);
                let layers: Vec<Bytes> = (0..60).map(|_| random.layer(10_000, 200_000)).collect();
                let layers: Vec<&[u8]> = layers.iter().map(AsRef::as_ref).collect();
                fs::write(&archive, oci_archive(&[SampleImage::new(&["bench:1"], &layers)])).unwrap();
            }
        }
        let whole = Plan::of(&archive, folder);
        let extracted = whole.extracted(folder);
        let (plan, files) = (folder.join("plan.json"), folder.join("files.json"));
        fs::write(&plan, whole.to_json()).unwrap();
        fs::write(&files, extracted.to_json()).unwrap();
        Prepared { workload: self, archive, plan, files, digest: whole.digest }
    }
}

/// An archive that is ready to be pushed.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) workload: Workload,
    pub(crate) archive: PathBuf,
    /// The [`Plan`] of the archive as it is.
    pub(crate) plan: PathBuf,
    /// The same plan, but every blob is a file: curl can't send a part of a file.
    pub(crate) files: PathBuf,
    pub(crate) digest: String,
}

/// What is where in an archive, found out beforehand.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) digest: String,
    pub(crate) media_type: String,
    pub(crate) manifest: String,
    /// The config first, then the layers in order.
    pub(crate) blobs: Vec<Blob>,
}

/// A blob, and the bytes of which file it is.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) media_type: String,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Plan {
    fn of(path: &Path, folder: &Path) -> Self {
        let reading = registry_blocking::Client::new().unwrap().read_archive(path);
        let archive: Archive = reading.unwrap();
        let root = archive.images()[0].root();
        let image = root.image().expect("the archives hold one image for one platform");
        let blobs = image.blobs().map(|named| {
            let blob = archive.blob(&named.digest).unwrap();
            let (path, offset) = match blob.content() {
                BlobContent::File { path, range } => (path.to_path_buf(), range.start),
                BlobContent::Passed { .. } => unreachable!("it was read from a file"),
                BlobContent::Bytes(bytes) => {
                    let path = folder.join(blob.digest().encoded());
                    fs::write(&path, bytes).unwrap();
                    (path, 0)
                }
            };
            let (digest, media_type) = (named.digest.to_string(), named.media_type.to_string());
            Blob { digest, media_type, path, offset, size: blob.size() }
        });
        Self {
            digest: root.digest().to_string(),
            media_type: root.media_type().to_string(),
            manifest: String::from_utf8(root.bytes().to_vec()).unwrap(),
            blobs: blobs.collect(),
        }
    }

    fn extracted(&self, folder: &Path) -> Self {
        let blobs = self.blobs.iter().map(|blob| {
            let path = folder.join(format!("{}.blob", blob.digest.replace(':', "-")));
            let mut from = File::open(&blob.path).unwrap();
            from.seek(SeekFrom::Start(blob.offset)).unwrap();
            io::copy(&mut from.take(blob.size), &mut File::create(&path).unwrap()).unwrap();
            Blob { digest: blob.digest.clone(), media_type: blob.media_type.clone(), path, offset: 0, size: blob.size }
        });
        Self {
            digest: self.digest.clone(),
            media_type: self.media_type.clone(),
            manifest: self.manifest.clone(),
            blobs: blobs.collect(),
        }
    }

    pub(crate) fn read(path: &Path) -> Self {
        let plan: Value = serde_json::from_reader(BufReader::new(File::open(path).unwrap())).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let blobs = plan["blobs"].as_array().unwrap().iter().map(|blob| Blob {
            digest: text(&blob["digest"]),
            media_type: text(&blob["mediaType"]),
            path: text(&blob["path"]).into(),
            offset: blob["offset"].as_u64().unwrap(),
            size: blob["size"].as_u64().unwrap(),
        });
        Self {
            digest: text(&plan["digest"]),
            media_type: text(&plan["mediaType"]),
            manifest: text(&plan["manifest"]),
            blobs: blobs.collect(),
        }
    }

    fn to_json(&self) -> String {
        let blobs = self.blobs.iter().map(|blob| {
            json!({
                "digest": blob.digest,
                "mediaType": blob.media_type,
                "path": blob.path,
                "offset": blob.offset,
                "size": blob.size,
            })
        });
        json!({
            "digest": self.digest,
            "mediaType": self.media_type,
            "manifest": self.manifest,
            "blobs": blobs.collect::<Vec<_>>(),
        })
        .to_string()
    }
}

/// Writes a tar as `docker save` did up to Docker 24, layer by layer: `archive::make` would hold all of it in memory.
fn docker_save(path: &Path, sizes: &[u64]) {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(path).unwrap()));
    let mut layers = Vec::new();
    let mut ids = Vec::new();
    for (at, &size) in sizes.iter().enumerate() {
        let name = format!("{}/layer.tar", Digest::of(format!("layer {at}").as_bytes()).encoded());
        let mut layer = RandomLayer::new(at as u64 + 1, size);
        append(&mut tar, &name, size, &mut layer);
        ids.push(layer.digester.digest());
        layers.push(name);
    }
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "created": "1970-01-01T00:00:00Z",
        "history": sizes.iter().map(|_| json!({"created_by": "COPY"})).collect::<Vec<_>>(),
        "rootfs": {"type": "layers", "diff_ids": ids},
    })
    .to_string();
    let name = format!("{}.json", Digest::of(config.as_bytes()).encoded());
    append(&mut tar, &name, config.len() as u64, config.as_bytes());
    let list = json!([{"Config": name, "RepoTags": ["bench:1"], "Layers": layers}]).to_string();
    append(&mut tar, "manifest.json", list.len() as u64, list.as_bytes());
    tar.into_inner().unwrap().flush().unwrap();
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, size: u64, content: impl Read) {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o444);
    header.set_mtime(0);
    tar.append_data(&mut header, name, content).unwrap();
}

struct RandomLayer {
    random: Random,
    left: u64,
    digester: Digester,
}

impl RandomLayer {
    fn new(seed: u64, size: u64) -> Self {
        Self { random: Random(seed << 48), left: size, digester: Digester::new(Algorithm::Sha256) }
    }
}

impl Read for RandomLayer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let amount = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        self.random.fill(&mut buffer[..amount]);
        self.digester.feed(self.digester.at(), &buffer[..amount]).map_err(io::Error::other)?;
        self.left -= amount as u64;
        Ok(amount)
    }
}

/// Where a shared path is wanted.
pub(crate) fn shared(path: &Path) -> Arc<Path> {
    path.into()
}
