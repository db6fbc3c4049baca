//! Docker's `config.json` and podman's `auth.json` (PROTOCOL §2.8, §2.9).

use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use super::helper::Helper;
use super::key::{candidates, normalised};
use crate::secret::{Credential, Secret};
use crate::spec::{Registry, RepositoryName, clean};

/// Some files have no padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How much is shown of a key, in characters.
const LONGEST_KEY: usize = 300;

/// The content of such a file. What it holds beside credentials is kept when it is changed.
///
/// ```
/// use registry_proto::credentials::AuthFile;
///
/// let file = AuthFile::parse(br#"{"auths":{"r.example":{"auth":"dXNlcjpwYXNz"}},"psFormat":"table"}"#).unwrap();
/// assert!(file.find(&"r.example".parse()?, None).unwrap().is_some());
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthFile(Map<String, Value>);

impl AuthFile {
    /// Reads a file's content. An empty file is one that says nothing.
    ///
    /// # Errors
    /// Says what is wrong with it, without quoting it.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        if content.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_slice(content) {
            Ok(Value::Object(root)) => Ok(Self(root)),
            Ok(_) => Err("it is JSON, but not an object".to_owned()),
            // Where, but not what: the message itself may quote a password.
            Err(why) => Err(format!("it is no JSON (line {}, column {})", why.line(), why.column())),
        }
    }

    /// Reads Docker's file of old, `~/.dockercfg`, which is all credentials.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_legacy(content: &[u8]) -> Result<Self, String> {
        let Self(entries) = Self::parse(content)?;
        Ok(Self(Map::from_iter([("auths".to_owned(), Value::Object(entries))])))
    }

    /// The helper that keeps the credentials of a registry: its own (`credHelpers`), or the one for all (`credsStore`).
    ///
    /// # Errors
    /// When its name can't be that of a helper.
    pub fn helper(&self, registry: &Registry) -> Result<Option<Helper>, String> {
        let own = self.0.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
            let of = |host: &String| helpers.iter().find(|(key, _)| normalised(key) == *host)?.1.as_str();
            candidates(registry, None).iter().find_map(of)
        });
        let name = own.or_else(|| self.0.get("credsStore")?.as_str()).filter(|name| !name.is_empty());
        name.map(Helper::new).transpose()
    }

    /// What is in the file itself for a repository, or for a registry as a whole, and under which key: the longest prefix
    /// counts.
    ///
    /// # Errors
    /// When what is there can't be read.
    pub fn find(
        &self,
        registry: &Registry,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<(String, Credential)>, String> {
        let Some(entries) = self.entries() else { return Ok(None) };
        for key in candidates(registry, repository) {
            // The same registry may be there under several names; the one that is written as we would write it counts.
            let written = registry.credential_key();
            let mut same: Vec<(&String, &Value)> = entries.iter().filter(|(name, _)| normalised(name) == key).collect();
            same.sort_by_key(|(name, _)| (**name != written, **name != key));
            for (name, entry) in same {
                let wrong = |why| format!("its entry for {} {why}", clean(name, LONGEST_KEY));
                if let Some(credential) = credential(entry).map_err(wrong)? {
                    return Ok(Some((key, credential)));
                }
            }
        }
        Ok(None)
    }

    /// Keeps a credential in the file itself.
    pub fn set(&mut self, registry: &Registry, credential: &Credential) {
        let entry = match credential {
            Credential::Password { username, password } => {
                json!({ "auth": BASE64.encode(format!("{username}:{}", password.expose())) })
            }
            Credential::IdentityToken(token) => json!({ "identitytoken": token.expose() }),
            Credential::RegistryToken(token) => json!({ "registrytoken": token.expose() }),
        };
        self.replace(registry, Some(entry));
    }

    /// Notes that a helper has the credential, as Docker does: an entry with nothing in it.
    pub fn mark(&mut self, registry: &Registry) {
        self.replace(registry, Some(json!({})));
    }

    /// Forgets what is in the file itself for a registry as a whole. Whether there was anything.
    pub fn remove(&mut self, registry: &Registry) -> bool {
        let before = self.clone();
        self.replace(registry, None);
        *self != before
    }

    fn replace(&mut self, registry: &Registry, entry: Option<Value>) {
        let hosts = candidates(registry, None);
        if !matches!(self.0.get("auths"), Some(Value::Object(_))) {
            if entry.is_none() {
                return;
            }
            self.0.insert("auths".to_owned(), Value::Object(Map::new()));
        }
        let Some(Value::Object(entries)) = self.0.get_mut("auths") else { return };
        let gone: Vec<String> = entries.keys().filter(|key| hosts.contains(&normalised(key))).cloned().collect();
        for key in gone {
            entries.remove(&key);
        }
        if let Some(entry) = entry {
            entries.insert(registry.credential_key(), entry);
        }
    }

    fn entries(&self) -> Option<&Map<String, Value>> {
        self.0.get("auths")?.as_object()
    }

    /// The file's new content, laid out as Docker does it.
    pub fn to_bytes(&self) -> Vec<u8> {
        use serde::Serialize as _;
        let mut bytes = Vec::new();
        let mut writer = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"\t"));
        self.0.serialize(&mut writer).expect("JSON values can be written to memory");
        bytes.push(b'\n');
        bytes
    }
}

/// The keys, without what they are the keys of.
impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.entries().into_iter().flat_map(Map::keys).collect();
        f.debug_struct("AuthFile").field("auths", &keys).finish_non_exhaustive()
    }
}

/// What an entry holds. Nothing is no credential, and not an empty password.
fn credential(entry: &Value) -> Result<Option<Credential>, &'static str> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::IdentityToken(Secret::new(token))));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credential::RegistryToken(Secret::new(token))));
    }
    if let Some(auth) = text("auth") {
        let malformed = "can't be read: `auth` should be the base64 of `user:password`";
        let pair = BASE64.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(malformed)?;
        let (user, password) = pair.split_once(':').ok_or(malformed)?;
        // Docker's own encoder was seen to fill up with these.
        return Ok(pair_of(user, password.trim_end_matches('\0')));
    }
    Ok(pair_of(text("username").unwrap_or_default(), text("password").unwrap_or_default()))
}

pub(super) fn pair_of(user: &str, password: &str) -> Option<Credential> {
    (!user.is_empty() || !password.is_empty()).then(|| Credential::password(user, password))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> AuthFile {
        AuthFile::parse(text.as_bytes()).unwrap()
    }

    fn found(file: &AuthFile, registry: &str) -> Option<Credential> {
        file.find(&registry.parse().unwrap(), None).unwrap().map(|(_, credential)| credential)
    }

    fn auth(pair: &str) -> String {
        base64::engine::general_purpose::STANDARD.encode(pair)
    }

    #[test]
    fn entries_of_every_kind() {
        let user = Some(Credential::password("user", "pa:ss"));
        for (entry, expected) in [
            (format!(r#"{{"auth":"{}"}}"#, auth("user:pa:ss")), user.clone()),
            (format!(r#"{{"auth":"{}"}}"#, auth("user:pa:ss").trim_end_matches('=')), user.clone()),
            (format!(r#"{{"auth":"{}"}}"#, auth("user:pa:ss\0\0")), user.clone()),
            (r#"{"username":"user","password":"pa:ss"}"#.to_owned(), user),
            (
                r#"{"identitytoken":"i","auth":"dXNlcjo="}"#.to_owned(),
                Some(Credential::IdentityToken(Secret::new("i"))),
            ),
            (r#"{"registrytoken":"r"}"#.to_owned(), Some(Credential::RegistryToken(Secret::new("r")))),
            (r#"{"auth":"Og=="}"#.to_owned(), None),
            ("{}".to_owned(), None),
            (r#"{"email":"x"}"#.to_owned(), None),
        ] {
            let file = file(&format!(r#"{{"auths":{{"r.example":{entry}}}}}"#));
            assert_eq!(found(&file, "r.example"), expected, "{entry}");
        }
        for wrong in ["%%%", "dXNlcg==", "/////w=="] {
            let file = file(&format!(r#"{{"auths":{{"r.example":{{"auth":"{wrong}"}}}}}}"#));
            let why = file.find(&"r.example".parse().unwrap(), None).unwrap_err();
            assert!(why.contains("r.example") && !why.contains(wrong), "{why}");
            assert_eq!(found(&file, "other.example"), None, "a broken entry is nobody else's trouble");
        }
    }

    #[test]
    fn the_key_that_is_written_right_counts() {
        let file = file(
            r#"{"auths":{
                "https://r.example/v1/":{"username":"old","password":"x"},"r.example":{"username":"new","password":"x"},
                "docker.io":{"username":"podman","password":"x"},
                "https://index.docker.io/v1/":{"username":"docker","password":"x"}}}"#,
        );
        assert_eq!(found(&file, "r.example"), Some(Credential::password("new", "x")));
        assert_eq!(found(&file, "docker.io"), Some(Credential::password("docker", "x")));
    }

    #[test]
    fn helpers() {
        let file =
            file(r#"{"credHelpers":{"r.example":"own","https://index.docker.io/v1/":"hub"},"credsStore":"all"}"#);
        let of = |registry: &str| file.helper(&registry.parse().unwrap()).unwrap().map(|helper| helper.program());
        assert_eq!(of("r.example").as_deref(), Some("docker-credential-own"));
        assert_eq!(of("docker.io").as_deref(), Some("docker-credential-hub"));
        assert_eq!(of("other.example").as_deref(), Some("docker-credential-all"));
        let file = AuthFile::parse(br#"{"credsStore":"../evil"}"#).unwrap();
        assert!(file.helper(&"r.example".parse().unwrap()).is_err(), "A39");
        assert!(AuthFile::default().helper(&"r.example".parse().unwrap()).unwrap().is_none());
    }

    #[test]
    fn what_else_is_there_stays() {
        let mut file =
            file(r#"{"auths":{"a.example":{"auth":"eDp5"},"https://b.example/v1/":{}},"psFormat":"t","x":[1]}"#);
        file.set(&"b.example".parse().unwrap(), &Credential::password("user", "pass"));
        let text = String::from_utf8(file.to_bytes()).unwrap();
        let expected = json!({
            "auths": {"a.example": {"auth": "eDp5"}, "b.example": {"auth": auth("user:pass")}},
            "psFormat": "t",
            "x": [1],
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected, "{text}");
        assert!(file.remove(&"b.example".parse().unwrap()));
        assert!(!file.remove(&"b.example".parse().unwrap()));
        assert_eq!(found(&file, "a.example"), Some(Credential::password("x", "y")));
        let mut empty = AuthFile::default();
        assert!(!empty.remove(&"b.example".parse().unwrap()));
        assert_eq!(empty, AuthFile::default());
        empty.mark(&Registry::docker_hub());
        assert_eq!(empty.to_bytes(), b"{\n\t\"auths\": {\n\t\t\"https://index.docker.io/v1/\": {}\n\t}\n}\n");
    }

    #[test]
    fn what_is_no_such_file_is_not_quoted() {
        for wrong in [r#"{"auths":hunter2}"#, "[]", "hunter2", "\"hunter2\""] {
            let why = AuthFile::parse(wrong.as_bytes()).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
        // A key's path means nothing, so that anything may stand there.
        let odd = file(r#"{"auths":{"https://r.example/\u001b[31m\u202e":{"auth":"hunter2"}}}"#);
        let why = odd.find(&"r.example".parse().unwrap(), None).unwrap_err();
        assert!(why.starts_with("its entry for https://r.example/ [31m can't be read"), "{why}");
        assert_eq!(AuthFile::parse(b" \n").unwrap(), AuthFile::default());
        for odd in [r#"{"auths":[]}"#, r#"{"auths":{"r.example":3}}"#, r#"{"credHelpers":3,"credsStore":["x"]}"#] {
            assert_eq!(found(&file(odd), "r.example"), None, "{odd}");
            assert!(file(odd).helper(&"r.example".parse().unwrap()).unwrap().is_none(), "{odd}");
        }
        let legacy = AuthFile::parse_legacy(br#"{"r.example":{"auth":"eDp5"}}"#).unwrap();
        assert_eq!(found(&legacy, "r.example"), Some(Credential::password("x", "y")));
        assert!(!format!("{legacy:?}").contains("eDp5"));
    }

    proptest! {
        #[test]
        fn what_was_set_is_found(user in "[^:\0]{1,20}", password in "[^\0]{0,20}", other in "\\PC{0,60}") {
            let mut file = AuthFile::parse(other.as_bytes()).unwrap_or_default();
            let credential = Credential::password(user, password);
            file.set(&"r.example".parse().unwrap(), &credential);
            let again = AuthFile::parse(&file.to_bytes()).unwrap();
            prop_assert_eq!(found(&again, "r.example"), Some(credential));
        }
    }
}
