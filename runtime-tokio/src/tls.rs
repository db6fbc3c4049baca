//! TLS, set up when somebody first speaks it.
//!
//! Reading the authorities that the operating system trusts takes some milliseconds: longer than many a whole operation on a
//! registry nearby, which may well be spoken to without encryption.

use std::sync::Arc;

use registry_proto::Error;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

/// How TLS is to be spoken.
#[derive(Debug)]
pub(crate) struct Tls {
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    /// Authorities that are trusted beside those of the operating system.
    roots: RootCertStore,
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
        Ok(Self { builder, roots: trusted })
    }

    /// Reads what the operating system trusts.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut roots = self.roots.clone();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        self.builder.clone().with_root_certificates(roots).with_no_client_auth()
    }
}
