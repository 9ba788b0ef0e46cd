//! The whole policy of supervision: events in, actions out, under a clock that is handed in.
//!
//! What is wanted of a service ([`Wanted`]) is kept apart from what it is ([`State`]):
//! - `Down`: no process. If it is wanted up, it waits for its needs.
//! - `Starting`: a start was asked for; up once its `Readiness` says so, else stopped at its limit.
//! - `Up`: ready. A step (`Restart::OnFailure`) that has ended well stays up, without a process.
//! - `Stopping`: told to end; SIGKILL at its limit.
//! - `Backoff`: ended unasked; started again at `until`. There is no last try. Many failures in a row are a crash loop,
//!   which is told as such.
//! - `Failed`: not even SIGKILL ended it (a process in D state). It is waited for, and nothing waits for it.
//!
//! [`Supervisor::step`] never blocks, fails or reads a clock. Only the reactor performs an [`Action`], and its
//! outcome comes back as an [`Event`].

mod exit;
mod health;
mod reason;
mod record;
mod stopping;
#[cfg(test)]
mod tests;

use crate::clock::Time;
use crate::services::Service;
use crate::shutdown::{LastActs, Limits, Next, PHASES, Phase, Progress, Shutdown};
pub use exit::Exit;
pub use health::Health;
use record::Record;
pub use record::{Death, MAX_DEATHS};
use std::time::Duration;

/// A process id.
pub type Pid = i32;

/// A service: its place in the list that [`Supervisor::new`] was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub usize);

/// What is wanted of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It should run.
    Up,
    /// It should not.
    Down,
}

/// What a service is; the module's text says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No process.
    Down,
    /// Not ready yet; given up at `until`.
    Starting {
        /// The end of its `ready_limit`, if it has one.
        until: Option<Time>,
    },
    /// Ready.
    Up,
    /// Told to end.
    Stopping {
        /// When SIGKILL follows, or, once `killed`, when nobody waits any longer.
        until: Time,
        /// SIGKILL was sent.
        killed: bool,
    },
    /// Started again at `until`.
    Backoff {
        /// The next start.
        until: Time,
    },
    /// SIGKILL did not end it.
    Failed,
}

impl State {
    /// The word that names it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Starting { .. } => "starting",
            Self::Up => "up",
            Self::Stopping { .. } => "stopping",
            Self::Backoff { .. } => "backoff",
            Self::Failed => "failed",
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A [`Action::Spawn`] gave this process.
    Spawned(Id, Pid),
    /// A [`Action::Spawn`] gave none, for this reason.
    SpawnFailed(Id, String),
    /// The chain loader is about to execute the service's program.
    Executed(Id),
    /// The chain loader failed; its end follows.
    StageFailed(Id, String),
    /// The service said `READY=1`.
    Ready(Id),
    /// The prober has asked the service at a time, and this was wrong, if anything.
    Probed(Id, Time, Option<String>),
    /// A child ended; it may be nobody's.
    Exited(Pid, Exit),
    /// Somebody wants something else of a service. It is about this one alone: what needs it stays as it is.
    Want(Id, Wanted),
    /// Somebody wants a service to be ended and started anew; it alone, too.
    Restart(Id),
    /// No pod has a process left.
    PodsGone,
    /// What holds for a shutdown that begins from now on; and the longest grace period that a pod of ours asks for.
    Limits(Limits, Duration),
    /// The node's life shall end. The text names who asked.
    Shutdown(Shutdown, String),
    /// [`Supervisor::deadline`] has come.
    Deadline,
}

/// What the reactor shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the chain loader for this service; answer with `Spawned` or `SpawnFailed` before any other event.
    Spawn(Id),
    /// Send a signal to one process.
    Signal(Pid, i32),
    /// SIGKILL to all that is in the service's cgroup (or, without cgroups, in the process group).
    KillGroup(Id, Pid),
    /// One line for the boot log.
    Report(String),
    /// Take all manifests out of the kubelet's sight, so that it stops the pods.
    RemoveManifests,
    /// SIGTERM to every process of a pod that is left.
    EndPods,
    /// Say `PodsGone` when the pods' cgroup is empty or absent.
    WatchPods,
    /// One line about the pods that have processes left, if there are any; they have so long still.
    TellPods(Duration),
    /// Leave the loop, for the last acts.
    Finish(Shutdown, LastActs),
}

/// What the outside may know of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status<'a> {
    /// Its id.
    pub service: &'a str,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// What it is.
    pub state: State,
    /// Since when.
    pub since: Time,
    /// Its main process.
    pub pid: Option<Pid>,
    /// Starts after the first one.
    pub restarts: u64,
    /// Its last deaths, oldest first, at most [`MAX_DEATHS`].
    pub deaths: &'a [Death],
    /// Whether it does its work; `None`: it is not asked.
    pub health: Option<Health<'a>>,
}

const SIGKILL: i32 = 9;
/// SIGKILL works at once or, on a process in D state, perhaps never.
pub const KILL_LIMIT: Duration = Duration::from_secs(5);

/// All services and, at the end, the shutdown.
#[derive(Debug)]
pub struct Supervisor {
    records: Vec<Record>,
    limits: (Limits, Duration),
    shutdown: Option<Progress>,
}

impl Supervisor {
    /// All services are down and wanted up from `now` on; nothing happens before the first [`Self::step`].
    pub fn new(services: Vec<Service>, now: Time) -> Self {
        Self {
            records: services.into_iter().map(|service| Record::new(service, now)).collect(),
            limits: (Limits::default(), Duration::ZERO),
            shutdown: None,
        }
    }

    /// Starts what needs nothing.
    pub fn begin(&mut self, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        self.settle(now, &mut actions);
        actions
    }

    /// Takes one event; bounded work, and everything that follows from it at once is in the answer.
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Exited(pid, exit) => {
                if let Some(place) = self.records.iter().position(|record| record.pid == Some(pid)) {
                    self.with(Id(place), |record| record.exited(Id(place), exit, now, &mut actions));
                }
            }
            Event::Spawned(id, pid) => self.with(id, |record| record.spawned(pid, &mut actions)),
            Event::SpawnFailed(id, error) => {
                self.with(id, |record| record.spawn_failed(error, now, &mut actions));
            }
            Event::Executed(id) => self.with(id, |record| record.executed(now, &mut actions)),
            Event::StageFailed(id, text) => self.with(id, |record| record.stage_failed(text, &mut actions)),
            Event::Ready(id) => {
                self.with(id, |record| record.ready(now, &mut actions));
                self.restart_those_without(id, now, &mut actions);
            }
            // A node that goes down is slow, and what it ends it ends by its own rules.
            Event::Probed(..) if self.shutdown.is_some() => {}
            Event::Probed(id, asked, failure) => {
                self.with(id, |record| record.probed(asked, failure.as_deref(), now, &mut actions));
            }
            Event::Want(id, wanted) => {
                // Once the node goes down, nothing is started any more.
                let wanted = if self.shutdown.is_some() { Wanted::Down } else { wanted };
                self.with(id, |record| record.want(wanted, now));
            }
            // Of a node that goes down nothing is started any more.
            Event::Restart(_) if self.shutdown.is_some() => {}
            Event::Restart(id) => self.with(id, |record| record.restart(now, &mut actions)),
            Event::PodsGone => {
                let next = self.shutdown.as_mut().map_or(Next::Wait, |progress| progress.pods_gone(now));
                self.follow(next, "no pod is left", now, &mut actions);
            }
            Event::Limits(limits, longest) => self.limits = (limits, longest),
            Event::Shutdown(kind, by) => self.shutdown_asked(kind, &by, now, &mut actions),
            Event::Deadline => {
                let most = self.stop_limit(now);
                for (place, record) in self.records.iter_mut().enumerate() {
                    record.deadline_passed(Id(place), most, now, &mut actions);
                }
            }
        }
        self.settle(now, &mut actions);
        self.tell_progress(now, &mut actions);
        actions
    }

    /// Takes another description of a service, for its next start; one with an id that is not known yet is added and
    /// wanted up. Nothing is started before the next [`Self::step`].
    pub fn adopt(&mut self, service: Service, now: Time) -> Id {
        match self.records.iter().position(|record| record.service.id == service.id) {
            Some(place) => {
                self.with(Id(place), |record| record.service = service);
                Id(place)
            }
            None => {
                self.records.push(Record::new(service, now));
                Id(self.records.len() - 1)
            }
        }
    }

    /// When [`Event::Deadline`] is due, if ever.
    pub fn deadline(&self) -> Option<Time> {
        let services = self.records.iter().filter_map(|record| self.record_deadline(record));
        services.chain(self.shutdown.as_ref().and_then(Progress::deadline)).min()
    }

    /// The service's data.
    pub fn service(&self, id: Id) -> Option<&Service> {
        self.records.get(id.0).map(|record| &record.service)
    }

    /// All services, in the order of their ids.
    pub fn statuses(&self) -> impl Iterator<Item = Status<'_>> {
        self.records.iter().map(Record::status)
    }

    /// The shutdown's phase, if there is one.
    pub fn shutting_down(&self) -> Option<(Shutdown, Phase)> {
        self.shutdown.as_ref().map(|progress| (progress.kind(), progress.phase()))
    }

    fn with(&mut self, id: Id, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.records.get_mut(id.0) {
            change(record);
        }
    }

    /// Everything that follows from the states alone: starts, stops, the next phase of a shutdown.
    fn settle(&mut self, now: Time, actions: &mut Vec<Action>) {
        // A phase that ends may have nothing to wait for in the next one; there are no more of them than this.
        for _ in 0..PHASES {
            self.settle_services(now, actions);
            let services_down = self.records.iter().all(Record::is_over);
            let next =
                self.shutdown.as_mut().map_or(Next::Wait, |progress| progress.poll(services_down, now));
            if next == Next::Wait {
                break;
            }
            let why = if services_down { "all services are down" } else { "limit passed" };
            self.follow(next, why, now, actions);
        }
    }

    fn settle_services(&mut self, now: Time, actions: &mut Vec<Action>) {
        // One start or stop may allow the next; a chain is no longer than the list.
        for _ in 0..=self.records.len() {
            let before = actions.len();
            for place in 0..self.records.len() {
                self.settle_one(Id(place), now, actions);
            }
            if actions.len() == before {
                break;
            }
        }
    }

    fn settle_one(&mut self, id: Id, now: Time, actions: &mut Vec<Action>) {
        let Some(record) = self.records.get(id.0) else { return };
        if self.may_start(record, now) {
            let missing = record.service.needs.iter().filter(|need| need.again && !self.is_up(&need.service));
            let missing = missing.map(|need| need.service.clone()).collect();
            self.with(id, |record| {
                record.without = missing;
                record.start(id, now, actions);
            });
        } else if self.may_stop(record) {
            let most = self.stop_limit(now);
            self.with(id, |record| record.stop(most, now, actions));
        }
    }

    /// Starts anew what went on without this service, and said that it must not stay so.
    fn restart_those_without(&mut self, id: Id, now: Time, actions: &mut Vec<Action>) {
        let Some(record) = self.records.get(id.0) else { return };
        if record.state != State::Up || self.shutdown.is_some() {
            return;
        }
        let service = record.service.id.clone();
        for record in self.records.iter_mut().filter(|record| record.without.contains(&service)) {
            record.without.clear();
            if record.wanted == Wanted::Up {
                actions.push(Action::Report(format!(
                    "{}: started before {service} was up, so it is started again",
                    record.service.id
                )));
                record.restart(now, actions);
            }
        }
    }

    fn may_start(&self, record: &Record, now: Time) -> bool {
        record.wanted == Wanted::Up
            && record.state == State::Down
            && record.service.needs.iter().all(|need| {
                let given_up = need.limit.is_some_and(|limit| now >= record.wanted_since + limit);
                given_up || self.is_up(&need.service)
            })
    }

    fn is_up(&self, service: &str) -> bool {
        // A need that no service has is met: the list decides what runs, not the needs.
        self.find(service).is_none_or(|record| record.state == State::Up)
    }

    fn find(&self, service: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.service.id == service)
    }

    fn record_deadline(&self, record: &Record) -> Option<Time> {
        match record.state {
            State::Starting { until } => until,
            State::Stopping { until, .. } | State::Backoff { until } => Some(until),
            State::Down if record.wanted == Wanted::Up => self.needs_given_up_at(record),
            State::Up => record.loop_over_at(),
            State::Down | State::Failed => None,
        }
    }

    /// When a service that waits would start even if nothing happens.
    fn needs_given_up_at(&self, record: &Record) -> Option<Time> {
        let mut latest = None;
        for need in record.service.needs.iter().filter(|need| !self.is_up(&need.service)) {
            latest = latest.max(Some(record.wanted_since + need.limit?));
        }
        latest
    }
}
