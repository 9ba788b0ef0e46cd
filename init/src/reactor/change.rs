//! Changes of the config in the loop: what is watched and told becomes events of the policy, its actions become jobs,
//! other services, and restarts.
//!
//! PID 1 reads nothing of a config here: a job does, and leaves a bounded report.

use super::jobs::Kind;
use super::place::{Place, describe};
use super::{Reactor, events, requests, said};
use crate::sys::{clock, file};
use crate::watch::Seen;
use anyhow::{Context, Result};
use podium_init::clock::Time;
use podium_init::live::guard;
use podium_init::live::{Action, Ask, Event, REPORT_MAX, Report};
use podium_init::manifests::is_ours;
use podium_init::paths;
use podium_init::services::{KUBELET, LOG, Service};
use podium_init::shutdown::Shutdown;
use podium_init::supervisor::{self, Exit, Id, State, Wanted};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// The service that says whether all pods run.
const PODS_HELPER: &str = "pods";
/// Moving some files takes milliseconds; one job that hangs keeps the next from being started.
const UNBLOCK_LIMIT: Duration = Duration::from_secs(30);

impl Reactor {
    /// Everything about changes in one turn.
    pub(super) fn change(&mut self, watch: bool, now: Time) {
        // At the end the manifests go, and nothing shall bring them back.
        if self.supervisor.shutting_down().is_some() {
            self.watch = None;
            self.waiting.clear();
            return;
        }
        let mut statuses = self.supervisor.statuses();
        let kubelet = statuses.any(|status| status.service == KUBELET && status.state == State::Up);
        drop(statuses);
        let mut statuses = self.supervisor.statuses();
        let helper = statuses.any(|status| status.service == PODS_HELPER && status.state == State::Up);
        drop(statuses);
        self.tell_booted(kubelet, now);
        if !helper && self.policy.has_pods() {
            self.decide(Event::Pods(false), now);
        }
        if kubelet != self.policy.has_kubelet() {
            self.decide(Event::Kubelet(kubelet), now);
        }
        if watch {
            self.take_seen(self.policy.is_busy(), now);
        }
        if self.policy.deadline().is_some_and(|deadline| deadline <= now) {
            self.decide(Event::Deadline, now);
        }
        if self.guard.deadline().is_some_and(|deadline| deadline <= now) {
            self.guard_step(guard::Event::Deadline, now);
        }
        self.change_for_clients();
    }

    /// An event for those who wait for the end of the boot. Without a config there is no kubelet to wait for.
    fn tell_booted(&mut self, kubelet: bool, now: Time) {
        let is_to_come = self.places.iter().any(|place| place.service == KUBELET);
        if !self.booted && (kubelet || !is_to_come) {
            self.booted = true;
            let what = if kubelet { "the kubelet is up" } else { "there is no kubelet to start" };
            self.ring.push(events::Kind::Node, None, &format!("boot finished: {what}"), now);
        }
    }

    /// Starts the next change that a client has asked for, once none runs.
    pub(super) fn change_for_clients(&mut self) {
        while self.supervisor.shutting_down().is_none()
            && !self.policy.is_busy()
            && self.jobs.has_room(Kind::Change)
        {
            let Some((ask, connection, _)) = self.waiting.pop_front() else { return };
            self.change_for(ask, connection);
        }
    }

    /// `init pods` has told whether all of them run.
    pub(super) fn pods_are(&mut self, id: Id, up: bool) {
        if self.places.get(id.0).is_some_and(|place| place.service == PODS_HELPER) {
            self.decide(Event::Pods(up), clock::now());
        }
    }

    /// Starts a change that a client asks for.
    fn change_for(&mut self, ask: Ask, connection: OwnedFd) {
        match self.start_change(&ask, Some(connection)) {
            Ok(()) => self.decide(Event::Started(ask), clock::now()),
            // The connection is gone with it: the client sees its end.
            Err(error) => self.say(format!("config: no change: {error:#}")),
        }
    }

    /// What others had in the manifest directory before the node started may be copies of our manifests; PID 1 reads
    /// none of it, and the kubelet does not run yet.
    pub(super) fn look_at_foreign(&mut self) {
        if std::mem::take(&mut self.touched) {
            self.decide(Event::ManifestsChanged, clock::now());
        }
    }

    /// What the kubelet may hang on is dealt with at once, whatever else is under way.
    pub(super) fn guard_step(&mut self, event: guard::Event, now: Time) {
        if self.supervisor.shutting_down().is_some() {
            return;
        }
        for action in self.guard.step(event, now) {
            match action {
                guard::Action::Restart => self.restart(KUBELET),
                guard::Action::Unblock => {
                    if let Err(error) =
                        self.jobs.start(Kind::Unblock, &["unblock"], None, Some(UNBLOCK_LIMIT))
                    {
                        self.say(format!("{}: {error:#}; tried again", paths::MANIFESTS));
                        self.guard_step(guard::Event::Looked(false), now);
                    }
                }
            }
        }
    }

    /// A change is done, well or not.
    pub(super) fn change_ended(&mut self, exit: Exit) {
        let now = clock::now();
        // What it did itself is not news.
        self.take_seen(true, now);
        let touched = std::mem::take(&mut self.touched);
        let result = match exit {
            Exit::Code(0) => report().map_err(|error| format!("{error:#}")),
            exit => Err(exit.to_string()),
        };
        // Whether it was the change or somebody else, only a look can tell; one that finds nothing to write stirs up
        // nothing.
        if touched {
            self.decide(Event::ManifestsChanged, now);
        }
        let waits = match &result {
            Ok(Report::Applied(applied)) => Some(applied.waits),
            Ok(Report::Repaired { waits, .. }) => Some(*waits),
            Ok(Report::Nothing { .. } | Report::Staged { .. } | Report::Proved | Report::Kept) => None,
            // It is tried again; until then a look might find nothing but what this one has left.
            Ok(Report::Failed { .. }) | Err(_) => Some(false),
        };
        self.waits = waits.unwrap_or(self.waits);
        self.decide(Event::Ended(result), now);
        self.wait_for_held();
    }

    /// Has somebody look until what the last change has left undone can be done. One that looks already sees what is
    /// new.
    pub(super) fn wait_for_held(&mut self) {
        if !self.waits || self.supervisor.shutting_down().is_some() || !self.jobs.has_room(Kind::Wait) {
            return;
        }
        if let Err(error) = self.jobs.start(Kind::Wait, &["wait"], None, None) {
            self.say(format!("pods: {error:#}; those that are held are looked at later"));
            self.decide(Event::Waited(false), clock::now());
        }
    }

    /// Whoever looked has ended; what can be done now decides a change, which says what is left.
    pub(super) fn waited(&mut self, exit: Exit) {
        if self.supervisor.shutting_down().is_some() {
            return;
        }
        if exit != Exit::Code(0) {
            self.say(format!("pods: whoever looks for what is held has ended: {exit}"));
        }
        self.decide(Event::Waited(exit == Exit::Code(0)), clock::now());
    }

    /// Takes what inotify has. While a change runs, files of ours are its business.
    fn take_seen(&mut self, busy: bool, now: Time) {
        let Some(watch) = &mut self.watch else { return };
        for seen in watch.seen() {
            match seen {
                Seen::Config(path) => self.decide(Event::FileChanged(path), now),
                // What is being written aside, and what the kubelet does not look at.
                Seen::Manifest(name) | Seen::Vanished(name) if name.starts_with('.') => {}
                Seen::Vanished(name) => {
                    let path = format!("{}/{name}", paths::MANIFESTS);
                    let line =
                        format!("{path}: came and went; a kubelet may hang on it, so it is started again");
                    self.say(line);
                    self.guard_step(guard::Event::CameAndWent, now);
                }
                Seen::Blocking => self.guard_step(guard::Event::Blocking, now),
                Seen::Manifest(name) if busy && is_ours(&name) => self.touched = true,
                Seen::Manifest(_) => self.decide(Event::ManifestsChanged, now),
                Seen::Everything => {
                    self.guard_step(guard::Event::Blocking, now);
                    self.decide(Event::ManifestsChanged, now);
                }
            }
        }
    }

    fn decide(&mut self, event: Event, now: Time) {
        let mut actions = self.policy.step(event, now);
        if self.supervisor.shutting_down().is_some() {
            actions.retain(|action| matches!(action, Action::Report(_)));
        }
        for action in actions {
            match action {
                Action::Start(ask) => {
                    if let Err(error) = self.start_change(&ask, None) {
                        self.decide(Event::Ended(Err(format!("{error:#}"))), now);
                    }
                }
                Action::Adopt(services, restart) => self.adopt(services, &restart, now),
                Action::Report(line) => self.say(line),
                Action::Reboot(why) => {
                    self.end(Shutdown::Reboot, format!("a new config: {why}"));
                }
            }
        }
    }

    fn start_change(&mut self, ask: &Ask, connection: Option<OwnedFd>) -> Result<()> {
        let old = Path::new(paths::CHANGE_REPORT);
        match std::fs::remove_file(old) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", old.display()));
            }
            _ => {}
        }
        let ask = serde_json::to_string(ask)?;
        self.jobs.start(Kind::Change, &["apply", &ask], connection, Some(requests::CHANGE_LIMIT))
    }

    /// Takes the services of another config, and restarts those named.
    fn adopt(&mut self, services: Option<Vec<Service>>, restart: &[String], now: Time) {
        if let Some(services) = services {
            let gone = |place: &Place| services.iter().all(|service| service.id != place.service);
            let gone: Vec<usize> =
                (0..self.places.len()).filter(|at| self.places.get(*at).is_some_and(gone)).collect();
            for at in gone {
                if let Some(place) = self.places.get_mut(at) {
                    place.dropped = true;
                }
                self.step(supervisor::Event::Want(Id(at), Wanted::Down));
            }
            let before = self.places.len();
            services.into_iter().for_each(|service| self.adopt_one(service, now));
            if self.places.len() > before {
                // It looks for pipes when it starts.
                self.restart(LOG);
            }
        }
        restart.iter().for_each(|service| self.restart(service));
    }

    fn adopt_one(&mut self, service: Service, now: Time) {
        said(describe(&service));
        let (id, cgroup) = (service.id.clone(), service.cgroup.clone());
        let place = self.places.iter().position(|place| place.service == id);
        if place.is_none() {
            let mut place = Place::new(&service);
            said(place.equip());
            self.places.push(place);
        }
        let at = self.supervisor.adopt(service, now);
        let Some(place) = self.places.get_mut(at.0) else { return };
        place.cgroup = cgroup;
        // One that somebody has stopped stays so; one that an earlier config had no use for is wanted again.
        if std::mem::take(&mut place.dropped) {
            self.step(supervisor::Event::Want(at, Wanted::Up));
        }
    }

    fn restart(&mut self, service: &str) {
        let Some(at) = self.places.iter().position(|place| place.service == service) else { return };
        let is_wanted = self.supervisor.statuses().nth(at).is_some_and(|status| status.wanted == Wanted::Up);
        if is_wanted {
            self.step(supervisor::Event::Restart(Id(at)));
        }
    }
}

/// What the change that has ended left behind.
fn report() -> Result<Report> {
    let path = Path::new(paths::CHANGE_REPORT);
    let bytes = file::read(path, REPORT_MAX)?;
    serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))
}
