//! How long each part of a shutdown may take: the config's words in, durations out.
//!
//! The parts add up to the whole, so that what one of them wastes is never taken from the last acts, which save what is
//! on the disks: they have [`LAST_ACTS`] at the least, and all that the others have left over.

use super::requests::Requests;
use crate::clock::Time;
use crate::config::{Seconds, ShutdownLimits};
use std::time::Duration;

/// What a pod has that asks for nothing: Kubernetes's `terminationGracePeriodSeconds`.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// For services, when the config says nothing: the kubelet and containerd end within a second.
const DEFAULT_SERVICES: Duration = Duration::from_secs(10);
/// The longest limit that a config may give: nobody waits longer for a machine that was told to go down.
pub const MOST: Duration = Duration::from_secs(3600);
/// The kubelet sees a removed manifest at once or, if it has just been started, in some seconds.
pub(super) const KUBELETS_WORK: Duration = Duration::from_secs(3);
/// Between SIGTERM and SIGKILL for a pod that no kubelet has stopped, when the pods' time is over.
pub(super) const LEAST_REST: Duration = Duration::from_secs(2);
/// Kill what is left, unmount, sync; what a slow disk needs for the rest of its cache.
pub const LAST_ACTS: Duration = Duration::from_secs(15);
/// What is left of the phases, and then of the last acts, once somebody has asked a second time.
pub const HURRY_LIMIT: Duration = Duration::from_secs(5);
/// What the last acts have when many have asked at once.
pub const AT_ONCE_LIMIT: Duration = Duration::from_secs(1);

/// The limits of one shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the request to reboot(2).
    pub total: Duration,
    /// The longest grace period that a pod is given.
    pub pods: Duration,
    /// All services, one after the other.
    pub services: Duration,
    /// The key that gives pods more.
    pub raise: &'static str,
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(&ShutdownLimits::default())
    }
}

impl Limits {
    /// What the parts take beside the limits of pods and services.
    pub const BESIDE: Duration =
        Duration::from_secs(KUBELETS_WORK.as_secs() + LEAST_REST.as_secs() + LAST_ACTS.as_secs());

    /// Those of a config. What is not given follows from the rest: the whole from its parts, the pods' part from the
    /// whole.
    pub fn of(config: &ShutdownLimits) -> Self {
        let seconds = |given: Option<Seconds>| given.map(|given| given.duration().min(MOST));
        let services = seconds(config.services_limit).unwrap_or(DEFAULT_SERVICES);
        let others = services + Self::BESIDE;
        let (total, pods) = (seconds(config.total_limit), seconds(config.pods_limit));
        let raise = if total.is_some() && pods.is_none() {
            "machine.shutdown.totalLimit"
        } else {
            "machine.shutdown.podsLimit"
        };
        let of_total = total.map(|total| total.saturating_sub(others));
        let pods = match (pods, of_total) {
            (Some(pods), Some(most)) => pods.min(most),
            (given, of_total) => given.or(of_total).unwrap_or(DEFAULT_GRACE),
        };
        Self { total: total.unwrap_or(pods + others), pods, services, raise }
    }

    /// What the parts of a config need together, where that is more than the whole that it gives.
    pub fn excess(config: &ShutdownLimits) -> Option<Duration> {
        let total = config.total_limit?.duration();
        let services = config.services_limit.map_or(DEFAULT_SERVICES, Seconds::duration);
        // With nothing for pods the key would be of no use.
        let pods = config.pods_limit.unwrap_or(Seconds(1)).duration();
        let needed = pods.saturating_add(services).saturating_add(Self::BESIDE);
        (needed > total).then_some(needed)
    }
}

/// The time of the last acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastActs {
    until: Time,
    requests: Requests,
}

impl LastActs {
    /// Over at `until`.
    pub fn new(until: Time) -> Self {
        Self { until, requests: Requests::default() }
    }

    pub(super) fn asked(until: Time, requests: Requests) -> Self {
        Self { until, requests }
    }

    /// What is left of them.
    pub fn left(&self, now: Time) -> Duration {
        self.until.saturating_sub(now)
    }

    /// The limit of one act, which leaves time for those after it: at most `most`, and one of so many shares of what is
    /// left.
    pub fn share(&self, shares: u32, most: Duration, now: Time) -> Duration {
        self.left(now).checked_div(shares).unwrap_or_default().min(most)
    }

    /// Somebody has asked once more: they have less time, and many at once leave them nearly none.
    pub fn hurry(&mut self, now: Time) {
        let limit = if self.requests.add(now) { AT_ONCE_LIMIT } else { HURRY_LIMIT };
        self.until = self.until.min(now + limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(total: Option<u64>, pods: Option<u64>, services: Option<u64>) -> ShutdownLimits {
        ShutdownLimits {
            total_limit: total.map(Seconds),
            pods_limit: pods.map(Seconds),
            services_limit: services.map(Seconds),
        }
    }

    fn seconds(config: &ShutdownLimits) -> (u64, u64, u64) {
        let limits = Limits::of(config);
        (limits.total.as_secs(), limits.pods.as_secs(), limits.services.as_secs())
    }

    #[test]
    fn a_minute_when_nothing_is_said_and_what_is_not_given_follows_from_the_rest() {
        for (given, expected) in [
            (limits(None, None, None), (60, 30, 10)),
            (limits(Some(120), None, None), (120, 90, 10)),
            (limits(Some(31), None, None), (31, 1, 10)),
            (limits(None, Some(300), None), (330, 300, 10)),
            (limits(None, Some(5), Some(5)), (30, 5, 5)),
            (limits(Some(600), Some(60), None), (600, 60, 10)),
            // Refused by the check; of a damaged file the whole counts.
            (limits(Some(30), Some(60), None), (30, 0, 10)),
            (limits(Some(u64::MAX), Some(u64::MAX), Some(u64::MAX)), (3600, 0, 3600)),
        ] {
            assert_eq!(seconds(&given), expected, "{given:?}");
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_known_with_what_they_need() {
        let excess = |config| Limits::excess(&config).map(|excess| excess.as_secs());
        assert_eq!(excess(limits(None, Some(3600), Some(3600))), None);
        assert_eq!(excess(limits(Some(60), None, None)), None);
        assert_eq!(excess(limits(Some(30), None, None)), Some(31));
        assert_eq!(excess(limits(Some(60), Some(30), None)), None);
        assert_eq!(excess(limits(Some(60), Some(31), None)), Some(61));
        assert_eq!(excess(limits(Some(60), None, Some(40))), Some(61));
    }

    #[test]
    fn the_key_to_raise_is_the_one_that_rules() {
        let raise = |config| Limits::of(&config).raise;
        assert_eq!(raise(limits(None, None, None)), "machine.shutdown.podsLimit");
        assert_eq!(raise(limits(Some(60), None, None)), "machine.shutdown.totalLimit");
        assert_eq!(raise(limits(Some(60), Some(5), None)), "machine.shutdown.podsLimit");
    }

    #[test]
    fn an_act_leaves_time_for_the_next_and_a_request_takes_some_away() {
        let at = Duration::from_secs;
        let mut last = LastActs::new(at(100));
        assert_eq!(last.share(2, at(10), at(60)), at(10));
        assert_eq!(last.share(2, at(10), at(90)), at(5));
        assert_eq!(last.share(2, at(10), at(200)), at(0));
        last.hurry(at(60));
        assert_eq!(last.left(at(60)), HURRY_LIMIT);
        last.hurry(at(61));
        assert_eq!(last.left(at(61)), at(4), "asking again never gives more");
        for _ in 0..6 {
            last.hurry(at(61));
        }
        assert_eq!(last.left(at(61)), AT_ONCE_LIMIT);
    }
}
