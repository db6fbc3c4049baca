//! Descriptors: what points from one content to another (image-spec, descriptor.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spec::{Digest, MediaType, Platform};

/// The annotation by which an attestation's descriptor names the manifest that it is about.
const ATTESTED: &str = "vnd.docker.reference.digest";

/// A pointer to content: its type, its digest and its size.
///
/// ```
/// use registry_proto::spec::{Descriptor, Digest, MediaType};
///
/// let layer = b"the bytes of a layer";
/// let descriptor = Descriptor::new(MediaType::OCI_LAYER, Digest::of(layer), layer.len() as u64);
/// assert_eq!(descriptor.size, 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content it is.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes. A claim, like the digest: nothing is allocated by it.
    pub size: u64,
    /// Where else the content may be found. Not followed: a registry could point these anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    /// Whatever somebody wanted to say about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: which platform the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What kind of artifact the content is the manifest of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// The content itself, in base64. Carried, not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Descriptor {
    /// A descriptor without anything optional.
    pub const fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
            data: None,
        }
    }

    /// A pointer to what has taken the place of its content, if that is other content.
    pub(crate) fn of_other(&self, digest: &Digest, size: u64) -> Self {
        // What it carries is the content itself.
        let data = self.data.clone().filter(|_| *digest == self.digest);
        Self { digest: digest.clone(), size, data, ..self.clone() }
    }

    /// Has it lead to an attestation of what has taken the place of what that is about.
    pub(crate) fn attest_what_became<'a>(&mut self, became: impl Fn(&Digest) -> Option<&'a Digest>) {
        if let Some(new) = self.attests().as_ref().and_then(became) {
            self.annotations.insert(ATTESTED.to_owned(), new.to_string());
        }
    }

    /// Whether it leads to an attestation: what a builder says about one of the images beside it in the index (provenance,
    /// a list of materials). No platform's image, and never run.
    pub fn is_attestation(&self) -> bool {
        let told = self.annotations.get("vnd.docker.reference.type");
        told.is_some_and(|told| told == "attestation-manifest")
            || self.platform.as_ref().is_some_and(|platform| platform.is_unknown())
    }

    /// What the attestation that it leads to is about, if it says so.
    pub fn attests(&self) -> Option<Digest> {
        self.annotations.get(ATTESTED)?.parse().ok()
    }
}

/// Go writes empty lists and maps as `null`.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json() {
        let text =
            format!(r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}}"#, Digest::of(b"{}"));
        let descriptor: Descriptor = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&descriptor).unwrap(), text);
        for bad in [
            text.replace(r#""size":2"#, r#""size":-2"#),
            text.replace(r#","size":2"#, ""),
            text.replace("sha256:", "md5sum"),
        ] {
            assert!(serde_json::from_str::<Descriptor>(&bad).is_err(), "{bad}");
        }
        let nulls = text.replace(r#""size":2"#, r#""size":2,"urls":null,"annotations":null"#);
        assert_eq!(serde_json::from_str::<Descriptor>(&nulls).unwrap(), descriptor);
    }
    #[test]
    fn attestations_are_recognised() {
        let mut descriptor = Descriptor::new(MediaType::OCI_MANIFEST, Digest::of(b""), 0);
        assert!(!descriptor.is_attestation() && descriptor.attests().is_none());
        descriptor.platform = Some("unknown/unknown".parse().unwrap());
        assert!(descriptor.is_attestation());
        descriptor.platform = None;
        descriptor.annotations.insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
        descriptor.annotations.insert("vnd.docker.reference.digest".into(), Digest::of(b"x").to_string());
        assert!(descriptor.is_attestation());
        assert_eq!(descriptor.attests(), Some(Digest::of(b"x")));
    }
}
