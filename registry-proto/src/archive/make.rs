//! Image archives for tests, built in memory with the structure that real savers give them (PROTOCOL.md §4.4 a to f).
//! The same input gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Disk, Opened};
use crate::spec::{Descriptor, Digest, ImageManifest, Index, Manifest, MediaType, Platform, Reference};

mod tar;

pub use tar::{TarMaker, gzip_stored};

/// What to make an archive of.
///
/// ```
/// use registry_proto::archive::make::{self, SampleImage};
///
/// let image = SampleImage::new(&["app:v1"], &[b"a layer"]);
/// let arm = image.clone().on("linux", "arm64");
/// assert_ne!(image.manifest(false).digest(), arm.manifest(false).digest());
/// let tar = make::docker_save_oci(&[image]);
/// # drop(tar);
/// ```
#[derive(Clone, Debug)]
pub struct SampleImage {
    /// Full or familiar names with tags. None: saved by its id.
    pub tags: Vec<String>,
    /// The layers, uncompressed, the lowest first.
    pub layers: Vec<Bytes>,
    /// For which platform.
    pub platform: Platform,
}

impl SampleImage {
    /// An image for linux/amd64.
    pub fn new(tags: &[&str], layers: &[&[u8]]) -> Self {
        let platform = Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() };
        let layers = layers.iter().map(|layer| Bytes::copy_from_slice(layer)).collect();
        Self { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), layers, platform }
    }

    /// The same for another platform, such as `linux/arm64`; the config, and so every digest above it, differs.
    #[must_use]
    pub fn on(mut self, os: &str, architecture: &str) -> Self {
        self.platform = Platform { os: os.into(), architecture: architecture.into(), ..Platform::default() };
        self
    }

    /// Its config.
    pub fn config(&self) -> Bytes {
        let diff_ids: Vec<Digest> = self.layers.iter().map(|layer| Digest::of(layer)).collect();
        json_bytes(&json!({
            "architecture": self.platform.architecture,
            "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
            "created": "1970-01-01T00:00:00Z",
            "history": self.layers.iter().map(|_| json!({"created_by": "COPY"})).collect::<Vec<_>>(),
            "os": self.platform.os,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))
    }

    /// Its OCI manifest, over layers as they are or gzip-wrapped.
    pub fn manifest(&self, gzip: bool) -> Manifest {
        let config = self.config();
        let layer_type = if gzip { MediaType::OCI_LAYER_GZIP } else { MediaType::OCI_LAYER };
        let manifest = ImageManifest {
            media_type: Some(MediaType::OCI_MANIFEST),
            artifact_type: None,
            config: describe(MediaType::OCI_CONFIG, &config),
            layers: self.stored(gzip).iter().map(|layer| describe(layer_type.clone(), layer)).collect(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        manifest.to_manifest()
    }

    fn stored(&self, gzip: bool) -> Vec<Bytes> {
        self.layers.iter().map(|layer| if gzip { gzip_stored(layer) } else { layer.clone() }).collect()
    }

    fn familiar_tags(&self) -> Value {
        match self.tags.is_empty() {
            true => Value::Null,
            false => {
                self.tags.iter().map(|tag| parsed(tag).map_or_else(|| tag.clone(), |tag| tag.familiar())).collect()
            }
        }
    }

    /// Everything of it that an OCI layout keeps under `blobs/`.
    fn blobs(&self, gzip: bool) -> Vec<Bytes> {
        let mut blobs = self.stored(gzip);
        blobs.extend([self.config(), self.manifest(gzip).bytes().clone()]);
        blobs
    }
}

/// (a) `docker save` of Docker 1.10 to 24: layers under ids that are no digests, a repeated layer as a symlink, sorted, so
/// that `manifest.json` comes late.
pub fn docker_save_legacy(images: &[SampleImage]) -> Bytes {
    let mut tar: BTreeMap<String, (Option<String>, Bytes)> = BTreeMap::new();
    let mut written: BTreeMap<Digest, String> = BTreeMap::new();
    let mut items = Vec::new();
    for image in images {
        let config = image.config();
        let id = Digest::of(&config);
        let mut layers = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            let v1 = Digest::of(format!("{id} {at}").as_bytes()).encoded().to_owned();
            let path = format!("{v1}/layer.tar");
            tar.insert(format!("{v1}/"), (None, Bytes::new()));
            tar.insert(format!("{v1}/VERSION"), (None, Bytes::from_static(b"1.0")));
            tar.insert(format!("{v1}/json"), (None, json_bytes(&json!({"id": v1}))));
            // The same image twice has the same ids: that is no link, but the same file again.
            let first = written.get(&Digest::of(layer)).filter(|first| **first != path);
            let link = first.map(|first| format!("../{first}"));
            written.entry(Digest::of(layer)).or_insert_with(|| path.clone());
            tar.insert(path.clone(), (link, layer.clone()));
            layers.push(path);
        }
        tar.insert(format!("{}.json", id.encoded()), (None, config));
        items.push(
            json!({"Config": format!("{}.json", id.encoded()), "RepoTags": image.familiar_tags(), "Layers": layers}),
        );
    }
    tar.insert("manifest.json".into(), (None, json_bytes(&Value::Array(items))));
    tar.insert("repositories".into(), (None, Bytes::from_static(b"{}")));
    tar.into_iter()
        .fold(TarMaker::new(), |maker, (name, (link, content))| match link {
            Some(target) => maker.symlink(&name, &target),
            None if name.ends_with('/') => maker.folder(&name),
            None => maker.file(&name, &content),
        })
        .finish()
}

/// (b) `docker save` since Docker 25 with the graph driver: an OCI layout with uncompressed layers, and `manifest.json`.
pub fn docker_save_oci(images: &[SampleImage]) -> Bytes {
    let mut files = layout(images.iter().flat_map(|image| image.blobs(false)), named(images, false));
    files.insert("manifest.json".into(), docker_list(images, false));
    files.insert("repositories".into(), Bytes::from_static(b"{}"));
    packed(files)
}

/// (c) `docker save` of Docker 29 with the containerd image store, and `ctr images export`: gzip layers, one index over
/// all platforms, of which only the first `held` were pulled and are in the archive.
pub fn docker_save_containerd(platforms: &[SampleImage], held: usize) -> Bytes {
    let index = index_of(platforms, true);
    let held = &platforms[..held.min(platforms.len())];
    let blobs = held.iter().flat_map(|image| image.blobs(true)).chain([index.bytes().clone()]);
    let mut files = layout(blobs, named_root(platforms.first(), &index));
    files.insert("manifest.json".into(), docker_list(&held[..held.len().min(1)], true));
    packed(files)
}

/// (d) `podman save` and `skopeo copy … docker-archive:`: `<diff_id>.tar` with symlinks from the old paths, full names,
/// `manifest.json` near the end. A layer that occurs again is only linked again.
pub fn podman_save(images: &[SampleImage]) -> Bytes {
    let mut tar = TarMaker::new();
    let mut written = BTreeSet::new();
    let mut items = Vec::new();
    for image in images {
        let config = image.config();
        let id = Digest::of(&config).encoded().to_owned();
        let mut layers = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            let file = format!("{}.tar", Digest::of(layer).encoded());
            if written.insert(file.clone()) {
                tar = tar.file(&file, layer);
            }
            let v1 = Digest::of(format!("{id} {at}").as_bytes()).encoded().to_owned();
            tar = tar.file(&format!("{v1}/VERSION"), b"1.0");
            tar = tar.symlink(&format!("{v1}/layer.tar"), &format!("../{file}"));
            layers.push(if at % 2 == 0 { file } else { format!("{v1}/layer.tar") });
        }
        if written.insert(id.clone()) {
            tar = tar.file(&format!("{id}.json"), &config);
        }
        let tags: Vec<String> =
            image.tags.iter().map(|tag| parsed(tag).map_or_else(|| tag.clone(), |tag| tag.to_string())).collect();
        items.push(json!({"Config": format!("{id}.json"), "RepoTags": tags, "Layers": layers}));
    }
    tar.file("repositories", b"{}").file("manifest.json", &json_bytes(&Value::Array(items))).finish()
}

/// (e) `crane pull`, kaniko and ko: the config is called `sha256:<hex>`, layers `<hex>.tar.gz` after their compressed bytes.
pub fn crane_save(images: &[SampleImage]) -> Bytes {
    let mut tar = TarMaker::new();
    let mut written = BTreeSet::new();
    let mut items = Vec::new();
    for image in images {
        let id = Digest::of(&image.config()).to_string();
        tar = tar.file(&id, &image.config());
        let mut layers = Vec::new();
        for layer in image.stored(true) {
            let name = format!("{}.tar.gz", Digest::of(&layer).encoded());
            if written.insert(name.clone()) {
                tar = tar.file(&name, &layer);
            }
            layers.push(name);
        }
        items.push(json!({"Config": id, "RepoTags": image.familiar_tags(), "Layers": layers}));
    }
    tar.file("manifest.json", &json_bytes(&Value::Array(items))).finish()
}

/// (f) `skopeo copy … oci-archive:` and `buildx -o type=oci`: an OCI layout in a tar, gzip layers, whole names.
pub fn oci_archive(images: &[SampleImage]) -> Bytes {
    packed(oci_layout(images))
}

/// The same as a folder: paths relative to it.
pub fn oci_folder(images: &[SampleImage]) -> BTreeMap<PathBuf, Bytes> {
    oci_layout(images).into_iter().map(|(name, content)| (name.into(), content)).collect()
}

/// An OCI layout in a tar with one image for several platforms, named as the first of them.
pub fn multi_platform_archive(platforms: &[SampleImage]) -> Bytes {
    packed(multi_platform(platforms))
}

/// The same as a folder: paths relative to it.
pub fn multi_platform_folder(platforms: &[SampleImage]) -> BTreeMap<PathBuf, Bytes> {
    multi_platform(platforms).into_iter().map(|(name, content)| (name.into(), content)).collect()
}

fn oci_layout(images: &[SampleImage]) -> BTreeMap<String, Bytes> {
    layout(images.iter().flat_map(|image| image.blobs(true)), named(images, true))
}

fn multi_platform(platforms: &[SampleImage]) -> BTreeMap<String, Bytes> {
    let index = index_of(platforms, true);
    let blobs = platforms.iter().flat_map(|image| image.blobs(true)).chain([index.bytes().clone()]);
    layout(blobs, named_root(platforms.first(), &index))
}

/// The index over several platforms.
pub fn index_of(platforms: &[SampleImage], gzip: bool) -> Manifest {
    let manifests = platforms
        .iter()
        .map(|image| Descriptor { platform: Some(image.platform.clone()), ..image.manifest(gzip).descriptor() });
    index(manifests.collect()).to_manifest()
}

fn index(manifests: Vec<Descriptor>) -> Index {
    Index {
        media_type: Some(MediaType::OCI_INDEX),
        artifact_type: None,
        manifests,
        subject: None,
        annotations: BTreeMap::new(),
    }
}

/// The entries of `index.json`: one per name, or one without a name.
fn named(images: &[SampleImage], gzip: bool) -> Vec<Descriptor> {
    images.iter().flat_map(|image| named_root(Some(image), &image.manifest(gzip))).collect()
}

fn named_root(image: Option<&SampleImage>, root: &Manifest) -> Vec<Descriptor> {
    let tags = image.map(|image| image.tags.as_slice()).unwrap_or_default();
    let descriptor = |annotations| Descriptor { annotations, ..root.descriptor() };
    if tags.is_empty() {
        return vec![descriptor(BTreeMap::new())];
    }
    let annotate = |tag: &String| {
        let full = parsed(tag).map_or_else(|| tag.clone(), |tag| tag.to_string());
        let short = parsed(tag).and_then(|tag| tag.tag().map(ToString::to_string)).unwrap_or_else(|| full.clone());
        descriptor(BTreeMap::from([
            ("io.containerd.image.name".to_owned(), full),
            ("org.opencontainers.image.ref.name".to_owned(), short),
        ]))
    };
    tags.iter().map(annotate).collect()
}

fn parsed(tag: &str) -> Option<Reference> {
    tag.parse().ok()
}

fn layout(blobs: impl Iterator<Item = Bytes>, manifests: Vec<Descriptor>) -> BTreeMap<String, Bytes> {
    let mut files: BTreeMap<String, Bytes> = blobs.map(|blob| (blob_name(&blob), blob)).collect();
    files.insert("oci-layout".into(), Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#));
    files.insert("index.json".into(), index(manifests).to_manifest().bytes().clone());
    files
}

fn docker_list(images: &[SampleImage], gzip: bool) -> Bytes {
    let items = images.iter().map(|image| {
        let layers: Vec<String> = image.stored(gzip).iter().map(|layer| blob_name(layer)).collect();
        json!({"Config": blob_name(&image.config()), "RepoTags": image.familiar_tags(), "Layers": layers})
    });
    json_bytes(&items.collect())
}

fn blob_name(content: &[u8]) -> String {
    format!("blobs/sha256/{}", Digest::of(content).encoded())
}

/// Sorted by name, as Docker and containerd write: blobs first, documents last.
fn packed(files: BTreeMap<String, Bytes>) -> Bytes {
    let maker = TarMaker::new().folder("blobs/").folder("blobs/sha256/");
    files.into_iter().fold(maker, |maker, (name, content)| maker.file(&name, &content)).finish()
}

fn describe(media_type: MediaType, content: &[u8]) -> Descriptor {
    Descriptor::new(media_type, Digest::of(content), content.len() as u64)
}

fn json_bytes(value: &Value) -> Bytes {
    value.to_string().into()
}

/// Files in memory, by path. A path that only leads to files is a folder.
///
/// ```
/// use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
///
/// let folder = make::oci_folder(&[SampleImage::new(&["app:v1"], &[b"a layer"])]);
/// let disk = MemoryDisk::folder("layout", folder);
/// assert!(disk.0.contains_key(std::path::Path::new("layout/index.json")));
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(pub BTreeMap<PathBuf, Bytes>);

impl MemoryDisk {
    /// With one file.
    pub fn with(path: impl Into<PathBuf>, content: impl Into<Bytes>) -> Self {
        Self(BTreeMap::from([(path.into(), content.into())]))
    }

    /// With files below a folder.
    pub fn folder(path: impl AsRef<Path>, files: BTreeMap<PathBuf, Bytes>) -> Self {
        Self(files.into_iter().map(|(name, content)| (path.as_ref().join(name), content)).collect())
    }
}

impl Disk for MemoryDisk {
    type File = Cursor<Bytes>;

    fn open(&self, path: &Path) -> io::Result<Opened<Cursor<Bytes>>> {
        match self.0.get(path) {
            Some(content) => Ok(Opened::File { file: Cursor::new(content.clone()), size: content.len() as u64 }),
            None if self.0.keys().any(|file| file.starts_with(path)) => Ok(Opened::Folder),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
