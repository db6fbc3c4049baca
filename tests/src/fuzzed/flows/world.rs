//! A driver that does what a script says, and sees to it that a flow keeps to the contract.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::{NonZeroU64, NonZeroUsize};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use registry_proto::archive::Disk as _;
use registry_proto::job::{
    Completion, Failure, FailureKind, FileRange, Incoming, Job, JobId, More, Payload, Phase, Plan, Received, Ticket,
    kind,
};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_proto::{Config, Credential, Digester, Flow, Session, Step, Time, TokenRequest, UploadPolicy};

use super::check::Trust;
use super::disk::{Files, OUT};
use super::fixture::{Fixture, PASSWORDS};
use super::script::Script;

/// How many steps a flow may take. A script has at most some thousand bytes, and each can cost a round of tries.
const MOST_STEPS: u32 = 200_000;
/// How often in a row a flow may ask to be polled again at once.
const MOST_SPINS: u32 = 100;
/// How many jobs may be under way.
const MOST_JOBS: usize = 64;

/// Registries, files, time, and the script by which they go wrong.
#[derive(Debug)]
pub(super) struct World<'a> {
    fixture: &'a Fixture,
    script: Script<'a>,
    files: Files,
    /// `r.example` and `s.example`.
    registries: [Registry; 2],
    session: Session,
    now: Time,
    trust: Trust,
    under_way: Vec<Job>,
    aborted: Vec<Job>,
    /// What will be done to the next reply.
    bends: Vec<Bend>,
    /// What has come of the bodies of requests under way that come in pieces.
    supplied: BTreeMap<JobId, Vec<u8>>,
    /// How everything is answered when the script is used up.
    honest_end: bool,
    events: u64,
}

/// What a script does to a reply before it arrives.
#[derive(Clone, Debug)]
enum Bend {
    Status(StatusCode),
    Header(HeaderName, HeaderValue),
    NoHeader(HeaderName),
    Flip(usize),
    Cut(usize),
    Body(Bytes),
}

const STATUSES: [u16; 24] = [
    200, 201, 202, 204, 206, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 409, 412, 413, 416, 429, 500, 503, 100,
    999,
];

const HEADERS: [&str; 18] = [
    "location",
    "range",
    "content-range",
    "content-length",
    "content-type",
    "docker-content-digest",
    "docker-upload-uuid",
    "link",
    "www-authenticate",
    "retry-after",
    "date",
    "warning",
    "oci-chunk-min-length",
    "oci-subject",
    "oci-filters-applied",
    "etag",
    "accept-ranges",
    "oci-chunk-max-length",
];

const VALUES: [&str; 40] = [
    "",
    "0-0",
    "0--1",
    "0-99999999999",
    "bytes=0-18446744073709551615",
    "bytes 0-28/29",
    "bytes 5-28/29",
    "bytes 0-0/1",
    "bytes 5-28/*",
    "0",
    "1",
    "29",
    "18446744073709551615",
    "99999999999999999999",
    "-1",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha512:x",
    "/v2/app/blobs/uploads/u?_state=x",
    "/v2/app/tags/list?last=v1",
    "?last=v1",
    "https://evil.example/v2/app/x",
    "https://guest.example/v2/app/x",
    "https://s.example/v2/app/blobs/uploads/u",
    "https://store.example/blobs/x?X-Signature=y",
    "http://r.example/v2/app/x",
    "https://r.example:444/x",
    "//evil.example/x",
    "</v2/app/tags/list?last=v1>; rel=\"next\"",
    "<https://evil.example/v2/app/tags/list>; rel=\"next\"",
    "299 - \"words\"",
    "Bearer realm=\"https://auth.example/token\",service=\"r\",scope=\"repository:app:pull,push\"",
    "Bearer realm=\"https://evil.example/token\",scope=\"repository:other:pull\",error=\"invalid_token\"",
    "Bearer realm=\"http://r.example/token\"",
    "Bearer realm=\"https://s.example/token\"",
    "Basic realm=\"x\"",
];

const FAILURES: [FailureKind; 15] = [
    FailureKind::Forbidden,
    FailureKind::Timeout(Phase::Whole),
    FailureKind::Connect,
    FailureKind::Tls,
    FailureKind::Timeout(Phase::Connect),
    FailureKind::Timeout(Phase::Head),
    FailureKind::Timeout(Phase::Body),
    FailureKind::Cut,
    FailureKind::Cut,
    FailureKind::Protocol,
    FailureKind::TooLarge,
    FailureKind::Source,
    FailureKind::Target,
    FailureKind::Mismatch,
    FailureKind::Panicked,
];

impl<'a> World<'a> {
    pub(super) fn new(fixture: &'a Fixture, mut script: Script<'a>) -> Self {
        let (auth, manner, client) = (script.byte(), script.byte(), script.byte());
        let mut registries = [fixture.registry.clone(), Registry::new(Profile::strict())];
        for (at, registry) in registries.iter_mut().enumerate() {
            let (host, user, password) = PASSWORDS[at];
            let mut profile = match manner & 3 {
                0 => Profile::distribution_2_8(),
                1 => Profile::distribution_3(),
                _ => Profile::strict(),
            };
            profile.delete = Profile::strict().delete;
            profile.requires_auth = match auth >> (4 * at) & 7 {
                0 | 1 => None,
                2 => Some(Auth::basic(user, password)),
                3 => Some(Auth::bearer("/token", host)),
                4 => Some(Auth::bearer_for("/token", host, user, password)),
                _ => Some(Auth::bearer_for(&format!("https://auth.{host}/token"), host, user, password)),
            };
            profile.redirect_blobs = (manner & 4 != 0).then(|| format!("https://store.{host}/blobs"));
            profile.signs_for_get = manner & 8 != 0;
            profile.serves_ranges = manner & 16 == 0;
            profile.range_max = (manner & 32 != 0).then_some(100);
            profile.max_body = (manner & 64 != 0).then_some(900);
            profile.tag_page = (manner & 128 != 0).then_some(1);
            *registry.profile_mut() = profile;
        }
        let files = Files::new(fixture.disk.clone(), fixture.layer.digest.clone());
        let session = Session::new(config(client), 1);
        Self {
            fixture,
            script,
            files,
            registries,
            session,
            now: Time::ZERO,
            trust: Trust::default(),
            under_way: Vec::new(),
            aborted: Vec::new(),
            bends: Vec::new(),
            supplied: BTreeMap::new(),
            honest_end: client & 128 == 0,
            events: 0,
        }
    }

    /// Runs a flow to its end.
    pub(super) fn run<F: Flow>(&mut self, mut flow: F)
    where
        F::Output: Debug,
    {
        let mut numbers: BTreeSet<JobId> = BTreeSet::new();
        let mut spins = 0;
        for _ in 0..MOST_STEPS {
            match flow.poll(&mut self.session.at(self.now)) {
                Step::Run(job) => {
                    assert!(numbers.insert(job.id()), "job {} was numbered twice", job.id());
                    if let Job::Exchange(ticket, request, ..) = &job {
                        self.look_at(request);
                        if let Payload::Supplied(_) = request.body() {
                            self.supplied.insert(ticket.id(), Vec::new());
                        }
                    }
                    self.under_way.push(job);
                    assert!(self.under_way.len() <= MOST_JOBS, "{} jobs at once", self.under_way.len());
                }
                Step::Abort(id) => {
                    let at = self.under_way.iter().position(|job| job.id() == id);
                    self.aborted.extend(at.map(|at| self.under_way.remove(at)));
                }
                Step::Note(event) => {
                    self.events += 1;
                    self.trust.told(&format!("{event:?}"));
                }
                Step::Done(result) => {
                    assert!(self.under_way.is_empty(), "it is done, but {} jobs are under way", self.under_way.len());
                    match result {
                        Ok(output) => self.trust.told(&format!("{output:?}")),
                        Err(why) => {
                            let text = why.to_string();
                            assert!(!text.is_empty() && crate::fuzzed::is_printable(&text), "{text:?}");
                            self.trust.told(&format!("{text} {why:?}"));
                        }
                    }
                    return self.trust.told(&format!("{:?}", self.session));
                }
                Step::Wait(until) => {
                    let before = self.now;
                    let went_on = self.go_on(&mut flow, until);
                    spins = if went_on || self.now > before { 0 } else { spins + 1 };
                    assert!(spins < MOST_SPINS, "it asks again and again to be polled at once");
                }
            }
        }
        panic!("it does not come to an end: {} events", self.events);
    }

    /// Something happens. Whether that was the script's, or an answer.
    fn go_on<F: Flow>(&mut self, flow: &mut F, until: Option<Time>) -> bool {
        let Some(op) = self.script.next() else {
            if self.under_way.is_empty() {
                let until = until.expect("it waits for nothing");
                self.now = self.now.max(until);
                return false;
            }
            let how = if self.honest_end { How::Answer } else { How::Fail(FailureKind::Connect, false) };
            // A request that is not whole yet can wait for its pieces.
            let which = self.under_way.iter().position(|job| self.is_whole(job)).unwrap_or(0);
            self.answer(flow, which, how);
            return true;
        };
        let which = usize::from(op >> 5);
        let how = match op & 31 {
            0..=9 => How::Answer,
            10 => {
                let status = usize::from(self.script.byte());
                return self.bend(Bend::Status(status_of(STATUSES[status % STATUSES.len()])));
            }
            11 => {
                let name = HeaderName::from_static(self.script.one(&HEADERS));
                let value = HeaderValue::from_static(self.script.one(&VALUES));
                return self.bend(Bend::Header(name, value));
            }
            12 => {
                let name = HeaderName::from_static(self.script.one(&HEADERS));
                let value = HeaderValue::from_bytes(self.script.text()).unwrap_or(HeaderValue::from_static("?"));
                return self.bend(Bend::Header(name, value));
            }
            13 => {
                let name = HeaderName::from_static(self.script.one(&HEADERS));
                return self.bend(Bend::NoHeader(name));
            }
            14 => {
                let at = self.script.number();
                return self.bend(Bend::Flip(at));
            }
            15 => {
                let length = self.script.number();
                return self.bend(Bend::Cut(length));
            }
            16 => {
                let at = usize::from(self.script.byte()) % self.fixture.documents.len();
                return self.bend(Bend::Body(self.fixture.documents[at].clone()));
            }
            17 => {
                let body = Bytes::copy_from_slice(self.script.text());
                return self.bend(Bend::Body(body));
            }
            18 | 19 => {
                let why = FAILURES[usize::from(self.script.byte()) % FAILURES.len()];
                How::Fail(why, op & 1 == 0)
            }
            20 => How::CutOff(self.script.number()),
            21 => How::HalfSent(self.script.number()),
            22 => How::ReplyLost,
            23 => How::Twice,
            24 => {
                let pause =
                    [1, 1000, 30_000, 61_000, 301_000, 4_000_000, 1_000_000_000][usize::from(self.script.byte() % 7)];
                self.now = self.now + Duration::from_millis(pause);
                return true;
            }
            25 => {
                // At the time that was asked for.
                self.now = self.now.max(until.unwrap_or(self.now));
                return true;
            }
            26 => {
                flow.cancel();
                return true;
            }
            27 => {
                if let Some(job) = self.aborted.pop() {
                    let late = self.perform(job, How::Answer);
                    let back = flow.handle(&mut self.session.at(self.now), late);
                    assert!(back.is_err(), "an answer to an aborted job was taken");
                }
                return true;
            }
            28 => {
                self.registries.iter_mut().for_each(Registry::revoke_tokens);
                return true;
            }
            29 => {
                self.registries.iter_mut().for_each(Registry::lose_uploads);
                return true;
            }
            30 => {
                self.files.fail(self.script.byte() % 4);
                return true;
            }
            _ => {
                self.leave();
                return true;
            }
        };
        if !self.under_way.is_empty() {
            let which = which % self.under_way.len();
            self.answer(flow, which, how);
        } else {
            let until = until.expect("it waits for nothing");
            self.now = self.now.max(until);
            return false;
        }
        true
    }

    fn is_whole(&self, job: &Job) -> bool {
        let Job::Exchange(ticket, request, ..) = job else { return true };
        let Payload::Supplied(length) = request.body() else { return true };
        self.supplied.get(&ticket.id()).is_none_or(|body| body.len() as u64 >= *length)
    }

    fn bend(&mut self, bend: Bend) -> bool {
        if self.bends.len() < 16 {
            self.bends.push(bend);
        }
        true
    }

    /// What an earlier run left behind, or what somebody else put there, as long as nothing was written there by this one.
    fn leave(&mut self) {
        let digest = self.fixture.layer.digest.encoded();
        let places = [
            format!("{OUT}.partial"),
            OUT.to_owned(),
            format!("{OUT}/index.json"),
            format!("{OUT}/index.json.partial"),
            format!("{OUT}/oci-layout"),
            format!("{OUT}/blobs/sha256/{digest}"),
            format!("{OUT}/blobs/sha256/{digest}.partial"),
        ];
        let place = &places[usize::from(self.script.byte()) % places.len()];
        let content = match self.script.byte() % 4 {
            0 => Bytes::copy_from_slice(self.script.text()),
            1 => Bytes::from(vec![0; self.script.number()]),
            2 => Bytes::from_static(b"a layer that all images share"),
            _ => Bytes::from_static(b"a layer that"),
        };
        if self.files.size(place.as_ref()).is_none() {
            self.files.leave(place.as_ref(), content);
        }
    }

    fn answer<F: Flow>(&mut self, flow: &mut F, which: usize, how: How) {
        let job = self.under_way.remove(which);
        let id = job.id();
        let done = self.perform(job, how);
        let back = flow.handle(&mut self.session.at(self.now), done);
        assert!(back.is_ok(), "nobody takes the answer to job {id}");
    }

    fn perform(&mut self, job: Job, how: How) -> Completion {
        let (ticket, request, plan) = match job {
            Job::Exchange(ticket, request, plan, _) => (ticket, request, plan),
            Job::Supply(ticket, to, piece) => {
                if let Some(body) = self.supplied.get_mut(&to) {
                    body.extend_from_slice(&piece);
                }
                return ticket.supplied();
            }
            Job::Local(job) => {
                let done = job.run(&self.files);
                assert!(!self.files.is_wrong(), "a check has failed, as was said above");
                return done;
            }
        };
        let (head, payload) = request.into_parts();
        let fail = |ticket: Ticket<kind::Exchange>, why, sent| ticket.failed(Failure::new(why, "scripted"), sent);
        let supplied = self.supplied.remove(&ticket.id()).unwrap_or_default();
        let (body, sent) = match (payload, &how) {
            (Payload::Empty, _) => (Bytes::new(), None),
            // Whoever answers before it has all of a body leaves the rest.
            (Payload::Supplied(_), _) => (supplied.into(), None),
            (Payload::Bytes(bytes), _) => (bytes, None),
            (Payload::File(range), How::HalfSent(length)) => {
                (Bytes::new(), self.read(range, *length).ok().map(|(_, sent)| sent))
            }
            (Payload::File(_), How::Fail(why, true)) => return fail(ticket, *why, None),
            (Payload::File(range), _) => match self.read(range, usize::MAX) {
                Ok((body, sent)) => (body, Some(sent)),
                Err(why) => return ticket.failed(why, None),
            },
        };
        let reply = match how {
            How::Fail(why, _) => return fail(ticket, why, sent),
            How::HalfSent(length) => {
                if let Some(registry) = self.registry(&head) {
                    registry.cut(&head, body.slice(..length.min(body.len())));
                }
                return fail(ticket, FailureKind::Cut, sent);
            }
            How::Twice => {
                let _ = self.honest(&head, body.clone());
                self.honest(&head, body)
            }
            _ => self.honest(&head, body),
        };
        let whole = reply.body().clone();
        let reply = self.bent(reply);
        self.trust.keep(&whole, reply.status(), self.script.whole());
        self.trust.replied(&head.uri, reply.headers(), reply.body());
        let (cut, kept) = match how {
            How::CutOff(length) => (Some(length), true),
            How::ReplyLost => (Some(0), false),
            _ => (None, true),
        };
        let sent = sent.filter(|_| kept);
        match self.receive(&reply, plan, cut, head.method == Method::HEAD) {
            Ok(received) => ticket.replied(reply.into_parts().0, received, sent),
            Err((why, filed)) => ticket.failed(why, sent.or(filed)),
        }
    }

    /// What goes out has to be for where it goes, and to be there.
    fn look_at(&self, request: &Request<Payload>) {
        self.trust.requested(request);
        if let Payload::File(range) = request.body() {
            let size = self.files.size(range.path()).expect("what is sent is a file");
            let from = Rc::default();
            let outgoing = range.clone().read_from(Noticed(Rc::clone(&from))).expect("it can be positioned");
            let (start, length) = (from.get(), outgoing.remaining());
            let inside = start.checked_add(length).is_some_and(|end| end <= size);
            assert!(inside && length == range.len(), "{length} bytes at {start} of a file of {size}");
        }
    }

    fn registry(&mut self, head: &http::request::Parts) -> Option<&mut Registry> {
        let host = head.uri.host()?.to_owned();
        let at = PASSWORDS[..2].iter().position(|(own, ..)| {
            host == *own || ["auth.", "store."].iter().any(|part| host == format!("{part}{own}"))
        })?;
        Some(&mut self.registries[at])
    }

    /// What the registry that was asked says; others know nothing.
    fn honest(&mut self, head: &http::request::Parts, body: Bytes) -> Response<Bytes> {
        let now = self.now.since_epoch();
        match self.registry(head) {
            Some(registry) => {
                registry.advance(now);
                registry.handle(head, body)
            }
            None => {
                let mut reply = Response::new(Bytes::new());
                *reply.status_mut() = StatusCode::NOT_FOUND;
                reply
            }
        }
    }

    fn bent(&mut self, mut reply: Response<Bytes>) -> Response<Bytes> {
        for bend in std::mem::take(&mut self.bends) {
            match bend {
                Bend::Status(status) => *reply.status_mut() = status,
                Bend::Header(name, value) if name == LOCATION => _ = reply.headers_mut().insert(name, value),
                Bend::Header(name, value) if name == WWW_AUTHENTICATE => _ = reply.headers_mut().append(name, value),
                Bend::Header(name, value) => _ = reply.headers_mut().insert(name, value),
                Bend::NoHeader(name) => _ = reply.headers_mut().remove(name),
                Bend::Body(body) => *reply.body_mut() = body,
                Bend::Cut(length) => reply.body_mut().truncate(length),
                Bend::Flip(at) => {
                    let mut body = Vec::from(reply.body().clone());
                    let length = body.len().max(1);
                    if let Some(byte) = body.get_mut(at % length) {
                        *byte ^= 1 << (at % 8);
                    }
                    *reply.body_mut() = body.into();
                }
            }
        }
        reply
    }

    /// Takes in a reply's body, or the beginning of it.
    fn receive(
        &self,
        reply: &Response<Bytes>,
        plan: Plan,
        cut: Option<usize>,
        is_head: bool,
    ) -> Result<Received, (Failure, Option<Digester>)> {
        let (head, mut body) = reply.clone().into_parts();
        if is_head {
            body = Bytes::new();
        }
        let lost = || Failure::new(FailureKind::Cut, "scripted");
        body.truncate(cut.unwrap_or(usize::MAX));
        match plan.sink(&head) {
            Incoming::Memory(mut collecting) => {
                for piece in body.chunks(97) {
                    match collecting.feed(piece) {
                        Ok(More::Wanted) => {}
                        Ok(More::Unwanted) => break,
                        Err(why) => return Err((why, None)),
                    }
                }
                if cut.is_some() { Err((lost(), None)) } else { Ok(collecting.finish()) }
            }
            Incoming::File(filing) => {
                let mut writing = filing.write_to(self.files.clone()).map_err(|why| (why, None))?;
                for piece in body.chunks(97) {
                    if let Err(why) = writing.feed(piece) {
                        return Err((why, Some(writing.into_digester())));
                    }
                }
                let digester = writing.into_digester();
                if cut.is_some() { Err((lost(), Some(digester))) } else { Ok(Received::Filed(digester)) }
            }
        }
    }

    fn open(&self, range: &FileRange) -> Result<io::Cursor<Bytes>, Failure> {
        match self.files.open(range.path())? {
            registry_proto::archive::Opened::File { file, .. } => Ok(file),
            registry_proto::archive::Opened::Folder => Err(Failure::new(FailureKind::Source, "it is a folder")),
        }
    }

    /// Reads a range, or the beginning of it.
    fn read(&self, range: FileRange, most: usize) -> Result<(Bytes, Digester), Failure> {
        let mut outgoing = range.clone().read_from(self.open(&range)?)?;
        let mut all = Vec::new();
        while all.len() < most
            && let Some(piece) = outgoing.piece(most.saturating_sub(all.len()).min(300))?
        {
            all.extend_from_slice(&piece);
        }
        Ok((all.into(), outgoing.into_digester()))
    }
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug)]
enum How {
    Answer,
    /// It fails; whether before anything of its body was read.
    Fail(FailureKind, bool),
    /// Its reply ends after so many bytes.
    CutOff(usize),
    /// The connection breaks when so much of its body was sent.
    HalfSent(usize),
    ReplyLost,
    /// A proxy sends it twice.
    Twice,
}

/// Tells where in a file somebody wants to read.
struct Noticed(Rc<Cell<u64>>);

impl Read for Noticed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl Seek for Noticed {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if let SeekFrom::Start(at) = to {
            self.0.set(at);
        }
        Ok(self.0.get())
    }
}

fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("statuses are picked from a list")
}

/// How the client behaves.
fn config(choice: u8) -> Config {
    let mut config = Config::default();
    for (host, user, password) in PASSWORDS {
        config.log_in(&host.parse().expect("it is a registry"), Credential::password(user, password));
    }
    config.transfers = NonZeroUsize::new(1 + usize::from(choice & 1) * 3).expect("it is more than 0");
    config.requests_per_registry = NonZeroUsize::new(1 + usize::from(choice & 2) * 8).expect("it is more than 0");
    config.token_request = if choice & 4 == 0 { TokenRequest::Get } else { TokenRequest::PostThenGet };
    let some = |bytes| NonZeroU64::new(bytes).expect("it is more than 0");
    config.upload = match choice >> 3 & 3 {
        0 => UploadPolicy::Monolithic,
        1 => UploadPolicy::Chunked(some(7)),
        _ => UploadPolicy::Auto,
    };
    config.piece = if choice & 32 == 0 { some(100) } else { some(3 << 20) };
    config.retries = if choice & 64 == 0 { 1 } else { 3 };
    config.limits.chunk_min = 5;
    config.limits.pages = 30;
    config
}
