//! A token server as registries have them beside them: signed tokens for those who know a password, whose registry checks the
//! signature and never asks back (distribution's `auth: token`).

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, DnType, KeyPair, SigningKey as _};
use registry_proto::testing::registry::{Profile, Registry};
use serde_json::{Value, json};

use crate::authority::Identity;
use crate::server::{Answer, Asked, Server, reply};

/// What its registry calls itself.
pub const SERVICE: &str = "registry.test";
/// What it calls itself.
pub const ISSUER: &str = "the tests";
/// Who may do everything.
pub const USER: &str = "user";
/// Who may read everything.
pub const READER: &str = "reader";
/// The word that both know.
pub const PASSWORD: &str = "swordfish";
/// What the user can show instead, by `POST`.
pub const IDENTITY_TOKEN: &str = "an-identity-token";
/// What anybody may read begins with this.
pub const PUBLIC: &str = "public/";

/// How long clients are told that a token holds, in seconds.
const TOLD: i64 = 300;

/// The server. It ends when it is dropped.
pub struct TokenServer {
    server: Server,
    office: Arc<Office>,
}

/// A token that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// `GET` or `POST`.
    pub method: String,
    /// To whom; nobody in particular if it is empty.
    pub account: String,
    /// What was asked for, in that order.
    pub asked: Vec<String>,
}

/// What it works with.
struct Office {
    key: KeyPair,
    certificate: rcgen::Certificate,
    /// How long tokens really hold, in seconds.
    lifetime: AtomicI64,
    issued: Mutex<Vec<Issued>>,
}

impl TokenServer {
    /// Starts one at 127.0.0.1, over TLS.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start(identity: &Identity) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the tests' token server");
        let certificate = params.self_signed(&key).unwrap();
        let office = Arc::new(Office { key, certificate, lifetime: AtomicI64::new(TOLD), issued: Mutex::default() });
        let inside = Arc::clone(&office);
        let nothing = Registry::new(Profile::distribution_3());
        let server = Server::start_as(identity, nothing, move |asked| {
            let (office, asked) = (Arc::clone(&inside), asked.clone());
            Answer::made(move |body| office.answer(&asked, body).into_bytes())
        });
        Self { server, office }
    }

    /// Where tokens are to be had.
    pub fn realm(&self) -> String {
        format!("https://{}/token", self.server.host())
    }

    /// What its registry has to know to check signatures: a certificate in PEM.
    pub fn bundle(&self) -> String {
        self.office.certificate.pem()
    }

    /// The tokens handed out so far.
    pub fn issued(&self) -> Vec<Issued> {
        self.office.issued().clone()
    }

    /// From now on tokens hold for so many seconds, whatever is said of them. distribution gives each a minute's grace.
    pub fn hold_for(&self, seconds: i64) {
        self.office.lifetime.store(seconds, Ordering::SeqCst);
    }

    /// Requests so far, answered well or not.
    pub fn requests(&self) -> usize {
        self.server.log().len()
    }
}

impl fmt::Debug for TokenServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenServer").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Office {
    fn issued(&self) -> MutexGuard<'_, Vec<Issued>> {
        // A test that panicked has failed already.
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, asked: &Asked, body: &[u8]) -> String {
        let refused = |status: &str, why: &str| reply(status, &[], &json!({ "details": why }).to_string());
        if asked.head.uri.path() != "/token" {
            return refused("404 Not Found", "no such page");
        }
        let (form, account) = match asked.head.method.as_str() {
            "GET" => {
                let form = pairs(asked.head.uri.query().unwrap_or_default());
                match asked.header("authorization").strip_prefix("Basic ").map(login) {
                    Some(Some(account)) => (form, account),
                    Some(None) => return refused("401 Unauthorized", "incorrect username or password"),
                    None => (form, String::new()),
                }
            }
            "POST" => {
                let form = pairs(&String::from_utf8_lossy(body));
                if all(&form, "client_id").is_empty() {
                    return refused("400 Bad Request", "no client_id");
                }
                let one = |name: &str| all(&form, name).first().cloned().unwrap_or_default();
                let account = match one("grant_type").as_str() {
                    "refresh_token" => (one("refresh_token") == IDENTITY_TOKEN).then(|| USER.to_owned()),
                    "password" => right(&one("username"), &one("password")),
                    _ => return reply("400 Bad Request", &[], r#"{"error":"unsupported_grant_type"}"#),
                };
                match account {
                    Some(account) => (form, account),
                    None => return reply("400 Bad Request", &[], r#"{"error":"invalid_grant"}"#),
                }
            }
            _ => return refused("405 Method Not Allowed", "GET or POST"),
        };
        if all(&form, "service") != [SERVICE] {
            return refused("400 Bad Request", "no such service");
        }
        // `GET` has a parameter for each scope, `POST` one for all.
        let scopes: Vec<String> = all(&form, "scope")
            .iter()
            .flat_map(|scope| scope.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let access: Vec<Value> = scopes.iter().filter_map(|scope| grant(&account, scope)).collect();
        let token = self.token(&account, &access);
        let mut made = json!({ "expires_in": TOLD, "access_token": token });
        if asked.head.method == "GET" {
            made["token"] = made["access_token"].clone();
        }
        self.issued().push(Issued { method: asked.head.method.to_string(), account, asked: scopes });
        reply("200 OK", &["Content-Type: application/json"], &made.to_string())
    }

    /// A signed token (RFC 7519, RFC 7515), with the certificate that goes with its key.
    fn token(&self, account: &str, access: &[Value]) -> String {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let number = self.issued().len();
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(self.certificate.der())] });
        let claims = json!({
            "iss": ISSUER, "sub": account, "aud": SERVICE, "jti": format!("{number}"), "access": access,
            "exp": now + self.lifetime.load(Ordering::SeqCst), "nbf": now - 3600, "iat": now - 3600,
        });
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = raw_signature(&self.key.sign(signed.as_bytes()).unwrap());
        let signature = URL_SAFE_NO_PAD.encode(signature);
        // Without it, a token is nothing.
        crate::secrets::register(&signature);
        format!("{signed}.{signature}")
    }
}

/// What of a scope somebody may have.
fn grant(account: &str, scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let may = |action: &&str| match account {
        USER => true,
        READER => *action == "pull",
        _ => *action == "pull" && name.starts_with(PUBLIC),
    };
    let actions: Vec<&str> = actions.split(',').filter(may).collect();
    (!actions.is_empty()).then(|| json!({ "type": kind, "name": name, "actions": actions }))
}

fn right(user: &str, password: &str) -> Option<String> {
    ([USER, READER].contains(&user) && password == PASSWORD).then(|| user.to_owned())
}

fn login(pair: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(pair).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    right(user, password)
}

/// A form's pairs, decoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decode(name), decode(value))).collect()
}

fn all(form: &[(String, String)], name: &str) -> Vec<String> {
    form.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(decoded).unwrap()
}

/// Of the DER of two numbers, the numbers alone, 32 bytes each: so JWS has it.
fn raw_signature(der: &[u8]) -> [u8; 64] {
    let mut raw = [0; 64];
    // SEQUENCE, its length, and then twice INTEGER, its length and its bytes.
    let mut rest = &der[2..];
    for half in raw.chunks_mut(32) {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number = &number[number.len().saturating_sub(32)..];
        half[32 - number.len()..].copy_from_slice(number);
        rest = after;
    }
    raw
}
