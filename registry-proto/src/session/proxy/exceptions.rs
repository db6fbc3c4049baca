//! `no_proxy`: who is reached without a proxy.

use std::net::IpAddr;

use crate::spec::Origin;

/// What the entries of a `no_proxy` mean; see [`Proxies::except`](super::Proxies::except).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// A host and what is below it, or only the latter.
    Domain {
        name: String,
        itself: bool,
    },
    /// So many bits of an address.
    Network(IpAddr, u32),
}

impl Exceptions {
    pub(super) fn parse(no_proxy: &str) -> Self {
        Self(no_proxy.split(|c: char| c == ',' || c.is_whitespace()).filter_map(Exception::parse).collect())
    }

    pub(super) fn hold(&self, origin: &Origin) -> bool {
        self.0.iter().any(|one| one.hosts.contain(origin.host()) && one.port.is_none_or(|port| port == origin.port()))
    }
}

impl Exception {
    /// `None` for what means nobody: the variable is there for other programs, too, with forms of their own.
    fn parse(entry: &str) -> Option<Self> {
        if let Some((address, bits)) = entry.split_once('/') {
            let address = bare(address).parse().ok()?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(address))?;
            return Some(Self { hosts: Hosts::Network(address, bits), port: None });
        }
        // An IPv6 address is full of what could be ports.
        if let Some(hosts) = Hosts::at(entry) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let hosts = Hosts::at(host).or_else(|| Hosts::named(host))?;
        Some(Self { hosts, port })
    }
}

impl Hosts {
    fn at(host: &str) -> Option<Self> {
        let address = bare(host).parse::<IpAddr>().ok()?.to_canonical();
        Some(Self::Network(address, width(address)))
    }

    fn named(host: &str) -> Option<Self> {
        if host == "*" {
            return Some(Self::All);
        }
        let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
        let name = below.unwrap_or(host).trim_end_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(Self::Domain { name, itself: below.is_none() })
    }

    fn contain(&self, host: &str) -> bool {
        let address = bare(host).parse::<IpAddr>().ok();
        match (self, address) {
            (Self::All, _) => true,
            (Self::Network(network, bits), Some(address)) => shares(*network, address.to_canonical(), *bits),
            (Self::Domain { name, itself }, None) => match host.trim_end_matches('.').strip_suffix(name) {
                Some("") => *itself,
                Some(rest) => rest.ends_with('.'),
                None => false,
            },
            _ => false,
        }
    }
}

/// An address without the brackets that it has in URLs.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

const fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => u32::BITS,
        IpAddr::V6(_) => u128::BITS,
    }
}

/// Whether the first bits of both are the same.
fn shares(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_each_entry_means() {
        for (entries, those, not_those) in [
            ("", &[][..], &["https://a.example/", "https://10.0.0.1/"][..]),
            ("*", &["https://a.example/", "https://10.0.0.1/", "http://[fd00::1]:5000/"], &[]),
            ("a, *", &["https://b.example/"], &[]),
            (
                "example.org",
                &[
                    "https://example.org/",
                    "http://EXAMPLE.org:5000/",
                    "https://r.example.org/",
                    "https://example.org./",
                ],
                &["https://badexample.org/", "https://example.org.evil.net/", "https://example.com/"],
            ),
            ("EXAMPLE.org.", &["https://example.org/", "https://a.b.example.org/"], &["https://org/"]),
            (".example.org", &["https://r.example.org/"], &["https://example.org/", "https://badexample.org/"]),
            ("*.example.org", &["https://r.example.org/"], &["https://example.org/"]),
            ("org", &["https://example.org/"], &["https://example.com/"]),
            ("example.org:5000", &["http://r.example.org:5000/"], &["https://example.org/", "http://example.org:80/"]),
            ("example.org:443", &["https://example.org/"], &["http://example.org/"]),
            ("a.example b.example\tc.example", &["https://a.example/", "https://c.example/"], &["https://d.example/"]),
            ("a.example ,, b.example", &["https://a.example/", "https://b.example/"], &["https://ab.example/"]),
            ("10.0.0.5", &["http://10.0.0.5:5000/", "https://[::ffff:10.0.0.5]/"], &["http://10.0.0.50/"]),
            ("0.5", &[], &["http://10.0.0.5/"]),
            ("10.0.0.5:5000", &["http://10.0.0.5:5000/"], &["http://10.0.0.5/"]),
            ("10.0.0.0/8", &["http://10.255.0.1/"], &["http://11.0.0.1/", "http://10.example/", "http://[a::]/"]),
            ("192.168.1.77/30", &["http://192.168.1.76/", "http://192.168.1.79/"], &["http://192.168.1.80/"]),
            ("0.0.0.0/0", &["http://8.8.8.8/"], &["http://[2001:db8::1]/", "http://a.example/"]),
            ("10.0.0.5/32", &["http://10.0.0.5/"], &["http://10.0.0.4/"]),
            ("fd00::/8", &["http://[fd12::1]/"], &["http://[fe80::1]/", "http://253.0.0.1/"]),
            ("[fd00::]/8", &["http://[fd12::1]/"], &["http://[fe80::1]/"]),
            ("fd00::1", &["http://[fd00::1]/", "http://[FD00:0::1]:5000/"], &["http://[fd00::2]/"]),
            ("[fd00::1]:5000", &["http://[fd00::1]:5000/"], &["http://[fd00::1]/"]),
            // What means nobody.
            (
                "10.0.0.0/33, fd00::/129, 10.0.0.0/x, a/8, :80, ., *., a:b, a:99999",
                &[],
                &["http://10.0.0.1/", "http://a/"],
            ),
        ] {
            let exceptions = Exceptions::parse(entries);
            let hold = |url: &&str| exceptions.hold(&Origin::of(&url.parse().unwrap()).unwrap());
            assert!(those.iter().all(hold), "`{entries}` means {those:?}");
            assert!(!not_those.iter().any(hold), "`{entries}` doesn't mean {not_those:?}");
        }
    }
}
