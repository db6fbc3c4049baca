//! Who is let in: challenges, passwords and tokens (Docker's token authentication; PROTOCOL §2).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{Method, StatusCode, Uri};
use serde_json::json;

use super::call::Call;
use super::profile::Auth;
use super::query::Query;
use super::reply::{Code, Outcome, Refusal, json_reply};
use super::route::Route;
use crate::spec::{Digest, RepositoryName, ScopeSet};

/// The tokens that were handed out and still count.
#[derive(Clone, Default)]
pub(super) struct Tokens {
    access: BTreeMap<String, Grant>,
    refresh: BTreeSet<String>,
    count: u64,
}

#[derive(Clone)]
struct Grant {
    scopes: ScopeSet,
    until: Duration,
}

/// Without the tokens.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} of {} handed out)", self.access.len(), self.count)
    }
}

impl Tokens {
    pub(super) fn revoke(&mut self) {
        self.access.clear();
    }

    /// Opaque, and never the same twice.
    fn name(&mut self, about: &str) -> String {
        self.count += 1;
        let hash = Digest::of(format!("{about} {}", self.count).as_bytes());
        format!("{}.{}", hash.encoded().get(..40).unwrap_or_default(), self.count)
    }
}

/// What a request needs to be allowed, as distribution sees it.
pub(super) fn needed(call: &Call<'_>, route: &Route) -> ScopeSet {
    let Some(name) = route.repository() else {
        return if *route == Route::Catalog { ScopeSet::parse("registry:catalog:*") } else { ScopeSet::default() };
    };
    let own = match *call.method {
        Method::GET | Method::HEAD => ScopeSet::pull(name),
        Method::DELETE => ScopeSet::parse(&format!("repository:{name}:delete")),
        _ => ScopeSet::push(name),
    };
    match call.query.get("from").and_then(|from| from.parse::<RepositoryName>().ok()) {
        Some(from) => own.union(&ScopeSet::pull(&from)),
        None => own,
    }
}

/// Whether a request may be done.
pub(super) fn admit(
    auth: &Auth,
    tokens: &Tokens,
    now: Duration,
    call: &Call<'_>,
    route: &Route,
) -> Result<(), Refusal> {
    match auth {
        Auth::Basic { user, password } => match login(call) {
            Some((name, secret)) if name == *user && secret == *password => Ok(()),
            _ => Err(challenge(auth, call, &ScopeSet::default(), None)),
        },
        Auth::Bearer { .. } => {
            let needed = needed(call, route);
            let Some(token) = credentials(call, "bearer") else { return Err(challenge(auth, call, &needed, None)) };
            match tokens.access.get(token).filter(|grant| now < grant.until) {
                None => Err(challenge(auth, call, &needed, Some("invalid_token"))),
                Some(grant) if !grant.scopes.contains(&needed) => {
                    Err(challenge(auth, call, &needed, Some("insufficient_scope")))
                }
                Some(_) => Ok(()),
            }
        }
    }
}

/// 401, and where to turn.
pub(super) fn challenge(auth: &Auth, call: &Call<'_>, needed: &ScopeSet, error: Option<&str>) -> Refusal {
    let text = match auth {
        Auth::Basic { .. } => "Basic realm=\"Registry Realm\"".to_owned(),
        Auth::Bearer { realm, service, .. } => {
            let base = if realm.starts_with('/') { call.base() } else { String::new() };
            let mut text = format!("Bearer realm=\"{base}{realm}\",service=\"{service}\"");
            if needed.iter().next().is_some() {
                text += &format!(",scope=\"{needed}\"");
            }
            if let Some(error) = error {
                text += &format!(",error=\"{error}\"");
            }
            text
        }
    };
    Refusal::from(Code::UNAUTHORIZED).detail(needed.to_string()).header(WWW_AUTHENTICATE, &text)
}

/// Whether a path is the one where tokens are to be had.
pub(super) fn is_realm(auth: Option<&Auth>, path: &str) -> bool {
    let Some(Auth::Bearer { realm, .. }) = auth else { return false };
    realm.parse::<Uri>().is_ok_and(|realm| realm.path() == path)
}

/// The token endpoint: `GET` with a password in `Authorization`, or OAuth2's `POST` with a form.
pub(super) fn token(auth: &Auth, tokens: &mut Tokens, now: Duration, call: &Call<'_>, body: &Bytes) -> Outcome {
    let Auth::Bearer { service, user, password, anonymous_pull, read_only, lifetime, .. } = auth else {
        return Err(Refusal::no_such_path());
    };
    let form = match *call.method {
        Method::GET => call.query.clone(),
        Method::POST => Query::parse(&String::from_utf8_lossy(body)),
        _ => return Err(Refusal::no_such_method()),
    };
    if form.non_empty("service").is_some_and(|asked| asked != service) {
        return Err(Refusal::from(Code::UNAUTHORIZED).status(StatusCode::BAD_REQUEST).message("no such service"));
    }
    let right = |name: &str, secret: &str| {
        user.as_deref().is_none_or(|user| user == name) && password.as_deref().is_none_or(|password| password == secret)
    };
    let wrong = || Refusal::from(Code::UNAUTHORIZED).header(WWW_AUTHENTICATE, "Basic realm=\"token\"");
    let known = if *call.method == Method::POST {
        let fine = match (form.get("grant_type"), form.get("refresh_token"), form.get("username"), form.get("password"))
        {
            (Some("refresh_token"), Some(token), ..) => tokens.refresh.contains(token),
            (Some("password"), _, Some(name), Some(secret)) => right(name, secret),
            _ => return Err(Refusal::from(Code::UNSUPPORTED).status(StatusCode::BAD_REQUEST)),
        };
        if !fine {
            return Err(wrong());
        }
        true
    } else if call.headers.contains_key(AUTHORIZATION) {
        match login(call) {
            Some((name, secret)) if right(&name, &secret) => true,
            _ => return Err(wrong()),
        }
    } else if user.is_none() || *anonymous_pull {
        false
    } else {
        return Err(wrong());
    };

    let asked = form.all("scope").collect::<Vec<_>>().join(" ");
    let scopes = if !read_only && (known || user.is_none()) {
        ScopeSet::parse(&asked)
    } else {
        ScopeSet::parse(&only_pull(&asked))
    };
    let token = tokens.name(&format!("access to {service}"));
    let mut reply =
        json!({ "token": token, "access_token": token, "expires_in": lifetime.as_secs(), "scope": scopes.to_string() });
    tokens.access.insert(token, Grant { scopes, until: now + *lifetime });
    if known && (form.get("offline_token") == Some("true") || form.get("access_type") == Some("offline")) {
        let token = tokens.name(&format!("refresh for {service}"));
        reply["refresh_token"] = token.as_str().into();
        tokens.refresh.insert(token);
    }
    Ok(json_reply("application/json", &reply))
}

/// Of some scopes, what is about pulling.
fn only_pull(scopes: &str) -> String {
    let pulls =
        |scope: &&str| scope.rsplit_once(':').is_some_and(|(_, actions)| actions.split(',').any(|a| a == "pull"));
    let pull = |scope: &str| scope.rsplit_once(':').map(|(resource, _)| format!("{resource}:pull"));
    scopes.split(' ').filter(pulls).filter_map(pull).collect::<Vec<_>>().join(" ")
}

/// What follows the scheme in `Authorization`.
fn credentials<'a>(call: &'a Call<'_>, wanted: &str) -> Option<&'a str> {
    let (scheme, rest) = call.header(&AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| rest.trim_start())
}

/// User and password, if the request brought some.
fn login(call: &Call<'_>) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(credentials(call, "basic")?).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
