//! Bodies that come in pieces: from the jobs that bring them to the one that sends them.

use std::collections::BTreeMap;

use crate::job::{Job, JobId, Payload};

/// The bodies under way that are [supplied](Payload::Supplied), each with the end of a channel into which its pieces go.
///
/// A driver shows it each job before that is started, and tells it of each that is over. The channel is the driver's; it should hold
/// no more than a piece, and a piece that nobody will take from it should come to its end at once.
///
/// ```
/// use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
///
/// use bytes::Bytes;
/// use registry_proto::job::{Completion, Job, JobId, Supplies, Supply};
///
/// #[derive(Default)]
/// struct Driver {
///     supplies: Supplies<SyncSender<Bytes>>,
/// }
///
/// impl Driver {
///     fn start(&mut self, job: Job) {
///         let supply = self.supplies.connect(&job, || sync_channel(1));
///         std::thread::spawn(move || perform(job, supply));
///     }
///
///     fn is_over(&mut self, done: &Completion) {
///         self.supplies.remove(done.id());
///     }
/// }
///
/// fn perform(job: Job, supply: Supply<SyncSender<Bytes>, Receiver<Bytes>>) -> Option<Completion> {
///     match (job, supply) {
///         (Job::Supply(ticket, _, piece), supply) => {
///             if let Supply::Into(sender) = supply {
///                 let _ = sender.send(piece); // waits for room; an error is no news
///             }
///             Some(ticket.supplied())
///         }
///         // An exchange with `Supply::From(receiver)` sends what it receives.
///         _ => None,
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Supplies<I>(BTreeMap<JobId, I>);

/// What a job has to do with a body that is supplied, if it has.
#[derive(Debug)]
pub enum Supply<I, O> {
    /// Nothing; or nobody takes its piece any more.
    None,
    /// Its piece goes in here.
    Into(I),
    /// The pieces of its body come out of here.
    From(O),
}

impl<I> Default for Supplies<I> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<I: Clone> Supplies<I> {
    /// What this job, which is about to be started, has to do with a body that is supplied. `open` makes a channel for one.
    pub fn connect<O>(&mut self, job: &Job, open: impl FnOnce() -> (I, O)) -> Supply<I, O> {
        match job {
            Job::Exchange(ticket, request, ..) if matches!(request.body(), Payload::Supplied(_)) => {
                let (into, from) = open();
                self.0.insert(ticket.id(), into);
                Supply::From(from)
            }
            Job::Supply(_, to, _) => self.0.get(to).map_or(Supply::None, |into| Supply::Into(into.clone())),
            Job::Exchange(..) | Job::Local(_) => Supply::None,
        }
    }

    /// A job is over, or was aborted: if its body was supplied, nobody takes its pieces any more.
    pub fn remove(&mut self, job: JobId) {
        self.0.remove(&job);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::job::{Plan, Sink, Ticket, Timeouts};

    fn exchange(id: u64, payload: Payload) -> Job {
        let plan = Plan::new(Sink::Discard { limit: 0 }, 0);
        Job::Exchange(Ticket::new(JobId::new(id)), http::Request::new(payload), plan, Timeouts::default())
    }

    fn supply(id: u64, to: u64) -> Job {
        Job::Supply(Ticket::new(JobId::new(id)), JobId::new(to), Bytes::from_static(b"x"))
    }

    #[test]
    fn a_piece_goes_to_the_body_that_waits_for_it_and_to_no_other() {
        let mut supplies = Supplies::default();
        let mut channels = 0..;
        let mut connect = |job: &Job| supplies.connect(job, || channels.next().map(|n| (n, -n)).unwrap());
        assert!(matches!(connect(&exchange(1, Payload::Supplied(9))), Supply::From(0)));
        assert!(matches!(connect(&exchange(2, Payload::Supplied(9))), Supply::From(-1)));
        assert!(matches!(connect(&exchange(3, Payload::Empty)), Supply::None));
        assert!(matches!(connect(&supply(4, 2)), Supply::Into(1)));
        assert!(matches!(connect(&supply(5, 1)), Supply::Into(0)));
        assert!(matches!(connect(&supply(6, 3)), Supply::None));
        supplies.remove(JobId::new(1));
        let late = supplies.connect(&supply(7, 1), || unreachable!("it is no exchange") as (i32, i32));
        assert!(matches!(late, Supply::None));
    }
}
