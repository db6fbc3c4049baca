//! Getting in, case by case (PROTOCOL §7, C1–C27): what a client asks when a registry and its token server answer so.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

mod challenges;
mod many_at_once;
mod token_servers;

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{
    Copy, CopyOptions, Destination, Each, FetchManifest, ListCatalog, Pinging, Push, PushOptions,
};
use registry_proto::job::{Failure, FailureKind};
use registry_proto::spec::{Manifest, Reference};
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Credential, Denied, DeniedBecause, Error, Secret, Session, TokenRequest};

type Answer = Result<Response<Bytes>, Failure>;

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
const BEARER: &str = r#"Bearer realm="https://t/token",service="s",scope="repository:n:pull""#;
const TOKEN: &str = "https://t/token?service=s&scope=repository:n:pull";
const GET: &str = "GET https://r.example/v2/n/manifests/v1";

fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut reply = Response::builder().status(status);
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    Ok(reply.body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
}

fn manifest() -> Answer {
    reply(200, &[("content-type", "application/vnd.oci.image.manifest.v1+json")], MANIFEST)
}

fn challenge(text: &str) -> Answer {
    reply(401, &[("www-authenticate", text)], "")
}

fn token(name: &str) -> Answer {
    reply(200, &[], &format!(r#"{{"token":"{name}","expires_in":300}}"#))
}

fn image() -> Reference {
    "r.example/n:v1".parse().unwrap()
}

fn fetch() -> FetchManifest {
    FetchManifest::new(&image())
}

fn anonymous() -> Session {
    Session::new(Config::default(), 1)
}

fn logged_in(credential: Credential) -> Session {
    let mut config = Config::default();
    config.log_in(&"r.example".parse().unwrap(), credential);
    Session::new(config, 1)
}

fn user() -> Session {
    logged_in(Credential::password("user", "pass"))
}

/// `user:pass` as a header has it.
const BASIC: &str = "Basic dXNlcjpwYXNz";

/// A registry that takes tokens of this name, and wants one as `wants` says.
fn takes(request: &Request, name: &str, wants: &str) -> Answer {
    if request.header("authorization") == format!("Bearer {name}") { manifest() } else { challenge(wants) }
}

fn denied<T: std::fmt::Debug>(result: &Result<T, Error>) -> &Denied {
    match result {
        Err(Error::Denied(denied)) => denied,
        other => panic!("not denied: {other:?}"),
    }
}

fn tokens(script: &[String]) -> usize {
    script.iter().filter(|line| line.contains("//t/token")).count()
}
