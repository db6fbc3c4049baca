//! The ureq agents: connections, TLS and the pool.

use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use registry_proto::job::{Failure, FailureKind, Phase};
use registry_proto::{Config, Error, Proxies};
use ureq::Agent;
use ureq::tls::TlsConfig;

use crate::next_hop::NextHop;
use crate::socket::connector;
use crate::tls::{Tls, unused};

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// What is read from a socket at a time, at most. Only what was ever read takes memory.
const INPUT: usize = 256 << 10;

/// What every operation of a client sends through: an agent for http, and another for https, once it is needed.
///
/// Reading the authorities that the operating system trusts takes some milliseconds: longer than many a whole operation on a
/// registry nearby, which may well be spoken to without encryption.
#[derive(Debug)]
pub(crate) struct Agents {
    per_host: usize,
    tls: Tls,
    /// The most bytes of a reply's head.
    head: usize,
    proxies: Arc<Proxies>,
    plain: Agent,
    encrypted: OnceLock<Agent>,
}

impl Agents {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let (per_host, head) = (config.requests_per_registry.get(), config.limits.head);
        let tls = Tls::new(&config.tls)?;
        let proxies = Arc::new(config.proxies.clone());
        let plain = agent(per_host, head, unused(), &proxies);
        Ok(Self { per_host, head, tls, proxies, plain, encrypted: OnceLock::new() })
    }

    /// The one for a URL.
    pub(crate) fn to(&self, uri: &Uri) -> &Agent {
        if uri.scheme() == Some(&Scheme::HTTP) {
            return &self.plain;
        }
        self.encrypted.get_or_init(|| agent(self.per_host, self.head, self.tls.config(), &self.proxies))
    }
}

/// An agent that does what it is told and nothing else: no redirects, no decompression, no cookies, statuses as replies. Of its own
/// proxies there are none: it would look for them in the environment, and resolve names that only they know.
fn agent(per_host: usize, head: usize, tls: TlsConfig, proxies: &Arc<Proxies>) -> Agent {
    let settings = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent("")
        .accept("")
        .accept_encoding("")
        .max_response_header_size(head)
        .input_buffer_size(INPUT)
        .max_idle_connections(per_host * 4)
        .max_idle_connections_per_host(per_host)
        .max_idle_age(IDLE)
        .tls_config(tls)
        .build();
    Agent::with_parts(settings, connector(proxies), NextHop::new(proxies))
}

/// What an error of ureq's means to the core.
pub(crate) fn failure_of(error: &ureq::Error) -> Failure {
    use ureq::{Error, Timeout};
    let kind = match error {
        Error::Timeout(Timeout::Connect | Timeout::Resolve) => FailureKind::Timeout(Phase::Connect),
        Error::Timeout(Timeout::RecvResponse) => FailureKind::Timeout(Phase::Head),
        Error::Timeout(_) => FailureKind::Timeout(Phase::Body),
        Error::HostNotFound | Error::ConnectionFailed => FailureKind::Connect,
        Error::Io(why) => return failure_of_io(why),
        Error::Tls(_) | Error::Rustls(_) => FailureKind::Tls,
        Error::Protocol(_) | Error::Http(_) | Error::LargeResponseHeader(..) => FailureKind::Protocol,
        _ => FailureKind::Cut,
    };
    Failure::new(kind, error)
}

/// What an error of reading or writing means; ureq's own errors come wrapped in these, too.
pub(crate) fn failure_of_io(error: &io::Error) -> Failure {
    if let Some(inner) = error.get_ref() {
        if let Some(failure) = inner.downcast_ref::<Failure>() {
            return failure.clone();
        }
        if let Some(why) = inner.downcast_ref::<ureq::Error>() {
            return match why {
                ureq::Error::Timeout(_) => Failure::new(FailureKind::Timeout(Phase::Body), ""),
                why => failure_of(why),
            };
        }
        if inner.downcast_ref::<rustls::Error>().is_some() {
            return Failure::new(FailureKind::Tls, inner);
        }
        let mut source = inner.source();
        while let Some(why) = source {
            if why.downcast_ref::<rustls::Error>().is_some() {
                return Failure::new(FailureKind::Tls, why);
            }
            source = StdError::source(why);
        }
    }
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    let kind = match error.kind() {
        ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable => FailureKind::Connect,
        TimedOut => FailureKind::Timeout(Phase::Body),
        io::ErrorKind::InvalidData => FailureKind::Protocol,
        _ => FailureKind::Cut,
    };
    Failure::new(kind, error)
}
