//! Which addresses a driver may connect to.

use std::net::SocketAddr;
use std::time::Duration;

use crate::job::{Failure, FailureKind};
use crate::spec::lead::may_connect;

/// Of the addresses that `host`, of a URL, has resolved to, those that a driver may connect to.
///
/// URLs that a peer hands out are looked at before they are asked, but what a name in them leads to only who resolves it can
/// see: hence this last look. A name that leads to the machine's own link, to what answers for a cloud's metadata, is nobody's
/// registry, storage or token server.
///
/// ```
/// use registry_proto::job::reachable;
///
/// assert!(reachable("registry.corp", [([10, 0, 0, 5], 443).into()]).is_ok());
/// assert!(reachable("metadata.example", [([169, 254, 169, 254], 80).into()]).is_err());
/// ```
///
/// # Errors
/// [`FailureKind::Forbidden`] when there are addresses, but none of them may be connected to.
pub fn reachable(host: &str, found: impl IntoIterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Failure> {
    let (allowed, refused): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| may_connect(host, address.ip()));
    match refused.first() {
        Some(address) if allowed.is_empty() => {
            let why = format_args!("{host} leads to {}, an address of this machine's own link", address.ip());
            Err(Failure::new(FailureKind::Forbidden, why))
        }
        _ => Ok(allowed),
    }
}

/// How long the next one of these many addresses may take, when there is so much time left for all of them: an even share, so that
/// one that swallows everything leaves time for the others.
///
/// ```
/// use registry_proto::job::share;
/// use std::time::Duration;
///
/// assert_eq!(share(Duration::from_secs(9), 3), Duration::from_secs(3));
/// assert_eq!(share(Duration::from_secs(8), 1), Duration::from_secs(8)); // the first one was quick to refuse
/// ```
pub fn share(left: Duration, addresses: usize) -> Duration {
    let shares = u32::try_from(addresses).unwrap_or(u32::MAX).max(1);
    // (The system's calls take no time of zero.)
    (left / shares).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a02_what_is_left_of_a_names_addresses() {
        let public: SocketAddr = ([8, 8, 8, 8], 443).into();
        let metadata: SocketAddr = ([169, 254, 169, 254], 443).into();
        assert_eq!(reachable("r.example", [metadata, public]).unwrap(), [public]);
        assert_eq!(reachable("r.example", []).unwrap(), [], "a name without addresses is the resolver's affair");
        let why = reachable("r.example", [metadata]).unwrap_err();
        assert_eq!(why.kind(), FailureKind::Forbidden);
        assert!(why.to_string().contains("r.example leads to 169.254.169.254"), "{why}");
        assert!(!why.is_transient() && why.sent_nothing());
    }
}
