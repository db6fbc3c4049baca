//! Asking a token server: Docker's `GET` (PROTOCOL §2.3) and OAuth2's `POST` (§2.4).

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Uri};
use serde::Deserialize;

use crate::endpoint::{Ask, Replay, Reply};
use crate::job::Payload;
use crate::limits::Limits;
use crate::secret::Secret;
use crate::spec::{ScopeSet, object};

/// Tokens that claim to live shorter than this live this long: the protocol's default, and what clients that never learned
/// otherwise assume.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(60);

/// A token server, as a challenge names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bearer {
    pub(crate) realm: Realm,
    pub(crate) service: Option<String>,
}

/// A token server's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Realm(pub(crate) Uri);

impl PartialOrd for Realm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Realm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.to_string().cmp(&other.0.to_string())
    }
}

/// What a token server is shown.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    /// Nothing: many registries hand out anonymous tokens for pulling.
    Nothing,
    /// A password, in `Authorization`: every token server takes that.
    Password(HeaderValue),
    /// A password as OAuth2 has it.
    PasswordGrant(String, Secret),
    /// A refresh token, which only OAuth2's form can carry.
    IdentityToken(Secret),
}

impl Proof {
    /// Whether it goes into a `POST`.
    pub(crate) const fn is_posted(&self) -> bool {
        matches!(self, Self::PasswordGrant(..) | Self::IdentityToken(_))
    }
}

/// Who asks, as OAuth2 wants to know. It has to be there and means nothing.
const CLIENT_ID: &str = "registry-proto";

/// Asks for a token: by Docker's `GET`, or by OAuth2's `POST` where what is shown belongs into a body.
pub(crate) fn ask(bearer: &Bearer, scopes: &ScopeSet, proof: &Proof, limits: &Limits) -> Ask {
    let mut form = String::new();
    let mut push = |name: &str, value: &str| {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        form.push_str(&encode(value));
    };
    let service = bearer.service.as_deref().filter(|service| !service.is_empty());
    if !proof.is_posted() {
        if let Some(service) = service {
            push("service", service);
        }
        // One parameter per scope, the most needed first: some servers read only that one.
        for scope in scopes.iter() {
            push("scope", &scope.to_string());
        }
        let ask = new(Method::GET, with_query(&bearer.realm.0, &form), limits);
        return match proof {
            Proof::Password(header) => ask.header(AUTHORIZATION, header.clone()),
            _ => ask,
        };
    }
    match proof {
        Proof::IdentityToken(token) => {
            push("grant_type", "refresh_token");
            push("refresh_token", token.expose());
        }
        Proof::PasswordGrant(user, password) => {
            push("grant_type", "password");
            push("username", user);
            push("password", password.expose());
        }
        Proof::Nothing | Proof::Password(_) => {}
    }
    push("client_id", CLIENT_ID);
    if let Some(service) = service {
        push("service", service);
    }
    // Here all scopes are one parameter.
    if scopes.iter().next().is_some() {
        push("scope", &scopes.to_string());
    }
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    new(Method::POST, bearer.realm.0.clone(), limits).body(Payload::Bytes(form.into()), kind)
}

fn new(method: Method, url: Uri, limits: &Limits) -> Ask {
    Ask::new(method, url, ScopeSet::default(), limits).collect(limits.token, limits).replay(Replay::Never)
}

/// The realm may have a query of its own.
fn with_query(realm: &Uri, query: &str) -> Uri {
    let text = realm.to_string();
    let joint = match text.split_once('?') {
        _ if query.is_empty() => "",
        None => "?",
        Some((_, own)) if own.is_empty() || own.ends_with('&') => "",
        Some(_) => "&",
    };
    // A realm that leaves no room for a query is as good as one that doesn't answer.
    format!("{text}{joint}{query}").parse().unwrap_or_else(|_| realm.clone())
}

/// A token, as it is used.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// The `Authorization` header made of it.
    pub(crate) header: HeaderValue,
    /// How long it holds, from when the reply came: the server's clock may be wrong.
    pub(crate) lifetime: Duration,
    /// A new refresh token, in place of the one that was shown.
    pub(crate) refresh: Option<Secret>,
}

/// The token that a reply holds.
///
/// # Errors
/// Says why there is no usable one, without quoting it.
pub(crate) fn read(reply: &Reply, limits: &Limits) -> Result<Token, String> {
    #[derive(Deserialize)]
    struct Body {
        token: Option<String>,
        access_token: Option<String>,
        refresh_token: Option<String>,
        expires_in: Option<serde_json::Value>,
    }
    // What `serde_json` says of a wrong body may quote it.
    let body: Body = object(&reply.body).map_err(|_| "it is not the JSON of a token".to_owned())?;
    // The same thing under two names; where they differ, most clients take this one.
    let token = [body.access_token, body.token].into_iter().flatten().find(|token| !token.is_empty());
    let token = token.ok_or("it holds no token")?;
    if token.len() > limits.token_header || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its token has characters that don't belong into a header, or is too long".to_owned());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| "its token is no header")?;
    header.set_sensitive(true);
    let refresh = body.refresh_token.filter(|token| !token.is_empty()).map(Secret::new);
    Ok(Token { header, lifetime: lifetime(body.expires_in.as_ref()), refresh })
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
    use crate::secret::Credential;

    fn bearer(realm: &'static str, service: Option<&str>) -> Bearer {
        Bearer { realm: Realm(Uri::from_static(realm)), service: service.map(str::to_owned) }
    }

    #[test]
    fn c2_c9_c24_requests() {
        let limits = Limits::default();
        let scopes = ScopeSet::mount(&"n".parse().unwrap(), &"m".parse().unwrap());
        let url = |bearer: &Bearer| ask(bearer, &scopes, &Proof::Nothing, &limits).url.to_string();
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
        let none = ask(&bearer("https://t.example/token?a=b", None), &ScopeSet::default(), &Proof::Nothing, &limits);
        assert_eq!(none.url, "https://t.example/token?a=b");
    }

    #[test]
    fn c20_an_identity_token_goes_into_a_form() {
        let scopes = ScopeSet::mount(&"n".parse().unwrap(), &"m".parse().unwrap());
        let proof = Proof::IdentityToken(Secret::new("re+fresh&="));
        let ask = ask(&bearer("https://t.example/token?a=b", Some("s")), &scopes, &proof, &Limits::default());
        assert_eq!(
            golden::text(&ask),
            "POST https://t.example/token?a=b\naccept-encoding: identity\ncontent-length: 139\ncontent-type: application/x-www-form-urlencoded\n"
        );
        let Payload::Bytes(form) = &ask.payload else { panic!("{ask:?}") };
        let tail = "client_id=registry-proto&service=s&scope=repository:n:pull,push%20repository:m:pull";
        assert_eq!(*form, format!("grant_type=refresh_token&refresh_token=re%2Bfresh%26%3D&{tail}"));
        assert!(!format!("{ask:?}").contains("fresh%26"), "{ask:?}");

        let proof = Proof::PasswordGrant("us er".to_owned(), Secret::new("hunter2"));
        let ask =
            super::ask(&bearer("https://t.example/token", None), &ScopeSet::default(), &proof, &Limits::default());
        let Payload::Bytes(form) = &ask.payload else { panic!("{ask:?}") };
        assert_eq!(*form, "grant_type=password&username=us%20er&password=hunter2&client_id=registry-proto");
        assert!(!format!("{ask:?} {proof:?}").contains("hunter2"));
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let credential = Credential::password("user", "hunter2");
        let proof = Proof::Password(credential.basic().unwrap());
        let ask = ask(&bearer("https://t.example/token", None), &ScopeSet::default(), &proof, &Limits::default());
        assert_eq!(ask.headers[AUTHORIZATION], "Basic dXNlcjpodW50ZXIy");
        let shown = format!("{ask:?} {credential:?}");
        assert!(!shown.contains("dXNlcjpodW50ZXIy") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn c3_c4_c22_replies() {
        let limits = Limits::default();
        let read = |body: &str| {
            read(&golden::reply(200, &[], body), &limits)
                .map(|token| (token.header.to_str().unwrap().to_owned(), token.lifetime.as_secs()))
        };
        assert_eq!(read(r#"{"token":"A"}"#), Ok(("Bearer A".into(), 60)));
        assert_eq!(read(r#"{"access_token":"A","token":"B","expires_in":300}"#), Ok(("Bearer A".into(), 300)));
        assert_eq!(read(r#"{"access_token":"","token":"B","expires_in":"300"}"#), Ok(("Bearer B".into(), 300)));
        assert_eq!(read(r#"{"token":"B","expires_in":30}"#), Ok(("Bearer B".into(), 60)));
        assert_eq!(read(r#"{"token":"B","expires_in":300.0}"#), Ok(("Bearer B".into(), 300)));
        for odd in ["-1", "1e308", "null", "[]", r#""soon""#, r#""NaN""#] {
            let (_, seconds) = read(&format!(r#"{{"token":"B","expires_in":{odd}}}"#)).unwrap();
            assert!((60..=1_000_000_000).contains(&seconds), "{odd}: {seconds}");
        }
        let long = format!(r#"{{"token":"{}"}}"#, "x".repeat(limits.token_header + 1));
        for bad in
            [r#"{"token":"a\nb"}"#, r#"{"token":"a b"}"#, r#"{"token":"ä"}"#, "<html>", "{}", r#"{"token":""}"#, &long]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        let why = read(r#"{"token":["hunter2"]}"#).unwrap_err();
        assert!(!why.contains("hunter2"), "{why}");
    }
}
