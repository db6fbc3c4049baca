//! Getting in at real registries, over TLS with an authority of the tests' own, on all three runtimes: docker-registry with a
//! token server beside it, and with a file of passwords.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::flow::{
    Authenticate, Copy, CopyOptions, Destination, FetchManifest, InspectMany, ListCatalog, Pull, PullOptions, Push,
    PushOptions, Pushed, Resolve,
};
use registry_proto::job::FailureKind;
use registry_proto::spec::{Reference, Registry};
use registry_proto::{Config, Credential, Denied, DeniedBecause, Error, Flow, Secret, TokenRequest};
use registry_tests::authority::Authority;
use registry_tests::docker_registry::{DockerRegistry, skopeo};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::series::Series;
use registry_tests::token_server::{IDENTITY_TOKEN, Issued, PASSWORD, READER, TokenServer, USER};
use tempfile::TempDir;

/// A registry that does not let everybody in, and what there is around it.
struct Place {
    registry: DockerRegistry,
    tokens: Option<TokenServer>,
    authority: Authority,
    folder: TempDir,
}

impl Place {
    fn with_tokens() -> Self {
        let authority = Authority::new();
        let tokens = TokenServer::start(&authority.identity());
        let registry = DockerRegistry::with_tokens(&authority.identity(), &tokens);
        Self { registry, tokens: Some(tokens), authority, folder: TempDir::new().unwrap() }
    }

    fn with_htpasswd() -> Self {
        let authority = Authority::new();
        let registry = DockerRegistry::with_htpasswd(&authority.identity());
        Self { registry, tokens: None, authority, folder: TempDir::new().unwrap() }
    }

    fn issued(&self) -> Vec<Issued> {
        self.tokens.as_ref().unwrap().issued()
    }

    fn named(&self, name: &str) -> Reference {
        format!("{}/{name}", self.registry.host()).parse().unwrap()
    }

    fn host(&self) -> Registry {
        self.registry.host().parse().unwrap()
    }

    fn config(&self, credential: Option<Credential>) -> Config {
        let mut config = anonymous();
        if let Some(credential) = credential {
            config.log_in(&self.host(), credential);
        }
        config
    }

    fn run<F: Flow>(&self, runtime: Runtime, config: Config, flow: F) -> Result<F::Output, Error> {
        runtime.run_trusting(Some(self.authority.root()), config, flow, |_| {})
    }

    fn push(&self, runtime: Runtime, config: Config, to: &str) -> Result<Pushed, Error> {
        let archive = archive(self.folder.path(), "app.tar", &[b"a layer", &[7; 300_000]]);
        self.run(runtime, config, push_of(&archive, self.named(to)))
    }

    /// Pulls what was pushed and looks whether it is the same.
    fn pull(&self, runtime: Runtime, config: Config, from: &str, pushed: &Pushed) {
        let out = self.folder.path().join(format!("{runtime}.tar"));
        let mut options = PullOptions::default();
        options.platforms = registry_proto::flow::Platforms::All;
        let pulled = self.run(runtime, config, Pull::new(vec![self.named(from)], &out, options)).unwrap();
        assert_eq!(pulled.images[0].digest, pushed.references[0].digest);
        fs::remove_file(out).unwrap();
    }

    /// What `skopeo` makes of it, which is not ours: registry and token server are as they should be.
    fn witness(&self, image: &str, pushed: &Pushed) {
        let certificates = self.folder.path().join("certificates");
        fs::create_dir_all(&certificates).unwrap();
        fs::write(certificates.join("ca.crt"), self.authority.root_pem()).unwrap();
        let manifest = skopeo(&[
            "inspect",
            "--raw",
            "--cert-dir",
            certificates.to_str().unwrap(),
            "--creds",
            &format!("{USER}:{PASSWORD}"),
            &format!("docker://{}", self.named(image)),
        ]);
        assert_eq!(registry_proto::spec::Digest::of(&manifest), pushed.references[0].digest);
    }
}

fn anonymous() -> Config {
    let mut config = Config::default();
    config.scheme = registry_proto::Scheme::Https;
    (config.backoff, config.backoff_limit) = (Duration::from_millis(10), Duration::from_millis(50));
    config
}

fn user() -> Option<Credential> {
    Some(Credential::password(USER, PASSWORD))
}

fn reader() -> Option<Credential> {
    Some(Credential::password(READER, PASSWORD))
}

fn archive(folder: &Path, name: &str, layers: &[&[u8]]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, make::docker_save_legacy(&[SampleImage::new(&["app:v1"], layers)])).unwrap();
    path
}

fn push_of(archive: &Path, to: Reference) -> Push {
    Push::new(archive, Destination::Reference(to), PushOptions::default())
}

fn denied<T: std::fmt::Debug>(result: &Result<T, Error>) -> &Denied {
    match result {
        Err(Error::Denied(denied)) => denied,
        other => panic!("not denied: {other:?}"),
    }
}

fn scopes(issued: &[Issued]) -> Vec<String> {
    issued.iter().map(|one| format!("{} {} {}", one.method, one.account, one.asked.join(" "))).collect()
}

// ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────

fn a_password_is_exchanged_for_tokens(runtime: Runtime) {
    let place = Place::with_tokens();
    let pushed = place.push(runtime, place.config(user()), "team/app:v1").unwrap();
    // Four blobs and a manifest at the same time, and one token.
    assert_eq!(scopes(&place.issued()), ["GET user repository:team/app:pull,push"]);
    place.pull(runtime, place.config(reader()), "team/app:v1", &pushed);
    assert_eq!(scopes(&place.issued()[1..]), ["GET reader repository:team/app:pull"]);
    place.witness("team/app:v1", &pushed);
    assert!(place.run(runtime, place.config(user()), Authenticate::new(place.host())).unwrap().challenged);
    let catalog = ListCatalog::new(place.host()).collected();
    assert_eq!(place.run(runtime, place.config(user()), catalog).unwrap(), ["team/app"]);
}

fn an_identity_token_is_exchanged_for_tokens(runtime: Runtime) {
    let place = Place::with_tokens();
    let identity = |token: &str| Some(Credential::IdentityToken(Secret::new(token)));
    let pushed = place.push(runtime, place.config(identity(IDENTITY_TOKEN)), "team/app:v1").unwrap();
    place.pull(runtime, place.config(identity(IDENTITY_TOKEN)), "team/app:v1", &pushed);
    assert_eq!(
        scopes(&place.issued()),
        ["POST user repository:team/app:pull,push", "POST user repository:team/app:pull"]
    );
    let result = place.push(runtime, place.config(identity("an-old-one")), "team/app:v2");
    assert_eq!(denied(&result).because, DeniedBecause::TokenExpired);
    assert!(!result.unwrap_err().to_string().contains("an-old-one"));

    let mut posted = place.config(user());
    posted.token_request = TokenRequest::PostThenGet;
    place.pull(runtime, posted, "team/app:v1", &pushed);
    assert_eq!(scopes(&place.issued()[2..]), ["POST user repository:team/app:pull"]);
}

fn nobody_in_particular_may_read_what_is_public(runtime: Runtime) {
    let place = Place::with_tokens();
    let pushed = place.push(runtime, place.config(user()), "public/app:v1").unwrap();
    place.pull(runtime, anonymous(), "public/app:v1", &pushed);
    let last = place.issued().pop().unwrap();
    assert_eq!((last.account.as_str(), last.asked.join(" ").as_str()), ("", "repository:public/app:pull"));

    let result = place.push(runtime, anonymous(), "public/app:v2");
    assert_eq!(denied(&result).scopes.to_string(), "repository:public/app:pull,push");
    let result = place.run(runtime, anonymous(), Resolve::new(place.named("team/app:v1")));
    let why = result.as_ref().unwrap_err().to_string();
    assert!(why.contains("asked for `repository:team/app:pull`"), "{why}");
}

fn what_is_missing_is_said(runtime: Runtime) {
    let place = Place::with_tokens();
    place.push(runtime, place.config(user()), "team/app:v1").unwrap();

    // A wrong password: once, and not for each blob.
    let before = place.tokens.as_ref().unwrap().requests();
    let wrong = Some(Credential::password(USER, "wrong-password"));
    let result = place.push(runtime, place.config(wrong.clone()), "team/app:v1");
    assert_eq!(denied(&result).because, DeniedBecause::WrongCredentials);
    assert_eq!(place.tokens.as_ref().unwrap().requests(), before + 1);
    let why = result.unwrap_err().to_string();
    assert!(why.contains("/token?…: access denied (401)") && why.contains("check user and password"), "{why}");
    assert!(why.contains("`repository:team/app:pull,push`") && !why.contains("wrong-password"), "{why}");
    let result = place.run(runtime, place.config(wrong), Authenticate::new(place.host()));
    assert_eq!(denied(&result).because, DeniedBecause::WrongCredentials);

    // A missing scope.
    let result = place.push(runtime, place.config(reader()), "team/app:v2");
    assert_eq!(denied(&result).because, DeniedBecause::NotAllowed);
    let why = result.unwrap_err().to_string();
    assert!(why.contains("`repository:team/app:pull,push`") && why.contains("that this account may do this"), "{why}");

    // Tokens that have expired before they come.
    place.tokens.as_ref().unwrap().hold_for(-3600);
    let result = place.run(runtime, place.config(user()), FetchManifest::new(&place.named("team/app:v1")));
    assert_eq!(denied(&result).because, DeniedBecause::TokenNotAccepted, "{result:?}");

    // Another token server's signature.
    let stranger = TokenServer::start(&place.authority.identity());
    let other = DockerRegistry::with_tokens(&place.authority.identity(), &stranger);
    let config = {
        let mut config = anonymous();
        config.log_in(&other.host().parse().unwrap(), Credential::RegistryToken(Secret::new("not.a.token")));
        config
    };
    let image = format!("{}/app:v1", other.host()).parse().unwrap();
    let result = place.run(runtime, config, FetchManifest::new(&image));
    assert_eq!(denied(&result).because, DeniedBecause::TokenExpired);
    assert_eq!(stranger.requests(), 0, "a token for the registry itself needs no other");
}

fn a_token_that_expires_is_renewed(runtime: Runtime) {
    let place = Place::with_tokens();
    place.push(runtime, place.config(user()), "team/app:v1").unwrap();
    let before = place.issued().len();
    // It is said to hold for five minutes, and holds for two or three seconds: the registry gives it a minute of grace.
    let tokens = place.tokens.as_ref().unwrap();
    tokens.hold_for(-57);
    let fetch = || FetchManifest::new(&place.named("team/app:v1"));
    let series = Series::new([fetch(), fetch()]).between(|_| std::thread::sleep(Duration::from_millis(3500)));
    // (The second one has to be a good one. Nothing else can tell when the first was handed out.)
    let (results, issued) = std::thread::scope(|scope| {
        let run = scope.spawn(|| place.run(runtime, place.config(user()), series));
        while place.issued().len() == before {
            std::thread::sleep(Duration::from_millis(5));
        }
        tokens.hold_for(300);
        (run.join().unwrap().unwrap(), place.issued().len() - before)
    });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(issued, 2, "the first was refused when it was used again");
}

fn both_ends_of_a_mount_in_one_token(runtime: Runtime) {
    let place = Place::with_tokens();
    let pushed = place.push(runtime, place.config(user()), "team/app:v1").unwrap();
    let before = place.issued().len();
    let copy = || Copy::new(place.named("team/app:v1"), place.named("other/app:v1"), CopyOptions::default());
    let copied = place.run(runtime, place.config(user()), copy()).unwrap();
    assert_eq!((copied.totals.mounted, copied.totals.sent), (3, 0));
    let issued = scopes(&place.issued()[before..]);
    let both = "GET user repository:other/app:pull,push repository:team/app:pull";
    assert_eq!(issued.iter().filter(|one| *one == both).count(), 1, "{issued:?}");
    place.pull(runtime, place.config(user()), "other/app:v1", &pushed);

    // Who may not write anywhere gets a token all the same, and no further.
    let elsewhere = Copy::new(place.named("team/app:v1"), place.named("third/app:v1"), CopyOptions::default());
    let result = place.run(runtime, place.config(reader()), elsewhere);
    assert_eq!(denied(&result).because, DeniedBecause::NotAllowed);
}

fn a_hundred_operations_and_one_token(runtime: Runtime) {
    let place = Place::with_tokens();
    for name in ["team/app:v1", "public/app:v1"] {
        place.push(runtime, place.config(user()), name).unwrap();
    }
    let before = place.issued().len();
    let fetch = |at: usize| {
        FetchManifest::new(&place.named(if at.is_multiple_of(2) { "team/app:v1" } else { "public/app:v1" }))
    };
    let flows = (0..100).map(fetch).collect();
    let results = runtime.run_at_once(place.authority.root(), place.config(user()), flows).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let mut issued = scopes(&place.issued()[before..]);
    issued.sort();
    assert_eq!(issued, ["GET user repository:public/app:pull", "GET user repository:team/app:pull"]);

    // And as one operation.
    let references: Vec<Reference> = (0..100).map(|_| place.named("team/app:v1")).collect();
    let looked = place.run(runtime, place.config(user()), InspectMany::new(references)).unwrap();
    assert!(looked.iter().all(Result::is_ok), "{looked:?}");
    assert_eq!(place.issued().len(), before + 3);

    // A wrong password is tried once, not a hundred times.
    let tokens = place.tokens.as_ref().unwrap();
    let before = tokens.requests();
    let wrong = place.config(Some(Credential::password(USER, "wrong")));
    let flows = (0..100).map(|_| FetchManifest::new(&place.named("team/app:v1"))).collect();
    let results = runtime.run_at_once(place.authority.root(), wrong, flows).unwrap();
    assert!(results.iter().all(|result| denied(result).because == DeniedBecause::WrongCredentials));
    // Those that had not begun when it was refused could not have waited for it.
    assert!(tokens.requests() - before < 10, "{} times", tokens.requests() - before);
}

// ── passwords ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn a_password_with_every_request(runtime: Runtime) {
    let place = Place::with_htpasswd();
    let pushed = place.push(runtime, place.config(user()), "team/app:v1").unwrap();
    place.pull(runtime, place.config(user()), "team/app:v1", &pushed);
    place.witness("team/app:v1", &pushed);
    assert!(place.run(runtime, place.config(user()), Authenticate::new(place.host())).unwrap().challenged);

    for (config, because) in [
        (place.config(Some(Credential::password(USER, "wrong-password"))), DeniedBecause::WrongCredentials),
        (anonymous(), DeniedBecause::NoCredentials),
    ] {
        for result in [
            place.push(runtime, config.clone(), "team/app:v2").map(drop),
            place.run(runtime, config, FetchManifest::new(&place.named("team/app:v1"))).map(drop),
        ] {
            assert_eq!(denied(&result).because, because);
            assert!(!result.unwrap_err().to_string().contains("wrong-password"));
        }
    }
}

fn from_one_door_to_another(runtime: Runtime) {
    let (here, there) = (Place::with_tokens(), Place::with_htpasswd());
    let pushed = here.push(runtime, here.config(user()), "team/app:v1").unwrap();
    let mut config = here.config(reader());
    config.log_in(&there.host(), user().unwrap());
    let copy = Copy::new(here.named("team/app:v1"), there.named("team/app:v1"), CopyOptions::default());
    let result = here.run(runtime, config.clone(), copy);
    let untrusted = matches!(&result, Err(Error::Transport { last, .. }) if last.kind() == FailureKind::Tls);
    assert!(untrusted, "the destination has an authority that nobody was told to trust: {result:?}");

    let registry = DockerRegistry::with_htpasswd(&here.authority.identity());
    let there = Place { registry, tokens: None, authority: Authority::new(), folder: TempDir::new().unwrap() };
    config.log_in(&there.host(), user().unwrap());
    let copy = Copy::new(here.named("team/app:v1"), there.named("team/app:v1"), CopyOptions::default());
    let copied = here.run(runtime, config, copy).unwrap();
    assert_eq!((copied.digest, copied.totals.sent), (pushed.references[0].digest.clone(), 3));
}

on_all_runtimes!(
    a_password_is_exchanged_for_tokens,
    an_identity_token_is_exchanged_for_tokens,
    nobody_in_particular_may_read_what_is_public,
    what_is_missing_is_said,
    a_token_that_expires_is_renewed,
    both_ends_of_a_mount_in_one_token,
    a_hundred_operations_and_one_token,
    a_password_with_every_request,
    from_one_door_to_another,
);
