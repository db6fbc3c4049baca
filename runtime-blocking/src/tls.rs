//! TLS as ureq is told to speak it.

use std::fmt::Display;
use std::sync::Arc;

use base64::Engine as _;
use registry_proto::job::{Failure, no_authorities};
use registry_proto::{ClientIdentity, Error, TlsConfig};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts};

/// How TLS is to be spoken.
#[derive(Debug)]
pub(crate) struct Tls {
    /// Authorities that are trusted beside those of the operating system.
    roots: Vec<Certificate<'static>>,
    /// What is shown to servers that ask.
    identity: Option<ClientCert>,
    /// Whether any certificate will do.
    unverified: bool,
}

impl Tls {
    /// As it is configured. ureq skips what it can't read of authorities, and panics over a key: so all is looked at here.
    ///
    /// # Errors
    /// [`Error::Misuse`] when a certificate or key is none, or they don't belong together.
    pub(crate) fn new(config: &TlsConfig) -> Result<Self, Error> {
        for root in &config.authorities {
            let readable = RootCertStore::empty().add(root.clone().into());
            readable.map_err(|why| Error::Misuse(format!("a root certificate can't be used: {why}")))?;
        }
        let roots = config.authorities.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        let identity = config.identity.as_ref().map(certified).transpose()?;
        Ok(Self { roots, identity, unverified: config.unverified })
    }

    /// Reads what the operating system trusts, where that matters.
    ///
    /// # Errors
    /// When there is nobody to trust.
    pub(crate) fn config(&self) -> Result<ureq::tls::TlsConfig, Failure> {
        let mut roots = self.roots.clone();
        if !self.unverified {
            let native = rustls_native_certs::load_native_certs();
            roots.extend(native.certs.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()));
            if roots.is_empty() {
                return Err(no_authorities(native.errors.first()));
            }
        }
        let config = ureq::tls::TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(self.identity.clone())
            .disable_verification(self.unverified)
            .unversioned_rustls_crypto_provider(provider())
            .build();
        Ok(config)
    }
}

/// For connections that are not encrypted.
pub(crate) fn unused() -> ureq::tls::TlsConfig {
    ureq::tls::TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[])).build()
}

/// Named outright: where another crate compiles in a second one, the implicit choice panics.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What is shown to servers that ask, if it can be.
fn certified(identity: &ClientIdentity) -> Result<ClientCert, Error> {
    let wrong = |why: &dyn Display| Error::Misuse(format!("the client certificate and its key can't be used: {why}"));
    let chain: Vec<CertificateDer<'static>> = identity.chain().iter().cloned().map(CertificateDer::from).collect();
    if chain.is_empty() {
        return Err(wrong(&"there is no certificate"));
    }
    let key = PrivateKeyDer::try_from(identity.expose_key().to_vec()).map_err(|why| wrong(&why))?;
    let label = match &key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    CertifiedKey::from_der(chain, key, &provider()).map_err(|why| wrong(&why))?;
    // ureq's kinds of keys have no name that others could say; in PEM the key says itself which it is.
    let encoded = base64::engine::general_purpose::STANDARD.encode(identity.expose_key());
    let pem = format!("-----BEGIN {label}-----\n{encoded}\n-----END {label}-----\n");
    // ureq's error could quote what it can't read.
    let key = PrivateKey::from_pem(pem.as_bytes()).map_err(|_| wrong(&"the key is of no kind that is known"))?;
    let chain: Vec<_> = identity.chain().iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(ClientCert::new_with_certs(&chain, key))
}
