//! The loop that runs any flow.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_channel::Sender;
use async_io::Timer;
use event_listener::Event as Wake;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt as _, select_biased};
use registry_proto::flow::Operation;
use registry_proto::job::{JobId, Supplies};
use registry_proto::{Config, Context, Error, Event, Flow, Session, Step, Time};
use surf::Client as Surf;

use crate::body::Piece;
use crate::perform::perform;

/// What all operations of a client share.
#[derive(Debug)]
pub(crate) struct Driver {
    session: Mutex<Session>,
    epoch: Instant,
    /// The session has moved: operations may be waiting for one another.
    moved: Wake,
    surf: Surf,
}

/// Jobs under way. Whatever is still running when the operation is dropped is given up, here and in the session.
struct Running<'a> {
    driver: &'a Driver,
    jobs: BTreeMap<JobId, AbortHandle>,
    supplies: Supplies<Sender<Piece>>,
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
    pub(crate) fn new(config: Config, seed: u64, surf: Surf) -> Arc<Self> {
        let session = Mutex::new(Session::new(config, seed));
        Arc::new(Self { session, epoch: Instant::now(), moved: Wake::new(), surf })
    }

    /// Runs a flow to its end.
    pub(crate) async fn drive<F: Flow>(
        &self,
        flow: F,
        cancelled: &AtomicBool,
        mut tell: impl FnMut(Event),
    ) -> Result<F::Output, Error> {
        let mut flow = Operation::new(flow);
        let mut answers = FuturesUnordered::new();
        let mut running = Running { driver: self, jobs: BTreeMap::new(), supplies: Supplies::default() };
        let mut told = false;
        loop {
            // Before the step, so that nothing that happens during it is missed.
            let moved = self.moved.listen();
            if !told && cancelled.load(Ordering::SeqCst) {
                told = true;
                flow.cancel();
            }
            let until = match self.step(|cx| flow.poll(cx)) {
                Step::Run(job) => {
                    let id = job.id();
                    // One piece is being sent, one waits.
                    let supply = running.supplies.connect(&job, || async_channel::bounded(1));
                    let (answer, abort) = abortable(perform(self.surf.clone(), job, supply));
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
            let timer = deadline.map_or_else(Timer::never, Timer::at);
            let (mut timer, mut moved) = (pin!(FutureExt::fuse(timer)), pin!(FutureExt::fuse(moved)));
            // Without anything running, there is nothing to wait for in there.
            let mut answer = pin!(
                async { if answers.is_empty() { std::future::pending().await } else { answers.next().await } }.fuse()
            );
            select_biased! {
                answer = answer => {
                    // An aborted job has no answer.
                    if let Some(Ok(done)) = answer {
                        running.end(done.id());
                        // Nobody's answer belongs to a job that was aborted meanwhile.
                        let _ = self.step(|cx| flow.handle(cx, done));
                    }
                }
                _ = timer => {}
                () = moved => {}
            }
        }
    }

    /// Has every operation look whether it is cancelled.
    pub(crate) fn wake(&self) {
        self.moved.notify(usize::MAX);
    }

    /// One step of a flow with the session, after which those who wait for what changed are woken.
    fn step<T>(&self, step: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let mut session = self.lock();
        let before = session.generation();
        let result = step(&mut session.at(Time::from_epoch(self.epoch.elapsed())));
        let moved = session.generation() != before;
        drop(session);
        if moved {
            self.moved.notify(usize::MAX);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        // A panic in a step is a bug of the core's; the other operations are still served.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
