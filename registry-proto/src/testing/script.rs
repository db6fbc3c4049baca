//! Runs flows against answers that a test writes down, one request at a time and under virtual time.
//!
//! Where a [simulation](crate::testing::simulation) looks for what nobody thought of, a script shows one case: this was
//! asked, that was answered, and what does the client do then?

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, Uri};

use crate::archive::make::MemoryDisk;
use crate::archive::{Disk as _, Opened};
use crate::flow::Operation;
use crate::job::{Completion, Failure, FailureKind, FileRange, Incoming, Job, JobId, More, Payload, Plan, Received};
use crate::testing::files::MemoryFiles;
use crate::{Digester, Error, Event, Flow, Session, Step, Time};

/// How long every request takes.
const LATENCY: Duration = Duration::from_millis(1);
/// How many steps flows may take before they count as running in circles.
const MOST_STEPS: u64 = 1_000_000;

/// Answers to requests, by a function; and the time.
///
/// ```
/// use registry_proto::flow::Pinging;
/// use registry_proto::testing::script::Script;
/// use registry_proto::{Config, Session};
///
/// let mut script = Script::new(|_| Ok(http::Response::new("{}".into())));
/// let mut session = Session::new(Config::default(), 1);
/// let ping = script.run(&mut session, Pinging::new("r.example".parse()?)).unwrap();
/// assert_eq!(ping.status, 200);
/// assert_eq!(script.requests()[0].line(), "GET https://r.example/v2/");
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
pub struct Script<A> {
    answer: A,
    disk: MemoryFiles,
    now: Time,
    requests: Vec<Request>,
    events: Vec<Event>,
    /// What has come of bodies that come in pieces.
    supplied: BTreeMap<JobId, Vec<u8>>,
}

/// A request, as it would have gone out.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which one it is, from 0.
    pub number: usize,
    /// When it is answered, a millisecond after it was sent.
    pub at: Time,
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: Uri,
    /// The headers, without `Host`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// Method and URL.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.url)
    }

    /// A header's value, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Its head, for a [registry in memory](crate::testing::registry::Registry).
    pub fn head(&self) -> http::request::Parts {
        let (mut head, ()) = http::Request::new(()).into_parts();
        (head.method, head.uri, head.headers) = (self.method.clone(), self.url.clone(), self.headers.clone());
        head
    }

    /// Host and port, as in the URL.
    pub fn host(&self) -> &str {
        self.url.authority().map_or("", |authority| authority.as_str())
    }
}

/// Whose job it is, and when it will be answered.
struct Pending {
    due: Time,
    owner: usize,
    job: Job,
}

impl<A: FnMut(&Request) -> Result<Response<Bytes>, Failure>> Script<A> {
    /// A script that answers requests this way.
    pub fn new(answer: A) -> Self {
        Self {
            answer,
            disk: MemoryFiles::default(),
            now: Time::ZERO,
            requests: Vec::new(),
            events: Vec::new(),
            supplied: BTreeMap::new(),
        }
    }

    /// With these files.
    #[must_use]
    pub fn with_disk(mut self, disk: MemoryDisk) -> Self {
        self.disk = MemoryFiles::new(disk);
        self
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// What time it is.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// All requests so far.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Method and URL of all requests so far.
    pub fn lines(&self) -> Vec<String> {
        self.requests.iter().map(Request::line).collect()
    }

    /// All events so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Runs a flow to its end.
    ///
    /// # Errors
    /// The flow's.
    ///
    /// # Panics
    /// When the flow breaks the contract with its driver, or reads files.
    pub fn run<F: Flow>(&mut self, session: &mut Session, flow: F) -> Result<F::Output, Error> {
        self.run_all(session, [flow]).pop().expect("one flow, one result")
    }

    /// Runs flows side by side to their ends, as so many operations of one client.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub fn run_all<F: Flow>(
        &mut self,
        session: &mut Session,
        flows: impl IntoIterator<Item = F>,
    ) -> Vec<Result<F::Output, Error>> {
        let mut flows: Vec<_> = flows.into_iter().map(|flow| Some(Operation::new(flow))).collect();
        let mut results: Vec<Option<Result<F::Output, Error>>> = flows.iter().map(|_| None).collect();
        let mut pending: Vec<Pending> = Vec::new();
        for _ in 0..MOST_STEPS {
            let until = self.poll_all(session, &mut flows, &mut results, &mut pending);
            if flows.iter().all(Option::is_none) {
                assert!(pending.is_empty(), "the flows are done, but {} jobs are under way", pending.len());
                return results.into_iter().flatten().collect();
            }
            let next = pending.iter().filter(|pending| self.is_whole(&pending.job)).map(|job| job.due).min();
            let at = next.into_iter().chain(until).min().expect("the flows wait for nothing");
            self.now = self.now.max(at);
            let is_next = |pending: &Pending| pending.due <= self.now && self.is_whole(&pending.job);
            if let Some(at) = pending.iter().position(is_next) {
                let Pending { owner, job, .. } = pending.remove(at);
                let done = self.perform(job);
                if let Some(flow) = &mut flows[owner] {
                    // Nobody's answer belongs to a job that was aborted meanwhile.
                    let _ = flow.handle(&mut session.at(self.now), done);
                }
            }
        }
        panic!("the flows run in circles: {} requests so far", self.requests.len());
    }

    /// Polls every flow until it waits, and once more whenever one of them has moved the session.
    fn poll_all<F: Flow>(
        &mut self,
        session: &mut Session,
        flows: &mut [Option<F>],
        results: &mut [Option<Result<F::Output, Error>>],
        pending: &mut Vec<Pending>,
    ) -> Option<Time> {
        loop {
            let (generation, mut until) = (session.generation(), None::<Time>);
            for (owner, slot) in flows.iter_mut().enumerate() {
                while let Some(flow) = slot {
                    match flow.poll(&mut session.at(self.now)) {
                        Step::Run(job) => pending.push(Pending { due: self.now + LATENCY, owner, job }),
                        Step::Abort(id) => abort(pending, id),
                        Step::Note(event) => self.events.push(event),
                        Step::Wait(time) => {
                            until = until.into_iter().chain(time).min();
                            break;
                        }
                        Step::Done(result) => {
                            results[owner] = Some(result);
                            *slot = None;
                        }
                    }
                }
            }
            if session.generation() == generation {
                return until;
            }
        }
    }

    /// Whether all of its body is here, if it is a request.
    fn is_whole(&self, job: &Job) -> bool {
        match job {
            Job::Exchange(ticket, request, ..) => match request.body() {
                Payload::Supplied(length) => self.supplied.get(&ticket.id()).map_or(0, Vec::len) as u64 >= *length,
                Payload::Empty | Payload::Bytes(_) | Payload::File(_) => true,
            },
            Job::Supply(..) | Job::Local(_) => true,
        }
    }

    fn perform(&mut self, job: Job) -> Completion {
        match job {
            Job::Exchange(ticket, request, plan, _) => {
                let (head, payload) = request.into_parts();
                let (body, sent) = match payload {
                    Payload::Empty => (Bytes::new(), None),
                    Payload::Bytes(bytes) => (bytes, None),
                    Payload::File(range) => match self.read(range) {
                        Ok((bytes, digester)) => (bytes, Some(digester)),
                        Err(why) => return ticket.failed(why, None),
                    },
                    Payload::Supplied(_) => (self.supplied.remove(&ticket.id()).unwrap_or_default().into(), None),
                };
                let number = self.requests.len();
                let request =
                    Request { number, at: self.now, method: head.method, url: head.uri, headers: head.headers, body };
                self.requests.push(request.clone());
                let (head, body) = match (self.answer)(&request) {
                    Ok(reply) => reply.into_parts(),
                    Err(why) => return ticket.failed(why, sent),
                };
                let reply = Response::from_parts(head, body);
                match self.receive(&reply, plan) {
                    Ok(received) => ticket.replied(reply.into_parts().0, received, sent),
                    Err((why, filed)) => ticket.failed(why, sent.or(filed)),
                }
            }
            Job::Supply(ticket, to, piece) => {
                self.supplied.entry(to).or_default().extend_from_slice(&piece);
                ticket.supplied()
            }
            Job::Local(job) => job.run(&self.disk),
        }
    }

    fn receive(&self, reply: &Response<Bytes>, plan: Plan) -> Result<Received, (Failure, Option<Digester>)> {
        let (head, body) = reply.clone().into_parts();
        match plan.sink(&head) {
            Incoming::Memory(mut collecting) => match collecting.feed(&body) {
                Ok(More::Wanted | More::Unwanted) => Ok(collecting.finish()),
                Err(why) => Err((why, None)),
            },
            Incoming::File(filing) => {
                let mut writing = filing.write_to(self.disk.clone()).map_err(|why| (why, None))?;
                let fed = writing.feed(&body);
                let digester = writing.into_digester();
                match fed {
                    Ok(_) => Ok(Received::Filed(digester)),
                    Err(why) => Err((why, Some(digester))),
                }
            }
        }
    }

    fn read(&self, range: FileRange) -> Result<(Bytes, Digester), Failure> {
        let length = usize::try_from(range.len()).unwrap_or(usize::MAX).max(1);
        let file = match self.disk.open(range.path())? {
            Opened::File { file, .. } => file,
            Opened::Folder => return Err(Failure::new(FailureKind::Source, "it is a folder")),
        };
        let mut outgoing = range.read_from(file)?;
        let mut all = Vec::new();
        while let Some(piece) = outgoing.piece(length)? {
            all.extend_from_slice(&piece);
        }
        Ok((all.into(), outgoing.into_digester()))
    }
}

fn abort(pending: &mut Vec<Pending>, id: JobId) {
    pending.retain(|running| running.job.id() != id);
}

impl<A> fmt::Debug for Script<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("now", &self.now).field("requests", &self.requests.len()).finish_non_exhaustive()
    }
}
