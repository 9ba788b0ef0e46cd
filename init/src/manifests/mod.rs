//! Static pods: the config's `machine.pods` in, checked manifests and their problems out.
//!
//! A pod is read strictly (`strict.rs`) with k8s-openapi's types as the schema, held to the rules of `rules/`, given
//! what the kubelet needs to keep it apart from others (namespace, stable UID), and rendered so that the same config
//! gives the same bytes in every build. One bad pod never stops another. [`diff()`] tells what is to be done to a
//! manifest directory. Nothing here touches a file; `manifest_dir.rs` of the binary does.
//!
//! What is emitted is the pod as written, not as decoded: a field that our schema has not heard of is refused, and
//! one that it knows is passed on untouched, so that no version of the schema can change a pod's meaning.

mod diff;
mod envelope;
mod foreign;
mod holds;
mod names;
mod path;
mod ports;
mod quantity;
mod rules;
mod strict;
mod together;
mod uid;

pub use diff::{Changes, Found, diff, file_name, is_ours, kept};
pub use foreign::double;
pub use holds::{Facts, Held, Holds, LEAVE_MARGIN, Order};
pub use ports::{HostPort, Protocol};
pub use uid::Uids;

use crate::config::Problem;
use crate::shutdown::DEFAULT_GRACE;
use envelope::Pod;
use k8s_openapi::api::core::v1::Container;
use path::{Findings, Path};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use strict::Reading;

/// The largest manifest in bytes: the writer's rule 4; the kubelet reads files of up to 10 MiB, but a pod of this
/// size is a mistake, and every one of them is held in memory by several programs.
pub const MAX_MANIFEST: usize = 1 << 20;

/// The most letters that namespace and name may have together. The kubelet makes a folder named
/// `<namespace>_<name>-<node>_<uid>`; a file name has 255 bytes, the node's name takes up to 63 and the UID 36.
pub const MAX_ID: usize = 150;

/// The most problems of one plan, and one that counts the others: a config may hold a hundred thousand things that
/// are no pods, and nobody reads on for so long.
pub const MAX_PROBLEMS: usize = 1000;

/// One static pod, ready to be written for the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Static pod ID, `<namespace>-<name>`; unique in a plan.
    pub id: String,
    /// `metadata.namespace`; `default` when the config gives none.
    pub namespace: String,
    /// `metadata.name` as in the config; the kubelet appends `-<node name>` to it.
    pub name: String,
    /// `metadata.uid`: see [`Uids`].
    pub uid: String,
    /// File name below [`crate::paths::MANIFESTS`]: `podium-<namespace>-<name>.yaml`.
    pub file: String,
    /// The file's whole content: JSON, which is YAML in which every string is quoted.
    pub bytes: String,
    /// Ports of the host that it takes.
    pub host_ports: Vec<HostPort>,
    /// Paths of the host that it mounts.
    pub host_paths: Vec<String>,
    /// `terminationGracePeriodSeconds`, or its default.
    pub grace_s: u64,
    /// Names of `spec.containers`, in order.
    pub containers: Vec<String>,
    /// Names of `spec.initContainers`, in order.
    pub init_containers: Vec<String>,
}

/// Turns the config's pods into manifests, in the config's order, and says what is wrong with the others. `locate`
/// gives line and column of a YAML path such as `machine.pods[0].spec`, where they are known.
///
/// Every problem names its pod, so that none of them stops the config. Two pods with one ID are both refused: which
/// of them was meant cannot be told. Of two that want one port of the host the first in the config is kept.
pub fn plan(
    pods: &[Value],
    locate: &dyn Fn(&str) -> Option<(usize, usize)>,
) -> (Vec<Manifest>, Vec<Problem>) {
    plan_with(pods, Uids::Stable, locate)
}

/// Like [`plan`], with a rule for the UIDs (`machine.kubelet.stablePodUID`).
pub fn plan_with(
    pods: &[Value],
    uids: Uids,
    locate: &dyn Fn(&str) -> Option<(usize, usize)>,
) -> (Vec<Manifest>, Vec<Problem>) {
    let (machine, key) = (Path::root("machine"), "pods");
    let list = machine.key(key);
    let (mut problems, mut unlisted) = (Vec::new(), 0);
    let mut drafts = Vec::with_capacity(pods.len());
    for (index, pod) in pods.iter().enumerate() {
        let at = list.index(index);
        let identity = Identity::of(pod);
        // A pod without an ID still needs a word by which its problems are its own.
        let id = identity.as_ref().map_or_else(|| format!("pods[{index}]"), Identity::id);
        let findings = Findings::new(&id, locate);
        let mut reading = Reading { findings, quantities: Vec::new(), stand_ins: false };
        let manifest = draft(pod, uids, identity.as_ref(), &at, &mut reading);
        let refused = reading.findings.refused();
        drafts.push(together::Draft {
            index,
            id,
            named: identity.is_some(),
            manifest: manifest.filter(|_| !refused),
        });
        reading.findings.finish(&at, &mut problems);
        unlisted += bound(&mut problems);
    }
    together::refuse_shared_ids(&mut drafts, &list, locate, &mut problems);
    together::refuse_shared_ports(&mut drafts, &list, locate, &mut problems);
    unlisted += bound(&mut problems);
    if unlisted > 0 {
        let path = list.to_string();
        let place = locate(&path);
        problems
            .push(Problem::error(path, format!("{unlisted} more problems in pods")).at(place).pod("pods"));
    }
    (drafts.into_iter().filter_map(|draft| draft.manifest).collect(), problems)
}

/// The rules that each pod is held to: name, and where Kubernetes has it (`rules/mod.rs` says how that is written).
pub fn rules() -> Vec<(&'static str, &'static str)> {
    rules::all()
}

/// The names of the rules that one pod does not keep, whether they stop it or only warn.
pub fn breached(pod: &Value) -> BTreeSet<&'static str> {
    let (machine, key) = (Path::root("machine"), "pods");
    let list = machine.key(key);
    let findings = Findings::new("", &|_| None);
    let mut reading = Reading { findings, quantities: Vec::new(), stand_ins: false };
    draft(pod, Uids::Stable, Identity::of(pod).as_ref(), &list.index(0), &mut reading);
    reading.findings.breached().clone()
}

/// Cuts the list to [`MAX_PROBLEMS`] and gives the number of those that were too many.
fn bound(problems: &mut Vec<Problem>) -> usize {
    let unlisted = problems.len().saturating_sub(MAX_PROBLEMS);
    problems.truncate(MAX_PROBLEMS);
    unlisted
}

/// Namespace and name, where both are texts.
struct Identity<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Identity<'a> {
    fn of(pod: &'a Value) -> Option<Self> {
        let metadata = pod.get("metadata")?;
        let name = metadata.get("name")?.as_str().filter(|name| !name.is_empty())?;
        let namespace = match metadata.get("namespace") {
            None | Some(Value::Null) => "",
            Some(namespace) => namespace.as_str()?,
        };
        Some(Identity { namespace: if namespace.is_empty() { "default" } else { namespace }, name })
    }

    fn id(&self) -> String {
        format!("{}-{}", self.namespace, self.name)
    }
}

/// Checks one pod and renders it.
fn draft(
    pod: &Value,
    uids: Uids,
    identity: Option<&Identity<'_>>,
    at: &Path<'_>,
    reading: &mut Reading<'_>,
) -> Option<Manifest> {
    reading.findings.enter(rules::identity::SCHEMA);
    let Some(written) = pod.as_object() else {
        reading.findings.error(at, format!("expected a pod, found {}", strict::describe(pod)));
        return None;
    };
    if !rules::identity::check_kind(written, at, &mut reading.findings) {
        return None;
    }
    rules::identity::check_names(pod, identity, at, &mut reading.findings);
    reading.findings.enter(rules::identity::SCHEMA);
    let decoded: Pod = strict::read(pod, at, reading)?;
    if reading.stand_ins {
        return None;
    }
    rules::check(&decoded, pod, at, &mut reading.findings);
    Some(render(pod, uids, identity?, &decoded, at, reading))
}

/// What only the API server or the kubelet sets. In a pod that was copied out of a cluster it is of no use, and some
/// of it does harm: a phase or a deletion time makes the kubelet take the pod for one that has ended.
const SET_BY_SERVER: [&str; 7] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
];

/// Annotations that the kubelet puts itself. Those of a mirror pod, which is what a cluster shows of a static pod, do
/// harm: a kubelet that reads `config.mirror` takes the pod for a picture of another one and never runs it.
const SET_BY_KUBELET: [&str; 4] = [
    "kubernetes.io/config.hash",
    "kubernetes.io/config.mirror",
    "kubernetes.io/config.seen",
    "kubernetes.io/config.source",
];

/// The manifest of a pod that kept all rules so far.
fn render(
    pod: &Value,
    uids: Uids,
    identity: &Identity<'_>,
    decoded: &Pod,
    at: &Path<'_>,
    reading: &mut Reading<'_>,
) -> Manifest {
    let mut pod = pod.clone();
    for (pointer, text) in &reading.quantities {
        if let Some(number) = pod.pointer_mut(pointer) {
            *number = Value::String(text.clone());
        }
    }
    let findings = &mut reading.findings;
    if let Some(status) = pod.as_object_mut().and_then(|pod| pod.remove("status"))
        && says_something(&status)
    {
        findings.warning(&at.key("status"), "is the kubelet's to say", "it is left out");
    }
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        let at = at.key("metadata");
        for key in SET_BY_SERVER {
            if metadata.remove(key).is_some_and(|value| says_something(&value)) {
                findings.warning(&at.key(key), "is set by the API server alone", "it is left out");
            }
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            let at = at.key("annotations");
            for key in SET_BY_KUBELET {
                if annotations.remove(key).is_some() {
                    findings.warning(&at.key(key), "is the kubelet's own", "it is left out");
                }
            }
        }
        // A fixed UID would make a kubelet ignore changes, or two pods one: see `uid.rs`. Refusing the pod for it
        // would refuse every pod that was copied out of a cluster.
        if metadata.remove("uid").is_some_and(|value| says_something(&value)) {
            findings.warning(&at.key("uid"), "is derived from the pod's content here", "it is replaced");
        }
        metadata.insert("namespace".to_owned(), Value::String(identity.namespace.to_owned()));
    }
    pod.sort_all_objects();
    let uid = uid::of(pod.clone(), uids);
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("uid".to_owned(), Value::String(uid.clone()));
        metadata.sort_keys();
    }
    let bytes = escape(format!("{pod:#}\n"));
    if bytes.len() > MAX_MANIFEST {
        findings.error(at, format!("the manifest has {} bytes, more than {MAX_MANIFEST}", bytes.len()));
    }
    let names =
        |containers: &[Container]| containers.iter().map(|container| container.name.clone()).collect();
    let spec = decoded.spec.as_ref();
    Manifest {
        id: identity.id(),
        namespace: identity.namespace.to_owned(),
        name: identity.name.to_owned(),
        uid,
        file: file_name(&identity.id()),
        bytes,
        host_ports: ports::host_ports(decoded),
        host_paths: ports::host_paths(decoded),
        grace_s: spec
            .and_then(|spec| u64::try_from(spec.termination_grace_period_seconds?).ok())
            .unwrap_or(DEFAULT_GRACE.as_secs()),
        containers: spec.map(|spec| names(&spec.containers)).unwrap_or_default(),
        init_containers: spec.and_then(|spec| spec.init_containers.as_deref()).map(names).unwrap_or_default(),
    }
}

/// Escapes the few characters that JSON allows in a string and YAML does not, or not everywhere.
fn escape(json: String) -> String {
    let odd = |c: char| {
        matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    if !json.contains(odd) {
        return json;
    }
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        if odd(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
        text
    })
}

/// Whether a value says more than nothing: tools write `creationTimestamp: null` and `status: {}`.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}
