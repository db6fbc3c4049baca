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

    /// The secret itself, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a user may show to a registry or to its token server.
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
}

impl Credential {
    /// A name and a password.
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { username: username.into(), password: Secret::new(password) }
    }

    /// The value of an `Authorization: Basic` header (RFC 7617). `None` when the name holds a colon, which it can't.
    pub(crate) fn basic(&self) -> Option<http::HeaderValue> {
        use base64::Engine as _;
        let Self::Password { username, password } = self;
        if username.contains(':') {
            return None;
        }
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{}", password.expose()));
        let mut value = http::HeaderValue::try_from(format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
