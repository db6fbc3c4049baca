//! TLS, set up when somebody first speaks it.
//!
//! Reading the authorities that the operating system trusts takes some milliseconds: longer than many a whole operation on a
//! registry nearby, which may well be spoken to without encryption.

use std::fmt::Display;
use std::sync::Arc;

use registry_proto::job::{Failure, no_authorities};
use registry_proto::{ClientIdentity, Error, TlsConfig};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier};

/// How TLS is to be spoken.
#[derive(Debug)]
pub(crate) struct Tls {
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    /// Authorities that are trusted beside those of the operating system.
    roots: RootCertStore,
    /// What is shown to servers that ask.
    identity: Option<Arc<SingleCertAndKey>>,
    /// Whether any certificate will do.
    unverified: bool,
}

impl Tls {
    /// As it is configured.
    ///
    /// # Errors
    /// [`Error::Misuse`] when a certificate or key is none, or they don't belong together.
    pub(crate) fn new(config: &TlsConfig) -> Result<Self, Error> {
        let mut trusted = RootCertStore::empty();
        for root in &config.authorities {
            let added = trusted.add(root.clone().into());
            added.map_err(|why| Error::Misuse(format!("a root certificate can't be used: {why}")))?;
        }
        // Named outright: where another crate compiles in a second provider, the implicit choice panics.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = config.identity.as_ref().map(|identity| certified(identity, &provider)).transpose()?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| Error::Misuse(format!("TLS can't be set up: {why}")))?;
        Ok(Self { builder, roots: trusted, identity, unverified: config.unverified })
    }

    /// Reads what the operating system trusts, where that matters.
    ///
    /// # Errors
    /// When there is nobody to trust.
    pub(crate) fn config(&self) -> Result<ClientConfig, Failure> {
        let builder = self.builder.clone();
        let builder = if self.unverified {
            let schemes = builder.crypto_provider().signature_verification_algorithms.supported_schemes();
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(schemes)))
        } else {
            let mut roots = self.roots.clone();
            let native = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(native.certs);
            if roots.is_empty() {
                return Err(no_authorities(native.errors.first()));
            }
            builder.with_root_certificates(roots)
        };
        Ok(match &self.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::clone(identity) as Arc<dyn ResolvesClientCert>),
            None => builder.with_no_client_auth(),
        })
    }
}

/// What is shown to servers that ask, if it can be.
fn certified(identity: &ClientIdentity, provider: &CryptoProvider) -> Result<Arc<SingleCertAndKey>, Error> {
    let wrong = |why: &dyn Display| Error::Misuse(format!("the client certificate and its key can't be used: {why}"));
    let chain: Vec<_> = identity.chain().iter().cloned().map(CertificateDer::from).collect();
    if chain.is_empty() {
        return Err(wrong(&"there is no certificate"));
    }
    let key = PrivateKeyDer::try_from(identity.expose_key().to_vec()).map_err(|why| wrong(&why))?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|why| wrong(&why))?;
    Ok(Arc::new(key.into()))
}

/// Takes whatever it is shown: what [`TlsConfig::unverified`] says.
#[derive(Debug)]
struct AnyCertificate(Vec<SignatureScheme>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
