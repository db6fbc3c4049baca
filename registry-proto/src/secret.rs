//! Values that can't be printed.

use std::fmt;

/// A password or token. `Debug` shows nothing of it, there is no `Display`, and it can't be serialised.
///
/// ```
/// use registry_proto::Secret;
///
/// assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes charge of a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for whoever hands it to a credential helper or writes it to a file that only its owner can read.
    /// Nothing else has business with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a user may show to a registry or to its token server.
///
/// ```
/// use registry_proto::Credential;
///
/// let credential = Credential::password("user", "hunter2");
/// assert!(!format!("{credential:?}").contains("hunter2"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// A name and a password (or a personal access token in its place).
    Password {
        /// The user's name; it may appear in messages.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An OAuth2 refresh token, which the registry's token server exchanges for tokens. The registry itself never sees it.
    /// Docker's configuration calls it `identitytoken`, credential helpers hand it out for the user `<token>`.
    IdentityToken(Secret),
    /// A token that the registry takes as it is, without a token server; Docker's configuration calls it `registrytoken`.
    RegistryToken(Secret),
}

impl Credential {
    /// A name and a password.
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { username: username.into(), password: Secret::new(password) }
    }

    /// The value of an `Authorization: Basic` header (RFC 7617). `None` when the name holds a colon, which it can't, and for
    /// tokens, which are no passwords.
    pub(crate) fn basic(&self) -> Option<http::HeaderValue> {
        use base64::Engine as _;
        let Self::Password { username, password } = self else { return None };
        if username.contains(':') {
            return None;
        }
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{}", password.expose()));
        sensitive(&format!("Basic {pair}"))
    }

    /// The value of an `Authorization: Bearer` header, of a token that the registry takes as it is.
    pub(crate) fn bearer(&self) -> Option<http::HeaderValue> {
        let Self::RegistryToken(token) = self else { return None };
        sensitive(&format!("Bearer {}", token.expose()))
    }
}

fn sensitive(text: &str) -> Option<http::HeaderValue> {
    let mut value = http::HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_credential_goes_where_it_belongs() {
        let password = Credential::password("user", "hunter2");
        assert_eq!(password.basic().unwrap(), "Basic dXNlcjpodW50ZXIy");
        assert_eq!(password.bearer(), None);
        assert_eq!(Credential::password("a:b", "c").basic(), None);
        let identity = Credential::IdentityToken(Secret::new("refresh"));
        assert_eq!((identity.basic(), identity.bearer()), (None, None), "A30: a refresh token is no password");
        let ready = Credential::RegistryToken(Secret::new("ready"));
        assert_eq!((ready.basic(), ready.bearer()), (None, Some("Bearer ready".parse().unwrap())));
        assert_eq!(Credential::RegistryToken(Secret::new("a\r\nb: c")).bearer(), None, "A5");
        let shown = format!("{password:?} {identity:?} {ready:?} {:?} {:?}", password.basic(), ready.bearer());
        assert!(!["hunter2", "dXNlc", "refresh", "ready"].iter().any(|secret| shown.contains(secret)), "{shown}");
    }
}
