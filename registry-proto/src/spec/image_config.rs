//! Image configurations (image-spec, config.md).

use std::collections::{BTreeMap, BTreeSet};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::spec::descriptor::null_is_default;
use crate::spec::{Digest, Platform, strict_json};

/// Why bytes are not taken for a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the JSON of an image's configuration: {0}")]
pub struct ImageConfigError(String);

/// What an image's configuration says about it. Read, never written: its bytes are what counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ImageConfig {
    /// The architecture it is for.
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// The operating system it is for.
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// The architecture's variant.
    #[serde(default)]
    pub variant: Option<String>,
    /// When it was made, in the form of RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default)]
    pub author: Option<String>,
    /// How it is run.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RuntimeConfig,
    /// Its layers, unpacked.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// How it was made.
    #[serde(default, deserialize_with = "null_is_default")]
    pub history: Vec<History>,
}

/// How an image is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RuntimeConfig {
    /// As whom.
    #[serde(default)]
    pub user: Option<String>,
    /// Environment, `NAME=value` each.
    #[serde(default, deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// The command that is always run.
    #[serde(default, deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// Its arguments, or the command where there is no entry point.
    #[serde(default, deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Where.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// Whatever somebody wanted to say about it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Ports that it listens on, `port/protocol` each.
    #[serde(default, deserialize_with = "names")]
    pub exposed_ports: BTreeSet<String>,
}

/// An image's layers, unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RootFs {
    /// The digest of each layer's uncompressed tar, the lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of how an image was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct History {
    /// When.
    #[serde(default)]
    pub created: Option<String>,
    /// By which command.
    #[serde(default)]
    pub created_by: Option<String>,
    /// Remarks.
    #[serde(default)]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default)]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Reads a configuration. Fields that are unknown, absent or `null` are no error.
    ///
    /// # Errors
    /// When it is not the JSON of a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageConfigError> {
        strict_json::object(bytes).map_err(|why| ImageConfigError(why.to_string()))
    }

    /// The platform it is for.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
            ..Platform::default()
        }
    }
}

/// A set, as Go writes it: an object whose values say nothing.
fn names<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<String>, D::Error> {
    let named = Option::<BTreeMap<String, IgnoredAny>>::deserialize(from)?;
    Ok(named.unwrap_or_default().into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_strangers_are_no_error() {
        let config = ImageConfig::parse(
            br#"{"os":"linux","architecture":"amd64","history":null,"x":1,"config":{"Env":null,"Cmd":["sh"],"Labels":{"a":"b"}}}"#,
        )
        .unwrap();
        assert_eq!(config.platform().to_string(), "linux/amd64");
        assert_eq!(config.config.cmd, ["sh"]);
        assert!(config.rootfs.diff_ids.is_empty());
        assert!(ImageConfig::parse(b"not json").is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":["nonsense"]}}"#).is_err());
    }
}
