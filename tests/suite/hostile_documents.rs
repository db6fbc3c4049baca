//! A registry as the attacker (PROTOCOL §6, actor R): manifests, indexes and what they name.
//!
//! Each test is named by the attacks that it is about; `registry-proto/THREATS.md` lists them all.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::num::NonZeroU64;

use registry_proto::flow::{
    Copy, CopyOptions, FetchBlob, FetchConfig, FetchManifest, Platforms, Pull, PullOptions, ReadBlob, Resolve,
};
use registry_proto::spec::{Descriptor, Digest, Manifest, MediaType, Platform, Reference};
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Error, Session};
use registry_tests::hostile::{INDEX, MANIFEST, anonymous, by, check_text, fetch, layer, manifest_with, reply, serve};

/// Fetches whatever is served as a manifest.
fn fetched(kind: &str, body: &str) -> Result<Manifest, Error> {
    Script::new(|_: &Request| serve(kind, body)).run(&mut anonymous(), fetch())
}

#[test]
fn a12_c42_a_manifest_of_many_little_things() {
    // Four megabytes that would be ten times as many once they are parsed.
    let urls = format!(r#","urls":[{}""]"#, r#""","#.repeat(1_000_000));
    let why = fetched(MANIFEST, &manifest_with(&layer(Digest::of(b"").as_str(), "0", &urls))).unwrap_err();
    assert!(why.to_string().contains("more values than any manifest has"), "{why}");
    let layers = vec![layer(Digest::of(b"").as_str(), "0", ""); 5000].join(",");
    fetched(MANIFEST, &manifest_with(&layers)).unwrap();
}

#[test]
fn a13_sizes_that_nobody_should_believe() {
    for size in ["-1", "1.5", "1e3", "\"5\"", "18446744073709551616", "null", "[]"] {
        let why = fetched(MANIFEST, &manifest_with(&layer(Digest::of(b"").as_str(), size, ""))).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{size}: {why}");
    }
    // Nothing is allocated by a number: neither in memory nor, as far as it makes no sense, on a disk.
    for size in ["18446744073709551615", "9223372036854775808", "9000000000000000000"] {
        let text = manifest_with(&layer(Digest::of(b"").as_str(), size, ""))
            .replace("\"size\":2}", &format!("\"size\":{size}}}"));
        let mut script = Script::new(|_: &Request| serve(MANIFEST, &text));
        let flow = FetchConfig::new("r.example/n:v1".parse().unwrap(), Platform::of_this_machine());
        let why = script.run(&mut anonymous(), flow).unwrap_err();
        assert!(why.to_string().contains("Limits::config"), "{why}");
        let mut config = Config::default();
        config.piece = NonZeroU64::MAX;
        let mut script = Script::new(|request: &Request| match request.method.as_str() {
            "HEAD" => reply(200, &[("content-length", size)], ""),
            _ => serve("", "short"),
        });
        let flow = ReadBlob::new("r.example/n".parse().unwrap(), Digest::of(b"other"));
        assert!(script.run(&mut Session::new(config, 1), flow).is_err());
    }
    // More or fewer bytes than were said.
    for size in ["1", "3"] {
        let text = manifest_with("").replace("\"size\":2}", &format!("\"size\":{size}}}"));
        let mut script = Script::new(|request: &Request| match request.url.path().contains("/manifests/") {
            true => serve(MANIFEST, &text),
            false => serve("", "{}"),
        });
        let flow = FetchConfig::new("r.example/n:v1".parse().unwrap(), Platform::of_this_machine());
        assert!(matches!(script.run(&mut anonymous(), flow), Err(Error::Protocol { .. })), "{size}");
    }
}

#[test]
fn a14_a_page_is_no_blob() {
    let page = "<html><form>Log in to go on</form></html>";
    let text = manifest_with(&layer(Digest::of(b"layer").as_str(), "5", ""));
    let answer = |request: &Request| match request.url.path().contains("/manifests/") {
        true => serve(MANIFEST, &text),
        false => reply(200, &[("content-type", "text/html")], page),
    };
    let mut script = Script::new(answer);
    let mut options = PullOptions::default();
    options.platforms = Platforms::All;
    let flow = Pull::new(["r.example/n:v1".parse().unwrap()], "/out.tar", options);
    let why = script.run(&mut anonymous(), flow).unwrap_err();
    assert!(matches!(why, Error::Protocol { .. } | Error::Integrity { .. }), "{why}");

    // What stays in memory, of the right length.
    let blob = Descriptor::new(MediaType::OCI_CONFIG, Digest::of(b"{}"), 2);
    for body in ["[]", "{", "{} "] {
        let mut script = Script::new(|_: &Request| serve("", body));
        let why =
            script.run(&mut anonymous(), FetchBlob::new("r.example/n".parse().unwrap(), blob.clone())).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. } | Error::Integrity { .. }), "{body}: {why}");
    }

    let mut destination = Registry::new(Profile::distribution_3());
    let mut script = Script::new(|request: &Request| match request.host() {
        "d.example" => Ok(by(&mut destination, request)),
        _ => answer(request),
    });
    let flow = Copy::new("r.example/n:v1".parse().unwrap(), "d.example/n:v1".parse().unwrap(), CopyOptions::default());
    let why = script.run(&mut anonymous(), flow).unwrap_err();
    drop(script);
    assert!(matches!(why, Error::Protocol { .. } | Error::Integrity { .. }), "{why}");
    assert!(destination.tags("n").is_empty());
    assert_eq!(destination.ledger().mismatches, []);
}

#[test]
fn a15_a_header_does_not_say_what_a_manifest_is() {
    let text = manifest_with("");
    let other = Digest::of(b"other");
    // By tag: what came is not what was said.
    let claims = [("content-type", MANIFEST), ("docker-content-digest", other.as_str())];
    let why = Script::new(|_: &Request| reply(200, &claims, &text)).run(&mut anonymous(), fetch()).unwrap_err();
    assert!(matches!(why, Error::Integrity { .. }), "{why}");
    // By digest: what was asked for counts.
    let by_digest = FetchManifest::new(&format!("r.example/n@{}", Digest::of(text.as_bytes())).parse().unwrap());
    let manifest = Script::new(|_: &Request| reply(200, &claims, &text)).run(&mut anonymous(), by_digest).unwrap();
    assert_eq!(*manifest.digest(), Digest::of(text.as_bytes()));
    let by_other = FetchManifest::new(&format!("r.example/n@{other}").parse().unwrap());
    let why = Script::new(|_: &Request| reply(200, &claims, &text)).run(&mut anonymous(), by_other).unwrap_err();
    assert!(matches!(why, Error::Integrity { .. }), "{why}");
    // A HEAD's word is a HEAD's word: for a digest that was asked for, another one is no answer.
    let mut script = Script::new(|request: &Request| match request.method.as_str() {
        "HEAD" => reply(
            200,
            &[("content-type", INDEX), ("docker-content-digest", other.as_str()), ("content-length", "9")],
            "",
        ),
        _ => reply(200, &claims, &text),
    });
    let asked: Reference = format!("r.example/n@{}", Digest::of(text.as_bytes())).parse().unwrap();
    let found = script.run(&mut anonymous(), Resolve::new(asked)).unwrap();
    assert_eq!(found.digest, Digest::of(text.as_bytes()));
}

#[test]
fn a16_digests_that_are_paths_or_nothing() {
    let hex = "a".repeat(64);
    for digest in [
        "sha256:../../../etc/passwd",
        "../../x:abc",
        "sha256:..",
        "sha256:",
        &format!("sha256:{}", &hex[1..]),
        &format!("sha256:{hex}/../x"),
        &format!("SHA256:{hex}"),
        &format!("sha256:{hex}?x=y"),
        &format!("sha256:{hex}\\r\\nX-Evil: 1"),
    ] {
        let why = fetched(MANIFEST, &manifest_with(&layer(digest, "5", ""))).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{digest}: {why}");
        check_text(&why.to_string());
    }
    // An algorithm that nobody knows verifies nothing: no use is made of what it names.
    for digest in ["md5:abcdef", "sha256+b64:abcdef", "none:x"] {
        let text = manifest_with(&layer(digest, "5", ""));
        let mut script = Script::new(|request: &Request| match request.url.path().contains("/manifests/") {
            true => serve(MANIFEST, &text),
            false if request.url.path().contains(Digest::of(b"{}").encoded()) => serve("", "{}"),
            false => serve("", "hello"),
        });
        let mut options = PullOptions::default();
        options.platforms = Platforms::All;
        let flow = Pull::new(["r.example/n:v1".parse().unwrap()], "/out.tar", options);
        let why = script.run(&mut anonymous(), flow).unwrap_err();
        assert!(why.to_string().contains(digest), "{why}");
        // Nobody can ask for a manifest by one.
        assert!(format!("r.example/n@{digest}").parse::<Reference>().is_err());
    }
}

#[test]
fn a17_a18_documents_that_two_readers_read_differently() {
    let good = manifest_with("");
    fetched(MANIFEST, &good).unwrap();
    let first = |key: &str| good.replacen('{', &format!("{{{key},"), 1);
    let child = r#""manifests":[]"#;
    for (what, kind, body) in [
        ("an image that lists manifests", MANIFEST, first(child)),
        ("an index with layers", INDEX, first(child)),
        ("an image handed out as an index", INDEX, good.clone()),
        ("an index handed out as an image", MANIFEST, format!(r#"{{"schemaVersion":2,{child}}}"#)),
        ("a type that is another", "application/vnd.docker.distribution.manifest.v2+json", good.clone()),
        ("two lists of layers", MANIFEST, first(r#""layers":[]"#)),
        ("two configurations", MANIFEST, first(r#""config":{}"#)),
        ("a key twice, deep inside", MANIFEST, good.replacen("\"size\":2", "\"size\":2,\"size\":3", 1)),
        ("schema 1 beside schema 2", MANIFEST, first(r#""fsLayers":[]"#)),
        ("something after the end", MANIFEST, format!("{good}{{}}")),
    ] {
        let why = fetched(kind, &body).unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }), "{what}: {why}");
    }
    // `Layers` is not `layers`, whatever Go makes of it.
    let cased =
        good.replacen("\"layers\":[]", &format!("\"layers\":[],\"Layers\":[{}]", layer("sha256:x", "1", "")), 1);
    assert!(fetched(MANIFEST, &cased).unwrap().image().unwrap().layers.is_empty());
}

#[test]
fn a19_indexes_in_indexes() {
    // Each level is an index of the one below, ten deep.
    let mut documents = vec![(MANIFEST, manifest_with(""))];
    for _ in 0..10 {
        let (kind, text) = documents.last().unwrap();
        let child =
            format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, Digest::of(text.as_bytes()), text.len());
        // Named a hundred times, and fetched once.
        let children = vec![child; 100].join(",");
        documents.push((INDEX, format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{children}]}}"#)));
    }
    let pull = |depth: usize| {
        let top = documents[depth].clone();
        let mut script = Script::new(|request: &Request| {
            let path = request.url.path();
            let found = documents.iter().find(|(_, text)| path.contains(Digest::of(text.as_bytes()).encoded()));
            match found {
                _ if path.ends_with("/manifests/v1") => serve(top.0, &top.1),
                Some((kind, text)) => serve(kind, text),
                None => serve("", "{}"),
            }
        });
        let mut options = PullOptions::default();
        options.platforms = Platforms::All;
        let flow = Pull::new(["r.example/n:v1".parse().unwrap()], "/out.tar", options);
        let result = script.run(&mut anonymous(), flow).map(drop);
        (result, script.requests().len())
    };
    let (result, requests) = pull(3);
    result.unwrap();
    assert_eq!(requests, 5, "four manifests and a configuration");
    let (result, requests) = pull(10);
    let why = result.unwrap_err();
    assert!(why.to_string().contains("nested too deep"), "{why}");
    assert!(requests < 12, "{requests}");
}

#[test]
fn a19_an_index_of_more_than_is_taken() {
    let child = |n: usize| {
        format!(r#"{{"mediaType":"{MANIFEST}","digest":"{}","size":100}}"#, Digest::of(n.to_string().as_bytes()))
    };
    let pull = |children: String| {
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{children}]}}"#);
        let mut script = Script::new(|_: &Request| serve(INDEX, &text));
        let mut options = PullOptions::default();
        options.platforms = Platforms::All;
        let why = script.run(&mut anonymous(), Pull::new(["r.example/n:v1".parse().unwrap()], "/o.tar", options));
        (why.unwrap_err().to_string(), script.requests().len())
    };
    let (why, requests) = pull((0..12_000).map(child).collect::<Vec<_>>().join(","));
    assert!(why.contains("more than 10000 manifests") && requests == 1, "{why}");
    let (why, requests) = pull((0..20).map(child).collect::<Vec<_>>().join(",").replace("100}", "4000000}"));
    assert!(why.contains("67108864 bytes") && requests == 1, "{why}");
}

#[test]
fn a48_only_what_is_for_a_platform_is_taken_for_it() {
    let entry = |os: &str, architecture: &str, variant: &str, kind: &str| {
        format!(
            r#"{{"mediaType":"{kind}","digest":"{}","size":5,"platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}}}"#,
            Digest::of(format!("{os}{architecture}{variant}").as_bytes())
        )
    };
    let index = |entries: &[String]| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","))
    };
    let amd64: Platform = "linux/amd64".parse().unwrap();
    for others in [
        vec![entry("unknown", "unknown", "", MANIFEST)],
        vec![entry("linux", "arm64", "", MANIFEST), entry("windows", "amd64", "", MANIFEST)],
        vec![entry("linux", "unknown", "", MANIFEST), entry("unknown", "amd64", "", MANIFEST)],
        vec![entry("linux", "amd64", r#","variant":"v3""#, MANIFEST), entry("darwin", "arm64", "", MANIFEST)],
        vec![],
    ] {
        let text = index(&others);
        let mut script = Script::new(|_: &Request| serve(INDEX, &text));
        let flow = FetchConfig::new("r.example/n:v1".parse().unwrap(), amd64.clone());
        let why = script.run(&mut anonymous(), flow).unwrap_err();
        assert!(matches!(why, Error::Unsuitable(_)) && why.to_string().contains("no image for linux/amd64"), "{why}");
        assert_eq!(script.lines().len(), 1);
    }
}
