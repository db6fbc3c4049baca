//! What images, repositories and registries are called, with a word for what is easily mistyped.

use std::fmt::Display;

use registry_tokio::proto::spec::{Reference, Registry, Repository};

/// A reference, which is no bare address: by the rules, `localhost:5000` is the tag `5000` of an image at Docker Hub.
pub(crate) fn reference(text: &str) -> Result<Reference, String> {
    let found = text.parse().map_err(|why| explained(text, why))?;
    if is_address(text) {
        let example = if text.contains(':') { format!("{text}/app:v1") } else { format!("{text}:5000/app:v1") };
        return Err(format!("that is a registry, and no image in it: add a repository, as in `{example}`"));
    }
    Ok(found)
}

pub(super) fn repository(text: &str) -> Result<Repository, String> {
    if is_address(text) {
        return Err(format!("that is a registry, and no repository in it; `tug catalog {text}` lists those"));
    }
    text.parse().map_err(|why| explained(text, why))
}

pub(crate) fn registry(text: &str) -> Result<Registry, String> {
    text.parse().map_err(|why| match text.split_once('/') {
        Some((host, _)) if !text.contains("://") => format!("{why}; a registry alone is wanted: `{host}`"),
        _ => explained(text, why),
    })
}

/// Whether this looks like where a registry is: `localhost`, an address, or a name with dots and a port. (There is no image at Docker Hub
/// whose name has a dot and no `/`.)
fn is_address(text: &str) -> bool {
    if text.contains(['/', '@']) {
        return false;
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_port = port.is_some_and(|port| port.parse::<u16>().is_ok());
    let is_ip = host.parse::<std::net::Ipv4Addr>().is_ok();
    is_ip || is_port && (host.eq_ignore_ascii_case("localhost") || host.contains('.'))
}

fn explained(text: &str, why: impl Display) -> String {
    match text.split_once("://") {
        Some(("http", rest)) => format!("{why}; write `{rest}`, and --plain-http if http is meant"),
        Some((_, rest)) => format!("{why}; write `{rest}`"),
        None => why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_alone_is_no_image() {
        for address in ["localhost:5000", "127.0.0.1:5000", "127.0.0.1", "registry.example.org:5000"] {
            assert!(reference(address).is_err_and(|why| why.contains("is a registry")), "{address}");
            assert!(repository(address).is_err_and(|why| why.contains("tug catalog")), "{address}");
            assert!(registry(address).is_ok(), "{address}");
        }
        for image in ["debian:12", "debian", "localhost/app", "localhost:5000/app", "quay.io/org/app:5000", "node:20.1"]
        {
            assert!(reference(image).is_ok(), "{image}: {:?}", reference(image));
        }
    }

    #[test]
    fn a_scheme_is_left_out() {
        assert!(reference("docker://quay.io/app:v1").is_err_and(|why| why.contains("write `quay.io/app:v1`")));
        assert!(registry("http://localhost:5000").is_err_and(|why| why.contains("--plain-http")));
        assert!(registry("localhost:5000/app").is_err_and(|why| why.contains("`localhost:5000`")));
    }
}
