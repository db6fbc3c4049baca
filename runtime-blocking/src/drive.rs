//! The loop that runs any flow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use registry_proto::flow::Operation;
use registry_proto::job::{Completion, Job, JobId, Supplies};
use registry_proto::{Config, Context, Error, Event, Flow, Session, Step, Time};

use crate::connect::Agents;
use crate::perform::{Ends, Stop, perform};

/// How long the end of an operation waits for threads that were told to stop. They look up far more often, but for those that
/// can't: a reader that was lent to us ([`Feed`](registry_proto::archive::Feed)) may wait for a pipe that says nothing any more,
/// and the system for a peer that does not let anybody in.
const END: Duration = Duration::from_secs(1);

/// What all operations of a client share.
#[derive(Debug)]
pub(crate) struct Driver {
    session: Mutex<Session>,
    epoch: Instant,
    agents: Agents,
    /// The inboxes of the operations under way, to be woken when the session has moved.
    inboxes: Mutex<BTreeMap<u64, Sender<Message>>>,
}

enum Message {
    Done(Completion),
    Wake,
}

/// Jobs under way. Whatever is still running when the operation ends early is given up, here and in the session.
struct Running<'a> {
    driver: &'a Driver,
    inbox: u64,
    jobs: BTreeMap<JobId, Stop>,
    supplies: Supplies<SyncSender<Bytes>>,
}

impl Running<'_> {
    /// The job is over, or is about to be.
    fn end(&mut self, id: JobId) -> Option<Stop> {
        self.supplies.remove(id);
        self.jobs.remove(&id)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.driver.inboxes().remove(&self.inbox);
        let jobs = std::mem::take(&mut self.jobs);
        for stop in jobs.values() {
            stop.store(true, Ordering::Relaxed);
        }
        if !jobs.is_empty() {
            self.driver.step(|cx| cx.abandon(jobs.into_keys()));
        }
    }
}

impl Driver {
    pub(crate) fn new(config: Config, seed: u64, agents: Agents) -> Arc<Self> {
        Arc::new(Self {
            session: Mutex::new(Session::new(config, seed)),
            epoch: Instant::now(),
            agents,

            inboxes: Mutex::default(),
        })
    }

    /// Runs a flow to its end. Its jobs run on threads that end with it, or soon after: see [`END`].
    pub(crate) fn drive<F: Flow>(
        self: &Arc<Self>,
        flow: F,
        cancelled: &AtomicBool,
        mut tell: impl FnMut(Event),
    ) -> Result<F::Output, Error> {
        let mut flow = Operation::new(flow);
        let (sender, inbox) = mpsc::channel();
        let inbox_key = self.register(sender.clone());
        let mut running =
            Running { driver: self, inbox: inbox_key, jobs: BTreeMap::new(), supplies: Supplies::default() };
        let mut workers = Workers::new(Arc::clone(self), sender);
        let mut told = false;
        loop {
            if !told && cancelled.load(Ordering::SeqCst) {
                told = true;
                flow.cancel();
            }
            let until = match self.step(|cx| flow.poll(cx)) {
                Step::Run(job) => {
                    let stop = Stop::default();
                    running.jobs.insert(job.id(), Arc::clone(&stop));
                    // One piece is being sent, one waits.
                    let supply = running.supplies.connect(&job, || mpsc::sync_channel(1));
                    workers.start((job, supply, stop));
                    continue;
                }
                Step::Abort(id) => {
                    if let Some(stop) = running.end(id) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    continue;
                }
                Step::Note(event) => {
                    tell(event);
                    continue;
                }
                Step::Done(result) => {
                    drop(running);
                    workers.wind_up(&inbox);
                    return result;
                }
                Step::Wait(until) => until,
            };
            let pause = until
                .map_or(Duration::from_secs(86_400), |time| time.since_epoch().saturating_sub(self.epoch.elapsed()));
            match inbox.recv_timeout(pause) {
                Ok(Message::Done(done)) => {
                    running.end(done.id());
                    // Nobody's answer belongs to a job that was aborted meanwhile.
                    let _ = self.step(|cx| flow.handle(cx, done));
                }
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the workers' sender lives in this function"),
            }
        }
    }

    /// One step of a flow with the session, after which those who wait for what changed are woken.
    fn step<T>(&self, step: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let mut session = self.lock();
        let before = session.generation();
        let result = step(&mut session.at(Time::from_epoch(self.epoch.elapsed())));
        let moved = session.generation() != before;
        drop(session);
        if moved {
            self.wake();
        }
        result
    }

    /// Has every operation look at what has changed.
    pub(crate) fn wake(&self) {
        for inbox in self.inboxes().values() {
            // One that is gone needs no waking.
            let _ = inbox.send(Message::Wake);
        }
    }

    fn register(&self, sender: Sender<Message>) -> u64 {
        let mut inboxes = self.inboxes();
        let key = inboxes.last_key_value().map_or(0, |(last, _)| last + 1);
        inboxes.insert(key, sender);
        key
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        // A panic in a step is a bug of the core's; the other operations are still served.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inboxes(&self) -> MutexGuard<'_, BTreeMap<u64, Sender<Message>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job, what it has to do with others, and whether it is still wanted.
type Work = (Job, Ends, Stop);

/// Threads for the jobs of one operation: as many as there ever were jobs at a time.
struct Workers {
    driver: Arc<Driver>,
    answers: Sender<Message>,
    queue: Sender<Work>,
    waiting: Arc<Mutex<Receiver<Work>>>,
    started: usize,
    busy: Arc<AtomicUsize>,
}

impl Workers {
    fn new(driver: Arc<Driver>, answers: Sender<Message>) -> Self {
        let (queue, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        Self { driver, answers, queue, waiting, started: 0, busy: Arc::default() }
    }

    fn start(&mut self, work: Work) {
        if self.busy.fetch_add(1, Ordering::SeqCst) >= self.started {
            self.started += 1;
            let driver = Arc::clone(&self.driver);
            let (waiting, busy, answers) = (Arc::clone(&self.waiting), Arc::clone(&self.busy), self.answers.clone());
            thread::spawn(move || {
                loop {
                    // The lock is held while waiting: whoever has it takes the next job, the others queue for the lock.
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((job, supply, stop)) = next else { break };
                    let done = perform(&driver.agents, job, supply, &stop);
                    busy.fetch_sub(1, Ordering::SeqCst);
                    if answers.send(Message::Done(done)).is_err() {
                        break;
                    }
                }
            });
        }
        self.queue.send(work).expect("the receiving end lives beside the sending one");
    }

    /// Waits until nothing more is done, but not for ever: all jobs have been told to stop.
    fn wind_up(self, inbox: &Receiver<Message>) {
        let began = Instant::now();
        while self.busy.load(Ordering::SeqCst) > 0 {
            let left = END.saturating_sub(began.elapsed());
            if left.is_zero() || inbox.recv_timeout(left).is_err() {
                return;
            }
        }
    }
}
