//! Content digests (image-spec, descriptor.md#digests).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// The longest digest that is looked at: more than any registered algorithm needs.
const LONGEST: usize = 512;

/// A digest algorithm that content can be verified with.
///
/// ```
/// use registry_proto::spec::{Algorithm, Digest};
///
/// assert_eq!(Digest::compute(Algorithm::Sha512, b"").algorithm(), Some(Algorithm::Sha512));
/// assert_eq!(Algorithm::Sha256.name(), "sha256");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256: what nearly everything uses.
    Sha256,
    /// SHA-384: not registered with OCI, but taken by Docker's libraries.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Its name in a digest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    const fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }

    const fn by_name(name: &str) -> Option<Self> {
        match name.as_bytes() {
            b"sha256" => Some(Self::Sha256),
            b"sha384" => Some(Self::Sha384),
            b"sha512" => Some(Self::Sha512),
            _ => None,
        }
    }
}

/// A content digest, such as `sha256:e3b0…`: an algorithm and what it yields.
///
/// Digests of algorithms that are unknown here are carried, but nothing is ever verified against them
/// ([`Digest::algorithm`] is `None`). The grammar admits neither `/` nor `..`, so that a digest is safe in a path.
///
/// ```
/// use registry_proto::spec::{Algorithm, Digest};
///
/// let digest = Digest::of(b"");
/// assert_eq!(digest.algorithm(), Some(Algorithm::Sha256));
/// assert_eq!(digest.short(), "e3b0c44298fc");
/// assert!("sha256:E3B0".parse::<Digest>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Arc<str>);

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// It is not of the form `algorithm:encoded`.
    #[error("a digest is an algorithm, a colon and the encoded hash")]
    Format,
    /// It is longer than any digest.
    #[error("a digest has at most {LONGEST} characters")]
    TooLong,
    /// The encoded part is not what its algorithm yields.
    #[error("a {} digest has {} lower-case hexadecimal digits", .0.name(), .0.hex_length())]
    Encoded(Algorithm),
}

impl Digest {
    /// The SHA-256 digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::compute(Algorithm::Sha256, bytes)
    }

    /// The digest of some bytes.
    pub fn compute(algorithm: Algorithm, bytes: &[u8]) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::from_hash(algorithm, &sha2::Sha256::digest(bytes)),
            Algorithm::Sha384 => Self::from_hash(algorithm, &sha2::Sha384::digest(bytes)),
            Algorithm::Sha512 => Self::from_hash(algorithm, &sha2::Sha512::digest(bytes)),
        }
    }

    pub(crate) fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        let mut text = String::with_capacity(algorithm.name().len() + 1 + hash.len() * 2);
        text.push_str(algorithm.name());
        text.push(':');
        for byte in hash {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        Self(text.into())
    }

    /// The whole digest.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its algorithm; `None` if it is one that can't be verified here.
    pub fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::by_name(self.algorithm_name())
    }

    /// The name of its algorithm, known or not.
    pub fn algorithm_name(&self) -> &str {
        self.0.split_once(':').map_or("", |(name, _)| name)
    }

    /// What stands behind the colon.
    pub fn encoded(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, encoded)| encoded)
    }

    /// The first twelve digits, as people name images.
    pub fn short(&self) -> &str {
        let encoded = self.encoded();
        encoded.get(..12).unwrap_or(encoded)
    }

    /// Whether content can be verified against it here.
    pub fn is_verifiable(&self) -> bool {
        self.algorithm().is_some()
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if text.len() > LONGEST {
            return Err(DigestError::TooLong);
        }
        let (name, encoded) = text.split_once(':').ok_or(DigestError::Format)?;
        let component =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !name.split(['+', '.', '_', '-']).all(component) {
            return Err(DigestError::Format);
        }
        if encoded.is_empty() || !encoded.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-'))
        {
            return Err(DigestError::Format);
        }
        if let Some(algorithm) = Algorithm::by_name(name) {
            let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            if encoded.len() != algorithm.hex_length() || !encoded.bytes().all(hex) {
                return Err(DigestError::Encoded(algorithm));
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_empty_content() {
        assert_eq!(Digest::of(b"").as_str(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(
            Digest::compute(Algorithm::Sha512, b"").as_str(),
            "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
        );
        assert_eq!(Digest::of(b"{}").short(), "44136fa355b3");
    }

    #[test]
    fn vectors() {
        let hex = |n: usize| "a".repeat(n);
        for good in [
            format!("sha256:{}", hex(64)),
            format!("sha384:{}", hex(96)),
            format!("sha512:{}", hex(128)),
            "sha256+b64:abcDEF_-=".to_owned(),
            "multihash+base58:QmX".to_owned(),
        ] {
            assert_eq!(good.parse::<Digest>().unwrap().as_str(), good);
        }
        for bad in [
            format!("sha256:{}", hex(63)),
            format!("sha256:{}", hex(65)),
            format!("SHA256:{}", hex(64)),
            format!("sha256:{}", "A".repeat(64)),
            format!("sha256:{}\n", hex(64)),
            "x:".to_owned() + &hex(1 << 20),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{}", &bad[..20]);
        }
        for bad in [
            ":abc",
            "sha256:",
            "sha256",
            "sha256::abc",
            "sha256+:abc",
            "+b64:abc",
            "x:ab/cd",
            "x:../x",
            "a..b:c",
            "x:abc\n",
            "",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_is_safe_in_a_path_and_parses_again(text in "\\PC{0,80}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert!(!digest.as_str().contains(['/', '\\', '%', ' ', '?', '#']) && !digest.as_str().contains(".."));
                prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            }
        }
    }
}
