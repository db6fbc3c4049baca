//! A watch over the secrets of a simulated world: what is shown and handed out in it, and must be said by nobody.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{Request, Response};

use super::registry::query::decode;
use crate::job::Payload;

/// What is shorter could stand in a text by chance.
const SHORTEST: usize = 6;
/// So many queries are looked for at a time. Sessions move on with each request, and looking for all that there ever were would take
/// longer than what is simulated; who tells one tells that which is in use.
const LATEST: usize = 8;

/// The secrets that have been seen so far.
#[derive(Default)]
pub(super) struct Watch {
    /// Passwords and tokens.
    credentials: BTreeSet<String>,
    /// The latest queries of URLs that redirects and upload sessions lead to: with a signed one anybody gets in.
    queries: VecDeque<String>,
    /// How many of them there have been.
    seen: usize,
    /// How many there had been when somebody was last told that there are new ones.
    known: usize,
}

/// Without the secrets.
impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({} credentials, {} queries)", self.credentials.len(), self.queries.len())
    }
}

impl Watch {
    /// A request: what it shows to whoever it goes to. Whether anything of that is new.
    ///
    /// # Panics
    /// When an HTTP stack that logs headers would log it.
    pub(super) fn asked(&mut self, request: &Request<Payload>) -> bool {
        let before = self.credentials.len();
        // (Sessions move on with each request: the first few are enough to see whether they are shown.)
        let has_moved = self.seen > self.known && self.seen.is_power_of_two();
        self.known = self.seen;
        for shown in request.headers().get_all(AUTHORIZATION) {
            assert!(shown.is_sensitive(), "what is shown to {} is not marked as a secret", request.uri());
            let Some((scheme, secret)) = shown.to_str().ok().and_then(|shown| shown.split_once(' ')) else { continue };
            self.keep(secret);
            if scheme == "Basic"
                && let Some(pair) = STANDARD.decode(secret).ok().and_then(|pair| String::from_utf8(pair).ok())
                && let Some((_, password)) = pair.split_once(':')
            {
                self.keep(password);
            }
        }
        if let Payload::Bytes(form) = request.body()
            && request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/x-www-form-urlencoded")
        {
            let pairs =
                std::str::from_utf8(form).unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            for (_, secret) in pairs.filter(|(name, _)| ["password", "refresh_token"].contains(name)) {
                self.keep(secret);
                decode(secret, true).iter().for_each(|secret| self.keep(secret));
            }
        }
        self.credentials.len() > before || has_moved
    }

    /// A reply: what it hands out.
    pub(super) fn answered(&mut self, reply: &Response<Bytes>) {
        let headers = reply.headers();
        if let Some(query) =
            headers.get(LOCATION).and_then(|to| to.to_str().ok()?.split_once('?')).map(|(_, query)| query)
            && (reply.status().is_redirection() || reply.status().is_success())
            && query.len() >= SHORTEST
            && self.queries.iter().all(|known| known != query)
        {
            self.seen += 1;
            self.queries.push_back(query.to_owned());
            if self.queries.len() > LATEST {
                self.queries.pop_front();
            }
        }
        // What a refusal says is shown.
        if !reply.status().is_success() || headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
            return;
        }
        let document: serde_json::Value = serde_json::from_slice(reply.body()).unwrap_or_default();
        for name in ["token", "access_token", "refresh_token"] {
            document.get(name).and_then(serde_json::Value::as_str).iter().for_each(|token| self.keep(token));
        }
    }

    /// Looks at what a user is told.
    ///
    /// # Panics
    /// When there is a secret in it.
    pub(super) fn told(&self, what: &impl fmt::Debug) {
        if !self.credentials.is_empty() || !self.queries.is_empty() {
            self.check(&format!("{what:?}"), self.credentials.iter().chain(&self.queries));
        }
    }

    /// Looks at what a log may come to hold: how a flow or a session is at a moment.
    ///
    /// # Panics
    /// When there is a secret in it.
    pub(super) fn logged(&self, what: &impl fmt::Debug) {
        self.told(what);
    }

    fn check<'a>(&self, text: &str, mut secrets: impl Iterator<Item = &'a String>) {
        if let Some(secret) = secrets.find(|secret| text.contains(*secret)) {
            panic!("a secret ({secret}): {text}");
        }
    }

    fn keep(&mut self, secret: &str) {
        if secret.len() >= SHORTEST {
            self.credentials.insert(secret.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_a_secret_and_what_is_not() {
        let mut watch = Watch::default();
        let mut shown = HeaderValue::from_static("Basic dXNlcjpzd29yZGZpc2g=");
        shown.set_sensitive(true);
        let form = "grant_type=password&username=somebody&password=open%20sesame";
        let request = Request::post("https://r.example/token")
            .header(AUTHORIZATION, shown)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Payload::Bytes(form.into()));
        let request = request.unwrap();
        assert!(watch.asked(&request) && !watch.asked(&request));
        let reply = |status: u16, body: &'static str| {
            let reply = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
            reply
                .header(LOCATION, "https://s3.example/x?signature=1")
                .body(Bytes::from_static(body.as_bytes()))
                .unwrap()
        };
        watch.answered(&reply(200, r#"{"token":"a-token","refresh_token":"another","expires_in":300}"#));
        watch.answered(&reply(401, r#"{"token":"a-refusal"}"#));
        watch.answered(&reply(307, ""));
        let expected = ["a-token", "another", "dXNlcjpzd29yZGZpc2g=", "open sesame", "open%20sesame", "swordfish"]
            .map(str::to_owned);
        assert_eq!(watch.credentials, BTreeSet::from(expected));
        assert_eq!(watch.queries, ["signature=1"]);
        watch.told(&"somebody");
        watch.logged(&"https://s3.example/x?…");
    }

    #[test]
    #[should_panic(expected = "a secret (a-token): \"it says a-token\"")]
    fn what_is_said_all_the_same() {
        let mut watch = Watch::default();
        watch.keep("a-token");
        watch.told(&"it says a-token");
    }
}
