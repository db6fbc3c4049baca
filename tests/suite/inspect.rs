//! Looking at images, in the simulator: what is asked, what is told, and that faults change neither.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use bytes::Bytes;
use registry_proto::archive::make::MemoryDisk;
use registry_proto::flow::{Each, FetchConfig, Flow, Inspect, InspectMany, Inspected, Resolve};
use registry_proto::spec::{Descriptor, Digest, ManifestContent, MediaType};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Credential, Error, Session};
use registry_tests::images::{check_index, image, put, put_index, put_manifest, reference};

/// Where the simulator's registry is.
const HOST: &str = "localhost:5000";

fn simulate<F: Flow + std::fmt::Debug>(registry: Registry, flow: F) -> Ran<F::Output> {
    let mut world = Simulation::new(1, registry, MemoryDisk::default());
    world.run(&mut Session::new(Config::default(), 1), flow)
}

fn lines<T>(ran: &Ran<T>) -> Vec<&str> {
    ran.requests.iter().map(|asked| asked.line.as_str()).collect()
}

#[test]
fn an_image_is_its_manifest_and_its_configuration() {
    let mut registry = Registry::new(Profile::distribution_3());
    let sample = image(&[b"a layer", b"another"]);
    let manifest = put(&mut registry, "app", Some("v1"), &sample);
    let ran = simulate(registry, Inspect::new(reference(HOST, "app:v1")));
    let config = Digest::of(&sample.config());
    assert_eq!(
        lines(&ran),
        [format!("GET http://{HOST}/v2/app/manifests/v1"), format!("GET http://{HOST}/v2/app/blobs/{config}")]
    );
    let found = ran.result.unwrap();
    assert_eq!((found.digest(), found.manifest.bytes()), (manifest.digest(), manifest.bytes()));
    assert_eq!(found.platform().unwrap().to_string(), "linux/amd64");
    assert_eq!((found.layers().len(), found.total_size()), (2, 14 + sample.config().len() as u64));
    let config = found.config.as_ref().unwrap();
    assert_eq!((&config.config.env[0][..], config.history.len()), ("PATH=/bin", 2));
    assert_eq!((found.children.len(), found.notes.len()), (0, 0));
}

#[test]
fn an_index_is_all_its_images() {
    let mut registry = Registry::new(Profile::strict());
    let index = put_index(&mut registry, "app", "multi");
    let ran = simulate(registry, Inspect::new(reference(HOST, "app:multi")));
    check_index(ran.result.as_ref().unwrap(), &index);
    assert_eq!(ran.requests.len(), 1 + 3 + 2, "{:?}", lines(&ran));
    assert_eq!(ran.most_at_once, 3, "side by side");
}

#[test]
fn a_reference_is_resolved_by_asking_for_the_head_alone() {
    let mut registry = Registry::new(Profile::distribution_3());
    let manifest = put(&mut registry, "app", Some("v1"), &image(&[b"x"]));
    let ran = simulate(registry.clone(), Resolve::new(reference(HOST, "app:v1")));
    assert_eq!(lines(&ran), [format!("HEAD http://{HOST}/v2/app/manifests/v1")]);
    assert_eq!(ran.result.unwrap(), manifest.descriptor());
    // What isn't there is refused by the request that can say why.
    let ran = simulate(registry, Resolve::new(reference(HOST, "app:v2")));
    assert_eq!(lines(&ran), ["HEAD", "GET"].map(|method| format!("{method} http://{HOST}/v2/app/manifests/v2")));
    let why = ran.result.unwrap_err().to_string();
    assert!(why.contains("MANIFEST_UNKNOWN") && why.contains("check the repository's name and the tag"), "{why}");
}

#[test]
fn an_artifact_and_a_stranger_are_told_as_far_as_they_can_be() {
    let mut registry = Registry::new(Profile::distribution_3());
    let mut artifact = image(&[b"x"]).manifest(false).image().unwrap().clone();
    artifact.config = Descriptor::new(MediaType::OCI_EMPTY, Digest::of(b"{}"), 2);
    artifact.artifact_type = Some(MediaType::new("application/vnd.example.chart"));
    put_manifest(&mut registry, "app", Some("artifact"), &artifact.to_manifest());
    let stranger = Bytes::from_static(br#"{"something":"else"}"#);
    registry.insert_manifest("app", Some("stranger"), stranger, "application/vnd.example+json").unwrap();
    let found = simulate(registry.clone(), Inspect::new(reference(HOST, "app:artifact"))).result.unwrap();
    assert!(found.config.is_none() && found.notes[0].contains("application/vnd.example.chart"), "{:?}", found.notes);
    let found = simulate(registry.clone(), Inspect::new(reference(HOST, "app:stranger"))).result.unwrap();
    assert_eq!(found.manifest.content(), &ManifestContent::Unknown);
    assert!(found.notes[0].contains("application/vnd.example+json, is not known here"), "{:?}", found.notes);
    let why =
        simulate(registry.clone(), FetchConfig::new(reference(HOST, "app:stranger"), "linux/amd64".parse().unwrap()));
    assert!(matches!(why.result, Err(Error::Unsuitable(_))));

    let schema1 = Bytes::from_static(br#"{"schemaVersion":1,"name":"app","tag":"old","fsLayers":[],"signatures":[]}"#);
    let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    registry.insert_manifest("app", Some("old"), schema1, media_type).unwrap();
    let found = simulate(registry, Inspect::new(reference(HOST, "app:old"))).result.unwrap();
    assert_eq!((found.manifest.content(), found.media_type().as_str()), (&ManifestContent::Schema1, media_type));
    assert!(found.notes[0].contains("schema 1"), "{:?}", found.notes);
}

#[test]
fn a_configuration_is_that_of_the_platform() {
    let mut registry = Registry::new(Profile::distribution_3());
    put_index(&mut registry, "app", "multi");
    let fetch = |platform: &str| {
        let flow = FetchConfig::new(reference(HOST, "app:multi"), platform.parse().unwrap());
        simulate(registry.clone(), flow).result
    };
    let arm64 = image(&[b"shared", b"another"]).on("linux", "arm64");
    assert_eq!(fetch("linux/arm64/v8").unwrap(), arm64.config());
    let why = fetch("windows/amd64").unwrap_err();
    assert!(matches!(why, Error::Unsuitable(_)), "{why:?}");
    assert!(why.to_string().contains("linux/amd64, linux/arm64, linux/s390x"), "{why}");
}

#[test]
fn one_of_many_that_fails_stops_nobody() {
    let mut registry = Registry::new(Profile::distribution_3());
    let manifest = put(&mut registry, "app", Some("v1"), &image(&[b"x"]));
    // A manifest whose configuration is lost, and a tag that never was.
    let broken = put(&mut registry, "broken", Some("v1"), &image(&[b"y"]));
    let config = broken.image().unwrap().config.digest.clone();
    registry.remove_blob("broken", config.as_str());
    let names = ["app:v1", "app:nothing", "broken:v1", "app:v1"];
    let ran = simulate(registry, InspectMany::new(names.map(|name| reference(HOST, name))));
    let found = ran.result.unwrap();
    assert_eq!(found[0].as_ref().unwrap().digest(), manifest.digest());
    assert!(found[1].as_ref().unwrap_err().to_string().contains("MANIFEST_UNKNOWN"));
    let why = found[2].as_ref().unwrap_err().to_string();
    assert!(why.contains(config.as_str()) && why.contains("a manifest names this blob"), "{why}");
    assert_eq!(found[3].as_ref().unwrap(), found[0].as_ref().unwrap());
}

#[test]
fn what_is_below_an_index_is_bounded() {
    let mut registry = Registry::new(Profile::distribution_3());
    put_index(&mut registry, "app", "multi");
    let mut world = Simulation::new(1, registry, MemoryDisk::default());
    let mut config = Config::default();
    config.limits.below_index = 800;
    let ran = world.run(&mut Session::new(config, 1), Inspect::new(reference(HOST, "app:multi")));
    let found = ran.result.unwrap();
    let left_out = found.children.iter().filter(|child| child.notes.iter().any(|note| note.contains("below_index")));
    assert!(left_out.count() >= 2, "{:?}", found.children);
}

/// One of the simulator's worlds: what is in it, and what is asked of it.
struct Case {
    registry: Registry,
    config: Config,
    faults: Faults,
    truth: BTreeMap<String, Inspected>,
}

fn case(seed: u64) -> Case {
    let mut profile = if seed.is_multiple_of(2) { Profile::distribution_2_8() } else { Profile::strict() };
    let mut config = Config::default();
    config.retries = 12;
    config.requests_per_registry = NonZeroUsize::new(1 + (seed / 2 % 5) as usize).unwrap();
    if seed % 3 == 1 {
        profile.requires_auth = Some(Auth::bearer_for("http://localhost:5001/token", "registry", "user", "secret"));
        config.log_in(&HOST.parse().unwrap(), Credential::password("user", "secret"));
    }
    if seed % 5 == 1 {
        profile.redirect_blobs = Some("http://storage.localhost:9000/bucket".to_owned());
    }
    let mut registry = Registry::new(profile);
    for at in 0..1 + seed % 4 {
        put(&mut registry, &format!("image{at}"), Some("v1"), &image(&[b"shared", &at.to_le_bytes()]));
    }
    put_index(&mut registry, "multi", "v1");
    let mut faults = Faults::default();
    if !seed.is_multiple_of(10) {
        faults.requests = seed * 7 % 400;
        faults.revoked_tokens = seed % 30;
    }
    let mut open = registry.clone();
    (open.profile_mut().requires_auth, open.profile_mut().redirect_blobs) = (None, None);
    let names = registry.repositories().into_iter().map(|name| format!("{name}:v1"));
    let truth = names.map(|name| {
        let found = simulate(open.clone(), Inspect::new(reference(HOST, &name))).result.unwrap();
        (name, found)
    });
    Case { truth: truth.collect(), registry, config, faults }
}

fn is_clear(why: &Error) -> bool {
    let text = why.to_string();
    matches!(why, Error::Transport { .. } | Error::Registry(_) | Error::Denied(_))
        && text.contains("http://")
        && !text.contains("secret")
}

#[test]
fn under_faults_the_truth_or_a_clear_error() {
    let seeds = std::env::var("SIM_SEEDS").ok().map_or(10_000, |text| text.parse().unwrap());
    let (mut good, mut bad) = (0, 0);
    for seed in 0..seeds {
        let Case { registry, config, faults, truth } = case(seed);
        let places = config.requests_per_registry.get();
        let mut world = Simulation::new(seed, registry, MemoryDisk::default()).with_faults(faults);
        let mut session = Session::new(config, seed);
        let ran = world.run(&mut session, InspectMany::new(truth.keys().map(|name| reference(HOST, name))));
        for (found, expected) in ran.result.unwrap().into_iter().zip(truth.values()) {
            match found {
                Ok(found) => {
                    assert_eq!(&found, expected, "seed {seed}");
                    good += 1;
                }
                Err(why) => {
                    assert!(faults != Faults::default() && is_clear(&why), "seed {seed}: {why:?}");
                    bad += 1;
                }
            }
        }
        // Two origins (the registry and its storage), and a token server that is asked on behalf of a request not yet sent.
        assert!(ran.most_at_once <= 3 * places, "seed {seed}: {} at once, {places} allowed", ran.most_at_once);
        assert_eq!(world.registry().ledger().credentials_to_storage, 0, "seed {seed}");
        let name = truth.keys().next().unwrap();
        let resolved = world.run(&mut session, Each::new(Resolve::new(reference(HOST, name)))).result.unwrap();
        match resolved {
            Ok(descriptor) => assert_eq!(descriptor, truth[name].manifest.descriptor(), "seed {seed}"),
            Err(why) => assert!(faults != Faults::default() && is_clear(&why), "seed {seed}: {why:?}"),
        }
    }
    assert!(good > 20 * bad, "{good} good, {bad} bad");
}

#[test]
fn what_is_stopped_ends_at_once() {
    for kill_at in 1..12 {
        let Case { registry, config, truth, .. } = case(3);
        let mut world = Simulation::new(1, registry, MemoryDisk::default());
        let mut session = Session::new(config, 1);
        let many = || InspectMany::new(truth.keys().map(|name| reference(HOST, name)));
        assert!(world.run_until(&mut session, many(), kill_at).is_err());
        // The session gave every place back.
        let ran = world.run(&mut session, many());
        assert!(ran.result.unwrap().iter().all(Result::is_ok));
    }
}
