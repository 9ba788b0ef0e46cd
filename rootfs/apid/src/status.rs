//! What each static pod does, and if it does not, why: from manifests, PID 1's verdicts, the kubelet's list and its log.
//!
//! Pure: [`derive()`] is a function of what was seen. A pod is one of the union of all sources, so that one that the
//! kubelet refuses, or that PID 1 refused, is listed with its reason like any other. The words of reasons are the
//! kubelet's own where it has some; ours are in [`reasons`].

mod findings;

pub(crate) use findings::Findings;

use crate::kubelet::api::{Container, ContainerStatus, Pod, State};
use crate::manifests::{Directory, Known, Manifest};
use serde::Serialize;
use std::collections::BTreeMap;

/// Reasons that are not the kubelet's.
pub(crate) mod reasons {
    /// PID 1 refused the pod, or its newest version.
    pub(crate) const INVALID: &str = "Invalid";
    /// The kubelet refused the manifest when it read it.
    pub(crate) const REJECTED: &str = "Rejected";
    /// Another manifest has the same namespace and name.
    pub(crate) const DUPLICATE: &str = "Duplicate";
    /// PID 1 holds the manifest back, or a newer one, until something else is there or gone.
    pub(crate) const HELD: &str = "Held";
    /// PID 1 has accepted the pod, and its manifest is not there: not yet, or no more.
    pub(crate) const NO_MANIFEST: &str = "NoManifest";
    /// The kubelet has not taken up the manifest yet.
    pub(crate) const NOT_SEEN: &str = "NotSeen";
    /// The kubelet has an older version of the pod.
    pub(crate) const UPDATING: &str = "Updating";
    /// Nothing is known but the manifest.
    pub(crate) const NO_KUBELET: &str = "KubeletUnreachable";
}

/// What was seen of the node.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    /// The manifest directory.
    pub(crate) directory: &'a Directory,
    /// PID 1's verdicts.
    pub(crate) known: &'a [Known],
    /// The kubelet's pods, or why there is no list.
    pub(crate) kubelet: Result<&'a [Pod], &'a str>,
    /// What the kubelet's log tells.
    pub(crate) findings: &'a Findings,
}

/// One pod, as it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct PodStatus {
    /// `<namespace>-<name>`; of a file that is no pod its name.
    pub(crate) id: String,
    pub(crate) namespace: String,
    /// As in the manifest, without the node's name.
    pub(crate) name: String,
    pub(crate) uid: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub(crate) phase: String,
    /// All containers are ready, of the version that the manifest has.
    pub(crate) ready: bool,
    /// One word; empty when nothing is wrong.
    pub(crate) reason: String,
    /// For people.
    pub(crate) message: String,
    pub(crate) pod_ip: String,
    /// RFC 3339; empty before the kubelet has begun.
    pub(crate) started_at: String,
    /// Init containers first.
    pub(crate) containers: Vec<ContainerState>,
}

/// One container, as it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ContainerState {
    pub(crate) name: String,
    /// As the kubelet has it.
    pub(crate) image: String,
    /// `waiting`, `running`, `terminated`, or `unknown`.
    pub(crate) state: &'static str,
    pub(crate) ready: bool,
    pub(crate) restarts: u32,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl PodStatus {
    /// Nothing is under way: a look a second later will show the same, unless somebody changes something.
    pub(crate) fn is_settled(&self) -> bool {
        let is_over = matches!(self.phase.as_str(), "Succeeded" | "Failed");
        let is_refused =
            matches!(self.reason.as_str(), reasons::INVALID | reasons::REJECTED | reasons::DUPLICATE);
        self.ready || is_over || is_refused
    }
}

/// One pod of the union.
#[derive(Debug, Default)]
struct Entry<'a> {
    manifest: Option<&'a Manifest>,
    known: Option<&'a Known>,
    pod: Option<&'a Pod>,
    /// Another manifest of the same name is the one that the kubelet has.
    shadowed: bool,
}

/// The state of every pod, sorted by id.
pub(crate) fn derive(seen: &Seen<'_>) -> Vec<PodStatus> {
    let mut pods: Vec<PodStatus> = entries(seen).iter().map(|entry| status(entry, seen)).collect();
    pods.sort_by(|a, b| (&a.id, &a.uid).cmp(&(&b.id, &b.uid)));
    pods
}

/// A static pod's name in its manifest: the kubelet appends the node's.
pub(crate) fn static_name(pod: &Pod) -> &str {
    let suffix = format!("-{}", pod.spec.node_name.to_lowercase());
    pod.metadata.name.strip_suffix(suffix.as_str()).unwrap_or(&pod.metadata.name)
}

fn entries<'a>(seen: &Seen<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = Vec::new();
    // Namespace and name, and the entries that have them.
    let mut named: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for manifest in seen.directory.all() {
        if !manifest.name.is_empty() {
            named.entry((&manifest.namespace, &manifest.name)).or_default().push(entries.len());
        }
        entries.push(Entry { manifest: Some(manifest), ..Entry::default() });
    }
    let files: BTreeMap<&str, usize> =
        seen.directory.all().enumerate().map(|(index, manifest)| (manifest.file.as_str(), index)).collect();
    for known in seen.known {
        match files.get(known.file.as_str()).and_then(|index| entries.get_mut(*index)) {
            Some(entry) => entry.known = Some(known),
            None => {
                named.entry((&known.namespace, &known.name)).or_default().push(entries.len());
                entries.push(Entry { known: Some(known), ..Entry::default() });
            }
        }
    }
    for pod in seen.kubelet.unwrap_or_default() {
        let candidates = named.get(&(pod.metadata.namespace.as_str(), static_name(pod)));
        let candidates = candidates.map(Vec::as_slice).unwrap_or_default();
        let same_uid = |index: &&usize| {
            entries
                .get(**index)
                .and_then(|entry| entry.manifest)
                .is_some_and(|manifest| manifest.uid == pod.metadata.uid)
        };
        let owner = candidates.iter().find(same_uid).or(candidates.first()).copied();
        for index in candidates {
            if let Some(entry) = entries.get_mut(*index) {
                entry.shadowed = Some(*index) != owner && entry.manifest.is_some();
            }
        }
        match owner.and_then(|index| entries.get_mut(index)) {
            Some(entry) => entry.pod = Some(pod),
            None => entries.push(Entry { pod: Some(pod), ..Entry::default() }),
        }
    }
    entries
}

fn status(entry: &Entry<'_>, seen: &Seen<'_>) -> PodStatus {
    let mut status = identity(entry);
    match entry.pod {
        Some(pod) => running(&mut status, entry.manifest, pod, seen.findings),
        None => missing(&mut status, entry, seen),
    }
    if let Some(known) = entry.known.filter(|known| !known.valid) {
        status.reason = reasons::INVALID.to_owned();
        let problems = known.problems.join("; ");
        status.message = if entry.manifest.is_some() {
            format!("the newest version is refused, the one before runs on: {problems}")
        } else {
            problems
        };
    }
    if let Some(known) = entry.known.filter(|known| !known.held.is_empty()) {
        status.reason = reasons::HELD.to_owned();
        status.message = if entry.manifest.is_some() {
            format!("the newest version waits, the one before runs on: {}", known.held)
        } else {
            known.held.clone()
        };
    }
    status
}

fn identity(entry: &Entry<'_>) -> PodStatus {
    let (namespace, name, uid) = match (entry.manifest, entry.known, entry.pod) {
        (Some(manifest), _, _) if !manifest.name.is_empty() => {
            (manifest.namespace.as_str(), manifest.name.as_str(), manifest.uid.as_str())
        }
        (_, Some(known), _) => (known.namespace.as_str(), known.name.as_str(), known.uid.as_str()),
        (_, _, Some(pod)) => (pod.metadata.namespace.as_str(), static_name(pod), pod.metadata.uid.as_str()),
        (_, None, None) => ("", "", ""),
    };
    let uid = if uid.is_empty() { entry.pod.map_or("", |pod| pod.metadata.uid.as_str()) } else { uid };
    let id = match (entry.known, entry.manifest) {
        (Some(known), _) if !known.id.is_empty() => known.id.clone(),
        (_, Some(manifest)) if name.is_empty() => manifest.file.clone(),
        _ => format!("{namespace}-{name}"),
    };
    PodStatus {
        id,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        ..PodStatus::default()
    }
}

/// The kubelet has no such pod.
fn missing(status: &mut PodStatus, entry: &Entry<'_>, seen: &Seen<'_>) {
    let manifest = entry.manifest;
    let containers = manifest.map(|manifest| manifest.containers.as_slice()).unwrap_or_default();
    status.containers = containers.iter().map(unknown).collect();
    let rejected = manifest.and_then(|manifest| seen.findings.rejected(manifest, seen.directory));
    let duplicate =
        entry.shadowed || manifest.is_some_and(|manifest| seen.findings.is_duplicate(&manifest.uid));
    let (phase, reason, message) = match (seen.kubelet, rejected) {
        (Err(_), None) => ("Unknown", reasons::NO_KUBELET, "see what is said of the kubelet"),
        (_, Some(message)) => ("Failed", reasons::REJECTED, message),
        (Ok(_), None) if duplicate => (
            "Failed",
            reasons::DUPLICATE,
            "another manifest has the same namespace and name: the kubelet takes one of them",
        ),
        (Ok(_), None) if entry.known.is_some_and(|known| !known.valid) => ("Failed", "", ""),
        (Ok(_), None) if manifest.is_none() => {
            ("Pending", reasons::NO_MANIFEST, "its manifest is not in the directory")
        }
        (Ok(_), None) => ("Pending", reasons::NOT_SEEN, "the kubelet has not taken it up yet"),
    };
    (status.phase, status.reason, status.message) = (phase.to_owned(), reason.to_owned(), message.to_owned());
}

/// The kubelet has it.
fn running(status: &mut PodStatus, manifest: Option<&Manifest>, pod: &Pod, findings: &Findings) {
    let told = &pod.status;
    // The kubelet knows no phase in the moment before it has looked at a pod.
    status.phase = if told.phase.is_empty() { "Pending".to_owned() } else { told.phase.clone() };
    status.pod_ip.clone_from(&told.pod_ip);
    status.started_at.clone_from(&told.start_time);
    let init = states(&pod.spec.init_containers, &told.init_container_statuses);
    let main = states(&pod.spec.containers, &told.container_statuses);
    let condition = told.conditions.iter().find(|condition| condition.kind == "Ready");
    let is_updating = manifest.is_some_and(|manifest| differs(manifest, pod));
    status.ready = condition.is_some_and(|condition| condition.status == "True") && !is_updating;
    let on_the_way = |state: &&ContainerState| {
        state.state == "waiting"
            && matches!(state.reason.as_str(), "" | "ContainerCreating" | "PodInitializing")
    };
    let all = || init.iter().chain(&main);
    let wrong =
        all().find(|state| !state.reason.is_empty() && !on_the_way(state) && state.reason != "Completed");
    let (reason, message) = if !told.reason.is_empty() {
        (told.reason.as_str(), told.message.as_str())
    } else if is_updating {
        (reasons::UPDATING, "the kubelet still has the version before")
    } else if status.ready || status.phase == "Succeeded" {
        ("", "")
    } else if let Some(state) = wrong {
        (state.reason.as_str(), state.message.as_str())
    } else if let Some((reason, message)) =
        findings.sync(&pod.metadata.uid).filter(|_| main.iter().all(|state| on_the_way(&state)))
    {
        (reason, message)
    } else if let Some(state) = all().find(on_the_way) {
        (state.reason.as_str(), state.message.as_str())
    } else {
        condition.map_or(("", ""), |condition| (condition.reason.as_str(), condition.message.as_str()))
    };
    (status.reason, status.message) = (reason.to_owned(), message.to_owned());
    status.containers = init.into_iter().chain(main).collect();
}

/// Whether the kubelet's pod is of another version than the manifest.
fn differs(manifest: &Manifest, pod: &Pod) -> bool {
    let other_uid = !manifest.uid.is_empty() && manifest.uid != pod.metadata.uid;
    let have = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    // A list without a spec comes from no kubelet, and says nothing of images.
    other_uid || (!pod.spec.containers.is_empty() && !have.eq(&manifest.containers))
}

/// Containers in the order of the spec, each with its status if there is one.
fn states(spec: &[Container], statuses: &[ContainerStatus]) -> Vec<ContainerState> {
    let state = |container: &Container| {
        let told = statuses.iter().find(|status| status.name == container.name);
        told.map_or_else(|| unknown(container), |told| container_state(container, told))
    };
    spec.iter().map(state).collect()
}

/// Nothing is told of it.
fn unknown(container: &Container) -> ContainerState {
    ContainerState {
        name: container.name.clone(),
        image: container.image.clone(),
        state: "unknown",
        ..ContainerState::default()
    }
}

fn container_state(container: &Container, told: &ContainerStatus) -> ContainerState {
    let (state, reason, message) = match &told.state {
        State { running: Some(_), .. } => ("running", String::new(), String::new()),
        State { terminated: Some(ended), .. } => ("terminated", ended.reason.clone(), end(ended)),
        State { waiting: Some(waiting), .. } => {
            // Of one that waits for its next start, how it ended is what matters.
            let last = told.last_state.terminated.as_ref().filter(|_| waiting.reason == "CrashLoopBackOff");
            let message = match last {
                Some(ended) => format!("{}; it ended with {}", waiting.message, end(ended)),
                None => waiting.message.clone(),
            };
            ("waiting", waiting.reason.clone(), message)
        }
        State { .. } => ("unknown", String::new(), String::new()),
    };
    ContainerState {
        name: container.name.clone(),
        image: container.image.clone(),
        state,
        ready: told.ready,
        restarts: told.restart_count,
        reason,
        message,
    }
}

/// How a container ended, in words.
fn end(ended: &crate::kubelet::api::Terminated) -> String {
    let code = match (ended.signal, ended.exit_code) {
        (0, code) => format!("code {code}"),
        (signal, _) => format!("signal {signal}"),
    };
    if ended.message.is_empty() { code } else { format!("{code}: {}", ended.message.trim_end()) }
}

#[cfg(test)]
mod tests;
