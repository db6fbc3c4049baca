//! Registries, repositories and tags.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::spec::reference::ReferenceError;
use crate::spec::{Digest, DigestError};

/// The longest path of a repository, in bytes.
const LONGEST_PATH: usize = 255;

/// Docker Hub, as people write it.
const HUB: &str = "docker.io";

/// A registry's host and port, as written: `docker.io`, `localhost:5000`, `[::1]:5000`.
///
/// ```
/// use registry_proto::spec::Registry;
///
/// let registry: Registry = "localhost:5000".parse()?;
/// assert!(registry.is_loopback(), "so it is spoken to by http");
/// assert_eq!(Registry::docker_hub().wire_host(), "registry-1.docker.io");
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registry(String);

impl Registry {
    /// Docker Hub.
    pub fn docker_hub() -> Self {
        Self(HUB.to_owned())
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without the port; IPv6 addresses keep their brackets.
    pub fn host(&self) -> &str {
        let end = if self.0.starts_with('[') { self.0.find(']').map_or(self.0.len(), |at| at + 1) } else { 0 };
        self.0[end..].find(':').map_or(&self.0, |colon| &self.0[..end + colon])
    }

    /// Whom to connect to: Docker Hub's API is not where its name says.
    pub fn wire_host(&self) -> &str {
        if self.0 == HUB { "registry-1.docker.io" } else { &self.0 }
    }

    /// Under which key its credentials are kept: Docker Hub's have an address of old, with others it is host and port.
    pub fn credential_key(&self) -> String {
        match self.0.as_str() {
            HUB | "index.docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/".to_owned(),
            other => other.to_ascii_lowercase(),
        }
    }

    /// Whether it is on this machine, by its name: `localhost`, 127.0.0.0/8 or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || bare.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            || bare.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Registry {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']').ok_or(ReferenceError::Host)?;
            if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return Err(ReferenceError::Host);
            }
            match rest.strip_prefix(':') {
                None if rest.is_empty() => (None, None),
                None => return Err(ReferenceError::Host),
                Some(port) => (None, Some(port)),
            }
        } else {
            text.split_once(':').map_or((Some(text), None), |(host, port)| (Some(host), Some(port)))
        };
        if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) {
            return Err(ReferenceError::Host);
        }
        let label = |label: &str| {
            let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
            ends(label.bytes().next())
                && ends(label.bytes().last())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if host.is_some_and(|host| !host.split('.').all(label)) {
            return Err(ReferenceError::Host);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A repository's name within its registry, such as `library/ubuntu`: safe in a URL as it is.
///
/// ```
/// use registry_proto::spec::{ReferenceError, RepositoryName};
///
/// let name: RepositoryName = "library/ubuntu".parse()?;
/// assert_eq!(name.as_str(), "library/ubuntu");
/// assert_eq!("Library/Ubuntu".parse::<RepositoryName>(), Err(ReferenceError::Uppercase));
/// assert!("../../etc".parse::<RepositoryName>().is_err());
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > LONGEST_PATH {
            return Err(ReferenceError::TooLong);
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase);
        }
        if text.split('/').all(is_component) { Ok(Self(text.to_owned())) } else { Err(ReferenceError::Path) }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut seen_any = false;
    for byte in text.bytes() {
        if alphanumeric(byte) {
            let fine = separator.is_empty()
                || seen_any && (matches!(separator.as_str(), "." | "_" | "__") || separator.bytes().all(|b| b == b'-'));
            if !fine {
                return false;
            }
            separator.clear();
            seen_any = true;
        } else if matches!(byte, b'.' | b'_' | b'-') {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    seen_any && separator.is_empty()
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A repository of a registry.
///
/// ```
/// use registry_proto::spec::{Registry, Repository};
///
/// let repository = Repository::new(Registry::docker_hub(), "library/ubuntu".parse()?);
/// assert_eq!(repository.to_string(), "docker.io/library/ubuntu");
/// assert_eq!(repository.familiar_path(), "ubuntu");
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: Registry,
    name: RepositoryName,
}

impl Repository {
    /// A repository, by registry and name.
    pub const fn new(registry: Registry, name: RepositoryName) -> Self {
        Self { registry, name }
    }

    /// Where it is.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What it is called there.
    pub const fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Its name as people write it, without a registry: Docker Hub's `library/` goes without saying.
    pub fn familiar_path(&self) -> &str {
        let path = self.name.as_str();
        match path.strip_prefix("library/") {
            Some(rest) if self.registry.as_str() == HUB && !rest.contains('/') => rest,
            _ => path,
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

/// A tag: a name for a manifest, which may come to mean another one.
///
/// ```
/// use registry_proto::spec::Tag;
///
/// let tag: Tag = "v1.0".parse()?;
/// assert_eq!(tag.as_str(), "v1.0");
/// assert!("v1/0".parse::<Tag>().is_err());
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The tag that is meant where none is named.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let fine = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if fine { Ok(Self(text.to_owned())) } else { Err(ReferenceError::Tag) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a manifest is asked for by: the specification's `<reference>`.
///
/// ```
/// use registry_proto::spec::{Digest, TagOrDigest};
///
/// assert!(matches!("v1".parse()?, TagOrDigest::Tag(_)));
/// assert!(matches!(Digest::of(b"").to_string().parse()?, TagOrDigest::Digest(_)));
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TagOrDigest {
    /// By a tag.
    Tag(Tag),
    /// By its digest.
    Digest(Digest),
}

impl FromStr for TagOrDigest {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        // A tag can't hold a colon, a digest has to.
        if text.contains(':') {
            text.parse().map(Self::Digest).map_err(|why: DigestError| why.into())
        } else {
            text.parse().map(Self::Tag)
        }
    }
}

impl fmt::Display for TagOrDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_by_name() {
        let registry = |text: &str| text.parse::<Registry>().unwrap();
        assert_eq!(registry("docker.io").wire_host(), "registry-1.docker.io");
        assert_eq!(registry("docker.io").credential_key(), "https://index.docker.io/v1/", "C25");
        assert_eq!(registry("REG.io:5000").credential_key(), "reg.io:5000");
        assert_eq!(registry("[::1]:5000").host(), "[::1]");
        assert_eq!(registry("a.b:1").host(), "a.b");
        for loopback in ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]", "[::1]:80"] {
            assert!(registry(loopback).is_loopback(), "{loopback}");
        }
        for elsewhere in ["localhost.example", "10.0.0.1", "[::2]", "docker.io"] {
            assert!(!registry(elsewhere).is_loopback(), "{elsewhere}");
        }
    }

    #[test]
    fn a_tag_has_no_colon_and_a_digest_has_to() {
        assert!(matches!("v1".parse(), Ok(TagOrDigest::Tag(_))));
        let digest = Digest::of(b"").to_string();
        assert!(matches!(digest.parse(), Ok(TagOrDigest::Digest(_))));
        assert!("a:".parse::<TagOrDigest>().is_err());
    }
}
