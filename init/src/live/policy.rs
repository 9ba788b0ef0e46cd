//! Which change is done when, and when the node goes back: events in, actions out, under a clock that is handed in.
//!
//! One change at a time; what a file or a manifest asks for meanwhile waits, what a client asks for is refused by the
//! reactor. A new config is *on proof*: kubelet and pods must be up together for [`SOAK`] without a break. If they are
//! not within its limit, and they were up before the change, the node reverts by itself; likewise if the kubelet alone
//! was up before and does not come up. A config that is only tried reverts at its limit whatever happens (Talos's
//! meaning). A node that was not well before keeps the new config: going back to what did not work either would undo
//! the repair of one pod for the sake of another. That is stored with it, so that a boot does not know better. One that
//! has just booted the last known good config counts as well until it is, as long as a config has to prove itself.
//!
//! [`Policy::step`] never blocks, fails or reads a clock. Only the reactor performs an [`Action`].

use super::before::Before;
use super::report::{Applied, Ask, Report, Standing};
use super::waiting::{Next, Waiting};
use crate::clock::Time;
use crate::services::Service;
use crate::store::{Kept, Proof};
use std::time::Duration;

/// How long kubelet and pods must be up without a break: longer than a container that fails at start looks well, and
/// than the kubelet needs to notice a change.
pub const SOAK: Duration = Duration::from_secs(30);
/// How long a config has to prove itself when nobody says otherwise: an image may have to be pulled.
pub const PROOF_LIMIT: Duration = Duration::from_secs(300);
/// How long a config is tried when nobody says otherwise: Talos's default.
pub const TRY_LIMIT: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The config of this boot is in force. `Some`: it has to prove itself.
    Booted(Option<Proof>),
    /// A client's change was started.
    Started(Ask),
    /// A watched file changed.
    FileChanged(String),
    /// Something in the manifest directory is not as we left it.
    ManifestsChanged,
    /// The change that ran has ended; `Err`: without a report, for this reason.
    Ended(Result<Report, String>),
    /// All pods of the config run, or not any more.
    Pods(bool),
    /// The kubelet is up, or not any more.
    Kubelet(bool),
    /// Something that was held back may be done now; false: nobody looks for that any longer.
    Waited(bool),
    /// [`Policy::deadline`] has come.
    Deadline,
}

/// What the reactor shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start this change; it becomes the one that runs.
    Start(Ask),
    /// Take these services, if there are other ones, and restart those named.
    Adopt(Option<Vec<Service>>, Vec<String>),
    /// One line for the boot log.
    Report(String),
    /// Boot again, for this reason.
    Reboot(String),
}

/// What the outside may know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// The config in force is the last known good one, or the only one.
    #[default]
    Settled,
    /// It must prove itself until then.
    OnProof(Time),
    /// It did not, and is kept all the same; it may still.
    Unproven,
    /// It goes at that time.
    Tried(Time),
}

/// All that is kept between two events; by default of a node at rest, not well yet.
#[derive(Debug, Default)]
pub struct Policy {
    phase: Phase,
    /// Whether there is a way back from [`Phase::OnProof`].
    may_revert: bool,
    /// How the node was when the config on proof came.
    was: Before,
    pods: bool,
    kubelet: bool,
    /// Since when both are.
    well_since: Option<Time>,
    kubelet_since: Option<Time>,
    running: Option<Next>,
    waiting: Waiting,
    /// How the node was when the change that runs began: what the change does may show before it has ended.
    began: Before,
    /// What was so and will be again, after a boot or a revert: until then, or until it is, that counts for the next
    /// change, too.
    trusted: (Before, Time),
}

impl Policy {
    /// Takes one event.
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        if Before::for_long(self.well_since, None, now).well {
            self.trusted = Default::default();
        }
        match event {
            // It has been well once, and has the time of a new one to be so again.
            Event::Booted(None) => self.trusted = (Before::WELL, now + PROOF_LIMIT),
            Event::Booted(Some(proof)) => {
                let was = match proof {
                    // What it goes back to has been well once.
                    Proof::Only | Proof::OrBack(None) => Before::WELL,
                    Proof::OrBack(Some(kept)) => Before { well: false, kubelet: kept == Kept::WithKubelet },
                };
                self.on_proof(now + PROOF_LIMIT, proof != Proof::Only, was);
            }
            Event::Started(ask) => self.run(Next { ask, echo: false, counts: false }, now),
            Event::FileChanged(path) => self.waiting.file(path, now, self.has_echo()),
            Event::ManifestsChanged => self.waiting.repair(now, self.has_echo()),
            Event::Ended(result) => self.ended(result, now, &mut actions),
            Event::Pods(up) => {
                self.pods = up;
                self.look(now);
            }
            Event::Kubelet(up) => {
                self.kubelet = up;
                self.look(now);
            }
            Event::Waited(true) => self.waiting.freed(now),
            Event::Waited(false) => {
                let at = self.waiting.failed(now);
                self.waiting.repair(at, false);
            }
            Event::Deadline => {}
        }
        self.settle(now, &mut actions);
        actions
    }

    /// When [`Event::Deadline`] is due, if ever.
    pub fn deadline(&self) -> Option<Time> {
        if self.running.is_some() {
            return None;
        }
        let proof = match self.phase {
            _ if self.waiting.has_proof() => None,
            Phase::Settled => None,
            Phase::OnProof(until) => Some(match (self.well_since, self.kubelet_since) {
                (Some(since), _) => since + SOAK,
                // One that has just come up may go down again.
                (None, Some(since)) if self.needs_kubelet_alone() => until.max(since + SOAK),
                (None, _) => until,
            }),
            Phase::Unproven => self.well_since.map(|since| since + SOAK),
            Phase::Tried(until) => Some(until),
        };
        self.waiting.deadline().into_iter().chain(proof).min()
    }

    /// Whether a change runs, so that no other may be started.
    pub fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// The last [`Event::Kubelet`].
    pub fn has_kubelet(&self) -> bool {
        self.kubelet
    }

    /// The last [`Event::Pods`].
    pub fn has_pods(&self) -> bool {
        self.pods
    }

    /// Where the config in force stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What is seen while a change runs is likely its own doing; the look for it counts for no other look.
    fn has_echo(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.echo)
    }

    /// The config on proof needs the kubelet to come up and no more, for not all pods ran before it.
    fn needs_kubelet_alone(&self) -> bool {
        self.was.kubelet && !self.was.well
    }

    fn on_proof(&mut self, until: Time, may_revert: bool, was: Before) {
        self.phase = Phase::OnProof(until);
        self.may_revert = may_revert;
        self.was = was;
    }

    fn run(&mut self, next: Next, now: Time) {
        self.began = Before::for_long(self.well_since, self.kubelet_since, now);
        self.running = Some(next);
    }

    fn look(&mut self, now: Time) {
        self.well_since = (self.pods && self.kubelet).then(|| self.well_since.unwrap_or(now));
        self.kubelet_since = self.kubelet.then(|| self.kubelet_since.unwrap_or(now));
    }

    fn ended(&mut self, result: Result<Report, String>, now: Time, actions: &mut Vec<Action>) {
        let Some(Next { ask, counts, .. }) = self.running.take() else { return };
        if counts {
            self.waiting.count(now);
        }
        let report = match result {
            Ok(report) => report,
            Err(why) => {
                let why = format!("config: a change ended without a result: {why}");
                match ask {
                    // What it had already done is made what the config in force says.
                    Ask::Apply { .. } | Ask::File { .. } | Ask::Rollback { .. } => {
                        self.waiting.repair(now, false);
                    }
                    Ask::Revert { .. } | Ask::Prove | Ask::Keep { .. } | Ask::Repair => {}
                }
                Report::Failed { why }
            }
        };
        match report {
            Report::Failed { why } => {
                actions.push(Action::Report(why));
                self.try_again(ask, now);
            }
            Report::Nothing { why } => {
                actions.extend(why.map(Action::Report));
                self.waiting.worked();
                if ask == Ask::Prove {
                    // Another config has been stored meanwhile, which has its own proof to give.
                    self.phase = Phase::Settled;
                }
            }
            Report::Kept => {}
            Report::Repaired { failed, waits: _ } => self.left(failed, now),
            Report::Proved => self.phase = Phase::Settled,
            Report::Staged { generation, reboot } => match reboot {
                Some(why) => actions.push(Action::Reboot(why)),
                None => actions.push(Action::Report(format!("config {generation} waits for the next boot"))),
            },
            Report::Applied(applied) => {
                self.left(applied.failed, now);
                self.applied(&ask, *applied, now, actions);
            }
        }
    }

    /// This many things could not be done, and are to be tried again.
    fn left(&mut self, failed: usize, now: Time) {
        if failed == 0 {
            self.waiting.worked();
        } else {
            let at = self.waiting.failed(now);
            self.waiting.repair(at, false);
        }
    }

    /// What could not be done, for a reason that may pass.
    fn try_again(&mut self, ask: Ask, now: Time) {
        // A client has been told, and asks again or does not.
        if ask.has_client() {
            return;
        }
        let at = self.waiting.failed(now);
        match ask {
            Ask::Revert { why } => self.waiting.revert(why, at),
            Ask::Keep { kept } => self.waiting.keep(Some(kept), at),
            Ask::Prove => self.waiting.prove(at),
            Ask::File { path } => self.waiting.file(path, at, false),
            Ask::Repair => self.waiting.repair(at, false),
            Ask::Apply { .. } | Ask::Rollback { .. } => {}
        }
    }

    fn applied(&mut self, ask: &Ask, applied: Applied, now: Time, actions: &mut Vec<Action>) {
        let Applied { generation, standing, pods, refused, services, restart, reboot, failed: _, waits: _ } =
            applied;
        let (trusted, until) = self.trusted;
        // A config that follows one on proof is measured by what was before that.
        let follows = matches!(self.phase, Phase::OnProof(_) | Phase::Tried(_));
        let was = self.began.or(trusted, now < until).or(self.was, follows);
        if matches!(ask, Ask::Revert { .. }) {
            self.trusted = (self.was, now + 2 * SOAK);
        }
        self.waiting.forget_last();
        let mut what = match standing {
            Standing::Good => {
                self.phase = Phase::Settled;
                "the last known good one".to_owned()
            }
            Standing::OnProof(limit) => {
                self.on_proof(now + limit, true, was);
                self.waiting.keep(was.kept(), now);
                let seconds = limit.as_secs();
                match was.kept() {
                    None => format!("kubelet and pods have {seconds} s to come up"),
                    Some(Kept::WithKubelet) => format!(
                        "the kubelet has {seconds} s to come up; not all pods ran before, so they need not"
                    ),
                    Some(Kept::Always | Kept::Partial) => {
                        "kept whatever comes, for the node was not well before".to_owned()
                    }
                }
            }
            Standing::Only => {
                self.on_proof(now + PROOF_LIMIT, false, was);
                "there is none to go back to".to_owned()
            }
            Standing::Tried(limit) => {
                self.phase = Phase::Tried(now + limit);
                self.was = was;
                format!("tried for {} s", limit.as_secs())
            }
        };
        if refused > 0 {
            what.push_str("; as far as it goes, for it has errors");
        }
        // The new config has all of the soak before it.
        self.well_since = None;
        self.look(now);
        let plural = if pods == 1 { "" } else { "s" };
        let word = if matches!(ask, Ask::Revert { .. }) { "back to config" } else { "config" };
        actions.push(Action::Report(format!("{word} {generation} in force: {pods} pod{plural}; {what}")));
        actions.push(Action::Adopt(services, restart));
        actions.extend(reboot.map(Action::Reboot));
    }

    /// What follows from time and from what waits.
    fn settle(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.running.is_some() {
            return;
        }
        self.judge(now, actions);
        let Some(next) = self.waiting.next(now) else { return };
        actions.push(Action::Start(next.ask.clone()));
        self.run(next, now);
    }

    fn judge(&mut self, now: Time, actions: &mut Vec<Action>) {
        let span = |since: Option<Time>| since.map(|since| now.saturating_sub(since));
        let (well_for, kubelet_for) = (span(self.well_since), span(self.kubelet_since));
        if well_for.is_none() {
            self.waiting.prove_no_more();
        }
        match self.phase {
            Phase::Settled => {}
            // It is proved once that is stored.
            Phase::OnProof(_) | Phase::Unproven if well_for.is_some_and(|span| span >= SOAK) => {
                self.waiting.prove(now);
            }
            // One whose kubelet is up at its limit gets the rest of the soak.
            Phase::OnProof(until)
                if now >= until
                    && self.needs_kubelet_alone()
                    && kubelet_for.is_some_and(|span| span < SOAK) => {}
            // And so does one that is well.
            Phase::OnProof(until) if now >= until && well_for.is_none() => {
                let why = match (self.kubelet, self.pods) {
                    (false, _) => "the kubelet did not come up, or did not stay up",
                    (true, false) => "not all pods came up, or stayed up",
                    (true, true) => "kubelet and pods did not stay up",
                };
                let fell = self.was.well || self.was.kubelet && !self.kubelet;
                if self.may_revert && fell {
                    actions.push(Action::Report(format!("config: {why} within its limit; going back")));
                    self.phase = Phase::Settled;
                    self.waiting.revert(why.to_owned(), now);
                } else {
                    self.phase = Phase::Unproven;
                    let reason = match self.may_revert {
                        true => "the node was not well before it either",
                        false => "there is none to go back to",
                    };
                    actions
                        .push(Action::Report(format!("config: {why} within its limit; kept, for {reason}")));
                }
            }
            Phase::Tried(until) if now >= until => {
                self.phase = Phase::Settled;
                self.waiting.revert("its time in try mode is over".to_owned(), now);
            }
            Phase::OnProof(_) | Phase::Unproven | Phase::Tried(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
