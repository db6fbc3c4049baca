//! Values of the protocol, parsed once: a value that exists is well-formed.

mod challenge;
mod content_range;
mod descriptor;
mod digest;
mod error_body;
mod image_config;
mod link;
mod manifest;
mod media_type;
mod origin;
mod platform;
mod reference;
mod repository;
mod retry_after;
mod scope;
mod strict_json;
mod upload_range;
mod warning;

pub use challenge::Challenge;
pub use content_range::ContentRange;
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError};
pub use error_body::{ApiError, ErrorCode, parse_error_body};
pub use image_config::{History, ImageConfig, RootFs, RuntimeConfig};
pub use link::next_link;
pub use manifest::{ImageManifest, Index, Manifest, ManifestContent, ManifestError};
pub use media_type::{ACCEPT_MANIFESTS, Kind, MediaType};
pub use origin::{LocationError, Origin, redacted, resolve, same_origin};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use repository::{Registry, Repository, RepositoryName, Tag, TagOrDigest};
pub use retry_after::retry_after;
pub use scope::{Scope, ScopeSet};
pub use upload_range::{AckedOffset, UploadRange, acknowledged, status_offset};
pub use warning::parse_warnings;
