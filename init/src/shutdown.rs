//! The end of a node's life, as phases with limits: pods by the kubelet and their own grace, then services, then what
//! no kubelet has stopped, by SIGTERM and the same grace.
//!
//! [`crate::supervisor`] drives this; `halt.rs` does what comes after. The sum of all limits is bounded, so that no
//! pod, service or mount can keep a machine from going down.

use crate::clock::Time;
use std::fmt;
use std::time::Duration;

/// How the node's life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Start again.
    Reboot,
    /// Switch the power off.
    PowerOff,
    /// Stop and keep the power on.
    Halt,
    /// Forget what is on the data partitions, then start again or switch the power off.
    Reset(Reset),
}

/// What a reset forgets. The next boot makes these partitions anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    /// The machine config, the PKI, what else names this node.
    pub state: bool,
    /// Images, containers, volumes, logs.
    pub ephemeral: bool,
    /// Start again after it; else switch the power off.
    pub reboot: bool,
}

impl Reset {
    /// The label of the partition that [`Self::state`] is about.
    pub const STATE: &str = "STATE";
    /// The label of the partition that [`Self::ephemeral`] is about.
    pub const EPHEMERAL: &str = "EPHEMERAL";

    /// All of them.
    pub const LABELS: [&str; 2] = [Self::STATE, Self::EPHEMERAL];

    /// A reset of those of these labels that are ours.
    pub fn of(labels: &[&str], reboot: bool) -> Self {
        Self { state: labels.contains(&Self::STATE), ephemeral: labels.contains(&Self::EPHEMERAL), reboot }
    }

    /// The labels of the partitions to wipe.
    pub fn partitions(self) -> Vec<&'static str> {
        let all = [(self.state, Self::STATE), (self.ephemeral, Self::EPHEMERAL)];
        all.into_iter().filter(|(is_meant, _)| *is_meant).map(|(_, label)| label).collect()
    }

    /// What comes after it.
    pub fn then(self) -> Shutdown {
        if self.reboot { Shutdown::Reboot } else { Shutdown::PowerOff }
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reboot => f.write_str("reboot"),
            Self::PowerOff => f.write_str("power off"),
            Self::Halt => f.write_str("halt"),
            Self::Reset(reset) => {
                write!(f, "reset of {}, then {}", reset.partitions().join(" and "), reset.then())
            }
        }
    }
}

/// What a signal to PID 1 asks for, and the words for who asked. The real-time ones are those that container tools
/// send (SIGRTMIN+3 halt, +4 power off, +5 reboot; glibc's SIGRTMIN is 34). Every other signal asks for nothing.
pub fn request(signal: i32) -> Option<(Shutdown, &'static str)> {
    match signal {
        // The kernel sends SIGINT for Ctrl-Alt-Del once it was told to.
        2 => Some((Shutdown::Reboot, "Ctrl-Alt-Del")),
        15 => Some((Shutdown::PowerOff, "signal TERM")),
        30 => Some((Shutdown::PowerOff, "signal PWR")),
        37 => Some((Shutdown::Halt, "signal RTMIN+3")),
        38 => Some((Shutdown::PowerOff, "signal RTMIN+4")),
        39 => Some((Shutdown::Reboot, "signal RTMIN+5")),
        _ => None,
    }
}

/// What a pod has that asks for nothing: Kubernetes's `terminationGracePeriodSeconds`.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// A node that was told to go down does so while somebody still waits for it, whatever a pod asks for.
pub const MOST_GRACE: Duration = Duration::from_secs(300);
/// After its grace period a pod is killed; this is for the kubelet's own work on it.
const KUBELETS_WORK: Duration = Duration::from_secs(5);
/// The kubelet, containerd and the log writer go one after the other, each with its own limit and that of a SIGKILL.
pub const SERVICES_LIMIT: Duration = Duration::from_secs(45);
/// From the request to the hand-over to `halt.rs` at the worst, which bounds its own steps: pods that neither the
/// kubelet nor SIGTERM ends, and services that only SIGKILL does.
pub const TOTAL_LIMIT: Duration =
    Duration::from_secs(2 * (MOST_GRACE.as_secs() + KUBELETS_WORK.as_secs()) + SERVICES_LIMIT.as_secs());
/// What is left for the services once somebody has asked a second time.
pub const HURRY_LIMIT: Duration = Duration::from_secs(5);
/// This many requests within [`AT_ONCE_WITHIN`] skip every phase.
pub const AT_ONCE_REQUESTS: usize = 7;
/// See [`AT_ONCE_REQUESTS`].
pub const AT_ONCE_WITHIN: Duration = Duration::from_secs(2);

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
    phase: Phase,
    since: Time,
    /// How long pods may take: the longest grace period, and the kubelet's work.
    pods_limit: Duration,
    /// Somebody has asked again.
    hurry_until: Option<Time>,
    requests: [Option<Time>; AT_ONCE_REQUESTS],
}

impl Progress {
    /// Starts; `pods`: there is a kubelet that can stop them.
    pub fn start(kind: Shutdown, pods: bool, now: Time) -> Self {
        let mut requests = [None; AT_ONCE_REQUESTS];
        requests[0] = Some(now);
        Self {
            kind,
            phase: if pods { Phase::Pods } else { Phase::Services },
            since: now,
            pods_limit: DEFAULT_GRACE + KUBELETS_WORK,
            hurry_until: None,
            requests,
        }
    }

    /// The longest grace period among the pods became known; one of less than the default shortens nothing, because
    /// nobody knows those of files of others.
    pub fn grant(&mut self, grace: Duration) {
        self.pods_limit = grace.clamp(DEFAULT_GRACE, MOST_GRACE) + KUBELETS_WORK;
    }

    /// How the life ends.
    pub fn kind(&self) -> Shutdown {
        self.kind
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When [`Self::poll`] has something to do even if nothing happens.
    pub fn deadline(&self) -> Option<Time> {
        let limit = match self.phase {
            Phase::Pods | Phase::Rest => self.pods_limit,
            Phase::Services => SERVICES_LIMIT,
            Phase::Over => return None,
        };
        let until = self.since + limit;
        Some(self.hurry_until.map_or(until, |hurry| until.min(hurry)))
    }

    /// Somebody asked again: pods are no longer waited for, and many requests at once end everything.
    pub fn hurry(&mut self, now: Time) -> Next {
        self.requests.rotate_right(1);
        self.requests[0] = Some(now);
        let all_recent =
            self.requests.iter().all(|at| at.is_some_and(|at| now.saturating_sub(at) <= AT_ONCE_WITHIN));
        if all_recent && self.phase != Phase::Over {
            self.phase = Phase::Over;
            return Next::Finish;
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
            Phase::Pods => self.enter(Phase::Services, Next::StopServices, now),
            Phase::Rest => self.enter(Phase::Over, Next::Finish, now),
            Phase::Services | Phase::Over => Next::Wait,
        }
    }

    /// `services_down`: no service is left that can be stopped.
    pub fn poll(&mut self, services_down: bool, now: Time) -> Next {
        let is_late = self.deadline().is_some_and(|until| now >= until);
        match self.phase {
            Phase::Pods | Phase::Rest if is_late => self.pods_gone(now),
            Phase::Services if services_down || is_late => self.enter(Phase::Rest, Next::EndPods, now),
            Phase::Pods | Phase::Services | Phase::Rest | Phase::Over => Next::Wait,
        }
    }

    fn enter(&mut self, phase: Phase, next: Next, now: Time) -> Next {
        (self.phase, self.since) = (phase, now);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pods_first_then_services_then_over() {
        let mut progress = Progress::start(Shutdown::PowerOff, true, at(10));
        assert_eq!(progress.poll(true, at(11)), Next::Wait);
        assert_eq!(progress.pods_gone(at(12)), Next::StopServices);
        assert_eq!(progress.poll(false, at(12)), Next::Wait);
        assert_eq!(progress.poll(true, at(13)), Next::EndPods);
        assert_eq!(progress.poll(true, at(13)), Next::Wait);
        assert_eq!(progress.pods_gone(at(14)), Next::Finish);
        assert_eq!(progress.poll(true, at(14)), Next::Wait);
        assert_eq!(progress.deadline(), None);
    }

    #[test]
    fn every_phase_is_bounded() {
        let mut progress = Progress::start(Shutdown::Reboot, true, at(0));
        assert_eq!(progress.deadline(), Some(at(35)));
        assert_eq!(progress.poll(false, at(34)), Next::Wait);
        assert_eq!(progress.poll(false, at(35)), Next::StopServices);
        assert_eq!(progress.deadline(), Some(at(35) + SERVICES_LIMIT));
        assert_eq!(progress.poll(false, at(80)), Next::EndPods);
        assert_eq!(progress.deadline(), Some(at(80 + 35)));
        assert_eq!(progress.poll(false, at(80 + 35)), Next::Finish);
    }

    #[test]
    fn the_longest_grace_period_of_a_pod_counts_up_to_a_bound() {
        for (grace, limit) in [(1, 35), (30, 35), (120, 125), (86_400, 305)] {
            let mut progress = Progress::start(Shutdown::Reboot, true, at(7));
            progress.grant(at(grace));
            assert_eq!(progress.deadline(), Some(at(7 + limit)), "{grace}");
        }
    }

    #[test]
    fn without_a_kubelet_pods_have_their_grace_after_the_services() {
        let mut progress = Progress::start(Shutdown::Reboot, false, at(0));
        progress.grant(at(120));
        assert_eq!(progress.poll(true, at(3)), Next::EndPods);
        assert_eq!(progress.deadline(), Some(at(3 + 125)));
        assert_eq!(progress.hurry(at(10)), Next::Wait);
        assert_eq!(progress.deadline(), Some(at(10) + HURRY_LIMIT));
        assert_eq!(progress.poll(true, at(10) + HURRY_LIMIT), Next::Finish);
    }

    #[test]
    fn a_second_request_skips_the_pods_and_shortens_the_rest() {
        let mut progress = Progress::start(Shutdown::Reboot, true, at(0));
        assert_eq!(progress.hurry(at(3)), Next::StopServices);
        assert_eq!(progress.deadline(), Some(at(3) + HURRY_LIMIT));
        assert_eq!(progress.hurry(at(4)), Next::Wait);
        assert_eq!(progress.deadline(), Some(at(3) + HURRY_LIMIT), "asking again never lengthens it");
    }

    #[test]
    fn seven_requests_in_two_seconds_end_it_at_once_and_seven_slow_ones_do_not() {
        let mut progress = Progress::start(Shutdown::Reboot, true, at(0));
        let last = (1..7).map(|n| progress.hurry(Duration::from_millis(n * 300))).last();
        assert_eq!(last, Some(Next::Finish));
        let mut progress = Progress::start(Shutdown::Reboot, true, at(0));
        let last = (1..7).map(|n| progress.hurry(at(n))).last();
        assert_eq!(last, Some(Next::Wait));
    }
}
