//! Rules over the security contexts of the pod and of its containers, and over host namespaces.

use super::{
    Check, ContainerCheck, Facts, Findings, Path, Rule, descends, exactly_one_of, lists, rule, within,
};
use k8s_openapi::api::core::v1::{AppArmorProfile, Container, PodSpec, SeccompProfile};
use std::collections::BTreeMap;

pub(super) const RULES: &[Rule<Check<PodSpec>>] = &[
    rule("pod users and groups", "validation.go: validatePodSpecSecurityContext", pod_ids),
    rule("pod profiles", "validation.go: validatePodSpecSecurityContext", pod_profiles),
    rule(
        "pod security words",
        "validation.go: validateFSGroupChangePolicy, validateSupplementalGroupsPolicy",
        pod_words,
    ),
    rule("sysctl name", "validation.go: validateSysctls", sysctl_names),
    rule("sysctl of the host", "validation.go: ValidateHostSysctl", host_sysctls),
    rule("unsafe sysctl", "pkg/kubelet/sysctl/allowlist.go: Admit", unsafe_sysctls),
    rule("process namespaces", "validation.go: validatePodSpecSecurityContext", process_namespaces),
    rule("host users", "validation.go: validateHostUsers", host_users),
    rule("windows options", "validation.go: validateLinux", windows),
];

pub(super) const CONTAINER_RULES: &[Rule<ContainerCheck>] = &[
    rule("users and groups", "validation.go: ValidateSecurityContext", ids),
    rule("profiles", "validation.go: validateSeccompProfileField, ValidateAppArmorProfileField", profiles),
    rule("privilege escalation", "validation.go: ValidateSecurityContext", escalation),
    rule("proc mount", "validation.go: ValidateProcMountType", proc_mount),
    rule("root user", "pkg/kubelet/kuberuntime/security_context_others.go: verifyRunAsNonRoot", root),
];

/// Users and groups are numbers from 0 to this.
const MAX_ID: i64 = i32::MAX as i64;

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// What a kubelet lets a pod set without being told so; the list of the newest.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

fn id(value: Option<i64>, at: &Path<'_>, findings: &mut Findings<'_>) {
    within(value.unwrap_or_default(), 0, MAX_ID, at, findings);
}

fn pod_ids(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(security) = &spec.security_context else { return };
    let at = at.key("securityContext");
    id(security.fs_group, &at.key("fsGroup"), findings);
    id(security.run_as_user, &at.key("runAsUser"), findings);
    id(security.run_as_group, &at.key("runAsGroup"), findings);
    let list = at.key("supplementalGroups");
    for (index, group) in security.supplemental_groups.iter().flatten().enumerate() {
        id(Some(*group), &list.index(index), findings);
    }
}

fn pod_profiles(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(security) = &spec.security_context else { return };
    let at = at.key("securityContext");
    seccomp(security.seccomp_profile.as_ref(), &at.key("seccompProfile"), findings);
    apparmor(security.app_armor_profile.as_ref(), &at.key("appArmorProfile"), findings);
}

fn pod_words(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(security) = &spec.security_context else { return };
    let at = at.key("securityContext");
    for (key, word, legal) in [
        ("fsGroupChangePolicy", &security.fs_group_change_policy, ["OnRootMismatch", "Always"]),
        ("supplementalGroupsPolicy", &security.supplemental_groups_policy, ["Merge", "Strict"]),
        ("seLinuxChangePolicy", &security.se_linux_change_policy, ["Recursive", "MountOption"]),
    ] {
        exactly_one_of(word.as_ref(), &legal, &at.key(key), findings);
    }
}

/// Each sysctl of the pod with the place of its name; a slash in it stands for a dot.
fn each_sysctl(spec: &PodSpec, at: &Path<'_>, mut act: impl FnMut(&str, &Path<'_>)) {
    let at = at.key("securityContext");
    let list = at.key("sysctls");
    let sysctls = spec.security_context.as_ref().and_then(|security| security.sysctls.as_ref());
    for (index, sysctl) in sysctls.into_iter().flatten().enumerate() {
        act(&sysctl.name.replace('/', "."), &list.index(index).key("name"));
    }
}

fn sysctl_names(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let mut seen = BTreeMap::new();
    let end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let legal = |part: &str| {
        part.as_bytes().first().is_some_and(|byte| end(*byte))
            && part.as_bytes().last().is_some_and(|byte| end(*byte))
            && part.bytes().all(|byte| end(byte) || matches!(byte, b'-' | b'_'))
    };
    each_sysctl(spec, at, |name, at| {
        if name.is_empty() {
            findings.error(at, "missing");
        } else if name.len() > 253 || !name.split('.').all(legal) {
            let remedy = "use lower-case letters, digits, `-` and `_`, joined by dots";
            findings.error_with(at, format!("{name:?} is not a legal name"), remedy);
        } else if seen.insert(name.to_owned(), ()).is_some() {
            findings.error(at, format!("{name} is set twice"));
        }
    });
}

fn is_net(name: &str) -> bool {
    name.starts_with("net.")
}

fn is_ipc(name: &str) -> bool {
    ["kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|start| name.starts_with(start))
}

fn host_sysctls(spec: &PodSpec, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_sysctl(spec, at, |name, at| {
        for (shared, own, word) in [
            (facts.host_network(), is_net(name), "hostNetwork"),
            (spec.host_ipc == Some(true), is_ipc(name), "hostIPC"),
        ] {
            if shared && own {
                findings.error_with(at, format!("with {word} it would be the host's"), "use machine.sysctls");
            }
        }
    });
}

/// The kubelet refuses such a pod when it starts it; which ones it lets pass is in its own config.
fn unsafe_sysctls(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_sysctl(spec, at, |name, at| {
        if !is_net(name) && !is_ipc(name) {
            let message = format!("{name} is the whole node's: the kubelet refuses the pod");
            findings.warning(at, message, "use machine.sysctls");
        } else if !SAFE_SYSCTLS.contains(&name) {
            let message = format!("the kubelet refuses the pod unless {name} is allowed");
            findings.warning(at, message, "list it in machine.kubelet.extraConfig.allowedUnsafeSysctls");
        }
    });
}

fn process_namespaces(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if spec.host_pid == Some(true) && spec.share_process_namespace == Some(true) {
        let message = "hostPID and shareProcessNamespace exclude each other";
        findings.error_with(&at.key("shareProcessNamespace"), message, "keep one of them");
    }
}

fn host_users(spec: &PodSpec, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    for (key, shared) in
        [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)]
    {
        if !facts.host_users() && shared == Some(true) {
            findings.error_with(&at.key(key), "excludes hostUsers: false", "leave one of the two out");
        }
    }
}

fn windows(spec: &PodSpec, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let message = "the node runs Linux";
    if spec.security_context.as_ref().is_some_and(|security| security.windows_options.is_some()) {
        findings.error_with(&at.key("securityContext").key("windowsOptions"), message, "leave it out");
    }
    for (key, containers) in lists(spec) {
        let list = at.key(key);
        for (index, each) in containers.iter().enumerate() {
            if each.security_context.as_ref().is_some_and(|security| security.windows_options.is_some()) {
                let at = list.index(index);
                findings.error_with(
                    &at.key("securityContext").key("windowsOptions"),
                    message,
                    "leave it out",
                );
            }
        }
    }
}

fn ids(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(security) = &container.security_context else { return };
    let at = at.key("securityContext");
    id(security.run_as_user, &at.key("runAsUser"), findings);
    id(security.run_as_group, &at.key("runAsGroup"), findings);
}

fn profiles(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(security) = &container.security_context else { return };
    let at = at.key("securityContext");
    seccomp(security.seccomp_profile.as_ref(), &at.key("seccompProfile"), findings);
    apparmor(security.app_armor_profile.as_ref(), &at.key("appArmorProfile"), findings);
}

fn seccomp(profile: Option<&SeccompProfile>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(profile) = profile else { return };
    localhost(&profile.type_, profile.localhost_profile.as_deref(), at, findings);
    if profile.localhost_profile.as_ref().is_some_and(|path| !descends(path)) {
        findings.error(&at.key("localhostProfile"), "must be a path below the kubelet's seccomp folder");
    }
}

fn apparmor(profile: Option<&AppArmorProfile>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(profile) = profile else { return };
    localhost(&profile.type_, profile.localhost_profile.as_deref(), at, findings);
    if profile.localhost_profile.as_ref().is_some_and(|name| name.trim() != name || name.is_empty()) {
        findings.error(&at.key("localhostProfile"), "must be a name without blanks around it");
    }
}

/// A profile's type, and the name that goes with `Localhost` alone.
fn localhost(kind: &String, name: Option<&str>, at: &Path<'_>, findings: &mut Findings<'_>) {
    exactly_one_of(Some(kind), &PROFILES, &at.key("type"), findings);
    let at = at.key("localhostProfile");
    match (kind == "Localhost", name) {
        (true, None) => findings.error(&at, "missing: type Localhost names a profile"),
        (false, Some(_)) => findings.error_with(&at, "goes with type Localhost alone", "leave it out"),
        _ => {}
    }
}

fn escalation(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(security) = &container.security_context else { return };
    if security.allow_privilege_escalation != Some(false) {
        return;
    }
    let at = at.key("securityContext");
    let at = at.key("allowPrivilegeEscalation");
    if security.privileged == Some(true) {
        let message = "a privileged container cannot be without it";
        findings.error_with(&at, message, "leave one of the two out");
    }
    let added = security.capabilities.as_ref().and_then(|capabilities| capabilities.add.as_ref());
    if added.is_some_and(|added| added.iter().any(|each| each == "CAP_SYS_ADMIN")) {
        let message = "a container with CAP_SYS_ADMIN cannot be without it";
        findings.error_with(&at, message, "leave one of the two out");
    }
}

fn proc_mount(container: &Container, _: bool, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let kind = container.security_context.as_ref().and_then(|security| security.proc_mount.as_ref());
    let at = at.key("securityContext");
    let at = at.key("procMount");
    exactly_one_of(kind, &["Default", "Unmasked"], &at, findings);
    if kind.is_some_and(|kind| kind == "Unmasked") && facts.host_users() {
        findings.error_with(&at, "Unmasked needs users of its own", "set spec.hostUsers: false");
    }
}

/// The kubelet takes such a pod, and never starts the container.
fn root(container: &Container, _: bool, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let own = container.security_context.as_ref();
    let pod = facts.spec().and_then(|spec| spec.security_context.as_ref());
    let not_root = own.and_then(|own| own.run_as_non_root).or(pod.and_then(|pod| pod.run_as_non_root));
    let user = own.and_then(|own| own.run_as_user).or(pod.and_then(|pod| pod.run_as_user));
    if not_root == Some(true) && user == Some(0) {
        let message = "user 0 is root, and runAsNonRoot refuses it: the container would never start";
        let remedy = "give another runAsUser, or leave runAsNonRoot out";
        findings.warning(&at.key("securityContext").key("runAsUser"), message, remedy);
    }
}
