//! What ureq logs of its own accord, and at which level it is safe to listen: up to `debug`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use registry_proto::flow::Authenticate;
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::{Config, Credential};
use registry_tests::secrets;
use registry_tests::server::{Answer, Server, reply};

/// Shows a password, and follows a signed redirect; how often a secret was heard in logs.
fn heard() -> Vec<String> {
    let server = Server::start(Registry::new(Profile::distribution_3()), |asked| {
        match (asked.head.uri.query(), asked.header("authorization")) {
            (Some(_), _) => Answer::raw(reply("200 OK", &["Docker-Distribution-Api-Version: registry/2.0"], "{}")),
            (None, "") => Answer::raw(reply("401 Unauthorized", &["WWW-Authenticate: Basic realm=\"here\""], "")),
            _ => Answer::raw(reply("307 Temporary Redirect", &["Location: /v2/?X-Amz-Signature=c2lnbmVk"], "")),
        }
    });
    let registry = server.host().parse().unwrap();
    let mut config = Config::default();
    config.log_in(&registry, Credential::password("user", "hunter2"));
    secrets::watch();
    let client = registry_blocking::Client::builder().config(config).build().unwrap();
    let _ = client.run(Authenticate::new(registry));
    assert!(server.log().len() >= 2, "{:?}: the password was to be shown", server.log());
    secrets::heard()
}

/// One test: it is one process that is listened to.
#[test]
fn a42_of_ureq_debug_is_safe_and_trace_is_not() {
    secrets::watch();
    assert_eq!(heard(), [""; 0]);
    // If this fails one day, ureq has become more careful: then the README's warning can go.
    secrets::hear_all_of_ureq(true);
    let heard = heard();
    assert!(heard.iter().any(|line| line.starts_with("ureq_proto") && line.contains("dXNlcjpodW50ZXIy")), "{heard:?}");
    secrets::hear_all_of_ureq(false);
}
