//! Which change is done when, and when the node goes back: events in, actions out, under a clock that is handed in.
//!
//! One change at a time; what a file or a manifest asks for meanwhile waits, what a client asks for is refused by the
//! reactor. A new config is *on proof*: kubelet and pods must be up together for [`SOAK`] without a break. If they are
//! not within its limit, and they were up before the change, the node reverts by itself. A config that is only tried
//! reverts at its limit whatever happens (Talos's meaning). A node that was not well before keeps the new config: going
//! back to what did not work either would undo the repair of one pod for the sake of another.
//!
//! [`Policy::step`] never blocks, fails or reads a clock. Only the reactor performs an [`Action`].

use super::report::{Applied, Ask, Report, Standing};
use crate::clock::Time;
use crate::services::Service;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long kubelet and pods must be up without a break: longer than a container that fails at start looks well, and
/// than the kubelet needs to notice a change.
pub const SOAK: Duration = Duration::from_secs(30);
/// How long a config has to prove itself when nobody says otherwise: an image may have to be pulled.
pub const PROOF_LIMIT: Duration = Duration::from_secs(300);
/// How long a config is tried when nobody says otherwise: Talos's default.
pub const TRY_LIMIT: Duration = Duration::from_secs(60);
/// This many changes that no client asked for are done at once; whoever writes manifests or configs in a loop is then
/// followed no closer than so many in [`BURST_SPAN`].
const BURST: usize = 10;
/// From a revert that failed to the next: what kept it (no memory, a disk) may pass.
const REVERT_DELAY: Duration = Duration::from_secs(30);
/// See [`BURST`].
const BURST_SPAN: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The config of this boot is in force. `Some`: it has to prove itself; `true`: there is one to go back to.
    Booted(Option<bool>),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The config in force is the last known good one, or the only one.
    Settled,
    /// It must prove itself until then.
    OnProof(Time),
    /// It did not, and is kept all the same; it may still.
    Unproven,
    /// It goes at that time.
    Tried(Time),
}

/// All that is kept between two events.
#[derive(Debug)]
pub struct Policy {
    phase: Phase,
    /// Whether there is a way back from [`Phase::OnProof`].
    may_revert: bool,
    /// The node was well when the config on proof came.
    was_well: bool,
    pods: bool,
    kubelet: bool,
    /// Since when both are.
    well_since: Option<Time>,
    running: Option<Ask>,
    /// Waiting for their turn, most urgent first; each at most once.
    waiting: Waiting,
    /// When the last changes ended that no client asked for, newest first.
    unasked: [Option<Time>; BURST],
    /// The node was well when the change that runs began: what the change does may show before it has ended.
    began_well: bool,
    /// A revert has brought back what was well; until then that counts for the next change, too.
    trusted_until: Time,
    /// A revert that failed is tried again then.
    revert_at: Time,
}

#[derive(Debug, Default)]
struct Waiting {
    revert: Option<String>,
    /// At most as many as are watched.
    files: BTreeSet<String>,
    prove: bool,
    repair: bool,
}

impl Default for Policy {
    /// A node at rest, not well yet.
    fn default() -> Self {
        Self {
            phase: Phase::Settled,
            may_revert: false,
            was_well: false,
            pods: false,
            kubelet: false,
            well_since: None,
            running: None,
            waiting: Waiting::default(),
            unasked: [None; BURST],
            began_well: false,
            trusted_until: Time::ZERO,
            revert_at: Time::ZERO,
        }
    }
}

impl Policy {
    /// Takes one event.
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Booted(None) => {}
            // What it goes back to has been well once.
            Event::Booted(Some(may_revert)) => self.on_proof(now + PROOF_LIMIT, may_revert, true),
            Event::Started(ask) => self.run(ask, now),
            Event::FileChanged(path) => {
                self.waiting.files.insert(path);
            }
            Event::ManifestsChanged => self.waiting.repair = true,
            Event::Ended(result) => self.ended(result, now, &mut actions),
            Event::Pods(up) => {
                self.pods = up;
                self.look(now);
            }
            Event::Kubelet(up) => {
                self.kubelet = up;
                self.look(now);
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
        let Waiting { revert, files, prove, repair } = &self.waiting;
        let revert = revert.is_some().then_some(self.revert_at);
        let waiting = (!files.is_empty() || *prove || *repair).then_some(self.rest_until());
        let proof = match self.phase {
            _ if *prove => None,
            Phase::Settled => None,
            Phase::OnProof(until) => Some(self.well_since.map_or(until, |since| since + SOAK)),
            Phase::Unproven => self.well_since.map(|since| since + SOAK),
            Phase::Tried(until) => Some(until),
        };
        [revert, waiting, proof].into_iter().flatten().min()
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

    fn rest_until(&self) -> Time {
        self.unasked[BURST - 1].map_or(Time::ZERO, |oldest| oldest + BURST_SPAN)
    }

    fn on_proof(&mut self, until: Time, may_revert: bool, was_well: bool) {
        self.phase = Phase::OnProof(until);
        self.may_revert = may_revert;
        self.was_well = was_well;
    }

    fn run(&mut self, ask: Ask, now: Time) {
        self.began_well = self.well_since.is_some_and(|since| now.saturating_sub(since) >= SOAK);
        self.running = Some(ask);
    }

    fn look(&mut self, now: Time) {
        self.well_since = (self.pods && self.kubelet).then(|| self.well_since.unwrap_or(now));
    }

    fn ended(&mut self, result: Result<Report, String>, now: Time, actions: &mut Vec<Action>) {
        let Some(ask) = self.running.take() else { return };
        if !ask.has_client() {
            self.unasked.rotate_right(1);
            self.unasked[0] = Some(now);
        }
        match result {
            Ok(Report::Nothing { why }) => {
                actions.extend(why.map(Action::Report));
                match ask {
                    Ask::Revert { why } => self.revert_again(why, now),
                    // Another config has been stored meanwhile, which has its own proof to give.
                    Ask::Prove => self.phase = Phase::Settled,
                    Ask::Apply { .. } | Ask::File { .. } | Ask::Rollback { .. } | Ask::Repair => {}
                }
            }
            Ok(Report::Repaired) => {}
            Ok(Report::Proved) => self.phase = Phase::Settled,
            Ok(Report::Staged { generation, reboot }) => match reboot {
                Some(why) => actions.push(Action::Reboot(why)),
                None => actions.push(Action::Report(format!("config {generation} waits for the next boot"))),
            },
            Ok(Report::Applied(applied)) => self.applied(&ask, *applied, now, actions),
            Err(why) => {
                actions.push(Action::Report(format!("config: a change ended without a result: {why}")));
                match ask {
                    Ask::Revert { why } => self.revert_again(why, now),
                    Ask::Repair => {}
                    // What it had already done is made what the config in force says.
                    Ask::Apply { .. } | Ask::File { .. } | Ask::Rollback { .. } | Ask::Prove => {
                        self.waiting.repair = true;
                    }
                }
            }
        }
    }

    fn applied(&mut self, ask: &Ask, applied: Applied, now: Time, actions: &mut Vec<Action>) {
        let Applied { generation, standing, pods, services, restart } = applied;
        let was_well = self.began_well
            || now < self.trusted_until
            // A config that follows one on proof is measured by what was before that.
            || matches!(self.phase, Phase::OnProof(_) | Phase::Tried(_)) && self.was_well;
        if matches!(ask, Ask::Revert { .. }) && self.was_well {
            self.trusted_until = now + 2 * SOAK;
        }
        let what = match standing {
            Standing::Good => {
                self.phase = Phase::Settled;
                "the last known good one".to_owned()
            }
            Standing::Unstored => {
                self.phase = Phase::Settled;
                "as far as it goes, and not stored: it has errors".to_owned()
            }
            Standing::OnProof(limit) => {
                self.on_proof(now + limit, true, was_well);
                if was_well {
                    format!("kubelet and pods have {} s to come up", limit.as_secs())
                } else {
                    "kept whatever comes, for the node was not well before".to_owned()
                }
            }
            Standing::Only => {
                self.on_proof(now + PROOF_LIMIT, false, was_well);
                "there is none to go back to".to_owned()
            }
            Standing::Tried(limit) => {
                self.phase = Phase::Tried(now + limit);
                self.was_well = was_well;
                format!("tried for {} s", limit.as_secs())
            }
        };
        // The new config has all of the soak before it.
        self.well_since = None;
        self.look(now);
        let plural = if pods == 1 { "" } else { "s" };
        let word = match ask {
            Ask::Revert { .. } => "back to config",
            Ask::Apply { .. } | Ask::File { .. } | Ask::Rollback { .. } | Ask::Prove | Ask::Repair => {
                "config"
            }
        };
        actions.push(Action::Report(format!("{word} {generation} in force: {pods} pod{plural}; {what}")));
        actions.push(Action::Adopt(services, restart));
    }

    fn revert_again(&mut self, why: String, now: Time) {
        self.revert_at = now + REVERT_DELAY;
        self.waiting.revert = Some(why);
    }

    /// What follows from time and from what waits.
    fn settle(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.running.is_some() {
            return;
        }
        self.judge(now, actions);
        let rested = now >= self.rest_until();
        let next = if let Some(why) = self.waiting.revert.take_if(|_| now >= self.revert_at) {
            Ask::Revert { why }
        } else if rested && std::mem::take(&mut self.waiting.prove) {
            Ask::Prove
        } else if let Some(path) = if rested { self.waiting.files.pop_first() } else { None } {
            Ask::File { path }
        } else if rested && std::mem::take(&mut self.waiting.repair) {
            Ask::Repair
        } else {
            return;
        };
        self.run(next.clone(), now);
        actions.push(Action::Start(next));
    }

    fn judge(&mut self, now: Time, actions: &mut Vec<Action>) {
        let well_for = self.well_since.map(|since| now.saturating_sub(since));
        match self.phase {
            Phase::Settled => {}
            // It is proved once that is stored.
            Phase::OnProof(_) | Phase::Unproven if well_for.is_some_and(|span| span >= SOAK) => {
                self.waiting.prove = true;
            }
            // One that is well at its limit gets the rest of the soak.
            Phase::OnProof(until) if now >= until && well_for.is_none() => {
                let why = match (self.kubelet, self.pods) {
                    (false, _) => "the kubelet did not come up, or did not stay up",
                    (true, false) => "not all pods came up, or stayed up",
                    (true, true) => "kubelet and pods did not stay up",
                };
                if self.may_revert && self.was_well {
                    actions.push(Action::Report(format!("config: {why} within its limit; going back")));
                    self.phase = Phase::Settled;
                    self.waiting.revert = Some(why.to_owned());
                } else {
                    self.phase = Phase::Unproven;
                    let reason = if self.may_revert {
                        "the node was not well before it either"
                    } else {
                        "there is none to go back to"
                    };
                    actions
                        .push(Action::Report(format!("config: {why} within its limit; kept, for {reason}")));
                }
            }
            Phase::Tried(until) if now >= until => {
                self.phase = Phase::Settled;
                self.waiting.revert = Some("its time in try mode is over".to_owned());
            }
            Phase::OnProof(_) | Phase::Unproven | Phase::Tried(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
