//! Proxies: which origin is reached by way of which, as plain data. Whoever opens sockets asks for a [`Tunnel`].
//!
//! ```text
//!   environment ─▶ Proxies ─ tunnel_to(url) ─┬─ none ──▶ connect to the URL's host
//!                                            └─ Tunnel ─▶ connect to the proxy ─ CONNECT host:port ─ 200 ─▶ as if it were the host
//! ```
//!
//! Everything goes by `CONNECT`, `http` as well as `https`. So a request is the same with a proxy and without; its credentials and
//! the proxy's are never in the same message; what answers is the registry, never the proxy in its place; and all runtimes do it
//! in the same place, where they connect. What that costs: there are proxies that let `CONNECT` through to port 443 only, and
//! their operator has to allow the port of a registry that is spoken to by `http`.

mod address;
mod exceptions;
mod tunnel;

use http::Uri;

pub use address::{Proxy, ProxyError};
pub use tunnel::Tunnel;

use crate::job::{Failure, FailureKind, ProxyFault};
use crate::spec::Origin;
use exceptions::Exceptions;

/// By way of which proxies origins are reached: registries, and the token servers and storage that they lead to. By default,
/// none.
///
/// This machine itself (`localhost`, names below it, loopback addresses) is reached without, if nothing else is asked for.
///
/// ```
/// use registry_proto::{Config, Proxies};
///
/// let mut config = Config::default();
/// config.proxies = Proxies::all("http://proxy.corp:3128".parse()?).except("corp, 10.0.0.0/8");
/// # Ok::<(), registry_proto::ProxyError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Result<Proxy, Unusable>>,
    https: Option<Result<Proxy, Unusable>>,
    except: Exceptions,
    loopback: bool,
}

/// What a variable names that is no proxy, or none that anybody here can talk to. That is only an error for what would go
/// there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unusable {
    variable: &'static str,
    why: ProxyError,
}

impl Proxies {
    /// One proxy for everything.
    pub fn all(proxy: Proxy) -> Self {
        Self::default().http(proxy.clone()).https(proxy)
    }

    /// What the environment says, in the words that `curl` and Docker know. `variable` looks one up; the core itself reads no
    /// environment.
    ///
    /// | variable | what it names |
    /// | --- | --- |
    /// | `https_proxy`, `HTTPS_PROXY` | the proxy to `https` origins |
    /// | `http_proxy` | the proxy to `http` origins. Not `HTTP_PROXY`: in a CGI program, that is a header of whoever asks |
    /// | `all_proxy`, `ALL_PROXY` | the proxy to origins for which neither of them says anything |
    /// | `no_proxy`, `NO_PROXY` | who is reached without; see [`Proxies::except`] |
    ///
    /// The first that is set and not empty counts. What can't be used (`socks5://…`, `https://…`) is no error until a request
    /// would have to go there.
    ///
    /// ```
    /// use registry_proto::Proxies;
    ///
    /// let proxies = Proxies::from_env(|variable| std::env::var(variable).ok());
    /// # let _ = proxies;
    /// ```
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let proxy = |names: &[&'static str]| {
            let (variable, value) = names.iter().find_map(|name| Some((*name, value(name)?)))?;
            Some(value.parse().map_err(|why| Unusable { variable, why }))
        };
        Self {
            http: proxy(&["http_proxy", "all_proxy", "ALL_PROXY"]),
            https: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            except: Exceptions::parse(&value("no_proxy").or_else(|| value("NO_PROXY")).unwrap_or_default()),
            loopback: false,
        }
    }

    /// The proxy to `http` origins.
    #[must_use]
    pub fn http(mut self, proxy: Proxy) -> Self {
        self.http = Some(Ok(proxy));
        self
    }

    /// The proxy to `https` origins.
    #[must_use]
    pub fn https(mut self, proxy: Proxy) -> Self {
        self.https = Some(Ok(proxy));
        self
    }

    /// Who is reached without a proxy, in the words of `no_proxy`: entries with commas or spaces between them, each
    ///
    /// | entry | whom it means |
    /// | --- | --- |
    /// | `*` | everybody |
    /// | `corp.example` | this host and all below it |
    /// | `.corp.example`, `*.corp.example` | all below it |
    /// | `10.0.0.5`, `::1`, `10.0.0.0/8`, `fd00::/8` | hosts that are written as these addresses; names are not looked up for it |
    /// | any name or address with `:PORT` | this port only |
    ///
    /// What is none of these means nobody.
    #[must_use]
    pub fn except(mut self, no_proxy: &str) -> Self {
        self.except = Exceptions::parse(no_proxy);
        self
    }

    /// Reaches this machine itself by way of the proxy, too.
    #[must_use]
    pub const fn with_loopback(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// How a driver gets to where this URL leads: through a tunnel, or (`None`) straight.
    ///
    /// # Errors
    /// [`FailureKind::Proxy`] when the way would lead through something that is no proxy, or none that can be talked to.
    pub fn tunnel_to(&self, url: &Uri) -> Result<Option<Tunnel>, Failure> {
        let Some(to) = Origin::of(url) else { return Ok(None) };
        match self.way_to(&to) {
            None => Ok(None),
            Some(Ok(proxy)) => Ok(Some(Tunnel::new(proxy, to))),
            Some(Err(Unusable { variable, why })) => {
                let why = format_args!("the one that {variable} names, for {to}: {why}");
                Err(Failure::new(FailureKind::Proxy(ProxyFault::Unusable), why))
            }
        }
    }

    fn way_to(&self, to: &Origin) -> Option<&Result<Proxy, Unusable>> {
        let proxy = if to.is_https() { &self.https } else { &self.http };
        let is_direct = to.is_loopback() && !self.loopback || self.except.hold(to);
        proxy.as_ref().filter(|_| !is_direct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(variables: &[(&str, &str)]) -> Proxies {
        let found = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Proxies::from_env(|name| found(name).map(|(_, value)| (*value).to_owned()))
    }

    /// The proxy on the way to a URL; `-` for none.
    fn way(proxies: &Proxies, url: &str) -> String {
        match proxies.tunnel_to(&url.parse().unwrap()) {
            Ok(tunnel) => tunnel.map_or_else(|| "-".to_owned(), |tunnel| tunnel.url().to_string()),
            Err(why) => why.to_string(),
        }
    }

    const HTTP: &str = "http://r.example/v2/";
    const HTTPS: &str = "https://r.example/v2/";

    #[test]
    fn which_variable_counts() {
        let (p, q, all) = ("http://p:1/", "http://q:2/", "http://a:3/");
        for (variables, http, https) in [
            (&[][..], "-", "-"),
            (&[("http_proxy", p)], p, "-"),
            (&[("HTTP_PROXY", p)], "-", "-"),
            (&[("https_proxy", p)], "-", p),
            (&[("HTTPS_PROXY", p)], "-", p),
            (&[("https_proxy", p), ("HTTPS_PROXY", q)], "-", p),
            (&[("http_proxy", p), ("https_proxy", q), ("all_proxy", all)], p, q),
            (&[("all_proxy", all)], all, all),
            (&[("ALL_PROXY", all)], all, all),
            (&[("http_proxy", p), ("ALL_PROXY", all)], p, all),
            (&[("http_proxy", ""), ("https_proxy", " "), ("all_proxy", all)], all, all),
            (&[("all_proxy", all), ("no_proxy", "*")], "-", "-"),
            (&[("all_proxy", all), ("no_proxy", ""), ("NO_PROXY", "example")], "-", "-"),
            (&[("all_proxy", all), ("no_proxy", "other"), ("NO_PROXY", "example")], all, all),
        ] {
            let proxies = env(variables);
            assert_eq!(
                (way(&proxies, HTTP), way(&proxies, HTTPS)),
                (http.to_owned(), https.to_owned()),
                "{variables:?}"
            );
        }
    }

    #[test]
    fn this_machine_is_reached_without() {
        let proxies = env(&[("all_proxy", "p:1")]);
        for here in [
            "http://localhost:5000/",
            "https://LOCALHOST./",
            "http://a.localhost/",
            "http://127.0.0.1:5000/",
            "https://127.8.9.10/",
            "http://[::1]:5000/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert_eq!(way(&proxies, here), "-", "{here}");
            assert_eq!(way(&proxies.clone().with_loopback(), here), "http://p:1/", "{here}");
        }
        for elsewhere in ["http://localhost.example/", "http://notlocalhost/", "http://10.0.0.1/", "http://[::2]/"] {
            assert_eq!(way(&proxies, elsewhere), "http://p:1/", "{elsewhere}");
        }
        assert_eq!(way(&proxies.with_loopback().except("localhost"), "http://localhost:5000/"), "-");
    }

    #[test]
    fn what_is_no_proxy_is_an_error_for_what_would_go_there() {
        let proxies = env(&[("http_proxy", "p:1"), ("all_proxy", "socks5://me:hunter2@p:1080"), ("no_proxy", "corp")]);
        assert_eq!(way(&proxies, HTTP), "http://p:1/");
        assert_eq!(way(&proxies, "https://r.corp/"), "-");
        assert_eq!(way(&proxies, "https://localhost/"), "-");
        let failure = proxies.tunnel_to(&HTTPS.parse().unwrap()).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Proxy(ProxyFault::Unusable));
        let why = failure.to_string();
        assert!(why.contains("all_proxy") && why.contains("`socks5`") && why.contains("https://r.example"), "{why}");
        assert!(!format!("{why} {proxies:?}").contains("hunter2"), "{why} {proxies:?}");
        assert!(!failure.is_transient() && failure.sent_nothing());
    }

    #[test]
    fn a42_proxies_are_shown_without_their_credentials() {
        let proxies = env(&[("all_proxy", "http://me:hunter2@p:3128")]);
        let tunnel = proxies.tunnel_to(&HTTPS.parse().unwrap()).unwrap().unwrap();
        let shown = format!("{proxies:?} {tunnel:?} {}", tunnel.url());
        assert!(!shown.contains("hunter2") && !shown.contains("bWU6aHVudGVyMg"), "{shown}");
    }
}
