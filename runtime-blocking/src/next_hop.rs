//! Whose address is looked up: the registry's, or that of the proxy on the way to it.

use std::io;
use std::sync::Arc;

use http::Uri;
use registry_proto::Proxies;
use registry_proto::job::{Failure, FailureKind};
use ureq::Error;
use ureq::config::Config;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::connect::failure_of;

/// The system's names, of whoever is connected to. What is behind a proxy, the proxy looks up.
#[derive(Debug)]
pub(crate) struct NextHop {
    names: DefaultResolver,
    proxies: Arc<Proxies>,
}

impl NextHop {
    pub(crate) fn new(proxies: &Arc<Proxies>) -> Self {
        Self { names: DefaultResolver::default(), proxies: Arc::clone(proxies) }
    }
}

impl Resolver for NextHop {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let Some(tunnel) = self.proxies.tunnel_to(uri).map_err(io::Error::other)? else {
            return self.names.resolve(uri, config, timeout).map_err(|why| match why {
                // Else it would look as if there had been a connection.
                Error::Io(why) => io::Error::other(Failure::new(FailureKind::Connect, why)).into(),
                why => why,
            });
        };
        let found = self.names.resolve(tunnel.url(), config, timeout);
        found.map_err(|why| io::Error::other(tunnel.unreachable(&failure_of(&why))).into())
    }
}
