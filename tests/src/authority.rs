//! A certificate authority of the tests' own, which nobody else trusts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use registry_proto::ClientIdentity;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// The name of a registry that only a proxy can find.
pub const NAME: &str = "registry.test";

/// The authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a server on this machine shows, signed by an [`Authority`].
pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When no key can be made.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the tests' authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate, in DER: what a client has to trust.
    pub fn root(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// Its certificate, in PEM.
    pub fn root_pem(&self) -> String {
        self.0.pem()
    }

    /// What a server at 127.0.0.1, or by [`NAME`], shows.
    ///
    /// # Panics
    /// When no key can be made.
    pub fn identity(&self) -> Identity {
        let params = CertificateParams::new(["127.0.0.1", "localhost", NAME].map(str::to_owned)).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate, key }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Identity {
    /// For servers in this process.
    ///
    /// # Panics
    /// When certificate and key don't fit each other.
    pub fn server_config(&self) -> ServerConfig {
        server_config(self.certificate.der().clone(), self.key.serialize_der())
    }

    /// For servers in other processes: the files of certificate and key, both PEM.
    ///
    /// # Panics
    /// When they can't be written.
    pub fn files(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
        std::fs::write(&certificate, self.certificate.pem()).unwrap();
        std::fs::write(&key, self.key.serialize_pem()).unwrap();
        (certificate, key)
    }
}

impl Identity {
    /// For clients, to whom a certificate is the same.
    pub fn of_a_client(&self) -> ClientIdentity {
        ClientIdentity::new(vec![self.certificate.der().to_vec()], self.key.serialize_der())
    }

    /// As [`server_config`](Self::server_config), for servers that speak to nobody whom this authority doesn't know.
    ///
    /// # Panics
    /// When certificate and key don't fit each other.
    pub fn server_config_for_clients_of(&self, authority: &Authority) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        roots.add(authority.root().into()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![self.certificate.der().clone()],
                PrivateKeyDer::try_from(self.key.serialize_der()).unwrap(),
            )
            .unwrap()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// TLS for a server that has this certificate and key, both DER.
pub(crate) fn server_config(certificate: CertificateDer<'static>, key: Vec<u8>) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key).unwrap())
        .unwrap()
}
