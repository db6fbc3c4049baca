//! What has to hold of files and requests, whatever anybody answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, StatusCode, Uri};
use registry_proto::job::Payload;
use registry_proto::spec::{Challenge, Digest, Origin, resolve};

use super::disk::OUT;
use super::fixture::{PASSWORDS, basic};

/// A file is about to get its final name: everything in it that is called after its digest has to have that digest.
pub(super) fn published(to: &Path, content: &Bytes, saved: &Digest) {
    let name = to.file_name().and_then(|name| name.to_str()).expect("names are text here");
    if to == Path::new(OUT) {
        match entries(content) {
            Some(entries) => entries.iter().for_each(|(name, content)| named(name, content)),
            None => assert_eq!(Digest::of(content), *saved, "what is no archive is a blob that was asked for"),
        }
    } else {
        assert!(to.starts_with(OUT), "{} is no place for anything", to.display());
        named(name, content);
    }
}

/// What a file's name says of its content.
fn named(name: &str, content: &[u8]) {
    let hash = name.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
    let hex = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex && hash.len() == 64 {
        assert_eq!(Digest::of(content).encoded(), hash, "{name} is not what it is called");
    }
    let documents = ["index.json", "oci-layout", "manifest.json"];
    assert!(hex && [64, 96, 128].contains(&hash.len()) || documents.contains(&name), "nobody asked for {name}");
}

/// The files of a tar, read as simply as can be.
fn entries(tar: &[u8]) -> Option<Vec<(String, &[u8])>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = tar.get(at..at + 512) {
        if header.iter().all(|byte| *byte == 0) {
            return Some(found);
        }
        if !header[257..].starts_with(b"ustar") {
            return None;
        }
        let text = |range: std::ops::Range<usize>| {
            let field = &header[range];
            let end = field.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(field.len());
            std::str::from_utf8(&field[..end]).ok()
        };
        let size = usize::from_str_radix(text(124..136)?, 8).ok()?;
        let (name, prefix) = (text(0..100)?, text(345..500)?);
        let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let content = tar.get(at + 512..at + 512 + size).unwrap_or_else(|| panic!("{name} is cut off"));
        if header[156] == b'0' {
            found.push((name, content));
        }
        at += 512 + size.div_ceil(512) * 512;
    }
    assert!(found.is_empty(), "a tar without an end");
    None
}

/// Who has named which token server, and who has handed out which token.
#[derive(Debug, Default)]
pub(super) struct Trust {
    realms: BTreeMap<Origin, BTreeSet<Origin>>,
    tokens: BTreeMap<Vec<u8>, BTreeSet<Origin>>,
    /// Tokens that registries have made, and that nobody may be shown.
    secrets: BTreeSet<String>,
    /// Tokens that somebody has put into a refusal, or that the script says itself.
    quotable: BTreeSet<String>,
    /// Who has answered with something that may or may not hold a token.
    unreadable: BTreeSet<Origin>,
}

impl Trust {
    /// Looks at a reply.
    pub(super) fn replied(&mut self, url: &Uri, headers: &HeaderMap, body: &[u8]) {
        let Some(from) = Origin::of(url) else { return };
        let challenges = Challenge::parse_all(headers.get_all(WWW_AUTHENTICATE).iter().map(|field| field.as_bytes()));
        for realm in challenges.iter().filter_map(|challenge| challenge.param("realm")) {
            if let Some(realm) = resolve(url, realm).ok().as_ref().and_then(Origin::of) {
                self.realms.entry(from.clone()).or_default().insert(realm);
            }
        }
        // What stands in a document that nobody asks for may be no text and no number, and still the token counts.
        let Ok(document) = serde_json::from_slice::<serde_json::Value>(body) else {
            self.unreadable.insert(from);
            return;
        };
        for name in ["token", "access_token"] {
            if let Some(token) = document.get(name).and_then(|token| token.as_str()) {
                self.tokens.entry(token.as_bytes().to_vec()).or_default().insert(from.clone());
            }
        }
    }

    /// Looks at something that a user will see, or a log.
    pub(super) fn told(&self, text: &str) {
        told(text);
        for token in self.secrets.difference(&self.quotable) {
            assert!(!text.contains(token), "a token: {text}");
        }
    }

    /// The token in an answer is a secret, even if the answer can't be read any more when it arrives. What a refusal says is not:
    /// its words are shown. (The registries number their tokens alike.)
    pub(super) fn keep(&mut self, body: &[u8], status: StatusCode, script: &[u8]) {
        let document = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
        let Some(token) = document.get("token").and_then(|token| token.as_str()) else { return };
        // Fuzzing finds out what was compared with what, and writes it down: a peer that repeats a token is no leak, either.
        let is_quoted = script.windows(token.len().max(1)).any(|window| window == token.as_bytes());
        let known = if status.is_success() && !is_quoted { &mut self.secrets } else { &mut self.quotable };
        known.insert(token.to_owned());
    }

    /// Looks at a request: what it shows has to be for where it goes (invariant 8).
    pub(super) fn requested(&self, request: &Request<Payload>) {
        let url = request.uri();
        let to = Origin::of(url).unwrap_or_else(|| panic!("{url} is no URL to ask"));
        assert!(to.is_https(), "{to} is not encrypted");
        let named_by = |who: &str| {
            let who = Origin::new(true, who).expect("it is a host");
            who == to || self.realms.get(&who).is_some_and(|realms| realms.contains(&to))
        };
        let text = url.to_string();
        let body = match request.body() {
            Payload::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        for (host, _, password) in PASSWORDS {
            assert!(!text.contains(password), "a password in a URL: {text}");
            assert!(!body.contains(password) || named_by(host), "the password of {host} went to {to}");
        }
        let shown: Vec<_> = request.headers().get_all(AUTHORIZATION).iter().collect();
        assert!(shown.len() <= 1);
        let Some(shown) = shown.first() else { return };
        assert!(shown.is_sensitive(), "a logger may print what is shown to {to}");
        if let Some(token) = shown.as_bytes().strip_prefix(b"Bearer ") {
            let none = BTreeSet::new();
            let givers = self.tokens.get(token).unwrap_or(&none);
            let own = self.realms.get(&to).unwrap_or(&none);
            let right = givers.union(&self.unreadable).any(|giver| own.contains(giver));
            assert!(right, "{to} was shown a token of {givers:?}");
            return;
        }
        let whose = PASSWORDS.iter().find(|(_, user, password)| shown.as_bytes() == basic(user, password).as_bytes());
        let (host, ..) = whose.unwrap_or_else(|| panic!("nobody's password went to {to}"));
        assert!(named_by(host), "the password of {host} went to {to}");
    }
}

/// No password.
fn told(text: &str) {
    assert!(!text.contains("password-of"), "a secret: {text}");
    for (_, user, password) in PASSWORDS {
        assert!(!text.contains(&basic(user, password)[6..]), "a secret: {text}");
    }
}
