//! TLS, set up when somebody first speaks it.
//!
//! Reading the authorities that the operating system trusts takes some milliseconds: longer than many a whole operation on a
//! registry nearby, which may well be spoken to without encryption.

use std::sync::{Arc, OnceLock};

use futures_rustls::TlsConnector;
use futures_rustls::rustls::{
    self, ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier, pki_types::CertificateDer,
};
use registry_proto::Error;

/// How TLS is to be spoken.
#[derive(Debug)]
pub(crate) struct Tls {
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    /// Authorities that are trusted beside those of the operating system.
    roots: RootCertStore,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// Trusting these authorities, too.
    pub(crate) fn new(roots: Vec<CertificateDer<'static>>) -> Result<Self, Error> {
        let mut trusted = RootCertStore::empty();
        for root in roots {
            trusted.add(root).map_err(|why| Error::Misuse(format!("a root certificate can't be used: {why}")))?;
        }
        // Named outright: where another crate compiles in a second provider, the implicit choice panics.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| Error::Misuse(format!("TLS can't be set up: {why}")))?;
        Ok(Self { builder, roots: trusted, config: OnceLock::new() })
    }

    /// What connects with TLS. The first time, it reads what the operating system trusts.
    pub(crate) async fn connector(self: Arc<Self>) -> TlsConnector {
        let config = match self.config.get() {
            Some(config) => Arc::clone(config),
            // Files are read for it.
            None => async_std::task::spawn_blocking(move || self.read()).await,
        };
        TlsConnector::from(config)
    }

    fn read(&self) -> Arc<ClientConfig> {
        let read = || {
            let mut roots = self.roots.clone();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            let config = self.builder.clone().with_root_certificates(roots).with_no_client_auth();
            #[cfg(feature = "http2")]
            let config = with_http2(config);
            Arc::new(config)
        };
        Arc::clone(self.config.get_or_init(read))
    }
}

#[cfg(feature = "http2")]
fn with_http2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
