//! What a registry may answer about manifests: PROTOCOL C33 to C47, each reply written out.
//!
//! (What a manifest may be is in `spec::manifest` and its tests, what a header may say in `endpoint::manifest`; C44 is in
//! `keeping.rs`.)

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use bytes::Bytes;
use registry_proto::archive::make::MemoryDisk;
use registry_proto::flow::{FetchManifest, PutManifest, Resolve, Retag};
use registry_proto::job::FailureKind;
use registry_proto::spec::{Digest, Manifest};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Error, Event};
use registry_tests::dialogue::{Ended, Line, hold, line, status};
use registry_tests::hostile::{Answer, INDEX, MANIFEST, anonymous, fetch, manifest, reply, serve};

const GET: &str = "GET /v2/n/manifests/v1";
const HEAD: &str = "HEAD /v2/n/manifests/v1";

/// The manifest, whose digest the dialogues write `D`.
fn there() -> Manifest {
    Manifest::parse(Bytes::from(manifest()), Some(MANIFEST), None).unwrap()
}

fn fetched(dialogue: impl IntoIterator<Item = Line>) -> Ended<Manifest> {
    hold(&mut anonymous(), fetch(), MemoryDisk::default(), there().digest(), dialogue, |_| None)
}

fn by_digest(digest: &Digest, answer: Answer) -> Result<Manifest, Error> {
    let mut script = Script::new(|_: &Request| answer.clone());
    script.run(&mut anonymous(), FetchManifest::new(&format!("r.example/n@{digest}").parse().unwrap()))
}

fn with(headers: &[(&str, &str)], body: &str) -> Answer {
    reply(200, headers, body)
}

#[test]
fn c33_other_bytes_than_were_asked_for() {
    let there = there();
    assert_eq!(by_digest(there.digest(), serve(MANIFEST, manifest())).unwrap(), there);
    let other = Digest::of(b"other");
    match by_digest(&other, serve(MANIFEST, manifest())).unwrap_err() {
        Error::Integrity { expected, found, .. } => assert_eq!((&expected, &found), (&other, there.digest())),
        why => panic!("{why}"),
    }
}

#[test]
fn c34_c36_c38_headers_that_are_odd_or_not_there() {
    let long = Digest::compute(registry_proto::spec::Algorithm::Sha512, manifest().as_bytes());
    let own = there().digest().to_string();
    for headers in [
        &[("content-type", "Application/VND.oci.image.Manifest.v1+JSON; charset=utf-8")][..],
        &[("content-type", MANIFEST)],
        &[("content-type", MANIFEST), ("docker-content-digest", &own)],
        &[("content-type", MANIFEST), ("docker-content-digest", long.as_str())],
        &[("content-type", "text/plain")],
        &[],
    ] {
        let found = fetched([line(GET, with(headers, &manifest()))]).well();
        assert_eq!(found.digest(), there().digest(), "{headers:?}");
        // Asked for by digest it is what was asked for, whatever else is claimed.
        assert_eq!(by_digest(there().digest(), with(headers, &manifest())).unwrap(), there(), "{headers:?}");
    }
}

#[test]
fn c35_c37_what_is_said_and_what_there_is() {
    fetched([line(GET, serve(MANIFEST, manifest().replace(MANIFEST, INDEX)))]).with("the registry broke the protocol");
    let both = manifest().replacen('{', r#"{"manifests":[],"#, 1);
    fetched([line(GET, serve(MANIFEST, both))]).with("the registry broke the protocol");
    for lie in [Digest::of(b"other"), Digest::compute(registry_proto::spec::Algorithm::Sha512, b"other")] {
        let headers = [("content-type", MANIFEST), ("docker-content-digest", lie.as_str())];
        let why = fetched([line(GET, with(&headers, &manifest()))]).with("content should have digest");
        assert!(matches!(why, Error::Integrity { .. }));
    }
}

#[test]
fn c39_c40_a_head_that_does_not_tell_everything() {
    let digest = there().digest().to_string();
    let size = manifest().len().to_string();
    let resolved = |dialogue: Vec<Line>| {
        let flow = Resolve::new("r.example/n:v1".parse().unwrap());
        hold(&mut anonymous(), flow, MemoryDisk::default(), there().digest(), dialogue, |_| None).well()
    };
    let all = [("content-type", MANIFEST), ("content-length", &*size), ("docker-content-digest", &*digest)];
    assert_eq!(resolved(vec![line(HEAD, reply(200, &all, ""))]), there().descriptor());
    let octets = [("content-type", "application/octet-stream"), all[1], all[2]];
    for head in [
        reply(200, &[all[0], all[2]], ""),
        reply(200, &all[..2], ""),
        reply(200, &all[1..], ""),
        reply(200, &octets, ""),
        // ECR, of tags that it finds odd; Artifactory; whoever has none.
        status(400),
        status(403),
        status(405),
    ] {
        assert_eq!(resolved(vec![line(HEAD, head), line(GET, serve(MANIFEST, manifest()))]), there().descriptor());
    }
    // On the way to a push all that is no "yes" leads to the push, which knows better.
    for no in [400, 403, 404, 405] {
        let image = registry_proto::archive::make::SampleImage::new(&["r.example/n:v1"], &[]);
        let disk = MemoryDisk::with("app.tar", registry_proto::archive::make::docker_save_oci(&[image]));
        let mut put = 0;
        hold(&mut anonymous(), registry_tests::hostile::push(), disk, there().digest(), [], |request| {
            Some(match request.method.as_str() {
                "HEAD" if request.url.path().contains("/manifests/") => status(no),
                "HEAD" => status(200),
                _ => {
                    put += 1;
                    status(201)
                }
            })
        })
        .well();
        assert_eq!(put, 1, "{no}");
    }
}

#[test]
fn c41_what_is_not_there() {
    for body in [r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"m"}]}"#, "<html>404</html>", ""] {
        let why = fetched([line(GET, reply(404, &[], body))]).with("check the repository's name and the tag");
        assert_eq!(why.status().unwrap(), 404);
        assert_eq!(why.to_string().contains("MANIFEST_UNKNOWN"), body.starts_with('{'), "{why}");
    }
}

#[test]
fn c42_a_manifest_has_a_largest_size() {
    let limit = Config::default().limits.manifest;
    let padded = |length: usize| format!("{}{}", manifest(), " ".repeat(length - manifest().len()));
    let most = fetched([line(GET, serve(MANIFEST, padded(limit)))]).well();
    assert_eq!(most.bytes().len(), limit);
    let why = fetched([line(GET, serve(MANIFEST, padded(limit + 1)))]).with("the reply is too large");
    assert!(matches!(&why, Error::Transport { last, .. } if last.kind() == FailureKind::TooLarge), "{why}");
    // (A reply that ends before the length that it announced is a cut: see the tests over sockets.)
}

/// A put of [`there`] under the tag `v1`.
fn put(dialogue: impl IntoIterator<Item = Line>) -> Ended<()> {
    let flow = PutManifest::new("r.example/n:v1".parse().unwrap(), there());
    let body = manifest();
    let dialogue = dialogue.into_iter().map(|(asks, answer)| {
        let asks = if asks.starts_with("PUT") {
            format!("{asks} {}", body.replace(there().digest().as_str(), "D"))
        } else {
            asks
        };
        (asks, answer)
    });
    let ended = hold(&mut anonymous(), flow, MemoryDisk::default(), there().digest(), dialogue, |_| None);
    Ended { result: ended.result.map(drop), events: ended.events, at: ended.at }
}

const PUT: &str = "PUT /v2/n/manifests/v1";

fn says(status: u16, code: &str) -> Answer {
    reply(status, &[], format!(r#"{{"errors":[{{"code":"{code}","message":"m","detail":{{"digest":"x"}}}}]}}"#))
}

#[test]
fn c43_every_way_of_saying_that_it_is_put() {
    for ok in [200, 201, 202, 204] {
        put([line(PUT, status(ok))]).well();
        put([line(PUT, reply(ok, &[("docker-content-digest", there().digest().as_str())], ""))]).well();
    }
    let other = Digest::of(b"other");
    put([line(PUT, reply(201, &[("docker-content-digest", other.as_str())], ""))]).with("content should have digest");
}

#[test]
fn c45_blobs_that_the_registry_does_not_see_yet() {
    let unknown = || line(PUT, says(400, "MANIFEST_BLOB_UNKNOWN"));
    let ended = put([unknown(), line(PUT, status(201))]);
    assert_eq!(ended.pauses().len(), 1);
    ended.well();
    // Three times at most; each time a little later.
    let ended = put([unknown(), unknown(), unknown(), line(PUT, status(201))]);
    assert_eq!(ended.pauses().len(), 3);
    ended.well();
    let why = put([unknown(), unknown(), unknown(), unknown()]).with("MANIFEST_BLOB_UNKNOWN");
    assert!(why.to_string().contains("has to be in the repository before it"), "{why}");
}

#[test]
fn c46_tags_that_do_not_change() {
    let digest = there().digest().to_string();
    for no in [says(409, "X"), says(412, "X"), says(400, "TAG_INVALID"), says(403, "DENIED")] {
        // It is that already.
        put([line(PUT, no.clone()), line(HEAD, reply(200, &[("docker-content-digest", &digest)], ""))]).well();
        // It is another's, or nobody says what it is.
        let other = Digest::of(b"other");
        for held in [reply(200, &[("docker-content-digest", other.as_str())], ""), status(404), status(200)] {
            put([line(PUT, no.clone()), line(HEAD, held)]).with("the registry answered 4");
        }
    }
    put([line(PUT, says(400, "MANIFEST_INVALID"))]).with("MANIFEST_INVALID");
}

/// C47 is about who names several tags in one request, which is in no released specification. Nobody does here: each is put by
/// itself, and so none is lost to a registry that doesn't know of it.
#[test]
fn c47_every_tag_is_put_by_itself() {
    let tags = ["a", "b", "c"].map(|tag| tag.parse().unwrap());
    let mut script = Script::new(|request: &Request| match request.method.as_str() {
        "PUT" => reply(201, &[("oci-tag", "a")], ""),
        _ => serve(MANIFEST, manifest()),
    });
    script.run(&mut anonymous(), Retag::new(&"r.example/n:v1".parse().unwrap(), tags)).unwrap();
    let mut puts: Vec<String> = script.lines().into_iter().filter(|line| line.starts_with("PUT")).collect();
    puts.sort();
    assert_eq!(puts, ["a", "b", "c"].map(|tag| format!("PUT https://r.example/v2/n/manifests/{tag}")));
    let told = script.events().iter().filter(|event| matches!(event, Event::ManifestPut { .. })).count();
    assert_eq!(told, 3);
}
