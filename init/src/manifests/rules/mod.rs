//! The rules that a pod must keep: what a kubelet would refuse later and only in its log, and what a node without an
//! API server cannot do.
//!
//! A [`Rule`] is a line in the table of its file: its name, where Kubernetes has it, and one function that reports and
//! never changes anything. Rules do not depend on each other or on their order; a further rule is a function and a
//! line. What takes effect on some kubelets only is judged by the newest, so that nothing is refused that one takes.
//! An error stops the pod; what runs but does not do what it says is a warning. Rules that need two pods are in
//! `together.rs`.
//!
//! Sources name the file and function of Kubernetes: `validation.go` is pkg/apis/core/validation/validation.go,
//! `util.go` pkg/api/pod/util.go, `common.go` and `config.go` are in pkg/kubelet/config; others are written out.
//! `Podium` is a rule of this node.

mod container;
mod environment;
pub(super) mod identity;
mod metadata;
mod mounts;
mod pod;
mod probes;
mod references;
mod resources;
mod scheduling;
mod security;
mod selector;
mod volume;

use super::envelope::Pod;
use super::path::{Findings, Path};
use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One rule: what it is called, where Kubernetes has it, and how it is checked.
struct Rule<F> {
    name: &'static str,
    source: &'static str,
    check: F,
}

/// A line of a table.
const fn rule<F>(name: &'static str, source: &'static str, check: F) -> Rule<F> {
    Rule { name, source, check }
}

/// Checks a part `T` of a pod, which stands at the path.
type Check<T> = fn(&T, &Facts<'_>, &Path<'_>, &mut Findings<'_>);

/// Checks a container; the flag says that it is an init container.
type ContainerCheck = fn(&Container, bool, &Facts<'_>, &Path<'_>, &mut Findings<'_>);

/// The tables over `spec`, over each container and over each volume.
const SPEC: [&[Rule<Check<PodSpec>>]; 5] =
    [pod::RULES, references::RULES, resources::POD_RULES, security::RULES, scheduling::RULES];
const CONTAINERS: [&[Rule<ContainerCheck>]; 7] = [
    container::RULES,
    environment::RULES,
    mounts::RULES,
    probes::RULES,
    resources::RULES,
    security::CONTAINER_RULES,
    references::CONTAINER_RULES,
];
const VOLUMES: [&[Rule<volume::Check>]; 2] = [volume::RULES, references::VOLUME_RULES];

/// Everything a rule may look at beside its own part.
struct Facts<'a> {
    /// The pod as decoded.
    pod: &'a Pod,
    /// The pod as written: where "was it given at all" matters.
    written: &'a Value,
    /// The names of its volumes.
    volumes: BTreeSet<&'a str>,
}

impl Facts<'_> {
    fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    fn host_network(&self) -> bool {
        self.spec().is_some_and(|spec| spec.host_network == Some(true))
    }

    /// Whether the pod shares the host's users; it does unless it says otherwise.
    fn host_users(&self) -> bool {
        self.spec().is_none_or(|spec| spec.host_users != Some(false))
    }

    /// Seconds that the pod has for stopping; 30 is what Kubernetes puts when there are none.
    fn grace(&self) -> i64 {
        self.spec().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30)
    }
}

/// Name and source of every rule over one pod, in the order of their use.
pub(super) fn all() -> Vec<(&'static str, &'static str)> {
    fn of<F>(tables: &[&[Rule<F>]]) -> Vec<(&'static str, &'static str)> {
        tables.iter().copied().flatten().map(|rule| (rule.name, rule.source)).collect()
    }
    let mut all = identity::RULES.to_vec();
    all.extend(of(&[metadata::RULES]));
    all.extend(of(&SPEC));
    all.extend(of(&CONTAINERS));
    all.extend(of(&VOLUMES));
    all
}

/// Applies every rule to one pod.
pub(super) fn check(pod: &Pod, written: &Value, at: &Path<'_>, findings: &mut Findings<'_>) {
    let volumes = pod.spec.iter().flat_map(|spec| &spec.volumes).flatten().map(|volume| volume.name.as_str());
    let facts = Facts { pod, written, volumes: volumes.collect() };
    if let Some(metadata) = pod.metadata() {
        for rule in metadata::RULES {
            findings.enter(rule.name);
            (rule.check)(metadata, &facts, &at.key("metadata"), findings);
        }
    }
    let at = at.key("spec");
    let Some(spec) = &pod.spec else {
        findings.enter(pod::HAS_CONTAINERS);
        return findings.error(&at, "missing");
    };
    for rule in SPEC.into_iter().flatten() {
        findings.enter(rule.name);
        (rule.check)(spec, &facts, &at, findings);
    }
    for (key, containers) in lists(spec) {
        let list = at.key(key);
        for (index, each) in containers.iter().enumerate() {
            for rule in CONTAINERS.into_iter().flatten() {
                findings.enter(rule.name);
                (rule.check)(each, key == "initContainers", &facts, &list.index(index), findings);
            }
        }
    }
    let list = at.key("volumes");
    for (index, each) in spec.volumes.iter().flatten().enumerate() {
        check_volume(each, index, &facts, &list.index(index), findings);
    }
}

fn check_volume(each: &Volume, index: usize, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let written = facts.written.pointer("/spec/volumes").and_then(|list| list.get(index));
    let Some(written) = written.and_then(Value::as_object) else { return };
    for rule in VOLUMES.into_iter().flatten() {
        findings.enter(rule.name);
        (rule.check)(each, written, at, findings);
    }
}

/// The container lists of a static pod.
fn lists(spec: &PodSpec) -> [(&'static str, &[Container]); 2] {
    [
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", &spec.containers),
    ]
}

/// A word out of a closed set, where an empty one stands for the default.
fn one_of(value: Option<&String>, legal: &[&str], at: &Path<'_>, findings: &mut Findings<'_>) {
    exactly_one_of(value.filter(|value| !value.is_empty()), legal, at, findings);
}

/// A word out of a closed set; an empty one is none.
fn exactly_one_of(value: Option<&String>, legal: &[&str], at: &Path<'_>, findings: &mut Findings<'_>) {
    if let Some(value) = value
        && !legal.contains(&value.as_str())
    {
        let near = findings.did_you_mean(value, legal.iter().copied());
        findings.error_with(
            at,
            format!("unknown value {value:?}{near}"),
            format!("use one of {}", legal.join(", ")),
        );
    }
}

/// A name that must have a shape; an empty one counts as missing.
fn shaped(value: &str, is: fn(&str) -> bool, shape: &str, at: &Path<'_>, findings: &mut Findings<'_>) {
    if value.is_empty() {
        findings.error(at, "missing");
    } else if !is(value) {
        findings.error_with(at, format!("{value:?} is not a legal name"), shape);
    }
}

/// A name that must have a shape, if there is one.
fn shaped_if_any(
    value: Option<&String>,
    is: fn(&str) -> bool,
    shape: &str,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        shaped(value, is, shape, at, findings);
    }
}

/// A number within bounds.
fn within(value: i64, low: i64, high: i64, at: &Path<'_>, findings: &mut Findings<'_>) {
    if !(low..=high).contains(&value) {
        let wanted =
            if high == i64::MAX { format!("at least {low}") } else { format!("from {low} to {high}") };
        findings.error(at, format!("{value} is out of range: it must be {wanted}"));
    }
}

/// A path below something else: relative, and never up.
fn descends(path: &str) -> bool {
    !path.starts_with('/') && !goes_up(path)
}

/// Whether one of a path's parts is `..`.
fn goes_up(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// The texts at `key` of a list's items, no two of which may be the same; empty ones do not count.
fn unique<'v>(
    values: impl Iterator<Item = &'v str>,
    what: &str,
    list: &Path<'_>,
    key: &str,
    findings: &mut Findings<'_>,
) {
    let mut seen = BTreeMap::new();
    for (index, value) in values.enumerate().filter(|(_, value)| !value.is_empty()) {
        if let Some(other) = seen.insert(value, index) {
            findings
                .error(&list.index(index).key(key), format!("{what} {value:?} is also that of item {other}"));
        }
    }
}

/// Exactly one of the handlers of a probe or hook must be given.
fn one_handler(handlers: &[bool], which: &str, at: &Path<'_>, findings: &mut Findings<'_>) {
    match handlers.iter().filter(|given| **given).count() {
        1 => {}
        0 => findings.error(at, format!("needs one of {which}")),
        _ => findings.error(at, format!("has more than one of {which}")),
    }
}
