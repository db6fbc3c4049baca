//! Where a proxy is, and what is shown to it.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;

use crate::secret::Credential;
use crate::spec::Origin;

/// A proxy that is spoken to by `http`, and opens ways with `CONNECT`.
///
/// It is written as a URL: `http://[user:password@]host[:port]`. The scheme may be left out; the port is 80 if none is said. What
/// can't stand in a URL as it is, in a password for instance, is percent-encoded. `Display` and `Debug` show no password.
///
/// ```
/// use registry_proto::session::{Proxy, ProxyError};
///
/// let proxy: Proxy = "http://user:hunter2@proxy.example.org:3128".parse()?;
/// assert!(!proxy.to_string().contains("hunter2"));
/// assert!(matches!("socks5://proxy.example.org".parse::<Proxy>(), Err(ProxyError::Scheme(_))));
/// # Ok::<(), ProxyError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    at: Origin,
    credential: Option<Credential>,
}

/// Why something is no [`Proxy`]. Nothing of what was written is quoted: there may be a password in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// It has another form.
    #[error("it is no proxy's address, which has the form http://[user:password@]host[:port]")]
    Malformed,
    /// It is a proxy of another kind: `https`, `socks5` …
    #[error(
        "it wants to be spoken to by `{0}`, which nobody here does: only http://host:port, which is a way to https, too"
    )]
    Scheme(String),
}

impl Proxy {
    /// The same, shown this user and password.
    ///
    /// # Errors
    /// [`ProxyError::Malformed`] when there is a colon in the user's name: `Basic` has no way to say that.
    pub fn with_password(mut self, username: &str, password: &str) -> Result<Self, ProxyError> {
        let credential = Credential::password(username, password);
        credential.basic().ok_or(ProxyError::Malformed)?;
        self.credential = Some(credential);
        Ok(self)
    }

    pub(super) const fn at(&self) -> &Origin {
        &self.at
    }

    /// The value of `Proxy-Authorization`.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        self.credential.as_ref()?.basic()
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let text = text.trim();
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
                return Err(ProxyError::Scheme(scheme.to_ascii_lowercase()));
            }
            Some(_) => return Err(ProxyError::Malformed),
        };
        // Passwords may have any of these in them that nobody encoded.
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
        let place = place.split(['/', '?', '#']).next().unwrap_or_default();
        let at = Origin::new(false, place).ok_or(ProxyError::Malformed)?;
        let proxy = Self { at, credential: None };
        let Some(user) = user else { return Ok(proxy) };
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        proxy.with_password(&decoded(name)?, &decoded(password)?)
    }
}

/// Without percent-encoding. A percent sign that begins none is one.
fn decoded(text: &str) -> Result<String, ProxyError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |digit: u8| char::from(digit).to_digit(16);
        let byte = match after {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        let byte = byte.and_then(|byte| u8::try_from(byte).ok());
        rest = if byte.is_some() { &after[2..] } else { after };
        bytes.push(byte.unwrap_or(*first));
    }
    String::from_utf8(bytes).map_err(|_| ProxyError::Malformed)
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}{})", self.at, if self.credential.is_some() { ", with credentials" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_every_form() {
        let pair = |pair: &str| {
            use base64::Engine as _;
            Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
        };
        for (text, at, shown) in [
            ("http://proxy.corp:3128", "http://proxy.corp:3128", None),
            ("http://proxy.corp:3128/", "http://proxy.corp:3128", None),
            ("HTTP://Proxy.Corp/x?y#z", "http://proxy.corp", None),
            ("proxy.corp", "http://proxy.corp", None),
            (" proxy.corp:8080 ", "http://proxy.corp:8080", None),
            ("10.0.0.5:3128", "http://10.0.0.5:3128", None),
            ("http://[fd00::1]:3128", "http://[fd00::1]:3128", None),
            ("http://me@p", "http://p", pair("me:")),
            ("http://me:hunter2@p:1", "http://p:1", pair("me:hunter2")),
            ("me:hunter2@p:1", "http://p:1", pair("me:hunter2")),
            ("http://m%65:%3A%40%2f%c3%A9%@p", "http://p", pair("me::@/é%")),
            ("http://me:a/b?c#d@e@p", "http://p", pair("me:a/b?c#d@e")),
            ("http://me:%zz%4@p", "http://p", pair("me:%zz%4")),
        ] {
            let proxy: Proxy = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
            let header = proxy.authorization();
            assert!(header.as_ref().is_none_or(HeaderValue::is_sensitive));
            let header = header.map(|header| header.to_str().unwrap().to_owned());
            assert_eq!((proxy.to_string(), header), (at.to_owned(), shown), "{text}");
        }
    }

    #[test]
    fn what_is_refused_is_not_quoted() {
        for scheme in ["https", "socks5", "SOCKS5h", "socks4", "ftp"] {
            let why = format!("{scheme}://me:hunter2@p:1").parse::<Proxy>().unwrap_err();
            assert_eq!(why, ProxyError::Scheme(scheme.to_ascii_lowercase()));
        }
        for text in [
            "",
            "http://",
            "http://:3128",
            "p:x",
            "p:99999",
            "p:",
            "a b",
            "me:hunter2://x@p",
            "http://me:hunter2@",
            "http://m%3Ae:hunter2@p",
            "http://me:%ff@p",
            "p\r\nX: y",
        ] {
            assert_eq!(text.parse::<Proxy>(), Err(ProxyError::Malformed), "{text}");
        }
        let proxy: Proxy = "http://me:hunter2@p".parse().unwrap();
        assert_eq!(format!("{proxy} {proxy:?}"), "http://p Proxy(http://p, with credentials)");
    }
}
