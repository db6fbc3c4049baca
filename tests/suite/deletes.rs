//! Deleting and tagging: in the simulator under faults, over sockets on all runtimes, and at a real `docker-registry`.
//! What was not named is never deleted.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::{BTreeMap, BTreeSet};

use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{DeleteManifest, DeleteRepository, Destination, ListTags, Push, PushOptions, Retag, Untag};
use registry_proto::spec::{Digest, Index, Manifest, MediaType, Reference, Repository, Tag, TagOrDigest};
use registry_proto::testing::registry::{Auth, Profile, Registry, Support};
use registry_proto::testing::simulation::{Faults, Simulation};
use registry_proto::{Config, Credential, Error, Event, Session};
use registry_tests::docker_registry::DockerRegistry;
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{self, Answer};
use registry_tokio::serve::Server;

fn repository(host: &str, name: &str) -> Repository {
    reference(&format!("{host}/{name}")).repository().clone()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// Puts an image there, under a tag or none.
fn image(registry: &mut Registry, name: &str, tag: Option<&str>, layer: &str) -> Manifest {
    let image = SampleImage::new(&[], &[layer.as_bytes()]);
    registry.insert_image(name, tag, &image);
    image.manifest(false)
}

fn index(registry: &mut Registry, name: &str, tag: Option<&str>, of: &[&Manifest]) -> Manifest {
    let manifests = of.iter().map(|manifest| manifest.descriptor()).collect();
    let media_type = Some(MediaType::OCI_INDEX);
    let index = Index { media_type, artifact_type: None, manifests, subject: None, annotations: BTreeMap::new() };
    let index = index.to_manifest();
    put(registry, name, tag, &index);
    index
}

fn put(registry: &mut Registry, name: &str, tag: Option<&str>, manifest: &Manifest) {
    registry.insert_manifest(name, tag, manifest.bytes().clone(), manifest.media_type().as_str()).unwrap();
}

/// What a registry with two repositories holds: `app` with images under several tags, an index, and an index of that index
/// and of an image that has a tag, too; `other` with some of the same.
struct Held {
    one: Digest,
    two: Digest,
    /// In the order in which they may go at the earliest.
    list: Digest,
    index: Digest,
    children: [Digest; 2],
}

fn filled(profile: Profile) -> (Registry, Held) {
    let mut registry = Registry::new(profile);
    let one = image(&mut registry, "app", Some("one"), "one");
    put(&mut registry, "app", Some("uno"), &one);
    let two = image(&mut registry, "app", Some("two"), "two");
    let children = ["amd64", "arm64"].map(|layer| image(&mut registry, "app", None, layer));
    let inner = index(&mut registry, "app", Some("inner"), &[&children[0], &children[1]]);
    let list = index(&mut registry, "app", Some("list"), &[&inner, &two]);
    for tag in ["one", "two"] {
        image(&mut registry, "other", Some(tag), tag);
    }
    let digest = |manifest: &Manifest| manifest.digest().clone();
    let held = Held {
        one: digest(&one),
        two: digest(&two),
        list: digest(&list),
        index: digest(&inner),
        children: [digest(&children[0]), digest(&children[1])],
    };
    (registry, held)
}

impl Held {
    fn all(&self) -> BTreeSet<Digest> {
        [&self.one, &self.two, &self.list, &self.index, &self.children[0], &self.children[1]]
            .into_iter()
            .cloned()
            .collect()
    }

    /// Those of them that a registry still has.
    fn left(&self, registry: &Registry) -> BTreeSet<Digest> {
        let mut all = self.all();
        all.retain(|digest| registry.manifest("app", digest.as_str()).is_some());
        all
    }

    fn all_but(&self, gone: &[&Digest]) -> BTreeSet<Digest> {
        self.all().into_iter().filter(|digest| !gone.contains(&digest)).collect()
    }
}

fn deleting(mut profile: Profile) -> Profile {
    profile.delete = Support::Yes;
    profile
}

fn served(registry: Registry) -> (::tokio::runtime::Runtime, Server) {
    let tokio = ::tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = tokio.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
    (tokio, server)
}

fn what_is_named_goes_and_nothing_else(runtime: Runtime) {
    let mut profile = deleting(Profile::distribution_3());
    profile.requires_auth = Some(Auth::bearer_for("/token", "registry.test", "me", "secret"));
    let (registry, held) = filled(profile);
    let (_tokio, server) = served(registry);
    let host = server.address().to_string();
    let mut config = Config::default();
    config.log_in(&host.parse().unwrap(), Credential::password("me", "secret"));
    let left = || server.registry(|registry| (held.left(registry), registry.tags("app")));

    let untagged = runtime.run(config.clone(), Untag::new(repository(&host, "app"), tag("uno"))).unwrap();
    assert_eq!(untagged.to_reference(), reference(&format!("{host}/app:uno")));
    assert_eq!(left(), (held.all(), ["inner", "list", "one", "two"].map(String::from).to_vec()));

    let again = Retag::new(&reference(&format!("{host}/app:one")), [tag("eins"), tag("uno")]);
    assert_eq!(runtime.run(config.clone(), again).unwrap().digest, held.one);
    let gone = runtime.run(config.clone(), DeleteManifest::new(&reference(&format!("{host}/app:one")))).unwrap();
    assert_eq!(gone.reference, TagOrDigest::Digest(held.one.clone()));
    assert_eq!(left(), (held.all_but(&[&held.one]), ["inner", "list", "two"].map(String::from).to_vec()));

    let by_digest = reference(&format!("{host}/app@{}", held.two));
    runtime.run(config.clone(), DeleteManifest::new(&by_digest)).unwrap();
    assert_eq!(left().0, held.all_but(&[&held.one, &held.two]));

    let mut told = Vec::new();
    let all = runtime
        .run_with(config, DeleteRepository::new(repository(&host, "app")), |event| {
            if let Event::Deleted { reference, .. } = event {
                told.push(reference);
            }
        })
        .unwrap();
    assert_eq!(left(), (BTreeSet::new(), Vec::new()));
    let order: Vec<&TagOrDigest> = all.iter().map(|deleted| &deleted.reference).collect();
    let digest = |digest: &Digest| TagOrDigest::Digest(digest.clone());
    assert_eq!(order[..2], [&digest(&held.list), &digest(&held.index)], "indexes before what they name");
    assert_eq!((order.len(), told.len()), (4, 4));
    assert_eq!(server.registry(|registry| registry.tags("other")).len(), 2);
}

fn what_can_not_be_deleted_is_said(runtime: Runtime) {
    let fails = |host: &str, what: &str, says: &[&str]| {
        let why = runtime.run(Config::default(), DeleteManifest::new(&reference(&format!("{host}/{what}"))));
        let why = why.unwrap_err();
        for part in says {
            assert!(why.to_string().contains(part), "{what}: {part}: {why}");
        }
        why
    };
    let (_tokio, off) = served(filled(Profile::distribution_2_8()).0);
    let host = off.address().to_string();
    fails(&host, "app:one", &["DELETE", "405", "UNSUPPORTED", "switched off"]);
    fails(&host, "app:none", &["404", "check the repository's name and the tag"]);
    assert!(matches!(fails(&host, "app", &["give a tag or a digest"]), Error::Misuse(_)));
    let all = runtime.run(Config::default(), DeleteRepository::new(repository(&host, "app"))).unwrap_err();
    assert!(all.to_string().contains("switched off"), "{all}");

    let (_tokio, old) = served(filled(deleting(Profile::distribution_2_8())).0);
    let host = old.address().to_string();
    let why = runtime.run(Config::default(), Untag::new(repository(&host, "app"), tag("one"))).unwrap_err().to_string();
    assert!(why.contains("does not delete a tag alone") && why.contains("all its tags"), "{why}");
    let why = runtime.run(Config::default(), Untag::new(repository(&host, "app"), tag("no"))).unwrap_err().to_string();
    assert!(why.contains("there is no such tag"), "{why}");
    assert_eq!(old.registry(|registry| registry.tags("app")).len(), 5);

    // 404 to every DELETE, though the manifest is there.
    let deaf = server::Server::start(filled(Profile::distribution_3()).0, |asked| match asked.head.method.as_str() {
        "DELETE" => Answer::raw(server::reply("404 Not Found", &[], "404 page not found")),
        _ => Answer::registry(),
    });
    fails(&deaf.host(), "app:one", &["but it is there", "does not delete manifests"]);
    // Another body than the digest says: whatever that is, it is not deleted by its tag.
    let (registry, held) = filled(deleting(Profile::distribution_3()));
    let (two, _) = registry.manifest("app", "two").unwrap();
    let liar = server::Server::start(registry, move |asked| {
        let two = two.clone();
        match asked.head.uri.path() {
            "/v2/app/manifests/one" => Answer::edited(move |reply| {
                *reply.body_mut() = two.clone();
                reply.headers_mut().insert("content-length", two.len().into());
            }),
            _ => Answer::registry(),
        }
    });
    fails(&liar.host(), "app:one", &["do not use it"]);
    assert_eq!(held.left(&liar.registry()), held.all());
}

/// Quay's token server: it knows `push`, `pull` and `*`.
fn a_token_server_without_the_action_delete_is_asked_for_everything(runtime: Runtime) {
    let (registry, held) = filled(deleting(Profile::distribution_3()));
    let server = server::Server::start(registry, |asked| {
        let token = asked.header("authorization").strip_prefix("Bearer ").map(str::to_owned);
        let query = asked.head.uri.query().unwrap_or_default();
        let host = asked.header("host");
        match (asked.head.uri.path(), token) {
            ("/token", _) if query.contains("delete") => Answer::raw(server::reply("400 Bad Request", &[], "")),
            ("/token", _) if query.contains('*') => Answer::raw(server::reply("200 OK", &[], r#"{"token":"all"}"#)),
            ("/token", _) => Answer::raw(server::reply("200 OK", &[], r#"{"token":"pull"}"#)),
            (_, Some(token)) if token == "all" || asked.head.method != "DELETE" => Answer::registry(),
            _ => Answer::raw(server::reply(
                "401 Unauthorized",
                &[&format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\"")],
                "",
            )),
        }
    });
    let one = reference(&format!("{}/app:one", server.host()));
    runtime.run(Config::default(), DeleteManifest::new(&one)).unwrap();
    assert_eq!(held.left(&server.registry()), held.all_but(&[&held.one]));
}

/// The registry has done it, but its reply is lost: that is told apart from a manifest that was never there.
fn a_lost_reply_is_no_failure(runtime: Runtime) {
    let (registry, held) = filled(deleting(Profile::distribution_3()));
    let lost = std::sync::atomic::AtomicBool::new(false);
    let server = server::Server::start(registry, move |asked| {
        let first = asked.head.method == "DELETE" && !lost.swap(true, std::sync::atomic::Ordering::SeqCst);
        if first { Answer::lost() } else { Answer::registry() }
    });
    let mut config = Config::default();
    config.backoff = std::time::Duration::from_millis(1);
    runtime.run(config, DeleteManifest::new(&reference(&format!("{}/app:two", server.host())))).unwrap();
    assert_eq!(held.left(&server.registry()), held.all_but(&[&held.two]));
}

fn a_real_registry_deletes_what_it_is_told_to(runtime: Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("images.tar");
    let images = ["a", "b"].map(|name| SampleImage::new(&[&format!("app:{name}")], &[name.as_bytes()]));
    std::fs::write(&archive, make::docker_save_legacy(&images)).unwrap();
    let push = |host: &str| {
        let push = Push::new(archive.as_path(), Destination::Below(host.to_owned()), PushOptions::default());
        runtime.run(Config::default(), push).unwrap();
    };
    let run = |what: &str| runtime.run(Config::default(), DeleteManifest::new(&reference(what)));

    let registry = DockerRegistry::start();
    let host = registry.host();
    push(&host);
    let app = repository(&host, "app");
    let retag = Retag::new(&reference(&format!("{host}/app:a")), [tag("a2"), tag("b2")]);
    let a = runtime.run(Config::default(), retag).unwrap().digest;
    // This one can't delete a tag alone, and nothing else is done instead.
    let why = runtime.run(Config::default(), Untag::new(app.clone(), tag("a2"))).unwrap_err().to_string();
    assert!(why.contains("does not delete a tag alone"), "{why}");
    let deleted = run(&format!("{host}/app:b2")).unwrap();
    assert_eq!(deleted.reference, TagOrDigest::Digest(a));
    let tags = |app: &Repository| {
        let mut tags = runtime.run(Config::default(), ListTags::new(app.clone()).collected()).unwrap();
        tags.sort();
        tags
    };
    assert_eq!(tags(&app), ["b"], "with the manifest go all its tags");
    let why = run(&format!("{host}/app:a")).unwrap_err().to_string();
    assert!(why.contains("404") && why.contains("MANIFEST_UNKNOWN"), "{why}");
    push(&host);
    let all = runtime.run(Config::default(), DeleteRepository::new(app.clone())).unwrap();
    assert_eq!(all.len(), 2);
    assert!(tags(&app).is_empty());

    let keeps = DockerRegistry::that_keeps_everything();
    push(&keeps.host());
    let why = run(&format!("{}/app:a", keeps.host())).unwrap_err().to_string();
    assert!(why.contains("405") && why.contains("switched off"), "{why}");
    assert_eq!(tags(&repository(&keeps.host(), "app")), ["a", "b"]);
}

on_all_runtimes!(
    what_is_named_goes_and_nothing_else,
    what_can_not_be_deleted_is_said,
    a_token_server_without_the_action_delete_is_asked_for_everything,
    a_lost_reply_is_no_failure,
    a_real_registry_deletes_what_it_is_told_to,
);

// ── under faults ─────────────────────────────────────────────────────────────────────────────────────────────────────

const HOST: &str = "localhost:5000";

fn seeds() -> u64 {
    std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

fn world(seed: u64) -> (Simulation, Session, Held) {
    let mut config = Config::default();
    config.retries = 12;
    let mut profile = deleting(if seed.is_multiple_of(2) { Profile::distribution_3() } else { Profile::strict() });
    if seed % 7 == 3 {
        profile.delete = Support::NOT_ALLOWED;
    }
    profile.delete_tags = seed % 5 != 2;
    profile.tag_page = Some(2);
    if seed.is_multiple_of(3) {
        profile.requires_auth = Some(Auth::bearer_for("http://localhost:5001/token", "registry", "me", "secret"));
        config.log_in(&HOST.parse().unwrap(), Credential::password("me", "secret"));
    }
    let mut faults = Faults::default();
    if !seed.is_multiple_of(10) {
        faults.requests = seed * 37 % 400;
        faults.revoked_tokens = seed * 11 % 30;
    }
    let (registry, held) = filled(profile);
    (Simulation::new(seed, registry, MemoryDisk::default()).with_faults(faults), Session::new(config, seed), held)
}

/// What may be gone at the end, if all goes well is gone, and is told as gone.
fn check(
    seed: u64,
    world: &mut Simulation,
    held: &Held,
    result: Result<Vec<TagOrDigest>, Error>,
    asked: &[TagOrDigest],
) -> bool {
    let (mut manifests, mut tags) = (held.all(), BTreeSet::new());
    for one in asked {
        match one {
            TagOrDigest::Digest(digest) => _ = manifests.remove(digest),
            TagOrDigest::Tag(tag) => _ = tags.insert(tag.to_string()),
        }
    }
    let registry = world.registry();
    let left = held.left(registry);
    assert!(manifests.is_subset(&left), "seed {seed}: a manifest is gone that nobody named");
    assert_eq!(registry.tags("other").len(), 2, "seed {seed}");
    for tag in ["one", "uno", "two", "inner", "list"].map(String::from) {
        let led_to = match tag.as_str() {
            "one" | "uno" => &held.one,
            "two" => &held.two,
            "inner" => &held.index,
            _ => &held.list,
        };
        let there = registry.tags("app").contains(&tag);
        assert!(there || tags.contains(&tag) || !manifests.contains(led_to), "seed {seed}: the tag {tag} is gone");
    }
    match result {
        Ok(gone) => {
            assert_eq!(gone.iter().collect::<BTreeSet<_>>(), asked.iter().collect(), "seed {seed}: what is told");
            assert_eq!(left, manifests, "seed {seed}: what was told is gone");
            assert!(registry.tags("app").iter().all(|tag| !tags.contains(tag)), "seed {seed}");
            true
        }
        Err(why) => {
            let supported =
                registry.profile().delete == Support::Yes && (tags.is_empty() || registry.profile().delete_tags);
            if seed.is_multiple_of(10) && supported {
                panic!("seed {seed}: nothing went wrong, but: {why}");
            }
            assert!(
                matches!(why, Error::Transport { .. } | Error::Registry(_) | Error::Denied(_)),
                "seed {seed}: an error that nothing here can cause: {why}"
            );
            false
        }
    }
}

#[test]
fn never_more_is_deleted_than_was_named() {
    let mut good = 0;
    for seed in 0..seeds() {
        let (mut world, mut session, held) = world(seed);
        let digest = |digest: &Digest| TagOrDigest::Digest(digest.clone());
        good += u64::from(match seed % 4 {
            0 => {
                let flow = DeleteManifest::new(&reference(&format!("{HOST}/app:uno")));
                let result = world.run(&mut session, flow).result.map(|deleted| vec![deleted.reference]);
                check(seed, &mut world, &held, result, &[digest(&held.one)])
            }
            1 => {
                let flow = DeleteManifest::new(&reference(&format!("{HOST}/app@{}", held.index)));
                let result = world.run(&mut session, flow).result.map(|deleted| vec![deleted.reference]);
                check(seed, &mut world, &held, result, &[digest(&held.index)])
            }
            2 => {
                let flow = Untag::new(repository(HOST, "app"), tag("two"));
                let result = world.run(&mut session, flow).result.map(|deleted| vec![deleted.reference]);
                check(seed, &mut world, &held, result, &[TagOrDigest::Tag(tag("two"))])
            }
            _ => {
                let ran = world.run(&mut session, DeleteRepository::new(repository(HOST, "app")));
                let result = ran.result.map(|all| all.into_iter().map(|deleted| deleted.reference).collect());
                let all: Vec<_> = held.all().iter().map(digest).collect();
                // Whatever broke off in the middle: no index is left that misses something of it.
                let left = held.left(world.registry());
                let whole = |index: &Digest, names: &[&Digest]| {
                    !left.contains(index) || names.iter().all(|name| left.contains(*name))
                };
                assert!(whole(&held.list, &[&held.index, &held.two]), "seed {seed}");
                assert!(whole(&held.index, &[&held.children[0], &held.children[1]]), "seed {seed}");
                check(seed, &mut world, &held, result, &all)
            }
        });
    }
    assert!(good > seeds() * 6 / 10, "only {good} of {} came through", seeds());
}
