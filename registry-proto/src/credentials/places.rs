//! Where credentials are looked for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::auth_file::AuthFile;
use crate::secret::Secret;

/// Somewhere that credentials may be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Docker's or podman's file, where it is by custom.
    File(PathBuf),
    /// The file that the user named outright: that it is not there is a mistake, and no lack of credentials.
    Named(PathBuf),
    /// Docker's file of old, which is read and not written.
    Legacy(PathBuf),
    /// What Docker reads from the environment variable `DOCKER_AUTH_CONFIG`, as CI systems set it.
    Variable(Secret),
}

impl Place {
    pub(super) fn parse(&self, content: &[u8]) -> Result<AuthFile, String> {
        match self {
            Self::Legacy(_) => AuthFile::parse_legacy(content),
            Self::File(_) | Self::Named(_) | Self::Variable(_) => AuthFile::parse(content),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) | Self::Named(path) | Self::Legacy(path) => path.display().fmt(f),
            Self::Variable(_) => f.write_str("the environment variable DOCKER_AUTH_CONFIG"),
        }
    }
}

/// The places where credentials are looked for, in their order. `explicit`: a file that the user named, which is the only one
/// then. `env`: the environment. `user`: this user's number, where there is such a thing.
///
/// In this order, the first that is set or there: the named file; `$REGISTRY_AUTH_FILE`; `$DOCKER_AUTH_CONFIG`; podman's
/// `$XDG_RUNTIME_DIR/containers/auth.json` (or below `/run/containers/<user>`); `$XDG_CONFIG_HOME/containers/auth.json` (or
/// below `~/.config`); Docker's `$DOCKER_CONFIG/config.json` (or in `~/.docker`); and its `~/.dockercfg`.
///
/// ```
/// use std::path::PathBuf;
/// use registry_proto::credentials::{Place, places};
///
/// let env = |name: &str| (name == "HOME").then(|| "/home/me".into());
/// let found = places(None, env, None);
/// assert!(found.contains(&Place::File(PathBuf::from("/home/me/.docker/config.json"))));
/// ```
pub fn places(explicit: Option<&Path>, env: impl Fn(&str) -> Option<OsString>, user: Option<u32>) -> Vec<Place> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let folder = |name: &str| env(name).map(PathBuf::from);
    if let Some(named) = explicit.map(Path::to_owned).or_else(|| folder("REGISTRY_AUTH_FILE")) {
        return vec![Place::Named(named)];
    }
    let home = folder("HOME");
    let runtime = folder("XDG_RUNTIME_DIR").map(|folder| folder.join("containers"));
    let runtime = runtime.or_else(|| Some(PathBuf::from(format!("/run/containers/{}", user?))));
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(home.clone()?.join(".config")));
    let docker = folder("DOCKER_CONFIG").or_else(|| Some(home.clone()?.join(".docker")));
    let file = |folder: Option<PathBuf>, name: &str| folder.map(|folder| Place::File(folder.join(name)));
    [
        env("DOCKER_AUTH_CONFIG").and_then(|json| Some(Place::Variable(Secret::new(json.into_string().ok()?)))),
        file(runtime, "auth.json"),
        file(config, "containers/auth.json"),
        file(docker, "config.json"),
        home.map(|home| Place::Legacy(home.join(".dockercfg"))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(explicit: Option<&str>, env: &[(&str, &str)]) -> Vec<String> {
        let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        places(explicit.map(Path::new), env, Some(1000)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_order_of_places() {
        assert_eq!(
            found(None, &[("HOME", "/h")]),
            [
                "/run/containers/1000/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.docker/config.json",
                "/h/.dockercfg"
            ]
        );
        let set = [
            ("HOME", "/h"),
            ("XDG_RUNTIME_DIR", "/r"),
            ("XDG_CONFIG_HOME", "/c"),
            ("DOCKER_CONFIG", "/d"),
            ("DOCKER_AUTH_CONFIG", "{\"auths\":{}}"),
        ];
        assert_eq!(
            found(None, &set),
            [
                "the environment variable DOCKER_AUTH_CONFIG",
                "/r/containers/auth.json",
                "/c/containers/auth.json",
                "/d/config.json",
                "/h/.dockercfg"
            ]
        );
        assert_eq!(found(None, &[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a.json")]), ["/a.json"]);
        assert_eq!(found(Some("/e.json"), &[("REGISTRY_AUTH_FILE", "/a.json")]), ["/e.json"]);
        // What is set to nothing is not set.
        assert_eq!(
            found(None, &[("REGISTRY_AUTH_FILE", ""), ("DOCKER_CONFIG", "")]),
            ["/run/containers/1000/auth.json"]
        );
    }
}
