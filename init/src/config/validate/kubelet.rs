//! `machine.kubelet`: what may be said to the kubelet beside what Podium says, where it takes pods from, and mounts
//! for it.

use super::super::node::join;
use super::super::report::Report;
use super::super::{Delivery, ExtraMount, Kubelet, Problem, did_you_mean};
use super::words::{check_url, is_clean_path, is_name, is_under, subnet};
use super::{OURS, WRITABLE};
use serde_json::Value;

/// Flags that Podium sets, or that would take static pods away from it; with what to write instead.
const OUR_FLAGS: &[(&str, &str)] = &[
    ("address", "write machine.kubelet.extraConfig.address"),
    ("anonymous-auth", "remove it: the kubelet lets in who has a certificate"),
    ("bootstrap-kubeconfig", "remove it: joining a cluster is not implemented"),
    ("cgroup-driver", "remove it"),
    ("client-ca-file", "write machine.kubelet.extraConfig.authentication.x509.clientCAFile"),
    ("config", "write its content below machine.kubelet.extraConfig"),
    ("container-runtime", "remove it"),
    ("container-runtime-endpoint", "remove it"),
    ("hostname-override", "write machine.network.hostname"),
    ("image-service-endpoint", "remove it"),
    ("kubeconfig", "remove it: joining a cluster is not implemented"),
    ("manifest-url", "write machine.kubelet.staticPodURL"),
    ("manifest-url-header", "write machine.kubelet.staticPodURLHeader"),
    ("pod-infra-container-image", "remove it"),
    ("pod-manifest-path", "write the pods below machine.pods"),
    ("port", "write machine.kubelet.extraConfig.port"),
    ("read-only-port", "remove it: the kubelet lets in who has a certificate"),
    ("root-dir", "remove it"),
    ("tls-cert-file", "remove it: Podium makes the kubelet's certificate"),
    ("tls-private-key-file", "remove it: Podium makes the kubelet's certificate"),
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
    ("staticPodURL", "write machine.kubelet.staticPodURL"),
    ("staticPodURLHeader", "write machine.kubelet.staticPodURLHeader"),
    ("tlsCertFile", "remove it: Podium makes the kubelet's certificate"),
    ("tlsPrivateKeyFile", "remove it: Podium makes the kubelet's certificate"),
];
/// Bytes of `extraArgs`: the kernel takes 128 KiB an argument, and PID 1 a bounded description of each service.
const MAX_ARGS: usize = 32 << 10;
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
    let size: usize = kubelet.extra_args.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    if size > MAX_ARGS {
        let message = format!("hold {size} bytes, more than {MAX_ARGS}");
        report.error_with(
            "machine.kubelet.extraArgs",
            message,
            "write settings below machine.kubelet.extraConfig",
        );
    }
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
    doors(kubelet, report);
    source(kubelet, report);
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

/// Who may speak to the kubelet: it does what it is told as root, so nobody may without a certificate.
fn doors(kubelet: &Kubelet, report: &mut Report<'_>) {
    let given = |path: &[&str]| {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(kubelet.extra_config.get(*first)?, |value, key| value.get(key))
    };
    let remedy = "remove it: the kubelet lets in who has a certificate";
    if given(&["authentication", "anonymous", "enabled"]).is_some_and(|value| value != &Value::Bool(false)) {
        let path = "machine.kubelet.extraConfig.authentication.anonymous.enabled";
        report.error_with(path, "would let anybody do anything as root", remedy);
    }
    if given(&["readOnlyPort"]).is_some_and(|value| value.as_u64() != Some(0)) {
        let path = "machine.kubelet.extraConfig.readOnlyPort";
        report.error_with(path, "would show everything to anybody", remedy);
    }
    let ca = given(&["authentication", "x509", "clientCAFile"]);
    if ca.is_some_and(|ca| !ca.as_str().is_some_and(is_clean_path)) {
        let path = "machine.kubelet.extraConfig.authentication.x509.clientCAFile";
        report.error_with(path, "is no path", "write an absolute path without . and ..");
    }
}

/// `staticPodDelivery`, `staticPodURL`, `staticPodURLHeader`.
fn source(kubelet: &Kubelet, report: &mut Report<'_>) {
    let path = "machine.kubelet.staticPodURL";
    let is_http = kubelet.static_pod_delivery == Delivery::Http;
    if is_http && kubelet.extra_config.contains_key("httpCheckFrequency") {
        let remedy = "remove it: with staticPodDelivery: http a slow one would let pods outlive a shutdown";
        report.error_with("machine.kubelet.extraConfig.httpCheckFrequency", "is set by Podium", remedy);
    }
    match &kubelet.static_pod_url {
        Some(_) if is_http => {
            let message = "does not go with staticPodDelivery: http, for a kubelet reads a single URL";
            report.error_with(path, message, "write staticPodDelivery: directory, or leave one of them out");
        }
        Some(url) => match check_url(url.split('?').next().unwrap_or_default()) {
            Err(message) => report.error_with(path, message, "write it like https://pods.example.org/node-1"),
            Ok(()) if !url.bytes().all(|byte| byte.is_ascii_graphic()) => {
                report.error_with(path, format!("{url:?} is no URL"), "write spaces as %20");
            }
            Ok(()) if url.starts_with("http://") => {
                let message = "is not encrypted: who is on the way to it can run anything on this node";
                report.push(Problem::warning(path, message).remedy("write a URL that begins with https://"));
            }
            Ok(()) => {}
        },
        None if !kubelet.static_pod_url_header.is_empty() => {
            let message = "has no URL to go to";
            report.error_with("machine.kubelet.staticPodURLHeader", message, "write staticPodURL as well");
        }
        None => {}
    }
    for (name, values) in &kubelet.static_pod_url_header {
        let path = join("machine.kubelet.staticPodURLHeader", name);
        if !is_name(name, |byte| matches!(byte, b'-' | b'_')) {
            report.error_with(&path, "no name of a header", "use letters, digits and dashes");
        }
        if values.is_empty() {
            report.error_with(&path, "has no value", "write a list of texts");
        }
        if values.iter().any(|value| value.contains(|letter: char| letter.is_control())) {
            report.error_with(&path, "holds a control character", "write one line of text");
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
