//! One service's life: every (state, event) pair, and what follows.
//!
//! Knows nothing of the other services; what depends on them is decided in `supervisor.rs`.

use super::health::{Answers, Verdict};
use super::{Action, Exit, Id, KILL_LIMIT, Pid, SIGKILL, State, Status, Wanted};
use crate::backoff::{Backoff, RESET_AFTER};
use crate::clock::Time;
use crate::services::{Readiness, Restart, Scope, Service};
use std::time::Duration;

/// How many deaths of a service are remembered.
pub const MAX_DEATHS: usize = 10;

/// One end of a service that nobody asked for: by itself, or because it was not ready in time or not healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// When.
    pub at: Time,
    /// How; `None` when it could not even be started.
    pub exit: Option<Exit>,
    /// The stage that failed, the limit that passed, what was unhealthy, or nothing.
    pub reason: String,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) service: Service,
    pub(super) wanted: Wanted,
    pub(super) wanted_since: Time,
    pub(super) state: State,
    pub(super) pid: Option<Pid>,
    /// Needs that were not met when it was started, and whose arrival starts it again.
    pub(super) without: Vec<String>,
    since: Time,
    started: Time,
    ready_since: Option<Time>,
    answers: Answers,
    starts: u64,
    /// It is stopped only to be started again: its end is no death.
    again: bool,
    backoff: Backoff,
    /// What was last said of its crash loop; empty outside of one.
    told_loop: String,
    reason: String,
    deaths: Vec<Death>,
}

impl Record {
    pub(super) fn new(service: Service, now: Time) -> Self {
        Self {
            service,
            wanted: Wanted::Up,
            wanted_since: now,
            state: State::Down,
            pid: None,
            without: Vec::new(),
            since: now,
            started: now,
            ready_since: None,
            answers: Answers::default(),
            starts: 0,
            again: false,
            backoff: Backoff::default(),
            told_loop: String::new(),
            reason: String::new(),
            deaths: Vec::new(),
        }
    }

    pub(super) fn status(&self) -> Status<'_> {
        Status {
            service: &self.service.id,
            wanted: self.wanted,
            state: self.state,
            since: self.since,
            pid: self.pid,
            restarts: self.starts.saturating_sub(1),
            deaths: &self.deaths,
            health: self.answers.health(&self.service),
        }
    }

    /// What its last failures say of it: a crash loop, or how it ended last.
    pub(super) fn crash(&self) -> String {
        if self.backoff.is_loop() {
            let count = self.backoff.failures();
            return format!("crash loop, {count} failures in a row: {}", self.told_loop);
        }
        let last = self.deaths.last().filter(|_| matches!(self.state, State::Backoff { .. }));
        last.map(|death| how(death.exit, &death.reason)).unwrap_or_default()
    }

    /// Why it is being stopped.
    pub(super) fn why_stopping(&self) -> String {
        match (self.wanted, self.again) {
            (Wanted::Down, _) => "not wanted".to_owned(),
            (Wanted::Up, true) => "to be started anew".to_owned(),
            (Wanted::Up, false) => self.reason.clone(),
        }
    }

    /// Nothing more will come of it, so a shutdown need not wait for it.
    pub(super) fn is_over(&self) -> bool {
        match self.state {
            State::Down | State::Failed => true,
            State::Starting { .. } | State::Up | State::Stopping { .. } | State::Backoff { .. } => false,
        }
    }

    pub(super) fn want(&mut self, wanted: Wanted, now: Time) {
        if self.wanted != wanted {
            self.wanted = wanted;
            self.wanted_since = now;
            // Told to end, and wanted again before it has.
            self.again = wanted == Wanted::Up && matches!(self.state, State::Stopping { .. });
        }
    }

    /// Of one that was told to end: has it killed at `until` at the latest.
    pub(super) fn hasten(&mut self, latest: Time) {
        if let State::Stopping { until, killed: false } = &mut self.state {
            *until = latest.min(*until);
        }
    }

    /// Ends what runs, by its stop rule, and starts it at once after that.
    pub(super) fn restart(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.want(Wanted::Up, now);
        match self.state {
            State::Starting { .. } | State::Up if self.pid.is_some() => {
                self.again = true;
                self.terminate(None, now, actions);
            }
            State::Stopping { .. } | State::Failed => self.again = true,
            // A step that is done is done again, and nobody waits for the end of a delay.
            State::Up | State::Backoff { .. } => self.down(now, actions),
            // It is about to be started.
            State::Starting { .. } | State::Down => {}
        }
    }

    /// Called in `Down` only, with all needs met.
    pub(super) fn start(&mut self, id: Id, now: Time, actions: &mut Vec<Action>) {
        self.starts = self.starts.saturating_add(1);
        self.again = false;
        self.started = now;
        self.ready_since = None;
        self.answers = Answers::default();
        self.reason.clear();
        self.enter(State::Starting { until: self.service.ready_limit.map(|limit| now + limit) }, now);
        actions.push(Action::Spawn(id));
    }

    /// Ends it, from whatever state; `most`: its own limit may be longer.
    pub(super) fn stop(&mut self, most: Option<Duration>, now: Time, actions: &mut Vec<Action>) {
        match self.state {
            State::Starting { .. } => self.terminate(most, now, actions),
            // A step that is done has no process.
            State::Up if self.pid.is_none() => self.down(now, actions),
            State::Up => self.terminate(most, now, actions),
            State::Backoff { .. } => self.down(now, actions),
            State::Down | State::Stopping { .. } | State::Failed => {}
        }
    }

    pub(super) fn spawned(&mut self, pid: Pid, actions: &mut Vec<Action>) {
        self.pid = Some(pid);
        match self.state {
            State::Starting { .. } => self.report(&format!("starting, pid {pid}"), actions),
            // Unwanted between the order and its outcome.
            State::Stopping { killed, .. } => {
                actions.push(Action::Signal(pid, if killed { SIGKILL } else { self.service.stop.signal }));
            }
            // The reactor answers a Spawn before anything else, so these do not happen; a process that nobody
            // asked for is still ours to end.
            State::Down | State::Up | State::Backoff { .. } | State::Failed => {
                actions.push(Action::Signal(pid, SIGKILL));
            }
        }
    }

    pub(super) fn spawn_failed(&mut self, error: String, now: Time, actions: &mut Vec<Action>) {
        match self.state {
            State::Starting { .. } | State::Stopping { .. } if self.wanted == Wanted::Up => {
                self.reason = error;
                self.died(None, now, actions);
            }
            State::Starting { .. } | State::Stopping { .. } => self.down(now, actions),
            State::Down | State::Up | State::Backoff { .. } | State::Failed => {}
        }
    }

    pub(super) fn executed(&mut self, now: Time, actions: &mut Vec<Action>) {
        match (self.state, self.service.readiness) {
            (State::Starting { .. }, Readiness::Exec) => self.up(now, actions),
            (State::Starting { .. }, Readiness::Notify)
            | (State::Down | State::Up | State::Stopping { .. } | State::Backoff { .. } | State::Failed, _) =>
                {}
        }
    }

    pub(super) fn ready(&mut self, now: Time, actions: &mut Vec<Action>) {
        match (self.state, self.service.readiness) {
            (State::Starting { .. }, Readiness::Notify) => self.up(now, actions),
            (State::Starting { .. }, Readiness::Exec)
            | (State::Down | State::Up | State::Stopping { .. } | State::Backoff { .. } | State::Failed, _) =>
                {}
        }
    }

    /// `asked`: when the question was put; an answer may be that of an earlier life.
    pub(super) fn probed(
        &mut self,
        asked: Time,
        failure: Option<&str>,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        match self.state {
            State::Up if self.pid.is_some() && self.ready_since.is_some_and(|since| asked >= since) => {}
            State::Down
            | State::Starting { .. }
            | State::Up
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Failed => return,
        }
        match self.answers.take(&self.service, self.started, failure, now) {
            Verdict::Nothing => {}
            Verdict::Say(line) => self.report(&line, actions),
            Verdict::Restart(reason) => {
                self.report(&reason, actions);
                self.reason = reason;
                self.terminate(None, now, actions);
            }
        }
    }

    /// The chain loader ends right after this; its end does the rest.
    pub(super) fn stage_failed(&mut self, text: String, actions: &mut Vec<Action>) {
        self.report(&text, actions);
        self.reason = text;
    }

    pub(super) fn exited(&mut self, id: Id, exit: Exit, now: Time, actions: &mut Vec<Action>) {
        let pid = self.pid.take();
        // The kernel's word is about the whole cgroup, and this SIGKILL was ours.
        let exit = match (self.state, exit) {
            (State::Stopping { killed: true, .. } | State::Failed, Exit::OomKilled) => Exit::Signal(SIGKILL),
            _ => exit,
        };
        if let (Scope::Group, Some(pid)) = (self.service.stop.scope, pid) {
            actions.push(Action::KillGroup(id, pid));
        }
        let ended_well = exit == Exit::Code(0);
        match self.state {
            // A step: what it did stays done, without a process.
            State::Starting { .. } | State::Up
                if ended_well && self.service.restart == Restart::OnFailure =>
            {
                if self.state != State::Up {
                    self.enter(State::Up, now);
                    self.ready_since = Some(now);
                }
                self.report("done", actions);
            }
            State::Starting { .. } | State::Up if self.wanted == Wanted::Down => self.down(now, actions),
            State::Starting { .. } | State::Up => self.died(Some(exit), now, actions),
            State::Stopping { .. } | State::Failed if self.again => self.down(now, actions),
            // It was stopped because its start took too long.
            State::Stopping { .. } | State::Failed if self.wanted == Wanted::Up => {
                self.died(Some(exit), now, actions);
            }
            State::Stopping { .. } | State::Failed => self.down(now, actions),
            // No process, so no end of one.
            State::Down | State::Backoff { .. } => {}
        }
    }

    /// `most`: how long a service that is told to end, or was killed, may take at the most.
    pub(super) fn deadline_passed(
        &mut self,
        id: Id,
        most: Option<Duration>,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        match self.state {
            State::Starting { until: Some(until) } if now >= until => {
                self.reason = format!("not ready after {:?}", until.saturating_sub(self.since));
                self.report(&self.reason.clone(), actions);
                self.terminate(most, now, actions);
            }
            State::Stopping { until, killed: false } if now >= until => {
                if let Some(pid) = self.pid {
                    self.report("still there, killed", actions);
                    actions.push(match self.service.stop.scope {
                        Scope::Group => Action::KillGroup(id, pid),
                        Scope::Main => Action::Signal(pid, SIGKILL),
                    });
                }
                let limit = most.map_or(KILL_LIMIT, |most| KILL_LIMIT.min(most));
                self.state = State::Stopping { until: now + limit, killed: true };
            }
            State::Stopping { until, killed: true } if now >= until => {
                self.enter(State::Failed, now);
                self.report("SIGKILL did not end it; not waiting for it any longer", actions);
            }
            State::Backoff { until } if now >= until => self.enter(State::Down, now),
            State::Up if self.loop_over_at().is_some_and(|until| now >= until) => {
                self.backoff.reset();
                self.told_loop.clear();
                self.report(&format!("crash loop over: up for {RESET_AFTER:?}"), actions);
            }
            State::Down
            | State::Starting { .. }
            | State::Up
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Failed => {}
        }
    }

    /// When one that is up has been so for long enough to be out of its crash loop.
    pub(super) fn loop_over_at(&self) -> Option<Time> {
        self.ready_since
            .filter(|_| self.state == State::Up && self.backoff.is_loop())
            .map(|at| at + RESET_AFTER)
    }

    fn up(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.enter(State::Up, now);
        self.ready_since = Some(now);
        self.report("up", actions);
    }

    fn down(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.enter(State::Down, now);
        self.report("down", actions);
    }

    fn terminate(&mut self, most: Option<Duration>, now: Time, actions: &mut Vec<Action>) {
        let own = self.service.stop.limit;
        let limit = most.map_or(own, |most| own.min(most));
        self.enter(State::Stopping { until: now + limit, killed: false }, now);
        self.report("stopping", actions);
        if let Some(pid) = self.pid {
            actions.push(Action::Signal(pid, self.service.stop.signal));
        }
    }

    /// Ended unasked: the next start is a matter of backoff.
    fn died(&mut self, exit: Option<Exit>, now: Time, actions: &mut Vec<Action>) {
        let delay = self.backoff.next(&self.service.id, self.ready_since, now);
        let end = match exit {
            Some(_) => how(exit, ""),
            None => how(None, &self.reason),
        };
        let when =
            if delay.is_zero() { "now".to_owned() } else { format!("in {:.1} s", delay.as_secs_f64()) };
        self.report(&format!("{end}; next start {when}"), actions);
        self.tell_loop(how(exit, &self.reason), actions);
        if self.deaths.len() == MAX_DEATHS {
            self.deaths.remove(0);
        }
        self.deaths.push(Death { at: now, exit, reason: std::mem::take(&mut self.reason) });
        self.enter(if delay.is_zero() { State::Down } else { State::Backoff { until: now + delay } }, now);
    }

    /// Says that it ends again and again: once, and anew when it ends in another way.
    fn tell_loop(&mut self, end: String, actions: &mut Vec<Action>) {
        if !self.backoff.is_loop() {
            self.told_loop.clear();
        } else if self.told_loop != end {
            let count = self.backoff.failures();
            self.report(&format!("crash loop: {count} failures in a row, the last: {end}"), actions);
            self.told_loop = end;
        }
    }

    fn enter(&mut self, state: State, now: Time) {
        self.state = state;
        self.since = now;
    }

    fn report(&self, what: &str, actions: &mut Vec<Action>) {
        actions.push(Action::Report(format!("{}: {what}", self.service.id)));
    }
}

/// An end in words.
fn how(exit: Option<Exit>, reason: &str) -> String {
    match exit {
        None => format!("not started: {reason}"),
        Some(exit) if reason.is_empty() => format!("ended, {exit}"),
        Some(exit) => format!("ended, {exit}: {reason}"),
    }
}
