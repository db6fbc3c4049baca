//! Which statuses mean "not now": the one list for whoever decides about trying again.

use http::StatusCode;

/// Whether the same request may succeed a little later: it was too slow (408), too early (425), too much (429), or something
/// behind the registry broke down. Of the others among 5xx, 501, 505, 506, 510 and 511 say what will be so the next time, too;
/// 520 and up are what Cloudflare says of a server that it can't talk to.
pub(crate) const fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=504 | 507..=509 | 520..=599)
}
