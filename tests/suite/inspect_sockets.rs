//! Looking at images over sockets, on every runtime: registries that say too little or lie, many images at once, and what
//! `skopeo` says of the same images.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use registry_proto::flow::{FetchConfig, FetchManifest, Inspect, InspectMany, Resolve};
use registry_proto::spec::{Digest, Manifest, Reference};
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::{Config, Error};
use registry_tests::docker_registry::{DockerRegistry, raw_manifest, skopeo};
use registry_tests::images::{check_index, entry, image, index_of, put, put_index, reference};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Server};

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

/// What the methods of each client yield.
macro_rules! methods {
    ($client:expr, $reference:expr $(, $wait:tt)?) => {{
        let (client, reference) = ($client, $reference);
        let many = vec![reference.clone(), reference.clone().with_tag("none".parse().unwrap())];
        (
            client.manifest(reference)$(.$wait)?.unwrap(),
            client.resolve(reference)$(.$wait)?.unwrap(),
            client.inspect(reference)$(.$wait)?.unwrap(),
            client.inspect_all(many)$(.$wait)?,
            client.config(reference)$(.$wait)?.unwrap(),
        )
    }};
}

fn clients_have_a_method_for_each(runtime: Runtime) {
    let sample = image(&[b"a layer"]);
    let mut registry = Registry::new(Profile::distribution_3());
    let expected = put(&mut registry, "app", Some("v1"), &sample);
    let server = Server::start(registry, |_| Answer::registry());
    let reference = &reference(&server.host(), "app:v1");
    let (manifest, resolved, inspected, all, config) = match runtime {
        Runtime::Tokio => ::tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async { methods!(registry_tokio::Client::new().unwrap(), reference, await) }),
        Runtime::AsyncStd => ::async_std::task::block_on(async {
            methods!(registry_async_std::Client::new().unwrap(), reference, await)
        }),
        Runtime::Blocking => methods!(registry_blocking::Client::new().unwrap(), reference),
        Runtime::Smol | Runtime::StdNet => unreachable!("they have no client"),
    };
    assert_eq!((&manifest, resolved), (&expected, expected.descriptor()));
    assert_eq!((inspected.digest(), &config[..]), (expected.digest(), &sample.config()[..]));
    assert!(all.len() == 2 && all[0].as_ref().unwrap() == &inspected && all[1].is_err(), "{all:?}");
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
    clients_have_a_method_for_each,
    skopeo_sees_the_same,
    five_hundred_in_one_call,
    an_index_over_sockets,
    a_head_that_does_not_tell_all_is_followed_by_a_get,
    a_lie_about_a_digest_is_found_out,
    one_document_is_never_two_things,
    what_is_too_large_is_not_read_to_its_end,
    a_configuration_is_verified,
);
