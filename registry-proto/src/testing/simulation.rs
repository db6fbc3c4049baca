//! Runs flows against the in-memory registry under virtual time, with seeded faults.
//!
//! Nothing here takes real time or depends on anything but the seed: a run that fails is the same run whenever its seed is
//! given again. What a driver may expect of a flow is checked on the way, and a violation is a panic:
//!
//! - no job is numbered twice, and none is under way when the flow is done;
//! - a flow never waits for nothing, and never spins;
//! - no more jobs are under way than the configuration allows;
//! - no password and no token is in an error, an event, or what `Debug` shows of a flow, a job or the session, and no query of a URL
//!   that a registry has handed out is in an error or an event.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::Cursor;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode};

use crate::archive::make::MemoryDisk;
use crate::archive::{Disk, Opened};
use crate::flow::Operation;
use crate::job::{
    Completion, Failure, FailureKind, FileRange, Incoming, Job, JobId, More, Payload, Phase, Plan, Received, Ticket,
    kind,
};
use crate::rng::Rng;
use crate::spec::Origin;
use crate::testing::files::MemoryFiles;
use crate::testing::registries::Registries;
use crate::testing::registry::Registry;
use crate::testing::watch::Watch;
use crate::{Digester, Error, Event, Flow, Session, Step, Time};

/// How many steps a flow may take before it counts as running in circles.
const MOST_STEPS: u64 = 2_000_000;
/// How often in a row a flow may ask to be polled again at once.
const MOST_SPINS: u32 = 100;

/// A world for flows: a registry, a disk, a clock, and a share of misfortune.
///
/// ```
/// use registry_proto::archive::make;
/// use registry_proto::flow::Pinging;
/// use registry_proto::testing::registry::{Profile, Registry};
/// use registry_proto::testing::simulation::Simulation;
/// use registry_proto::{Config, Session};
///
/// let mut session = Session::new(Config::default(), 1);
/// let registry = Registry::new(Profile::distribution_3());
/// let mut world = Simulation::new(1, registry, make::MemoryDisk::default());
/// let ran = world.run(&mut session, Pinging::new("localhost:5000".parse()?));
/// assert!(ran.result.is_ok());
/// assert_eq!(ran.requests[0].line, "GET http://localhost:5000/v2/");
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Debug)]
pub struct Simulation {
    registry: Registries,
    disk: MemoryFiles,
    faults: Faults,
    rng: Rng,
    now: Time,
    watch: Watch,
}

/// Which misfortunes happen, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// Of a thousand requests, how many go wrong: refused, cut, stalled, answered with 429 or 5xx, or their reply lost.
    pub requests: u64,
    /// Of a thousand requests, before how many every upload session vanishes.
    pub lost_sessions: u64,
    /// Of a thousand requests, before how many every token is revoked.
    pub revoked_tokens: u64,
    /// Of a thousand replies with a body, how many arrive with a byte changed.
    pub spoilt_replies: u64,
    /// Of a thousand requests with a body from a file, how many lose the digester ("the HTTP stack kept it").
    pub lost_digesters: u64,
}

/// How a run went.
#[derive(Debug)]
pub struct Ran<T> {
    /// What the flow yielded.
    pub result: Result<T, Error>,
    /// What it told on the way.
    pub events: Vec<Event>,
    /// What it asked, in the order in which the registry saw it (or did not).
    pub requests: Vec<Asked>,
    /// How long it took, in virtual time.
    pub took: Duration,
    /// How many jobs were under way at most.
    pub most_at_once: usize,
    /// How many requests were under way to one origin at most.
    pub most_requests: usize,
    /// How many blobs were being sent at most.
    pub most_sending: usize,
}

/// One request of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Method and URL.
    pub line: String,
    /// The reply's status; `None` if none arrived.
    pub status: Option<StatusCode>,
    /// The reply's body, if it was a refusal.
    pub refusal: Bytes,
    /// How many bytes of body the registry got.
    pub got: u64,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    Refused,
    Cut,
    Stalled,
    ReplyLost,
    Answered(u16),
}

impl Simulation {
    /// A world without misfortune.
    pub fn new(seed: u64, registry: Registry, disk: MemoryDisk) -> Self {
        let rng = Rng::new(seed);
        let disk = MemoryFiles::new(disk);
        Self {
            registry: Registries::new(registry),
            disk,
            faults: Faults::default(),
            rng,
            now: Time::ZERO,
            watch: Watch::default(),
        }
    }

    /// With these misfortunes.
    #[must_use]
    pub const fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// With one more registry, which answers for this host (and port); for all others it is the first one that does.
    #[must_use]
    pub fn with_registry(mut self, host: &str, registry: Registry) -> Self {
        self.registry.add(host, registry);
        self
    }

    /// The registry as it is now.
    pub const fn registry(&mut self) -> &mut Registry {
        &mut self.registry.first
    }

    /// The registry that answers for a host, as it is now.
    pub fn registry_of(&mut self, host: &str) -> &mut Registry {
        self.registry.of(host)
    }

    /// The file system as it is now.
    pub const fn files(&self) -> &MemoryFiles {
        &self.disk
    }

    /// Runs a flow to its end.
    ///
    /// # Panics
    /// When the flow breaks the contract with its driver, or a secret is told.
    pub fn run<F: Flow + Debug>(&mut self, session: &mut Session, flow: F) -> Ran<F::Output> {
        self.run_until(session, flow, u64::MAX).unwrap_or_else(|_| unreachable!("it never comes to that many jobs"))
    }

    /// As [`run`](Self::run), but drops the flow when it starts its `kill_at`-th job, like a process that is killed. `Err`: it
    /// was.
    ///
    /// # Errors
    /// The requests made until then.
    ///
    /// # Panics
    /// When the flow breaks the contract with its driver, or a secret is told.
    pub fn run_until<F: Flow + Debug>(
        &mut self,
        session: &mut Session,
        flow: F,
        kill_at: u64,
    ) -> Result<Ran<F::Output>, Vec<Asked>> {
        let mut flow = Operation::new(flow);
        let began = self.now;
        let mut numbers: BTreeSet<JobId> = BTreeSet::new();
        let mut events = Vec::new();
        let mut requests = Vec::new();
        // Jobs by the time when they will be answered; the number keeps those of one moment apart.
        let mut under_way: BTreeMap<(Time, JobId), Job> = BTreeMap::new();
        let (mut most_at_once, mut most_requests, mut most_sending) = (0, 0, 0);
        let (mut started, mut spins) = (0_u64, 0);
        for _ in 0..MOST_STEPS {
            match flow.poll(&mut session.at(self.now)) {
                Step::Run(job) => {
                    started += 1;
                    let id = job.id();
                    assert!(numbers.insert(id), "job {id} was numbered twice");
                    if let Job::Exchange(_, request, ..) = &job {
                        self.watch.asked(request);
                    }
                    // Now and then: to print them takes longer than to run them.
                    if started.is_power_of_two() {
                        self.watch.logged(&(&flow, &job, &session));
                    }
                    if started >= kill_at {
                        self.kill(under_way.into_values(), &mut requests);
                        session.abandon(numbers);
                        return Err(requests);
                    }
                    let latency = Duration::from_micros(200 + self.rng.below(20_000));
                    under_way.insert((self.now + latency, id), job);
                    most_at_once = most_at_once.max(under_way.len());
                    most_requests = most_requests.max(most_to_one_origin(under_way.values()));
                    most_sending = most_sending.max(under_way.values().filter(|job| sends_a_blob(job)).count());
                }
                Step::Abort(id) => {
                    let key = under_way.keys().find(|(_, running)| *running == id).copied();
                    let job = key.and_then(|key| under_way.remove(&key));
                    self.kill(job.into_iter(), &mut requests);
                }
                Step::Note(event) => {
                    self.watch.told(&event);
                    events.push(event);
                }
                Step::Done(result) => {
                    assert!(under_way.is_empty(), "the flow is done, but {} jobs are under way", under_way.len());
                    if let Err(why) = &result {
                        self.watch.told(&(why, why.to_string()));
                    }
                    self.watch.logged(&session);
                    let took = self.now.since(began);
                    return Ok(Ran { result, events, requests, took, most_at_once, most_requests, most_sending });
                }
                Step::Wait(until) => {
                    let next = under_way.keys().next().copied();
                    assert!(until.is_some() || next.is_some(), "the flow waits for nothing");
                    match (next, until) {
                        (Some(key), until) if until.is_none_or(|until| key.0 <= until) => {
                            let job = under_way.remove(&key).expect("its key was just found");
                            (self.now, spins) = (self.now.max(key.0), 0);
                            let done = self.perform(job, &mut requests);
                            // Nobody's answer belongs to a job that was aborted meanwhile.
                            let _ = flow.handle(&mut session.at(self.now), done);
                        }
                        (_, until) => {
                            let until = until.expect("one of the two is there");
                            spins = if until > self.now { 0 } else { spins + 1 };
                            assert!(spins < MOST_SPINS, "the flow asks again and again to be polled at once");
                            self.now = self.now.max(until);
                        }
                    }
                    self.registry.advance(self.now.since_epoch());
                }
            }
        }
        panic!("the flow runs in circles: {} requests so far", requests.len());
    }

    /// What the registry notices of jobs whose client is gone: nothing, or the beginning of a request.
    fn kill(&mut self, jobs: impl Iterator<Item = Job>, requests: &mut Vec<Asked>) {
        for job in jobs {
            if let Job::Exchange(_, request, plan, _) = job {
                let (head, payload) = request.into_parts();
                let body = self.body(payload).0.unwrap_or_default();
                if body.is_empty() && self.happens(500) {
                    // Its reply is under way, and some of it in its file.
                    let reply = self.registry.handle(&head, Bytes::new());
                    requests.push(asked(&head, None, 0));
                    let part = self.below(reply.body().len() + 1);
                    let _ = self.receive(&reply, plan, part);
                    continue;
                }
                if !body.is_empty() {
                    let got = body.slice(..self.below(body.len()));
                    requests.push(asked(&head, None, got.len()));
                    self.registry.cut(&head, got);
                }
            }
        }
    }

    fn perform(&mut self, job: Job, requests: &mut Vec<Asked>) -> Completion {
        match job {
            Job::Exchange(ticket, request, plan, _) => self.exchange(ticket, request, plan, requests),
            Job::Local(job) => job.run(&self.disk),
        }
    }

    fn exchange(
        &mut self,
        ticket: Ticket<kind::Exchange>,
        request: http::Request<Payload>,
        plan: Plan,
        requests: &mut Vec<Asked>,
    ) -> Completion {
        let (head, payload) = request.into_parts();
        if self.happens(self.faults.lost_sessions) {
            self.registry.lose_uploads();
        }
        if self.happens(self.faults.revoked_tokens) {
            self.registry.revoke_tokens();
        }
        let fate = self.fate();
        if fate == Fate::Refused {
            requests.push(asked(&head, None, 0));
            return ticket.failed(Failure::new(FailureKind::Connect, "refused"), None);
        }
        let before = match &payload {
            Payload::File(range) => Some(range.clone()),
            _ => None,
        };
        let (body, mut sent) = self.body(payload);
        let body = match body {
            Ok(body) => body,
            Err(why) => {
                // The body broke off by our own doing; the registry has what came before.
                requests.push(asked(&head, None, 0));
                self.registry.cut(&head, Bytes::new());
                return ticket.failed(why, sent);
            }
        };
        if self.happens(self.faults.lost_digesters) {
            sent = None;
        }
        let cut = |why| Failure::new(why, "simulated");
        match fate {
            Fate::Answered(status) => {
                requests.push(asked(&head, StatusCode::from_u16(status).ok(), 0));
                let mut reply = Response::new(Bytes::new());
                *reply.status_mut() = StatusCode::from_u16(status).expect("statuses are picked from a list");
                if matches!(status, 429 | 503) && self.happens(500) {
                    let pause = self.below(4);
                    reply.headers_mut().insert("retry-after", HeaderValue::from(pause as u64));
                }
                // Whoever answers early has read nothing of the body.
                self.reply_with(ticket, reply, plan, None)
            }
            Fate::Cut | Fate::Stalled if !body.is_empty() => {
                let got = body.slice(..self.below(body.len()));
                requests.push(asked(&head, None, got.len()));
                // The client has hashed at least what the registry got, and maybe more.
                let hashed = got.len() + self.below(body.len() - got.len() + 1);
                let part = before.filter(|_| sent.is_some()).map(|range| self.read_part(range, hashed));
                self.registry.cut(&head, got);
                let why = if fate == Fate::Cut { FailureKind::Cut } else { FailureKind::Timeout(Phase::Body) };
                ticket.failed(cut(why), part.flatten())
            }
            Fate::Fine | Fate::Cut | Fate::Stalled | Fate::ReplyLost | Fate::Refused => {
                let length = body.len();
                let reply = self.registry.handle(&head, body);
                self.watch.answered(&reply);
                let lost = fate != Fate::Fine;
                let mut told = asked(&head, (!lost).then(|| reply.status()), length);
                if !lost && reply.status().is_client_error() {
                    told.refusal = reply.body().clone();
                }
                requests.push(told);
                match fate {
                    Fate::Stalled => ticket.failed(cut(FailureKind::Timeout(Phase::Head)), sent),
                    // Lost at once, or after a part of its body.
                    _ if lost => {
                        let part = self.below(reply.body().len() + 1);
                        let filed = self.receive(&reply, plan, part).err().and_then(|(_, filed)| filed);
                        ticket.failed(cut(FailureKind::Cut), sent.or(filed))
                    }
                    _ => self.reply_with(ticket, reply, plan, sent),
                }
            }
        }
    }

    fn reply_with(
        &mut self,
        ticket: Ticket<kind::Exchange>,
        mut reply: Response<Bytes>,
        plan: Plan,
        sent: Option<Digester>,
    ) -> Completion {
        if reply.status().is_success() && !reply.body().is_empty() && self.happens(self.faults.spoilt_replies) {
            let mut body = Vec::from(reply.body().clone());
            let at = self.below(body.len());
            body[at] ^= 1;
            *reply.body_mut() = body.into();
        }
        let whole = reply.body().len();
        match self.receive(&reply, plan, whole) {
            Ok(received) => ticket.replied(reply.into_parts().0, received, sent),
            Err((why, filed)) => ticket.failed(why, sent.or(filed)),
        }
    }

    /// Takes in the first `part` bytes of a reply's body. What came of less than all of it is in the second half of the error.
    fn receive(
        &mut self,
        reply: &Response<Bytes>,
        plan: Plan,
        part: usize,
    ) -> Result<Received, (Failure, Option<Digester>)> {
        let (head, body) = reply.clone().into_parts();
        let whole = part == body.len();
        let cut = || Failure::new(FailureKind::Cut, "simulated");
        let pieces = body[..part].chunks(1 + self.below(5000));
        match plan.sink(&head) {
            Incoming::Memory(mut collecting) => {
                for piece in pieces {
                    match collecting.feed(piece) {
                        Ok(More::Wanted) => {}
                        Ok(More::Unwanted) => break,
                        Err(why) => return Err((why, None)),
                    }
                }
                if whole { Ok(collecting.finish()) } else { Err((cut(), None)) }
            }
            Incoming::File(filing) => {
                let mut writing = filing.write_to(self.disk.clone()).map_err(|why| (why, None))?;
                for piece in pieces {
                    if let Err(why) = writing.feed(piece) {
                        return Err((why, Some(writing.into_digester())));
                    }
                }
                let digester = writing.into_digester();
                if whole { Ok(Received::Filed(digester)) } else { Err((cut(), Some(digester))) }
            }
        }
    }

    fn fate(&mut self) -> Fate {
        if !self.happens(self.faults.requests) {
            return Fate::Fine;
        }
        match self.below(6) {
            0 => Fate::Refused,
            1 => Fate::Stalled,
            2 => Fate::ReplyLost,
            3 => Fate::Answered([429, 500, 502, 503][self.below(4)]),
            _ => Fate::Cut,
        }
    }

    /// The whole body, read the way drivers read it.
    fn body(&mut self, payload: Payload) -> (Result<Bytes, Failure>, Option<Digester>) {
        match payload {
            Payload::Empty => (Ok(Bytes::new()), None),
            Payload::Bytes(bytes) => (Ok(bytes), None),
            Payload::File(range) => self.read(range),
        }
    }

    fn read(&mut self, range: FileRange) -> (Result<Bytes, Failure>, Option<Digester>) {
        let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
        let mut outgoing = match self.open(&range).and_then(|file| range.read_from(file)) {
            Ok(outgoing) => outgoing,
            Err(why) => return (Err(why), None),
        };
        let mut all = BytesMut::with_capacity(length);
        loop {
            let size = 1 + self.below(length.max(1));
            match outgoing.piece(size) {
                Ok(Some(piece)) => all.extend_from_slice(&piece),
                Ok(None) => return (Ok(all.freeze()), Some(outgoing.into_digester())),
                Err(why) => return (Err(why), Some(outgoing.into_digester())),
            }
        }
    }

    /// The digester after the first `length` bytes.
    fn read_part(&mut self, range: FileRange, length: usize) -> Option<Digester> {
        let mut outgoing = range.clone().read_from(self.open(&range).ok()?).ok()?;
        if length > 0 {
            outgoing.piece(length).ok()?;
        }
        Some(outgoing.into_digester())
    }

    fn open(&self, range: &FileRange) -> Result<Cursor<Bytes>, Failure> {
        match self.disk.open(range.path())? {
            Opened::File { file, .. } => Ok(file),
            Opened::Folder => Err(Failure::new(FailureKind::Source, "it is a folder")),
        }
    }

    fn happens(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.rng.below(1000) < per_mille
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).expect("it is below a usize")
    }
}

/// Whether it is a request with bytes of a blob.
fn sends_a_blob(job: &Job) -> bool {
    matches!(job, Job::Exchange(_, request, ..)
        if request.uri().path().contains("/blobs/uploads/") && !request.body().is_empty())
}

/// Of the requests among jobs, how many go to the origin that most of them go to.
fn most_to_one_origin<'a>(jobs: impl Iterator<Item = &'a Job>) -> usize {
    let mut counts: BTreeMap<Origin, usize> = BTreeMap::new();
    for job in jobs {
        if let Job::Exchange(_, request, ..) = job
            && let Some(origin) = Origin::of(request.uri())
        {
            *counts.entry(origin).or_default() += 1;
        }
    }
    counts.into_values().max().unwrap_or_default()
}

fn asked(head: &http::request::Parts, status: Option<StatusCode>, got: usize) -> Asked {
    Asked { line: format!("{} {}", head.method, head.uri), status, refusal: Bytes::new(), got: got as u64 }
}
