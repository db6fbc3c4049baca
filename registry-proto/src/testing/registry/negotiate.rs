//! What a client accepts, and which manifest it gets for that: distribution's rules.

use bytes::Bytes;
use http::header::ACCEPT;
use serde_json::json;

use super::call::Call;
use super::profile::Profile;
use super::reply::{Code, Refusal};
use super::store::Repository;
use crate::spec::{Digest, Kind, Manifest, MediaType, RepositoryName, Tag};

/// The media types of all `Accept` headers. Neither wildcards nor `q` count: types are compared as text.
pub(super) struct Accepted(Vec<MediaType>);

impl Accepted {
    pub(super) fn of(call: &Call<'_>) -> Self {
        let values = call.headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        Self(values.flat_map(|value| value.split(',')).map(MediaType::new).collect())
    }

    fn has(&self, media_type: &MediaType) -> bool {
        self.0.contains(media_type)
    }

    /// The manifest to hand out in place of `stored`: itself, or the one for linux/amd64 of a list that isn't accepted.
    pub(super) fn choose<'a>(
        &self,
        profile: &Profile,
        repository: &'a Repository,
        digest: &'a Digest,
        stored: &'a Manifest,
        by_tag: bool,
    ) -> Result<(&'a Digest, &'a Manifest), Refusal> {
        let media_type = stored.media_type();
        if self.has(media_type) {
            return Ok((digest, stored));
        }
        let unknown = || Refusal::from(Code::MANIFEST_UNKNOWN);
        if profile.strict {
            return Err(unknown().message("the manifest's type is not among those accepted"));
        }
        if *media_type == MediaType::OCI_MANIFEST {
            return Err(unknown().message("OCI manifest found, but accept header does not support OCI manifests"));
        }
        if *media_type == MediaType::OCI_INDEX {
            return Err(unknown().message("OCI index found, but accept header does not support OCI indexes"));
        }
        let Some(list) = stored.index().filter(|_| by_tag) else { return Ok((digest, stored)) };
        let default = list.manifests.iter().find(|child| {
            child.platform.as_ref().is_some_and(|platform| platform.os == "linux" && platform.architecture == "amd64")
        });
        let default =
            default.and_then(|child| repository.manifests.get_key_value(&child.digest)).ok_or_else(unknown)?;
        let schema2 = *default.1.media_type() == MediaType::DOCKER_MANIFEST;
        if schema2 && !self.has(&MediaType::DOCKER_MANIFEST) && !profile.converts_to_schema1 {
            return Err(Refusal::from(Code::MANIFEST_INVALID).message("Schema 2 manifest not supported by client"));
        }
        Ok(default)
    }

    /// Whether a manifest is to become one of schema 1 first.
    pub(super) fn is_converted(&self, profile: &Profile, manifest: &Manifest) -> bool {
        let schema2 = *manifest.media_type() == MediaType::DOCKER_MANIFEST;
        profile.converts_to_schema1 && schema2 && !self.has(&MediaType::DOCKER_MANIFEST)
    }
}

/// What distribution 2 makes for clients that know schema 1 only: enough of it to be told apart, without a signature.
pub(super) fn schema1(name: &RepositoryName, tag: &Tag, manifest: &Manifest) -> Bytes {
    debug_assert_eq!(manifest.media_type().kind(), Kind::Manifest);
    let layers = manifest.image().map(|image| image.layers.as_slice()).unwrap_or_default();
    let sums: Vec<_> = layers.iter().rev().map(|layer| json!({ "blobSum": layer.digest.as_str() })).collect();
    let history: Vec<_> = layers.iter().map(|_| json!({ "v1Compatibility": "{}" })).collect();
    let document = json!({
        "schemaVersion": 1, "name": name.as_str(), "tag": tag.as_str(), "architecture": "amd64",
        "fsLayers": sums, "history": history,
    });
    document.to_string().into()
}
