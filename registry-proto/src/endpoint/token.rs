//! A token server's `GET` (Docker's token authentication; PROTOCOL §2.3).

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Uri};
use serde::Deserialize;

use crate::endpoint::{Ask, Replay, Reply};
use crate::limits::Limits;
use crate::secret::Credential;
use crate::spec::ScopeSet;

/// Tokens that claim to live shorter than this live this long: the protocol's default, and what clients that never learned
/// otherwise assume.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(60);

/// A token server, as a challenge names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) realm: Uri,
    pub(crate) service: Option<String>,
}

/// Asks for a token: one `scope` parameter per scope, the most needed first since some servers read only that one.
/// Without a credential, too: many registries hand out anonymous tokens for pulling.
pub(crate) fn ask(bearer: &Bearer, scopes: &ScopeSet, credential: Option<&Credential>, limits: &Limits) -> Ask {
    let mut text = bearer.realm.to_string();
    let mut push = |name: &str, value: &str| {
        let joint = match text.split_once('?') {
            None => "?",
            Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        text.push_str(joint);
        text.push_str(name);
        text.push('=');
        text.push_str(&encode(value));
    };
    if let Some(service) = bearer.service.as_deref().filter(|service| !service.is_empty()) {
        push("service", service);
    }
    for scope in scopes.iter() {
        push("scope", &scope.to_string());
    }
    let url: Uri = text.parse().unwrap_or_else(|_| bearer.realm.clone());
    let mut ask =
        Ask::new(Method::GET, url, ScopeSet::default(), limits).collect(limits.token, limits).replay(Replay::Never);
    if let Some(value) = credential.and_then(Credential::basic) {
        ask = ask.header(AUTHORIZATION, value);
    }
    ask
}

/// The `Authorization` header made of a token, and how long it holds.
///
/// # Errors
/// Says why the reply holds no usable token, without quoting it.
pub(crate) fn read(reply: &Reply) -> Result<(HeaderValue, Duration), String> {
    #[derive(Deserialize)]
    struct Body {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<serde_json::Value>,
    }
    let body: Body = serde_json::from_slice(&reply.body).map_err(|_| "it is not the JSON of a token".to_owned())?;
    // The same thing under two names; where they differ, most clients take this one.
    let token = [body.access_token, body.token].into_iter().flatten().find(|token| !token.is_empty());
    let token = token.ok_or("it holds no token")?;
    if token.len() > 16 << 10 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its token has characters that don't belong into a header, or is too long".to_owned());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| "its token is no header")?;
    header.set_sensitive(true);
    Ok((header, lifetime(body.expires_in.as_ref())))
}

/// `expires_in`: seconds, seen as integer, float and string, and absent (Quay, Gitea).
fn lifetime(told: Option<&serde_json::Value>) -> Duration {
    let seconds = match told {
        Some(serde_json::Value::Number(number)) => number.as_f64(),
        Some(serde_json::Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let told =
        seconds.filter(|s| s.is_finite() && *s >= 0.0).map_or(Duration::ZERO, |s| Duration::from_secs_f64(s.min(1e9)));
    told.max(SHORTEST_LIFETIME)
}

/// Percent-encodes a query value, leaving `:`, `/` and `,` readable: they are legal there and servers expect them.
pub(crate) fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b',' | b'*' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;

    fn bearer(realm: &'static str, service: Option<&str>) -> Bearer {
        Bearer { realm: Uri::from_static(realm), service: service.map(str::to_owned) }
    }

    #[test]
    fn c2_c9_c24_requests() {
        let limits = Limits::default();
        let scopes = ScopeSet::mount(&"n".parse().unwrap(), &"m".parse().unwrap());
        let url = |bearer: &Bearer| ask(bearer, &scopes, None, &limits).url.to_string();
        let tail = "scope=repository:n:pull,push&scope=repository:m:pull";
        assert_eq!(
            url(&bearer("https://t.example/token", Some("s x"))),
            format!("https://t.example/token?service=s%20x&{tail}")
        );
        assert_eq!(
            url(&bearer("https://t.example/token?a=b", Some(""))),
            format!("https://t.example/token?a=b&{tail}")
        );
        assert_eq!(url(&bearer("https://t.example/token", None)), format!("https://t.example/token?{tail}"));
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let credential = Credential::password("user", "hunter2");
        let ask =
            ask(&bearer("https://t.example/token", None), &ScopeSet::default(), Some(&credential), &Limits::default());
        assert_eq!(ask.headers[AUTHORIZATION], "Basic dXNlcjpodW50ZXIy");
        let shown = format!("{ask:?} {credential:?}");
        assert!(!shown.contains("dXNlcjpodW50ZXIy") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn c3_c4_c22_replies() {
        let read = |body: &str| {
            read(&golden::reply(200, &[], body))
                .map(|(header, life)| (header.to_str().unwrap().to_owned(), life.as_secs()))
        };
        assert_eq!(read(r#"{"token":"A"}"#), Ok(("Bearer A".into(), 60)));
        assert_eq!(read(r#"{"access_token":"A","token":"B","expires_in":300}"#), Ok(("Bearer A".into(), 300)));
        assert_eq!(read(r#"{"access_token":"","token":"B","expires_in":"300"}"#), Ok(("Bearer B".into(), 300)));
        assert_eq!(read(r#"{"token":"B","expires_in":30}"#), Ok(("Bearer B".into(), 60)));
        assert_eq!(read(r#"{"token":"B","expires_in":300.0}"#), Ok(("Bearer B".into(), 300)));
        for bad in [r#"{"token":"a\nb"}"#, r#"{"token":"a b"}"#, "<html>", "{}", r#"{"token":""}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
