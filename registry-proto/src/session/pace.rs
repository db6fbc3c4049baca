//! How many requests go to a registry, and when.

use std::collections::BTreeMap;

use crate::job::JobId;
use crate::spec::Origin;
use crate::time::Time;

/// Of how many origins is remembered that nothing is under way there.
const MOST_LANES: usize = 1000;

/// Requests under way and pauses imposed, per origin, for all flows of a session.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    lanes: BTreeMap<Origin, Lane>,
    jobs: BTreeMap<JobId, Origin>,
}

#[derive(Debug, Default)]
struct Lane {
    in_flight: usize,
    paused_until: Time,
    /// Somebody was turned away for want of a place and waits for one to be given back.
    starved: bool,
}

/// Why a request can't be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotYet {
    /// The registry asked for a pause.
    Until(Time),
    /// Every place is taken; the session's generation moves when one is free.
    Full,
}

impl Pace {
    /// Whether a request may go to `origin` now, with at most `places` under way.
    pub(crate) fn admit(&mut self, origin: &Origin, now: Time, places: usize) -> Result<(), NotYet> {
        if self.lanes.len() > MOST_LANES {
            // Redirects can lead to any number of hosts.
            self.lanes.retain(|_, lane| lane.in_flight > 0 || lane.starved || lane.paused_until > now);
        }
        let lane = self.lanes.entry(origin.clone()).or_default();
        if lane.paused_until > now {
            return Err(NotYet::Until(lane.paused_until));
        }
        if lane.in_flight >= places {
            lane.starved = true;
            return Err(NotYet::Full);
        }
        Ok(())
    }

    /// The job takes one of the places.
    pub(crate) fn occupy(&mut self, origin: &Origin, job: JobId) {
        self.lanes.entry(origin.clone()).or_default().in_flight += 1;
        self.jobs.insert(job, origin.clone());
    }

    /// The job gives its place back. Whether somebody may be waiting for it.
    pub(crate) fn release(&mut self, job: JobId) -> bool {
        let Some(origin) = self.jobs.remove(&job) else { return false };
        let Some(lane) = self.lanes.get_mut(&origin) else { return false };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        std::mem::take(&mut lane.starved)
    }

    /// Nothing goes to `origin` before `until`.
    pub(crate) fn pause(&mut self, origin: &Origin, until: Time) {
        let lane = self.lanes.entry(origin.clone()).or_default();
        lane.paused_until = lane.paused_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn places_are_given_back_once_and_wake_whoever_was_turned_away() {
        let origin = Origin::new(true, "r.example").unwrap();
        let mut pace = Pace::default();
        assert_eq!(pace.admit(&origin, Time::ZERO, 1), Ok(()));
        pace.occupy(&origin, JobId::new(1));
        assert_eq!(pace.admit(&origin, Time::ZERO, 1), Err(NotYet::Full));
        assert!(pace.release(JobId::new(1)));
        assert!(!pace.release(JobId::new(1)));
        assert_eq!(pace.admit(&origin, Time::ZERO, 1), Ok(()));
    }

    #[test]
    fn a12_hosts_that_nothing_is_asked_of_are_forgotten() {
        let mut pace = Pace::default();
        let origin = |n: u32| Origin::new(true, &format!("h{n}.example")).unwrap();
        pace.occupy(&origin(0), JobId::new(1));
        let later = Time::ZERO + Duration::from_secs(5);
        pace.pause(&origin(1), later);
        for n in 2..5000 {
            assert_eq!(pace.admit(&origin(n), Time::ZERO, 1), Ok(()));
        }
        assert!(pace.lanes.len() <= MOST_LANES + 1, "{}", pace.lanes.len());
        assert_eq!(pace.admit(&origin(0), Time::ZERO, 1), Err(NotYet::Full));
        assert_eq!(pace.admit(&origin(1), Time::ZERO, 1), Err(NotYet::Until(later)));
    }

    #[test]
    fn a_pause_holds_for_one_origin_until_its_time() {
        let (a, b) = (Origin::new(true, "a.example").unwrap(), Origin::new(true, "b.example").unwrap());
        let mut pace = Pace::default();
        let later = Time::ZERO + Duration::from_secs(5);
        pace.pause(&a, later);
        pace.pause(&a, Time::ZERO);
        assert_eq!(pace.admit(&a, Time::ZERO, 9), Err(NotYet::Until(later)));
        assert_eq!(pace.admit(&b, Time::ZERO, 9), Ok(()));
        assert_eq!(pace.admit(&a, later, 9), Ok(()));
    }
}
