//! A registry as the attacker (PROTOCOL §6, actor R), while blobs move: where it would have them sent, and how far it says they
//! have come.
//!
//! Each test is named by the attacks that it is about; `registry-proto/THREATS.md` lists them all.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;

use bytes::Bytes;
use http::Response;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{Copy, CopyOptions, Platforms, Pull, PullOptions, ReadBlob};
use registry_proto::job::{Failure, FailureKind};
use registry_proto::spec::Digest;
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Error, Event, Session, UploadPolicy};
use registry_tests::hostile::{Answer, LAYER, anonymous, by, disk, image, push, reply, serve, to, user};
use registry_tests::images::noise;

/// Pushes with a password to a registry that answers as `attack` changes it. Nothing else is asked of anybody but what it
/// names itself.
fn push_to(
    config: impl FnOnce(&mut Config),
    mut attack: impl FnMut(&Request, &mut Registry) -> Option<Answer>,
) -> (Result<(), Error>, Vec<Request>, Registry) {
    let mut registry = Registry::new(Profile::distribution_3());
    let mut settings = user().config().clone();
    config(&mut settings);
    let mut script = Script::new(|request: &Request| {
        if request.host() == "r.example" && request.header("authorization").is_empty() {
            return reply(401, &[("www-authenticate", "Basic realm=\"here\"")], "");
        }
        attack(request, &mut registry).unwrap_or_else(|| Ok(by(&mut registry, request)))
    })
    .with_disk(disk());
    let result = script.run(&mut Session::new(settings, 1), push()).map(drop);
    let requests = script.requests().to_vec();
    drop(script);
    (result, requests, registry)
}

fn is_upload(request: &Request, method: &str) -> bool {
    request.method == method && request.url.path().contains("/blobs/uploads/")
}

fn located(mut reply: Response<Bytes>, location: &str) -> Response<Bytes> {
    reply.headers_mut().insert("location", location.parse().unwrap());
    reply
}

// ── where blobs go ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a07_an_upload_stays_with_its_registry() {
    let chunks = |config: &mut Config| config.upload = UploadPolicy::Chunked(NonZeroU64::new(100_000).unwrap());
    for elsewhere in [
        "https://evil.example/v2/n/blobs/uploads/u",
        "//evil.example/u",
        "http://evil.example/u",
        "https://r.example:8443/u",
        "https://r.example@evil.example/u",
        "https://169.254.169.254/u",
    ] {
        for method in ["POST", "PATCH"] {
            let (result, requests, registry) = push_to(chunks, |request, registry| {
                is_upload(request, method).then(|| Ok(located(by(registry, request), elsewhere)))
            });
            let why = result.unwrap_err();
            assert!(matches!(why, Error::Protocol { .. }), "{method} {elsewhere}: {why}");
            assert!(requests.iter().all(|request| request.host() == "r.example"), "{method} {elsewhere}");
            assert!(registry.tags("n").is_empty());
        }
    }
}

/// The question for an upload's state is a `GET`, and these may be redirected: but what answers there has no say in where
/// the upload goes on, and the password with it.
#[test]
fn a06_a07_a_redirect_does_not_take_an_upload_along() {
    let cut = Cell::new(false);
    let (_, requests, _) = push_to(
        |_| {},
        |request, _| match request.host() {
            "evil.example" if request.header("authorization").is_empty() && request.method != "GET" => {
                Some(reply(401, &[("www-authenticate", "Basic realm=\"here\"")], ""))
            }
            "evil.example" => Some(reply(204, &[("location", "/v2/n/blobs/uploads/mine"), ("range", "0-99")], "")),
            _ if is_upload(request, "PUT") && request.body.len() == LAYER && !cut.replace(true) => {
                Some(Err(Failure::new(FailureKind::Cut, "")))
            }
            _ if is_upload(request, "GET") => Some(to("https://evil.example/state")),
            _ => None,
        },
    );
    let there: Vec<&Request> = requests.iter().filter(|request| request.host() == "evil.example").collect();
    assert!(!there.is_empty(), "the redirect was followed");
    for request in there {
        assert_eq!((request.method.as_str(), request.header("authorization")), ("GET", ""), "{}", request.line());
        assert!(request.body.is_empty());
    }
}

#[test]
fn a44_mounts_are_asked_for_from_what_was_named_only() {
    // To two repositories at once: the second may take over what the first was given. Nothing else is ever told.
    let images = [
        SampleImage::new(&["r.example/one:v1", "r.example/two:v1"], &[b"shared"]),
        SampleImage::new(&["other.example/secret:v1"], &[b"shared"]),
    ];
    let disk = MemoryDisk::with("app.tar", make::docker_save_oci(&images));
    let mut registries = [Registry::new(Profile::distribution_3()), Registry::new(Profile::distribution_3())];
    let mut script = Script::new(|request: &Request| {
        Ok(by(&mut registries[usize::from(request.host() == "other.example")], request))
    })
    .with_disk(disk);
    script.run(&mut anonymous(), push()).unwrap();
    let mut mounts = 0;
    for request in script.requests() {
        let query = request.url.query().unwrap_or_default();
        if let Some((_, from)) = query.split_once("&from=") {
            mounts += 1;
            assert!(request.host() == "r.example" && ["one", "two"].contains(&from), "{}", request.line());
        }
        assert!(!request.line().contains("secret") || request.host() == "other.example", "{}", request.line());
    }
    assert!(mounts > 0, "there was nothing to see");
}

// ── how far they have come ───────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a33_hints_are_hints() {
    for hint in ["9223372036854775808", "18446744073709551616", "-1", "0", "x", "1e9"] {
        let (result, _, registry) = push_to(
            |config| config.upload = UploadPolicy::Chunked(NonZeroU64::new(100_000).unwrap()),
            |request, registry| {
                is_upload(request, "POST").then(|| {
                    let mut reply = by(registry, request);
                    reply.headers_mut().insert("oci-chunk-min-length", hint.parse().unwrap());
                    Ok(reply)
                })
            },
        );
        result.unwrap_or_else(|why| panic!("{hint}: {why}"));
        assert_eq!(registry.tags("n"), ["v1"]);
    }
    // From registry to registry pieces are in memory: what a hint asks for there is limited by `Config::piece`.
    let mut source = Registry::new(Profile::distribution_3());
    let content = image();
    for blob in content.layers.iter().cloned().chain([content.config()]) {
        source.insert_blob("n", blob);
    }
    let manifest = content.manifest(false);
    source.insert_manifest("n", Some("v1"), manifest.bytes().clone(), manifest.media_type().as_str()).unwrap();
    let mut destination = Registry::new(Profile::distribution_3());
    let largest = Cell::new(0);
    let mut script = Script::new(|request: &Request| {
        if request.host() != "d.example" {
            return Ok(by(&mut source, request));
        }
        largest.set(largest.get().max(request.body.len()));
        let mut reply = by(&mut destination, request);
        reply.headers_mut().insert("oci-chunk-min-length", "9223372036854775807".parse().unwrap());
        Ok(reply)
    });
    let mut config = Config::default();
    config.piece = NonZeroU64::new(10_000).unwrap();
    config.upload = UploadPolicy::Chunked(config.piece);
    let flow = Copy::new("r.example/n:v1".parse().unwrap(), "d.example/n:v1".parse().unwrap(), CopyOptions::default());
    let _ = script.run(&mut Session::new(config, 1), flow);
    assert!(largest.get() <= 40_000, "{} bytes of a blob in memory", largest.get());
}

#[test]
fn a34_an_upload_gets_ahead_or_ends() {
    let size = LAYER as u64;
    // Two bytes more each time, of all that it is sent.
    let kept = Cell::new(0_u64);
    let chunks = |config: &mut Config| config.upload = UploadPolicy::Chunked(NonZeroU64::new(100_000).unwrap());
    let (result, requests, _) = push_to(chunks, |request, _| {
        is_upload(request, "PATCH").then(|| {
            kept.set(kept.get() + 2);
            let range = format!("0-{}", kept.get() - 1);
            reply(202, &[("location", request.url.path_and_query().unwrap().as_str()), ("range", &range)], "")
        })
    });
    let why = result.unwrap_err();
    assert!(why.to_string().contains("next to nothing"), "{why}");
    let sent: u64 = requests.iter().map(|request| request.body.len() as u64).sum();
    assert!(sent < 4 * size, "{sent} bytes were sent of a blob of {size}");

    // Back to the first byte, whatever was sent; by 416, and by what the session says.
    let (result, requests, _) = push_to(chunks, |request, registry| {
        if is_upload(request, "PATCH") {
            return Some(reply(416, &[("location", request.url.path()), ("range", "0-1")], ""));
        }
        let session = is_upload(request, "GET").then(|| by(registry, request))?;
        let location = session.headers().get("location").map_or("", |location| location.to_str().unwrap()).to_owned();
        Some(reply(204, &[("location", &location), ("range", "0-1")], ""))
    });
    assert!(result.is_err());
    let sent: u64 = requests.iter().map(|request| request.body.len() as u64).sum();
    assert!(sent < 10 * size && requests.len() < 100, "{sent} bytes in {} requests", requests.len());

    // Forward, past bytes that it was never sent.
    let (result, requests, _) = push_to(chunks, |request, registry| {
        is_upload(request, "PATCH").then(|| {
            let mut reply = by(registry, request);
            reply.headers_mut().insert("range", format!("0-{}", size - 1).parse().unwrap());
            Ok(reply)
        })
    });
    let why = result.unwrap_err();
    assert!(matches!(why, Error::Protocol { .. }), "{why}");
    assert!(requests.iter().any(|request| is_upload(request, "DELETE")), "its session is closed");
    for claim in ["0-18446744073709551615", "0-18446744073709551614", "18446744073709551615-0", "0-"] {
        let (result, requests, registry) = push_to(chunks, |request, registry| {
            is_upload(request, "PATCH").then(|| {
                let mut reply = by(registry, request);
                reply.headers_mut().insert("range", claim.parse().unwrap());
                Ok(reply)
            })
        });
        assert!(requests.len() < 50, "{claim}");
        assert_eq!(registry.ledger().mismatches, [], "{claim}");
        assert!(result.is_ok() || registry.tags("n").is_empty(), "{claim}");
    }
}

#[test]
fn a34_a47_a_download_gets_ahead_or_ends() {
    let content = image();
    let manifest = content.manifest(false);
    let wanted = content.layers[0].clone();
    let digest = Digest::of(&wanted);
    // A byte at a time; other bytes; several parts; a range that is none. And what is said of it, by a pull.
    type Part = fn(usize, &[u8]) -> (u16, String, Vec<u8>);
    let parts: [(&str, &str, Part); 8] = [
        ("a byte at a time", "next to nothing", |from, all| {
            (206, format!("bytes {from}-{from}/{}", all.len()), all[from..=from].to_vec())
        }),
        ("the beginning again", "with bytes 0-9/", |_, all| {
            (206, format!("bytes 0-9/{}", all.len()), all[..10].to_vec())
        }),
        ("the beginning again, as if it were what follows", "next to nothing", |from, all| {
            let to = (from + 9).min(all.len() - 1);
            (206, format!("bytes {from}-{to}/{}", all.len()), all[..=to - from].to_vec())
        }),
        ("several parts", "without a usable Content-Range", |_, _| {
            let part = "--x\r\nContent-Range: bytes 0-2/9\r\n\r\nabc\r\n--x--";
            (206, String::new(), part.as_bytes().to_vec())
        }),
        ("a later part", "with bytes 1-20/", |from, all| {
            let to = (from + 20).min(all.len() - 1);
            (206, format!("bytes {}-{to}/{}", from.max(1), all.len()), all[from.max(1)..=to].to_vec())
        }),
        ("another total", "99999999 bytes", |from, all| {
            (206, format!("bytes {from}-{from}/99999999"), all[from..=from].to_vec())
        }),
        ("backwards", "without a usable Content-Range", |_, _| (206, "bytes 9-3/10".to_owned(), b"x".to_vec())),
        ("out of all numbers", "with bytes 0-18446744073709551615/", |_, _| {
            (206, "bytes 0-18446744073709551615/*".to_owned(), b"x".to_vec())
        }),
    ];
    for (what, said, part) in parts {
        let asked = RefCell::new(Vec::new());
        let answer = |request: &Request| {
            let path = request.url.path();
            if path.contains("/manifests/") {
                return serve(manifest.media_type().as_str(), manifest.bytes());
            }
            if !path.contains(digest.encoded()) {
                return serve("", content.config());
            }
            asked.borrow_mut().push(request.line());
            if request.method == "HEAD" {
                return reply(200, &[("content-length", &wanted.len().to_string())], "");
            }
            let from =
                request.header("range").trim_start_matches("bytes=").split('-').next().unwrap().parse().unwrap_or(0);
            let (status, range, body) = part(from, &wanted);
            let range = (!range.is_empty()).then_some(("content-range", range.as_str()));
            reply(status, range.as_slice(), body)
        };
        let mut options = PullOptions::default();
        options.platforms = Platforms::All;
        let mut script = Script::new(answer);
        let pulled = script.run(&mut anonymous(), Pull::new(["r.example/n:v1".parse().unwrap()], "/out.tar", options));
        let why = pulled.unwrap_err().to_string();
        assert!(why.contains(said), "{what}: {why}");
        assert!(asked.borrow().len() < 30, "{what}: {} requests", asked.borrow().len());

        asked.borrow_mut().clear();
        let mut config = Config::default();
        config.piece = NonZeroU64::new(100_000).unwrap();
        let mut script = Script::new(answer);
        let read = ReadBlob::new("r.example/n".parse().unwrap(), digest.clone());
        assert!(script.run(&mut Session::new(config.clone(), 1), read).is_err(), "{what}");
        // Whoever reads along is given bytes before all of them are there: never those of another place that was told.
        let told = script.events().iter().filter_map(|event| match event {
            Event::Content(piece) => Some(piece.0.to_vec()),
            _ => None,
        });
        let told = told.collect::<Vec<_>>().concat();
        assert!(wanted.starts_with(&told) || what.contains("as if it were"), "{what}: {} other bytes", told.len());
        assert!(asked.borrow().len() < 30, "{what}: {} requests", asked.borrow().len());

        asked.borrow_mut().clear();
        let mut destination = Registry::new(Profile::distribution_3());
        let mut script = Script::new(|request: &Request| match request.host() {
            "d.example" => Ok(by(&mut destination, request)),
            _ => answer(request),
        });
        let to = "d.example/n:v1".parse().unwrap();
        let copy = Copy::new("r.example/n:v1".parse().unwrap(), to, CopyOptions::default());
        assert!(script.run(&mut Session::new(config, 1), copy).is_err(), "{what}");
        drop(script);
        assert!(asked.borrow().len() < 30, "{what}: {} requests", asked.borrow().len());
        assert!(destination.tags("n").is_empty() && destination.ledger().mismatches.is_empty(), "{what}");
    }
}

#[test]
fn a35_blobs_that_are_said_to_be_there() {
    // Nothing is taken for pushed before the registry has taken the manifest, and that it does not while blobs are missing.
    type Lie = fn(&Request) -> bool;
    let lies: [(&str, Lie, u16); 3] = [
        ("it exists", |request| request.method == "HEAD" && request.url.path().contains("/blobs/"), 200),
        ("it was mounted", |request| request.url.query().is_some_and(|query| query.contains("mount=")), 201),
        ("it was uploaded", |request| is_upload(request, "PUT") && request.body.len() == LAYER, 201),
    ];
    for (what, lie, status) in lies {
        let two =
            make::docker_save_oci(&[SampleImage::new(&["r.example/one:v1", "r.example/two:v1"], &[&noise(LAYER)])]);
        let mut registry = Registry::new(Profile::strict());
        let told = Cell::new(0);
        let mut script = Script::new(|request: &Request| {
            if lie(request) {
                told.set(told.get() + 1);
                return reply(status, &[("location", "/v2/n/blobs/x")], "");
            }
            Ok(by(&mut registry, request))
        })
        .with_disk(MemoryDisk::with("app.tar", two));
        let result = script.run(&mut anonymous(), push());
        let requests = script.requests().len();
        drop(script);
        assert!(told.get() > 0, "{what}: there was nothing to lie about");
        assert!(requests < 200, "{what}: {requests}");
        for repository in ["one", "two"] {
            let holds_all = registry.blob(repository, Digest::of(&noise(LAYER)).as_str()).is_some();
            assert!(holds_all || registry.tags(repository).is_empty(), "{what}");
            assert!(holds_all || result.is_err(), "{what}: it was taken for done");
        }
    }
}
