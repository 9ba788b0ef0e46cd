//! What is said of the static pods: from what was seen of them to lines of the boot log.
//!
//! `init pods` looks (cgroups, container bundles, log folders) and hands in what it saw; [`Watch`] decides what that
//! means and says each change once. No API is asked, so this works with every kubelet, and with none that answers.
//!
//! What it cannot see: exit codes and probes. So "running" is "the sandbox and every container have a process of
//! their own", not "ready"; and a pod that is not restarted always counts as finished when all its containers have
//! run and nothing of it is left for [`QUIET`], whether or not they succeeded.

use crate::clock::Time;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// From when on a pod that does not run is said to wait, and for what. An image is pulled in less on most days.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing of a pod must be there before it has finished: a kubelet that starts a failed container anew
/// keeps the pod's sandbox meanwhile, and one that has just started takes a few seconds to get to each pod.
pub const QUIET: Duration = Duration::from_secs(10);
/// The pause between two looks while something is on its way, and otherwise.
const QUICK: Duration = Duration::from_millis(50);
const SLOW: Duration = Duration::from_secs(1);
/// How long looks are quick: after the boot began, and after a pod ceased to run.
const QUICK_AT_BOOT: Duration = Duration::from_secs(300);
const QUICK_AFTER: Duration = Duration::from_secs(10);

/// A static pod, as its manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`: names its cgroup and its log folder.
    pub uid: String,
    /// `<namespace>/<name>`.
    pub name: String,
    /// Names of its containers.
    pub containers: Vec<String>,
    /// Its containers may end for good: `restartPolicy` is not Always.
    pub may_finish: bool,
}

impl Pod {
    /// Reads a manifest that [`crate::manifests::plan`] made; `None` for anything else.
    pub fn from_manifest(bytes: &[u8]) -> Option<Self> {
        let File { metadata, spec } = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            uid: metadata.uid,
            name: format!("{}/{}", metadata.namespace, metadata.name),
            containers: spec.containers.into_iter().map(|container| container.name).collect(),
            may_finish: !matches!(spec.restart_policy.as_deref(), None | Some("" | "Always")),
        })
    }
}

/// The little of a manifest that matters here.
#[derive(Deserialize)]
struct File {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Vec<Container>,
    restart_policy: Option<String>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
}

/// What was seen of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// The sandbox has a process of its own.
    pub sandbox: bool,
    /// Containers, also init containers, that have a process of their own.
    pub running: BTreeSet<String>,
    /// Running containers of which it is not known what they are.
    pub unknown: usize,
    /// Containers that have a log, from this boot or from one before. Looked for only when the pod may finish.
    pub logged: BTreeSet<String>,
    /// There is any process in the pod's cgroup.
    pub populated: bool,
}

/// What one step of a [`Watch`] gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Lines for the boot log.
    pub lines: Vec<String>,
    /// All pods run for the first time.
    pub first_ready: bool,
}

/// Watches the static pods of a node.
#[derive(Debug)]
pub struct Watch {
    begun: Time,
    /// By UID: a pod that changed is another pod, and its predecessor may still be on its way out.
    pods: BTreeMap<String, Watched>,
    /// How many pods have a manifest that is held back, so that they cannot run as the config wants.
    held: usize,
    any_ever: bool,
    ready: bool,
    ready_ever: bool,
}

#[derive(Debug)]
struct Watched {
    pod: Pod,
    /// It still has a manifest.
    wanted: bool,
    phase: Phase,
    /// Since when all its containers have run once and nothing of it is there.
    quiet_since: Option<Time>,
}

#[derive(Debug)]
enum Phase {
    /// Not running since then; what it waits for as it was last said.
    Waiting(Time, String),
    Running,
    Finished,
}

impl Watch {
    /// Begins to watch; no pods are known yet.
    pub fn new(now: Time) -> Self {
        Self { begun: now, pods: BTreeMap::new(), held: 0, any_ever: false, ready: false, ready_ever: false }
    }

    /// Takes the pods that have a manifest now, and the number of those whose manifests are held back.
    pub fn want(&mut self, pods: Vec<Pod>, held: usize, now: Time) {
        self.held = held;
        if held > 0 {
            (self.any_ever, self.ready) = (true, false);
        }
        for watched in self.pods.values_mut() {
            watched.wanted = false;
        }
        for pod in pods {
            self.any_ever = true;
            if let Some(watched) = self.pods.get_mut(&pod.uid) {
                watched.wanted = true;
                watched.pod = pod;
                continue;
            }
            self.ready = false;
            let phase = Phase::Waiting(now, String::new());
            self.pods.insert(pod.uid.clone(), Watched { pod, wanted: true, phase, quiet_since: None });
        }
    }

    /// The pods to look at: those that have a manifest, and those that are still on their way out.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().map(|watched| &watched.pod)
    }

    /// Takes what was seen, by UID, and gives what is to be said. `kubelet`: a kubelet has begun its work since the
    /// machine started, so that a pod of which nothing is there is not just waiting for it.
    pub fn step(&mut self, now: Time, kubelet: bool, sights: &BTreeMap<String, Sight>) -> News {
        let mut news = News::default();
        let nothing = Sight::default();
        for (uid, watched) in &mut self.pods {
            let sight = sights.get(uid).unwrap_or(&nothing);
            if watched.step(now, kubelet, sight, &mut news.lines) {
                self.ready = false;
            }
        }
        self.pods
            .retain(|uid, watched| watched.wanted || sights.get(uid).is_some_and(|sight| sight.populated));
        self.report_ready(&mut news);
        news
    }

    /// Whether no pod is still, or again, on its way, and none held: true as well when there is none.
    pub fn is_well(&self) -> bool {
        self.held == 0
            && !self
                .pods
                .values()
                .any(|watched| watched.wanted && matches!(watched.phase, Phase::Waiting(..)))
    }

    /// How long to rest before the next look.
    pub fn pause(&self, now: Time) -> Duration {
        let waiting = |watched: &Watched| match watched.phase {
            Phase::Waiting(since, _) => {
                now.saturating_sub(self.begun) < QUICK_AT_BOOT || now.saturating_sub(since) < QUICK_AFTER
            }
            Phase::Running | Phase::Finished => !watched.wanted,
        };
        if self.pods.values().any(waiting) { QUICK } else { SLOW }
    }

    fn report_ready(&mut self, news: &mut News) {
        let mut wanted = self.pods.values().filter(|watched| watched.wanted);
        if self.ready || self.held > 0 || wanted.any(|watched| matches!(watched.phase, Phase::Waiting(..))) {
            return;
        }
        let count = self.pods.values().filter(|watched| watched.wanted).count();
        match count {
            // At shutdown the manifests go before the pods: then nothing is to be said.
            0 if self.any_ever => return,
            0 => news.lines.push("ready: no pods in the config".to_owned()),
            _ => news.lines.push(format!("ready: all {count} pods running")),
        }
        self.ready = true;
        news.first_ready = !self.ready_ever;
        self.ready_ever = true;
    }
}

impl Watched {
    /// Says what has changed; true when it ceased to run.
    fn step(&mut self, now: Time, kubelet: bool, sight: &Sight, lines: &mut Vec<String>) -> bool {
        let name = &self.pod.name;
        let quiet = self.pod.may_finish && kubelet && !sight.populated && self.all_logged(sight);
        self.quiet_since = quiet.then(|| self.quiet_since.unwrap_or(now));
        let missing = self.missing(sight);
        if missing.is_none() {
            if !matches!(self.phase, Phase::Running) {
                lines.push(format!("pod {name}: running"));
                self.phase = Phase::Running;
            }
            return false;
        }
        if self.quiet_since.is_some_and(|since| now.saturating_sub(since) >= QUIET) {
            if !matches!(self.phase, Phase::Finished) {
                lines.push(format!("pod {name}: finished"));
                self.phase = Phase::Finished;
            }
            return false;
        }
        let missing = missing.unwrap_or_default();
        // Whether a pod that may finish has ended for good is known after a while.
        let may_have_ended = self.pod.may_finish && self.wanted && self.all_logged(sight);
        if let Phase::Waiting(since, said) = &mut self.phase {
            if self.wanted && *said != missing && now.saturating_sub(*since) >= PATIENCE {
                lines.push(format!("pod {name}: waiting for {missing}"));
                *said = missing;
            }
            return false;
        }
        let line = match (may_have_ended, sight.populated, self.wanted) {
            (true, ..) => None,
            // On its way out: the word comes when nothing is left.
            (false, true, false) => return false,
            (false, true, true) => Some(format!("pod {name}: {missing} ended")),
            (false, false, _) => Some(format!("pod {name}: stopped")),
        };
        self.phase = Phase::Waiting(now, String::new());
        let ceased = line.is_some();
        lines.extend(line);
        ceased
    }

    fn all_logged(&self, sight: &Sight) -> bool {
        self.pod.containers.iter().all(|name| sight.logged.contains(name))
    }

    /// What is not there yet, or not any more; `None` when the pod runs.
    fn missing(&self, sight: &Sight) -> Option<String> {
        let containers = &self.pod.containers;
        let absent: Vec<&str> =
            containers.iter().filter(|name| !sight.running.contains(*name)).map(String::as_str).collect();
        let sandbox = usize::from(!sight.sandbox);
        // Containers that could not be told apart stand for those that are missed.
        if absent.len() + sandbox <= sight.unknown {
            return None;
        }
        if sandbox > sight.unknown {
            return Some("sandbox".to_owned());
        }
        if self.pod.may_finish && absent.len() < containers.len() && self.all_logged(sight) {
            return None;
        }
        let first: Vec<&str> =
            sight.running.iter().filter(|name| !containers.contains(name)).map(String::as_str).collect();
        Some(match first.as_slice() {
            [] => format!("container {}", absent.join(", ")),
            first => format!("init container {}", first.join(", ")),
        })
    }
}

/// `memory: init PSS 1024 KiB, private 180 KiB` out of PID 1's `smaps_rollup`; `None` when it says neither.
pub fn memory(smaps_rollup: &str) -> Option<String> {
    let field = |name: &str| {
        let line = smaps_rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(format!("memory: init PSS {} KiB, private {} KiB", field("Pss")?, field("Pss_Anon")?))
}

#[cfg(test)]
#[path = "podstate_tests.rs"]
mod tests;
