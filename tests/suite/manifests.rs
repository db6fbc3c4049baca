//! Putting manifests, and more tags for them: over sockets on all runtimes, into a real registry, and under faults. And the
//! methods by which each client changes what a registry holds.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::time::Duration;

use bytes::Bytes;
use registry_proto::archive::make::{self, MemoryDisk};
use registry_proto::flow::{Deleted, Destination, FetchManifest, Push, PushOptions, PutManifest, Retag};
use registry_proto::spec::{Algorithm, Descriptor, Digest, Manifest, Tag, TagOrDigest};
use registry_proto::testing::registry::{Auth, Profile, Registry, Support};
use registry_proto::testing::simulation::{Faults, Simulation};
use registry_proto::{Config, Credential, Error, Event, Session};
use registry_tests::docker_registry::{DockerRegistry, raw_manifest};
use registry_tests::images::{image, index_of, put, reference};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Server};

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

/// A blob that the registry doesn't know is asked for some times, since some storage needs a moment.
fn quick() -> Config {
    let mut config = Config::default();
    (config.backoff, config.backoff_limit) = (Duration::from_millis(1), Duration::from_millis(2));
    config
}

/// A manifest as nobody would write it: what counts are its bytes.
fn odd(manifest: &Manifest) -> Manifest {
    let text = std::str::from_utf8(manifest.bytes()).unwrap().replacen('{', "{\n\t \"odd\" : 1.50,  ", 1);
    Manifest::parse(Bytes::from(text), Some(manifest.media_type().as_str()), None).unwrap()
}

fn bytes_arrive_as_they_are(runtime: Runtime) {
    let mut registry = Registry::new(Profile::distribution_3());
    let manifest = odd(&put(&mut registry, "app", Some("v1"), &image(&[b"a layer"])));
    let server = Server::start(registry, |_| Answer::registry());
    let app = reference(&server.host(), "app");
    let held = |what: &str| server.registry().manifest("app", what);
    let expected = Some((manifest.bytes().clone(), manifest.media_type().to_string()));
    let put = |reference| {
        let mut told = Vec::new();
        let done = runtime.run_with(Config::default(), PutManifest::new(reference, manifest.clone()), |event| {
            if let Event::ManifestPut { reference, digest, .. } = event {
                told.push((reference, digest));
            }
        });
        done.map(|descriptor| {
            assert_eq!(descriptor, manifest.descriptor());
            assert_eq!(told.len(), 1);
            assert_eq!(&told[0].1, manifest.digest());
            told.remove(0).0
        })
    };
    // By digest: no tag leads there. By tag, also one that was another's; by both, the tag; by nothing, `latest`.
    let digest = manifest.digest().clone();
    assert_eq!(put(app.clone().with_digest(digest.clone())).unwrap(), TagOrDigest::Digest(digest.clone()));
    assert!(held(digest.as_str()) == expected && server.registry().tags("app") == ["v1"]);
    assert_eq!(put(app.clone().with_tag(tag("v1"))).unwrap(), TagOrDigest::Tag(tag("v1")));
    assert_eq!(put(app.clone().with_tag(tag("v2")).with_digest(digest)).unwrap(), TagOrDigest::Tag(tag("v2")));
    assert_eq!(put(app.clone()).unwrap(), TagOrDigest::Tag(Tag::latest()));
    for name in ["v1", "v2", "latest"] {
        assert_eq!(held(name), expected, "{name}");
        let fetched = runtime.run(Config::default(), FetchManifest::new(&app.clone().with_tag(tag(name)))).unwrap();
        assert_eq!(fetched, manifest);
    }
    // Another digest is a mistake, and noticed before anything is sent.
    let before = server.log().len();
    for wrong in [Digest::of(b"other"), Digest::compute(Algorithm::Sha512, b"other")] {
        let why = put(app.clone().with_tag(tag("v9")).with_digest(wrong.clone())).unwrap_err();
        assert!(matches!(why, Error::Misuse(_)) && why.to_string().contains(wrong.as_str()), "{why}");
    }
    assert_eq!(server.log().len(), before);
    // One of another algorithm is asked for by that.
    let long = Digest::compute(Algorithm::Sha512, manifest.bytes());
    assert_eq!(put(app.with_digest(long.clone())).ok(), Some(TagOrDigest::Digest(long.clone())));
    assert_eq!(server.count("PUT", long.as_str()), 1);
}

fn what_is_refused_says_why(runtime: Runtime) {
    let mut registry = Registry::new(Profile { max_manifest: 2000, ..Profile::distribution_3() });
    let there = put(&mut registry, "app", Some("v1"), &image(&[b"a layer"]));
    let server = Server::start(registry, |_| Answer::registry());
    let config = quick();
    let put = |rest: &str, manifest: &Manifest| {
        let flow = PutManifest::new(reference(&server.host(), rest), manifest.clone());
        runtime.run(config.clone(), flow).map_err(|why| why.to_string())
    };
    let missing = image(&[b"a layer that nobody pushed"]).manifest(false);
    for (rest, manifest) in
        [("app:v2", &missing), ("elsewhere:v1", &there), ("app:v2", &index_of(vec![missing.descriptor()]))]
    {
        let why = put(rest, manifest).unwrap_err();
        assert!(why.contains("400") && why.contains("has to be in the repository before it"), "{why}");
    }
    let large = odd(&there);
    let text = format!("{}{}", " ".repeat(2000), std::str::from_utf8(large.bytes()).unwrap());
    let large = Manifest::parse(Bytes::from(text), Some(large.media_type().as_str()), None).unwrap();
    let why = put("app:v2", &large).unwrap_err();
    assert!(why.contains("PUT") && why.contains("/v2/app/manifests/v2"), "{why}");
    assert_eq!(server.registry().tags("app"), ["v1"]);
    // A tag that must not change is fine if it is right already.
    let immutable = Server::start(Registry::new(Profile::distribution_3()), |asked| match asked.head.method.as_str() {
        "PUT" => Answer::raw(registry_tests::server::reply("412 Precondition Failed", &[], "")),
        _ => Answer::registry(),
    });
    let app = reference(&immutable.host(), "app:v1");
    registry_tests::images::put(&mut immutable.registry(), "app", Some("v1"), &image(&[b"a layer"]));
    runtime.run(config.clone(), PutManifest::new(app.clone(), there.clone())).unwrap();
    let why = runtime.run(config.clone(), PutManifest::new(app, odd(&there))).unwrap_err().to_string();
    assert!(why.contains("412"), "{why}");
}

fn a_real_registry_takes_manifests(runtime: Runtime) {
    let (registry, folder) = (DockerRegistry::start(), tempfile::tempdir().unwrap());
    let archive = folder.path().join("image.tar");
    std::fs::write(&archive, make::docker_save_legacy(&[image(&[b"a layer"])])).unwrap();
    let app = reference(&registry.host(), "app:v1");
    let push = Push::new(archive.as_path(), Destination::Reference(app.clone()), PushOptions::default());
    runtime.run(Config::default(), push).unwrap();
    let pushed = runtime.run(Config::default(), FetchManifest::new(&app)).unwrap();
    let odd = odd(&pushed);
    runtime.run(Config::default(), PutManifest::new(app.clone().with_tag(tag("odd")), odd.clone())).unwrap();
    let index = index_of(vec![pushed.descriptor(), odd.descriptor()]);
    runtime.run(Config::default(), PutManifest::new(app.clone().with_tag(tag("all")), index)).unwrap();
    let again = [tag("all"), tag("v9")];
    runtime.run(Config::default(), Retag::new(&app.clone().with_digest(odd.digest().clone()), again)).unwrap();
    for (name, manifest) in [("v1", &pushed), ("odd", &odd), ("all", &odd), ("v9", &odd)] {
        let reference = app.clone().with_tag(tag(name));
        assert_eq!(raw_manifest(&reference.to_string()), &manifest.bytes()[..], "{name}");
    }
    let missing = image(&[b"a layer that nobody pushed"]).manifest(false);
    let why = runtime.run(quick(), PutManifest::new(app, missing)).unwrap_err().to_string();
    assert!(why.contains("MANIFEST_BLOB_UNKNOWN") && why.contains("before it"), "{why}");
}

// ── what clients have ────────────────────────────────────────────────────────────────────────────────────────────────

struct Done {
    listed: (Vec<String>, Vec<String>),
    put: Descriptor,
    tagged: Descriptor,
    untagged: Deleted,
    deleted: Deleted,
    all: Vec<Deleted>,
    left: Vec<String>,
}

macro_rules! methods {
    ($client:expr, $app:expr, $manifest:expr $(, $wait:tt)?) => {{
        let (client, app) = ($client, $app);
        let repository = app.repository();
        let listed = (
            client.tags(repository)$(.$wait)?.unwrap(),
            client.catalog(repository.registry())$(.$wait)?.unwrap(),
        );
        let put = client.put_manifest(app, $manifest)$(.$wait)?.unwrap();
        let tagged = client.tag(app, [tag("a"), tag("b")])$(.$wait)?.unwrap();
        Done {
            listed,
            put,
            tagged,
            untagged: client.untag(repository, &tag("a"))$(.$wait)?.unwrap(),
            deleted: client.delete(app)$(.$wait)?.unwrap(),
            all: client.delete_repository(repository)$(.$wait)?.unwrap(),
            left: client.tags(repository)$(.$wait)?.unwrap(),
        }
    }};
}

fn clients_have_a_method_for_each(runtime: Runtime) {
    let mut registry = Registry::new(Profile { delete: Support::Yes, ..Profile::distribution_3() });
    let there = put(&mut registry, "app", Some("v1"), &image(&[b"a layer"]));
    let manifest = odd(&there);
    let server = Server::start(registry, |_| Answer::registry());
    let app = &reference(&server.host(), "app:v2");
    let new = manifest.clone();
    let done = match runtime {
        Runtime::Tokio => ::tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async { methods!(registry_tokio::Client::new().unwrap(), app, new, await) }),
        Runtime::AsyncStd => {
            ::async_std::task::block_on(async { methods!(registry_async_std::Client::new().unwrap(), app, new, await) })
        }
        Runtime::Blocking => methods!(registry_blocking::Client::new().unwrap(), app, new),
        Runtime::Smol | Runtime::StdNet => unreachable!("they have no client"),
    };
    assert_eq!(done.listed, (vec!["v1".to_owned()], vec!["app".to_owned()]));
    assert_eq!((done.put, done.tagged), (manifest.descriptor(), manifest.descriptor()));
    assert_eq!(done.untagged.reference, TagOrDigest::Tag(tag("a")));
    assert_eq!(done.deleted.reference, TagOrDigest::Digest(manifest.digest().clone()));
    assert_eq!(done.all.len(), 1, "{:?}", done.all);
    assert_eq!(done.all[0].reference, TagOrDigest::Digest(there.digest().clone()));
    assert!(done.left.is_empty(), "{:?}", done.left);
}

on_all_runtimes!(
    bytes_arrive_as_they_are,
    what_is_refused_says_why,
    a_real_registry_takes_manifests,
    clients_have_a_method_for_each,
);

// ── under faults ─────────────────────────────────────────────────────────────────────────────────────────────────────

const HOST: &str = "localhost:5000";

fn seeds() -> u64 {
    std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

#[test]
fn a_tag_leads_to_what_was_there_or_to_what_was_put() {
    let mut good = 0;
    for seed in 0..seeds() / 2 {
        let mut config = Config::default();
        config.retries = 12;
        let mut profile = if seed % 2 == 0 { Profile::distribution_3() } else { Profile::strict() };
        if seed % 3 == 0 {
            profile.requires_auth = Some(Auth::bearer_for("http://localhost:5001/token", "registry", "me", "secret"));
            config.log_in(&HOST.parse().unwrap(), Credential::password("me", "secret"));
        }
        let mut registry = Registry::new(profile);
        let old = put(&mut registry, "app", Some("v1"), &image(&[b"a layer"]));
        let new = put(&mut registry, "app", Some("v2"), &image(&[b"a layer", b"another"]));
        let mut faults = Faults::default();
        faults.requests = if seed % 10 == 0 { 0 } else { seed * 37 % 400 };
        faults.revoked_tokens = if seed % 10 == 0 { 0 } else { seed * 11 % 30 };
        let mut world = Simulation::new(seed, registry, MemoryDisk::default()).with_faults(faults);
        let mut session = Session::new(config, seed);
        let tags = [tag("v1"), tag("v3")];
        let result = if seed % 4 < 2 {
            world.run(&mut session, Retag::new(&reference(HOST, "app:v2"), tags)).result
        } else {
            world.run(&mut session, PutManifest::new(reference(HOST, "app:v1"), new.clone())).result
        };
        let leads = |world: &mut Simulation, name: &str| world.registry().manifest("app", name).map(|(bytes, _)| bytes);
        assert_eq!(leads(&mut world, "v2").as_ref(), Some(new.bytes()), "seed {seed}");
        let v1 = leads(&mut world, "v1").unwrap();
        assert!(v1 == new.bytes() || v1 == old.bytes(), "seed {seed}: a tag leads somewhere else");
        match result {
            Ok(descriptor) => {
                assert_eq!((&descriptor, &v1), (&new.descriptor(), new.bytes()), "seed {seed}");
                assert_eq!(leads(&mut world, "v3").is_some(), seed % 4 < 2, "seed {seed}");
                good += 1;
            }
            Err(why) => {
                assert!(!seed.is_multiple_of(10), "seed {seed}: nothing went wrong, but: {why}");
                assert!(
                    matches!(why, Error::Transport { .. } | Error::Registry(_) | Error::Denied(_)),
                    "seed {seed}: an error that nothing here can cause: {why}"
                );
            }
        }
    }
    assert!(good > seeds() / 2 * 7 / 10, "only {good} of {} came through", seeds() / 2);
}
