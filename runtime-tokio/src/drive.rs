//! The loop that runs any flow.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use registry_proto::flow::Operation;
use registry_proto::job::{JobId, Supplies};
use registry_proto::{Config, Context, Error, Event, Flow, Session, Step, Time};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::body::Piece;
use crate::connect::Http;
use crate::perform::perform;

/// What all operations of a client share.
#[derive(Debug)]
pub(crate) struct Driver {
    session: Mutex<Session>,
    epoch: Instant,
    /// The session's generation, for operations that wait for one another.
    generation: watch::Sender<u64>,
    http: Http,
}

/// Jobs under way. Whatever is still running when the operation is dropped is given up, here and in the session.
struct Running<'a> {
    driver: &'a Driver,
    jobs: BTreeMap<JobId, AbortHandle>,
    supplies: Supplies<mpsc::Sender<Piece>>,
}

impl Running<'_> {
    /// The job is over, or is about to be.
    fn end(&mut self, id: JobId) -> Option<AbortHandle> {
        self.supplies.remove(id);
        self.jobs.remove(&id)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.jobs.is_empty() {
            self.driver.step(|cx| cx.abandon(std::mem::take(&mut self.jobs).into_keys()));
        }
    }
}

impl Driver {
    pub(crate) fn new(config: Config, seed: u64, http: Http) -> Arc<Self> {
        let session = Mutex::new(Session::new(config, seed));
        Arc::new(Self { session, epoch: Instant::now(), generation: watch::Sender::new(0), http })
    }

    /// Runs a flow to its end.
    pub(crate) async fn drive<F: Flow>(
        &self,
        flow: F,
        mut cancelled: watch::Receiver<bool>,
        mut tell: impl FnMut(Event),
    ) -> Result<F::Output, Error> {
        let mut flow = Operation::new(flow);
        let mut answers = FuturesUnordered::new();
        let mut running = Running { driver: self, jobs: BTreeMap::new(), supplies: Supplies::default() };
        let mut generation = self.generation.subscribe();
        // It may have been cancelled before it began.
        cancelled.mark_changed();
        loop {
            if cancelled.has_changed().is_ok_and(|changed| changed) && *cancelled.borrow_and_update() {
                flow.cancel();
            }
            let until = match self.step(|cx| flow.poll(cx)) {
                Step::Run(job) => {
                    let id = job.id();
                    // One piece is being sent, one waits.
                    let supply = running.supplies.connect(&job, || mpsc::channel(1));
                    let (answer, abort) = abortable(perform(self.http.clone(), job, supply));
                    running.jobs.insert(id, abort);
                    answers.push(answer);
                    continue;
                }
                Step::Abort(id) => {
                    if let Some(abort) = running.end(id) {
                        abort.abort();
                    }
                    continue;
                }
                Step::Note(event) => {
                    tell(event);
                    continue;
                }
                Step::Done(result) => return result,
                Step::Wait(until) => until,
            };
            // What no clock can show is never.
            let deadline = until.and_then(|time| self.epoch.checked_add(time.since_epoch()));
            let due = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some(answer) = answers.next() => {
                    // An aborted job has no answer.
                    if let Ok(done) = answer {
                        running.end(done.id());
                        // Nobody's answer belongs to a job that was aborted meanwhile.
                        let _ = self.step(|cx| flow.handle(cx, done));
                    }
                }
                () = due => {}
                Ok(()) = generation.changed() => {}
                Ok(()) = cancelled.changed() => cancelled.mark_changed(),
            }
        }
    }

    /// One step of a flow with the session, after which those who wait for what changed are woken.
    fn step<T>(&self, step: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let mut session = self.lock();
        let before = session.generation();
        let result = step(&mut session.at(Time::from_epoch(self.epoch.elapsed())));
        let after = session.generation();
        drop(session);
        if after != before {
            self.generation.send_replace(after);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        // A panic in a step is a bug of the core's; the other operations are still served.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
