//! The loop that every driver has, under virtual time.
//!
//! ```text
//!   Run(job) ── some milliseconds ──▶ it reaches the registry ──┬─────────────────────────────▶ handle(completion)
//!                                                               └─ stalled, or a late reply ──▶      ″
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;

use super::Simulation;
use super::wire::Supplied;
use crate::flow::Operation;
use crate::job::{Completion, Job, JobId, Payload};
use crate::spec::Origin;
use crate::{Error, Event, Flow, Session, Step, Time};

/// How many steps a flow may take before it counts as running in circles.
const MOST_STEPS: u64 = 2_000_000;
/// How often in a row a flow may ask to be polled again at once.
const MOST_SPINS: u32 = 100;

/// When a request goes on of whose body there is not enough yet.
const NEVER: Time = Time::from_epoch(Duration::MAX);

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
    /// How many bytes of bodies the requests under way held in memory at most.
    pub most_in_memory: u64,
    /// When it was cancelled, in virtual time, if it was.
    pub cancelled: Option<Duration>,
    /// What it began to ask after that: method and URL.
    pub asked_after_cancel: Vec<String>,
}

/// When a run is stopped from outside.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// When it starts that many jobs.
    Kill(u64),
    /// After that many steps.
    Cancel(u64),
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

impl Asked {
    pub(super) fn new(head: &Parts, status: Option<StatusCode>, got: usize) -> Self {
        let line = format!("{} {}", head.method, head.uri);
        Self { line, status, refusal: Bytes::new(), got: got as u64 }
    }
}

/// A job that was started and is not answered.
#[derive(Debug)]
struct Underway {
    /// Whom it asks, if it is a request.
    origin: Option<Origin>,
    /// Whether it carries bytes of a blob.
    sends: bool,
    in_memory: u64,
    /// Its body comes in pieces, for each of which there may be a request that takes no place of its own.
    is_supplied: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The registry has not seen it.
    Out(Job),
    /// The answer is on its way back.
    Back(Completion),
}

impl Underway {
    fn new(job: Job) -> Self {
        let mut is_supplied = false;
        let (origin, sends, in_memory) = match &job {
            Job::Exchange(_, request, ..) => {
                let body = request.body();
                let sends = request.uri().path().contains("/blobs/uploads/") && !body.is_empty();
                let in_memory = if matches!(body, Payload::Bytes(_)) { body.len() } else { 0 };
                is_supplied = matches!(body, Payload::Supplied(_));
                (Origin::of(request.uri()), sends, in_memory)
            }
            Job::Supply(_, _, piece) => (None, false, piece.len() as u64),
            Job::Local(_) => (None, false, 0),
        };
        Self { origin, sends, in_memory, is_supplied, stage: Stage::Out(job) }
    }

    fn into_unseen(self) -> Option<Job> {
        match self.stage {
            Stage::Out(job) => Some(job),
            Stage::Back(_) => None,
        }
    }
}

/// What was under way at most.
#[derive(Debug, Default)]
struct Most {
    /// How many requests with bodies in pieces have ended without the flow having been polled to its end since: what was fetched for
    /// them is still to be aborted.
    ended: usize,
    jobs: usize,
    requests: usize,
    sending: usize,
    in_memory: u64,
}

impl Most {
    fn look(&mut self, under_way: &BTreeMap<(Time, JobId), Underway>) {
        let mut by_origin: Vec<(&Origin, usize)> = Vec::new();
        for origin in under_way.values().filter_map(|job| job.origin.as_ref()) {
            match by_origin.iter_mut().find(|(known, _)| *known == origin) {
                Some((_, count)) => *count += 1,
                None => by_origin.push((origin, 1)),
            }
        }
        self.jobs = self.jobs.max(under_way.len());
        let awaited = self.ended + under_way.values().filter(|job| job.is_supplied).count();
        let requests = by_origin.into_iter().map(|(_, count)| count.saturating_sub(awaited));
        self.requests = requests.fold(self.requests, usize::max);
        self.sending = self.sending.max(under_way.values().filter(|job| job.sends).count());
        self.in_memory = self.in_memory.max(under_way.values().map(|job| job.in_memory).sum());
    }
}

impl Simulation {
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
        self.run_stopping(session, flow, Stop::Kill(kill_at))
    }

    /// As [`run`](Self::run), but cancels the flow after so many steps: one is whatever it asked of its driver but to wait, or an answer
    /// that it was given.
    ///
    /// # Panics
    /// When the flow breaks the contract with its driver, or a secret is told.
    pub fn run_cancelled<F: Flow + Debug>(
        &mut self,
        session: &mut Session,
        flow: F,
        cancel_after: u64,
    ) -> Ran<F::Output> {
        let ran = self.run_stopping(session, flow, Stop::Cancel(cancel_after));
        ran.unwrap_or_else(|_| unreachable!("nobody kills it"))
    }

    fn run_stopping<F: Flow + Debug>(
        &mut self,
        session: &mut Session,
        flow: F,
        stop: Stop,
    ) -> Result<Ran<F::Output>, Vec<Asked>> {
        let mut flow = Operation::new(flow);
        let began = self.now;
        self.supplied.clear();
        let mut numbers: BTreeSet<JobId> = BTreeSet::new();
        let mut events = Vec::new();
        let mut requests = Vec::new();
        // Jobs by the time when something happens to them; the number keeps those of one moment apart.
        let mut under_way: BTreeMap<(Time, JobId), Underway> = BTreeMap::new();
        let mut most = Most::default();
        let (mut started, mut spins) = (0_u64, 0);
        let (mut steps, mut cancelled, mut asked_after_cancel) = (0_u64, None, Vec::new());
        for _ in 0..MOST_STEPS {
            if matches!(stop, Stop::Cancel(after) if steps >= after) && cancelled.is_none() {
                flow.cancel();
                cancelled = Some(self.now.since(began));
            }
            match flow.poll(&mut session.at(self.now)) {
                Step::Run(job) => {
                    (started, steps) = (started + 1, steps + 1);
                    let id = job.id();
                    assert!(numbers.insert(id), "job {id} was numbered twice");
                    // Not each time: to print them takes longer than to run them.
                    if let Job::Exchange(_, request, ..) = &job
                        && self.watch.asked(request)
                    {
                        self.watch.logged(&(&flow, &job, &session));
                    }
                    if let Job::Exchange(ticket, request, ..) = &job
                        && matches!(request.body(), Payload::Supplied(_))
                    {
                        self.supplied.insert(ticket.id(), Supplied::default());
                    }
                    if let Job::Exchange(_, request, ..) = &job
                        && cancelled.is_some()
                    {
                        asked_after_cancel.push(format!("{} {}", request.method(), request.uri()));
                    }
                    if matches!(stop, Stop::Kill(at) if started >= at) {
                        self.kill(under_way.into_values().filter_map(Underway::into_unseen), &mut requests);
                        session.abandon(numbers);
                        return Err(requests);
                    }
                    let latency = Duration::from_micros(200 + self.rng.below(20_000));
                    under_way.insert((self.now + latency, id), Underway::new(job));
                    most.look(&under_way);
                }
                Step::Abort(id) => {
                    steps += 1;
                    let key = under_way.keys().find(|(_, running)| *running == id).copied();
                    let job = key.and_then(|key| under_way.remove(&key));
                    self.kill(job.and_then(Underway::into_unseen).into_iter(), &mut requests);
                }
                Step::Note(event) => {
                    steps += 1;
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
                    let Most { jobs: most_at_once, requests: most_requests, sending: most_sending, in_memory, .. } =
                        most;
                    let most_in_memory = in_memory;
                    return Ok(Ran {
                        result,
                        events,
                        requests,
                        took,
                        most_at_once,
                        most_requests,
                        most_sending,
                        most_in_memory,
                        cancelled,
                        asked_after_cancel,
                    });
                }
                Step::Wait(until) => {
                    let next = under_way.keys().next().copied();
                    let is_due = next.is_some_and(|(due, _)| due < NEVER);
                    assert!(until.is_some() || is_due, "the flow waits for nothing");
                    match (next, until) {
                        (Some(key), until) if until.is_none_or(|until| key.0 <= until) => {
                            let Underway { stage, origin, sends, in_memory, is_supplied } =
                                under_way.remove(&key).expect("its key was just found");
                            let again = |stage| Underway { stage, origin, sends, in_memory, is_supplied };
                            (self.now, spins) = (self.now.max(key.0), 0);
                            let done = match stage {
                                Stage::Back(done) => done,
                                Stage::Out(job) if self.wants_more(&job) => {
                                    under_way.insert((NEVER, key.1), again(Stage::Out(job)));
                                    continue;
                                }
                                Stage::Out(job) => {
                                    let fed = if let Job::Supply(_, to, _) = &job { Some(*to) } else { None };
                                    let (done, after) = self.perform(job, &mut requests);
                                    if !after.is_zero() {
                                        under_way.insert((self.now + after, key.1), again(Stage::Back(done)));
                                        continue;
                                    }
                                    if let Some(id) = fed
                                        && let Some(request) = under_way.remove(&(NEVER, id))
                                    {
                                        under_way.insert((self.now, id), request);
                                    }
                                    done
                                }
                            };
                            steps += 1;
                            most.ended = usize::from(is_supplied);
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

    /// The job, done as far as the world lets it be, and how long its answer takes to come back.
    fn perform(&mut self, job: Job, requests: &mut Vec<Asked>) -> (Completion, Duration) {
        match job {
            Job::Exchange(ticket, request, plan, timeouts) => self.exchange(ticket, request, plan, timeouts, requests),
            Job::Supply(ticket, to, piece) => {
                if let Some(body) = self.supplied.get_mut(&to) {
                    body.got.extend_from_slice(&piece);
                }
                (ticket.supplied(), Duration::ZERO)
            }
            Job::Local(job) => (job.run(&self.disk), Duration::ZERO),
        }
    }

    /// What the registry notices of jobs whose client is gone: nothing, or the beginning of a request.
    fn kill(&mut self, jobs: impl Iterator<Item = Job>, requests: &mut Vec<Asked>) {
        for job in jobs {
            if let Job::Exchange(ticket, request, plan, _) = job {
                let (head, payload) = request.into_parts();
                if matches!(payload, Payload::Supplied(_)) {
                    let got = self.supplied.remove(&ticket.id()).map_or_else(Bytes::new, |body| body.got.freeze());
                    requests.push(Asked::new(&head, None, got.len()));
                    self.registry.cut(&head, got);
                    continue;
                }
                let body = self.body(payload).0.unwrap_or_default();
                if body.is_empty() && self.happens(500) {
                    // Its reply is under way, and some of it in its file.
                    self.shown.see(&head);
                    let reply = self.registry.handle(&head, Bytes::new());
                    requests.push(Asked::new(&head, None, 0));
                    let part = self.cut_point(reply.body().len());
                    let _ = self.receive(&reply, plan, part);
                    continue;
                }
                if !body.is_empty() {
                    let got = body.slice(..self.cut_point(body.len()));
                    requests.push(Asked::new(&head, None, got.len()));
                    self.registry.cut(&head, got);
                }
            }
        }
    }
}
