//! Rules over one container: its name, image, ports and policies.

use super::{
    ContainerCheck, Facts, Findings, Path, Rule, exactly_one_of, one_of, rule, shaped, shaped_if_any, unique,
    within,
};
use crate::manifests::names;
use core::net::IpAddr;
use k8s_openapi::api::core::v1::{Container, ContainerPort};
use std::collections::BTreeSet;

pub(super) const RULES: &[Rule<ContainerCheck>] = &[
    rule("container name", "validation.go: validateContainerCommon", name),
    rule("image", "validation.go: validateContainerCommon, validateContainerOnlyForPod", image),
    rule("pull policy", "validation.go: validatePullPolicy", pull_policy),
    rule("termination message policy", "validation.go: validateContainerCommon", termination_message_policy),
    rule("container restart policy", "validation.go: validateContainerRestartPolicy", restart_policy),
    rule("restart rules", "validation.go: validateContainerRestartPolicy", restart_rules),
    rule("resize policy", "validation.go: validateResizePolicy", resize_policy),
    rule("container port", "validation.go: validateContainerPorts", container_ports),
    rule("host port", "validation.go: validateContainerPorts", host_ports),
    rule("port protocol", "validation.go: validateContainerPorts", protocols),
    rule("port name", "validation.go: validateContainerPorts", port_names),
    rule("host ip", "Podium: what forwards ports takes addresses alone", host_ips),
    rule("host network port", "validation.go: validatePodHostNetworkDeps", host_network_ports),
];

const POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

fn name(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    shaped(&container.name, names::is_label, names::LABEL, &at.key("name"), findings);
}

fn image(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let at = at.key("image");
    match container.image.as_deref().unwrap_or_default() {
        "" => findings.error(&at, "missing"),
        image if image.contains(char::is_whitespace) => {
            findings.error(&at, format!("{image:?} contains blanks"));
        }
        _ => {}
    }
}

fn pull_policy(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    one_of(container.image_pull_policy.as_ref(), &POLICIES, &at.key("imagePullPolicy"), findings);
}

fn termination_message_policy(
    container: &Container,
    _: bool,
    _: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let policy = container.termination_message_policy.as_ref();
    one_of(policy, &["File", "FallbackToLogsOnError"], &at.key("terminationMessagePolicy"), findings);
}

/// Kubelets before 1.34 take `Always` of an init container alone.
fn restart_policy(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let policy = container.restart_policy.as_ref();
    exactly_one_of(policy, &["Always", "OnFailure", "Never"], &at.key("restartPolicy"), findings);
}

fn restart_rules(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    let list = at.key("restartPolicyRules");
    if container.restart_policy.is_none() && !rules.is_empty() {
        findings.error_with(&list, "needs a restartPolicy of the container", "write restartPolicy beside it");
    }
    if rules.len() > 20 {
        findings.error(&list, "more than 20 rules");
    }
    for (index, each) in rules.iter().enumerate() {
        let at = list.index(index);
        let actions = ["Restart", "RestartAllContainers"];
        exactly_one_of(Some(&each.action), &actions, &at.key("action"), findings);
        let at = at.key("exitCodes");
        let Some(codes) = &each.exit_codes else {
            findings.error(&at, "missing");
            continue;
        };
        exactly_one_of(Some(&codes.operator), &["In", "NotIn"], &at.key("operator"), findings);
        if codes.values.as_ref().is_none_or(|values| values.is_empty() || values.len() > 255) {
            findings.error(&at.key("values"), "needs 1 to 255 exit codes");
        }
    }
}

fn resize_policy(
    container: &Container,
    _: bool,
    facts: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let never = facts.spec().is_some_and(|spec| spec.restart_policy.as_deref() == Some("Never"));
    let list = at.key("resizePolicy");
    let mut seen = BTreeSet::new();
    for (index, each) in container.resize_policy.iter().flatten().enumerate() {
        let at = list.index(index);
        exactly_one_of(Some(&each.resource_name), &["cpu", "memory"], &at.key("resourceName"), findings);
        let policies = ["NotRequired", "RestartContainer"];
        exactly_one_of(Some(&each.restart_policy), &policies, &at.key("restartPolicy"), findings);
        if !seen.insert(each.resource_name.as_str()) {
            findings.error(&at, format!("{} is listed twice", each.resource_name));
        }
        if never && each.restart_policy == "RestartContainer" {
            findings.error(&at.key("restartPolicy"), "a pod with restartPolicy Never restarts no container");
        }
    }
}

/// Each port with its place.
fn each_port(container: &Container, at: &Path<'_>, mut act: impl FnMut(&ContainerPort, &Path<'_>)) {
    let list = at.key("ports");
    for (index, port) in container.ports.iter().flatten().enumerate() {
        act(port, &list.index(index));
    }
}

fn container_ports(
    container: &Container,
    _: bool,
    _: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    each_port(container, at, |port, at| {
        within(port.container_port.into(), 1, 65535, &at.key("containerPort"), findings);
    });
}

fn host_ports(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_port(container, at, |port, at| {
        within(port.host_port.unwrap_or_default().into(), 0, 65535, &at.key("hostPort"), findings);
    });
}

fn protocols(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_port(container, at, |port, at| {
        one_of(port.protocol.as_ref(), &["TCP", "UDP", "SCTP"], &at.key("protocol"), findings);
    });
}

fn port_names(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_port(container, at, |port, at| {
        let at = at.key("name");
        shaped_if_any(port.name.as_ref(), names::is_port_name, names::PORT_NAME, &at, findings);
    });
    let names = container.ports.iter().flatten().map(|port| port.name.as_deref().unwrap_or_default());
    unique(names, "the name", &at.key("ports"), "name", findings);
}

fn host_ips(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_port(container, at, |port, at| {
        if let Some(ip) = port.host_ip.as_ref().filter(|ip| !ip.is_empty() && ip.parse::<IpAddr>().is_err()) {
            findings.error(&at.key("hostIP"), format!("{ip:?} is not an IP address"));
        }
    });
}

fn host_network_ports(
    container: &Container,
    first: bool,
    facts: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if !facts.host_network() || first {
        return;
    }
    each_port(container, at, |port, at| {
        if port.host_port.is_some_and(|host| host != 0 && host != port.container_port) {
            let message = format!("with hostNetwork it must be the containerPort, {}", port.container_port);
            findings.error_with(&at.key("hostPort"), message, "leave it out");
        }
    });
}
