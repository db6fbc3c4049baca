//! The lists of referrers that clients keep for registries that don't: in the simulator under faults, over sockets on all
//! runtimes with others writing at the same time, and at a real `docker-registry`.
//!
//! ```text
//! SIM_SEED=4711 cargo test -p registry-tests --test keeping lists_are      replays one seed and shows what happened
//! ```

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use registry_proto::flow::{
    Copy, CopyOptions, DeleteManifest, Destination, Each, Fleet, ListReferrers, Push, PushOptions, PutManifest,
};
use registry_proto::spec::{Descriptor, Digest, Manifest, Reference, Tag};
use registry_proto::testing::registry::{Profile, Registry, Support};
use registry_proto::testing::script::{self, Request};
use registry_proto::{Config, Error, Event, Session};
use registry_tests::docker_registry::{DockerRegistry, raw_manifest, skopeo};
use registry_tests::hostile;
use registry_tests::images::{image, put, put_index, reference};
use registry_tests::keeping::{KeepScenario, layout};
use registry_tests::on_hand_made_runtimes_too;
use registry_tests::referrers::{about, list_of, put_about, put_list};
use registry_tests::runtimes::Runtime;
use registry_tests::seeds::{for_every_seed, number};
use registry_tests::server::{self, Answer, Asked, Server};
use tempfile::TempDir;

/// How many seeds are run where nobody says otherwise.
const SEEDS: u64 = 3_000;
const KIND: &str = "application/vnd.example.signature";

#[test]
fn lists_are_kept_whoever_writes_beside() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let came = AtomicU64::new(0);
    for_every_seed("keeping", "lists_are_kept_whoever_writes_beside", seeds, |seed| {
        came.fetch_add(KeepScenario::new(seed).run(number("SIM_SEED").is_some()) as u64, Ordering::Relaxed);
        true
    });
    println!("{} manifests came in {seeds} runs", came.load(Ordering::Relaxed));
    assert!(number("SIM_SEED").is_some() || came.into_inner() > seeds, "hardly any came");
}

/// A pause that is longer than a turn: whoever comes back from it reads the list once more before it changes it.
#[test]
fn what_was_read_before_a_long_pause_is_read_again() {
    let mut profile = Profile::distribution_3();
    profile.conditional_put = false;
    let mut registry = Registry::new(profile);
    let [first, second] = ["first", "second"].map(|said| {
        registry.insert_blob("app", Bytes::from_static(b"{}"));
        registry.insert_blob("app", Bytes::copy_from_slice(said.as_bytes()));
        about(&subject(), KIND, said.as_bytes())
    });
    let (host, tag) = ("r.example", Tag::of_referrers(subject().digest()));
    let (mut late, mut paused) = (false, false);
    let mut script = script::Script::new(|request: &Request| match request.method.as_str() {
        // The second one is the first to have its turn.
        "PUT" if request.url.path().ends_with(first.digest().as_str()) && !std::mem::replace(&mut late, true) => {
            hostile::reply(503, &[("retry-after", "1")], "")
        }
        "PUT" if request.url.path().ends_with(tag.as_str()) && !std::mem::replace(&mut paused, true) => {
            hostile::reply(429, &[("retry-after", "120")], "")
        }
        _ => Ok(hostile::by(&mut registry, request)),
    });
    let flows = [&first, &second].map(|one| PutManifest::new(by_digest(host, one), one.clone()));
    for result in script.run_all(&mut Session::new(Config::default(), 1), flows) {
        result.unwrap();
    }
    drop(script);
    let listed: BTreeSet<String> =
        list_of(&registry, "app", subject().digest()).unwrap().iter().map(|entry| entry.digest.to_string()).collect();
    assert_eq!(listed, BTreeSet::from([first.digest().to_string(), second.digest().to_string()]));
}

fn quick() -> Config {
    let mut config = Config::default();
    config.backoff = Duration::from_millis(10);
    config.backoff_limit = Duration::from_millis(20);
    config
}

/// An image that is in no registry, and what is said about it.
fn subject() -> Manifest {
    image(&[b"a layer"]).manifest(false)
}

/// What is said, as an OCI layout folder.
fn write_layout(folder: &Path, said: &str) -> (PathBuf, Manifest) {
    let (path, manifest) = (folder.join(said), about(&subject(), KIND, said.as_bytes()));
    for (file, bytes) in layout(&path, &manifest, &[Bytes::from_static(b"{}"), Bytes::copy_from_slice(said.as_bytes())])
    {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    (path, manifest)
}

fn push(archive: &Path, to: Reference) -> Push {
    Push::new(archive, Destination::Reference(to), PushOptions::default())
}

fn by_digest(host: &str, manifest: &Manifest) -> Reference {
    reference(host, &format!("app@{}", manifest.digest()))
}

/// The list's requests to a server, without where it is.
fn about_the_list(server: &Server) -> Vec<String> {
    let tag = Tag::of_referrers(subject().digest());
    let asked = |asked: &Asked| format!("{} {}", asked.head.method, asked.head.uri.path());
    server.log().iter().map(asked).filter(|line| line.contains(tag.as_str()) || line.contains("/referrers/")).collect()
}

fn listed(server: &Server) -> Option<Vec<Descriptor>> {
    list_of(&server.registry(), "app", subject().digest())
}

/// Pushes one signature to a registry of this profile behind this script; what came of it, and what was noticed.
fn pushed(
    runtime: Runtime,
    profile: Profile,
    prepare: impl FnOnce(&mut Registry),
    script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> (Server, Result<(), Error>, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let (path, manifest) = write_layout(folder.path(), "mine");
    let mut registry = Registry::new(profile);
    prepare(&mut registry);
    let server = Server::start(registry, script);
    let mut notices = Vec::new();
    let result = runtime.run_with(quick(), push(&path, by_digest(&server.host(), &manifest)), |event| {
        if let Event::Notice(what) = event {
            notices.push(what);
        }
    });
    (server, result.map(|_| ()), notices)
}

fn c44_told_or_listed(runtime: Runtime) {
    let tag = Tag::of_referrers(subject().digest());
    let (get, put, head) = (
        format!("GET /v2/app/manifests/{tag}"),
        format!("PUT /v2/app/manifests/{tag}"),
        format!("HEAD /v2/app/manifests/{tag}"),
    );
    let mine = about(&subject(), KIND, b"mine").referrer();
    assert!(mine.artifact_type.is_some() && !mine.annotations.is_empty());

    // The registry says that it has seen to it.
    let (server, result, _) = pushed(runtime, Profile::strict(), |_| {}, |_| Answer::registry());
    result.unwrap();
    assert_eq!((about_the_list(&server), listed(&server)), (vec![], None));

    // It does not, and there is no list yet, or one.
    let (server, result, _) = pushed(runtime, Profile::distribution_2_8(), |_| {}, |_| Answer::registry());
    result.unwrap();
    assert_eq!(about_the_list(&server), [get.clone(), put.clone(), head.clone()]);
    assert_eq!(listed(&server), Some(vec![mine.clone()]));
    let theirs = about(&subject(), KIND, b"theirs").referrer();
    let there = |registry: &mut Registry| {
        put_about(registry, "app", &subject(), KIND, "theirs");
        put_list(registry, "app", subject().digest(), vec![about(&subject(), KIND, b"theirs").referrer()]);
    };
    let (server, result, _) = pushed(runtime, Profile::distribution_3(), there, |_| Answer::registry());
    result.unwrap();
    assert_eq!(listed(&server), Some(vec![theirs, mine.clone()]));

    // It is on the list already.
    let there = |registry: &mut Registry| {
        put_about(registry, "app", &subject(), KIND, "mine");
        put_list(registry, "app", subject().digest(), vec![about(&subject(), KIND, b"mine").referrer()]);
    };
    let (server, result, _) = pushed(runtime, Profile::distribution_3(), there, |_| Answer::registry());
    result.unwrap();
    let asks = format!("GET /v2/app/referrers/{}", subject().digest());
    assert_eq!(about_the_list(&server), [asks.clone(), get.clone()], "nothing was put, so that nothing was said");

    // It was put, but whoever did that came no further.
    let there = |registry: &mut Registry| _ = put_about(registry, "app", &subject(), KIND, "mine");
    let (server, result, _) = pushed(runtime, Profile::distribution_3(), there, |_| Answer::registry());
    result.unwrap();
    assert_eq!(about_the_list(&server), [asks.clone(), get, put, head]);
    assert_eq!(listed(&server), Some(vec![mine]));
    let (server, result, _) = pushed(runtime, Profile::strict(), there, |_| Answer::registry());
    result.unwrap();
    assert_eq!(about_the_list(&server), [asks]);
}

fn c44_gitlab_can_not_record(runtime: Runtime) {
    let profile = Profile { digests_as_tags: true, ..Profile::distribution_3() };
    let there = |registry: &mut Registry| _ = put(registry, "app", Some("v1"), &image(&[b"a layer"]));
    let (server, result, notices) = pushed(runtime, profile, there, |_| Answer::registry());
    result.unwrap();
    assert_eq!(server.count("PUT", "/manifests/sha256-"), 0);
    assert!(notices[0].contains("no list can be kept under the tag sha256-"), "{notices:?}");

    // With an index as the subject it looks like a list.
    let mut registry = Registry::new(Profile { digests_as_tags: true, ..Profile::distribution_3() });
    let index = put_index(&mut registry, "app", "v1");
    let mut source = Registry::new(Profile::strict());
    let mine = put_about(&mut source, "app", &index, KIND, "mine");
    let (source, server) =
        (Server::start(source, |_| Answer::registry()), Server::start(registry, |_| Answer::registry()));
    let copy = Copy::new(by_digest(&source.host(), &mine), by_digest(&server.host(), &mine), CopyOptions::default());
    runtime.run(quick(), copy).unwrap();
    assert_eq!(server.count("PUT", "/manifests/sha256-"), 0);
    assert!(server.registry().manifest("app", mine.digest().as_str()).is_some());
}

type Script = Box<dyn Fn(&Asked) -> Answer + Send + Sync>;

/// What comes of the first so many attempts to put the list.
fn spoilt(times: u64, answer: impl Fn() -> Answer + Send + Sync + 'static) -> impl Fn(&Asked) -> Answer + Send + Sync {
    let seen = AtomicU64::new(0);
    move |asked| {
        let list = asked.is("PUT", "/manifests/sha256-");
        if list && seen.fetch_add(1, Ordering::SeqCst) < times { answer() } else { Answer::registry() }
    }
}

fn whoever_is_overtaken_does_it_again(runtime: Runtime) {
    let status = |line: &'static str| move || Answer::raw(server::reply(line, &[], ""));
    let cases: [(&str, u64, Script); 5] = [
        ("somebody was faster", 3, Box::new(spoilt(3, status("412 Precondition Failed")))),
        ("two at the same time", 2, Box::new(spoilt(2, status("409 Conflict")))),
        ("somebody was slower, and overwrote it", 2, Box::new(spoilt(2, status("201 Created")))),
        ("not now", 2, Box::new(spoilt(2, status("503 Service Unavailable")))),
        ("nobody knows whether it was put", 0, Box::new(spoilt(1, Answer::lost))),
    ];
    for (what, again, script) in cases {
        let (server, result, _) = pushed(runtime, Profile::distribution_3(), |_| {}, script);
        result.unwrap();
        assert_eq!(listed(&server).unwrap().len(), 1, "{what}");
        assert_eq!(server.count("PUT", "/manifests/sha256-") as u64, 1 + again, "{what}");
        let log = about_the_list(&server);
        let blind = log.windows(2).any(|two| two[0].starts_with("PUT ") && two[1].starts_with("PUT "));
        assert!(!blind, "{what}: put again without a look: {log:?}");
    }

    // Something in front of the registry refuses whatever has a condition.
    let (server, result, _) = pushed(
        runtime,
        Profile::distribution_3(),
        |_| {},
        |asked| {
            let conditional = !asked.header("if-match").is_empty() || !asked.header("if-none-match").is_empty();
            if conditional {
                Answer::raw(server::reply("412 Precondition Failed", &[], ""))
            } else {
                Answer::registry()
            }
        },
    );
    result.unwrap();
    assert_eq!((listed(&server).unwrap().len(), server.count("PUT", "/manifests/sha256-")), (1, 2));

    // There is an end to it.
    let never = spoilt(u64::MAX, status("201 Created"));
    let (server, result, _) = pushed(runtime, Profile::distribution_3(), |_| {}, never);
    let why = result.unwrap_err().to_string();
    assert!(why.contains("8 times in a row") && why.contains("/manifests/sha256-"), "{why}");
    assert_eq!(server.count("PUT", "/manifests/sha256-"), 8);
    let never = spoilt(u64::MAX, status("415 Unsupported Media Type"));
    let (server, result, _) = pushed(runtime, Profile::distribution_3(), |_| {}, never);
    let why = result.unwrap_err().to_string();
    assert!(why.contains("415") && why.contains("the manifest itself is there"), "{why}");
    assert_eq!(server.count("PUT", "/manifests/sha256-"), 1);
}

fn what_is_gone_is_taken_off_the_list(runtime: Runtime) {
    let there = |registry: &mut Registry| {
        put_about(registry, "app", &subject(), KIND, "theirs");
        let listed = [&b"deleted"[..], b"theirs"].map(|said| about(&subject(), KIND, said).referrer());
        put_list(registry, "app", subject().digest(), listed.into());
    };
    let (server, result, notices) = pushed(runtime, Profile::distribution_2_8(), there, |_| Answer::registry());
    result.unwrap();
    let left = [&b"theirs"[..], b"mine"].map(|said| about(&subject(), KIND, said).referrer());
    assert_eq!(listed(&server), Some(left.into()));
    assert!(notices[0].contains("does not have") && notices[0].contains("any more"), "{notices:?}");
}

/// Clients that know nothing of each other, at a registry that looks at conditions: nobody's entry is lost.
fn many_clients_at_once(runtime: Runtime) {
    const CLIENTS: usize = 6;
    let profile = Profile { conditional_put: true, ..Profile::distribution_3() };
    let server = Server::start(Registry::new(profile), |_| Answer::registry());
    let folder = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (folder, host) = (folder.path(), server.host());
            scope.spawn(move || {
                let (path, manifest) = write_layout(folder, &format!("client {client}"));
                runtime.run(quick(), push(&path, by_digest(&host, &manifest))).unwrap();
            });
        }
    });
    assert_eq!(listed(&server).unwrap().len(), CLIENTS);
}

fn a_deleted_one_leaves_the_list(runtime: Runtime) {
    // (Where the registry has a list of its own, that of its clients is from before.)
    for profile in [Profile::distribution_3(), Profile::strict()] {
        let mut registry = Registry::new(Profile { delete: Support::Yes, ..profile });
        let both = ["mine", "yours"].map(|said| put_about(&mut registry, "app", &subject(), KIND, said));
        put_list(&mut registry, "app", subject().digest(), both.iter().map(Manifest::referrer).collect());
        let server = Server::start(registry, |_| Answer::registry());
        runtime.run(quick(), DeleteManifest::new(&by_digest(&server.host(), &both[0]))).unwrap();
        assert_eq!(listed(&server), Some(vec![both[1].referrer()]));
        assert_eq!(about_the_list(&server).len(), 3, "{:?}", about_the_list(&server));
    }
    // Nor is a list made where there is none.
    let mut registry = Registry::new(Profile { delete: Support::Yes, ..Profile::distribution_3() });
    let mine = put_about(&mut registry, "app", &subject(), KIND, "mine");
    let server = Server::start(registry, |_| Answer::registry());
    runtime.run(quick(), DeleteManifest::new(&by_digest(&server.host(), &mine))).unwrap();
    assert_eq!((listed(&server), about_the_list(&server).len()), (None, 1));
    // That the list can't be written is no reason to say that nothing was deleted.
    let mut registry = Registry::new(Profile { delete: Support::Yes, ..Profile::distribution_3() });
    let mine = put_about(&mut registry, "app", &subject(), KIND, "mine");
    put_list(&mut registry, "app", subject().digest(), vec![mine.referrer()]);
    let server = Server::start(registry, |asked| match asked.is("PUT", "/manifests/sha256-") {
        true => Answer::raw(server::reply("403 Forbidden", &[], "")),
        false => Answer::registry(),
    });
    let mut notices = Vec::new();
    let delete = DeleteManifest::new(&by_digest(&server.host(), &mine));
    let deleted = runtime.run_with(quick(), delete, |event| {
        if let Event::Notice(what) = event {
            notices.push(what);
        }
    });
    assert_eq!(deleted.unwrap().reference.to_string(), mine.digest().to_string());
    assert!(notices[0].contains("is deleted, but it is still on the list"), "{notices:?}");
}

// ── a real registry ──────────────────────────────────────────────────────────────────────────────────────────────────

/// `DELETE` as somebody does it who knows nothing of lists.
fn delete_alone(host: &str, digest: &Digest) {
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "DELETE /v2/app/manifests/{digest} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 202"), "{reply}");
}

/// docker-registry 2.8 lists no referrers. Everything that refers is pushed, copied, deleted and listed there; `skopeo` reads
/// the list that results.
fn a_real_registry_without_a_list_of_its_own(runtime: Runtime) {
    let (registry, folder) = (DockerRegistry::start(), TempDir::new().unwrap());
    let host = registry.host();
    let said: Vec<(PathBuf, Manifest)> =
        ["one", "two", "three", "four"].map(|said| write_layout(folder.path(), said)).into();
    let flows = said.iter().map(|(path, manifest)| Each::new(push(path, by_digest(&host, manifest))));
    let width = 4.try_into().unwrap();
    for result in runtime.run(quick(), Fleet::new(flows.collect::<Vec<_>>(), width)).unwrap() {
        result.unwrap();
    }
    let list = || {
        let raw = raw_manifest(&format!("{host}/app:{}", Tag::of_referrers(subject().digest())));
        Manifest::parse(raw.into(), None, None).unwrap()
    };
    let subject = reference(&host, &format!("app@{}", subject().digest()));
    let digests = |found: Vec<Descriptor>| found.into_iter().map(|one| one.digest).collect::<BTreeSet<_>>();
    let of = |said: &[(PathBuf, Manifest)]| said.iter().map(|(_, one)| one.digest().clone()).collect::<BTreeSet<_>>();
    let referrers = || runtime.run(quick(), ListReferrers::new(&subject)).unwrap();
    assert_eq!(digests(list().index().unwrap().manifests.clone()), of(&said), "what skopeo reads");
    let expected: BTreeSet<String> = said.iter().map(|(_, one)| format!("{:?}", one.referrer())).collect();
    assert_eq!(referrers().iter().map(|one| format!("{one:?}")).collect::<BTreeSet<_>>(), expected);

    // Deleted by us, it leaves the list; deleted by others, it stays on it until the list is written the next time.
    runtime.run(quick(), DeleteManifest::new(&by_digest(&host, &said[0].1))).unwrap();
    assert_eq!(digests(referrers()), of(&said[1..]));
    delete_alone(&host, said[1].1.digest());
    assert_eq!(digests(referrers()), of(&said[1..]));
    let (path, five) = write_layout(folder.path(), "five");
    runtime.run(quick(), push(&path, by_digest(&host, &five))).unwrap();
    let mut left = of(&said[2..]);
    left.insert(five.digest().clone());
    assert_eq!(digests(referrers()), left);

    // The list is an image index like any other, as far as another program is concerned.
    let out = format!("oci:{}:out", folder.path().join("out").display());
    let tag = format!("docker://{host}/app:{}", Tag::of_referrers(subject.digest().unwrap()));
    skopeo(&["copy", "-q", "--all", "--src-tls-verify=false", &tag, &out]);

    // Nothing is left of it but an empty list.
    for digest in &left {
        runtime.run(quick(), DeleteManifest::new(&reference(&host, &format!("app@{digest}")))).unwrap();
    }
    assert_eq!((referrers(), list().index().unwrap().manifests.len()), (vec![], 0));
}

on_hand_made_runtimes_too!(
    c44_told_or_listed,
    c44_gitlab_can_not_record,
    whoever_is_overtaken_does_it_again,
    what_is_gone_is_taken_off_the_list,
    many_clients_at_once,
    a_deleted_one_leaves_the_list,
    a_real_registry_without_a_list_of_its_own,
);
