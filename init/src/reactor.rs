//! The one loop: what the kernel and the services tell becomes events, the supervisor's actions become system calls.
//!
//! A turn handles, in this order: readiness messages (a service may say READY and die at once), signals, processes
//! that ended, the pods' cgroup, deadlines, changes of the config, control requests, the watchdog. Each source gives a bounded number
//! of items a turn. From here on nothing is fatal: what cannot be done is said, or comes back to the supervisor as an
//! event.

mod change;
mod clients;
mod hear;
mod jobs;
mod place;
mod pods;
mod requests;
mod sources;
mod watchdog;

use crate::prepare::Ready;
use crate::sys::poll::Together;
use crate::sys::process::Reaped;
use crate::sys::signals::Signals;
use crate::sys::{cgroup, clock, file, process, reboot, signals};
use crate::watch::Watch;
use anyhow::{Context, Result};
use clients::Clients;
use jobs::{Jobs, Kind};
use place::{Place, describe};
use podium_init::clock::Time;
use podium_init::control::{Role, Versions};
use podium_init::events::{self, Ring};
use podium_init::live::guard::{self, Guard};
use podium_init::live::{self, Ask, Policy};
use podium_init::paths;
use podium_init::services::{API_USER, PID_1_OOM_SCORE};
use podium_init::shutdown::{LastActs, Shutdown, request};
use podium_init::supervisor::{Action, Event, Exit, Id, Pid, Supervisor};
use podium_init::watchdog::Setting;
use pods::Leaving;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use watchdog::Watchdog;

/// Processes reaped a turn: 1,000 orphans take four turns.
const DEATHS_A_TURN: usize = 256;
/// How long the loop rests when it cannot wait (poll failed, or there is no descriptor for signals).
const REST: Duration = Duration::from_millis(100);
/// Kept for the way down: for the manifest directory, a manifest, the pods' cgroup. Without them a node that has run
/// out of descriptors would leave its pods to SIGKILL.
const RESERVE: usize = 3;
/// Runs the node until its life shall end.
///
/// # Errors
/// None: an error after this point would be the end of the node.
pub(crate) fn run(ready: Ready, watchdog: Option<Setting>) -> Result<(Shutdown, LastActs)> {
    let mut reactor = Reactor::new(ready, watchdog);
    reactor.arm_watchdog();
    let actions = reactor.supervisor.begin(clock::now());
    reactor.perform(actions);
    reactor.look_at_foreign();
    reactor.wait_for_held();
    loop {
        reactor.flush();
        if let Some(end) = reactor.finished {
            return Ok(end);
        }
        reactor.turn();
    }
}

/// The loop's state.
#[derive(Debug)]
struct Reactor {
    supervisor: Supervisor,
    /// [`RESERVE`] descriptors, opened before all others: a lower limit takes those of high numbers first.
    reserve: Vec<File>,
    places: Vec<Place>,
    signals: Option<Signals>,
    /// Sources that seldom have something, see `sources.rs`.
    together: Option<Together>,
    /// Watched once the pods were told to stop.
    pods: Option<cgroup::Events>,
    /// Lines wait until a turn's actions are done: a slow console does not delay a start.
    lines: Vec<String>,
    /// The same lines, and what else has happened, for the control socket.
    ring: Ring,
    clients: Clients,
    jobs: Jobs,
    /// When which change of the config is done.
    policy: Policy,
    /// Keeps the kubelet from hanging on what others put into the manifest directory.
    guard: Guard,
    /// Clients whose change has not begun, in the order of asking.
    waiting: VecDeque<(Ask, OwnedFd, Role)>,
    watch: Option<Watch>,
    watchdog: Watchdog,
    /// The manifest directory is to be looked at: there were files of others at boot, or a manifest of ours was touched
    /// while a change ran.
    touched: bool,
    /// The last change has left something undone for which a job waits.
    waits: bool,
    versions: Versions,
    /// More processes may have ended than one turn reaps.
    more_deaths: bool,
    /// Everything that belongs to the boot was told.
    booted: bool,
    /// The pods that there were when the end was asked for, for those who wait for them.
    leaving: Leaving,
    finished: Option<(Shutdown, LastActs)>,
}

impl Reactor {
    /// Prepares signals, folders and what each service needs. What fails is said here and tried again at each start.
    fn new(ready: Ready, watchdog: Option<Setting>) -> Self {
        let Ready { services, build_id, proof, configs, foreign, waits, .. } = ready;
        // Not before: the tools of the boot, as e2fsck, would have inherited it.
        match process::set_oom_score(PID_1_OOM_SCORE) {
            // As in a container.
            Err(error) if error.errno() == Some(nix::libc::EACCES) => {}
            done => drop(said(done)),
        }
        let reserve = (0..RESERVE).filter_map(|_| said(File::open("/dev/null"))).collect();
        signals::unignore();
        let signals = said(signals::receive(&signals::all()));
        if !reboot::in_pid_namespace() {
            said(reboot::take_ctrl_alt_del());
        }
        said(file::make_dir(Path::new(paths::RUN), paths::RUN_MODE));
        for folder in [paths::SERVICES, paths::LOG_PIPES] {
            said(file::make_dir(Path::new(folder), 0o700));
        }
        said(file::make_dir(Path::new(paths::NOTIFY), paths::NOTIFY_MODE));
        said(file::make_dir_for(Path::new(paths::API), paths::API_MODE, API_USER));
        let mut places = Vec::with_capacity(services.len());
        for service in &services {
            let mut place = Place::new(service);
            said(describe(service));
            said(place.equip());
            places.push(place);
        }
        if !cgroup::present() {
            log::warn!("no cgroup2 on /sys/fs/cgroup: services run without cgroups of their own");
        }
        let now = clock::now();
        let mut policy = Policy::default();
        // Nothing is to be done before the loop begins.
        policy.step(live::Event::Booted(proof), now);
        let mut ring = Ring::default();
        let text = format!("init {} begins to supervise", env!("CARGO_PKG_VERSION"));
        ring.push(events::Kind::Node, None, &text, clock::now());
        Self {
            supervisor: Supervisor::new(services, now),
            reserve,
            places,
            signals,
            together: said(Together::new()),
            pods: None,
            lines: Vec::new(),
            ring,
            clients: Clients::listen(),
            jobs: Jobs::default(),
            policy,
            guard: Guard::default(),
            waiting: VecDeque::new(),
            watch: said(Watch::new(&configs)),
            watchdog: Watchdog::new(watchdog),
            touched: foreign,
            waits,
            versions: requests::versions(build_id),
            more_deaths: false,
            booted: false,
            leaving: Leaving::default(),
            finished: None,
        }
    }

    /// Waits for something to happen and handles it.
    fn turn(&mut self) {
        let ready = self.wait();
        for place in 0..self.places.len() {
            if ready.sockets.get(place).copied().unwrap_or(false) {
                self.hear(Id(place));
            }
        }
        if ready.signals {
            self.take_signals();
        }
        self.reap();
        if ready.pods {
            self.look_at_pods();
        }
        let now = clock::now();
        if self.supervisor.deadline().is_some_and(|deadline| deadline <= now) {
            self.step_at(Event::Deadline, now);
        }
        for line in self.jobs.expire(now) {
            self.say(line);
        }
        self.change(ready.watch, now);
        self.serve(ready.control);
        self.change_for_clients();
        self.feed_watchdog(clock::now());
    }

    /// Takes signals that wait. Only those that ask for the end of the node mean anything; SIGCHLD has done its work by
    /// ending the wait.
    fn take_signals(&mut self) {
        for signal in self.signals.as_ref().map(Signals::take).unwrap_or_default() {
            if let Some((how, by)) = request(signal) {
                self.end(how, by.to_owned());
            }
        }
    }

    /// Reaps everything that has ended, up to a bound.
    fn reap(&mut self) {
        for _ in 0..DEATHS_A_TURN {
            match process::reap() {
                Reaped::One(pid, exit) => self.buried(pid, exit),
                Reaped::NoneEnded | Reaped::NoChildren => {
                    self.more_deaths = false;
                    return;
                }
            }
        }
        self.more_deaths = true;
    }

    fn buried(&mut self, pid: Pid, exit: Exit) {
        if let Some(place) = self.places.iter().position(|place| place.pid == Some(pid)) {
            // Its last words belong to this life and not to the next one.
            self.hear(Id(place));
            let exit = self.places.get_mut(place).map_or(exit, |place| {
                place.pid = None;
                place.judge(exit)
            });
            self.step(Event::Exited(pid, exit));
        } else if let Some(job) = self.jobs.ended(pid) {
            match job.kind {
                // What went wrong it has told its client.
                Kind::Answer(_) => {}
                Kind::Change => self.change_ended(exit),
                Kind::Wait => self.waited(exit),
                Kind::Unblock => self.guard_step(guard::Event::Looked(exit == Exit::Code(0)), clock::now()),
            }
        }
    }

    fn step(&mut self, event: Event) {
        self.step_at(event, clock::now());
    }

    fn step_at(&mut self, event: Event, now: Time) {
        let actions = self.supervisor.step(event, now);
        self.perform(actions);
    }

    /// Performs actions in order; what follows from one comes before the next.
    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Spawn(id) => {
                    let event = match self.spawn(id) {
                        Ok(pid) => Event::Spawned(id, pid),
                        Err(error) => Event::SpawnFailed(id, format!("{error:#}")),
                    };
                    self.step(event);
                }
                // A process that ended meanwhile is reaped in the next turn: that is no error.
                Action::Signal(pid, signal) => self.complain(process::signal(pid, signal)),
                Action::KillGroup(id, pid) => self.kill_group(id, pid),
                Action::Report(line) => self.say(line),
                Action::RemoveManifests => self.hide_manifests(),
                Action::EndPods => self.end_pods(),
                Action::WatchPods => self.watch_pods(),
                Action::TellPods(left) => self.tell_pods(left),
                Action::Finish(how, last) => self.finished = Some((how, last)),
            }
        }
    }

    /// Starts the chain loader for a service.
    fn spawn(&mut self, id: Id) -> Result<Pid> {
        let place = self.places.get_mut(id.0).context("no such service")?;
        place.equip()?;
        place.count_oom_kills();
        let pid = process::spawn_ourselves(&["exec", &place.service])?;
        (place.pid, place.is_executed, place.has_failed) = (Some(pid), false, false);
        Ok(pid)
    }

    fn kill_group(&mut self, id: Id, pid: Pid) {
        let group = self.places.get(id.0).map_or("", |place| place.cgroup.as_str());
        if !group.is_empty() && cgroup::kill(group).is_ok() {
            return;
        }
        // Without cgroups: the process group, which the chain loader made. Who left it escapes, until the end.
        self.complain(process::signal_group(pid, nix::libc::SIGKILL));
    }

    /// Says an error, unless it is that the process has ended already.
    fn complain(&mut self, done: crate::sys::Result<()>) {
        if let Err(error) = done
            && error.errno() != Some(nix::libc::ESRCH)
        {
            self.say(error.to_string());
        }
    }

    /// Has one line said at the end of the turn, and makes an event of it.
    fn say(&mut self, line: String) {
        let services = self.supervisor.statuses().map(|status| (status.service, status.state.word()));
        self.ring.push_line(&line, services, clock::now());
        self.lines.push(line);
    }

    fn flush(&mut self) {
        for line in self.lines.drain(..) {
            crate::kmsg::say(&line);
        }
    }
}

/// Says an error and goes on.
fn said<T, E: std::fmt::Display>(done: std::result::Result<T, E>) -> Option<T> {
    done.map_err(|error| log::warn!("{error:#}")).ok()
}
