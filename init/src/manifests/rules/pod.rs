//! Rules over `metadata` and over `spec` as a whole.

use super::{Facts, Findings, NO_API, Path, Rule, container, one_of, shaped, unique, volume, within};
use crate::manifests::envelope::Metadata;
use crate::manifests::names;
use core::net::IpAddr;
use k8s_openapi::api::core::v1::PodSpec;
use std::collections::BTreeMap;

/// The kubelet's bound for all annotations of an object together, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

const METADATA: &[Rule<Metadata>] = &[labels, annotations, owner];

const SPEC: &[Rule<PodSpec>] = &[
    has_containers,
    container_names_differ,
    volume_names_differ,
    no_api_objects,
    no_ephemeral_containers,
    words,
    numbers,
    host_names,
    host_aliases,
    dns,
    process_namespaces,
];

/// Applies every rule to a pod.
pub(super) fn check(facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if let Some(metadata) = facts.pod.metadata() {
        for rule in METADATA {
            rule(metadata, facts, &at.key("metadata"), findings);
        }
    }
    let at = at.key("spec");
    let Some(spec) = &facts.pod.spec else {
        return findings.error(&at, "missing");
    };
    for rule in SPEC {
        rule(spec, facts, &at, findings);
    }
    for (key, containers) in lists(spec) {
        let list = at.key(key);
        for (index, each) in containers.iter().enumerate() {
            container::check(each, key == "initContainers", facts, &list.index(index), findings);
        }
    }
    let list = at.key("volumes");
    for (index, each) in spec.volumes.iter().flatten().enumerate() {
        volume::check(each, index, facts, &list.index(index), findings);
    }
}

/// The container lists of a static pod.
fn lists(spec: &PodSpec) -> [(&'static str, &[k8s_openapi::api::core::v1::Container]); 2] {
    [
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", &spec.containers),
    ]
}

fn labels(metadata: &Metadata, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    label_map(metadata.labels.as_ref(), &at.key("labels"), findings);
}

/// Keys and values of a label map or of a selector.
fn label_map(map: Option<&BTreeMap<String, String>>, at: &Path<'_>, findings: &mut Findings<'_>) {
    for (key, value) in map.into_iter().flatten() {
        if !names::is_label_key(key) {
            findings.error_with(&at.key(key), "not a legal label key", names::LABEL_KEY);
        }
        if !names::is_label_value(value) {
            findings.error_with(
                &at.key(key),
                format!("{value:?} is not a legal label value"),
                names::LABEL_VALUE,
            );
        }
    }
}

fn annotations(metadata: &Metadata, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("annotations");
    let mut size = 0;
    for (key, value) in metadata.annotations.iter().flatten() {
        size += key.len() + value.len();
        // The kubelet lowers letters before it looks at an annotation's key.
        if !names::is_label_key(&key.to_ascii_lowercase()) {
            findings.error_with(&at.key(key), "not a legal annotation key", names::LABEL_KEY);
        }
    }
    if size > MAX_ANNOTATIONS {
        findings
            .error(&at, format!("{size} bytes are more than the {MAX_ANNOTATIONS} that Kubernetes takes"));
    }
}

fn owner(metadata: &Metadata, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty()) {
        findings.error_with(&at.key("ownerReferences"), "a static pod has no owner", "leave it out");
    }
}

fn has_containers(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.containers.is_empty() {
        findings.error(&at.key("containers"), "missing: a pod has at least one container");
    }
}

/// Over both lists: logs and statuses are filed by container name.
fn container_names_differ(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let mut first = BTreeMap::new();
    for (key, containers) in lists(spec) {
        let list = at.key(key);
        for (index, each) in containers.iter().enumerate() {
            if each.name.is_empty() {
                continue;
            }
            if let Some((other_key, other)) = first.insert(each.name.as_str(), (key, index)) {
                let message = format!("{:?} is also the name of {other_key}[{other}]", each.name);
                findings.error_with(
                    &list.index(index).key("name"),
                    message,
                    "give each container its own name",
                );
            }
        }
    }
}

fn volume_names_differ(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let names = spec.volumes.iter().flatten().map(|volume| volume.name.as_str());
    unique(names, "the name", &at.key("volumes"), "name", findings);
}

fn no_api_objects(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let given = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
    for (key, used) in [
        ("serviceAccountName", given(&spec.service_account_name)),
        ("serviceAccount", given(&spec.service_account)),
        ("imagePullSecrets", spec.image_pull_secrets.as_ref().is_some_and(|list| !list.is_empty())),
        ("resourceClaims", spec.resource_claims.as_ref().is_some_and(|list| !list.is_empty())),
    ] {
        if used {
            findings.error_with(&at.key(key), NO_API, "leave it out");
        }
    }
}

fn no_ephemeral_containers(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        let message = "ephemeral containers can only be added to a pod that runs";
        findings.error_with(&at.key("ephemeralContainers"), message, "list them under containers");
    }
}

fn words(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    one_of(
        spec.restart_policy.as_ref(),
        &["Always", "OnFailure", "Never"],
        &at.key("restartPolicy"),
        findings,
    );
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    one_of(spec.dns_policy.as_ref(), &policies, &at.key("dnsPolicy"), findings);
    let policies = ["Never", "PreemptLowerPriority"];
    one_of(spec.preemption_policy.as_ref(), &policies, &at.key("preemptionPolicy"), findings);
    let system = spec.os.as_ref().map(|os| &os.name);
    one_of(system, &["linux"], &at.key("os").key("name"), findings);
}

fn numbers(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if let Some(seconds) = spec.termination_grace_period_seconds {
        within(seconds, 0, i64::MAX, &at.key("terminationGracePeriodSeconds"), findings);
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        within(seconds, 1, i64::from(i32::MAX), &at.key("activeDeadlineSeconds"), findings);
    }
}

fn host_names(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    for (key, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(name) = name.as_ref().filter(|name| !name.is_empty()) {
            shaped(name, names::is_label, names::LABEL, &at.key(key), findings);
        }
    }
}

fn host_aliases(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("hostAliases");
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let at = list.index(index);
        if alias.ip.parse::<IpAddr>().is_err() {
            findings.error(&at.key("ip"), format!("{:?} is not an IP address", alias.ip));
        }
        let names_at = at.key("hostnames");
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            shaped(name, names::is_subdomain, names::SUBDOMAIN, &names_at.index(index), findings);
        }
    }
}

fn dns(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("dnsConfig");
    let servers = spec.dns_config.as_ref().and_then(|dns| dns.nameservers.as_deref()).unwrap_or_default();
    if spec.dns_policy.as_deref() == Some("None") && servers.is_empty() {
        findings.error(&at.key("nameservers"), "missing: with dnsPolicy None the pod needs at least one");
    }
    if servers.len() > 3 {
        findings.error(&at.key("nameservers"), "more than the 3 that a resolver uses");
    }
    let list = at.key("nameservers");
    for (index, server) in servers.iter().enumerate() {
        if server.parse::<IpAddr>().is_err() {
            findings.error(&list.index(index), format!("{server:?} is not an IP address"));
        }
    }
}

fn process_namespaces(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.host_pid == Some(true) && spec.share_process_namespace == Some(true) {
        let message = "hostPID and shareProcessNamespace exclude each other";
        findings.error_with(&at.key("shareProcessNamespace"), message, "keep one of them");
    }
}
