//! Which credentials were shown to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::request::Parts;

/// Hosts by the `Authorization` that they were shown.
#[derive(Default)]
pub(super) struct Shown(BTreeMap<String, BTreeSet<String>>);

/// Without the credentials.
impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shown({} credentials)", self.0.len())
    }
}

impl Shown {
    pub(super) fn see(&mut self, request: &Parts) {
        let Some(shown) = request.headers.get(AUTHORIZATION).and_then(|shown| shown.to_str().ok()) else { return };
        let Some(host) = request.uri.authority() else { return };
        if !self.0.get(shown).is_some_and(|hosts| hosts.contains(host.as_str())) {
            self.0.entry(shown.to_owned()).or_default().insert(host.to_string());
        }
    }

    pub(super) fn to_two(&self) -> Option<[String; 2]> {
        self.0.values().find_map(|hosts| {
            let mut hosts = hosts.iter().cloned();
            Some([hosts.next()?, hosts.next()?])
        })
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        self.0.keys().any(|shown| {
            let secret = shown.split_once(' ').map_or(shown.as_str(), |(_, secret)| secret);
            text.contains(secret) || password(secret).is_some_and(|password| text.contains(&password))
        })
    }
}

/// The password in `Basic`'s base64.
fn password(secret: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(secret).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned()).filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str, shown: &str) -> Parts {
        http::Request::get(url).header(AUTHORIZATION, shown).body(()).unwrap().into_parts().0
    }

    #[test]
    fn who_is_shown_what_and_what_gives_it_away() {
        let mut seen = Shown::default();
        seen.see(&request("http://a.example/v2/", "Bearer token-a"));
        seen.see(&request("http://a.example/v2/x", "Bearer token-a"));
        seen.see(&request("http://b.example/v2/", "Basic dXNlcjpoZXNsbw=="));
        assert_eq!(seen.to_two(), None);
        assert!(seen.is_in("Authorization: Bearer token-a") && seen.is_in("user heslo") && !seen.is_in("user token"));
        assert_eq!(format!("{seen:?}"), "Shown(2 credentials)");
        seen.see(&request("http://b.example/v2/", "Bearer token-a"));
        assert_eq!(seen.to_two(), Some(["a.example".to_owned(), "b.example".to_owned()]));
    }
}
