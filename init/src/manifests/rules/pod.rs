//! Rules over `spec` as a whole.

use super::{
    Check, Facts, Findings, Path, Rule, exactly_one_of, lists, one_of, rule, shaped, shaped_if_any, unique,
    within,
};
use crate::manifests::names;
use core::net::IpAddr;
use k8s_openapi::api::core::v1::PodSpec;
use std::collections::BTreeMap;

/// The rule that a pod without a `spec` breaks.
pub(super) const HAS_CONTAINERS: &str = "has containers";

pub(super) const RULES: &[Rule<Check<PodSpec>>] = &[
    rule(HAS_CONTAINERS, "validation.go: validateContainers", has_containers),
    rule(
        "container names differ",
        "validation.go: validateContainers, validateInitContainers",
        container_names,
    ),
    rule("volume names differ", "validation.go: ValidateVolumes", volume_names),
    rule("restart policy", "validation.go: validateRestartPolicy", restart_policy),
    rule("dns policy", "validation.go: validateDNSPolicy", dns_policy),
    rule("preemption policy", "validation.go: ValidatePreemptionPolicy", preemption_policy),
    rule(
        "operating system",
        "validation.go: validateOS; linux: pkg/kubelet/lifecycle/predicate.go: rejectPodAdmissionBasedOnOSField",
        system,
    ),
    rule("grace period", "Podium: no kubelet can wait for a negative time", grace_period),
    rule("active deadline", "validation.go: ValidatePodSpec", active_deadline),
    rule("host name", "validation.go: ValidatePodSpec", host_names),
    rule("host name override", "validation.go: ValidatePodSpec", host_name_override),
    rule("host alias", "validation.go: ValidateHostAliases", host_aliases),
    rule("name servers", "validation.go: validatePodDNSConfig", name_servers),
    rule("search domains", "validation.go: validatePodDNSConfig", search_domains),
    rule("resolver options", "validation.go: validatePodDNSConfig", resolver_options),
    rule("class names", "validation.go: ValidatePriorityClassName, ValidateRuntimeClassName", class_names),
];

/// What a resolver takes: name servers, search domains, and letters of those with their blanks.
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 32;
const MOST_DOMAIN_LETTERS: usize = 2048;

fn has_containers(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.containers.is_empty() {
        findings.error(&at.key("containers"), "missing: a pod has at least one container");
    }
}

/// Over both lists: logs and statuses are filed by container name.
fn container_names(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
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

fn volume_names(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let names = spec.volumes.iter().flatten().map(|volume| volume.name.as_str());
    unique(names, "the name", &at.key("volumes"), "name", findings);
}

fn restart_policy(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let policies = ["Always", "OnFailure", "Never"];
    one_of(spec.restart_policy.as_ref(), &policies, &at.key("restartPolicy"), findings);
}

fn dns_policy(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    one_of(spec.dns_policy.as_ref(), &policies, &at.key("dnsPolicy"), findings);
}

fn preemption_policy(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let policies = ["Never", "PreemptLowerPriority"];
    exactly_one_of(spec.preemption_policy.as_ref(), &policies, &at.key("preemptionPolicy"), findings);
}

fn system(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let system = spec.os.as_ref().map(|os| &os.name);
    exactly_one_of(system, &["linux"], &at.key("os").key("name"), findings);
}

fn grace_period(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let seconds = spec.termination_grace_period_seconds.unwrap_or_default();
    within(seconds, 0, i64::MAX, &at.key("terminationGracePeriodSeconds"), findings);
}

fn active_deadline(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if let Some(seconds) = spec.active_deadline_seconds {
        within(seconds, 1, i64::from(i32::MAX), &at.key("activeDeadlineSeconds"), findings);
    }
}

fn host_names(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    for (key, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        shaped_if_any(name.as_ref(), names::is_label, names::LABEL, &at.key(key), findings);
    }
}

fn host_name_override(spec: &PodSpec, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(name) = &spec.hostname_override else { return };
    let at = at.key("hostnameOverride");
    shaped(name, names::is_subdomain, names::SUBDOMAIN, &at, findings);
    if name.len() > 64 {
        findings.error(&at, "has more than 64 letters");
    }
    for (key, excluded) in [
        ("hostNetwork", facts.host_network()),
        ("setHostnameAsFQDN", spec.set_hostname_as_fqdn == Some(true)),
    ] {
        if excluded {
            findings.error_with(&at, format!("excludes {key}"), "leave one of the two out");
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

fn name_servers(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("dnsConfig");
    let list = at.key("nameservers");
    let servers = spec.dns_config.as_ref().and_then(|dns| dns.nameservers.as_deref()).unwrap_or_default();
    if spec.dns_policy.as_deref() == Some("None") && servers.is_empty() {
        findings.error(&list, "missing: with dnsPolicy None the pod needs at least one");
    }
    if servers.len() > MOST_SERVERS {
        findings.error(&list, format!("more than the {MOST_SERVERS} that a resolver uses"));
    }
    for (index, server) in servers.iter().enumerate() {
        if server.parse::<IpAddr>().is_err() {
            findings.error(&list.index(index), format!("{server:?} is not an IP address"));
        }
    }
}

fn search_domains(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("dnsConfig");
    let list = at.key("searches");
    let domains = spec.dns_config.as_ref().and_then(|dns| dns.searches.as_deref()).unwrap_or_default();
    if domains.len() > MOST_DOMAINS {
        findings.error(&list, format!("more than the {MOST_DOMAINS} that a resolver uses"));
    }
    if domains.join(" ").len() > MOST_DOMAIN_LETTERS {
        findings.error(&list, format!("more than the {MOST_DOMAIN_LETTERS} letters that a resolver uses"));
    }
    for (index, domain) in domains.iter().enumerate() {
        let bare = domain.strip_suffix('.').unwrap_or(domain);
        // From 1.32 on `.` alone and underscores are legal.
        if domain != "." && !names::is_subdomain(&bare.replace('_', "x")) {
            let message = format!("{domain:?} is not a legal name");
            findings.error_with(&list.index(index), message, names::SUBDOMAIN);
        }
    }
}

fn resolver_options(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("dnsConfig");
    let list = at.key("options");
    let options = spec.dns_config.as_ref().and_then(|dns| dns.options.as_deref()).unwrap_or_default();
    for (index, option) in options.iter().enumerate() {
        if option.name.as_ref().is_none_or(String::is_empty) {
            findings.error(&list.index(index).key("name"), "missing");
        }
    }
}

fn class_names(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    for (key, name) in
        [("priorityClassName", &spec.priority_class_name), ("runtimeClassName", &spec.runtime_class_name)]
    {
        shaped_if_any(name.as_ref(), names::is_subdomain, names::SUBDOMAIN, &at.key(key), findings);
    }
}
