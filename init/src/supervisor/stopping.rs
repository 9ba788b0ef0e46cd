//! The supervisor's part in a shutdown: who is stopped when, and what each phase says.

use super::{Action, KUBELET, Record, State, Supervisor, Wanted};
use crate::clock::Time;
use crate::shutdown::{Next, Progress, Shutdown};

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

    pub(super) fn shutdown_asked(&mut self, kind: Shutdown, by: &str, now: Time, actions: &mut Vec<Action>) {
        if let Some(progress) = &mut self.shutdown {
            let next = progress.hurry(now);
            actions.push(Action::Report(format!("shutdown: asked again by {by}, going quicker")));
            self.follow(next, "not waiting for pods any longer", now, actions);
            return;
        }
        let pods = self.find(KUBELET).is_some_and(|kubelet| kubelet.state == State::Up);
        self.shutdown = Some(Progress::start(kind, pods, now));
        actions.push(Action::Report(format!("shutdown: {kind}, asked by {by}")));
        actions.push(Action::RemoveManifests);
        if pods {
            actions.push(Action::WatchPods);
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
            }
            Next::EndPods => {
                actions.push(Action::Report(format!("shutdown: services done: {why}")));
                actions.push(Action::EndPods);
                actions.push(Action::WatchPods);
            }
            Next::Finish => {
                actions.extend(self.shutdown.as_ref().map(|progress| Action::Finish(progress.kind())));
            }
        }
    }
}
