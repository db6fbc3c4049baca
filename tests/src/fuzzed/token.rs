//! What a token server answers, and the challenge that led to it.

use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use registry_proto::flow::Authenticate;
use registry_proto::spec::Origin;
use registry_proto::testing::script::Script;
use registry_proto::{Config, Credential, Secret, Session, TokenRequest};

use super::line;

const SECRET: &str = "hunter2";

/// A registry's challenge, on the next line its token server's status, then the body of its answer.
pub fn token(data: &[u8]) {
    // What the registry says itself is no secret of ours.
    if data.windows(SECRET.len()).any(|window| window.eq_ignore_ascii_case(SECRET.as_bytes())) {
        return;
    }
    let (challenge, rest) = line(data);
    let (status, body) = line(rest);
    let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
    let Ok(challenge) = HeaderValue::from_bytes(challenge) else { return };
    let body = Bytes::copy_from_slice(body);
    for (credential, form) in [
        (None, TokenRequest::Get),
        (Some(Credential::password("user", SECRET)), TokenRequest::Get),
        (Some(Credential::password("user", SECRET)), TokenRequest::PostThenGet),
        (Some(Credential::IdentityToken(Secret::new(SECRET))), TokenRequest::Get),
    ] {
        ask(&challenge, status, &body, credential, form);
    }
}

fn ask(challenge: &HeaderValue, status: StatusCode, body: &Bytes, credential: Option<Credential>, form: TokenRequest) {
    let registry = "r.example".parse().expect("it is a registry");
    let mut config = Config::default();
    config.token_request = form;
    if let Some(credential) = credential {
        config.log_in(&registry, credential);
    }
    let mut script = Script::new(|request| {
        // At the registry's own address a token server is told by its path.
        if request.host() == "r.example" && request.url.path() == "/v2/" {
            let mut reply = Response::new(Bytes::new());
            if request.headers.get(AUTHORIZATION).is_none_or(|shown| shown == "Bearer refused") {
                *reply.status_mut() = StatusCode::UNAUTHORIZED;
                reply.headers_mut().append(WWW_AUTHENTICATE, challenge.clone());
            }
            return Ok(reply);
        }
        let mut reply = Response::new(body.clone());
        *reply.status_mut() = status;
        Ok(reply)
    });
    let mut session = Session::new(config, 1);
    let result = script.run(&mut session, Authenticate::new(registry));
    assert!(script.requests().len() <= 40, "{} requests", script.requests().len());
    for request in script.requests() {
        let origin = Origin::of(&request.url).expect("only registries and token servers are asked");
        assert!(origin.is_https(), "{}", request.line());
        for shown in request.headers.get_all(AUTHORIZATION) {
            assert!(shown.is_sensitive() && shown.len() <= (16 << 10) + 7);
            let is_registry = origin.host() == "r.example" && origin.port() == 443;
            assert!(
                is_registry || shown.as_bytes().starts_with(b"Basic "),
                "a token for the registry went to {origin}"
            );
        }
        assert!(!request.url.to_string().contains(SECRET), "a password in a URL");
    }
    let told = match result {
        Ok(authenticated) => format!("{authenticated:?}"),
        Err(why) => format!("{why} {why:?}"),
    };
    assert!(!told.contains(SECRET) && !format!("{session:?}").contains(SECRET), "{told}");
}
