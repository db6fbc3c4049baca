//! Where a URL leads, and the one rule for URLs that a peer hands out.

use std::fmt;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// Scheme, host and port: what credentials are bound to (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an absolute `http` or `https` URL; `None` for anything else, and for URLs with user information.
    pub fn of(url: &Uri) -> Option<Self> {
        let https = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = url.authority()?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let host = authority.host();
        // A port that is written but is no port must not turn into the default one, as it does in `Authority::port`.
        let port = match authority.as_str().strip_prefix(host)?.strip_prefix(':') {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
            Some(_) => return None,
            None if authority.as_str().len() == host.len() => default_port(https),
            None => return None,
        };
        Some(Self { https, host: host.to_ascii_lowercase(), port })
    }

    /// The origin of `host[:port]` with a scheme. `None` when that is not an authority.
    pub fn new(https: bool, host_and_port: &str) -> Option<Self> {
        let scheme = if https { Scheme::HTTPS } else { Scheme::HTTP };
        let url = Uri::builder().scheme(scheme).authority(host_and_port).path_and_query("/").build().ok()?;
        Self::of(&url)
    }

    /// Whether the connection is encrypted and the peer's name checked.
    pub const fn is_https(&self) -> bool {
        self.https
    }

    /// The host, in lower case; IPv6 addresses keep their brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, written or implied.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Host and port, the latter only if it doesn't go without saying.
    pub fn authority(&self) -> String {
        if self.port == default_port(self.https) { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// The URL of a path (with query) at this origin. `None` when the path is not one.
    pub fn at(&self, path_and_query: &str) -> Option<Uri> {
        let authority: Authority = self.authority().parse().ok()?;
        let path: PathAndQuery = path_and_query.parse().ok()?;
        let scheme = if self.https { Scheme::HTTPS } else { Scheme::HTTP };
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()
    }
}

const fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// Why a URL that a peer handed out is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It is not a URL, or not one of `http` or `https`.
    #[error("{0:?} is not a usable URL")]
    Malformed(String),
    /// It would leave encryption behind.
    #[error("it leads from https to http at {0}")]
    Downgrade(Origin),
    /// It leads to an origin that this request must not go to.
    #[error("it leads to another origin, {0}")]
    Foreign(Origin),
}

/// Resolves a `Location`, `Link` target or the like against the URL that was actually requested (RFC 3986 §5).
///
/// The result keeps the peer's bytes as they are (upload sessions carry signed state in their query); only what
/// [`http::Uri`] cannot hold is percent-encoded, and a fragment is dropped.
///
/// # Errors
/// [`LocationError::Malformed`].
pub fn resolve(base: &Uri, location: &str) -> Result<Uri, LocationError> {
    let malformed = || LocationError::Malformed(excerpt(location));
    let origin = Origin::of(base).ok_or_else(malformed)?;
    let cleaned = encode_illegal(location.split('#').next().unwrap_or_default().trim());
    if has_scheme(&cleaned) {
        let url: Uri = cleaned.parse().map_err(|_| malformed())?;
        Origin::of(&url).ok_or_else(malformed)?;
        return Ok(url);
    }
    if let Some(rest) = cleaned.strip_prefix("//") {
        let scheme = if origin.https { "https" } else { "http" };
        let url: Uri = format!("{scheme}://{rest}").parse().map_err(|_| malformed())?;
        Origin::of(&url).ok_or_else(malformed)?;
        return Ok(url);
    }
    let base_path = base.path();
    let target = if cleaned.starts_with('/') {
        cleaned
    } else if cleaned.starts_with('?') {
        format!("{base_path}{cleaned}")
    } else if cleaned.is_empty() {
        return Err(malformed());
    } else {
        let (path, query) = cleaned.split_once('?').map_or((cleaned.as_str(), None), |(p, q)| (p, Some(q)));
        let folder = base_path.rfind('/').map_or("/", |slash| &base_path[..=slash]);
        let path = remove_dots(&format!("{folder}{path}"));
        query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"))
    };
    origin.at(&target).ok_or_else(malformed)
}

/// The rule for URLs that must stay with the registry they came from (upload sessions, next pages): the same origin.
///
/// Two things that proxies get wrong are mended, because nobody but the registry itself can be meant: `http` from a
/// registry spoken to over `https` (a TLS terminator without forwarded headers) and a lost port.
///
/// # Errors
/// [`LocationError`]; nothing may be sent to such a URL.
pub fn same_origin(base: &Uri, location: &str) -> Result<Uri, LocationError> {
    let home = Origin::of(base).ok_or_else(|| LocationError::Malformed(excerpt(location)))?;
    let url = resolve(base, location)?;
    let there = Origin::of(&url).ok_or_else(|| LocationError::Malformed(excerpt(location)))?;
    if there == home {
        return Ok(url);
    }
    let same_host = there.host == home.host;
    let port_lost = there.port == default_port(there.https) && url.authority().is_some_and(|a| a.port().is_none());
    let explicit_default = there.port == default_port(there.https) && there.port != home.port;
    if same_host
        && (there.port == home.port || port_lost || (explicit_default && there.https == home.https && home.https))
    {
        if there.https && !home.https {
            return Err(LocationError::Foreign(there));
        }
        let path = url.path_and_query().map_or("/", PathAndQuery::as_str);
        return home.at(path).ok_or_else(|| LocationError::Malformed(excerpt(location)));
    }
    if home.https && !there.https {
        return Err(LocationError::Downgrade(there));
    }
    Err(LocationError::Foreign(there))
}

/// A URL as it may be shown: without its query, which may be signed, and without user information.
pub fn redacted(url: &Uri) -> String {
    let query = if url.query().is_some() { "?…" } else { "" };
    Origin::of(url).map_or_else(|| String::from("(not a URL)"), |origin| format!("{origin}{}{query}", url.path()))
}

fn excerpt(text: &str) -> String {
    // The query may be a signature.
    let path = text.split(['?', '#']).next().unwrap_or_default();
    path.chars().take(200).filter(|c| !c.is_control()).collect()
}

fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// Percent-encodes what `http::Uri` refuses (space, quotes, angle brackets, non-ASCII …) and leaves the rest alone.
fn encode_illegal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!' | b'#'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' | b'|' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn remove_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for part in path.split('/').skip(1) {
        ends_in_folder = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}{}", parts.join("/"), if ends_in_folder && !parts.is_empty() { "/" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Uri {
        "https://r.example/v2/n/blobs/uploads/".parse().unwrap()
    }

    #[test]
    fn c57_locations_of_every_form() {
        let same = |location: &str| same_origin(&base(), location).map(|url| url.to_string());
        for (location, expected) in [
            ("https://r.example/v2/n/u?_state=a%2Fb&x=", "https://r.example/v2/n/u?_state=a%2Fb&x="),
            ("/v2/n/blobs/uploads/u?_state=a%2Fb&x=", "https://r.example/v2/n/blobs/uploads/u?_state=a%2Fb&x="),
            ("u-1", "https://r.example/v2/n/blobs/uploads/u-1"),
            ("../uploads/u-1?q", "https://r.example/v2/n/blobs/uploads/u-1?q"),
            ("?x=y", "https://r.example/v2/n/blobs/uploads/?x=y"),
            ("//r.example/u", "https://r.example/u"),
            ("http://r.example/u", "https://r.example/u"),
            ("https://R.example:443/u#part", "https://r.example:443/u"),
            ("/u with space?a=\"b\"", "https://r.example/u%20with%20space?a=%22b%22"),
        ] {
            let got = same(location).unwrap();
            assert_eq!(got.to_ascii_lowercase(), expected.to_ascii_lowercase(), "{location}");
        }
        for foreign in ["https://evil.example/u", "https://r.example:8443/u", "http://evil.example/u"] {
            assert!(same(foreign).is_err(), "{foreign}");
        }
        for bad in ["", "#x", "javascript:alert(1)", "file:///etc/passwd", "https://u:p@r.example/", "https://"] {
            assert!(matches!(same(bad), Err(LocationError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn c57_a_lost_port_is_added_again() {
        let base: Uri = "http://localhost:5000/v2/n/blobs/uploads/".parse().unwrap();
        let got = same_origin(&base, "http://localhost/v2/u?s=1").unwrap();
        assert_eq!(got.to_string(), "http://localhost:5000/v2/u?s=1");
        assert!(same_origin(&base, "http://localhost:5001/v2/u").is_err());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text: &str| Origin::of(&text.parse().unwrap());
        assert_eq!(origin("https://A.example/x"), origin("https://a.EXAMPLE:443/y"));
        assert_ne!(origin("https://a.example/x"), origin("http://a.example/x"));
        assert_ne!(origin("https://a.example/x"), origin("https://a.example:8443/x"));
        assert_eq!(origin("https://u@a.example/"), None);
        for no_port in
            ["https://a.example:99999/", "https://a.example:65536/", "https://a.example:+443/", "https://a.example:/"]
        {
            assert_eq!(origin(no_port), None, "{no_port}");
        }
        assert_eq!(Origin::new(false, "[::1]:5000").unwrap().at("/v2/").unwrap().to_string(), "http://[::1]:5000/v2/");
    }

    #[test]
    fn a_url_is_shown_without_its_query() {
        assert_eq!(redacted(&"https://s3.example/b?X-Sig=secret".parse().unwrap()), "https://s3.example/b?…");
    }
}
