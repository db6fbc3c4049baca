//! From and to the types of the crate `oci-spec`, for programs that use both (feature `oci-spec`).
//!
//! What is read here is checked more strictly than there, so the way back can fail: with [`OciSpecError`], which names what was
//! not taken. Documents keep what both sides know of; fields that only one side has are named at each conversion. A manifest's
//! digest is that of its bytes: convert what is to be looked at, and keep the [`Manifest`](crate::spec::Manifest) for what is to
//! be sent.
//!
//! ```
//! use oci_spec::image::{Descriptor, MediaType};
//! use registry_proto::spec;
//!
//! let ours = spec::Descriptor::new(spec::MediaType::OCI_LAYER, spec::Digest::of(b"a layer"), 7);
//! let theirs = Descriptor::try_from(&ours)?;
//! assert_eq!(theirs.media_type(), &MediaType::ImageLayer);
//! assert_eq!(spec::Descriptor::try_from(&theirs)?, ours);
//! # Ok::<(), registry_proto::spec::OciSpecError>(())
//! ```

use std::collections::BTreeMap;

use oci_spec::{distribution, image};

use crate::spec::{Descriptor, Digest, ImageManifest, Index, MediaType, Platform, Reference, clean};

/// As much of a text is shown that was not taken, in characters.
const LONGEST: usize = 200;

/// What one side has is nothing that the other side takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} can't be converted: {why}")]
pub struct OciSpecError {
    what: &'static str,
    why: String,
}

impl OciSpecError {
    fn new(what: &'static str, why: impl ToString) -> Self {
        Self { what, why: clean(&why.to_string(), LONGEST) }
    }
}

impl TryFrom<&Digest> for image::Digest {
    type Error = OciSpecError;

    fn try_from(digest: &Digest) -> Result<Self, OciSpecError> {
        digest.as_str().parse().map_err(|why| OciSpecError::new("a digest", why))
    }
}

impl TryFrom<&image::Digest> for Digest {
    type Error = OciSpecError;

    fn try_from(digest: &image::Digest) -> Result<Self, OciSpecError> {
        digest.as_ref().parse().map_err(|why| OciSpecError::new("a digest", why))
    }
}

impl From<&MediaType> for image::MediaType {
    fn from(media_type: &MediaType) -> Self {
        Self::from(media_type.as_str())
    }
}

impl From<&image::MediaType> for MediaType {
    fn from(media_type: &image::MediaType) -> Self {
        Self::new(media_type.as_ref())
    }
}

impl From<&Platform> for image::Platform {
    fn from(platform: &Platform) -> Self {
        let mut theirs = Self::default();
        theirs.set_architecture(platform.architecture.as_str().into());
        theirs.set_os(platform.os.as_str().into());
        theirs.set_variant(platform.variant.clone());
        theirs.set_os_version(platform.os_version.clone());
        theirs.set_os_features(listed(&platform.os_features));
        theirs
    }
}

impl From<&image::Platform> for Platform {
    /// `features`, which the specification keeps for later, is left out.
    fn from(platform: &image::Platform) -> Self {
        Self {
            architecture: platform.architecture().to_string(),
            os: platform.os().to_string(),
            variant: platform.variant().clone(),
            os_version: platform.os_version().clone(),
            os_features: platform.os_features().clone().unwrap_or_default(),
        }
    }
}

impl TryFrom<&Descriptor> for image::Descriptor {
    type Error = OciSpecError;

    fn try_from(descriptor: &Descriptor) -> Result<Self, OciSpecError> {
        let digest: image::Digest = (&descriptor.digest).try_into()?;
        let mut theirs = Self::new((&descriptor.media_type).into(), descriptor.size, digest);
        theirs.set_urls(listed(&descriptor.urls));
        theirs.set_annotations(kept(&descriptor.annotations));
        theirs.set_platform(descriptor.platform.as_ref().map(Into::into));
        theirs.set_artifact_type(descriptor.artifact_type.as_ref().map(Into::into));
        theirs.set_data(descriptor.data.clone());
        Ok(theirs)
    }
}

impl TryFrom<&image::Descriptor> for Descriptor {
    type Error = OciSpecError;

    fn try_from(descriptor: &image::Descriptor) -> Result<Self, OciSpecError> {
        Ok(Self {
            media_type: descriptor.media_type().into(),
            digest: descriptor.digest().try_into()?,
            size: descriptor.size(),
            urls: descriptor.urls().clone().unwrap_or_default(),
            annotations: ordered(descriptor.annotations().as_ref()),
            platform: descriptor.platform().as_ref().map(Into::into),
            artifact_type: descriptor.artifact_type().as_ref().map(Into::into),
            data: descriptor.data().clone(),
        })
    }
}

impl TryFrom<&ImageManifest> for image::ImageManifest {
    type Error = OciSpecError;

    fn try_from(manifest: &ImageManifest) -> Result<Self, OciSpecError> {
        let theirs = image::ImageManifestBuilder::default()
            .schema_version(2_u32)
            .config(image::Descriptor::try_from(&manifest.config)?)
            .layers(all::<_, image::Descriptor>(&manifest.layers)?);
        let mut theirs = theirs.build().map_err(|why| OciSpecError::new("a manifest", why))?;
        theirs.set_media_type(manifest.media_type.as_ref().map(Into::into));
        theirs.set_artifact_type(manifest.artifact_type.as_ref().map(Into::into));
        theirs.set_subject(manifest.subject.as_ref().map(TryInto::try_into).transpose()?);
        theirs.set_annotations(kept(&manifest.annotations));
        Ok(theirs)
    }
}

impl TryFrom<&image::ImageManifest> for ImageManifest {
    type Error = OciSpecError;

    fn try_from(manifest: &image::ImageManifest) -> Result<Self, OciSpecError> {
        second_version(manifest.schema_version())?;
        Ok(Self {
            media_type: manifest.media_type().as_ref().map(Into::into),
            artifact_type: manifest.artifact_type().as_ref().map(Into::into),
            config: manifest.config().try_into()?,
            layers: all(manifest.layers())?,
            subject: manifest.subject().as_ref().map(TryInto::try_into).transpose()?,
            annotations: ordered(manifest.annotations().as_ref()),
        })
    }
}

impl TryFrom<&Index> for image::ImageIndex {
    type Error = OciSpecError;

    fn try_from(index: &Index) -> Result<Self, OciSpecError> {
        let mut theirs = Self::default();
        theirs.set_schema_version(2);
        theirs.set_media_type(index.media_type.as_ref().map(Into::into));
        theirs.set_artifact_type(index.artifact_type.as_ref().map(Into::into));
        theirs.set_manifests(all(&index.manifests)?);
        theirs.set_subject(index.subject.as_ref().map(TryInto::try_into).transpose()?);
        theirs.set_annotations(kept(&index.annotations));
        Ok(theirs)
    }
}

impl TryFrom<&image::ImageIndex> for Index {
    type Error = OciSpecError;

    fn try_from(index: &image::ImageIndex) -> Result<Self, OciSpecError> {
        second_version(index.schema_version())?;
        Ok(Self {
            media_type: index.media_type().as_ref().map(Into::into),
            artifact_type: index.artifact_type().as_ref().map(Into::into),
            manifests: all(index.manifests())?,
            subject: index.subject().as_ref().map(TryInto::try_into).transpose()?,
            annotations: ordered(index.annotations().as_ref()),
        })
    }
}

impl TryFrom<&Reference> for distribution::Reference {
    type Error = OciSpecError;

    fn try_from(reference: &Reference) -> Result<Self, OciSpecError> {
        reference.to_string().parse().map_err(|why| OciSpecError::new("a reference", why))
    }
}

impl TryFrom<&distribution::Reference> for Reference {
    type Error = OciSpecError;

    /// Through its whole name; a mirror that was set for it is left out.
    fn try_from(reference: &distribution::Reference) -> Result<Self, OciSpecError> {
        reference.whole().parse().map_err(|why| OciSpecError::new("a reference", why))
    }
}

fn second_version(version: u32) -> Result<(), OciSpecError> {
    if version == 2 { Ok(()) } else { Err(OciSpecError::new("a manifest", format_args!("its schema is {version}"))) }
}

fn all<'a, A, B>(some: &'a [A]) -> Result<Vec<B>, OciSpecError>
where
    B: TryFrom<&'a A, Error = OciSpecError>,
{
    some.iter().map(TryInto::try_into).collect()
}

/// What is empty is not written at all.
fn listed(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn kept<M: FromIterator<(String, String)>>(map: &BTreeMap<String, String>) -> Option<M> {
    (!map.is_empty()).then(|| map.clone().into_iter().collect())
}

/// Their maps have no order; what comes of them has one again.
fn ordered<'a>(map: Option<impl IntoIterator<Item = (&'a String, &'a String)>>) -> BTreeMap<String, String> {
    map.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> Descriptor {
        let mut descriptor = Descriptor::new(MediaType::OCI_MANIFEST, Digest::of(b"m"), 1);
        descriptor.urls = vec!["https://example.com/m".into()];
        descriptor.annotations = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into();
        descriptor.platform = Some(Platform {
            os: "windows".into(),
            architecture: "arm64".into(),
            variant: Some("v8".into()),
            os_version: Some("10.0".into()),
            os_features: vec!["win32k".into()],
        });
        descriptor.artifact_type = Some(MediaType::new("application/vnd.example+json"));
        descriptor.data = Some("bQ==".into());
        descriptor
    }

    #[test]
    fn there_and_back() {
        let ours = descriptor();
        let theirs: image::Descriptor = (&ours).try_into().unwrap();
        assert_eq!(Descriptor::try_from(&theirs).unwrap(), ours);

        let manifest = ImageManifest {
            media_type: Some(MediaType::OCI_MANIFEST),
            artifact_type: None,
            config: Descriptor::new(MediaType::OCI_CONFIG, Digest::of(b"{}"), 2),
            layers: vec![Descriptor::new(MediaType::DOCKER_LAYER_GZIP, Digest::of(b"l"), 1)],
            subject: Some(ours.clone()),
            annotations: ours.annotations.clone(),
        };
        let theirs: image::ImageManifest = (&manifest).try_into().unwrap();
        assert_eq!(ImageManifest::try_from(&theirs).unwrap(), manifest);

        let index = Index {
            media_type: None,
            artifact_type: Some(MediaType::new("application/vnd.example+json")),
            manifests: vec![ours],
            subject: None,
            annotations: BTreeMap::new(),
        };
        let theirs: image::ImageIndex = (&index).try_into().unwrap();
        assert_eq!(Index::try_from(&theirs).unwrap(), index);
    }

    #[test]
    fn both_read_the_same_document() {
        let ours = ImageManifest {
            media_type: Some(MediaType::OCI_MANIFEST),
            artifact_type: None,
            config: Descriptor::new(MediaType::OCI_CONFIG, Digest::of(b"{}"), 2),
            layers: vec![descriptor()],
            subject: None,
            annotations: BTreeMap::new(),
        };
        let theirs = image::ImageManifest::from_reader(&ours.to_manifest().bytes()[..]).unwrap();
        assert_eq!(theirs.layers()[0].digest().as_ref(), Digest::of(b"m").as_str());
        assert_eq!(theirs.config().media_type(), &image::MediaType::ImageConfig);
    }

    #[test]
    fn references() {
        for text in ["docker.io/library/ubuntu:24.04", "localhost:5000/a/b:v1"] {
            let ours: Reference = text.parse().unwrap();
            let theirs: distribution::Reference = (&ours).try_into().unwrap();
            assert_eq!(Reference::try_from(&theirs).unwrap(), ours, "{text}");
        }
    }

    #[test]
    fn what_is_not_taken_is_named() {
        let theirs: image::Digest = "md5:d41d8cd98f00b204e9800998ecf8427e0000".parse().unwrap();
        assert!(Digest::try_from(&theirs).is_ok(), "unknown algorithms are carried");
        let mut old = image::ImageIndex::default();
        old.set_schema_version(1);
        let why = Index::try_from(&old).unwrap_err();
        assert_eq!(why.to_string(), "a manifest can't be converted: its schema is 1");
    }
}
