//! Looking at images: in the simulator, over sockets on every runtime, and beside `skopeo`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use registry_proto::archive::make::{MemoryDisk, SampleImage};
use registry_proto::flow::{Each, FetchConfig, FetchManifest, Flow, Inspect, InspectMany, Inspected, Resolve};
use registry_proto::spec::{Descriptor, Digest, Index, Manifest, ManifestContent, MediaType, Reference};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Credential, Error, Session};
use registry_tests::docker_registry::{DockerRegistry, raw_manifest, skopeo};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Server};

/// Where the simulator's registry is.
const HOST: &str = "localhost:5000";

// ── what there is to look at ─────────────────────────────────────────────────────────────────────────────────────────

fn image(layers: &[&[u8]]) -> SampleImage {
    SampleImage::new(&["app:v1"], layers)
}

/// Puts an image there, under a tag if one is given.
fn put(registry: &mut Registry, repository: &str, tag: Option<&str>, image: &SampleImage) -> Manifest {
    registry.insert_blob(repository, image.config());
    for layer in &image.layers {
        registry.insert_blob(repository, layer.clone());
    }
    let manifest = image.manifest(false);
    put_manifest(registry, repository, tag, &manifest);
    manifest
}

fn put_manifest(registry: &mut Registry, repository: &str, tag: Option<&str>, manifest: &Manifest) {
    let media_type = manifest.media_type().as_str();
    registry.insert_manifest(repository, tag, manifest.bytes().clone(), media_type).unwrap();
}

fn entry(manifest: &Manifest, platform: &str) -> Descriptor {
    Descriptor { platform: Some(platform.parse().unwrap()), ..manifest.descriptor() }
}

fn index_of(manifests: Vec<Descriptor>) -> Manifest {
    let index = Index { media_type: None, artifact_type: None, manifests, subject: None, annotations: BTreeMap::new() };
    index.to_manifest()
}

/// An index of two platforms, an attestation of one of them, an image that was not copied along, and something strange.
fn put_index(registry: &mut Registry, repository: &str, tag: &str) -> Manifest {
    let amd64 = put(registry, repository, None, &image(&[b"shared", b"one"]));
    let arm64 = put(registry, repository, None, &image(&[b"shared", b"another"]).on("linux", "arm64"));
    let mut attestation = entry(&amd64, "unknown/unknown");
    attestation.digest = Digest::of(b"an attestation that nobody fetches");
    attestation.annotations.insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
    attestation.annotations.insert("vnd.docker.reference.digest".into(), amd64.digest().to_string());
    let missing = image(&[b"not copied"]).on("linux", "s390x").manifest(false);
    let strange = Descriptor::new(MediaType::new("application/vnd.example+json"), Digest::of(b"?"), 1);
    let index = index_of(vec![
        entry(&amd64, "linux/amd64"),
        entry(&arm64, "linux/arm64"),
        attestation,
        entry(&missing, "linux/s390x"),
        strange,
    ]);
    put_manifest(registry, repository, Some(tag), &index);
    index
}

fn reference(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

fn simulate<F: Flow>(registry: Registry, flow: F) -> Ran<F::Output> {
    let mut world = Simulation::new(1, registry, MemoryDisk::default());
    world.run(&mut Session::new(Config::default(), 1), flow)
}

fn lines<T>(ran: &Ran<T>) -> Vec<&str> {
    ran.requests.iter().map(|asked| asked.line.as_str()).collect()
}

fn check_index(found: &Inspected, index: &Manifest) {
    assert_eq!((found.digest(), found.media_type()), (index.digest(), &MediaType::OCI_INDEX));
    assert_eq!(found.manifest.bytes(), index.bytes());
    let [amd64, arm64, attestation, missing, strange] = &found.children[..] else { panic!("{:?}", found.children) };
    for (child, platform, second) in [(amd64, "linux/amd64", 3), (arm64, "linux/arm64", 7)] {
        assert_eq!(child.platform().unwrap().to_string(), platform);
        assert_eq!(child.config.as_ref().unwrap().platform().to_string(), platform);
        assert_eq!(child.layers().iter().map(|layer| layer.size).collect::<Vec<_>>(), [6, second]);
        assert_eq!(child.notes, [""; 0]);
    }
    assert!(attestation.descriptor.is_attestation() && attestation.manifest.is_none() && attestation.notes.is_empty());
    assert_eq!(attestation.descriptor.attests().as_ref(), Some(&amd64.descriptor.digest));
    assert!(missing.manifest.is_none() && missing.notes[0].contains("does not have it"), "{:?}", missing.notes);
    assert!(strange.notes[0].contains("application/vnd.example+json"), "{:?}", strange.notes);
    // The shared layer is there once.
    assert_eq!(found.total_size(), amd64.total_size() + arm64.total_size() - 6);
    assert!(found.platform().is_none() && found.layers().is_empty());
}

// ── in the simulator ─────────────────────────────────────────────────────────────────────────────────────────────────

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
    assert!(matches!(why.result, Err(Error::Misuse(_))));

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
    assert!(matches!(why, Error::Misuse(_)), "{why:?}");
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
    let seeds = std::env::var("SIM_SEEDS").ok().map_or(20_000, |text| text.parse().unwrap());
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

// ── over sockets ─────────────────────────────────────────────────────────────────────────────────────────────────────

fn quick() -> Config {
    let mut config = Config::default();
    config.backoff = Duration::from_millis(10);
    config.backoff_limit = Duration::from_millis(20);
    config
}

fn five_hundred_in_one_call(runtime: Runtime) {
    let mut registry = Registry::new(Profile::distribution_3());
    let mut digests = Vec::new();
    for at in 0..500_u64 {
        let name = format!("team{}/app{at}", at % 7);
        digests.push(put(&mut registry, &name, Some("v1"), &image(&[&at.to_le_bytes()])).digest().clone());
    }
    let server = Server::start(registry, |_| Answer::registry());
    server.limit(8);
    let mut config = quick();
    config.requests_per_registry = NonZeroUsize::new(8).unwrap();
    let host = server.host();
    let mut names: Vec<Reference> =
        (0..500_u64).map(|at| reference(&host, &format!("team{}/app{at}:v1", at % 7))).collect();
    names.insert(250, reference(&host, "team0/nothing:v1"));
    let found = runtime.run(config, InspectMany::new(names.clone())).unwrap();
    assert_eq!(found.len(), 501);
    assert!(found[250].as_ref().unwrap_err().to_string().contains("MANIFEST_UNKNOWN"));
    let good = found.iter().zip(&names).enumerate().filter(|(at, _)| *at != 250).map(|(_, it)| it);
    for ((found, name), digest) in good.zip(&digests) {
        let found = found.as_ref().unwrap();
        assert_eq!((&found.reference, found.digest()), (name, digest));
        assert_eq!(found.layers()[0].size, 8);
    }
    assert!(!server.exceeded(), "more than 8 connections at a time");
    assert_eq!(server.log().len(), 1001);
}

fn an_index_over_sockets(runtime: Runtime) {
    let mut registry = Registry::new(Profile::distribution_3());
    let index = put_index(&mut registry, "app", "multi");
    let server = Server::start(registry, |_| Answer::registry());
    let found = runtime.run(quick(), Inspect::new(reference(&server.host(), "app:multi"))).unwrap();
    check_index(&found, &index);
}

/// A registry whose replies to requests with this method of a path with this in it are changed.
fn changed(
    method: &'static str,
    part: &'static str,
    edit: impl Fn(&mut http::Response<Bytes>) + Clone + Send + Sync + 'static,
) -> (Server, Manifest) {
    let mut registry = Registry::new(Profile::distribution_3());
    let manifest = put(&mut registry, "app", Some("v1"), &image(&[b"a layer"]));
    let server = Server::start(registry, move |asked| {
        let edit = edit.clone();
        if asked.is(method, part) { Answer::edited(move |reply| edit(reply)) } else { Answer::registry() }
    });
    (server, manifest)
}

fn with_body(reply: &mut http::Response<Bytes>, body: impl Into<Bytes>) {
    *reply.body_mut() = body.into();
    let length = reply.body().len();
    reply.headers_mut().insert("content-length", length.into());
}

fn a_head_that_does_not_tell_all_is_followed_by_a_get(runtime: Runtime) {
    let edits: [fn(&mut http::Response<Bytes>); 4] = [
        |reply| _ = reply.headers_mut().remove("docker-content-digest"),
        |reply| _ = reply.headers_mut().insert("content-type", "application/octet-stream".parse().unwrap()),
        |reply| _ = reply.headers_mut().insert("content-length", 0.into()),
        |reply| *reply.status_mut() = http::StatusCode::BAD_REQUEST,
    ];
    for edit in edits {
        let (server, manifest) = changed("HEAD", "/manifests/", edit);
        let resolved = runtime.run(quick(), Resolve::new(reference(&server.host(), "app:v1"))).unwrap();
        assert_eq!(resolved, manifest.descriptor());
        assert_eq!((server.count("HEAD", "/manifests/v1"), server.count("GET", "/manifests/v1")), (1, 1));
    }
}

fn a_lie_about_a_digest_is_found_out(runtime: Runtime) {
    for lie in [Digest::of(b"a lie").to_string(), format!("sha512:{}", "0".repeat(128))] {
        let told = lie.clone();
        let (server, _) = changed("GET", "/manifests/", move |reply| {
            reply.headers_mut().insert("docker-content-digest", told.parse().unwrap());
        });
        let why = runtime.run(quick(), Inspect::new(reference(&server.host(), "app:v1"))).unwrap_err();
        assert!(matches!(why, Error::Integrity { .. }), "C37, C38: {why}");
        assert!(why.to_string().contains(&lie), "{why}");
    }
    // By digest, the body is what counts.
    let (server, manifest) = changed("GET", "/manifests/", |reply| {
        reply.headers_mut().insert("docker-content-digest", Digest::of(b"a lie").to_string().parse().unwrap());
    });
    let by_digest = reference(&server.host(), "app").with_digest(manifest.digest().clone());
    assert_eq!(runtime.run(quick(), FetchManifest::new(&by_digest)).unwrap(), manifest);
    let (server, manifest) = changed("GET", "/manifests/", |reply| with_body(reply, "{}"));
    let by_digest = reference(&server.host(), "app").with_digest(manifest.digest().clone());
    let why = runtime.run(quick(), FetchManifest::new(&by_digest)).unwrap_err();
    assert!(matches!(why, Error::Integrity { .. }), "C33: {why}");
}

fn one_document_is_never_two_things(runtime: Runtime) {
    let index = "application/vnd.oci.image.index.v1+json";
    let (server, _) = changed("GET", "/manifests/", move |reply| {
        reply.headers_mut().insert("content-type", index.parse().unwrap());
        reply.headers_mut().remove("docker-content-digest");
    });
    let why = runtime.run(quick(), Inspect::new(reference(&server.host(), "app:v1"))).unwrap_err();
    assert!(matches!(why, Error::Protocol { .. }) && why.to_string().contains("ambiguous"), "C35: {why}");
    let (server, _) = changed("GET", "/manifests/", |reply| {
        let text = String::from_utf8(reply.body().to_vec()).unwrap();
        reply.headers_mut().remove("docker-content-digest");
        with_body(reply, text.replacen('{', "{\"manifests\":[],", 1));
    });
    let why = runtime.run(quick(), Inspect::new(reference(&server.host(), "app:v1"))).unwrap_err();
    assert!(why.to_string().contains("both manifests and layers"), "C35: {why}");
}

fn what_is_too_large_is_not_read_to_its_end(runtime: Runtime) {
    let (server, _) = changed("GET", "/manifests/", |reply| with_body(reply, vec![b' '; (4 << 20) + 1]));
    let why = runtime.run(quick(), Inspect::new(reference(&server.host(), "app:v1"))).unwrap_err();
    assert!(why.to_string().contains("too large: more than 4194304 bytes"), "C42: {why}");
    let (server, _) = changed("GET", "/blobs/", |reply| {
        let longer = [reply.body(), &b" "[..]].concat();
        with_body(reply, longer);
    });
    let why = runtime.run(quick(), Inspect::new(reference(&server.host(), "app:v1"))).unwrap_err();
    assert!(matches!(why, Error::Protocol { .. }) && why.to_string().contains("has more than the"), "C51: {why}");
}

fn a_configuration_is_verified(runtime: Runtime) {
    let (server, _) = changed("GET", "/blobs/", |reply| {
        let other = vec![b' '; reply.body().len()];
        with_body(reply, other);
    });
    let why = runtime.run(quick(), Inspect::new(reference(&server.host(), "app:v1"))).unwrap_err();
    assert!(matches!(why, Error::Integrity { .. }), "C33: {why}");
    let (server, _) = changed("GET", "/blobs/", |reply| {
        reply.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        with_body(reply, "\x1f\u{8b}");
    });
    let why = runtime.run(quick(), Inspect::new(reference(&server.host(), "app:v1"))).unwrap_err();
    assert!(why.to_string().contains("gzip"), "C52: {why}");
}

// ── beside skopeo, with a real registry ──────────────────────────────────────────────────────────────────────────────

/// An OCI folder with an index of two images, as tag `v1`.
fn folder(path: &Path) {
    let [amd64, arm64] = ["amd64", "arm64"].map(|arch| image(&[b"shared", arch.as_bytes()]).on("linux", arch));
    let index = index_of([&amd64, &arm64].map(|one| entry(&one.manifest(false), &one.platform.to_string())).into());
    let mut named = index.descriptor();
    named.annotations.insert("org.opencontainers.image.ref.name".into(), "v1".into());
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let mut content: Vec<Bytes> = vec![index.bytes().clone()];
    for one in [&amd64, &arm64] {
        content.extend(one.layers.iter().cloned().chain([one.config(), one.manifest(false).bytes().clone()]));
    }
    for bytes in content {
        fs::write(blobs.join(Digest::of(&bytes).encoded()), bytes).unwrap();
    }
    fs::write(path.join("index.json"), index_of(vec![named]).bytes()).unwrap();
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// What `skopeo inspect` says of an image.
fn skopeo_says(reference: &str, arguments: &[&str]) -> serde_json::Value {
    let image = format!("docker://{reference}");
    serde_json::from_slice(&skopeo(&[arguments, &["inspect", "--tls-verify=false", &image]].concat())).unwrap()
}

fn skopeo_sees_the_same(runtime: Runtime) {
    let (registry, layout) = (DockerRegistry::start(), tempfile::tempdir().unwrap());
    folder(layout.path());
    // In both formats, and as a list.
    let (from, host) = (format!("oci:{}:v1", layout.path().display()), registry.host());
    for (name, arguments) in
        [("oci", &["--format", "oci"][..]), ("docker", &["--format", "v2s2"]), ("list", &["--all"])]
    {
        let to = format!("docker://{host}/team/{name}:v1");
        let start = ["--override-os", "linux", "--override-arch", "amd64", "copy", "-q", "--dest-tls-verify=false"];
        skopeo(&[&start, arguments, &[&from, &to]].concat());
        let reference = reference(&host, &format!("team/{name}:v1"));
        let found = runtime.run(quick(), Inspect::new(reference.clone())).unwrap();
        assert_eq!(&found.manifest.bytes()[..], &raw_manifest(&reference.to_string())[..], "{name}");
        assert_eq!(runtime.run(quick(), Resolve::new(reference.clone())).unwrap(), found.manifest.descriptor());
        let children: Vec<_> = found.children.iter().map(|child| (child.config.clone(), child.layers())).collect();
        let images = if name == "list" { children } else { vec![(found.config.clone(), found.layers())] };
        assert_eq!(images.len(), if name == "list" { 2 } else { 1 });
        for (config, layers) in images {
            let config = config.unwrap();
            let said = skopeo_says(
                &reference.to_string(),
                &["--override-os", "linux", "--override-arch", &config.architecture],
            );
            assert_eq!(said["Digest"], found.digest().as_str());
            assert_eq!((&said["Os"], &said["Architecture"]), (&config.os[..].into(), &config.architecture[..].into()));
            assert_eq!(said["Created"], config.created.unwrap());
            assert_eq!(said["Env"], serde_json::json!(config.config.env));
            let layers: Vec<_> = layers.iter().map(|layer| layer.digest.as_str()).collect();
            assert_eq!(said["Layers"], serde_json::json!(layers));
        }
        let amd64 = runtime.run(quick(), FetchConfig::new(reference.clone(), "linux/amd64".parse().unwrap())).unwrap();
        let raw = [
            "--override-os",
            "linux",
            "--override-arch",
            "amd64",
            "inspect",
            "--raw",
            "--config",
            "--tls-verify=false",
        ];
        assert_eq!(&amd64[..], &skopeo(&[&raw[..], &[&format!("docker://{reference}")]].concat())[..], "{name}");
    }
}

on_all_runtimes!(
    skopeo_sees_the_same,
    five_hundred_in_one_call,
    an_index_over_sockets,
    a_head_that_does_not_tell_all_is_followed_by_a_get,
    a_lie_about_a_digest_is_found_out,
    one_document_is_never_two_things,
    what_is_too_large_is_not_read_to_its_end,
    a_configuration_is_verified,
);
