//! What a registry may answer to questions for lists, and about itself: PROTOCOL C80 to C93, each reply written out.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::num::NonZeroU32;

use registry_proto::archive::make::MemoryDisk;
use registry_proto::flow::{DeleteManifest, ListCatalog, ListReferrers, ListTags};
use registry_proto::spec::{Digest, MediaType, Tag};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Error, Event, Session};
use registry_tests::dialogue::{Ended, Line, hold, line, status};
use registry_tests::hostile::{Answer, INDEX, MANIFEST, anonymous, fetch, manifest, reply, serve, user};

const TAGS: &str = "GET /v2/n/tags/list";

fn tags(dialogue: impl IntoIterator<Item = Line>) -> Ended<Vec<String>> {
    let flow = ListTags::new("r.example/n".parse().unwrap()).collected();
    hold(&mut anonymous(), flow, MemoryDisk::default(), &Digest::of(b""), dialogue, |_| None)
}

/// A page with these tags, and this `Link` unless it is empty.
fn page(tags: &str, link: &str) -> Answer {
    let body = format!(r#"{{"name":"n","tags":{tags}}}"#);
    let headers = [("link", link)];
    reply(200, if link.is_empty() { &[] } else { &headers }, body)
}

#[test]
fn c80_pages_of_every_kind() {
    for (body, expected) in
        [("null", &[][..]), ("[]", &[]), (r#"["", "sha256:0123", "ok"]"#, &["ok"]), (r#"["b","a"]"#, &["b", "a"])]
    {
        assert_eq!(tags([line(TAGS, page(body, ""))]).well(), expected, "{body}");
    }
    let plain = reply(200, &[("content-type", "text/plain; charset=utf-8")], r#"{"name":"n","tags":["ok"]}"#);
    assert_eq!(tags([line(TAGS, plain)]).well(), ["ok"]);
}

#[test]
fn c81_c82_c83_where_a_list_goes_on() {
    for (link, next) in [
        ("</v2/n/tags/list?n=2&last=a>; rel=\"next\"", "GET /v2/n/tags/list?n=2&last=a"),
        ("<list?last=a>; rel=next", "GET /v2/n/tags/list?last=a"),
        ("<?last=a>; rel=\"prev next\"", "GET /v2/n/tags/list?last=a"),
        ("<?x>; rel=prev, <?last=a>; rel=next", "GET /v2/n/tags/list?last=a"),
        ("<?last=a;b>; rel=next", "GET /v2/n/tags/list?last=a;b"),
        ("https://r.example/v2/n/tags/list?last=a; rel=next", "GET /v2/n/tags/list?last=a"),
    ] {
        let listed = tags([line(TAGS, page(r#"["a"]"#, link)), line(next, page(r#"["b"]"#, ""))]).well();
        assert_eq!(listed, ["a", "b"], "{link}");
    }
    for link in ["<?last=a>; rel=prev", "<?last=a>", "nonsense"] {
        assert_eq!(tags([line(TAGS, page(r#"["a"]"#, link))]).well(), ["a"], "{link}");
    }
    for elsewhere in ["https://elsewhere.example/v2/n/tags/list", "https://r.example:8443/v2/n/tags/list"] {
        let why = tags([line(TAGS, page(r#"["a"]"#, &format!("<{elsewhere}>; rel=next")))]).with("can't be asked for");
        assert!(matches!(why, Error::Protocol { .. }));
    }
    // Downwards it isn't followed either: the same host is asked as before.
    let down = page(r#"["a"]"#, "<http://r.example/v2/n/tags/list?last=a>; rel=next");
    tags([line(TAGS, down), line("GET /v2/n/tags/list?last=a", page("null", ""))]).well();
}

#[test]
fn c84_lists_without_an_end() {
    tags([line(TAGS, page(r#"["a"]"#, "<list>; rel=next"))]).with("leads back");
    let there = "GET /v2/n/tags/list?1";
    tags([line(TAGS, page(r#"["a"]"#, "<?1>; rel=next")), line(there, page(r#"["b"]"#, "<list>; rel=next"))])
        .with("leads back");
    tags([line(TAGS, page(r#"["a"]"#, "<?1>; rel=next")), line(there, page(r#"["a"]"#, "<?2>; rel=next"))])
        .with("does not get ahead");
    let mut config = Config::default();
    config.limits.pages = 5;
    let mut script = Script::new(|request: &Request| {
        let (this, next) = (request.number, request.number + 1);
        page(&format!("[\"t{this}\"]"), &format!("<?{next}>; rel=next"))
    });
    let flow = ListTags::new("r.example/n".parse().unwrap());
    let why = script.run(&mut Session::new(config, 1), flow).unwrap_err();
    assert!(why.to_string().contains("5 pages, which is the limit"), "{why}");
    assert_eq!(script.lines().len(), 5);
}

/// C85: a page as full as it may be is the last all the same if it doesn't say how to go on. A `last` of our own making is never
/// asked for, since registries differ in what they make of one.
#[test]
fn c85_a_full_page_without_a_link_is_the_last() {
    let flow = ListTags::new("r.example/n".parse().unwrap()).page(NonZeroU32::new(2).unwrap()).collected();
    let dialogue = [line("GET /v2/n/tags/list?n=2", page(r#"["a","b"]"#, ""))];
    let ended = hold(&mut anonymous(), flow, MemoryDisk::default(), &Digest::of(b""), dialogue, |_| None);
    assert_eq!(ended.well(), ["a", "b"]);
    // What goes wrong with a page that the registry itself led to is no end.
    let first = || line(TAGS, page(r#"["a"]"#, "<?last=a>; rel=next"));
    for no in [404, 405] {
        tags([first(), line("GET /v2/n/tags/list?last=a", status(no))]).with(&no.to_string());
    }
}

#[test]
fn c86_registries_that_do_not_list_repositories() {
    let catalog = |mut session: Session, dialogue: Vec<Line>| {
        let flow = ListCatalog::new("r.example".parse().unwrap()).collected();
        hold(&mut session, flow, MemoryDisk::default(), &Digest::of(b""), dialogue, |_| None)
    };
    const ASK: &str = "GET /v2/_catalog";
    let basic = || line(ASK, reply(401, &[("www-authenticate", "Basic realm=\"here\"")], ""));
    catalog(anonymous(), vec![basic()]).with("log in first");
    let why = catalog(user(), vec![basic(), basic()]).with("access denied (401)");
    assert!(matches!(why, Error::Denied(_)), "{why}");
    catalog(anonymous(), vec![line(ASK, status(404))]).with("does not list its repositories");
    let none: Vec<String> = catalog(anonymous(), vec![line(ASK, reply(200, &[], r#"{"repositories":null}"#))]).well();
    assert_eq!(none, [""; 0]);
}

#[test]
fn c87_c88_c89_who_refers_to_a_manifest() {
    let subject = Digest::of(b"subject");
    let list = format!("GET /v2/n/manifests/{}", Tag::of_referrers(&subject));
    let entry = |content: &str, kind: &str| {
        let digest = Digest::of(content.as_bytes());
        format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":7,"artifactType":"{kind}"}}"#)
    };
    let index = |entries: &[String]| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","))
    };
    let listed = |kind: Option<&str>, dialogue: Vec<Line>| {
        let mut flow = ListReferrers::new(&format!("r.example/n@{subject}").parse().unwrap());
        if let Some(kind) = kind {
            flow = flow.of_type(MediaType::new(kind));
        }
        hold(&mut anonymous(), flow, MemoryDisk::default(), &subject, dialogue, |_| None)
    };
    const ASK: &str = "GET /v2/n/referrers/D";
    assert_eq!(listed(None, vec![line(ASK, status(404)), line(&list, status(404))]).well(), []);
    for no_list in [serve("text/html", "<html>"), reply(200, &[], "{}"), serve(MANIFEST, manifest())] {
        let under_tag = serve(INDEX, index(&[entry("a", "x/y")]));
        let ended = listed(None, vec![line(ASK, no_list), line(&list, under_tag)]);
        assert!(ended.events.iter().any(|event| matches!(event, Event::Notice(_))), "it is said");
        assert_eq!(ended.well().len(), 1);
    }
    // Filtered here, whatever the registry did about it, over all pages.
    let asks = format!("{ASK}?artifactType=x/y");
    for said in [None, Some("artifactType"), Some("annotations")] {
        let mut headers = vec![("content-type", INDEX), ("link", "<?page=2>; rel=next")];
        headers.extend(said.map(|said| ("oci-filters-applied", said)));
        let first = reply(200, &headers, index(&[entry("a", "x/y"), entry("b", "other/type")]));
        let second = serve(INDEX, index(&[entry("c", "other/type"), entry("d", "x/y"), entry("a", "x/y")]));
        let dialogue = vec![line(&asks, first), line(format!("{ASK}?page=2"), second)];
        let found: Vec<Digest> = listed(Some("x/y"), dialogue).well().into_iter().map(|one| one.digest).collect();
        assert_eq!(found, [Digest::of(b"a"), Digest::of(b"d")], "{said:?}");
    }
}

#[test]
fn c90_pauses_that_a_registry_asks_for() {
    let date = ("date", "Mon, 28 Feb 2028 23:59:50 GMT");
    for (told, least, most) in [
        ("5", 5, 5),
        ("Mon, 28 Feb 2028 23:59:57 GMT", 7, 7),
        ("1000000000", 300, 300),
        // Nothing that can be used: a pause of our own.
        ("0", 0, 1),
        ("soon", 0, 1),
        ("Mon, 28 Feb 2028 23:59:00 GMT", 0, 1),
        ("", 0, 1),
    ] {
        for no in [429, 503] {
            let headers = [date, ("retry-after", told)];
            let headers = if told.is_empty() { &headers[..1] } else { &headers };
            let mut script = Script::new(|request: &Request| match request.number {
                0 => reply(no, headers, ""),
                _ => serve(MANIFEST, manifest()),
            });
            script.run(&mut anonymous(), fetch()).unwrap();
            let waited = script.requests()[1].at.since(script.requests()[0].at).as_secs_f64();
            assert!(waited >= f64::from(least) && waited <= f64::from(most) + 0.1, "{told:?}: {waited}");
            assert!(waited > 0.0015, "{told:?}: there was no pause at all");
        }
    }
    let mut script = Script::new(|_: &Request| status(429));
    assert_eq!(script.run(&mut anonymous(), fetch()).unwrap_err().status().unwrap(), 429);
    assert_eq!(script.lines().len(), 1 + Config::default().retries as usize);
}

#[test]
fn c91_what_a_refusal_says() {
    for (body, says) in [
        (r#"{"errors":[{"code":"DENIED","message":"no way","detail":{"a":[1]}}]}"#, "no way"),
        (r#"{"errors":[{"code":500,"message":"in numbers"}]}"#, "in numbers"),
        (r#"{"message":"just this"}"#, "just this"),
        (r#"{"error":"or this"}"#, "or this"),
        (r#"{"details":"or that"}"#, "or that"),
        ("bare text", "bare text"),
        ("with\u{1b}[31m colours", "[31m colours"),
    ] {
        let mut script = Script::new(|_: &Request| reply(404, &[], body));
        let why = script.run(&mut anonymous(), fetch()).unwrap_err().to_string();
        assert!(why.contains(says) && why.contains("404"), "{why}");
        assert!(!why.chars().any(char::is_control), "{why:?}");
    }
    for body in ["", r#"{"errors":[]}"#] {
        let mut script = Script::new(|_: &Request| reply(404, &[], body));
        assert_eq!(script.run(&mut anonymous(), fetch()).unwrap_err().status().unwrap(), 404);
    }
}

#[test]
fn c92_a_warning_is_told_once() {
    let warned = |times: usize| {
        let headers: Vec<(&str, &str)> = std::iter::once(("content-type", MANIFEST))
            .chain((0..times).map(|_| ("warning", r#"299 - "a""#)))
            .collect();
        reply(200, &headers, manifest())
    };
    let mut session = anonymous();
    let mut script = Script::new(|_: &Request| warned(3));
    script.run(&mut session, fetch()).unwrap();
    script.run(&mut session, fetch()).unwrap();
    let told = script.events().iter().filter(|event| matches!(event, Event::Notice(_))).count();
    assert_eq!(told, 1);
}

#[test]
fn c93_deletes() {
    let digest = Digest::of(manifest().as_bytes());
    let delete = |answer: Answer| {
        let flow = DeleteManifest::new(&format!("r.example/n@{digest}").parse().unwrap());
        hold(
            &mut anonymous(),
            flow,
            MemoryDisk::default(),
            &digest,
            [line("DELETE /v2/n/manifests/D", answer)],
            |request| (request.method != "DELETE").then(|| serve(MANIFEST, manifest())),
        )
    };
    for ok in [200, 202, 204] {
        delete(status(ok)).well();
    }
    let unsupported = r#"{"errors":[{"code":"UNSUPPORTED","message":"m"}]}"#;
    assert_eq!(delete(reply(405, &[], unsupported)).with("switched off").status().unwrap(), 405);
    assert_eq!(
        delete(reply(404, &[], r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#)).with("404").status().unwrap(),
        404
    );
}
