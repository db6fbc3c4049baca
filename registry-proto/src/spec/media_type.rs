//! Media types of manifests, configurations and layers.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a manifest request accepts: one line, no wildcard and no weights, which distribution doesn't understand.
pub const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A media type without parameters, in lower case.
///
/// ```
/// use registry_proto::spec::MediaType;
///
/// let written = MediaType::new("Application/vnd.oci.image.index.v1+JSON; charset=utf-8");
/// assert_eq!(written, MediaType::OCI_INDEX);
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Cow<'static, str>);

/// What a media type is the type of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image manifest.
    Manifest,
    /// An image index or manifest list.
    Index,
    /// A manifest of Docker's schema 1, signed or not.
    Schema1,
    /// An image configuration.
    Config,
    /// A layer.
    Layer,
    /// A layer that registries may not hold, fetched from elsewhere.
    ForeignLayer,
    /// Anything else. Never an error: artifacts bring their own types.
    Other,
}

macro_rules! known {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $kind:ident;)*) => {
        impl MediaType {
            $($(#[$doc])* pub const $name: Self = Self(Cow::Borrowed($text));)*

            /// What it is the type of.
            pub fn kind(&self) -> Kind {
                match &*self.0 {
                    $($text => Kind::$kind,)*
                    _ => Kind::Other,
                }
            }
        }
    };
}

known! {
    /// OCI image manifest.
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json", Manifest;
    /// OCI image index.
    OCI_INDEX = "application/vnd.oci.image.index.v1+json", Index;
    /// OCI image configuration.
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json", Config;
    /// OCI layer, uncompressed.
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar", Layer;
    /// OCI layer, gzip.
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip", Layer;
    /// OCI layer, zstd.
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd", Layer;
    /// OCI layer that is fetched from elsewhere (deprecated).
    OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar", ForeignLayer;
    /// OCI layer that is fetched from elsewhere, gzip (deprecated).
    OCI_FOREIGN_LAYER_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", ForeignLayer;
    /// OCI layer that is fetched from elsewhere, zstd (deprecated).
    OCI_FOREIGN_LAYER_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", ForeignLayer;
    /// The empty descriptor's `{}`.
    OCI_EMPTY = "application/vnd.oci.empty.v1+json", Other;
    /// Docker image manifest, schema 2.
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json", Manifest;
    /// Docker manifest list.
    DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json", Index;
    /// Docker image configuration.
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json", Config;
    /// Docker layer, uncompressed.
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar", Layer;
    /// Docker layer, gzip.
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip", Layer;
    /// Docker layer, zstd (BuildKit).
    DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd", Layer;
    /// Docker layer that is fetched from elsewhere.
    DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar", ForeignLayer;
    /// Docker layer that is fetched from elsewhere, gzip.
    DOCKER_FOREIGN_LAYER_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ForeignLayer;
    /// Docker schema 1 manifest, unsigned.
    DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json", Schema1;
    /// Docker schema 1 manifest, signed.
    DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws", Schema1;
}

impl MediaType {
    /// The media type in a `Content-Type` or a `mediaType` field: parameters and case don't matter.
    pub fn new(text: &str) -> Self {
        let bare = text.split(';').next().unwrap_or_default().trim();
        // Header values and file contents come from strangers; a type is printable ASCII without spaces or it is nothing.
        let clean = bare.len() <= 255 && bare.bytes().all(|b| b.is_ascii_graphic());
        Self(Cow::Owned(if clean { bare.to_ascii_lowercase() } else { String::new() }))
    }

    /// The type as written in a manifest.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the type of something that is put under `/manifests/`.
    pub fn is_manifest_or_index(&self) -> bool {
        matches!(self.kind(), Kind::Manifest | Kind::Index)
    }

    /// Whether it is the type of a list of manifests.
    pub fn is_index(&self) -> bool {
        self.kind() == Kind::Index
    }

    /// Whether it is the type of an image's configuration.
    pub fn is_image_config(&self) -> bool {
        self.kind() == Kind::Config
    }

    /// Whether it is the type of a layer that registries may not hold.
    pub fn is_foreign_layer(&self) -> bool {
        self.kind() == Kind::ForeignLayer
    }

    /// Whether it is one of Docker's own.
    pub fn is_docker(&self) -> bool {
        self.0.starts_with("application/vnd.docker.")
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MediaType({})", self.0)
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&Cow::<'de, str>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c34_parameters_and_case_do_not_matter() {
        assert_eq!(MediaType::new("APPLICATION/vnd.oci.image.manifest.v1+json;charset=utf-8"), MediaType::OCI_MANIFEST);
        assert_eq!(MediaType::new("text/html").kind(), Kind::Other);
        assert_eq!(MediaType::new("a\r\nb").as_str(), "");
    }

    #[test]
    fn every_accepted_type_is_a_manifest() {
        for accepted in ACCEPT_MANIFESTS.split(", ") {
            assert!(MediaType::new(accepted).is_manifest_or_index());
        }
    }
}
