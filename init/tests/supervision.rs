//! The supervisor in a simulated world: random programs, random faults, hours of life in milliseconds.
//!
//! The world keeps its own account of which process is whose; after each step the invariants are checked against
//! it. A failing case prints its input, and proptest makes it small.

#![expect(clippy::panic, reason = "a test may fail loudly")]

use podium_init::clock::Time;
use podium_init::services::{Limits as Bounds, Need, Readiness, Restart, Scope, Service, Stop};
use podium_init::shutdown::{LAST_ACTS, Limits, Shutdown};
use podium_init::supervisor::{Action, Event, Exit, Id, MAX_DEATHS, Pid, State, Supervisor, Wanted};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

fn service(id: &str, readiness: Readiness, scope: Scope, needs: &[(&str, Option<u64>)]) -> Service {
    Service {
        id: id.into(),
        argv: vec![id.into()],
        env: Vec::new(),
        needs: needs
            .iter()
            .map(|(service, limit)| Need {
                service: (*service).into(),
                limit: limit.map(Duration::from_secs),
                again: false,
            })
            .collect(),
        readiness,
        ready_limit: Some(Duration::from_secs(60)),
        looked_after: false,
        restart: if id == "preload" { Restart::OnFailure } else { Restart::Always },
        cgroup: format!("podium/{id}"),
        oom_score_adj: 0,
        nofile: 1024,
        user: None,
        health: None,
        limits: Bounds { memory_min: 0, memory_max: None, pids_max: None },
        stop: Stop { signal: 15, limit: Duration::from_secs(10), scope },
    }
}

const CONTAINERD: usize = 1;
const PRELOAD: usize = 2;
const KUBELET: usize = 4;
const SERVICES: usize = 5;

fn services() -> Vec<Service> {
    let kubelet_needs = [("containerd", None), ("preload", Some(60)), ("dhcpcd", Some(10))];
    vec![
        service("log", Readiness::Exec, Scope::Group, &[]),
        service("containerd", Readiness::Notify, Scope::Main, &[]),
        service("preload", Readiness::Notify, Scope::Group, &[("containerd", None)]),
        service("dhcpcd", Readiness::Notify, Scope::Group, &[]),
        service("kubelet", Readiness::Notify, Scope::Group, &kubelet_needs),
    ]
}

/// What the world does next to one service, or to the node.
#[derive(Debug, Clone)]
enum Chance {
    Ready,
    Exit(i32),
    Crash(i32),
    Stranger,
    Want(Wanted),
    Restart,
    Pass(u64),
    Shutdown,
    PodsGone,
    SpawnsFail(bool),
    Unkillable(bool),
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        6 => Just(Chance::Ready),
        2 => (0..3).prop_map(Chance::Exit),
        2 => (1..65).prop_map(Chance::Crash),
        1 => Just(Chance::Stranger),
        1 => Just(Chance::Want(Wanted::Down)),
        1 => Just(Chance::Want(Wanted::Up)),
        1 => Just(Chance::Restart),
        6 => (0_u64..90_000).prop_map(Chance::Pass),
        1 => Just(Chance::SpawnsFail(true)),
        2 => Just(Chance::SpawnsFail(false)),
        1 => Just(Chance::Unkillable(true)),
        2 => Just(Chance::Unkillable(false)),
    ]
}

fn late_chance() -> impl Strategy<Value = Chance> {
    prop_oneof![8 => chance(), 1 => Just(Chance::Shutdown), 1 => Just(Chance::PodsGone)]
}

/// From the request to reboot(2).
fn total() -> Duration {
    Limits::default().total
}

struct World {
    node: Supervisor,
    now: Time,
    next_pid: Pid,
    alive: BTreeMap<Pid, usize>,
    spawns_fail: bool,
    unkillable: bool,
    asked_at: Option<Time>,
    pods_done: bool,
    finished: Option<(Shutdown, Time)>,
}

impl World {
    fn new(spawns_fail: bool) -> Self {
        let mut world = Self {
            node: Supervisor::new(services(), Time::ZERO),
            now: Time::ZERO,
            next_pid: 100,
            alive: BTreeMap::new(),
            spawns_fail,
            unkillable: false,
            asked_at: None,
            pods_done: false,
            finished: None,
        };
        let actions = world.node.begin(Time::ZERO);
        world.perform(actions);
        world
    }

    fn state(&self, place: usize) -> State {
        self.node.statuses().nth(place).unwrap_or_else(|| panic!("no service {place}")).state
    }

    fn step(&mut self, event: Event) {
        let actions = self.node.step(event, self.now);
        self.perform(actions);
        self.check();
    }

    /// What an action brings about follows it at once, as in the reactor; the bound catches a livelock.
    fn perform(&mut self, actions: Vec<Action>) {
        let mut queue = VecDeque::from(actions);
        let mut performed = 0;
        while let Some(action) = queue.pop_front() {
            performed += 1;
            assert!(performed < 200, "livelock: {action:?}");
            match action {
                Action::Spawn(id) => {
                    let answer = self.spawn(id);
                    // Before anything else, as the reactor promises.
                    for action in self.node.step(answer, self.now).into_iter().rev() {
                        queue.push_front(action);
                    }
                }
                Action::Signal(pid, 9) => queue.extend(self.kill(pid)),
                Action::Signal(..) => {}
                Action::KillGroup(id, pid) => {
                    assert_ne!(id.0, CONTAINERD, "containerd's shims are never killed with it");
                    queue.extend(self.kill(pid));
                }
                Action::Finish(kind, last) => {
                    assert!(self.finished.is_none(), "finished twice");
                    assert!(
                        self.asked_at.is_some_and(|asked| self.now + last.left(self.now) <= asked + total())
                    );
                    self.finished = Some((kind, self.now));
                }
                Action::Report(line) => {
                    assert!(!line.is_empty() && !line.contains('\n'));
                    self.pods_done |= line.starts_with("shutdown: pods done");
                }
                Action::RemoveManifests | Action::WatchPods | Action::EndPods | Action::TellPods(_) => {
                    assert!(self.asked_at.is_some());
                }
            }
        }
    }

    fn kill(&mut self, pid: Pid) -> Vec<Action> {
        if self.unkillable || self.alive.remove(&pid).is_none() {
            return Vec::new();
        }
        self.node.step(Event::Exited(pid, Exit::Signal(9)), self.now)
    }

    fn spawn(&mut self, id: Id) -> Event {
        assert!(!self.alive.values().any(|place| *place == id.0), "a second process of service {}", id.0);
        assert!(!self.pods_done, "started while services are stopped");
        if self.spawns_fail {
            return Event::SpawnFailed(id, "fork: out of processes".into());
        }
        if id.0 == KUBELET {
            assert_eq!(self.state(CONTAINERD), State::Up, "the kubelet without containerd");
        }
        self.next_pid += 1;
        self.alive.insert(self.next_pid, id.0);
        Event::Spawned(id, self.next_pid)
    }

    fn pid_of(&self, place: usize) -> Option<Pid> {
        self.alive.iter().find(|(_, owner)| **owner == place).map(|(pid, _)| *pid)
    }

    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        let mut wakes = 0;
        while let Some(deadline) = self.node.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.step(Event::Deadline);
            assert!(
                self.node.deadline().is_none_or(|next| next > self.now),
                "a deadline that does not go away"
            );
            wakes += 1;
            assert!(wakes < 5_000, "busy waiting");
        }
        self.now = until;
    }

    fn check(&self) {
        for (place, status) in self.node.statuses().enumerate() {
            assert!(status.deaths.len() <= MAX_DEATHS);
            assert_eq!(status.pid, self.pid_of(place), "{} is accounted for", status.service);
            if let State::Backoff { until } = status.state {
                assert!(until <= self.now + Duration::from_secs(30), "{} waits too long", status.service);
            }
        }
        if let (Some(asked), None) = (self.asked_at, self.finished) {
            assert!(self.now <= asked + total() - LAST_ACTS, "the shutdown takes too long");
        }
    }

    fn happen(&mut self, place: usize, chance: &Chance) {
        match chance {
            Chance::Ready => {
                self.step(Event::Executed(Id(place)));
                self.step(Event::Ready(Id(place)));
            }
            Chance::Exit(code) => self.end(place, Exit::Code(*code)),
            Chance::Crash(signal) => self.end(place, Exit::Signal(*signal)),
            Chance::Stranger => self.step(Event::Exited(7, Exit::Code(0))),
            Chance::Want(wanted) => self.step(Event::Want(Id(place), *wanted)),
            Chance::Restart => self.step(Event::Restart(Id(place))),
            Chance::Pass(milliseconds) => self.pass(Duration::from_millis(*milliseconds)),
            Chance::Shutdown => {
                self.asked_at.get_or_insert(self.now);
                self.step(Event::Shutdown(Shutdown::PowerOff, "chance".into()));
            }
            Chance::PodsGone => self.step(Event::PodsGone),
            Chance::SpawnsFail(fail) => self.spawns_fail = *fail,
            Chance::Unkillable(unkillable) => self.unkillable = *unkillable,
        }
    }

    fn end(&mut self, place: usize, exit: Exit) {
        if let Some(pid) = self.pid_of(place) {
            self.alive.remove(&pid);
            self.step(Event::Exited(pid, exit));
        }
    }

    /// The world turns kind: whatever starts becomes ready, and what was told to end ends.
    fn heal(&mut self) {
        self.spawns_fail = false;
        self.unkillable = false;
        for _ in 0..40 {
            for place in 0..SERVICES {
                self.step(Event::Want(Id(place), Wanted::Up));
                match self.state(place) {
                    State::Starting { .. } if place == PRELOAD => self.end(place, Exit::Code(0)),
                    State::Starting { .. } => self.happen(place, &Chance::Ready),
                    State::Stopping { .. } | State::Failed => self.end(place, Exit::Signal(15)),
                    State::Down | State::Up | State::Backoff { .. } => {}
                }
            }
            self.pass(Duration::from_secs(10));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_a_kind_world_has_everything_up(
        life in proptest::collection::vec((0..SERVICES, chance()), 0..80)
    ) {
        let mut world = World::new(false);
        for (place, chance) in &life {
            world.happen(*place, chance);
        }
        world.heal();
        for status in world.node.statuses() {
            prop_assert_eq!(status.state, State::Up, "{}", status.service);
        }
        prop_assert_eq!(world.node.deadline(), None);
    }

    #[test]
    fn a_shutdown_always_ends_in_time_and_once(
        life in proptest::collection::vec((0..SERVICES, chance()), 0..40),
        end in proptest::collection::vec((0..SERVICES, late_chance()), 0..40),
    ) {
        let mut world = World::new(false);
        for (place, chance) in &life {
            world.happen(*place, chance);
        }
        world.happen(0, &Chance::Shutdown);
        for (place, chance) in &end {
            if world.finished.is_some() {
                break;
            }
            world.happen(*place, chance);
        }
        if world.finished.is_none() {
            world.pass(total());
        }
        let (kind, at) = world.finished.unwrap_or_else(|| panic!("never finished"));
        prop_assert_eq!(kind, Shutdown::PowerOff);
        prop_assert!(at <= world.asked_at.unwrap_or_default() + total() - LAST_ACTS);
    }
}

#[test]
fn a_crash_loop_goes_on_for_ever_and_costs_few_starts_a_minute() {
    let mut world = World::new(true);
    let day = Duration::from_secs(24 * 3_600);
    while world.now < day {
        world.pass(Duration::from_secs(60));
    }
    let restarts = world.node.statuses().nth(CONTAINERD).map(|status| status.restarts);
    // From 15 to 30 s lie between two starts.
    assert!(restarts.is_some_and(|restarts| (2_880..5_780).contains(&restarts)), "{restarts:?}");
    world.spawns_fail = false;
    world.pass(Duration::from_secs(31));
    assert!(world.pid_of(CONTAINERD).is_some(), "a day of failures later it is still tried");
}
