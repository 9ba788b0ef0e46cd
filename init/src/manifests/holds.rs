//! Which manifests must wait, and for what (rule 7 of the writer): a port of the host that another pod still has, the
//! pod's own old version, and a mount of `machine.kubelet.extraMounts` that is not there yet.
//!
//! A kubelet that gets a pod whose port another one has refuses it for good, or its container ends again and again. So
//! a pod that was removed, or changed into another one (a new UID), is *leaving* until nothing of it runs or its time
//! is over, and no manifest that needs one of its ports is written before. One that is held back keeps the file that
//! it has: its old version runs on. But where pods exchange ports, each waits for the other: then their old files go
//! first. So does that of a pod whose own old version still runs and has another UID: a kubelet that is down at the
//! change, or is restarted by it, starts the new one beside the old one, on its ports and its files.
//!
//! Each look starts from the whole config and from [`Holds`], which is all that is kept from one to the next: a newer
//! config, a dropped pod or a revert needs no rule of its own. Pure: clock, processes and mounts are [`Facts`].

use super::{Changes, HostPort, Manifest, file_name};
use crate::clock::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// How much longer than its grace period a pod may take to end: the kubelet sees a removed manifest at once, looks after
/// what is left every 2 s, and kills at the end of the grace period.
pub const LEAVE_MARGIN: Duration = Duration::from_secs(10);
/// What a kubelet that was started since needs besides, until it looks after anything.
const KUBELET_START: Duration = Duration::from_secs(30);

/// What a pod that has or had a manifest holds of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    id: String,
    /// `<namespace>/<name>`.
    name: String,
    uid: String,
    ports: Vec<HostPort>,
    grace_s: u64,
}

/// A pod whose manifest is gone, or is another one now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Leaving {
    claim: Claim,
    /// When its manifest went.
    since: Time,
}

/// A pod whose manifest is not written yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Static pod ID.
    pub id: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// What it waits for, for people.
    pub reason: String,
    /// Its old version keeps its file meanwhile.
    pub stands: bool,
    /// It waits for the end of a pod: one that has its port, or its own old version.
    pub pod: bool,
    /// What is to be written, if nothing stands: the newest version that can be run, should the next one not be.
    pub manifest: Option<Manifest>,
}

/// What is kept from one look to the next, as JSON in [`crate::paths::HOLDS`]. Empty at boot, when no pod runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// Mount points of `machine.kubelet.extraMounts` where nothing is mounted yet.
    pub missing: Vec<String>,
    held: Vec<Held>,
    leaving: Vec<Leaving>,
    /// By file name, as it was last written.
    standing: BTreeMap<String, Claim>,
}

/// How the node is.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The time.
    pub now: Time,
    /// Nothing of the pod of this UID runs.
    pub is_gone: &'a dyn Fn(&str) -> bool,
    /// Something of the pod of this UID is known to run: not the contrary where nothing can be known.
    pub runs: &'a dyn Fn(&str) -> bool,
    /// Since when the kubelet's process runs; without one no pod ends.
    pub kubelet: Option<Time>,
    /// Something is mounted at this mount point.
    pub is_mounted: &'a dyn Fn(&str) -> bool,
}

/// What is to be done to a manifest directory, in the order of the fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Order<'a> {
    /// Files of ours to remove.
    pub deletions: Vec<String>,
    /// Manifests to write.
    pub writes: Vec<&'a Manifest>,
    /// Files of ours that the config does not have and that stay, see [`Changes`].
    pub kept: Vec<String>,
    /// Files of others.
    pub foreign: Vec<String>,
    /// What is to be said on the console.
    pub lines: Vec<String>,
}

impl<'a> From<Changes<'a>> for Order<'a> {
    /// Nothing is held.
    fn from(changes: Changes<'a>) -> Self {
        let Changes { deletions, mut changes, additions, kept, foreign } = changes;
        changes.extend(additions);
        Self { deletions, writes: changes, kept, foreign, lines: Vec::new() }
    }
}

impl fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Holds {
    /// At boot, with these mounts missing.
    pub fn missing(missing: Vec<String>) -> Self {
        Self { missing, ..Self::default() }
    }

    /// The pods that are held, in the order of the config.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Whether this pod (static pod ID) is held.
    pub fn holds(&self, id: &str) -> bool {
        self.held.iter().any(|held| held.id == id)
    }

    /// Whether there is anything to wait for that comes without a change of the config.
    pub fn waits(&self) -> bool {
        self.waits_for_pods() || !self.missing.is_empty()
    }

    /// Whether a pod waits for one to be gone.
    pub fn waits_for_pods(&self) -> bool {
        self.held.iter().any(|held| held.pod) && self.awaited().next().is_some()
    }

    /// Whether another [`Self::order`] would do more than the last.
    pub fn is_due(&self, facts: &Facts<'_>) -> bool {
        let is_over = |leaving: &Leaving| leaving.is_overdue(facts) || (facts.is_gone)(&leaving.claim.uid);
        self.waits_for_pods() && self.awaited().any(is_over)
            || self.missing.iter().any(|target| (facts.is_mounted)(target))
    }

    /// Those whose end may set somebody free.
    fn awaited(&self) -> impl Iterator<Item = &Leaving> {
        let is_it = |leaving: &&Leaving| !leaving.claim.ports.is_empty() || self.holds(&leaving.claim.id);
        self.leaving.iter().filter(is_it)
    }

    /// Takes what is to be done for `want`, all that the config has, and decides what of it is done now.
    pub fn order<'a>(&mut self, want: &'a [Manifest], changes: Changes<'a>, facts: &Facts<'_>) -> Order<'a> {
        let Changes { deletions, mut changes, additions, kept, foreign } = changes;
        let mut order = Order { deletions, kept, foreign, ..Order::default() };
        let overdue = self.forget_what_is_over(facts);
        // Those that are to go, and those that somebody else has removed.
        let stays =
            |file: &String| order.kept.contains(file) || want.iter().any(|manifest| manifest.file == *file);
        let gone: Vec<String> = self.standing.keys().filter(|file| !stays(file)).cloned().collect();
        for file in gone.iter().chain(additions.iter().map(|manifest| &manifest.file)) {
            self.leave(file, facts.now);
        }
        let with_file: BTreeSet<&str> = changes.iter().map(|manifest| manifest.file.as_str()).collect();
        changes.extend(additions);
        let pending: BTreeSet<&str> = changes.iter().map(|manifest| manifest.file.as_str()).collect();
        let unchanged = want.iter().filter(|manifest| !pending.contains(manifest.file.as_str()));
        unchanged.for_each(|manifest| self.stand(manifest, facts.now));

        let mut held: Vec<(&Manifest, Held)> = Vec::new();
        for manifest in changes {
            let mut stands = with_file.contains(manifest.file.as_str());
            let (reason, pod) = match self.obstacle(manifest) {
                Some(obstacle) => obstacle,
                None if self.runs_as_another(manifest, facts) => {
                    self.leave(&manifest.file, facts.now);
                    if std::mem::take(&mut stands) {
                        order.deletions.push(manifest.file.clone());
                    }
                    ("its old version is ending".to_owned(), true)
                }
                None => {
                    self.stand(manifest, facts.now);
                    let was_held = self.holds(&manifest.id);
                    let late = overdue.iter().filter(|_| was_held);
                    order.lines.extend(late.filter_map(|late| late.said_for(manifest)));
                    order.writes.push(manifest);
                    continue;
                }
            };
            let (id, namespace, name) =
                (manifest.id.clone(), manifest.namespace.clone(), manifest.name.clone());
            let waiting = (!stands).then(|| manifest.clone());
            held.push((manifest, Held { id, namespace, name, reason, stands, pod, manifest: waiting }));
        }
        for place in self.exchanged(&held) {
            let Some((manifest, held)) = held.get_mut(place) else { continue };
            self.leave(&manifest.file, facts.now);
            order.deletions.push(manifest.file.clone());
            (held.stands, held.manifest) = (false, Some((*manifest).clone()));
        }
        let held: Vec<Held> = held.into_iter().map(|(_, held)| held).collect();
        order.lines.extend(self.news(&held, &order.writes));
        self.held = held;
        order
    }

    /// Takes out who is gone or has had its time; gives the latter.
    fn forget_what_is_over(&mut self, facts: &Facts<'_>) -> Vec<Leaving> {
        self.leaving.retain(|leaving| !(facts.is_gone)(&leaving.claim.uid));
        let (over, rest) =
            std::mem::take(&mut self.leaving).into_iter().partition(|leaving| leaving.is_overdue(facts));
        self.leaving = rest;
        self.missing.retain(|target| !(facts.is_mounted)(target));
        over
    }

    /// A file goes, or another pod takes it: the pod that it was of leaves.
    fn leave(&mut self, file: &str, now: Time) {
        let Some(claim) = self.standing.remove(file) else { return };
        if self.leaving.iter().all(|leaving| leaving.claim.uid != claim.uid) {
            self.leaving.push(Leaving { claim, since: now });
        }
    }

    /// A manifest is written, or there already: its pod does not leave, and one that it replaces does.
    fn stand(&mut self, manifest: &Manifest, now: Time) {
        if self.standing.get(&manifest.file).is_some_and(|claim| claim.uid != manifest.uid) {
            self.leave(&manifest.file, now);
        }
        self.leaving.retain(|leaving| leaving.claim.uid != manifest.uid);
        let claim = Claim {
            id: manifest.id.clone(),
            name: full_name(manifest),
            uid: manifest.uid.clone(),
            ports: manifest.host_ports.clone(),
            grace_s: manifest.grace_s,
        };
        self.standing.insert(manifest.file.clone(), claim);
    }

    /// Whether something of this pod still runs under another UID. Which is to end, or does so already.
    fn runs_as_another(&self, manifest: &Manifest, facts: &Facts<'_>) -> bool {
        let leaving = self.leaving.iter().map(|leaving| &leaving.claim);
        let mut own =
            leaving.filter(|claim| claim.id == manifest.id).chain(self.standing.get(&manifest.file));
        own.any(|claim| claim.uid != manifest.uid && (facts.runs)(&claim.uid))
    }

    /// Why a manifest cannot be written yet, and whether that is a pod.
    fn obstacle(&self, manifest: &Manifest) -> Option<(String, bool)> {
        let is_on = |target: &&String| {
            manifest.host_paths.iter().any(|path| Path::new(path).starts_with(target.as_str()))
        };
        if let Some(target) = self.missing.iter().find(is_on) {
            return Some((format!("machine.kubelet.extraMounts: nothing is mounted at {target} yet"), false));
        }
        let leaving = self.leaving.iter().map(|leaving| (&leaving.claim, "which is ending"));
        let standing = self.standing.values().map(|claim| (claim, "which is to change or to go first"));
        let mut others = leaving.chain(standing);
        others.find_map(|(claim, how)| {
            let port = claim.taken_from(manifest)?;
            Some((format!("{port} is still that of pod {}, {how}", claim.name), true))
        })
    }

    /// Places of those that wait for each other's old version, which therefore would never go.
    fn exchanged(&self, held: &[(&Manifest, Held)]) -> Vec<usize> {
        let waits_for = |from: usize| -> Vec<usize> {
            let Some((manifest, _)) = held.get(from).filter(|(_, held)| held.pod) else { return Vec::new() };
            let blocks = |(other, held): &(&Manifest, Held)| {
                let claim = self.standing.get(&other.file).filter(|claim| claim.uid != other.uid);
                held.stands && held.pod && claim.is_some_and(|claim| claim.taken_from(manifest).is_some())
            };
            (0..held.len()).filter(|place| held.get(*place).is_some_and(blocks)).collect()
        };
        let edges: Vec<Vec<usize>> = (0..held.len()).map(waits_for).collect();
        let reaches_itself = |start: &usize| {
            let mut seen = BTreeSet::new();
            let mut next = edges.get(*start).cloned().unwrap_or_default();
            while let Some(place) = next.pop() {
                if seen.insert(place) {
                    next.extend(edges.get(place).into_iter().flatten());
                }
            }
            seen.contains(start)
        };
        (0..held.len()).filter(reaches_itself).collect()
    }

    /// What has changed since the last look.
    fn news(&self, held: &[Held], writes: &[&Manifest]) -> Vec<String> {
        let is_new = |held: &&Held| {
            !self.held.iter().any(|before| (&before.id, &before.reason) == (&held.id, &held.reason))
        };
        let news = held.iter().filter(is_new);
        let news = news.map(|held| format!("pod {}/{}: held: {}", held.namespace, held.name, held.reason));
        let freed = writes.iter().filter(|manifest| self.holds(&manifest.id));
        news.chain(freed.map(|manifest| format!("pod {}: no longer held", full_name(manifest)))).collect()
    }
}

impl Claim {
    /// The first port that a manifest of another pod needs of these.
    fn taken_from(&self, manifest: &Manifest) -> Option<HostPort> {
        let is_wanted = |port: &&HostPort| manifest.host_ports.iter().any(|wanted| wanted.collides(port));
        self.ports.iter().find(is_wanted).filter(|_| self.id != manifest.id).copied()
    }
}

impl Held {
    /// Its file's name.
    pub fn file(&self) -> String {
        file_name(&self.id)
    }
}

impl Leaving {
    /// Nobody waits for it any longer.
    fn is_overdue(&self, facts: &Facts<'_>) -> bool {
        let Some(kubelet) = facts.kubelet else { return false };
        let from = if kubelet > self.since { kubelet.saturating_add(KUBELET_START) } else { self.since };
        let limit = Duration::from_secs(self.claim.grace_s).saturating_add(LEAVE_MARGIN);
        from.saturating_add(limit) <= facts.now
    }

    /// What is said when a manifest is written all the same.
    fn said_for(&self, manifest: &Manifest) -> Option<String> {
        let limit = LEAVE_MARGIN.as_secs().saturating_add(self.claim.grace_s);
        let (pod, other) = (full_name(manifest), &self.claim.name);
        if self.claim.id == manifest.id && self.claim.uid != manifest.uid {
            return Some(format!(
                "pod {pod}: started although its old version has not ended within {limit} s"
            ));
        }
        let port = self.claim.taken_from(manifest)?;
        Some(format!(
            "pod {pod}: started although pod {other}, which has its {port}, has not ended within {limit} s"
        ))
    }
}

fn full_name(manifest: &Manifest) -> String {
    format!("{}/{}", manifest.namespace, manifest.name)
}

#[cfg(test)]
#[path = "holds_tests.rs"]
mod tests;
