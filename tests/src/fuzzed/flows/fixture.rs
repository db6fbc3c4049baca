//! What is there before anything happens: made once, since it is the same for every script.

use std::collections::BTreeMap;

use bytes::Bytes;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::spec::{Algorithm, Descriptor, Digest, ImageManifest, Index, Manifest, MediaType};
use registry_proto::testing::registry::{Profile, Registry};
use serde_json::json;

use super::disk::ARCHIVES;

/// Who may come in: host, user, password. Hosts other than these know nobody.
pub(super) const PASSWORDS: [(&str, &str, &str); 3] = [
    ("r.example", "user-of-r", "password-of-r"),
    ("s.example", "user-of-s", "password-of-s"),
    ("guest.example", "user-of-guest", "password-of-guest"),
];

/// What `Authorization` says of a user.
pub(super) fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let pair = format!("{user}:{password}");
    let mut text = "Basic ".to_owned();
    for group in pair.as_bytes().chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or_default()));
        for at in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
            text.push(if at <= group.len() { digit } else { '=' });
        }
    }
    text
}

/// Whether a script has in it what nobody can know: a peer that says it is no leak.
pub(super) fn knows_secrets(data: &[u8]) -> bool {
    let has = |secret: &str| data.windows(secret.len()).any(|window| window == secret.as_bytes());
    PASSWORDS.iter().any(|(_, user, password)| has(password) || has(&basic(user, password)[6..]))
}

/// Registries with images, archives, and documents that are not what they seem.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) registry: Registry,
    pub(super) disk: MemoryDisk,
    /// The index that `r.example/app:v1` leads to.
    pub(super) root: Digest,
    /// A layer of its images.
    pub(super) layer: Descriptor,
    /// A manifest that says something about the index.
    pub(super) signature: Manifest,
    /// Bodies that a script can put in the place of any other.
    pub(super) documents: Vec<Bytes>,
}

thread_local! {
    static FIXTURE: Fixture = Fixture::new();
}

pub(super) fn with<T>(run: impl FnOnce(&Fixture) -> T) -> T {
    FIXTURE.with(run)
}

impl Fixture {
    fn new() -> Self {
        let mut registry = Registry::new(Profile::strict());
        let layers = [
            Bytes::from_static(b"a layer that all images share"),
            Bytes::from(vec![7; 700]),
            Bytes::from(vec![0; 600]),
        ];
        let shared = blob(&mut registry, MediaType::OCI_LAYER, layers[0].clone());
        let amd64 = image(&mut registry, "amd64", &layers);
        let arm64 = image(&mut registry, "arm64", &layers[..2]);
        let on = |manifest: &Manifest, platform: &str| Descriptor {
            platform: Some(platform.parse().expect("it is a platform")),
            ..manifest.descriptor()
        };
        let mut attestation = on(&amd64, "unknown/unknown");
        attestation.annotations.insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
        let index = index(vec![on(&amd64, "linux/amd64"), on(&arm64, "linux/arm64"), attestation]);
        for (tag, manifest) in [(None, &amd64), (Some("v2"), &arm64), (Some("v1"), &index)] {
            put(&mut registry, tag, manifest);
        }
        let signature = ImageManifest {
            media_type: None,
            artifact_type: Some(MediaType::new("application/vnd.example.signature")),
            config: blob(&mut registry, MediaType::OCI_EMPTY, Bytes::from_static(b"{}")),
            layers: vec![shared.clone()],
            subject: Some(index.descriptor()),
            annotations: BTreeMap::new(),
        }
        .to_manifest();
        put(&mut registry, None, &signature);
        let documents = documents(&shared, &index, &arm64);
        Self { registry, disk: disk(), root: index.digest().clone(), layer: shared, signature, documents }
    }
}

fn blob(registry: &mut Registry, media_type: MediaType, content: Bytes) -> Descriptor {
    let size = content.len() as u64;
    Descriptor::new(media_type, registry.insert_blob("app", content), size)
}

fn put(registry: &mut Registry, tag: Option<&str>, manifest: &Manifest) {
    let kind = manifest.media_type().as_str();
    registry.insert_manifest("app", tag, manifest.bytes().clone(), kind).expect("it is a manifest");
}

fn index(manifests: Vec<Descriptor>) -> Manifest {
    Index { media_type: None, artifact_type: None, manifests, subject: None, annotations: BTreeMap::new() }
        .to_manifest()
}

fn image(registry: &mut Registry, architecture: &str, layers: &[Bytes]) -> Manifest {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({"architecture": architecture, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    ImageManifest {
        media_type: None,
        artifact_type: None,
        config: blob(registry, MediaType::OCI_CONFIG, config.to_string().into()),
        layers: layers.iter().map(|layer| blob(registry, MediaType::OCI_LAYER, layer.clone())).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    }
    .to_manifest()
}

fn disk() -> MemoryDisk {
    let images = [
        SampleImage::new(&["s.example/app:v1", "s.example/app:v2"], &[b"a layer of an archive", b"another"]),
        SampleImage::new(&["s.example/other:v1"], &[b"a layer of an archive"]).on("linux", "arm64"),
    ];
    let [docker, oci, folder] = ARCHIVES;
    let mut disk = MemoryDisk::folder(folder, make::oci_folder(&images[..1]));
    disk.0.insert(docker.into(), make::docker_save_legacy(&images[..1]));
    disk.0.insert(oci.into(), make::oci_archive(&images));
    disk
}

fn documents(layer: &Descriptor, root: &Manifest, child: &Manifest) -> Vec<Bytes> {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let one = |config: Descriptor, layers: Vec<Descriptor>| {
        let annotations = BTreeMap::new();
        ImageManifest { media_type: None, artifact_type: None, config, layers, subject: None, annotations }
            .to_manifest()
    };
    let sized = |size| Descriptor { size, ..layer.clone() };
    let config = Descriptor::new(MediaType::OCI_CONFIG, digest("nowhere"), 2);
    let sha512 = Descriptor::new(MediaType::OCI_LAYER, Digest::compute(Algorithm::Sha512, b"x"), 1);
    let strange = Descriptor::new(MediaType::OCI_LAYER, "odd+x:abc".parse().expect("it is a digest"), 1);
    let foreign = Descriptor { urls: vec!["https://evil.example/layer".to_owned()], ..sized(5) };
    let manifests = [
        one(config.clone(), vec![sized(u64::MAX), sized(u64::MAX - 1)]),
        one(sized(u64::MAX), vec![sized(1 << 62), Descriptor { size: 1 << 63, ..sha512.clone() }]),
        one(config.clone(), vec![sized(0), sha512, strange]),
        one(layer.clone(), vec![layer.clone(), layer.clone(), sized(1)]),
        one(config, vec![foreign]),
        index(vec![root.descriptor(), child.descriptor(), Descriptor { size: 1, ..child.descriptor() }]),
        index(vec![]),
        index(vec![Descriptor { media_type: MediaType::OCI_INDEX, ..child.descriptor() }]),
        child.clone(),
        root.clone(),
    ];
    let mut all: Vec<Bytes> = manifests.iter().map(|manifest| manifest.bytes().clone()).collect();
    for text in [
        "",
        "{}",
        "null",
        r#"{"token":"made-up","expires_in":1}"#,
        r#"{"access_token":"other","refresh_token":"again","expires_in":"9e99"}"#,
        r#"{"tags":["v1","v2","","../x","v1"],"name":"app"}"#,
        r#"{"repositories":["app","APP","a//b",null]}"#,
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"\u001b[31mno"}]}"#,
        r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#,
        "<html>\u{7}</html>",
    ] {
        all.push(Bytes::from_static(text.as_bytes()));
    }
    all
}
