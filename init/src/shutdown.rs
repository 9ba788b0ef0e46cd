//! The end of a node's life, as phases with limits: pods by their own grace, then services, then the runtime.
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
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reboot => "reboot",
            Self::PowerOff => "power off",
            Self::Halt => "halt",
        })
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

/// Pods get the default grace period (30 s) and a little more for the kubelet's own work.
pub const PODS_LIMIT: Duration = Duration::from_secs(35);
/// From the request to the hand-over to `halt.rs`, which bounds each of its own steps: seconds in all unless a disk
/// or a server hangs, 45 s and 5 s a disk that stays mounted at the worst.
pub const TOTAL_LIMIT: Duration = Duration::from_secs(50);
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
    /// Handed over to `halt.rs`.
    Over,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait.
    Wait,
    /// Stop all services.
    StopServices,
    /// Hand over.
    Finish,
}

/// A shutdown under way.
#[derive(Debug, Clone)]
pub struct Progress {
    kind: Shutdown,
    phase: Phase,
    pods_until: Time,
    until: Time,
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
            pods_until: now + PODS_LIMIT,
            until: now + TOTAL_LIMIT,
            requests,
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

    /// When [`Self::poll`] has something to do even if nothing happens.
    pub fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Pods => Some(self.pods_until.min(self.until)),
            Phase::Services => Some(self.until),
            Phase::Over => None,
        }
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
        self.until = self.until.min(now + HURRY_LIMIT);
        self.pods_gone()
    }

    /// No pod is left, or nobody waits for them any more.
    pub fn pods_gone(&mut self) -> Next {
        match self.phase {
            Phase::Pods => {
                self.phase = Phase::Services;
                Next::StopServices
            }
            Phase::Services | Phase::Over => Next::Wait,
        }
    }

    /// `services_down`: no service is left that can be stopped.
    pub fn poll(&mut self, services_down: bool, now: Time) -> Next {
        match self.phase {
            Phase::Pods if now >= self.pods_until => self.pods_gone(),
            Phase::Services if services_down || now >= self.until => {
                self.phase = Phase::Over;
                Next::Finish
            }
            Phase::Pods | Phase::Services | Phase::Over => Next::Wait,
        }
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
        assert_eq!(progress.pods_gone(), Next::StopServices);
        assert_eq!(progress.poll(false, at(12)), Next::Wait);
        assert_eq!(progress.poll(true, at(13)), Next::Finish);
        assert_eq!(progress.poll(true, at(14)), Next::Wait);
        assert_eq!(progress.deadline(), None);
    }

    #[test]
    fn every_phase_is_bounded() {
        let mut progress = Progress::start(Shutdown::Reboot, true, at(0));
        assert_eq!(progress.deadline(), Some(PODS_LIMIT));
        assert_eq!(progress.poll(false, PODS_LIMIT), Next::StopServices);
        assert_eq!(progress.deadline(), Some(TOTAL_LIMIT));
        assert_eq!(progress.poll(false, TOTAL_LIMIT), Next::Finish);
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
