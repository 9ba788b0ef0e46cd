//! Rules over a container's probes and hooks.

use super::{ContainerCheck, Facts, Findings, Path, Rule, one_handler, one_of, rule, within};
use crate::manifests::names;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(super) const RULES: &[Rule<ContainerCheck>] = &[
    rule("probes of init containers", "validation.go: validateInitContainers", none_for_init),
    rule("one probe handler", "validation.go: validateHandler", probe_handlers),
    rule("probe numbers", "validation.go: validateProbe", probe_numbers),
    rule("success threshold", "validation.go: validateLivenessProbe, validateStartupProbe", thresholds),
    rule("probe grace", "validation.go: validateProbe, validateReadinessProbe", probe_grace),
    rule("probe action", "validation.go: validateExecAction, validateHTTPGetAction", probe_actions),
    rule("probe port", "validation.go: ValidatePortNumOrName", probe_ports),
    rule("probe port name", "pkg/probe/util.go: ResolveContainerPort", probe_port_names),
    rule("hooks of init containers", "validation.go: validateInitContainers", no_hooks_for_init),
    rule("one hook handler", "validation.go: validateLifecycle", hook_handlers),
    rule("hook action", "validation.go: validateHandler", hook_actions),
    rule("hook sleep", "validation.go: validateSleepAction", hook_sleep),
    rule("stop signal", "validation.go: validateLifecycle", stop_signal),
];

/// An init container that ends, and so is neither probed nor has hooks.
fn ends(container: &Container, first: bool) -> bool {
    first && container.restart_policy.as_deref() != Some("Always")
}

/// Each probe, with its place, and whether one success is all that it may ask for.
fn each_probe(container: &Container, at: &Path<'_>, mut act: impl FnMut(&Probe, bool, &Path<'_>)) {
    for (key, probe, once) in [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ] {
        if let Some(probe) = probe {
            act(probe, once, &at.key(key));
        }
    }
}

/// Each hook with its place.
fn each_hook(container: &Container, at: &Path<'_>, mut act: impl FnMut(&LifecycleHandler, &Path<'_>)) {
    let Some(lifecycle) = &container.lifecycle else { return };
    let at = at.key("lifecycle");
    for (key, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(hook) = hook {
            act(hook, &at.key(key));
        }
    }
}

fn none_for_init(
    container: &Container,
    first: bool,
    _: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if ends(container, first) {
        each_probe(container, at, |_, _, at| {
            let message = "an init container that is not restarted always has no probes";
            findings.error_with(at, message, "leave it out, or set its restartPolicy: Always");
        });
    }
}

fn probe_handlers(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_probe(container, at, |probe, _, at| {
        let given = [
            probe.exec.is_some(),
            probe.grpc.is_some(),
            probe.http_get.is_some(),
            probe.tcp_socket.is_some(),
        ];
        one_handler(&given, "exec, grpc, httpGet or tcpSocket", at, findings);
    });
}

fn probe_numbers(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_probe(container, at, |probe, _, at| {
        for (key, value) in [
            ("initialDelaySeconds", probe.initial_delay_seconds),
            ("timeoutSeconds", probe.timeout_seconds),
            ("periodSeconds", probe.period_seconds),
            ("successThreshold", probe.success_threshold),
            ("failureThreshold", probe.failure_threshold),
        ] {
            within(value.unwrap_or_default().into(), 0, i64::MAX, &at.key(key), findings);
        }
    });
}

fn thresholds(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_probe(container, at, |probe, once, at| {
        // Kubernetes puts 1 for a 0.
        if once && probe.success_threshold.is_some_and(|count| count > 1) {
            findings.error(&at.key("successThreshold"), "must be 1 for this kind of probe");
        }
    });
}

fn probe_grace(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_probe(container, at, |probe, once, at| {
        let Some(seconds) = probe.termination_grace_period_seconds else { return };
        let at = at.key("terminationGracePeriodSeconds");
        within(seconds, 1, i64::MAX, &at, findings);
        if !once {
            findings.error_with(&at, "a readiness probe stops nothing", "leave it out");
        }
    });
}

fn probe_actions(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_probe(container, at, |probe, _, at| {
        exec(probe.exec.as_ref(), at, findings);
        http(probe.http_get.as_ref(), at, findings);
    });
}

fn probe_ports(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_probe(container, at, |probe, _, at| {
        ports(probe.http_get.as_ref(), probe.tcp_socket.as_ref(), at, findings);
        if let Some(grpc) = &probe.grpc {
            within(grpc.port.into(), 1, 65535, &at.key("grpc").key("port"), findings);
        }
    });
}

/// The kubelet takes such a probe, and every attempt of it fails.
fn probe_port_names(
    container: &Container,
    _: bool,
    _: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    each_probe(container, at, |probe, _, at| {
        let http = probe.http_get.as_ref().map(|action| ("httpGet", &action.port));
        let tcp = probe.tcp_socket.as_ref().map(|action| ("tcpSocket", &action.port));
        for (key, port) in http.into_iter().chain(tcp) {
            let IntOrString::String(name) = port else { continue };
            let known = || container.ports.iter().flatten().filter_map(|port| port.name.as_deref());
            if names::is_port_name(name) && !known().any(|each| each == name) {
                let near = findings.did_you_mean(name, known());
                let message = format!("no port of the container is named {name:?}{near}");
                findings.warning(&at.key(key).key("port"), message, "use its number");
            }
        }
    });
}

fn no_hooks_for_init(
    container: &Container,
    first: bool,
    _: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if ends(container, first) && container.lifecycle.is_some() {
        let message = "an init container that is not restarted always has no hooks";
        findings.error(&at.key("lifecycle"), message);
    }
}

fn hook_handlers(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_hook(container, at, |hook, at| {
        let LifecycleHandler { exec, http_get, sleep, tcp_socket } = hook;
        let given = [exec.is_some(), http_get.is_some(), sleep.is_some(), tcp_socket.is_some()];
        one_handler(&given, "exec, httpGet, sleep or tcpSocket", at, findings);
    });
}

fn hook_actions(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_hook(container, at, |hook, at| {
        exec(hook.exec.as_ref(), at, findings);
        http(hook.http_get.as_ref(), at, findings);
        ports(hook.http_get.as_ref(), hook.tcp_socket.as_ref(), at, findings);
    });
}

fn hook_sleep(container: &Container, _: bool, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_hook(container, at, |hook, at| {
        let Some(SleepAction { seconds }) = &hook.sleep else { return };
        let at = at.key("sleep");
        let at = at.key("seconds");
        if !(0..=facts.grace()).contains(seconds) {
            let message = format!("{seconds} is out of range: the pod has {} s for stopping", facts.grace());
            findings.error_with(&at, message, "raise spec.terminationGracePeriodSeconds");
        }
    });
}

fn stop_signal(
    container: &Container,
    _: bool,
    facts: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let signal = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_ref());
    let Some(signal) = signal else { return };
    let at = at.key("lifecycle");
    let at = at.key("stopSignal");
    if !signal.starts_with("SIG") {
        findings.error_with(&at, format!("unknown value {signal:?}"), "write a signal's name, e.g. SIGINT");
    }
    if facts.spec().is_none_or(|spec| spec.os.is_none()) {
        findings.error_with(&at, "needs the pod's operating system", "write spec.os: {name: linux}");
    }
}

fn exec(action: Option<&ExecAction>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if action.is_some_and(|exec| exec.command.as_ref().is_none_or(Vec::is_empty)) {
        findings.error(&at.key("exec").key("command"), "missing");
    }
}

fn http(action: Option<&HTTPGetAction>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(http) = action else { return };
    let at = at.key("httpGet");
    one_of(http.scheme.as_ref(), &["HTTP", "HTTPS"], &at.key("scheme"), findings);
    let list = at.key("httpHeaders");
    for (index, header) in http.http_headers.iter().flatten().enumerate() {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if header.name.is_empty() || !header.name.bytes().all(legal) {
            let message = format!("{:?} is not the name of a header", header.name);
            findings.error_with(&list.index(index).key("name"), message, "use letters, digits and `-`");
        }
    }
}

fn ports(
    http: Option<&HTTPGetAction>,
    tcp: Option<&TCPSocketAction>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let http = http.map(|action| ("httpGet", &action.port));
    let tcp = tcp.map(|action| ("tcpSocket", &action.port));
    for (key, port) in http.into_iter().chain(tcp) {
        let at = at.key(key);
        let at = &at.key("port");
        match port {
            IntOrString::Int(number) => within((*number).into(), 1, 65535, at, findings),
            IntOrString::String(name) if !names::is_port_name(name) => {
                findings.error_with(at, format!("{name:?} is not the name of a port"), names::PORT_NAME);
            }
            IntOrString::String(_) => {}
        }
    }
}
