//! What a user may show, and to whom.

use std::collections::BTreeMap;

use super::key::{candidates, canonical, normalised};
use crate::secret::Credential;
use crate::spec::{Registry, RepositoryName};

/// Credentials by registry, or for a part of a registry by the beginning of its repositories' names, as podman keeps them.
///
/// ```
/// use registry_proto::Credential;
/// use registry_proto::credentials::Credentials;
///
/// let mut credentials = Credentials::default();
/// credentials.insert("q.io/a", Credential::password("team-a", "…"));
/// let registry = "q.io".parse()?;
/// assert!(credentials.lookup(&registry, Some(&"a/b".parse()?)).is_some());
/// assert!(credentials.lookup(&registry, Some(&"ab".parse()?)).is_none());
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Credentials(BTreeMap<String, Credential>);

impl Credentials {
    /// The credential for all of a registry. What was known for it, or for parts of it, is forgotten.
    pub fn log_in(&mut self, registry: &Registry, credential: Credential) {
        let host = canonical(registry.as_str());
        let below = format!("{host}/");
        self.0.retain(|key, _| !key.starts_with(&below));
        self.0.insert(host, credential);
    }

    /// The credential for `key`, as configuration files have them: `host[:port]`, `host[:port]/repository/prefix`, and the
    /// addresses of old, `https://host/v1/`, of which only the host counts.
    pub fn insert(&mut self, key: &str, credential: Credential) {
        self.0.insert(normalised(key), credential);
    }

    /// The credential for a repository, or for a registry as a whole: the one with the longest matching prefix.
    pub fn lookup(&self, registry: &Registry, repository: Option<&RepositoryName>) -> Option<&Credential> {
        self.find(registry, repository).map(|(_, credential)| credential)
    }

    /// As [`lookup`](Self::lookup), with the key that it was found under: whose token is not another one's.
    pub(crate) fn find(&self, registry: &Registry, repository: Option<&RepositoryName>) -> Option<(&str, &Credential)> {
        let found = |key: &String| self.0.get_key_value(key).map(|(key, credential)| (key.as_str(), credential));
        candidates(registry, repository).iter().find_map(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(keys: &[&str], registry: &str, repository: Option<&str>) -> Option<String> {
        let mut all = Credentials::default();
        for key in keys {
            all.insert(key, Credential::password(*key, "x"));
        }
        let repository = repository.map(|name| name.parse().unwrap());
        match all.lookup(&registry.parse().unwrap(), repository.as_ref())? {
            Credential::Password { username, .. } => Some(username.clone()),
            other => panic!("nobody inserted {other:?}"),
        }
    }

    #[test]
    fn keys_of_registries() {
        let hub = "https://index.docker.io/v1/";
        for (key, registry, found_there) in [
            (hub, "docker.io", true),
            (hub, "index.docker.io", true),
            (hub, "registry-1.docker.io", true),
            ("docker.io", "registry-1.docker.io", true),
            ("https://reg.io/v1/", "reg.io", true),
            ("http://reg.io:5000/v2/", "reg.io:5000", true),
            ("reg.io", "reg.io:443", true),
            ("reg.io:443", "reg.io", false),
            ("reg.io", "reg.io:5000", false),
            ("reg.io", "REG.io", true),
            ("[::1]:5000", "[::1]:5000", true),
            ("reg.io", "reg.io.evil.example", false),
            ("reg.io.evil.example", "reg.io", false),
        ] {
            assert_eq!(found(&[key], registry, None).is_some(), found_there, "{key} for {registry}");
        }
    }

    #[test]
    fn the_most_specific_prefix_wins_at_the_boundary_of_a_name() {
        let keys = ["q.io/a/b", "q.io/a", "q.io"];
        let of = |name| found(&keys, "q.io", Some(name));
        assert_eq!(of("a/b").as_deref(), Some("q.io/a/b"));
        assert_eq!(of("a/b/c").as_deref(), Some("q.io/a/b"));
        assert_eq!(of("a/bc").as_deref(), Some("q.io/a"));
        assert_eq!(of("ab").as_deref(), Some("q.io"));
        assert_eq!(found(&keys, "q.io", None).as_deref(), Some("q.io"));
        assert_eq!(found(&["q.io/a"], "q.io", None), None);
        assert_eq!(found(&["docker.io/me"], "docker.io", Some("me/app")).as_deref(), Some("docker.io/me"));
    }

    #[test]
    fn who_logs_in_replaces_what_was_known_of_the_registry() {
        let mut all = Credentials::default();
        all.insert("q.io/a", Credential::password("old", "x"));
        all.insert("q.io.example/a", Credential::password("other", "x"));
        all.log_in(&"q.io".parse().unwrap(), Credential::password("new", "x"));
        let of = |registry: &str| match all.lookup(&registry.parse().unwrap(), Some(&"a/b".parse().unwrap())) {
            Some(Credential::Password { username, .. }) => username.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((of("q.io").as_str(), of("q.io.example").as_str()), ("new", "other"));
    }
}
