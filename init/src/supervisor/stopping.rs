//! The supervisor's part in a shutdown: who is stopped when, and what each phase says.

use super::{Action, Record, State, Supervisor, Wanted};
use crate::clock::Time;
use crate::services::KUBELET;
use crate::shutdown::{Next, Phase, Progress, Shutdown};
use crate::words::list;
use std::time::Duration;

/// So many parts of the services' time each of them may take in turn: the kubelet, containerd, the log writer. What is
/// left is divided anew, so the last one always has something.
const SHARES: u32 = 2;

impl Supervisor {
    /// A service is stopped once nothing runs that needs it: the kubelet before containerd.
    pub(super) fn may_stop(&self, record: &Record) -> bool {
        record.wanted == Wanted::Down
            && !record.is_over()
            && !self.records.iter().any(|other| {
                other.wanted == Wanted::Down
                    && !other.is_over()
                    && other.service.needs.iter().any(|need| need.service == record.service.id)
            })
    }

    /// How long a service that is told to end now may take, and again after SIGKILL.
    pub(super) fn stop_limit(&self, now: Time) -> Option<Duration> {
        self.shutdown.as_ref().map(|progress| progress.left(now) / SHARES)
    }

    pub(super) fn shutdown_asked(&mut self, kind: Shutdown, by: &str, now: Time, actions: &mut Vec<Action>) {
        if let Some(progress) = &mut self.shutdown {
            let next = progress.hurry(now);
            actions.push(Action::Report(format!("shutdown: asked again by {by}, going quicker")));
            self.follow(next, "not waiting for pods any longer", now, actions);
            self.hasten(now);
            return;
        }
        let pods = self.find(KUBELET).is_some_and(|kubelet| kubelet.state == State::Up);
        let (limits, longest) = self.limits;
        let progress = Progress::start(kind, pods, limits, longest, now);
        actions.push(Action::Report(format!(
            "shutdown: {kind}, asked by {by}; at most {} s",
            limits.total.as_secs()
        )));
        let left = progress.left(now);
        self.shutdown = Some(progress);
        actions.push(Action::RemoveManifests);
        if pods {
            actions.extend([Action::WatchPods, Action::TellPods(left)]);
        } else {
            self.follow(Next::StopServices, "no kubelet to stop pods", now, actions);
        }
    }

    pub(super) fn follow(&mut self, next: Next, why: &str, now: Time, actions: &mut Vec<Action>) {
        match next {
            Next::Wait => {}
            Next::StopServices => {
                actions.push(Action::Report(format!("shutdown: pods done: {why}")));
                for record in &mut self.records {
                    record.want(Wanted::Down, now);
                }
                self.hasten(now);
                actions.extend(self.services_left(now).map(Action::Report));
            }
            Next::EndPods => {
                actions.push(Action::Report(format!("shutdown: services done: {why}")));
                let left = self.shutdown.as_ref().map_or(Duration::ZERO, |progress| progress.left(now));
                actions.extend([Action::EndPods, Action::WatchPods, Action::TellPods(left)]);
            }
            Next::Finish => {
                let finish = |progress: &Progress| Action::Finish(progress.kind(), progress.last_acts(now));
                actions.extend(self.shutdown.as_ref().map(finish));
            }
        }
    }

    /// Says who is waited for, when it is time to.
    pub(super) fn tell_progress(&mut self, now: Time, actions: &mut Vec<Action>) {
        let Some(progress) = &mut self.shutdown else { return };
        if !progress.tells(now) {
            return;
        }
        match progress.phase() {
            Phase::Pods | Phase::Rest => actions.push(Action::TellPods(progress.left(now))),
            Phase::Services => actions.extend(self.services_left(now).map(Action::Report)),
            Phase::Over => {}
        }
    }

    /// The line about those that have not ended yet, the next to end first.
    fn services_left(&self, now: Time) -> Option<String> {
        let left = self.shutdown.as_ref()?.left(now);
        let ids = self.records.iter().rev().filter(|record| !record.is_over());
        let ids: Vec<&str> =
            ids.filter(|record| record.pid.is_some()).map(|record| record.service.id.as_str()).collect();
        (!ids.is_empty())
            .then(|| format!("shutdown: waiting for services: {}; at most {} s", list(&ids), left.as_secs()))
    }

    /// Those that were told to end before have no longer than those that are told now.
    fn hasten(&mut self, now: Time) {
        let Some(limit) = self.stop_limit(now) else { return };
        for record in &mut self.records {
            record.hasten(now + limit);
        }
    }
}
