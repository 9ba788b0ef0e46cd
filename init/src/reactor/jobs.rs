//! One-shot children of the loop: what reads a disk or takes time is done by a process of its own.
//!
//! A job is this binary with another verb; the loop starts it, hands over a client's connection, and forgets both
//! until it is reaped. Their number is bounded, and so is their time where they have no end of their own. At the end
//! of the node nobody waits for one: `halt.rs` kills them with everybody else.

use crate::sys::{clock, process};
use anyhow::Result;
use podium_init::clock::Time;
use podium_init::control::Role;
use podium_init::supervisor::Pid;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Answers at a time for root. Each is a process of about a MiB; some follow a log for as long as somebody looks.
const ANSWERS_MAX: usize = 8;
/// As [`ANSWERS_MAX`], for each role of the network API: each of its callers may follow the pods' states.
const ROLE_ANSWERS_MAX: usize = 4;
/// Changes at a time: each starts from the state that the one before it has left.
const CHANGES_MAX: usize = 1;
/// Looks at what can hang the kubelet at a time: one sees all that is there.
const UNBLOCKS_MAX: usize = 1;
/// One looks for everything that is waited for.
const WAITS_MAX: usize = 1;
const SIGKILL: i32 = 9;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It tells a client of this role something.
    Answer(Role),
    /// It changes the node's config.
    Change,
    /// It moves what can hang the kubelet out of its sight.
    Unblock,
    /// It waits for what a change has left undone.
    Wait,
}

/// One that runs.
#[derive(Debug)]
pub(super) struct Job {
    pid: Pid,
    pub(super) kind: Kind,
    /// Killed then.
    until: Option<Time>,
    limit: Duration,
}

/// All that run.
#[derive(Debug, Default)]
pub(super) struct Jobs(Vec<Job>);

impl Jobs {
    /// Whether one more of this kind may be started.
    pub(super) fn has_room(&self, kind: Kind) -> bool {
        let most = match kind {
            Kind::Answer(Role::Root) => ANSWERS_MAX,
            Kind::Answer(_) => ROLE_ANSWERS_MAX,
            Kind::Change => CHANGES_MAX,
            Kind::Unblock => UNBLOCKS_MAX,
            Kind::Wait => WAITS_MAX,
        };
        self.0.iter().filter(|job| job.kind == kind).count() < most
    }

    /// Starts one, with a client's connection as its descriptors 0 and 1 if there is one. `limit`: when it is killed;
    /// without one it ends by itself, at the latest when its client is gone. The caller has asked [`Self::has_room`].
    ///
    /// # Errors
    /// No memory, process or descriptor left.
    pub(super) fn start(
        &mut self,
        kind: Kind,
        args: &[&str],
        connection: Option<OwnedFd>,
        limit: Option<Duration>,
    ) -> Result<()> {
        let pid = match connection {
            Some(connection) => process::spawn_with(args, connection)?,
            None => process::spawn_ourselves(args)?,
        };
        let until = limit.map(|limit| clock::now() + limit);
        self.0.push(Job { pid, kind, until, limit: limit.unwrap_or_default() });
        Ok(())
    }

    /// Takes out the one that has ended, if it was one of these.
    pub(super) fn ended(&mut self, pid: Pid) -> Option<Job> {
        let place = self.0.iter().position(|job| job.pid == pid)?;
        Some(self.0.swap_remove(place))
    }

    /// Kills those of a kind; they are reaped like those that end by themselves.
    pub(super) fn kill(&mut self, kind: Kind) {
        for job in self.0.iter().filter(|job| job.kind == kind) {
            // One that has ended meanwhile is as good.
            drop(process::signal(job.pid, SIGKILL));
        }
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.0.iter().filter_map(|job| job.until).min()
    }

    /// Kills those whose time is over; what is to be said of it comes back.
    pub(super) fn expire(&mut self, now: Time) -> Vec<String> {
        let mut lines = Vec::new();
        for job in self.0.iter_mut().filter(|job| job.until.is_some_and(|until| until <= now)) {
            // Once: it is reaped, or it is in D state and nothing helps.
            job.until = None;
            lines.push(format!("{:?} job {} killed, not done after {:?}", job.kind, job.pid, job.limit));
            if let Err(error) = process::signal(job.pid, SIGKILL) {
                lines.push(error.to_string());
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    /// Starts this very test program, which runs none of its tests.
    fn start(jobs: &mut Jobs, kind: Kind, limit: Option<Duration>) -> Pid {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        jobs.start(kind, &["--exact", "none"], Some(ours.into()), limit).unwrap();
        let mut said = String::new();
        theirs.read_to_string(&mut said).unwrap();
        assert!(said.contains("running 0 tests"), "{said}");
        jobs.0.last().unwrap().pid
    }

    #[test]
    fn there_is_one_change_at_a_time_and_a_bounded_number_of_answers() {
        let mut jobs = Jobs::default();
        let change = start(&mut jobs, Kind::Change, None);
        let answer = Kind::Answer(Role::Root);
        assert!(!jobs.has_room(Kind::Change) && jobs.has_room(answer));
        for role in [Role::Reader, Role::Admin] {
            for _ in 0..ROLE_ANSWERS_MAX {
                start(&mut jobs, Kind::Answer(role), None);
            }
            assert!(!jobs.has_room(Kind::Answer(role)));
        }
        assert!(jobs.has_room(Kind::Answer(Role::Operator)), "each role has its own");
        let answers: Vec<Pid> = (0..ANSWERS_MAX).map(|_| start(&mut jobs, answer, None)).collect();
        assert!(!jobs.has_room(answer));
        assert_eq!(jobs.deadline(), None, "nothing to wake for");
        assert_eq!(jobs.ended(change).map(|job| job.kind), Some(Kind::Change));
        assert_eq!(jobs.ended(answers[3]).map(|job| job.kind), Some(answer));
        assert!(jobs.ended(answers[3]).is_none() && jobs.ended(1).is_none());
        assert!(jobs.has_room(Kind::Change) && jobs.has_room(answer));
    }

    #[test]
    fn one_that_takes_too_long_is_killed_once() {
        let mut jobs = Jobs::default();
        let pid = start(&mut jobs, Kind::Change, Some(Duration::from_secs(5)));
        let until = jobs.deadline().unwrap();
        assert_eq!(jobs.expire(until - Duration::from_nanos(1)), [""; 0]);
        let lines = jobs.expire(until);
        assert_eq!(lines[0], format!("Change job {pid} killed, not done after 5s"));
        assert_eq!((jobs.expire(until).len(), jobs.deadline()), (0, None));
        assert!(!jobs.has_room(Kind::Change), "until it is reaped");
    }
}
