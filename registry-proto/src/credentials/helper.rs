//! Credential helpers: programs that keep credentials for others (PROTOCOL §2.10).

use std::fmt;

use serde::Deserialize;
use serde_json::json;

use super::auth_file::pair_of;
use crate::secret::{Credential, Secret};
use crate::spec::{Registry, clean};

/// The user for whom the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// A helper, by the name that configuration files have for it.
///
/// ```
/// use registry_proto::credentials::Helper;
///
/// assert_eq!(Helper::new("osxkeychain")?.program(), "docker-credential-osxkeychain");
/// assert!(Helper::new("../evil").is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Helper(String);

/// What a helper is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Hand out a credential.
    Get,
    /// Keep one.
    Store,
    /// Forget one.
    Erase,
}

impl Action {
    /// The program's one argument.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Store => "store",
            Self::Erase => "erase",
        }
    }
}

/// How a helper ended.
#[derive(Clone)]
pub struct Ran {
    /// Whether its exit status was 0.
    pub success: bool,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
}

/// Without the output, which may be a password.
impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ran").field("success", &self.success).finish_non_exhaustive()
    }
}

impl Helper {
    /// The helper of this name.
    ///
    /// # Errors
    /// When it has characters that a helper's name doesn't have: it would be a path, or an argument (A39).
    pub fn new(name: &str) -> Result<Self, String> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > 100 || !name.bytes().all(fine) {
            return Err(format!("`{}` is no name of a credential helper", clean(name, 100)));
        }
        Ok(Self(name.to_owned()))
    }

    /// The program to run, to be found on the `PATH`.
    pub fn program(&self) -> String {
        format!("docker-credential-{}", self.0)
    }

    /// Under which names a helper may know a registry, in the order to ask for them.
    pub(super) fn servers(registry: &Registry) -> Vec<String> {
        let key = registry.credential_key();
        // Some have stored what they were given with a scheme (ggcr#156).
        let other = (!key.contains("://")).then(|| format!("https://{key}"));
        [Some(key), other].into_iter().flatten().collect()
    }

    /// What goes to a helper's standard input so that it keeps a credential. `None` for what helpers can't keep.
    pub(super) fn to_store(server: &str, credential: &Credential) -> Option<Vec<u8>> {
        let (user, secret) = match credential {
            Credential::Password { username, password } => (username.as_str(), password),
            Credential::IdentityToken(token) => (TOKEN_USER, token),
            Credential::RegistryToken(_) => return None,
        };
        Some(json!({ "ServerURL": server, "Username": user, "Secret": secret.expose() }).to_string().into_bytes())
    }
}

impl Ran {
    /// The credential that a helper handed out; `None` if it has none.
    ///
    /// # Errors
    /// What the helper said went wrong, or that its answer is none. An answer that may hold a secret is not quoted.
    pub(super) fn credential(&self) -> Result<Option<Credential>, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            #[serde(default)]
            username: String,
            #[serde(default)]
            secret: String,
        }
        if !self.success {
            return if self.found_nothing() { Ok(None) } else { Err(self.complaint()) };
        }
        let answer: Answer = serde_json::from_slice(&self.stdout)
            .map_err(|_| "its answer is not the JSON of a credential".to_owned())?;
        // Some succeed with nothing (docker-credential-helpers#220).
        if answer.username == TOKEN_USER && !answer.secret.is_empty() {
            return Ok(Some(Credential::IdentityToken(Secret::new(answer.secret))));
        }
        Ok(pair_of(&answer.username, &answer.secret))
    }

    /// Whether a helper did as it was told, or had nothing to do.
    ///
    /// # Errors
    /// As [`credential`](Self::credential).
    pub(super) fn done(&self) -> Result<bool, String> {
        match self.success {
            true => Ok(true),
            false if self.found_nothing() => Ok(false),
            false => Err(self.complaint()),
        }
    }

    fn found_nothing(&self) -> bool {
        let said = String::from_utf8_lossy(&self.stdout);
        let said = said.trim();
        said == "credentials not found in native keychain"
            // macOS has said it in words of its own (docker-credential-helpers#177).
            || said.contains("The specified item could not be found in the keychain")
    }

    /// A helper says on standard output what went wrong. It may be anything: it goes to a terminal.
    fn complaint(&self) -> String {
        let said = clean(&String::from_utf8_lossy(&self.stdout), 300);
        match said.as_str() {
            "" => "it failed without saying why".to_owned(),
            json if json.starts_with(['{', '[', '"']) => "it failed".to_owned(),
            said => format!("it says: {said}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(success: bool, stdout: &str) -> Ran {
        Ran { success, stdout: stdout.as_bytes().to_vec() }
    }

    #[test]
    fn c26_a_helpers_answers() {
        for nothing in [
            ran(false, "credentials not found in native keychain\n"),
            ran(false, "The specified item could not be found in the keychain.\n"),
            ran(true, r#"{"ServerURL":"r.example","Username":"","Secret":""}"#),
        ] {
            assert_eq!(nothing.credential(), Ok(None), "{:?}", String::from_utf8_lossy(&nothing.stdout));
        }
        let get = |text: &str| ran(true, text).credential().unwrap().unwrap();
        assert_eq!(get(r#"{"ServerURL":"x","Username":"user","Secret":"pass"}"#), Credential::password("user", "pass"));
        assert_eq!(get(r#"{"Username":"<token>","Secret":"t"}"#), Credential::IdentityToken(Secret::new("t")));
        let why = ran(false, "error getting credentials:\n\x1b[31mpass is locked\n").credential().unwrap_err();
        assert_eq!(why, "it says: error getting credentials: [31mpass is locked");
        assert!(ran(false, "no credentials server URL").credential().is_err());
        assert!(ran(false, "").credential().is_err());
        for wrong in
            ["hunter2", r#"{"Username":"user","Secret":["hunter2"]}"#, r#"{"Username":"user","Secret":"hunter2""#]
        {
            for success in [true, false] {
                let why = ran(success, wrong).credential();
                assert!(!success || why.is_err(), "{wrong}");
                // A word alone is what a helper says when it fails.
                assert!(wrong == "hunter2" || !why.unwrap_err().contains("hunter2"), "{wrong}");
            }
        }
        assert_eq!(ran(false, "credentials not found in native keychain").done(), Ok(false));
        assert_eq!(ran(true, "").done(), Ok(true));
        assert!(ran(false, "locked").done().is_err());
        assert_eq!(ran(false, "it is \u{1b}[31m\u{202e}\nlocked").done(), Err("it says: it is [31m locked".to_owned()));
        assert!(!format!("{:?}", ran(true, "hunter2")).contains("hunter2"));
    }

    #[test]
    fn a39_names() {
        for fine in ["osxkeychain", "ecr-login", "gcloud", "a.b_c"] {
            assert_eq!(Helper::new(fine).unwrap().program(), format!("docker-credential-{fine}"));
        }
        for wrong in ["", "a/b", "../x", "a b", "a;b", "a\nb", "ä", &"x".repeat(101)] {
            assert!(Helper::new(wrong).is_err(), "{wrong}");
        }
        let odd = Helper::new("\u{202e}\u{1b}[31mred").unwrap_err();
        assert_eq!(odd, "`[31mred` is no name of a credential helper");
    }

    #[test]
    fn c25_what_a_helper_is_asked_for() {
        assert_eq!(Helper::servers(&Registry::docker_hub()), ["https://index.docker.io/v1/"]);
        assert_eq!(Helper::servers(&"r.example:5000".parse().unwrap()), ["r.example:5000", "https://r.example:5000"]);
        let store = Helper::to_store("r.example", &Credential::password("us\"er", "pa\\ss")).unwrap();
        assert_eq!(store, br#"{"Secret":"pa\\ss","ServerURL":"r.example","Username":"us\"er"}"#);
        assert_eq!(Helper::to_store("r.example", &Credential::RegistryToken(Secret::new("t"))), None);
    }
}
