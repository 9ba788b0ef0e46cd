//! `machine.kubelet`: what may be said to the kubelet beside what Podium says, and mounts for it.

use super::super::report::Report;
use super::super::tree::join;
use super::super::{ExtraMount, Kubelet, did_you_mean};
use super::words::{is_clean_path, is_name, is_under, subnet};
use super::{OURS, WRITABLE};

/// Flags that Podium sets, or that would take static pods away from it; with what to write instead.
const OUR_FLAGS: &[(&str, &str)] = &[
    ("bootstrap-kubeconfig", "remove it: joining a cluster is not implemented"),
    ("cgroup-driver", "remove it"),
    ("config", "write its content below machine.kubelet.extraConfig"),
    ("container-runtime", "remove it"),
    ("container-runtime-endpoint", "remove it"),
    ("hostname-override", "write machine.network.hostname"),
    ("image-service-endpoint", "remove it"),
    ("kubeconfig", "remove it: joining a cluster is not implemented"),
    ("manifest-url", "write the pods below machine.pods"),
    ("pod-infra-container-image", "remove it"),
    ("pod-manifest-path", "write the pods below machine.pods"),
    ("root-dir", "remove it"),
];
/// Keys of the KubeletConfiguration, likewise.
const OUR_KEYS: &[(&str, &str)] = &[
    ("apiVersion", "remove it"),
    ("cgroupDriver", "remove it"),
    ("cgroupRoot", "remove it"),
    ("containerRuntimeEndpoint", "remove it"),
    ("imageServiceEndpoint", "remove it"),
    ("kind", "remove it"),
    ("staticPodPath", "write the pods below machine.pods"),
    ("staticPodURL", "write the pods below machine.pods"),
    ("staticPodURLHeader", "write the pods below machine.pods"),
];
/// File system types that take a device or nothing; the kernel says which of them it has.
const MOUNT_TYPES: &[&str] = &["bind", "none", "tmpfs", "ext4", "xfs", "btrfs", "vfat", "erofs", "squashfs"];
/// `mount -o` words that a bind mount may have.
const BIND_OPTIONS: &[&str] = &[
    "bind",
    "rbind",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nosymfollow",
    "sync",
    "dirsync",
    "async",
    "defaults",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
];

/// Checks it all.
pub(super) fn check(kubelet: &Kubelet, report: &mut Report<'_>) {
    for name in kubelet.extra_args.keys() {
        let path = join("machine.kubelet.extraArgs", name);
        if name.starts_with('-') {
            report.error_with(&path, "begins with a dash", format!("write {}", name.trim_start_matches('-')));
        } else if !is_name(name, |byte| byte == b'-') {
            report.error_with(&path, "no name of a flag", "write it like max-pods");
        } else if let Some((_, remedy)) = OUR_FLAGS.iter().find(|(ours, _)| ours == name) {
            report.error_with(&path, "is a flag that Podium sets", *remedy);
        }
    }
    for name in kubelet.extra_config.keys() {
        if let Some((_, remedy)) = OUR_KEYS.iter().find(|(ours, _)| ours == name) {
            let path = join("machine.kubelet.extraConfig", name);
            report.error_with(&path, "is a key that Podium sets", *remedy);
        }
    }
    for (index, mount) in kubelet.extra_mounts.iter().enumerate() {
        extra_mount(&format!("machine.kubelet.extraMounts[{index}]"), mount, report);
    }
    for (index, text) in kubelet.node_ip.valid_subnets.iter().enumerate() {
        if subnet(text.strip_prefix('!').unwrap_or(text)).is_none() {
            let path = format!("machine.kubelet.nodeIP.validSubnets[{index}]");
            let remedy = "write it like 10.0.0.0/8, with a leading ! to exclude it";
            report.error_with(&path, format!("{text:?} is no subnet"), remedy);
        }
    }
}

fn extra_mount(path: &str, mount: &ExtraMount, report: &mut Report<'_>) {
    let target = &mount.destination;
    let at = format!("{path}.destination");
    if target.is_empty() {
        report.error_with(&at, "is missing", "write an absolute path");
    } else if !is_clean_path(target) {
        report.error_with(&at, format!("{target:?} is no path"), "write an absolute path without . and ..");
    } else if let Some((_, remedy)) =
        OURS.iter().find(|(ours, _)| is_under(target, ours) || is_under(ours, target))
    {
        report.error_with(&at, format!("{target} is Podium's own"), *remedy);
    } else if !WRITABLE.iter().any(|root| is_under(target, root) && target != root) {
        let message = format!("{target} is not on a writable file system");
        report.error_with(&at, message, format!("choose a path below {}", WRITABLE.join(", ")));
    }
    let kind = mount.kind.as_str();
    if !kind.is_empty() && !MOUNT_TYPES.contains(&kind) {
        let near = did_you_mean(kind, MOUNT_TYPES.iter().copied());
        let near = if near.is_empty() { format!("; known are {}", MOUNT_TYPES.join(", ")) } else { near };
        report.error(&format!("{path}.type"), format!("{kind:?} is not known{near}"));
    }
    let binds = matches!(kind, "" | "bind" | "none")
        || mount.options.iter().any(|word| word == "bind" || word == "rbind");
    let at = format!("{path}.source");
    if mount.source.is_empty() {
        if kind != "tmpfs" {
            report.error_with(&at, "is missing", "write what is to be mounted");
        }
    } else if kind != "tmpfs" && !is_clean_path(&mount.source) {
        report.error_with(
            &at,
            format!("{:?} is no path", mount.source),
            "write an absolute path without . and ..",
        );
    }
    for (index, option) in mount.options.iter().enumerate() {
        let at = format!("{path}.options[{index}]");
        if binds && !BIND_OPTIONS.contains(&option.as_str()) {
            let near = did_you_mean(option, BIND_OPTIONS.iter().copied());
            report.error(&at, format!("{option:?} is no option of a bind mount{near}"));
        } else if option.is_empty() || option.contains(|letter: char| letter == ',' || letter.is_control()) {
            report.error_with(&at, format!("{option:?} is no mount option"), "write one option an item");
        }
    }
}
