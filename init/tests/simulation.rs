//! A thousand nodes with services of any kind in worlds of any kind, each by its seed; what must hold is checked after
//! each step against an account that the world keeps itself.
//!
//! A failure names its seed: `PODIUM_SEED=N cargo test -p podium-init --test simulation` lives that one life again.

#![expect(clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use podium_init::backoff::{LONGEST_DELAY, RESET_AFTER, full_delay};
use podium_init::clock::Time;
use podium_init::services::{
    Health, Limits as Bounds, Need, Probe, Readiness, Restart, Scope, Service, Stop,
};
use podium_init::shutdown::{LAST_ACTS, Limits, Shutdown};
use podium_init::supervisor::{Action, Event, Exit, Id, MAX_DEATHS, Pid, State, Supervisor, Wanted};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const SEEDS: u64 = 1_000;
/// What may follow from one event at once; the largest node has seven services that start, stop and fail together.
const ACTIONS_MAX: usize = 400;
/// Wake-ups at one instant.
const AT_ONCE_MAX: usize = 20;

/// What the phases of a shutdown may take, until the last acts.
fn phases_limit() -> Duration {
    Limits::default().total.saturating_sub(LAST_ACTS)
}

/// SplitMix64: small, and alike on every machine.
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.throw() % most
    }

    fn place(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap_or(0)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn seconds(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_secs(least + self.below(most - least))
    }
}

/// From one to seven services, each of which may need those before it, and some that nobody has.
fn services(dice: &mut Dice) -> Vec<Service> {
    let count = 1 + dice.place(7);
    let has_kubelet = dice.percent(60);
    (0..count).map(|place| service(dice, place, has_kubelet && place + 1 == count)).collect()
}

fn service(dice: &mut Dice, place: usize, is_kubelet: bool) -> Service {
    let id = if is_kubelet { "kubelet".to_owned() } else { format!("s{place}") };
    let mut needs = Vec::new();
    for other in (0..place).map(|other| format!("s{other}")).chain(["nobody".to_owned()]) {
        if dice.percent(30) {
            let limit = dice.percent(60).then(|| dice.seconds(0, 90));
            needs.push(Need { service: other, limit, again: dice.percent(30) });
        }
    }
    let health = dice.percent(50).then(|| Health {
        probe: Probe::Exec(vec!["true".into()]),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(10),
        failures: 1 + u32::try_from(dice.below(4)).unwrap_or(0),
    });
    Service {
        cgroup: format!("podium/{id}"),
        argv: vec![id.clone()],
        env: Vec::new(),
        id,
        needs,
        readiness: if dice.percent(50) { Readiness::Exec } else { Readiness::Notify },
        ready_limit: dice.percent(80).then(|| dice.seconds(1, 120)),
        looked_after: false,
        restart: if dice.percent(20) { Restart::OnFailure } else { Restart::Always },
        oom_score_adj: 0,
        nofile: 1024,
        user: None,
        limits: Bounds { memory_min: 0, memory_max: None, pids_max: None },
        stop: Stop {
            signal: 15,
            limit: dice.seconds(1, 20),
            scope: if dice.percent(30) { Scope::Main } else { Scope::Group },
        },
        health,
    }
}

/// What the world knows of one service, from what it was told and what it did.
#[derive(Debug, Clone, Copy)]
struct Account {
    wanted: bool,
    wanted_since: Time,
    up_since: Option<Time>,
    failures: u32,
}

struct World {
    dice: Dice,
    node: Supervisor,
    services: Vec<Service>,
    accounts: Vec<Account>,
    now: Time,
    next_pid: Pid,
    alive: BTreeMap<Pid, usize>,
    /// Killed, and not told of yet: the kernel tells later.
    dying: Vec<Pid>,
    spawns_fail: bool,
    is_unkillable: bool,
    asked_at: Option<Time>,
    pods_done: bool,
    finished: Option<Time>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let services = services(&mut dice);
        let account = Account { wanted: true, wanted_since: Time::ZERO, up_since: None, failures: 0 };
        let mut world = Self {
            node: Supervisor::new(services.clone(), Time::ZERO),
            accounts: vec![account; services.len()],
            services,
            now: Time::ZERO,
            next_pid: 100,
            alive: BTreeMap::new(),
            dying: Vec::new(),
            spawns_fail: dice.percent(10),
            is_unkillable: false,
            asked_at: None,
            pods_done: false,
            finished: None,
            dice,
        };
        let actions = world.node.begin(Time::ZERO);
        world.perform(actions);
        world.check();
        world
    }

    fn state(&self, place: usize) -> State {
        self.node.statuses().nth(place).unwrap_or_else(|| panic!("no service {place}")).state
    }

    /// One event, what follows from it at once, and the ends of those whom it has killed.
    fn step(&mut self, event: Event) {
        let actions = self.node.step(event, self.now);
        self.perform(actions);
        self.check();
        while let Some(pid) = self.dying.pop() {
            if self.alive.remove(&pid).is_some() {
                self.step(Event::Exited(pid, Exit::Signal(9)));
            }
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        let mut queue = VecDeque::from(actions);
        let mut performed = 0;
        while let Some(action) = queue.pop_front() {
            performed += 1;
            assert!(performed < ACTIONS_MAX, "livelock: {action:?}");
            match action {
                Action::Spawn(id) => {
                    let answer = self.spawn(id);
                    for action in self.node.step(answer, self.now).into_iter().rev() {
                        queue.push_front(action);
                    }
                }
                Action::Signal(pid, 9) => self.kill(pid),
                Action::Signal(pid, signal) => {
                    assert_eq!(signal, 15);
                    assert!(self.alive.contains_key(&pid), "process {pid} is nobody's any more");
                }
                Action::KillGroup(id, pid) => {
                    assert_eq!(self.services[id.0].stop.scope, Scope::Group, "who else is in it lives on");
                    self.kill(pid);
                }
                Action::Finish(..) => {
                    assert!(self.finished.is_none(), "finished twice");
                    self.finished = Some(self.now);
                }
                Action::Report(line) => self.read(&line),
                Action::RemoveManifests | Action::WatchPods | Action::EndPods | Action::TellPods(_) => {
                    assert!(self.asked_at.is_some());
                }
            }
        }
    }

    fn kill(&mut self, pid: Pid) {
        if !self.is_unkillable {
            self.dying.push(pid);
        }
    }

    fn spawn(&mut self, id: Id) -> Event {
        let account = &mut self.accounts[id.0];
        assert!(account.wanted, "nobody wants it");
        account.up_since = None;
        let account = *account;
        assert!(!self.alive.values().any(|owner| *owner == id.0), "a second process");
        assert!(!self.pods_done, "started while services are stopped");
        for need in &self.services[id.0].needs {
            let other = self.services.iter().position(|service| service.id == need.service);
            let is_met = other.is_none_or(|other| self.state(other) == State::Up);
            let is_late = need.limit.is_some_and(|limit| self.now >= account.wanted_since + limit);
            assert!(is_met || is_late, "started before {}", need.service);
        }
        if self.spawns_fail {
            return Event::SpawnFailed(id, "fork: out of processes".into());
        }
        self.next_pid += 1;
        self.alive.insert(self.next_pid, id.0);
        Event::Spawned(id, self.next_pid)
    }

    /// A line of the boot log, which comes before whatever follows it.
    fn read(&mut self, line: &str) {
        assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
        if line.starts_with("shutdown: pods done") {
            self.pods_done = true;
            self.accounts.iter_mut().for_each(|account| account.wanted = false);
        }
        let Some((id, text)) = line.split_once(": ") else { panic!("{line}") };
        let Some(place) = self.services.iter().position(|service| service.id == id) else { return };
        let (now, state) = (self.now, self.state(place));
        let account = &mut self.accounts[place];
        match text {
            "up" => account.up_since = Some(now),
            // A step may have said READY before.
            "done" => account.up_since = account.up_since.or(Some(now)),
            text if text.starts_with("crash loop over") => account.failures = 0,
            text if text.contains("; next start ") => {
                if account.up_since.is_some_and(|since| now >= since + RESET_AFTER) {
                    account.failures = 0;
                }
                let full = full_delay(account.failures);
                account.failures += 1;
                match state {
                    State::Backoff { until } => {
                        let delay = until - now;
                        assert!(delay >= full / 2 && delay <= full, "{delay:?} for {full:?}");
                        assert!(!delay.is_zero() && delay <= LONGEST_DELAY);
                    }
                    State::Down
                    | State::Starting { .. }
                    | State::Up
                    | State::Stopping { .. }
                    | State::Failed => assert!(full.is_zero(), "no delay where there is one of {full:?}"),
                }
            }
            _ => {}
        }
    }

    fn check(&self) {
        for (place, status) in self.node.statuses().enumerate() {
            let owned: Vec<Pid> =
                self.alive.iter().filter(|(_, owner)| **owner == place).map(|(pid, _)| *pid).collect();
            assert!(owned.len() <= 1, "{}: {owned:?}", status.service);
            assert_eq!(status.pid, owned.first().copied(), "{} is accounted for", status.service);
            assert!(status.deaths.len() <= MAX_DEATHS);
            assert_eq!(status.wanted == Wanted::Up, self.accounts[place].wanted, "{}", status.service);
            assert_eq!(status.health.is_some(), self.services[place].health.is_some());
            let has_process = match status.state {
                State::Stopping { .. } | State::Failed => true,
                State::Down | State::Backoff { .. } => false,
                State::Starting { .. } | State::Up => continue,
            };
            assert_eq!(status.pid.is_some(), has_process, "{}: {:?}", status.service, status.state);
        }
        if let (Some(asked), None) = (self.asked_at, self.finished) {
            assert!(self.now <= asked + phases_limit(), "the shutdown takes too long");
        }
    }

    /// Time goes on, and the node is woken when it wants to be.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        let mut at_once = 0;
        while let Some(deadline) = self.node.deadline().filter(|deadline| *deadline <= until) {
            at_once = if deadline > self.now { 0 } else { at_once + 1 };
            assert!(at_once < AT_ONCE_MAX, "a deadline that does not go away");
            self.now = self.now.max(deadline);
            self.step(Event::Deadline);
            if self.finished.is_some() {
                return;
            }
        }
        self.now = until;
    }

    /// Time goes on while the node sleeps: a suspend, or a machine that does not get its processor.
    fn jump(&mut self, span: Duration) {
        self.now += span;
        if self.node.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.step(Event::Deadline);
        }
    }

    fn want(&mut self, place: usize, wanted: bool) {
        let account = &mut self.accounts[place];
        let wanted = wanted && self.asked_at.is_none();
        if account.wanted != wanted {
            (account.wanted, account.wanted_since) = (wanted, self.now);
        }
    }

    fn end(&mut self, place: usize, exit: Exit) {
        let pid = self.alive.iter().find(|(_, owner)| **owner == place).map(|(pid, _)| *pid);
        if let Some(pid) = pid {
            self.alive.remove(&pid);
            self.step(Event::Exited(pid, exit));
        }
    }

    fn probe(&mut self, place: usize) {
        let asked = self.now.saturating_sub(self.dice.seconds(0, 3));
        let failure = self.dice.percent(70).then(|| "no answer".to_owned());
        let status = self.node.statuses().nth(place).unwrap_or_else(|| panic!("no service {place}"));
        let counts = status.state == State::Up
            && status.health.is_some()
            && asked >= status.since
            && self.asked_at.is_none();
        let before = self.now;
        let actions = self.node.step(Event::Probed(Id(place), asked, failure), self.now);
        assert!(counts || actions.is_empty(), "an answer that says nothing: {actions:?}");
        self.perform(actions);
        assert_eq!(before, self.now);
        self.check();
    }

    /// Anything may happen next.
    fn happen(&mut self) {
        let place = self.dice.place(self.services.len());
        match self.dice.below(24) {
            0..5 => {
                self.step(Event::Executed(Id(place)));
                self.step(Event::Ready(Id(place)));
            }
            5 | 6 => {
                let code = i32::try_from(self.dice.below(3)).unwrap_or(0);
                self.end(place, Exit::Code(code));
            }
            7 => self.end(place, Exit::Signal(11)),
            8 => self.end(place, Exit::OomKilled),
            9 => self.step(Event::Exited(7, Exit::Code(0))),
            10 => {
                let wanted = self.dice.percent(50);
                self.want(place, wanted);
                self.step(Event::Want(Id(place), if wanted { Wanted::Up } else { Wanted::Down }));
            }
            11 => {
                if self.asked_at.is_none() {
                    self.want(place, true);
                }
                self.step(Event::Restart(Id(place)));
            }
            12 => self.spawns_fail = self.dice.percent(30),
            13 => self.is_unkillable = self.dice.percent(30),
            14 => self.step(Event::StageFailed(Id(place), "exec: not found".into())),
            15..18 => self.probe(place),
            18 => {
                let span = self.dice.seconds(0, 300);
                self.jump(self.asked_at.map_or(span, |_| Duration::from_millis(1)));
            }
            _ => {
                let span = Duration::from_millis(self.dice.below(40_000));
                self.pass(span);
            }
        }
    }

    fn shut_down(&mut self) {
        self.asked_at.get_or_insert(self.now);
        let grace = self.dice.seconds(0, 1000);
        self.step(Event::Limits(Limits::default(), grace));
        self.step(Event::Shutdown(Shutdown::PowerOff, "chance".into()));
    }

    /// The world turns kind: whatever starts becomes ready, and what was told to end ends.
    fn heal(&mut self) {
        (self.spawns_fail, self.is_unkillable) = (false, false);
        for _ in 0..400 {
            for place in 0..self.services.len() {
                self.want(place, true);
                self.step(Event::Want(Id(place), Wanted::Up));
                match self.state(place) {
                    State::Starting { .. } if self.services[place].restart == Restart::OnFailure => {
                        self.end(place, Exit::Code(0));
                    }
                    State::Starting { .. } => {
                        self.step(Event::Executed(Id(place)));
                        self.step(Event::Ready(Id(place)));
                    }
                    State::Stopping { .. } | State::Failed => self.end(place, Exit::Signal(15)),
                    State::Down | State::Up | State::Backoff { .. } => {}
                }
            }
            if self.node.deadline().is_none() && self.node.statuses().all(|status| status.state == State::Up)
            {
                return;
            }
            // Shorter than the shortest limit for getting ready.
            self.pass(Duration::from_millis(900));
        }
    }
}

fn live(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..world.dice.below(120) {
        world.happen();
    }
    if world.dice.percent(50) {
        world.heal();
        for status in world.node.statuses() {
            assert_eq!(status.state, State::Up, "{}", status.service);
        }
        assert_eq!(world.node.deadline(), None, "a node at rest never wakes");
    }
    if world.dice.percent(60) {
        world.shut_down();
        while world.finished.is_none() {
            match world.dice.below(12) {
                0 => world.step(Event::PodsGone),
                1 if world.dice.percent(20) => world.shut_down(),
                _ => world.happen(),
            }
        }
        assert!(world.now <= world.asked_at.unwrap_or_default() + phases_limit());
    }
}

#[test]
fn whatever_the_seed_the_invariants_hold() {
    let given = std::env::var("PODIUM_SEED").ok();
    let given = given.map(|seed| seed.parse().unwrap_or_else(|_| panic!("PODIUM_SEED is a number: {seed}")));
    let seeds = given.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    for seed in seeds {
        if std::panic::catch_unwind(|| live(seed)).is_err() {
            panic!("PODIUM_SEED={seed} fails, for the reason above");
        }
    }
}
