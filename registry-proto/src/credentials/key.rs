//! Under which names registries are known in configuration files (PROTOCOL §2.8, §2.9).

use crate::spec::{Registry, RepositoryName};

/// The names under which a registry may be known: as written; in lower case; without the port that goes without saying.
pub(super) fn hosts(registry: &Registry) -> Vec<String> {
    let host = canonical(registry.as_str());
    let mut all = vec![host.clone(), host.to_ascii_lowercase()];
    if let Some(bare) = all[1].strip_suffix(":443").map(canonical) {
        all.push(bare);
    }
    all.dedup();
    all
}

/// A configuration file's key as `host[:port][/prefix]`. One with a scheme is an address of old, whose path means nothing.
pub(super) fn normalised(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let key = bare.map_or(key, |address| address.split('/').next().unwrap_or_default()).trim_end_matches('/');
    match key.split_once('/') {
        Some((host, path)) => format!("{}/{path}", canonical(host)),
        None => canonical(key),
    }
}

/// Docker Hub has three names.
pub(super) fn canonical(host: &str) -> String {
    let host = if host.eq_ignore_ascii_case("docker.io") { "docker.io" } else { host };
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// The keys under which something may be kept for a repository, the most specific first: `host/a/b`, `host/a`, `host`, and the
/// same for the registry's other names.
pub(super) fn candidates(registry: &Registry, repository: Option<&RepositoryName>) -> Vec<String> {
    let mut all = Vec::new();
    for host in hosts(registry) {
        let mut key = repository.map_or_else(|| host.clone(), |name| format!("{host}/{name}"));
        loop {
            all.push(key.clone());
            match key.rfind('/') {
                Some(end) => key.truncate(end),
                None => break,
            }
        }
    }
    all
}
