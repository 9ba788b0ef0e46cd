//! Rules over what schedulers look at. On this node nothing is scheduled: the kubelet checks node selectors and
//! required node affinity, and ignores the rest, but it refuses a pod in which any of it is malformed.

use super::metadata::label_map;
use super::{Check, Facts, Findings, Path, Rule, exactly_one_of, one_of, rule, selector, shaped, within};
use crate::manifests::names;
use k8s_openapi::api::core::v1::{PodAffinityTerm, PodSpec, Toleration};
use std::collections::BTreeSet;

pub(super) const RULES: &[Rule<Check<PodSpec>>] = &[
    rule("node selector", "validation.go: ValidatePodSpec", node_selector),
    rule("node labels", "pkg/kubelet/lifecycle/predicate.go: Admit", node_labels),
    rule("node name", "common.go: applyDefaults", node_name),
    rule("toleration", "validation.go: ValidateTolerations", tolerations),
    rule("node affinity", "validation.go: validateNodeAffinity", node_affinity),
    rule("pod affinity", "validation.go: validatePodAffinity, validatePodAntiAffinity", pod_affinity),
    rule("topology spread", "validation.go: validateTopologySpreadConstraints", spread),
    rule("topology spread twice", "validation.go: ValidateSpreadConstraintNotRepeat", spread_twice),
    rule("scheduling gate", "validation.go: ValidatePodCreate", gates),
    rule("readiness gate", "validation.go: validateReadinessGates", readiness_gates),
];

/// Labels that a kubelet gives its own node, and what is known of their values here.
const OWN_LABELS: [(&str, Option<&str>); 5] = [
    ("beta.kubernetes.io/arch", None),
    ("beta.kubernetes.io/os", Some("linux")),
    ("kubernetes.io/arch", None),
    ("kubernetes.io/hostname", None),
    ("kubernetes.io/os", Some("linux")),
];

fn node_selector(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    label_map(spec.node_selector.as_ref(), &at.key("nodeSelector"), findings);
}

/// The kubelet refuses the pod when it starts it; labels beyond its own are given in its config.
fn node_labels(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("nodeSelector");
    for (key, value) in spec.node_selector.iter().flatten() {
        let own = OWN_LABELS.iter().find(|(name, _)| name == key);
        if own.is_none_or(|(_, known)| known.is_some_and(|known| known != value)) {
            let message = format!("the kubelet refuses the pod unless its node has the label {key}={value}");
            findings.warning(&at.key(key), message, "leave it out, or give the kubelet node-labels");
        }
    }
}

fn node_name(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.node_name.as_ref().is_some_and(|name| !name.is_empty()) {
        findings.warning(&at.key("nodeName"), "the kubelet puts its own node's name", "leave it out");
    }
}

fn tolerations(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("tolerations");
    for (index, each) in spec.tolerations.iter().flatten().enumerate() {
        toleration(each, &list.index(index), findings);
    }
}

fn toleration(each: &Toleration, at: &Path<'_>, findings: &mut Findings<'_>) {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (key, operator, value, effect) =
        (text(&each.key), text(&each.operator), text(&each.value), text(&each.effect));
    if !key.is_empty() {
        shaped(&key, names::is_label_key, names::LABEL_KEY, &at.key("key"), findings);
    } else if operator != "Exists" {
        findings.error_with(&at.key("operator"), "without a key it must be Exists", "write operator: Exists");
    }
    // Lt and Gt are known from 1.35.
    one_of(each.operator.as_ref(), &["Equal", "Exists", "Gt", "Lt"], &at.key("operator"), findings);
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    one_of(each.effect.as_ref(), &effects, &at.key("effect"), findings);
    match operator.as_str() {
        "Exists" if !value.is_empty() => {
            findings.error_with(&at.key("value"), "operator Exists takes no value", "leave it out");
        }
        "" | "Equal" if !names::is_label_value(&value) => {
            let message = format!("{value:?} is not a legal label value");
            findings.error_with(&at.key("value"), message, names::LABEL_VALUE);
        }
        _ => {}
    }
    if each.toleration_seconds.is_some() && effect != "NoExecute" {
        findings.error(&at.key("effect"), "with tolerationSeconds it must be NoExecute");
    }
}

fn node_affinity(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(affinity) = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref()) else {
        return;
    };
    let at = at.key("affinity");
    let at = at.key("nodeAffinity");
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let at = at.key("requiredDuringSchedulingIgnoredDuringExecution");
        let list = at.key("nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            findings.error(&list, "missing: needs at least one term");
        }
        for (index, term) in required.node_selector_terms.iter().enumerate() {
            selector::node_term(term, &list.index(index), findings);
        }
    }
    let list = at.key("preferredDuringSchedulingIgnoredDuringExecution");
    let preferred = &affinity.preferred_during_scheduling_ignored_during_execution;
    for (index, term) in preferred.iter().flatten().enumerate() {
        let at = list.index(index);
        within(term.weight.into(), 1, 100, &at.key("weight"), findings);
        selector::node_term(&term.preference, &at.key("preference"), findings);
    }
}

fn pod_affinity(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(affinity) = &spec.affinity else { return };
    let at = at.key("affinity");
    let near = affinity.pod_affinity.as_ref().map(|near| {
        let required = near.required_during_scheduling_ignored_during_execution.as_deref();
        ("podAffinity", required, near.preferred_during_scheduling_ignored_during_execution.as_deref())
    });
    let far = affinity.pod_anti_affinity.as_ref().map(|far| {
        let required = far.required_during_scheduling_ignored_during_execution.as_deref();
        ("podAntiAffinity", required, far.preferred_during_scheduling_ignored_during_execution.as_deref())
    });
    for (key, required, preferred) in near.into_iter().chain(far) {
        let at = at.key(key);
        let list = at.key("requiredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in required.unwrap_or_default().iter().enumerate() {
            affinity_term(term, &list.index(index), findings);
        }
        let list = at.key("preferredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in preferred.unwrap_or_default().iter().enumerate() {
            let at = list.index(index);
            within(term.weight.into(), 1, 100, &at.key("weight"), findings);
            affinity_term(&term.pod_affinity_term, &at.key("podAffinityTerm"), findings);
        }
    }
}

fn affinity_term(term: &PodAffinityTerm, at: &Path<'_>, findings: &mut Findings<'_>) {
    shaped(&term.topology_key, names::is_label_key, names::LABEL_KEY, &at.key("topologyKey"), findings);
    selector::labels(term.label_selector.as_ref(), &at.key("labelSelector"), findings);
    selector::labels(term.namespace_selector.as_ref(), &at.key("namespaceSelector"), findings);
    let list = at.key("namespaces");
    for (index, namespace) in term.namespaces.iter().flatten().enumerate() {
        shaped(namespace, names::is_label, names::LABEL, &list.index(index), findings);
    }
}

fn spread(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("topologySpreadConstraints");
    for (index, each) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let at = list.index(index);
        within(each.max_skew.into(), 1, i64::MAX, &at.key("maxSkew"), findings);
        if each.topology_key.is_empty() {
            findings.error(&at.key("topologyKey"), "missing");
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        exactly_one_of(Some(&each.when_unsatisfiable), &actions, &at.key("whenUnsatisfiable"), findings);
        if let Some(domains) = each.min_domains {
            within(domains.into(), 1, i64::MAX, &at.key("minDomains"), findings);
            if each.when_unsatisfiable != "DoNotSchedule" {
                findings.error(&at.key("minDomains"), "goes with whenUnsatisfiable: DoNotSchedule alone");
            }
        }
        for (key, policy) in [
            ("nodeAffinityPolicy", &each.node_affinity_policy),
            ("nodeTaintsPolicy", &each.node_taints_policy),
        ] {
            exactly_one_of(policy.as_ref(), &["Honor", "Ignore"], &at.key(key), findings);
        }
        selector::labels(each.label_selector.as_ref(), &at.key("labelSelector"), findings);
    }
}

fn spread_twice(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("topologySpreadConstraints");
    let mut seen = BTreeSet::new();
    for (index, each) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        if !seen.insert((each.topology_key.as_str(), each.when_unsatisfiable.as_str())) {
            let message = "has topologyKey and whenUnsatisfiable of one before it";
            findings.error(&list.index(index), message);
        }
    }
}

/// The kubelet puts the node's name, and a pod with a node has no gates.
fn gates(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        findings.error_with(&at.key("schedulingGates"), "a static pod is not scheduled", "leave it out");
    }
}

fn readiness_gates(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("readinessGates");
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let at = list.index(index);
        shaped(
            &gate.condition_type,
            names::is_label_key,
            names::LABEL_KEY,
            &at.key("conditionType"),
            findings,
        );
    }
}
