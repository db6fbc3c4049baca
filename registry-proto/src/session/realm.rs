//! Which token servers may be asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

use crate::spec::Origin;

/// Whether the token server that a registry names may be asked on its behalf, with the user's credentials for that
/// registry (PROTOCOL §2.7; attacks A1–A3).
///
/// A registry's realm is the classic way to make a client send its password, or a request, somewhere else. Refused are
/// anything but `https` (and `http` from a registry that is itself spoken to over `http`, on the same host), user
/// information, and addresses that only make sense from inside a network, unless the registry itself is there.
pub(crate) fn allowed(registry: &Origin, realm: &str) -> Result<Uri, String> {
    let url: Uri = realm.parse().map_err(|_| format!("its realm {realm:?} is not a URL"))?;
    let origin = Origin::of(&url).ok_or_else(|| format!("its realm {realm:?} is not a plain http or https URL"))?;
    let same_host = origin.host() == registry.host();
    if !origin.is_https() && (registry.is_https() || !same_host) {
        return Err(format!("its realm {origin} would take credentials over unencrypted http"));
    }
    if !same_host && is_inside(origin.host()) {
        return Err(format!("its realm {origin} is an address inside a network, but the registry is not"));
    }
    Ok(url)
}

/// Whether a host is written as an address that is not public: loopback, private, link-local (cloud metadata), unspecified.
fn is_inside(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare == "localhost" || bare.ends_with(".localhost") {
        return true;
    }
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return inside_v6(address);
    }
    // Resolvers also take short, octal, hexadecimal and single-number forms of IPv4 addresses (`0x7f.1`, `2130706433`).
    // No public name looks like that, so whatever is all numbers but not a public dotted quad counts as inside.
    match bare.parse::<Ipv4Addr>() {
        Ok(address) => inside_v4(address),
        Err(_) => bare.rsplit('.').next().is_some_and(|last| {
            let digits = last.strip_prefix("0x").unwrap_or(last);
            !digits.is_empty()
                && digits.bytes().all(|b| b.is_ascii_hexdigit())
                && last.starts_with(|c: char| c.is_ascii_digit())
        }),
    }
}

fn inside_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_broadcast()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
}

fn inside_v6(address: Ipv6Addr) -> bool {
    let [first, ..] = address.segments();
    address.is_loopback()
        || address.is_unspecified()
        || (first & 0xfe00) == 0xfc00
        || (first & 0xffc0) == 0xfe80
        || match address.to_canonical() {
            IpAddr::V4(mapped) => inside_v4(mapped),
            IpAddr::V6(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn c18_realms_that_are_refused() {
        let registry = origin("https://r.example/");
        for realm in [
            "http://t.example/",
            "https://169.254.169.254/",
            "https://u@t.example/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::1]/",
            "https://0.0.0.0/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://10.1.2.3/token",
            "https://localhost/token",
            "ftp://t.example/",
            "token",
            "",
        ] {
            assert!(allowed(&registry, realm).is_err(), "{realm}");
        }
        assert!(allowed(&registry, "https://auth.example/token?x=y").is_ok());
        assert!(allowed(&registry, "https://8.8.8.8/token").is_ok());
    }

    #[test]
    fn c19_a_realm_beside_a_private_registry_is_allowed() {
        assert!(allowed(&origin("https://10.0.0.5:5000/"), "https://10.0.0.5:5001/token").is_ok());
        assert!(allowed(&origin("http://127.0.0.1:5000/"), "http://127.0.0.1:5001/token").is_ok());
        assert!(allowed(&origin("http://127.0.0.1:5000/"), "http://t.example/token").is_err());
    }
}
