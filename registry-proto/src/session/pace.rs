//! How many requests go to a registry, and when.
//!
//! Each origin has a lane of so many places. While all is well it is as wide as the configuration allows; when the registry
//! says that it is too much (429, 503) or grows silent, it is halved, and with every round that goes well it gets one place
//! back: the rule that TCP shares lines by. Of a wide lane a few places are kept from blobs, so that small requests don't
//! wait for large ones. (Of one with fewer than eight places, none is.)

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::job::JobId;
use crate::spec::Origin;
use crate::time::Time;

/// Of how many origins is remembered that nothing is under way there.
const MOST_LANES: usize = 1000;

/// One place of so many is kept for small requests.
const KEPT: usize = 8;

/// Requests under way and pauses imposed, per origin, for all flows of a session.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    lanes: BTreeMap<Origin, Lane>,
    jobs: BTreeMap<JobId, Underway>,
}

/// What is allowed by configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The most requests under way.
    pub(crate) places: usize,
    /// The most that are sent in a second.
    pub(crate) per_second: Option<NonZeroU32>,
}

/// How much work a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// A few words.
    Small,
    /// A blob, or a piece of one.
    Bulk,
    /// Something that another request under way waits for, perhaps one in the same lane: it does not wait for a place, and takes
    /// none. There is one at a time for each that waits.
    Awaited,
}

/// What a request that is over tells about who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strain {
    /// It answers.
    None,
    /// It is too much for it.
    TooMuch,
    /// Nothing: the network failed, or nobody waited for the answer.
    Unknown,
}

#[derive(Debug)]
struct Underway {
    origin: Origin,
    load: Load,
    /// In which round of the lane it was sent.
    round: u64,
}

#[derive(Debug, Default)]
struct Lane {
    in_flight: usize,
    bulk: usize,
    awaited: usize,
    paused_until: Time,
    /// Up to when somebody was told that it is paused.
    told: Time,
    /// When the next request may be sent, if there is a limit per second.
    next: Time,
    /// Somebody was told of that limit.
    told_of_limit: bool,
    /// By how many places it is narrower than allowed.
    closed: usize,
    /// What went well since the lane last changed.
    went_well: usize,
    /// Moves when the lane is narrowed: what was sent before says nothing about how wide it is now.
    round: u64,
    /// Somebody was turned away for want of a place and waits for one to be given back.
    starved: bool,
}

impl Lane {
    fn width(&self, places: usize) -> usize {
        places.saturating_sub(self.closed).max(1)
    }

    fn is_idle(&self, now: Time) -> bool {
        self.in_flight == 0 && !self.starved && self.paused_until <= now && self.next <= now
    }
}

/// Why a request can't be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotYet {
    /// The registry asked for a pause, or so many have been sent in this second.
    Until(Time),
    /// Every place is taken; the session's generation moves when one is free.
    Full,
}

impl Pace {
    /// Whether a request may go to `origin` now.
    pub(crate) fn admit(&mut self, origin: &Origin, now: Time, load: Load, rules: Rules) -> Result<(), NotYet> {
        if self.lanes.len() > MOST_LANES {
            // Redirects can lead to any number of hosts.
            self.lanes.retain(|_, lane| !lane.is_idle(now));
        }
        let lane = self.lanes.entry(origin.clone()).or_default();
        let (width, placed) = (lane.width(rules.places), lane.in_flight - lane.awaited);
        let taken = match load {
            // However narrow it is, a blob that doesn't get ahead must not keep a session from being asked about or closed.
            Load::Small => placed >= width.max(lane.bulk + 1).min(rules.places),
            Load::Bulk => placed >= width || lane.bulk >= width - width / KEPT,
            Load::Awaited => false,
        };
        if lane.paused_until > now {
            return Err(NotYet::Until(lane.paused_until));
        }
        if taken {
            lane.starved = true;
            return Err(NotYet::Full);
        }
        if rules.per_second.is_some() && lane.next > now {
            return Err(NotYet::Until(lane.next));
        }
        Ok(())
    }

    /// The job takes one of the places.
    pub(crate) fn occupy(&mut self, origin: &Origin, job: JobId, now: Time, load: Load, rules: Rules) {
        let lane = self.lanes.entry(origin.clone()).or_default();
        lane.in_flight += 1;
        lane.bulk += usize::from(load == Load::Bulk);
        lane.awaited += usize::from(load == Load::Awaited);
        if let Some(per_second) = rules.per_second {
            lane.next = lane.next.max(now) + Duration::from_secs(1) / per_second.get();
        }
        self.jobs.insert(job, Underway { origin: origin.clone(), load, round: lane.round });
    }

    /// The job gives its place back. Whether somebody may be waiting for it.
    pub(crate) fn release(&mut self, job: JobId, strain: Strain, rules: Rules) -> bool {
        let Some(done) = self.jobs.remove(&job) else { return false };
        let Some(lane) = self.lanes.get_mut(&done.origin) else { return false };
        let width = lane.width(rules.places);
        match strain {
            Strain::TooMuch if done.round == lane.round => {
                // It was too much with as many as were under way, which may be fewer than there were places for.
                let narrow = (width.min(lane.in_flight) / 2).max(1);
                lane.closed = rules.places.saturating_sub(narrow);
                (lane.round, lane.went_well) = (lane.round + 1, 0);
            }
            Strain::None if lane.closed > 0 => {
                lane.went_well += 1;
                if lane.went_well >= width {
                    (lane.closed, lane.went_well) = (lane.closed - 1, 0);
                }
            }
            _ => {}
        }
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane.bulk = lane.bulk.saturating_sub(usize::from(done.load == Load::Bulk));
        lane.awaited = lane.awaited.saturating_sub(usize::from(done.load == Load::Awaited));
        std::mem::take(&mut lane.starved)
    }

    /// How long the pause is that somebody waits for now, if nobody has been told of it.
    pub(crate) fn tell(&mut self, origin: &Origin, now: Time) -> Option<Duration> {
        let lane = self.lanes.get_mut(origin)?;
        let is_news = lane.paused_until > now && lane.told < lane.paused_until;
        is_news.then(|| {
            lane.told = lane.paused_until;
            lane.paused_until.since(now)
        })
    }

    /// Whether the registry at `origin` has asked for a pause that is not over.
    pub(crate) fn is_paused(&self, origin: &Origin, now: Time) -> bool {
        self.lanes.get(origin).is_some_and(|lane| lane.paused_until > now)
    }

    /// Whether requests wait because so many have been sent in this second, and nobody has been told of that.
    pub(crate) fn tell_of_limit(&mut self, origin: &Origin, now: Time) -> bool {
        self.lanes
            .get_mut(origin)
            .is_some_and(|lane| lane.next > now && !std::mem::replace(&mut lane.told_of_limit, true))
    }

    /// Nothing goes to `origin` before `until`.
    pub(crate) fn pause(&mut self, origin: &Origin, until: Time) {
        let lane = self.lanes.entry(origin.clone()).or_default();
        lane.paused_until = lane.paused_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(places: usize) -> Rules {
        Rules { places, per_second: None }
    }

    fn origin(host: &str) -> Origin {
        Origin::new(true, host).unwrap()
    }

    /// Sends as many small requests as there are places for, numbered from here on.
    fn fill(pace: &mut Pace, at: &Origin, from: u64, places: usize) -> Vec<JobId> {
        let mut jobs = Vec::new();
        while pace.admit(at, Time::ZERO, Load::Small, rules(places)) == Ok(()) {
            let job = JobId::new(from + jobs.len() as u64);
            pace.occupy(at, job, Time::ZERO, Load::Small, rules(places));
            jobs.push(job);
        }
        jobs
    }

    #[test]
    fn places_are_given_back_once_and_wake_whoever_was_turned_away() {
        let (at, mut pace) = (origin("r.example"), Pace::default());
        let job = fill(&mut pace, &at, 1, 1)[0];
        assert!(pace.release(job, Strain::None, rules(1)));
        assert!(!pace.release(job, Strain::None, rules(1)));
        assert_eq!(pace.admit(&at, Time::ZERO, Load::Small, rules(1)), Ok(()));
    }

    #[test]
    fn too_much_halves_the_lane_once_a_round_and_good_rounds_widen_it() {
        let (at, mut pace) = (origin("r.example"), Pace::default());
        let jobs = fill(&mut pace, &at, 0, 16);
        assert_eq!(jobs.len(), 16);
        // All of them were sent before anybody knew: that they are refused together is one piece of news.
        for job in jobs {
            pace.release(job, Strain::TooMuch, rules(16));
        }
        let jobs = fill(&mut pace, &at, 100, 16);
        assert_eq!(jobs.len(), 8);
        for job in jobs {
            pace.release(job, Strain::None, rules(16));
        }
        let jobs = fill(&mut pace, &at, 200, 16);
        assert_eq!(jobs.len(), 9);
        for job in jobs {
            pace.release(job, Strain::Unknown, rules(16));
        }
        assert_eq!(fill(&mut pace, &at, 300, 16).len(), 9);
    }

    #[test]
    fn what_another_request_waits_for_does_not_wait_for_its_place() {
        let (at, mut pace) = (origin("r.example"), Pace::default());
        pace.occupy(&at, JobId::new(100), Time::ZERO, Load::Awaited, rules(2));
        assert_eq!(fill(&mut pace, &at, 0, 2).len(), 2, "nor does it take one");
        assert_eq!(pace.admit(&at, Time::ZERO, Load::Bulk, rules(2)), Err(NotYet::Full));
        assert_eq!(pace.admit(&at, Time::ZERO, Load::Awaited, rules(2)), Ok(()));
        let until = Time::ZERO + Duration::from_secs(1);
        pace.pause(&at, until);
        assert_eq!(pace.admit(&at, Time::ZERO, Load::Awaited, rules(2)), Err(NotYet::Until(until)), "but pauses hold");
    }

    #[test]
    fn one_request_is_always_let_through() {
        let (at, mut pace) = (origin("r.example"), Pace::default());
        for round in 0..10 {
            for job in fill(&mut pace, &at, round * 100, 4) {
                pace.release(job, Strain::TooMuch, rules(4));
            }
        }
        assert_eq!(fill(&mut pace, &at, 5000, 4).len(), 1);
    }

    #[test]
    fn blobs_leave_room_for_small_requests() {
        let (at, mut pace) = (origin("r.example"), Pace::default());
        let mut bulk = 0;
        while pace.admit(&at, Time::ZERO, Load::Bulk, rules(30)) == Ok(()) {
            bulk += 1;
            pace.occupy(&at, JobId::new(bulk), Time::ZERO, Load::Bulk, rules(30));
        }
        assert_eq!(bulk, 27);
        assert_eq!(fill(&mut pace, &at, 100, 30).len(), 3);
        assert!(pace.release(JobId::new(1), Strain::None, rules(30)));
        assert_eq!(pace.admit(&at, Time::ZERO, Load::Bulk, rules(30)), Ok(()));
    }

    #[test]
    fn a_blob_in_the_only_place_of_a_narrow_lane_leaves_room_for_a_word() {
        let (at, mut pace) = (origin("r.example"), Pace::default());
        for job in [1, 2] {
            pace.occupy(&at, JobId::new(job), Time::ZERO, Load::Bulk, rules(4));
        }
        pace.release(JobId::new(1), Strain::TooMuch, rules(4));
        assert_eq!(pace.admit(&at, Time::ZERO, Load::Bulk, rules(4)), Err(NotYet::Full));
        assert_eq!(fill(&mut pace, &at, 100, 4).len(), 1);
        // What was configured holds all the same.
        assert_eq!(pace.admit(&at, Time::ZERO, Load::Small, rules(1)), Err(NotYet::Full));
    }

    #[test]
    fn no_more_than_so_many_a_second() {
        let (at, mut pace) = (origin("r.example"), Pace::default());
        let rules = Rules { places: 9, per_second: NonZeroU32::new(4) };
        let quarter = Duration::from_millis(250);
        pace.occupy(&at, JobId::new(1), Time::ZERO, Load::Small, rules);
        let then = Time::ZERO + quarter;
        assert_eq!(pace.admit(&at, Time::ZERO, Load::Small, rules), Err(NotYet::Until(then)));
        assert!(pace.tell_of_limit(&at, Time::ZERO) && !pace.tell_of_limit(&at, Time::ZERO), "it is told once");
        assert_eq!(pace.admit(&at, then, Load::Small, rules), Ok(()));
        pace.occupy(&at, JobId::new(2), then, Load::Small, rules);
        assert_eq!(pace.admit(&at, then, Load::Small, rules), Err(NotYet::Until(then + quarter)));
        // What was not used is not saved up.
        let later = then + 9 * quarter;
        pace.occupy(&at, JobId::new(3), later, Load::Small, rules);
        assert_eq!(pace.admit(&at, later, Load::Small, rules), Err(NotYet::Until(later + quarter)));
    }

    #[test]
    fn a12_hosts_that_nothing_is_asked_of_are_forgotten() {
        let mut pace = Pace::default();
        let numbered = |n: u32| origin(&format!("h{n}.example"));
        pace.occupy(&numbered(0), JobId::new(1), Time::ZERO, Load::Small, rules(1));
        let later = Time::ZERO + Duration::from_secs(5);
        pace.pause(&numbered(1), later);
        for n in 2..5000 {
            assert_eq!(pace.admit(&numbered(n), Time::ZERO, Load::Small, rules(1)), Ok(()));
        }
        assert!(pace.lanes.len() <= MOST_LANES + 1, "{}", pace.lanes.len());
        assert_eq!(pace.admit(&numbered(0), Time::ZERO, Load::Small, rules(1)), Err(NotYet::Full));
        assert_eq!(pace.admit(&numbered(1), Time::ZERO, Load::Small, rules(1)), Err(NotYet::Until(later)));
    }

    #[test]
    fn a_pause_holds_for_one_origin_until_its_time() {
        let (a, b) = (origin("a.example"), origin("b.example"));
        let mut pace = Pace::default();
        let later = Time::ZERO + Duration::from_secs(5);
        pace.pause(&a, later);
        pace.pause(&a, Time::ZERO);
        assert_eq!(pace.admit(&a, Time::ZERO, Load::Small, rules(9)), Err(NotYet::Until(later)));
        assert_eq!(pace.admit(&b, Time::ZERO, Load::Small, rules(9)), Ok(()));
        assert_eq!(pace.tell(&a, Time::ZERO), Some(Duration::from_secs(5)));
        assert_eq!((pace.tell(&a, Time::ZERO), pace.tell(&b, Time::ZERO)), (None, None), "it is told once");
        assert_eq!(pace.admit(&a, later, Load::Small, rules(9)), Ok(()));
    }
}
