//! Passwords that are typed, and what is said to whom a registry does not let in: which of the things that can be wrong it is, and
//! what was asked for.

use std::process::Output;
use std::time::Duration;

use registry_proto::testing::registry::Auth;

use crate::home::{Closed, Home, PAIR, archive, closed, failed, fine, with_basic, with_tokens};
use crate::run::{err, printed};

const TYPED: [&str; 3] = ["-u", "user", "--password-stdin"];

/// A registry whose tokens are as the caller wants them.
fn with_tokens_that(change: impl FnOnce(&mut bool, &mut bool, &mut Duration)) -> Closed {
    let mut auth = Auth::bearer_for("/token", "registry.test", "user", "swordfish");
    let Auth::Bearer { anonymous_pull, read_only, lifetime, .. } = &mut auth else { unreachable!("made as such") };
    change(anonymous_pull, read_only, lifetime);
    closed(auth)
}

/// Pushes and pulls with flags and a line of input; what came of each.
fn push_then_pull(home: &Home, host: &str, flags: &[&str], input: &str) -> [Output; 2] {
    let (archive, image, out) = (archive(home), format!("{host}/app:v1"), home.path("out.tar"));
    let out = out.to_str().unwrap();
    let push = home.tug_with(&[], &[&["push", "-v", &archive, &image], flags].concat(), input);
    [push, home.tug_with(&[], &[&["pull", "-v", "--all-platforms", &image, out], flags].concat(), input)]
}

/// What both said when they failed, which has to be the same thing.
fn both_failed(ran: &[Output; 2], what: &str) {
    for (output, scope) in ran.iter().zip(["repository:app:pull,push", "repository:app:pull"]) {
        let why = failed(output);
        assert!(why.contains(what), "{why}");
        assert!(why.contains(&format!("asked for `{scope}`")), "{why}");
        assert_eq!(printed(output), "", "nothing but results goes there");
    }
}

#[test]
fn a_password_that_is_typed_is_kept_nowhere() {
    for registry in [with_tokens(), with_basic()] {
        let home = Home::new();
        let [push, pull] = push_then_pull(&home, &registry.host, &TYPED, "swordfish\n");
        for told in [fine(&push), fine(&pull)] {
            assert!(!told.contains("swordfish") && !told.contains(PAIR), "{told}");
        }
        assert_eq!(printed(&push), printed(&pull));
        assert!(!home.path(".docker").exists() && !home.path(".config").exists());
        // Other users see it, but it works.
        fine(&home.tug(&["digest", &format!("{}/app:v1", registry.host), "-u", "user", "-p", "swordfish"]));
    }
}

#[test]
fn a_wrong_password() {
    let home = Home::new();
    let ran = push_then_pull(&home, &with_tokens().host, &TYPED, "not-the-word\n");
    both_failed(&ran, "the credentials were refused: check user and password");
    assert!(ran.iter().all(|output| !err(output).contains("not-the-word")), "{ran:?}");
    for output in push_then_pull(&home, &with_basic().host, &TYPED, "not-the-word\n") {
        assert!(failed(&output).contains("check user and password") && !err(&output).contains("not-the-word"));
    }
    for output in push_then_pull(&home, &with_tokens().host, &TYPED, "\n") {
        assert_eq!(output.status.code(), Some(2), "no password is wrong usage: {output:?}");
    }
}

#[test]
fn nobody_is_logged_in() {
    let home = Home::new();
    let nobody = push_then_pull(&home, &with_tokens().host, &[], "");
    both_failed(&nobody, "no credentials are known for this registry: log in first");
}

#[test]
fn a_missing_scope() {
    // Anybody may pull there; a token is given to who wants to push, too, but it does not reach that far.
    let registry = with_tokens_that(|anonymous_pull, _, _| *anonymous_pull = true);
    let home = Home::new();
    let [push, pull] = push_then_pull(&home, &registry.host, &[], "");
    let why = failed(&push);
    assert!(why.contains("asked for `repository:app:pull,push`") && why.contains("log in first"), "{why}");
    assert!(failed(&pull).contains("MANIFEST_UNKNOWN") || err(&pull).contains("404"), "{pull:?}");
    let [push, _] = push_then_pull(&home, &registry.host, &TYPED, "swordfish\n");
    fine(&push);
    fine(&home.tug(&["digest", &format!("{}/app:v1", registry.host)]));
}

#[test]
fn a_scope_that_is_missing_to_who_is_logged_in() {
    let registry = with_tokens_that(|_, read_only, _| *read_only = true);
    let home = Home::new();
    let [push, pull] = push_then_pull(&home, &registry.host, &TYPED, "swordfish\n");
    let why = failed(&push);
    assert!(why.contains("access denied (401)") && why.contains("asked for `repository:app:pull,push`"), "{why}");
    assert!(why.contains("that this account may do this") && !why.contains("log in"), "{why}");
    // It was not the password: who may read is let in, and told that there is nothing.
    assert!(failed(&pull).contains("404"), "{pull:?}");
}

#[test]
fn tokens_that_have_expired_when_they_come() {
    let registry = with_tokens_that(|_, _, lifetime| *lifetime = Duration::ZERO);
    let ran = push_then_pull(&Home::new(), &registry.host, &TYPED, "swordfish\n");
    both_failed(&ran, "the registry does not take the token that its token server has just given");
}

#[test]
fn a_token_that_was_stored_and_has_expired() {
    let (registry, home) = (with_tokens(), Home::new());
    let host = registry.host.as_str();
    for kind in ["identitytoken", "registrytoken"] {
        home.write(".docker/config.json", format!(r#"{{"auths":{{"{host}":{{"{kind}":"an-old-token"}}}}}}"#));
        let ran = push_then_pull(&home, host, &[], "");
        both_failed(&ran, "the stored token was refused, so it has expired or was revoked: log in again");
        assert!(ran.iter().all(|output| !err(output).contains("an-old-token")), "{ran:?}");
    }
}
