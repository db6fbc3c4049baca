//! Values of the protocol, parsed once: a value that exists is well-formed.

mod challenge;
mod content_range;
mod descriptor;
mod digest;
mod error_body;
mod image_config;
mod inside;
pub(crate) mod lead;
mod link;
mod manifest;
mod media_type;
#[cfg(feature = "oci-spec")]
mod oci;
mod origin;
mod platform;
mod reference;
mod referrer;
mod repository;
mod retry_after;
mod scope;
mod status;
mod strict_json;
mod upload_range;
mod warning;

pub use challenge::Challenge;
pub use content_range::ContentRange;
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError};
pub use error_body::{ApiError, ErrorCode, escaped, parse_error_body};
pub(crate) use error_body::{clean, commands};
pub use image_config::{History, ImageConfig, ImageConfigError, RootFs, RuntimeConfig};
pub use lead::{LocationError, same_origin};
pub use link::next_link;
pub use manifest::{ImageManifest, Index, Manifest, ManifestContent, ManifestError};
pub use media_type::{ACCEPT_MANIFESTS, Kind, MediaType};
#[cfg(feature = "oci-spec")]
pub use oci::OciSpecError;
pub use origin::{Origin, redacted, resolve};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub(crate) use referrer::relist;
pub use repository::{Registry, Repository, RepositoryName, Tag, TagOrDigest};
pub use retry_after::retry_after;
pub use scope::{Scope, ScopeSet};
pub(crate) use status::is_transient;
pub(crate) use strict_json::object;
pub use upload_range::{AckedOffset, UploadRange, acknowledged, status_offset};
pub use warning::parse_warnings;
