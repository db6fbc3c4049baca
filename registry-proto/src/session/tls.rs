//! What drivers are told about TLS. How it is spoken is theirs; this is plain data.

use std::fmt;

/// Who is believed to be a registry, and what is shown to those that want to know who asks.
///
/// ```
/// use registry_proto::Config;
///
/// # let der = || vec![0x30, 0x82];
/// let mut config = Config::default();
/// config.tls.authorities.push(der()); // of the company, beside the system's
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Certificate authorities that are trusted beside those of the operating system; each in DER.
    pub authorities: Vec<Vec<u8>>,
    /// What is shown to servers that ask for a certificate (mutual TLS).
    pub identity: Option<ClientIdentity>,
    /// Takes any certificate, whoever it is of. Anybody on the way can then pretend to be the registry, and gets what is shown to
    /// it: passwords, tokens, images. Each origin that is spoken to like that is announced by an
    /// [`Event::Notice`](crate::Event::Notice).
    pub unverified: bool,
}

/// Without the certificates, of which nobody wants to see the bytes.
impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("authorities", &self.authorities.len())
            .field("identity", &self.identity)
            .field("unverified", &self.unverified)
            .finish()
    }
}

/// A client certificate and the key that belongs to it. `Debug` shows nothing of the key.
///
/// ```
/// use registry_proto::session::ClientIdentity;
///
/// # let (certificate, key) = (vec![0x30, 0x82], vec![0x30, 0x81]);
/// let identity = ClientIdentity::new(vec![certificate], key);
/// assert_eq!(format!("{identity:?}"), "ClientIdentity(1 certificates, …)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

impl ClientIdentity {
    /// `chain`: the certificate, and then those that lead from it to an authority. `key`: PKCS#8, PKCS#1 or SEC1. All in DER. Whether
    /// they are what they should be, and belong together, is found out when a client is built.
    pub const fn new(chain: Vec<Vec<u8>>, key: Vec<u8>) -> Self {
        Self { chain, key }
    }

    /// The certificates in DER, its own first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The key in DER: for the driver that speaks TLS. Nobody else has business with it.
    pub fn expose_key(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientIdentity({} certificates, …)", self.chain.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_not_shown() {
        let identity = Some(ClientIdentity::new(vec![vec![1]], vec![77, 78]));
        let shown = format!("{:?}", TlsConfig { identity, ..TlsConfig::default() });
        assert_eq!(
            shown,
            "TlsConfig { authorities: 0, identity: Some(ClientIdentity(1 certificates, …)), unverified: false }"
        );
    }
}
