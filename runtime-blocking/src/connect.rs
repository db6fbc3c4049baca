//! The ureq agents: connections, TLS and the pool.

use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, Uri};
use registry_proto::job::{Failure, FailureKind, Phase, Stage};
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
    /// The most bytes of a reply's head, and the most headers.
    head: usize,
    headers: usize,
    proxies: Arc<Proxies>,
    plain: Agent,
    encrypted: OnceLock<Result<Agent, Failure>>,
}

impl Agents {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let (per_host, head, headers) = (config.requests_per_registry.get(), config.limits.head, config.limits.headers);
        let tls = Tls::new(&config.tls)?;
        let proxies = Arc::new(config.proxies.clone());
        let plain = agent(per_host, head, unused(), &proxies);
        Ok(Self { per_host, head, headers, tls, proxies, plain, encrypted: OnceLock::new() })
    }

    /// The one for a URL.
    pub(crate) fn to(&self, uri: &Uri) -> Result<&Agent, Failure> {
        if uri.scheme() == Some(&Scheme::HTTP) {
            return Ok(&self.plain);
        }
        let agent = || Ok(agent(self.per_host, self.head, self.tls.config()?, &self.proxies));
        self.encrypted.get_or_init(agent).as_ref().map_err(Clone::clone)
    }

    /// ureq takes so many headers of a reply as it likes (128), and no number of ours.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        if headers.len() <= self.headers {
            return Ok(());
        }
        Err(Failure::new(FailureKind::TooLarge, format_args!("more than {} headers", self.headers)))
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
        Error::LargeResponseHeader(..) => FailureKind::TooLarge,
        // (Which of its crate's errors it is, only that crate's users could say.)
        Error::Protocol(why) if why.to_string().contains("too many headers") => FailureKind::TooLarge,
        Error::Protocol(_) | Error::Http(_) => FailureKind::Protocol,
        _ => FailureKind::Cut,
    };
    Failure::new(kind, error)
}

/// What an error of reading or writing means, once there is a connection.
pub(crate) fn failure_of_io(error: &io::Error) -> Failure {
    inside(error).unwrap_or_else(|| Failure::new(Stage::Exchanging.kind_of(error.kind()), error))
}

/// An error from before there was a connection: afterwards, nobody could tell it from one on the way.
pub(crate) fn unconnected(stage: Stage, why: ureq::Error) -> ureq::Error {
    match why {
        ureq::Error::Io(why) if inside(&why).is_none() => {
            io::Error::other(Failure::new(stage.kind_of(why.kind()), why)).into()
        }
        why => why,
    }
}

/// What is wrapped in an error of reading or writing, if that says more: our own, ureq's, and those of TLS come this way.
fn inside(error: &io::Error) -> Option<Failure> {
    let inner = error.get_ref()?;
    if let Some(failure) = inner.downcast_ref::<Failure>() {
        return Some(failure.clone());
    }
    if let Some(why) = inner.downcast_ref::<ureq::Error>() {
        return Some(match why {
            ureq::Error::Timeout(_) => Failure::new(FailureKind::Timeout(Phase::Body), ""),
            why => failure_of(why),
        });
    }
    let mut source: Option<&(dyn StdError + 'static)> = Some(inner);
    while let Some(why) = source {
        if why.downcast_ref::<rustls::Error>().is_some() {
            return Some(Failure::new(FailureKind::Tls, why));
        }
        source = why.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_not_connect_has_sent_nothing() {
        use io::ErrorKind::{AddrNotAvailable, ConnectionReset, HostUnreachable, PermissionDenied};
        for kind in [HostUnreachable, AddrNotAvailable, ConnectionReset, PermissionDenied] {
            assert_eq!(failure_of(&ureq::Error::Io(kind.into())).kind(), FailureKind::Cut, "{kind}");
            let before = unconnected(Stage::Connecting, ureq::Error::Io(kind.into()));
            assert_eq!(failure_of(&before).kind(), FailureKind::Connect, "{kind}");
        }
        // What somebody has said more exactly holds.
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        assert_eq!(failure_of(&unconnected(Stage::Handshaking, tls.into())).kind(), FailureKind::Tls);
        let aborted = io::Error::other(crate::perform::aborted());
        assert_eq!(failure_of(&unconnected(Stage::Connecting, aborted.into())).kind(), FailureKind::Cut);
    }
}
