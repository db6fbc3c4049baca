//! `tags`, `catalog`, `tag` and `delete`, as their users meet them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use registry_proto::archive::make::SampleImage;
use registry_proto::spec::{Digest, Index, Manifest, TagOrDigest};
use registry_proto::testing::registry::{Profile, Registry, Support};
use registry_tokio::serve::Server;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::run::{command, err, json, out, runtime, tug};

struct Served {
    server: Server,
    /// What the server lives on.
    _runtime: Runtime,
    one: Digest,
    two: Digest,
    index: Digest,
}

/// A registry with `app`: `one` and `uno` lead to an image, `two` to another, `all` to an index of both.
fn served(profile: Profile) -> Served {
    let mut registry = Registry::new(profile);
    let put = |registry: &mut Registry, tags: &[&str], manifest: &Manifest| {
        for tag in tags {
            let media_type = manifest.media_type().as_str();
            registry.insert_manifest("app", Some(tag), manifest.bytes().clone(), media_type).unwrap();
        }
        manifest.digest().clone()
    };
    let images = [b"one", b"two"].map(|layer| SampleImage::new(&[], &[layer]));
    for image in &images {
        for blob in image.layers.iter().cloned().chain([image.config()]) {
            registry.insert_blob("app", blob);
        }
    }
    let [one, two] = images.map(|image| image.manifest(false));
    let index = Index {
        media_type: None,
        artifact_type: None,
        manifests: [&one, &two].map(Manifest::descriptor).into(),
        subject: None,
        annotations: Default::default(),
    };
    let digests = (
        put(&mut registry, &["one", "uno"], &one),
        put(&mut registry, &["two"], &two),
        put(&mut registry, &["all"], &index.to_manifest()),
    );
    let runtime = runtime();
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
    Served { server, _runtime: runtime, one: digests.0, two: digests.1, index: digests.2 }
}

fn deleting() -> Profile {
    Profile { delete: Support::Yes, ..Profile::distribution_3() }
}

impl Served {
    fn host(&self) -> String {
        self.server.address().to_string()
    }

    fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    fn tags(&self) -> Vec<String> {
        self.server.registry(|registry| registry.tags("app"))
    }

    fn has(&self, digest: &Digest) -> bool {
        self.server.registry(|registry| registry.manifest("app", digest.as_str()).is_some())
    }

    fn line(&self, what: &TagOrDigest) -> String {
        match what {
            TagOrDigest::Tag(tag) => format!("{}:{tag}\n", self.reference("app")),
            TagOrDigest::Digest(digest) => format!("{}@{digest}\n", self.reference("app")),
        }
    }
}

#[test]
fn names_a_line_each_and_nothing_else() {
    let served = served(Profile { tag_page: Some(3), ..Profile::distribution_3() });
    served.server.registry(|registry| registry.create_repository("team/other"));
    let app = served.reference("app");
    let tags = tug(&["tags", &app]);
    assert_eq!((out(&tags), err(&tags)), ("all\none\ntwo\nuno\n", ""));
    assert_eq!(err(&tug(&["tags", "-v", &app])).matches("GET ").count(), 2, "two pages");
    assert_eq!(
        json(&tug(&["ls", &app, "--format", "json"])),
        json!({
            "repository": app,
            "tags": ["all", "one", "two", "uno"],
        })
    );
    assert_eq!(out(&tug(&["catalog", &served.host()])), "app\nteam/other\n");
    assert_eq!(
        json(&tug(&["catalog", &served.host(), "--format", "json"])),
        json!({
            "registry": served.host(),
            "repositories": ["app", "team/other"],
        })
    );
}

#[test]
fn who_has_seen_enough_ends_the_list() {
    let served = served(Profile { tag_page: Some(1), ..Profile::distribution_3() });
    let (bytes, kind) = served.server.registry(|registry| registry.manifest("app", "one").unwrap());
    served.server.registry(|registry| {
        for n in 0..5000 {
            registry.insert_manifest("app", Some(&format!("t{n}")), bytes.clone(), &kind).unwrap();
        }
    });
    let mut child = command()
        .args(["tags", "-v", &served.reference("app")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reading = BufReader::new(child.stdout.take().unwrap());
    reading.read_line(&mut line).unwrap();
    assert_eq!(line, "all\n", "the first page is there before the last");
    drop(reading);
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(child.wait().unwrap().success(), "{log}");
    let pages = log.matches("GET ").count();
    assert!((1..5000).contains(&pages), "{pages} pages were asked for");
}

#[test]
fn a_list_that_breaks_off_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for (at, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut reading = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::from("-");
            while !line.trim().is_empty() {
                line.clear();
                reading.read_line(&mut line).unwrap();
            }
            let (status, body) = if at % 2 == 0 { ("200 OK", r#"{"tags":["a","b"]}"#) } else { ("410 Gone", "") };
            let reply = format!(
                "HTTP/1.1 {status}\r\nlink: <?last=b>; rel=\"next\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    let app = format!("{host}/app");
    for (format, printed) in [("text", "a\nb\n"), ("json", "    \"a\",\n")] {
        let cut = tug(&["tags", &app, "--format", format]);
        assert_eq!(cut.status.code(), Some(1), "{cut:?}");
        let shown = std::str::from_utf8(&cut.stdout).unwrap();
        assert!(shown.ends_with(printed) && err(&cut).contains("410 Gone"), "{cut:?}");
        assert!(serde_json::from_str::<Value>(shown).is_err(), "half a list is no JSON");
    }
}

#[test]
fn a_warning_is_shown_once() {
    let warnings = vec![r#"299 - "this registry moves""#.to_owned(), r#"299 - "soon", 110 - "stale""#.to_owned()];
    let served = served(Profile { tag_page: Some(1), warnings, ..Profile::distribution_3() });
    let tags = tug(&["tags", &served.reference("app")]);
    assert_eq!(out(&tags), "all\none\ntwo\nuno\n");
    let host = served.host();
    assert_eq!(
        err(&tags),
        format!("note: http://{host} warns: this registry moves\nnote: http://{host} warns: soon\n")
    );
    assert_eq!(err(&tug(&["tags", "-q", &served.reference("app")])), "");
}

#[test]
fn new_tags_lead_to_the_same() {
    let served = served(Profile::distribution_3());
    let tagged = tug(&["tag", &served.reference("app:one"), "eins", "two"]);
    assert_eq!(out(&tagged), format!("{}\n", served.one));
    assert_eq!(served.tags(), ["all", "eins", "one", "two", "uno"]);
    assert_eq!(out(&tug(&["digest", &served.reference("app:two")])), out(&tagged), "it was another before");
    let by_digest = served.reference(&format!("app@{}", served.two));
    let tagged = json(&tug(&["tag", &by_digest, "zwei", "--format", "json"]));
    assert_eq!(tagged["digest"], served.two.as_str());
    assert_eq!(tagged["references"], json!([served.reference("app:zwei")]));
    assert!(tagged["size"].as_u64() > Some(100) && tagged["mediaType"].is_string(), "{tagged}");
}

#[test]
fn a_manifest_goes_with_all_its_tags_and_a_tag_alone() {
    let served = served(deleting());
    let tag = |name: &str| TagOrDigest::Tag(name.parse().unwrap());
    let untagged = tug(&["delete", "--tag-only", &served.reference("app:two")]);
    assert_eq!((out(&untagged), err(&untagged)), (&*served.line(&tag("two")), ""));
    assert!(served.has(&served.two) && served.tags() == ["all", "one", "uno"]);
    let untagged = json(&tug(&["rm", "--tag-only", &served.reference("app:all"), "--format", "json"]));
    assert_eq!(untagged, json!({ "repository": served.reference("app"), "deleted": [{ "tag": "all" }] }));
    let deleted = tug(&["rm", &served.reference("app:uno")]);
    assert_eq!(out(&deleted), served.line(&TagOrDigest::Digest(served.one.clone())));
    assert!(!served.has(&served.one) && served.tags().is_empty());
    let by_digest = served.reference(&format!("app@{}", served.two));
    let deleted = json(&tug(&["rm", &by_digest, "--format", "json"]));
    assert_eq!(deleted["deleted"], json!([{ "digest": served.two.as_str() }]));
    assert!(!served.has(&served.two) && served.has(&served.index));
}

#[test]
fn all_of_a_repository_goes_if_that_is_meant() {
    let served = served(deleting());
    let app = served.reference("app");
    let unasked = tug(&["rm", "--all", &app, "-v"]);
    assert_eq!(unasked.status.code(), Some(2), "{unasked:?}");
    assert!(err(&unasked).contains("give --yes") && !err(&unasked).contains("GET"), "nothing is even looked at");
    assert_eq!(served.tags().len(), 4);

    let all = tug(&["rm", "--all", "--yes", &app]);
    let lines: Vec<&str> = out(&all).lines().collect();
    assert_eq!(
        lines[0],
        served.line(&TagOrDigest::Digest(served.index.clone())).trim(),
        "indexes before what they name"
    );
    assert_eq!(lines.len(), 3);
    assert!(err(&all).starts_with("3 manifests deleted"), "{all:?}");
    assert!(served.tags().is_empty() && !served.has(&served.one) && !served.has(&served.two));

    let nothing = tug(&["rm", "--all", "-y", &app, "--format", "json"]);
    assert_eq!(json(&nothing)["deleted"], json!([]));
    assert!(err(&nothing).contains("has no tags"), "{nothing:?}");
    assert_eq!(out(&tug(&["tags", &app])), "");
    assert_eq!(json(&tug(&["tags", &app, "--format", "json"])), json!({ "repository": app, "tags": [] }));
}

/// Answers as somebody at a terminal: `script` gives tug one.
#[test]
fn a_person_is_asked() {
    let served = served(deleting());
    let answer = |text: &str| {
        let command = format!("{} rm --all {}", env!("CARGO_BIN_EXE_tug"), served.reference("app"));
        let mut child = Command::new("script")
            .args(["-q", "-e", "-c", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is part of Debian's essential bsdutils");
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap())
    };
    let question = format!("delete all of {}, which has 4 tags (all, one, two, uno)? [y/N]", served.reference("app"));
    for text in ["n\n", "\n", "yeah\n"] {
        let (status, said) = answer(text);
        assert!(status == Some(1) && said.contains(&question), "{text:?}: {status:?} {said}");
        assert!(said.contains("nothing was deleted") && served.tags().len() == 4, "{text:?}: {said}");
    }
    let (status, said) = answer("y\n");
    assert!(status == Some(0) && said.contains(&question) && said.contains("3 manifests deleted"), "{status:?} {said}");
    assert!(served.tags().is_empty());
}

#[test]
fn failures_have_their_status() {
    let (keeps, old) =
        (served(Profile::distribution_2_8()), served(Profile { delete: Support::Yes, ..Profile::distribution_2_8() }));
    let closed = served(Profile { catalog: Support::NOT_FOUND, ..Profile::distribution_3() });
    let app = keeps.reference("app");
    let tagged = |tag: &str| format!("{app}:{tag}");
    for (status, arguments, says) in [
        // Deletion switched off, and a manifest that is not there, are two things.
        (1, &["rm", &tagged("one")][..], &["405", "switched off"][..]),
        (1, &["rm", &tagged("none")], &["404", "MANIFEST_UNKNOWN", "check the repository's name and the tag"]),
        (1, &["rm", "--all", "-y", &app], &["405", "switched off"]),
        (1, &["rm", "--tag-only", &old.reference("app:one")], &["does not delete a tag alone", "all its tags"]),
        (1, &["rm", "--tag-only", &old.reference("app:none")], &["there is no such tag"]),
        (1, &["tags", &keeps.reference("nowhere")], &["NAME_UNKNOWN"]),
        (1, &["catalog", &closed.host()], &["404", "does not list its repositories"]),
        (1, &["tag", &tagged("none"), "new"], &["MANIFEST_UNKNOWN"]),
        (2, &["rm", &app], &["give a tag or a digest, or --all"]),
        (2, &["rm", "--all", "-y", &tagged("one")], &["without tag or digest"]),
        (2, &["rm", "--tag-only", &app], &["REPOSITORY:TAG"]),
        (2, &["rm", "--tag-only", &format!("{}@{}", tagged("one"), keeps.one)], &["without a digest"]),
        (2, &["rm", "--tag-only", "--all", &app], &["cannot be used with"]),
        (2, &["tags", &tagged("one")], &["without tag or digest"]),
        (2, &["tag", &tagged("one"), &tagged("new")], &["a tag alone", "tug copy"]),
        (2, &["tag", &tagged("one")], &["TAG"]),
        (2, &["catalog", "not a host"], &["HOST"]),
    ] {
        let failed = tug(arguments);
        assert_eq!(failed.status.code(), Some(status), "{arguments:?}: {failed:?}");
        assert!(failed.stdout.is_empty(), "{arguments:?}: {failed:?}");
        for part in says {
            assert!(err(&failed).contains(part), "{arguments:?}: {part}: {failed:?}");
        }
    }
    assert_eq!((keeps.tags().len(), old.tags().len()), (4, 4), "nothing was deleted");
}
