//! Manifests and indexes: the bytes as they came, and what they say.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::spec::descriptor::null_is_default;
use crate::spec::{Descriptor, Digest, Kind, MediaType, Platform, clean, strict_json};

/// As much as is kept of what is wrong with a document, in characters: it may quote it.
const LONGEST_WHY: usize = 300;

/// A manifest, of whatever kind: its bytes, never changed, since its digest is theirs, and what they say.
///
/// ```
/// # use registry_proto::archive::make::SampleImage;
/// use registry_proto::spec::{Manifest, ManifestContent};
///
/// # let bytes = SampleImage::new(&[], &[b"a layer"]).manifest(false).bytes().clone();
/// let manifest = Manifest::parse(bytes, None, None)?;
/// if let ManifestContent::Image(image) = manifest.content() {
///     println!("{} has {} layers", manifest.digest(), image.layers.len());
/// }
/// # Ok::<(), registry_proto::spec::ManifestError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    bytes: Bytes,
    digest: Digest,
    media_type: MediaType,
    content: ManifestContent,
}

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestContent {
    /// One image (OCI, or Docker schema 2) or artifact.
    Image(ImageManifest),
    /// A list of manifests (OCI index or Docker manifest list).
    Index(Index),
    /// Docker schema 1: can be carried, but not unpacked or checked.
    Schema1,
    /// Something else: carried as it is.
    Unknown,
}

/// The manifest of one image or artifact (image-spec, manifest.md).
///
/// ```
/// # use registry_proto::archive::make::SampleImage;
/// use registry_proto::spec::{Digest, ManifestContent};
///
/// # let manifest = SampleImage::new(&[], &[b"a layer"]).manifest(false);
/// let ManifestContent::Image(mut image) = manifest.content().clone() else { panic!("an image") };
/// image.annotations.insert("org.opencontainers.image.title".into(), "mine".into());
/// let changed = image.to_manifest();
/// assert_ne!(changed.digest(), manifest.digest());
/// assert_eq!(changed.digest(), &Digest::of(changed.bytes()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Its own type, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What kind of artifact it is, where it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Whatever somebody wanted to say about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, one per platform (image-spec, image-index.md).
///
/// ```
/// # use registry_proto::archive::make::{SampleImage, index_of};
/// use registry_proto::spec::ManifestContent;
///
/// # let one = |architecture| SampleImage::new(&[], &[b"a layer"]).on("linux", architecture);
/// # let manifest = index_of(&[one("amd64"), one("arm64")], false);
/// let ManifestContent::Index(index) = manifest.content() else { panic!("an index") };
/// let wanted = "linux/arm64".parse()?;
/// let image = index.for_platform(&wanted).expect("there is one");
/// assert_eq!(image.platform.as_ref().map(|it| it.architecture.as_str()), Some("arm64"));
/// # Ok::<(), registry_proto::spec::PlatformError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Its own type, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// The manifests.
    #[serde(deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Whatever somebody wanted to say about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are not taken for a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is larger than registries have to take.
    #[error("a manifest of {0} bytes is larger than {max} bytes", max = Manifest::MAX_SIZE)]
    TooLarge(usize),
    /// The bytes are not those that were asked for.
    #[error("a manifest was to be {expected}, but its bytes are {found}")]
    Digest {
        /// The digest asked for.
        expected: Digest,
        /// The bytes' own.
        found: Digest,
    },
    /// The bytes are more or fewer than was said.
    #[error("a manifest was to have {expected} bytes, but has {found}")]
    Size {
        /// The size told.
        expected: u64,
        /// The size found.
        found: u64,
    },
    /// It is not the JSON of a manifest.
    #[error("not the JSON of a manifest: {0}")]
    Json(String),
    /// It can be read as two different things, or says to be another than it was handed out as.
    #[error("ambiguous manifest: {0}")]
    Ambiguous(String),
}

impl Manifest {
    /// The largest manifest that is looked at, in bytes: what the specification asks registries to take.
    pub const MAX_SIZE: usize = 4 << 20;

    /// Reads a manifest.
    ///
    /// `content_type` is what it was handed out as; `expected` the descriptor that led to it. Both are checked: the digest
    /// and size first, then that every statement of its type agrees, and that it cannot be read as both a manifest and an
    /// index (CVE-2021-41190; PROTOCOL §4.3). Its digest is that of the bytes.
    ///
    /// # Errors
    /// [`ManifestError`]. Unknown types are no error: they are carried as [`ManifestContent::Unknown`].
    pub fn parse(
        bytes: Bytes,
        content_type: Option<&str>,
        expected: Option<&Descriptor>,
    ) -> Result<Self, ManifestError> {
        if bytes.len() > Self::MAX_SIZE {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let digest = match expected.and_then(|expected| Some((expected, expected.digest.algorithm()?))) {
            None => Digest::of(&bytes),
            Some((expected, algorithm)) => {
                if expected.size != bytes.len() as u64 {
                    return Err(ManifestError::Size { expected: expected.size, found: bytes.len() as u64 });
                }
                let found = Digest::compute(algorithm, &bytes);
                if found != expected.digest {
                    return Err(ManifestError::Digest { expected: expected.digest.clone(), found });
                }
                found
            }
        };
        let told = expected.map(|expected| expected.media_type.clone()).or_else(|| content_type.map(MediaType::new));
        if let Some(told) = told.as_ref().filter(|told| told.kind() == Kind::Schema1) {
            return Ok(Self { bytes, digest, media_type: told.clone(), content: ManifestContent::Schema1 });
        }
        let keys =
            strict_json::check(&bytes).map_err(|why| ManifestError::Json(clean(&why.to_string(), LONGEST_WHY)))?;
        let media_type = type_of(&bytes, told, &keys)?;
        let json = |why: serde_json::Error| ManifestError::Json(clean(&why.to_string(), LONGEST_WHY));
        let content = match media_type.kind() {
            Kind::Manifest => ManifestContent::Image(serde_json::from_slice(&bytes).map_err(json)?),
            Kind::Index => ManifestContent::Index(serde_json::from_slice(&bytes).map_err(json)?),
            Kind::Schema1 => ManifestContent::Schema1,
            _ => ManifestContent::Unknown,
        };
        Ok(Self { bytes, digest, media_type, content })
    }

    /// The bytes, exactly as they came.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The digest of the bytes.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What it is the manifest of.
    pub const fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// A pointer to it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest.clone(), self.size())
    }

    /// What it says.
    pub const fn content(&self) -> &ManifestContent {
        &self.content
    }

    /// What it says, if it is the manifest of one image.
    pub const fn image(&self) -> Option<&ImageManifest> {
        match &self.content {
            ManifestContent::Image(image) => Some(image),
            _ => None,
        }
    }

    /// What it says, if it is an index.
    pub const fn index(&self) -> Option<&Index> {
        match &self.content {
            ManifestContent::Index(index) => Some(index),
            _ => None,
        }
    }

    fn of(content: ManifestContent, media_type: MediaType, body: &impl Serialize) -> Self {
        #[derive(Serialize)]
        struct Document<'a, T> {
            #[serde(rename = "schemaVersion")]
            schema_version: u8,
            #[serde(flatten)]
            body: &'a T,
        }
        let json = serde_json::to_vec(&Document { schema_version: 2, body }).expect("maps with text keys are JSON");
        let digest = Digest::of(&json);
        Self { bytes: json.into(), digest, media_type, content }
    }
}

impl ImageManifest {
    /// Writes it down; always with its type, without which some registries refuse it (ECR).
    pub fn to_manifest(&self) -> Manifest {
        let media_type = self.media_type.clone().unwrap_or(MediaType::OCI_MANIFEST);
        let whole = Self { media_type: Some(media_type.clone()), ..self.clone() };
        Manifest::of(ManifestContent::Image(whole.clone()), media_type, &whole)
    }

    /// Every blob that it names: the configuration, then the layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// The size of all layers and the configuration, in bytes.
    pub fn total_size(&self) -> u64 {
        self.blobs().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }

    /// The number of layers.
    pub const fn layer_count(&self) -> usize {
        self.layers.len()
    }
}

impl Index {
    /// The manifest of the image that suits a machine best: of several that suit it equally, the first.
    pub fn for_platform(&self, machine: &Platform) -> Option<&Descriptor> {
        let images = self.manifests.iter().filter(|one| !one.is_attestation());
        let suiting = images.filter_map(|one| Some((one.platform.as_ref()?.suits(machine)?, one)));
        suiting.min_by_key(|(step, _)| *step).map(|(_, one)| one)
    }

    /// Writes it down; always with its type.
    pub fn to_manifest(&self) -> Manifest {
        let media_type = self.media_type.clone().unwrap_or(MediaType::OCI_INDEX);
        let whole = Self { media_type: Some(media_type.clone()), ..self.clone() };
        Manifest::of(ManifestContent::Index(whole.clone()), media_type, &whole)
    }
}

/// Which type a document has, from everything that says something about it.
fn type_of(bytes: &[u8], told: Option<MediaType>, keys: &BTreeSet<String>) -> Result<MediaType, ManifestError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Says {
        media_type: Option<MediaType>,
        schema_version: Option<serde_json::Value>,
    }
    let has = |key: &str| keys.contains(key);
    let image = has("config") || has("layers");
    let ambiguous = |what: &str| Err(ManifestError::Ambiguous(what.to_owned()));
    if has("manifests") && image {
        return ambiguous("it has both manifests and layers");
    }
    let says: Says =
        serde_json::from_slice(bytes).map_err(|why| ManifestError::Json(clean(&why.to_string(), LONGEST_WHY)))?;
    let schema1 = says.schema_version.as_ref().and_then(serde_json::Value::as_u64) == Some(1);
    if has("fsLayers") && !schema1 {
        return ambiguous("it has the layers of schema 1 under another version");
    }
    let (told, stranger) = match told {
        Some(told) if told.kind() == Kind::Other => (None, Some(told)),
        told => (told, None),
    };
    if let (Some(told), Some(says)) = (&told, &says.media_type)
        && told != says
    {
        return ambiguous(&format!("it was handed out as {told}, but says to be {says}"));
    }
    let found = match told.or(says.media_type) {
        Some(found) => found,
        None if schema1 => MediaType::DOCKER_SCHEMA1,
        None if has("manifests") => MediaType::OCI_INDEX,
        None if has("config") && has("layers") => MediaType::OCI_MANIFEST,
        // Whoever carries it on has to be able to say what it was handed out as.
        None => stranger.unwrap_or_else(|| MediaType::new("")),
    };
    match found.kind() {
        Kind::Index if image => ambiguous("it is handed out as an index, but has layers"),
        Kind::Manifest if has("manifests") => ambiguous("it is handed out as an image, but has manifests"),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageManifest {
        let config = Descriptor::new(MediaType::OCI_CONFIG, Digest::of(b"{}"), 2);
        let layer = Descriptor::new(MediaType::OCI_LAYER, Digest::of(b"layer"), 5);
        ImageManifest {
            media_type: None,
            artifact_type: None,
            config,
            layers: vec![layer],
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    fn parse(text: &str, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
        Manifest::parse(Bytes::copy_from_slice(text.as_bytes()), content_type, None)
    }

    #[test]
    fn what_is_written_is_read() {
        let manifest = image().to_manifest();
        let text = std::str::from_utf8(manifest.bytes()).unwrap();
        assert!(
            text.starts_with(
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":"#
            )
        );
        assert_eq!(Manifest::parse(manifest.bytes().clone(), None, Some(&manifest.descriptor())).unwrap(), manifest);
        assert_eq!((image().total_size(), image().layer_count()), (7, 1));
        let index = Index {
            media_type: Some(MediaType::DOCKER_MANIFEST_LIST),
            artifact_type: None,
            manifests: vec![manifest.descriptor()],
            subject: None,
            annotations: BTreeMap::new(),
        };
        let index = index.to_manifest();
        assert_eq!(
            Manifest::parse(
                index.bytes().clone(),
                Some("application/vnd.docker.distribution.manifest.list.v2+json"),
                None
            )
            .unwrap(),
            index
        );
    }

    #[test]
    fn c33_bytes_are_those_that_were_asked_for() {
        let manifest = image().to_manifest();
        let mut wrong = manifest.descriptor();
        wrong.digest = Digest::of(b"");
        assert!(matches!(
            Manifest::parse(manifest.bytes().clone(), None, Some(&wrong)),
            Err(ManifestError::Digest { .. })
        ));
        wrong = manifest.descriptor();
        wrong.size += 1;
        assert!(matches!(
            Manifest::parse(manifest.bytes().clone(), None, Some(&wrong)),
            Err(ManifestError::Size { .. })
        ));
    }

    #[test]
    fn c35_a17_type_confusion() {
        let text = String::from_utf8(image().to_manifest().bytes().to_vec()).unwrap();
        assert!(matches!(
            parse(&text, Some("application/vnd.oci.image.index.v1+json")),
            Err(ManifestError::Ambiguous(_))
        ));
        let both = text.replacen("{\"schemaVersion\":2", "{\"schemaVersion\":2,\"manifests\":[]", 1);
        assert!(matches!(parse(&both, None), Err(ManifestError::Ambiguous(_))));
        let schema1 = text.replacen("{\"schemaVersion\":2", "{\"schemaVersion\":2,\"fsLayers\":[]", 1);
        assert!(matches!(parse(&schema1, None), Err(ManifestError::Ambiguous(_))));
        assert!(parse(&text, Some("application/octet-stream")).is_ok(), "a type that says nothing");
    }

    #[test]
    fn types_that_are_only_carried() {
        let unknown = parse(r#"{"x":1}"#, Some("application/vnd.example+json")).unwrap();
        assert_eq!(unknown.content(), &ManifestContent::Unknown);
        assert_eq!(unknown.media_type().as_str(), "application/vnd.example+json");
        let schema1 = parse(
            "{\"schemaVersion\": 1, \"fsLayers\": []}",
            Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
        );
        assert_eq!(schema1.unwrap().content(), &ManifestContent::Schema1);
        assert!(parse("<html>", Some("text/html")).is_err());
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let on = |platform: &str| {
            let mut one = Descriptor::new(MediaType::OCI_MANIFEST, Digest::of(platform.as_bytes()), 1);
            one.platform = Some(platform.parse().unwrap());
            one
        };
        let platforms = ["unknown/unknown", "linux/arm/v6", "linux/arm/v7", "linux/amd64", "linux/amd64"];
        let index = Index {
            media_type: None,
            artifact_type: None,
            manifests: platforms.map(on).into(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        let chosen = |machine: &str| index.for_platform(&machine.parse().unwrap());
        assert!(std::ptr::eq(chosen("linux/amd64").unwrap(), &index.manifests[3]), "the first of equals");
        assert_eq!(chosen("linux/arm/v7").unwrap(), &index.manifests[2]);
        assert_eq!(chosen("linux/arm/v6").unwrap(), &index.manifests[1]);
        assert_eq!(chosen("unknown/unknown"), None);
        assert_eq!(chosen("windows/amd64"), None);
    }

    #[test]
    fn a13_sizes_that_are_none() {
        let text = String::from_utf8(image().to_manifest().bytes().to_vec()).unwrap();
        assert!(parse(&text.replace("\"size\":5", "\"size\":-5"), None).is_err());
        assert!(parse(&text.replace("\"size\":5", "\"size\":9007199254740993"), None).is_ok());
    }
}
