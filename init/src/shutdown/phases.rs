//! The phases before the last acts, each with its limit: pods, services, what is left of pods.

use super::limits::{AT_ONCE_LIMIT, DEFAULT_GRACE, HURRY_LIMIT, KUBELETS_WORK, LAST_ACTS, LEAST_REST};
use super::requests::Requests;
use super::{LastActs, Limits, Shutdown};
use crate::clock::Time;
use std::time::Duration;

/// How often those who wait are told for whom.
pub const TELL_EVERY: Duration = Duration::from_secs(10);

/// Where a shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The manifests are gone; the kubelet stops the pods.
    Pods,
    /// Every service is stopped, those that others need after them.
    Services,
    /// Pods that no kubelet has stopped were told to end, and are waited for.
    Rest,
    /// Handed over to `halt.rs`.
    Over,
}

/// How many there are.
pub const PHASES: usize = 4;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait.
    Wait,
    /// Stop all services.
    StopServices,
    /// Tell what is left of pods to end, and look whether it has.
    EndPods,
    /// Hand over.
    Finish,
}

/// A shutdown under way.
#[derive(Debug, Clone)]
pub struct Progress {
    kind: Shutdown,
    limits: Limits,
    asked_at: Time,
    phase: Phase,
    since: Time,
    /// What the pods get: the longest grace period that one asks for, within the limit.
    pods_limit: Duration,
    /// What the kubelet has had of it.
    pods_used: Duration,
    /// Somebody has asked again.
    hurry_until: Option<Time>,
    /// Many have, at once.
    at_once: bool,
    requests: Requests,
    tell_at: Time,
}

impl Progress {
    /// Starts; `pods`: there is a kubelet that can stop them. `longest`: the longest grace period among the pods; one of
    /// less than the default shortens nothing, because nobody knows those of files of others.
    pub fn start(kind: Shutdown, pods: bool, limits: Limits, longest: Duration, now: Time) -> Self {
        let mut requests = Requests::default();
        requests.add(now);
        Self {
            kind,
            limits,
            asked_at: now,
            phase: if pods { Phase::Pods } else { Phase::Services },
            since: now,
            pods_limit: longest.max(DEFAULT_GRACE).min(limits.pods),
            pods_used: Duration::ZERO,
            hurry_until: None,
            at_once: false,
            requests,
            tell_at: now + TELL_EVERY,
        }
    }

    /// How the life ends.
    pub fn kind(&self) -> Shutdown {
        self.kind
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What the last acts have, from now on.
    pub fn last_acts(&self, now: Time) -> LastActs {
        let until = self.asked_at + self.limits.total;
        let until = match (self.at_once, self.hurry_until) {
            (true, _) => until.min(now + AT_ONCE_LIMIT),
            (false, Some(_)) => until.min(now + HURRY_LIMIT),
            (false, None) => until,
        };
        LastActs::asked(until, self.requests.clone())
    }

    /// When the phase is over, whatever happens.
    fn until(&self) -> Option<Time> {
        let until = match self.phase {
            Phase::Pods => self.since + self.pods_limit + KUBELETS_WORK,
            Phase::Services => self.since + self.limits.services,
            Phase::Rest => {
                let rest = self.pods_limit.saturating_sub(self.pods_used).max(LEAST_REST);
                let last = (self.asked_at + self.limits.total).saturating_sub(LAST_ACTS);
                last.min(self.since + rest)
            }
            Phase::Over => return None,
        };
        Some(self.hurry_until.map_or(until, |hurry| until.min(hurry)))
    }

    /// What is left of the phase.
    pub fn left(&self, now: Time) -> Duration {
        self.until().map_or(Duration::ZERO, |until| until.saturating_sub(now))
    }

    /// When [`Self::poll`] or [`Self::tells`] has something to do even if nothing happens.
    pub fn deadline(&self) -> Option<Time> {
        self.until().map(|until| until.min(self.tell_at))
    }

    /// Whether it is time to say who is waited for. It then is time again after [`TELL_EVERY`].
    pub fn tells(&mut self, now: Time) -> bool {
        let is_due = self.phase != Phase::Over && now >= self.tell_at;
        if is_due {
            self.tell_at = now + TELL_EVERY;
        }
        is_due
    }

    /// Somebody asked again: pods are no longer waited for, and many requests at once end everything.
    pub fn hurry(&mut self, now: Time) -> Next {
        if self.requests.add(now) && self.phase != Phase::Over {
            self.at_once = true;
            return self.enter(Phase::Over, Next::Finish, now);
        }
        self.hurry_until.get_or_insert(now + HURRY_LIMIT);
        match self.phase {
            Phase::Pods => self.pods_gone(now),
            // They were told; the rest of the hurry is theirs.
            Phase::Services | Phase::Rest | Phase::Over => Next::Wait,
        }
    }

    /// No pod is left, or nobody waits for them any more.
    pub fn pods_gone(&mut self, now: Time) -> Next {
        match self.phase {
            Phase::Pods => {
                self.pods_used = now.saturating_sub(self.since);
                self.enter(Phase::Services, Next::StopServices, now)
            }
            Phase::Rest => self.enter(Phase::Over, Next::Finish, now),
            Phase::Services | Phase::Over => Next::Wait,
        }
    }

    /// `services_down`: no service is left that can be stopped.
    pub fn poll(&mut self, services_down: bool, now: Time) -> Next {
        let is_late = self.until().is_some_and(|until| now >= until);
        match self.phase {
            Phase::Pods | Phase::Rest if is_late => self.pods_gone(now),
            Phase::Services if services_down || is_late => self.enter(Phase::Rest, Next::EndPods, now),
            Phase::Pods | Phase::Services | Phase::Rest | Phase::Over => Next::Wait,
        }
    }

    fn enter(&mut self, phase: Phase, next: Next, now: Time) -> Next {
        (self.phase, self.since, self.tell_at) = (phase, now, now + TELL_EVERY);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Seconds, ShutdownLimits};

    fn at(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    fn started(pods: bool, longest: u64) -> Progress {
        Progress::start(Shutdown::Reboot, pods, Limits::default(), at(longest), at(0))
    }

    /// The next time at which the phase itself is over.
    fn over(progress: &Progress) -> Option<u64> {
        progress.until().map(|until| until.as_secs())
    }

    #[test]
    fn pods_first_then_services_then_over() {
        let mut progress = started(true, 0);
        assert_eq!(progress.poll(true, at(1)), Next::Wait);
        assert_eq!(progress.pods_gone(at(2)), Next::StopServices);
        assert_eq!(progress.poll(false, at(2)), Next::Wait);
        assert_eq!(progress.poll(true, at(3)), Next::EndPods);
        assert_eq!(progress.poll(true, at(3)), Next::Wait);
        assert_eq!(progress.pods_gone(at(4)), Next::Finish);
        assert_eq!(progress.poll(true, at(4)), Next::Wait);
        assert_eq!(progress.deadline(), None);
        assert_eq!(progress.last_acts(at(4)).left(at(4)), at(56), "they have what the others have left");
    }

    #[test]
    fn every_phase_is_bounded_and_the_last_acts_have_their_time() {
        let mut progress = started(true, 0);
        assert_eq!(over(&progress), Some(33));
        assert_eq!(progress.poll(false, at(32)), Next::Wait);
        assert_eq!(progress.poll(false, at(33)), Next::StopServices);
        assert_eq!(over(&progress), Some(43));
        assert_eq!(progress.poll(false, at(43)), Next::EndPods);
        assert_eq!(over(&progress), Some(45));
        assert_eq!(progress.poll(false, at(45)), Next::Finish);
        assert_eq!(progress.last_acts(at(45)).left(at(45)), LAST_ACTS);
    }

    #[test]
    fn the_longest_grace_period_of_a_pod_counts_up_to_the_configs_bound() {
        let longer = ShutdownLimits { pods_limit: Some(Seconds(300)), ..ShutdownLimits::default() };
        let shorter = ShutdownLimits { pods_limit: Some(Seconds(5)), ..ShutdownLimits::default() };
        for (config, grace, limit) in [
            (&longer, 1, 33),
            (&longer, 120, 123),
            (&longer, 86_400, 303),
            (&shorter, 1, 8),
            (&shorter, 86_400, 8),
        ] {
            let progress = Progress::start(Shutdown::Reboot, true, Limits::of(config), at(grace), at(0));
            assert_eq!(over(&progress), Some(limit), "{config:?} {grace}");
        }
    }

    #[test]
    fn without_a_kubelet_pods_have_their_grace_after_the_services() {
        let mut progress = started(false, 120);
        assert_eq!(progress.poll(true, at(3)), Next::EndPods);
        assert_eq!(over(&progress), Some(33));
        assert_eq!(progress.hurry(at(10)), Next::Wait);
        assert_eq!(progress.poll(true, at(10) + HURRY_LIMIT), Next::Finish);
        assert_eq!(progress.last_acts(at(15)).left(at(15)), HURRY_LIMIT);
    }

    #[test]
    fn a_kubelet_that_stopped_no_pod_costs_them_what_it_took_but_for_the_least() {
        let mut progress = started(true, 0);
        assert_eq!(progress.pods_gone(at(20)), Next::StopServices);
        assert_eq!(progress.poll(true, at(21)), Next::EndPods);
        assert_eq!(over(&progress), Some(31));
    }

    #[test]
    fn a_second_request_skips_the_pods_and_shortens_the_rest() {
        let mut progress = started(true, 0);
        assert_eq!(progress.hurry(at(3)), Next::StopServices);
        assert_eq!(over(&progress), Some(8));
        assert_eq!(progress.hurry(at(4)), Next::Wait);
        assert_eq!(over(&progress), Some(8), "asking again never lengthens it");
    }

    #[test]
    fn seven_requests_in_two_seconds_end_it_at_once() {
        let mut progress = started(true, 0);
        let last = (1..7).map(|n| progress.hurry(Duration::from_millis(n * 300))).last();
        assert_eq!(last, Some(Next::Finish));
        assert_eq!(progress.last_acts(at(2)).left(at(2)), AT_ONCE_LIMIT);
    }

    #[test]
    fn who_is_waited_for_is_told_every_ten_seconds_of_a_phase() {
        let mut progress = started(true, 0);
        assert_eq!(progress.deadline(), Some(at(10)));
        assert_eq!(
            [progress.tells(at(9)), progress.tells(at(10)), progress.tells(at(11))],
            [false, true, false]
        );
        assert_eq!(progress.pods_gone(at(15)), Next::StopServices);
        assert_eq!(progress.deadline(), Some(at(25)));
    }
}
