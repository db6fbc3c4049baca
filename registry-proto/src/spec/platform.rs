//! Platforms: which machine an image is for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spec::clean;
use crate::spec::descriptor::null_is_default;

/// As much as is shown of a part of a platform, in characters.
const LONGEST: usize = 60;

/// An operating system on an architecture (image-spec, image-index.md).
///
/// ```
/// use registry_proto::spec::Platform;
///
/// let platform: Platform = "linux/arm/v7".parse()?;
/// assert_eq!(platform.variant.as_deref(), Some("v7"));
/// let older: Platform = "linux/arm/v6".parse()?;
/// assert!(older.suits(&platform).is_some() && platform.suits(&older).is_none());
/// # Ok::<(), registry_proto::spec::PlatformError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The architecture, as Go names it: `amd64`, `arm64`, `arm` …
    pub architecture: String,
    /// The operating system, as Go names it.
    pub os: String,
    /// The architecture's variant, such as `v7` of `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The operating system's version (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What the operating system has to have (Windows).
    #[serde(
        default,
        rename = "os.features",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub os_features: Vec<String>,
}

/// Why a text is no platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a platform is os/architecture or os/architecture/variant, such as linux/arm64")]
pub struct PlatformError;

impl Platform {
    /// Whether it is `unknown/unknown`, under which attestations hide in an index. Never chosen by itself.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }

    /// The platform that this program was built for, as far as images are concerned: on systems that run containers in a
    /// virtual machine with Linux, that is Linux.
    pub fn of_this_machine() -> Self {
        // What the compiler knows; a spelling that is not known here is one that no image has either.
        let os = match () {
            () if cfg!(target_os = "windows") => "windows",
            () if cfg!(target_os = "freebsd") => "freebsd",
            () => "linux",
        };
        let (architecture, variant) = match () {
            () if cfg!(target_arch = "x86_64") => ("amd64", None),
            () if cfg!(target_arch = "aarch64") => ("arm64", None),
            () if cfg!(target_arch = "x86") => ("386", None),
            () if cfg!(target_arch = "arm") => ("arm", Some("v7")),
            () if cfg!(target_arch = "riscv64") => ("riscv64", None),
            () if cfg!(target_arch = "s390x") => ("s390x", None),
            () if cfg!(all(target_arch = "powerpc64", target_endian = "little")) => ("ppc64le", None),
            () if cfg!(target_arch = "loongarch64") => ("loong64", None),
            () => ("unknown", None),
        };
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            ..Self::default()
        }
    }

    /// With the usual spellings unified, as containerd does: `x86_64` is `amd64`, `arm64` is `arm64/v8`, `arm` is `arm/v7`.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let mut it = self.clone();
        it.os = it.os.to_ascii_lowercase();
        if it.os == "macos" {
            "darwin".clone_into(&mut it.os);
        }
        let architecture = it.architecture.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), it.variant.as_deref().map(str::to_ascii_lowercase))
        {
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant.filter(|variant| variant != "v1")),
            ("i386" | "i686" | "386", _) => ("386", None),
            ("aarch64" | "arm64", variant) => ("arm64", variant.filter(|variant| variant != "v8" && variant != "8")),
            ("armhf", _) => ("arm", Some("v7".to_owned())),
            ("armel", _) => ("arm", Some("v6".to_owned())),
            ("arm", None) => ("arm", Some("v7".to_owned())),
            ("arm", Some(variant)) if !variant.starts_with('v') => ("arm", Some(format!("v{variant}"))),
            (other, variant) => (other, variant),
        };
        (it.architecture, it.variant) = (architecture.to_owned(), variant);
        it
    }

    /// How well an image for this platform runs on `machine`: `None` not at all, else smaller is better. An `arm` machine
    /// runs images of lower variants, never of higher ones.
    pub fn suits(&self, machine: &Self) -> Option<u8> {
        let (image, machine) = (self.normalized(), machine.normalized());
        if image.is_unknown() || image.os != machine.os || image.architecture != machine.architecture {
            return None;
        }
        if image.variant == machine.variant {
            return Some(0);
        }
        let step = |variant: &Option<String>| variant.as_deref()?.strip_prefix('v')?.parse::<u8>().ok();
        match (image.architecture.as_str(), step(&image.variant), step(&machine.variant)) {
            ("arm", Some(image), Some(machine)) => machine.checked_sub(image),
            // A machine of a better variant runs the plain image.
            ("amd64" | "arm64", None, Some(machine)) => Some(machine),
            _ => None,
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let fine =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => return Err(PlatformError),
        };
        if !parts.iter().all(fine) {
            return Err(PlatformError);
        }
        let platform = Self { os: os.to_owned(), architecture: architecture.to_owned(), variant, ..Self::default() };
        let platform = platform.normalized();
        // What is shown of one in part would be another one when it is read again.
        let parts = [Some(&platform.os), Some(&platform.architecture), platform.variant.as_ref()];
        let fits = parts.into_iter().flatten().all(|part| part.len() <= LONGEST);
        if fits { Ok(platform) } else { Err(PlatformError) }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // They come out of strangers' documents, and end up on terminals.
        write!(f, "{}/{}", clean(&self.os, LONGEST), clean(&self.architecture, LONGEST))?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{}", clean(variant, LONGEST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suits(image: &str, machine: &str) -> Option<u8> {
        image.parse::<Platform>().unwrap().suits(&machine.parse().unwrap())
    }

    #[test]
    fn a48_what_runs_where() {
        assert_eq!(suits("linux/amd64", "linux/x86_64"), Some(0));
        assert_eq!(suits("linux/arm64/v8", "linux/aarch64"), Some(0));
        assert_eq!(suits("linux/arm/v6", "linux/arm/v7"), Some(1));
        assert_eq!(suits("linux/arm/v7", "linux/arm/v6"), None, "never upwards");
        assert_eq!(suits("linux/amd64", "linux/amd64/v3"), Some(3));
        assert_eq!(suits("linux/amd64", "windows/amd64"), None);
        assert_eq!(suits("unknown/unknown", "unknown/unknown"), None);
    }

    #[test]
    fn this_machine_has_a_platform() {
        let here = Platform::of_this_machine();
        assert_eq!(here.suits(&here), Some(0));
        assert_eq!(here.normalized(), here);
    }

    #[test]
    fn a38_a_platform_can_be_shown() {
        let odd = Platform { os: "li\u{1b}[31mnux".into(), architecture: "x".repeat(5000), ..Platform::default() };
        let shown = odd.to_string();
        assert!(!shown.contains('\u{1b}') && shown.len() < 200, "{shown}");
    }

    #[test]
    fn text() {
        assert_eq!("linux/armhf".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
        let (longest, longer) = ("x".repeat(LONGEST), "x".repeat(LONGEST + 1));
        assert_eq!(format!("linux/{longest}").parse::<Platform>().unwrap().to_string(), format!("linux/{longest}"));
        for bad in [
            "",
            "linux",
            "linux/",
            "a/b/c/d",
            "l nux/amd64",
            &format!("linux/{longer}"),
            &format!("linux/arm/{longest}"),
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
