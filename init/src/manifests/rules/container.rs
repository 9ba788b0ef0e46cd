//! Rules over one container.

use super::{Facts, Findings, NO_API, Path, one_of, shaped, unique, within};
use crate::manifests::{names, quantity};
use k8s_openapi::api::core::v1::{Container, ContainerPort, LifecycleHandler, Probe, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What to do instead of a ConfigMap or Secret in the environment.
const INSTEAD: &str = "write the value here, or a file with machine.files and mount it by hostPath";

/// A rule over one container; the flag says that it is an init container.
type Rule = fn(&Container, bool, &Facts<'_>, &Path<'_>, &mut Findings<'_>);

const RULES: &[Rule] =
    &[name, image, words, environment, ports, mounts, devices, probes, hooks, resources, privileges];

/// Applies every rule to a container.
pub(super) fn check(
    container: &Container,
    first: bool,
    facts: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    for rule in RULES {
        rule(container, first, facts, at, findings);
    }
}

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

fn words(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(container.image_pull_policy.as_ref(), &policies, &at.key("imagePullPolicy"), findings);
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(
        container.termination_message_policy.as_ref(),
        &policies,
        &at.key("terminationMessagePolicy"),
        findings,
    );
    let policies = ["Always", "OnFailure", "Never"];
    one_of(container.restart_policy.as_ref(), &policies, &at.key("restartPolicy"), findings);
}

fn environment(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("env");
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let at = list.index(index);
        shaped(
            &variable.name,
            names::is_variable,
            "use printable ASCII without `=`",
            &at.key("name"),
            findings,
        );
        let Some(from) = &variable.value_from else {
            continue;
        };
        let at = at.key("valueFrom");
        if variable.value.as_ref().is_some_and(|value| !value.is_empty()) {
            findings.error_with(&at, "the variable has a value already", "keep either value or valueFrom");
        }
        for (key, used) in [
            ("configMapKeyRef", from.config_map_key_ref.is_some()),
            ("secretKeyRef", from.secret_key_ref.is_some()),
        ] {
            if used {
                findings.error_with(&at.key(key), NO_API, INSTEAD);
            }
        }
    }
    let list = at.key("envFrom");
    for (index, from) in container.env_from.iter().flatten().enumerate() {
        for (key, used) in
            [("configMapRef", from.config_map_ref.is_some()), ("secretRef", from.secret_ref.is_some())]
        {
            if used {
                findings.error_with(&list.index(index).key(key), NO_API, INSTEAD);
            }
        }
    }
}

fn ports(container: &Container, _: bool, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let host_network = facts.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    let list = at.key("ports");
    for (index, port) in container.ports.iter().flatten().enumerate() {
        one_port(port, host_network, &list.index(index), findings);
    }
    let names = container.ports.iter().flatten().map(|port| port.name.as_deref().unwrap_or_default());
    unique(names, "the name", &list, "name", findings);
}

fn one_port(port: &ContainerPort, host_network: bool, at: &Path<'_>, findings: &mut Findings<'_>) {
    within(port.container_port.into(), 1, 65535, &at.key("containerPort"), findings);
    let host = port.host_port.unwrap_or_default();
    within(host.into(), 0, 65535, &at.key("hostPort"), findings);
    if host_network && host != 0 && host != port.container_port {
        let message = format!("with hostNetwork it must be the containerPort, {}", port.container_port);
        findings.error_with(&at.key("hostPort"), message, "leave it out");
    }
    one_of(port.protocol.as_ref(), &["TCP", "UDP", "SCTP"], &at.key("protocol"), findings);
    if let Some(name) = port.name.as_ref().filter(|name| !name.is_empty()) {
        shaped(name, names::is_port_name, names::PORT_NAME, &at.key("name"), findings);
    }
    if let Some(ip) = port.host_ip.as_ref().filter(|ip| !ip.is_empty())
        && ip.parse::<core::net::IpAddr>().is_err()
    {
        findings.error(&at.key("hostIP"), format!("{ip:?} is not an IP address"));
    }
}

fn mounts(container: &Container, _: bool, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("volumeMounts");
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let at = list.index(index);
        known_volume(&mount.name, facts, &at.key("name"), findings);
        let path_at = at.key("mountPath");
        match mount.mount_path.as_str() {
            "" => findings.error(&path_at, "missing"),
            path if path.contains(':') => findings.error(&path_at, "must not contain `:`"),
            _ => {}
        }
        for (key, path) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            let path = path.as_deref().unwrap_or_default();
            if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                findings.error(&at.key(key), "must be a path inside the volume, without `..`");
            }
        }
        if [&mount.sub_path, &mount.sub_path_expr]
            .iter()
            .all(|path| path.as_ref().is_some_and(|path| !path.is_empty()))
        {
            findings.error_with(&at.key("subPathExpr"), "excludes subPath", "keep one of them");
        }
        let modes = ["None", "HostToContainer", "Bidirectional"];
        one_of(mount.mount_propagation.as_ref(), &modes, &at.key("mountPropagation"), findings);
        let privileged =
            container.security_context.as_ref().is_some_and(|security| security.privileged == Some(true));
        if mount.mount_propagation.as_deref() == Some("Bidirectional") && !privileged {
            let message = "Bidirectional is for privileged containers";
            findings.error_with(&at.key("mountPropagation"), message, "set securityContext.privileged: true");
        }
    }
    let paths = container.volume_mounts.iter().flatten().map(|mount| mount.mount_path.as_str());
    unique(paths, "the mount path", &list, "mountPath", findings);
}

fn devices(container: &Container, _: bool, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("volumeDevices");
    for (index, device) in container.volume_devices.iter().flatten().enumerate() {
        known_volume(&device.name, facts, &list.index(index).key("name"), findings);
    }
}

fn known_volume(name: &str, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if name.is_empty() {
        findings.error(at, "missing");
    } else if !facts.volumes.contains(name) {
        let near = findings.did_you_mean(name, facts.volumes.iter().copied());
        findings.error_with(at, format!("no volume is named {name:?}{near}"), "list it under spec.volumes");
    }
}

fn probes(container: &Container, first: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    for (key, probe, once) in [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ] {
        let Some(probe) = probe else { continue };
        let at = at.key(key);
        if first && container.restart_policy.as_deref() != Some("Always") {
            let message = "an init container that is not restarted always has no probes";
            findings.error_with(&at, message, "leave it out, or set its restartPolicy: Always");
        }
        one_probe(probe, once, container, &at, findings);
    }
}

fn one_probe(probe: &Probe, once: bool, container: &Container, at: &Path<'_>, findings: &mut Findings<'_>) {
    let handlers =
        [probe.exec.is_some(), probe.grpc.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some()];
    one_handler(&handlers, "exec, grpc, httpGet or tcpSocket", at, findings);
    for (key, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        within(value.unwrap_or_default().into(), 0, i64::MAX, &at.key(key), findings);
    }
    if once && probe.success_threshold.is_some_and(|count| count > 1) {
        findings.error(&at.key("successThreshold"), "must be 1 for this kind of probe");
    }
    if let Some(http) = &probe.http_get {
        let at = at.key("httpGet");
        port(&http.port, container, &at.key("port"), findings);
        one_of(http.scheme.as_ref(), &["HTTP", "HTTPS"], &at.key("scheme"), findings);
    }
    if let Some(tcp) = &probe.tcp_socket {
        port(&tcp.port, container, &at.key("tcpSocket").key("port"), findings);
    }
    if let Some(grpc) = &probe.grpc {
        within(grpc.port.into(), 1, 65535, &at.key("grpc").key("port"), findings);
    }
}

/// A port by number, or by the name of one of the container's.
fn port(port: &IntOrString, container: &Container, at: &Path<'_>, findings: &mut Findings<'_>) {
    match port {
        IntOrString::Int(number) => within((*number).into(), 1, 65535, at, findings),
        IntOrString::String(name) if !names::is_port_name(name) => {
            findings.error_with(at, format!("{name:?} is not the name of a port"), names::PORT_NAME);
        }
        IntOrString::String(name) => {
            let known = || container.ports.iter().flatten().filter_map(|port| port.name.as_deref());
            if !known().any(|each| each == name) {
                let near = findings.did_you_mean(name, known());
                findings.warning(
                    at,
                    format!("no port of the container is named {name:?}{near}"),
                    "use its number",
                );
            }
        }
    }
}

fn one_handler(handlers: &[bool], which: &str, at: &Path<'_>, findings: &mut Findings<'_>) {
    match handlers.iter().filter(|given| **given).count() {
        1 => {}
        0 => findings.error(at, format!("needs one of {which}")),
        _ => findings.error(at, format!("has more than one of {which}")),
    }
}

fn hooks(container: &Container, first: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(lifecycle) = &container.lifecycle else {
        return;
    };
    let at = at.key("lifecycle");
    if first && container.restart_policy.as_deref() != Some("Always") {
        return findings.error(&at, "an init container that is not restarted always has no hooks");
    }
    for (key, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        let Some(LifecycleHandler { exec, http_get, sleep, tcp_socket }) = hook else {
            continue;
        };
        let handlers = [exec.is_some(), http_get.is_some(), sleep.is_some(), tcp_socket.is_some()];
        one_handler(&handlers, "exec, httpGet, sleep or tcpSocket", &at.key(key), findings);
        if let Some(http) = http_get {
            port(&http.port, container, &at.key(key).key("httpGet").key("port"), findings);
        }
    }
}

fn resources(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(ResourceRequirements { limits, requests, .. }) = &container.resources else {
        return;
    };
    let at = at.key("resources");
    for (key, map) in [("limits", limits), ("requests", requests)] {
        let list = at.key(key);
        for (resource, amount) in map.iter().flatten() {
            // What does not parse was told when it was read.
            let Some(amount_nano) = quantity::parse(&amount.0) else { continue };
            if amount_nano < 0 {
                findings.error(&list.key(resource), "must not be negative");
            }
            if resource == "memory" && amount.0.ends_with('m') {
                let message = format!("{} is thousandths of a byte", amount.0);
                findings.warning(&list.key(resource), message, "write Mi for mebibytes or M for megabytes");
            }
        }
    }
    for (resource, request) in requests.iter().flatten() {
        let Some(limit) = limits.as_ref().and_then(|limits| limits.get(resource)) else { continue };
        if quantity::parse(&request.0) > quantity::parse(&limit.0) {
            let message = format!("{} is more than the limit, {}", request.0, limit.0);
            findings.error(&at.key("requests").key(resource), message);
        }
    }
}

fn privileges(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(security) = &container.security_context else {
        return;
    };
    if security.privileged == Some(true) && security.allow_privilege_escalation == Some(false) {
        let at = at.key("securityContext");
        let message = "a privileged container cannot be without it";
        findings.error_with(&at.key("allowPrivilegeEscalation"), message, "leave one of the two out");
    }
}
