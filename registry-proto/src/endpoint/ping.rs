//! `GET /v2/` (end-1): is there a registry, and how does it want to be authenticated?

use http::{Method, StatusCode};

use crate::endpoint::{Ask, Reply};
use crate::error::Error;
use crate::limits::Limits;
use crate::spec::{Challenge, Origin, ScopeSet};

/// What answered at `GET /v2/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The origin that was asked, such as `https://registry-1.docker.io`.
    pub origin: Origin,
    /// The reply's status: 200 (open, at least for this question), 401 (credentials wanted) or 403.
    pub status: StatusCode,
    /// `Docker-Distribution-API-Version`, which says `registry/2.0`. The specification never asked for it and many
    /// registries don't send it.
    pub api_version: Option<String>,
    /// How the registry wants to be authenticated.
    pub challenges: Vec<Challenge>,
}

pub(crate) fn ask(origin: &Origin, limits: &Limits) -> Ask {
    let url = origin.at("/v2/").expect("a constant path");
    let mut ask = Ask::new(Method::GET, url, ScopeSet::default(), limits);
    ask.authenticate = false;
    ask
}

pub(crate) fn read(origin: &Origin, reply: &Reply) -> Result<Ping, Error> {
    let api_version = reply.header("docker-distribution-api-version").map(str::to_owned);
    let challenges = challenges(reply);
    match reply.status {
        StatusCode::OK | StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {}
        StatusCode::NOT_FOUND => return Err(reply.refusal(Some("what answers there is no registry of API version 2"))),
        _ => return Err(reply.refusal(None)),
    }
    let is_html = reply.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
    if reply.status == StatusCode::OK && is_html && api_version.is_none() {
        return Err(reply.broken("it answered with a web page; is a login page or portal in between?"));
    }
    Ok(Ping { origin: origin.clone(), status: reply.status, api_version, challenges })
}

/// The challenges of a 401, from all `WWW-Authenticate` fields.
pub(crate) fn challenges(reply: &Reply) -> Vec<Challenge> {
    Challenge::parse_all(reply.headers.get_all(http::header::WWW_AUTHENTICATE).iter().map(http::HeaderValue::as_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::golden;

    #[test]
    fn request() {
        let ask = ask(&golden::origin(), &Limits::default());
        assert_eq!(golden::text(&ask), "GET https://r.example/v2/\naccept-encoding: identity\n");
    }

    #[test]
    fn replies() {
        let read = |reply| read(&golden::origin(), &reply);
        let open = read(golden::reply(200, &[("Docker-Distribution-Api-Version", "registry/2.0")], "{}")).unwrap();
        assert_eq!(open.api_version.as_deref(), Some("registry/2.0"));
        let closed = read(golden::reply(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], "")).unwrap();
        assert_eq!(closed.challenges[0].scheme(), "basic");
        assert!(read(golden::reply(404, &[], "")).is_err());
        assert!(read(golden::reply(200, &[("content-type", "text/html")], "<html>")).is_err());
        assert!(read(golden::reply(500, &[], "")).is_err());
    }
}
