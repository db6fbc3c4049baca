//! URLs that a peer hands out, and where each kind of them may lead: the one rule, in one place.
//!
//! | handed out as | it may lead to | with the credentials of |
//! | --- | --- | --- |
//! | `Location` of an upload session ([`session`]) | the registry itself | the registry |
//! | `Link` to a list's next page ([`next_page`]) | the origin that the list began at | the registry |
//! | redirect of `GET` and `HEAD` ([`redirect`]) | anywhere that is no closer to us than the registry | nobody, or that very host |
//! | redirect of anything else ([`redirect`]) | the same origin, by 307 and 308; the same host where only TLS is added | the registry, while the origin is the same |
//! | `realm` of a challenge ([`token_server`]) | anywhere over `https` that is no closer than the registry | the registry |
//! | `urls` of a layer | nowhere: they are not followed | nobody |
//!
//! Encryption is never given up on the way, and a URL with user information is no URL here. "Closer": a host that is written
//! as an address inside of a network, or on this very machine or its link, where the cloud's metadata are. What a name
//! resolves to only a driver can see, and asks about ([`may_connect`], by way of `job::reachable`).
//!
//! Who is shown what where is decided in `flow::exchange::authorise`.

use std::net::IpAddr;

use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri};

use crate::spec::inside::Reach;
use crate::spec::origin::{default_port, encode_illegal, excerpt};
use crate::spec::{Origin, resolve};

/// Why a URL that a peer handed out is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// It is not a URL, or not one of `http` or `https`.
    #[error("{0:?} is not a usable URL")]
    Malformed(String),
    /// It would leave encryption behind.
    #[error("it leads from https to {0}, which would give up encryption")]
    Downgrade(Origin),
    /// It leads to an origin that this request must not go to.
    #[error("it leads to another origin, {0}")]
    Foreign(Origin),
    /// It leads to an address that only means something closer to us than whoever handed it out is.
    #[error("it leads to {0}, an address inside a network or of this machine, where the registry is not")]
    Inside(Origin),
    /// It would take credentials over an unencrypted connection.
    #[error("it leads to {0}, which would take credentials over unencrypted http")]
    Unencrypted(Origin),
    /// It leads with something other than a `GET` to where that can't be followed.
    #[error("it leads a {0} to {1}")]
    Method(Method, Origin),
}

/// Where an upload session goes on that was at `home`: `location` as it came with the reply to `asked`.
///
/// What a question for the session's state was redirected to (it is a `GET`) has no say in where the blob goes, and its
/// credentials with it.
///
/// # Errors
/// [`LocationError`]; nothing may be sent to such a URL.
pub(crate) fn session(home: &Uri, asked: &Uri, location: &str) -> Result<Uri, LocationError> {
    let url = resolve(asked, location)?;
    let is_secured = adds_only_tls(&origin(home, location)?, &origin(asked, location)?);
    same_origin(if is_secured { asked } else { home }, &url.to_string())
}

/// Where a list goes on that began at `home`: `target` as it came with the reply to `asked`.
///
/// However a redirect may have led astray in between, pages stay with the origin that the list began at: they are asked
/// for with its credentials.
///
/// # Errors
/// [`LocationError`].
pub(crate) fn next_page(home: &Uri, asked: &Uri, target: &str) -> Result<Uri, LocationError> {
    same_origin(home, &resolve(asked, target)?.to_string())
}

/// Where a redirect leads: `location` as it came with the reply to `asked`, on the way from the origin `home`.
///
/// # Errors
/// [`LocationError`].
pub(crate) fn redirect(
    home: &Origin,
    asked: &Uri,
    method: &Method,
    status: StatusCode,
    location: &str,
) -> Result<Uri, LocationError> {
    let (from, url) = (origin(asked, location)?, resolve(asked, location)?);
    let to = origin(&url, location)?;
    if from.is_https() && !to.is_https() {
        return Err(LocationError::Downgrade(to));
    }
    let only_adds_tls = adds_only_tls(&from, &to);
    // Following a 301 with another method turns uploads into nonsense.
    let is_kept =
        matches!(*method, Method::GET | Method::HEAD) || only_adds_tls || matches!(status.as_u16(), 307 | 308);
    if !is_kept {
        return Err(LocationError::Method(method.clone(), to));
    }
    if !matches!(*method, Method::GET | Method::HEAD) && !only_adds_tls && to != from {
        return Err(LocationError::Foreign(to));
    }
    // Storage at an address inside of the network that the registry is in, by name, is common. Nobody's is on our machine.
    if to.host() != home.host() && Reach::of(to.host()) == Reach::Here && Reach::of(home.host()) != Reach::Here {
        return Err(LocationError::Inside(to));
    }
    Ok(url)
}

/// The token server that `registry` names, which is asked with the credentials for it (PROTOCOL §2.7; attacks A1–A3).
///
/// A registry's realm is the classic way to make a client send its password, or a request, somewhere else.
///
/// # Errors
/// [`LocationError`].
pub(crate) fn token_server(registry: &Origin, realm: &str) -> Result<Uri, LocationError> {
    let url: Uri = encode_illegal(realm.trim()).parse().map_err(|_| LocationError::Malformed(excerpt(realm)))?;
    let to = origin(&url, realm)?;
    let same_host = to.host() == registry.host();
    if !to.is_https() && (registry.is_https() || !same_host) {
        return Err(LocationError::Unencrypted(to));
    }
    if !same_host && Reach::of(to.host()) > Reach::of(registry.host()) {
        return Err(LocationError::Inside(to));
    }
    Ok(url)
}

/// The rule for URLs that must stay with the registry they came from (upload sessions, next pages): the same origin.
///
/// Two things that proxies get wrong are mended, because nobody but the registry itself can be meant: `http` from a
/// registry spoken to over `https` (a TLS terminator without forwarded headers) and a lost port.
///
/// ```
/// use registry_proto::spec::same_origin;
///
/// let asked = "https://registry.example.org/v2/app/tags/list".parse()?;
/// let next = same_origin(&asked, "http://registry.example.org/v2/app/tags/list?last=b")?;
/// assert_eq!(next, "https://registry.example.org/v2/app/tags/list?last=b", "a proxy had lost the scheme");
/// assert!(same_origin(&asked, "https://elsewhere.example/v2/app/tags/list").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`LocationError`]; nothing may be sent to such a URL.
pub fn same_origin(base: &Uri, location: &str) -> Result<Uri, LocationError> {
    let (home, url) = (origin(base, location)?, resolve(base, location)?);
    let there = origin(&url, location)?;
    if there == home {
        return Ok(url);
    }
    let default = default_port(there.is_https());
    let port_lost = there.port() == default && url.authority().is_some_and(|a| a.port().is_none());
    let explicit_default = there.port() == default && there.port() != home.port();
    let mended = there.port() == home.port()
        || port_lost
        || (explicit_default && there.is_https() == home.is_https() && home.is_https());
    if there.host() == home.host() && mended {
        if there.is_https() && !home.is_https() {
            return Err(LocationError::Foreign(there));
        }
        let path = url.path_and_query().map_or("/", PathAndQuery::as_str);
        return home.at(path).ok_or_else(|| LocationError::Malformed(excerpt(location)));
    }
    if home.is_https() && !there.is_https() {
        return Err(LocationError::Downgrade(there));
    }
    Err(LocationError::Foreign(there))
}

/// Whether a driver may connect to an address that `host`, of a URL, has resolved to (A2).
///
/// What is written as an address was looked at before, or is the user's own word. (Names on a link itself end in `.local`.)
/// That a name leads into a private network says nothing: so do those of most companies' registries.
pub(crate) fn may_connect(host: &str, address: IpAddr) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_written_out = bare.parse::<IpAddr>().is_ok() || Reach::of(host) != Reach::Anywhere;
    let is_mdns = bare.trim_end_matches('.').to_ascii_lowercase().ends_with(".local");
    let is_loopback = address.to_canonical().is_loopback();
    is_written_out || is_mdns || is_loopback || Reach::of_address(address) != Reach::Here
}

/// Front ends send whoever comes by http on to https, and mean no harm.
fn adds_only_tls(from: &Origin, to: &Origin) -> bool {
    !from.is_https() && to.is_https() && from.host() == to.host()
}

fn origin(url: &Uri, written: &str) -> Result<Origin, LocationError> {
    Origin::of(url).ok_or_else(|| LocationError::Malformed(excerpt(written)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Origin {
        Origin::of(&text.parse().unwrap()).unwrap()
    }

    fn base() -> Uri {
        "https://r.example/v2/n/blobs/uploads/".parse().unwrap()
    }

    #[test]
    fn a07_a08_c57_locations_of_every_form() {
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
        for foreign in [
            "https://evil.example/u",
            "https://r.example:8443/u",
            "http://evil.example/u",
            "//evil.example/u",
            "https://r.example.evil.example/u",
            r"https://r.example\@evil.example/u",
            r"https:\\evil.example/u",
            r"/\evil.example/u",
        ] {
            match same(foreign) {
                Err(_) => {}
                // What browsers would take for a host is a path here, as it is to those who send it.
                Ok(url) => assert_eq!(at(&url), at("https://r.example/"), "{foreign}"),
            }
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
    fn a07_a_session_stays_where_it_is() {
        let at = |home: &str, asked: &str, location: &str| {
            session(&home.parse().unwrap(), &asked.parse().unwrap(), location).map(|url| url.to_string())
        };
        let r = "https://r.example/u/1";
        assert_eq!(at(r, r, "2").unwrap(), "https://r.example/u/2");
        assert!(at(r, "https://s3.example/u/1", "2").is_err(), "a redirect has no say in it");
        assert_eq!(at(r, "https://s3.example/u/1", "https://r.example/u/2").unwrap(), "https://r.example/u/2");
        assert_eq!(at("http://r.example/u", "https://r.example/u", "/u/2").unwrap(), "https://r.example/u/2");
        assert!(at("http://r.example/u", "https://s3.example/u", "/u/2").is_err());
    }

    #[test]
    fn a10_redirects() {
        let lead = |home: &str, asked: &str, method: Method, status: u16, location: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            redirect(&at(home), &asked.parse().unwrap(), &method, status, location).map(|url| url.to_string())
        };
        let r = "https://r.example/x";
        for (status, location) in
            [(301, "https://s3.example/b"), (302, "//s3.example/b"), (307, "/y"), (303, "https://10.0.0.9/b")]
        {
            assert!(lead(r, r, Method::GET, status, location).is_ok(), "{location}");
        }
        assert!(matches!(lead(r, r, Method::GET, 307, "http://r.example/x"), Err(LocationError::Downgrade(_))));
        // On a later hop, too.
        let hop = "https://s3.example/b";
        assert!(matches!(
            lead("http://r.example/", hop, Method::GET, 307, "http://s3.example/"),
            Err(LocationError::Downgrade(_))
        ));
        // What has a body.
        assert!(lead(r, r, Method::PUT, 307, "/y").is_ok());
        assert!(lead("http://r.example/", "http://r.example/x", Method::PUT, 301, "https://r.example/x").is_ok());
        assert!(lead(r, r, Method::POST, 307, "https://r.example:444/y").is_err(), "another port is another origin");
        assert!(matches!(
            lead("http://r.example/", "http://r.example/x", Method::POST, 302, "/y"),
            Err(LocationError::Method(..))
        ));
        assert!(matches!(lead(r, r, Method::PATCH, 307, "https://s3.example/y"), Err(LocationError::Foreign(_))));
        // Closer to us than the registry.
        for inside in
            ["https://169.254.169.254/latest/", "https://localhost/", "https://[::1]:8080/", "https://2130706433/"]
        {
            assert!(matches!(lead(r, r, Method::GET, 307, inside), Err(LocationError::Inside(_))), "{inside}");
            assert!(lead("https://127.0.0.1:5000/", "https://127.0.0.1:5000/x", Method::GET, 307, inside).is_ok());
        }
    }

    #[test]
    fn a01_a03_c18_realms_that_are_refused() {
        let registry = at("https://r.example/");
        for realm in [
            "http://t.example/",
            "http://r.example/",
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
            "https://localhost./token",
            "ftp://t.example/",
            "token",
            "",
        ] {
            assert!(token_server(&registry, realm).is_err(), "{realm}");
        }
        assert!(token_server(&registry, "https://auth.example/token?x=y").is_ok());
        assert!(token_server(&registry, "https://8.8.8.8/token").is_ok());
    }

    #[test]
    fn c19_a_realm_beside_a_private_registry_is_allowed() {
        assert!(token_server(&at("https://10.0.0.5:5000/"), "https://10.0.0.5:5001/token").is_ok());
        assert!(token_server(&at("https://10.0.0.5:5000/"), "https://10.0.0.6/token").is_ok());
        assert!(token_server(&at("http://127.0.0.1:5000/"), "http://127.0.0.1:5001/token").is_ok());
        assert!(token_server(&at("http://127.0.0.1:5000/"), "http://t.example/token").is_err());
        assert!(token_server(&at("https://10.0.0.5:5000/"), "https://169.254.169.254/").is_err(), "closer still");
    }

    #[test]
    fn a02_what_a_name_may_resolve_to() {
        let may = |host: &str, address: &str| may_connect(host, address.parse().unwrap());
        assert!(may("r.example", "8.8.8.8") && may("r.corp", "10.0.0.5") && may("r.corp", "fd00::5"));
        assert!(may("r.test", "127.0.0.1") && may("localhost", "::1"), "/etc/hosts");
        assert!(may("printer.local", "169.254.7.7") && may("printer.local.", "fe80::7"));
        assert!(may("169.254.7.7", "169.254.7.7") && may("[fe80::7]", "fe80::7"), "somebody wrote it down");
        for metadata in ["169.254.169.254", "fe80::a9fe:a9fe", "0.0.0.0", "::", "::ffff:169.254.169.254"] {
            assert!(!may("r.example", metadata), "{metadata}");
        }
    }
}
