//! What a registry may answer when a blob is fetched, and the rest of it: PROTOCOL C48 to C55, each reply written out.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use http::{HeaderMap, Response, StatusCode};
use registry_proto::archive::make::MemoryDisk;
use registry_proto::archive::{Archive, ArchiveFormat, Limits};
use registry_proto::flow::{Platforms, Pull, PullOptions, Pulled};
use registry_proto::job::{Failure, FailureKind, Incoming, Job, Phase, Received};
use registry_proto::spec::{Descriptor, Digest, ImageManifest, Manifest, MediaType};
use registry_proto::testing::files::MemoryFiles;
use registry_proto::{Config, Error, Flow, Session, Step, Time};

const LAYER: &[u8] = b"0123456789";
const OUT: &str = "/out.tar";

/// How a reply ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Whole,
    Cut,
    Stalled,
}
use End::{Cut, Stalled, Whole};

type Reply = (u16, &'static [(&'static str, &'static str)], &'static [u8], End);

/// What came of a pull whose layer was answered like this.
struct Ran {
    result: Result<Pulled, Error>,
    /// The `Range` of each request for the layer.
    ranges: Vec<String>,
    files: MemoryDisk,
}

fn manifest() -> Manifest {
    ImageManifest {
        media_type: None,
        artifact_type: None,
        config: Descriptor::new(MediaType::OCI_CONFIG, Digest::of(b"{}"), 2),
        layers: vec![Descriptor::new(MediaType::OCI_LAYER, Digest::of(LAYER), LAYER.len() as u64)],
        subject: None,
        annotations: BTreeMap::new(),
    }
    .to_manifest()
}

/// Pulls from a registry that answers requests for the layer with these replies, one after another, and then with the last one
/// for ever.
fn pull(replies: &[Reply]) -> Ran {
    let manifest = manifest();
    let mut replies: VecDeque<Reply> = replies.iter().copied().collect();
    let (mut ranges, mut now) = (Vec::new(), Time::ZERO);
    let files = MemoryFiles::new(MemoryDisk::default());
    let mut options = PullOptions::default();
    (options.format, options.platforms) = (ArchiveFormat::Oci, Platforms::All);
    let mut flow = Pull::new([format!("localhost/app@{}", manifest.digest()).parse().unwrap()], OUT, options);
    let mut session = Session::new(Config::default(), 1);
    let mut answers = VecDeque::new();
    let result = loop {
        match flow.poll(&mut session.at(now)) {
            Step::Run(Job::Local(job)) => answers.push_back(job.run(&files)),
            Step::Run(Job::Supply(..)) => unreachable!("a pull sends nothing"),
            Step::Run(Job::Exchange(ticket, request, plan, _)) => {
                let path = request.uri().path().to_owned();
                let (status, headers, body, end): (u16, Vec<(&str, String)>, &[u8], End) = if path.contains("manifests")
                {
                    (200, vec![("content-type", manifest.media_type().to_string())], manifest.bytes(), Whole)
                } else if path.ends_with(Digest::of(LAYER).encoded()) {
                    let range = request.headers().get("range").map_or("", |range| range.to_str().unwrap());
                    ranges.push(range.to_owned());
                    let reply = if replies.len() > 1 { replies.pop_front().unwrap() } else { replies[0] };
                    (
                        reply.0,
                        reply.1.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
                        reply.2,
                        reply.3,
                    )
                } else {
                    assert!(path.ends_with(Digest::of(b"{}").encoded()), "nobody was to ask for {path}");
                    (200, vec![], b"{}", Whole)
                };
                assert_eq!(request.uri().host(), Some("localhost"), "no other host is asked");
                let (mut head, ()) = Response::new(()).into_parts();
                head.status = StatusCode::from_u16(status).unwrap();
                head.headers = headers
                    .into_iter()
                    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                    .collect::<HeaderMap>();
                let broken = match end {
                    Whole => None,
                    Cut => Some(FailureKind::Cut),
                    Stalled => Some(FailureKind::Timeout(Phase::Body)),
                };
                let taken = match plan.sink(&head) {
                    Incoming::Memory(mut body_in_memory) => match body_in_memory.feed(body) {
                        Ok(_) => Ok(body_in_memory.finish()),
                        Err(why) => Err((why, None)),
                    },
                    Incoming::File(filing) => {
                        let mut writing = filing.write_to(files.clone()).unwrap();
                        // Byte by byte: a limit shows at the byte that is too many.
                        let fed = body.iter().try_for_each(|byte| writing.feed(&[*byte]));
                        let digester = writing.into_digester();
                        match fed {
                            Ok(()) => Ok(Received::Filed(digester)),
                            Err(why) => Err((why, Some(digester))),
                        }
                    }
                };
                answers.push_back(match (taken, broken) {
                    (Err((why, digester)), _) => ticket.failed(why, digester),
                    (Ok(Received::Filed(digester)), Some(why)) => ticket.failed(Failure::new(why, ""), Some(digester)),
                    (Ok(_), Some(why)) => ticket.failed(Failure::new(why, ""), None),
                    (Ok(body), None) => ticket.replied(head, body, None),
                });
            }
            Step::Abort(_) | Step::Note(_) => {}
            Step::Wait(until) => match answers.pop_front() {
                Some(answer) => flow.handle(&mut session.at(now), answer).unwrap(),
                None => now = until.expect("there is something to wait for"),
            },
            Step::Done(result) => break result,
        }
    };
    Ran { result, ranges, files: files.snapshot() }
}

impl Ran {
    /// It ended well, and asked for the layer like this.
    #[track_caller]
    fn ends_well(self, ranges: &[&str]) {
        self.result.unwrap();
        assert_eq!(self.ranges, ranges);
        let archive = Archive::read(&self.files, &Path::new(OUT).into(), &Limits::default()).unwrap();
        assert_eq!(archive.images()[0].root().digest(), manifest().digest());
        let tar = &self.files.0[Path::new(OUT)];
        assert!(tar.windows(LAYER.len()).any(|bytes| bytes == LAYER));
    }

    /// It failed, said so, asked for the layer like this, and nothing has the archive's name.
    #[track_caller]
    fn fails(self, says: &str, ranges: &[&str]) -> Error {
        let why = self.result.unwrap_err();
        assert!(why.to_string().contains(says), "{why}");
        assert!(why.to_string().contains(&Digest::of(LAYER).to_string()), "it says which blob: {why}");
        assert_eq!(self.ranges, ranges, "{why}");
        assert!(!self.files.0.contains_key(Path::new(OUT)));
        why
    }
}

const FIRST_FOUR: Reply = (200, &[], b"0123", Cut);
const ALL: Reply = (200, &[], LAYER, Whole);
const REST: &str = "bytes=4-9";

#[test]
fn c48_goes_on_where_it_was_cut() {
    pull(&[FIRST_FOUR, (206, &[("content-range", "bytes 4-9/10")], b"456789", Whole)]).ends_well(&["", REST]);
    pull(&[FIRST_FOUR, (206, &[("content-range", "bytes 4-9/*")], b"456789", Whole)]).ends_well(&["", REST]);
    let again = (206, &[("content-range", "bytes 4-9/10")] as &[_], b"45" as &[u8], Cut);
    pull(&[FIRST_FOUR, again, (206, &[("content-range", "bytes 6-9/10")], b"6789", Whole)]).ends_well(&[
        "",
        REST,
        "bytes=6-9",
    ]);
}

#[test]
fn c49_what_may_come_instead_of_the_rest() {
    // All of it: what is there is skipped.
    pull(&[FIRST_FOUR, ALL]).ends_well(&["", REST]);
    // From before: likewise.
    pull(&[FIRST_FOUR, (206, &[("content-range", "bytes 2-9/10")], b"23456789", Whole)]).ends_well(&["", REST]);
    // Less: the rest of the rest.
    let less = (206, &[("content-range", "bytes 4-6/10")] as &[_], b"456" as &[u8], Whole);
    pull(&[FIRST_FOUR, less, (206, &[("content-range", "bytes 7-9/10")], b"789", Whole)]).ends_well(&[
        "",
        REST,
        "bytes=7-9",
    ]);
    // From behind it, or nothing of it: from the beginning.
    pull(&[FIRST_FOUR, (206, &[("content-range", "bytes 6-9/10")], b"6789", Whole), ALL]).ends_well(&["", REST, ""]);
    pull(&[FIRST_FOUR, (416, &[("content-range", "bytes */10")], b"", Whole), ALL]).ends_well(&["", REST, ""]);
    // Of something else.
    let other = (206, &[("content-range", "bytes 4-9/11")] as &[_], b"456789" as &[u8], Whole);
    pull(&[FIRST_FOUR, other]).fails("has 11 bytes of a blob of 10", &["", REST]);
    let multipart = (206, &[("content-type", "multipart/byteranges; boundary=x")] as &[_], b"--x" as &[u8], Whole);
    pull(&[FIRST_FOUR, multipart]).fails("without a usable Content-Range", &["", REST]);
}

#[test]
fn c49_cut_after_the_last_byte_it_is_whole() {
    pull(&[(200, &[], LAYER, Cut)]).ends_well(&[""]);
}

#[test]
fn c50_ranges_have_both_ends() {
    // (Each range above has; a registry that refuses those as well is asked for everything.)
    pull(&[FIRST_FOUR, (416, &[], b"", Whole), FIRST_FOUR, (416, &[], b"", Whole), FIRST_FOUR, (416, &[], b"", Whole)])
        .fails("asked for bytes 4-9", &["", REST, "", REST, "", REST]);
}

#[test]
fn c51_what_is_longer_is_not_taken() {
    pull(&[(200, &[], b"0123456789 and more", Whole)]).fails("more than the 10 bytes", &[""]);
    // Nor what is shorter, though it came whole.
    pull(&[(200, &[], b"012345678", Whole)]).fails("handed out 9 bytes of a blob of 10", &[""]);
}

#[test]
fn c52_content_is_never_decoded() {
    let gzip = (200, &[("content-encoding", "gzip")] as &[_], b"0123456?89" as &[u8], Whole);
    pull(&[gzip]).fails("came encoded (gzip)", &[""]);
    // Said, but not done (GitLab behind some caches).
    pull(&[(200, &[("content-encoding", "gzip")], LAYER, Whole)]).ends_well(&[""]);
}

#[test]
fn c53_a_stall_is_a_cut_and_not_for_ever() {
    pull(&[(200, &[], b"0123", Stalled), (206, &[("content-range", "bytes 4-9/10")], b"456789", Whole)])
        .ends_well(&["", REST]);
    let tries = Config::default().retries as usize + 1;
    let why = pull(&[(200, &[], b"", Stalled)]).fails("stalled", &vec![""; tries]);
    assert!(why.is_transient());
}

#[test]
fn c55_a_layer_that_is_gone() {
    pull(&[(404, &[], br#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#, Whole)]).fails("it is not there", &[""]);
}

#[test]
fn wrong_bytes_never_get_the_name() {
    let why = pull(&[(200, &[], b"0123456780", Whole)]).fails("do not use it", &[""]);
    assert!(matches!(why, Error::Integrity { .. }));
    // Of several pieces nobody knows which was wrong: once more from the beginning.
    let rest = (206, &[("content-range", "bytes 4-9/10")] as &[_], b"456789" as &[u8], Whole);
    pull(&[(200, &[], b"0120", Cut), rest, ALL]).ends_well(&["", REST, ""]);
    let part = (206, &[("content-range", "bytes 0-3/10")] as &[_], b"0120" as &[u8], Whole);
    pull(&[part, rest, ALL]).ends_well(&["", REST, ""]);
    pull(&[(200, &[], b"0120", Cut), rest, (200, &[], b"0123456780", Whole)]).fails("do not use it", &["", REST, ""]);
}

#[test]
fn what_is_no_blob() {
    pull(&[(200, &[("content-type", "text/html")], b"<html>log in</html>", Whole)]).fails("more than the 10", &[""]);
    pull(&[(500, &[], b"oops", Whole), ALL]).ends_well(&["", ""]);
    pull(&[(403, &[], b"", Whole)]).fails("403", &[""]);
}
