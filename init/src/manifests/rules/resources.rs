//! Rules over what a container, or the pod as a whole, asks for and may use.

use super::{Check, ContainerCheck, Facts, Findings, Path, Rule, lists, rule};
use crate::manifests::{names, quantity};
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

pub(super) const RULES: &[Rule<ContainerCheck>] = &[
    rule("resource name", "validation.go: validateContainerResourceName", |container, _, _, at, findings| {
        each(container, at, findings, names_are_known);
    }),
    rule(
        "resource amount",
        "validation.go: ValidateResourceQuantityValue",
        |container, _, _, at, findings| {
            each(container, at, findings, amounts);
        },
    ),
    rule(
        "request above limit",
        "validation.go: ValidateResourceRequirements",
        |container, _, _, at, findings| {
            each(container, at, findings, requests);
        },
    ),
    rule("huge pages", "validation.go: ValidateResourceRequirements", |container, _, _, at, findings| {
        each(container, at, findings, huge_pages);
    }),
    rule(
        "memory in thousandths",
        "Podium: the unit m stands for thousandths",
        |container, _, _, at, findings| {
            each(container, at, findings, thousandths);
        },
    ),
];

/// Those over `spec.resources`.
pub(super) const POD_RULES: &[Rule<Check<PodSpec>>] = &[
    rule("pod resources", "validation.go: validatePodResources", pod_resources),
    rule("overhead", "validation.go: validateOverhead", overhead),
];

/// Huge pages, by size.
const HUGE: &str = "hugepages-";

/// Resources without a domain that a container can have, beside huge pages.
const PLAIN: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

type Amounts = BTreeMap<String, Quantity>;

fn each(
    container: &Container,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
    check: fn(&ResourceRequirements, &Path<'_>, &mut Findings<'_>),
) {
    if let Some(resources) = &container.resources {
        check(resources, &at.key("resources"), findings);
    }
}

/// Each amount with its place and its value in billionths; what does not parse was told when it was read.
fn each_amount(
    resources: &ResourceRequirements,
    at: &Path<'_>,
    mut act: impl FnMut(&str, &Quantity, i128, &Path<'_>),
) {
    for (key, map) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        let list = at.key(key);
        for (name, amount) in map.iter().flatten() {
            if let Some(nano) = quantity::parse(&amount.0) {
                act(name, amount, nano, &list.key(name));
            }
        }
    }
}

/// Neither more nor less than the limit may be asked for: huge pages, and what device plugins hand out.
fn is_counted(name: &str) -> bool {
    name.starts_with(HUGE) || name.contains('/') && !name.contains("kubernetes.io/")
}

fn names_are_known(resources: &ResourceRequirements, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_amount(resources, at, |name, _, _, at| {
        if name.contains('/') {
            if !names::is_label_key(name) {
                findings.error_with(at, "not a legal resource name", names::LABEL_KEY);
            }
        } else if !PLAIN.contains(&name) && !name.starts_with(HUGE) {
            let near = findings.did_you_mean(name, PLAIN);
            let remedy = "use cpu, memory, ephemeral-storage, hugepages-<size> or <domain>/<name>";
            findings.error_with(at, format!("a container has no such resource{near}"), remedy);
        }
    });
}

fn amounts(resources: &ResourceRequirements, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_amount(resources, at, |name, _, nano, at| {
        if nano < 0 {
            findings.error(at, "must not be negative");
        } else if is_counted(name) && nano % quantity::NANO != 0 {
            findings.error(at, "must be a whole number");
        }
    });
}

fn requests(resources: &ResourceRequirements, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("requests");
    for (name, request) in resources.requests.iter().flatten() {
        let limit = resources.limits.as_ref().and_then(|limits| limits.get(name));
        match limit {
            None if is_counted(name) => {
                findings.error_with(&at.key(name), "needs a limit", "write the same under limits");
            }
            None => {}
            Some(limit) if quantity::parse(&request.0) > quantity::parse(&limit.0) => {
                let message = format!("{} is more than the limit, {}", request.0, limit.0);
                findings.error(&at.key(name), message);
            }
            Some(limit) if is_counted(name) && quantity::parse(&request.0) < quantity::parse(&limit.0) => {
                let message = format!("{} must be the limit, {}", request.0, limit.0);
                findings.error(&at.key(name), message);
            }
            Some(_) => {}
        }
    }
}

fn huge_pages(resources: &ResourceRequirements, at: &Path<'_>, findings: &mut Findings<'_>) {
    let (mut huge, mut other) = (false, false);
    each_amount(resources, at, |name, _, nano, at| {
        other |= matches!(name, "cpu" | "memory");
        let Some(size) = name.strip_prefix(HUGE) else { return };
        huge = true;
        match quantity::parse(size).filter(|size| *size > 0) {
            None => findings.error(at, format!("{size:?} is not the size of a page")),
            Some(size) if nano % size != 0 => findings.error(at, format!("is not a multiple of {name}")),
            Some(_) => {}
        }
    });
    if huge && !other {
        findings.error_with(at, "huge pages need cpu or memory beside them", "write a limit of memory");
    }
}

fn thousandths(resources: &ResourceRequirements, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_amount(resources, at, |name, amount, _, at| {
        if name == "memory" && amount.0.ends_with('m') {
            let message = format!("{} is thousandths of a byte", amount.0);
            findings.warning(at, message, "write Mi for mebibytes or M for megabytes");
        }
    });
}

fn pod_resources(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(resources) = &spec.resources else { return };
    let at = at.key("resources");
    each_amount(resources, &at, |name, _, nano, at| {
        if !matches!(name, "cpu" | "memory") && !name.starts_with(HUGE) {
            findings.error_with(at, "a pod has no such resource", "use cpu, memory or hugepages-<size>");
        }
        if nano < 0 {
            findings.error(at, "must not be negative");
        }
    });
    requests(resources, &at, findings);
    let of = |map: &Option<Amounts>, name: &str| {
        map.as_ref().and_then(|map| map.get(name)).and_then(|amount| quantity::parse(&amount.0))
    };
    for (name, limit) in resources.limits.iter().flatten() {
        for (key, containers) in lists(spec) {
            for (index, container) in containers.iter().enumerate() {
                let own = container.resources.as_ref().and_then(|resources| of(&resources.limits, name));
                if own > quantity::parse(&limit.0) {
                    let message = format!("{key}[{index}] may use more than the pod, {}", limit.0);
                    findings.error(&at.key("limits").key(name), message);
                }
            }
        }
    }
    for (name, request) in resources.requests.iter().flatten() {
        let all = spec.containers.iter().filter_map(|container| container.resources.as_ref());
        let sum = all.filter_map(|resources| of(&resources.requests, name)).fold(0, i128::saturating_add);
        if quantity::parse(&request.0).is_some_and(|request| sum > request) {
            let message = format!("the containers ask for more than {}", request.0);
            findings.error(&at.key("requests").key(name), message);
        }
    }
}

fn overhead(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("overhead");
    for (name, amount) in spec.overhead.iter().flatten() {
        if quantity::parse(&amount.0).is_some_and(|nano| nano < 0) {
            findings.error(&at.key(name), "must not be negative");
        }
    }
}
