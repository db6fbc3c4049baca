//! Hosts that are written as addresses, and how far out these are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where an address can be reached. The later, the closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// From everywhere, or it is a name, which can be anybody's.
    Anywhere,
    /// From inside of a network: private ranges, those that providers share, those that have no public meaning.
    Network,
    /// From this machine, or its own link, where clouds answer for metadata: loopback, link-local, unspecified.
    Here,
}

impl Reach {
    /// Of a host as URLs have it. Only what is written is looked at: a name is a name, whatever it resolves to.
    pub(super) fn of(host: &str) -> Self {
        // A dot at the end makes a name absolute, and no other name.
        let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        if bare == "localhost" || bare.ends_with(".localhost") {
            return Self::Here;
        }
        if let Ok(address) = bare.parse::<Ipv6Addr>() {
            return Self::of_v6(address);
        }
        match bare.parse::<Ipv4Addr>() {
            Ok(address) => Self::of_v4(address),
            // Resolvers also take short, octal, hexadecimal and single-number forms of IPv4 addresses (`0x7f.1`,
            // `2130706433`). No public name looks like that, so it may be anything.
            Err(_) if is_number(bare.rsplit('.').next().unwrap_or_default()) => Self::Here,
            Err(_) => Self::Anywhere,
        }
    }

    pub(super) fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        if address.is_loopback() || address.is_link_local() || a == 0 {
            return Self::Here;
        }
        let inside = address.is_private()
            || (a == 100 && (64..128).contains(&b))
            || (a == 192 && b == 0 && c == 0)
            || (a == 198 && matches!(b, 18 | 19))
            // Multicast, reserved, broadcast.
            || a >= 224;
        if inside { Self::Network } else { Self::Anywhere }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let segments = address.segments();
        let last_four = || {
            let [a, b] = segments[6].to_be_bytes();
            let [c, d] = segments[7].to_be_bytes();
            Ipv4Addr::new(a, b, c, d)
        };
        match segments {
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Self::Here,
            // IPv4 in IPv6: mapped, compatible, by way of NAT64 and of 6to4.
            [0, 0, 0, 0, 0, 0xffff | 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Self::of_v4(last_four()),
            [0x2002, high, low, ..] => {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                Self::of_v4(Ipv4Addr::new(a, b, c, d))
            }
            [first, ..] if first & 0xffc0 == 0xfe80 => Self::Here,
            // Unique local, site-local, multicast.
            [first, ..] if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 || first >= 0xff00 => Self::Network,
            _ => Self::Anywhere,
        }
    }
}

fn is_number(label: &str) -> bool {
    let digits = label.strip_prefix("0x").unwrap_or(label);
    !label.is_empty()
        && label.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a02_addresses_in_every_spelling() {
        for here in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "127.0.0.1",
            "127.0.0.1.",
            "127.255.1.2",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0x7f000001",
            "0177.0.0.1",
        ] {
            assert_eq!(Reach::of(here), Reach::Here, "{here}");
        }
        for network in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.100.100.200",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[fd00:ec2::254]",
            "[fec0::1]",
            "[ff02::1]",
            "[::ffff:10.0.0.1]",
            "[2002:a00:1::]",
        ] {
            assert_eq!(Reach::of(network), Reach::Network, "{network}");
        }
        for anywhere in
            ["r.example", "8.8.8.8", "[2001:db8::1]", "1e100.net", "a-1", "beef", "10.0.0.1.nip.io", "100.1.1.1"]
        {
            assert_eq!(Reach::of(anywhere), Reach::Anywhere, "{anywhere}");
        }
    }
}
