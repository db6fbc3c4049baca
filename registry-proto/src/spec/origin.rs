//! Where a URL leads. (Where one may lead that a peer hands out: [`lead`](super::lead).)

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use crate::spec::LocationError;

/// Scheme, host and port: what credentials are bound to (RFC 6454).
///
/// ```
/// use registry_proto::spec::Origin;
///
/// let origin = Origin::of(&"https://registry.example.org/v2/".parse()?).expect("it has one");
/// assert_eq!((origin.host(), origin.port()), ("registry.example.org", 443));
/// assert_eq!(Some(origin), Origin::new(true, "Registry.Example.org:443"));
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
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

    /// Whether it is on this very machine, by its name: `localhost` and names below it, 127.0.0.0/8, `[::1]`.
    pub fn is_loopback(&self) -> bool {
        let name = self.host.trim_end_matches('.');
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost"
            || name.ends_with(".localhost")
            || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
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

pub(super) const fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// Resolves a `Location`, `Link` target or the like against the URL that was actually requested (RFC 3986 §5).
///
/// The result keeps the peer's bytes as they are (upload sessions carry signed state in their query); only what
/// [`http::Uri`] cannot hold is percent-encoded, and a fragment is dropped.
///
/// ```
/// use registry_proto::spec::resolve;
///
/// let asked = "https://registry.example.org/v2/app/blobs/uploads/".parse()?;
/// assert_eq!(resolve(&asked, "/upload/7?state=ab%2F")?, "https://registry.example.org/upload/7?state=ab%2F");
/// assert!(resolve(&asked, "ftp://elsewhere/").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

/// A URL as it may be shown: without its query, which may be signed, and without user information.
///
/// ```
/// use registry_proto::spec::redacted;
///
/// let signed = "https://storage.example.org/blob?signature=secret".parse()?;
/// assert_eq!(redacted(&signed), "https://storage.example.org/blob?…");
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
pub fn redacted(url: &Uri) -> String {
    let query = if url.query().is_some() { "?…" } else { "" };
    Origin::of(url).map_or_else(|| String::from("(not a URL)"), |origin| format!("{origin}{}{query}", url.path()))
}

pub(super) fn excerpt(text: &str) -> String {
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
pub(super) fn encode_illegal(text: &str) -> String {
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
