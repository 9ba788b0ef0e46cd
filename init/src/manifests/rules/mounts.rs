//! Rules over what a container mounts.

use super::{ContainerCheck, Facts, Findings, Path, Rule, descends, exactly_one_of, rule, unique};
use k8s_openapi::api::core::v1::{Container, VolumeMount};

pub(super) const RULES: &[Rule<ContainerCheck>] = &[
    rule("mounted volume", "validation.go: ValidateVolumeMounts", known_volumes),
    rule("mount path", "validation.go: ValidateVolumeMounts", paths),
    rule("mount path twice", "validation.go: ValidateVolumeMounts", paths_differ),
    rule("sub path", "validation.go: validateLocalDescendingPath", sub_paths),
    rule("sub path twice", "validation.go: ValidateVolumeMounts", sub_path_or_expression),
    rule("mount propagation", "validation.go: validateMountPropagation", propagation),
    rule("recursive read-only", "validation.go: validateMountRecursiveReadOnly", recursive_read_only),
    rule("block device", "validation.go: ValidateVolumeDevices", devices),
];

/// Each mount with its place.
fn each_mount(container: &Container, at: &Path<'_>, mut act: impl FnMut(&VolumeMount, &Path<'_>)) {
    let list = at.key("volumeMounts");
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        act(mount, &list.index(index));
    }
}

fn known_volumes(
    container: &Container,
    _: bool,
    facts: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    each_mount(container, at, |mount, at| known_volume(&mount.name, facts, &at.key("name"), findings));
}

fn known_volume(name: &str, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    if name.is_empty() {
        findings.error(at, "missing");
    } else if !facts.volumes.contains(name) {
        let near = findings.did_you_mean(name, facts.volumes.iter().copied());
        findings.error_with(at, format!("no volume is named {name:?}{near}"), "list it under spec.volumes");
    }
}

fn paths(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_mount(container, at, |mount, at| match mount.mount_path.as_str() {
        "" => findings.error(&at.key("mountPath"), "missing"),
        path if path.contains(':') => findings.error(&at.key("mountPath"), "must not contain `:`"),
        _ => {}
    });
}

fn paths_differ(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let paths = container.volume_mounts.iter().flatten().map(|mount| mount.mount_path.as_str());
    unique(paths, "the mount path", &at.key("volumeMounts"), "mountPath", findings);
}

fn sub_paths(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    each_mount(container, at, |mount, at| {
        for (key, path) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if path.as_ref().is_some_and(|path| !descends(path)) {
                findings.error(&at.key(key), "must be a path inside the volume, without `..`");
            }
        }
    });
}

fn sub_path_or_expression(
    container: &Container,
    _: bool,
    _: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let given = |path: &Option<String>| path.as_ref().is_some_and(|path| !path.is_empty());
    each_mount(container, at, |mount, at| {
        if given(&mount.sub_path) && given(&mount.sub_path_expr) {
            findings.error_with(&at.key("subPathExpr"), "excludes subPath", "keep one of them");
        }
    });
}

fn propagation(container: &Container, _: bool, _: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let privileged =
        container.security_context.as_ref().is_some_and(|security| security.privileged == Some(true));
    each_mount(container, at, |mount, at| {
        let at = at.key("mountPropagation");
        let modes = ["None", "HostToContainer", "Bidirectional"];
        exactly_one_of(mount.mount_propagation.as_ref(), &modes, &at, findings);
        if mount.mount_propagation.as_deref() == Some("Bidirectional") && !privileged {
            let message = "Bidirectional is for privileged containers";
            findings.error_with(&at, message, "set securityContext.privileged: true");
        }
    });
}

fn recursive_read_only(
    container: &Container,
    _: bool,
    _: &Facts<'_>,
    at: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    each_mount(container, at, |mount, at| {
        let Some(mode) = mount.recursive_read_only.as_ref() else { return };
        let at = at.key("recursiveReadOnly");
        exactly_one_of(Some(mode), &["Disabled", "Enabled", "IfPossible"], &at, findings);
        if !matches!(mode.as_str(), "Enabled" | "IfPossible") {
            return;
        }
        if mount.read_only != Some(true) {
            findings.error_with(&at, "needs a read-only mount", "set readOnly: true");
        }
        if mount.mount_propagation.as_deref().is_some_and(|mode| mode != "None") {
            findings.error_with(&at, "excludes mountPropagation", "leave one of the two out");
        }
    });
}

/// Block devices are claims, and a static pod can have none.
fn devices(container: &Container, _: bool, facts: &Facts<'_>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("volumeDevices");
    for (index, device) in container.volume_devices.iter().flatten().enumerate() {
        let at = list.index(index);
        known_volume(&device.name, facts, &at.key("name"), findings);
        if facts.volumes.contains(device.name.as_str()) {
            let message = "only a PersistentVolumeClaim is a block device, and a static pod can have none";
            let remedy = "mount the device's file by hostPath with type: BlockDevice";
            findings.error_with(&at.key("name"), message, remedy);
        }
    }
}
