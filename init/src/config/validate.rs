//! Whether a decoded config makes sense: names, addresses, paths, and what Podium keeps to itself.
//!
//! Everything that the node would only find out while it uses the config is found here, before anything is used.
//! This file does what does not belong to the network or the kubelet; nothing is looked up on the machine.

mod authority;
mod kubelet;
mod network;
mod words;

use super::node::join;
use super::report::Report;
use super::{File, FileOp, Kernel, Machine, Registries};
use crate::shutdown::Limits;
use crate::{paths, sysctls};
use std::collections::HashMap;
use words::{is_host, is_name, is_under};

/// Writable and kept over reboots.
const WRITABLE: &[&str] = &["/var", "/opt", "/etc/cni", "/etc/kubernetes", "/usr/libexec/kubernetes"];
/// Below these, but Podium's own, and where the user's thing goes instead.
const OURS: &[(&str, &str)] = &[
    (paths::MANIFESTS, "write the pod below machine.pods"),
    (paths::OVERLAYS, "write to the path that the overlay shows, e.g. below /opt"),
    (paths::QUARANTINE, "choose another path below /var"),
];
/// Variables that each service is given by Podium.
const OUR_VARIABLES: &[&str] = &["NOTIFY_SOCKET", "PATH"];
/// Bytes of names and values in `machine.env`: some twenty services are given a copy, and [`REPORT_MAX`] has room for
/// all of them with every byte escaped.
///
/// [`REPORT_MAX`]: crate::live::REPORT_MAX
const MAX_ENV: usize = 16 << 10;
/// MODULE_NAME_LEN of the kernel less its NUL.
const MAX_MODULE_NAME: usize = 55;

/// Checks everything but the pods.
pub(super) fn machine(machine: &Machine, report: &mut Report<'_>) {
    authority::check(machine, report);
    kubelet::check(&machine.kubelet, report);
    network::check(&machine.network, report);
    for (path, names) in [("machine.sysctls", &machine.sysctls), ("machine.sysfs", &machine.sysfs)] {
        for (name, value) in names {
            dotted(&join(path, name), name, report);
            one_line(&join(path, name), value, report);
        }
    }
    for (name, value) in &machine.env {
        variable(name, value, report);
    }
    let size: usize = machine.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if size > MAX_ENV {
        let message = format!("holds {size} bytes, more than {MAX_ENV}: each service is given all of it");
        report.error_with("machine.env", message, "keep long values in a file of machine.files");
    }
    files(&machine.files, report);
    modules(&machine.kernel, report);
    mirrors(&machine.registries, report);
    if let Some(needed) = Limits::excess(&machine.shutdown) {
        let message = format!(
            "is less than pods, services and the last acts ({} s) have: {} s",
            Limits::BESIDE.as_secs(),
            needed.as_secs()
        );
        report.error_with("machine.shutdown.totalLimit", message, "raise it, or leave it out");
    }
    for (index, server) in machine.time.servers.iter().enumerate() {
        if !is_host(server) {
            let path = format!("machine.time.servers[{index}]");
            report.error_with(
                &path,
                format!("{server:?} is no host name"),
                "write a name or an address, no port",
            );
        }
    }
}

/// A name of a file below /proc/sys or /sys, as sysctl(8) writes it.
fn dotted(path: &str, name: &str, report: &mut Report<'_>) {
    let is_part = |part: &str| is_name(part, |byte| matches!(byte, b'_' | b'-' | b':' | b'@' | b'.' | b','));
    let file = sysctls::path(name).filter(|file| file.contains('/') && file.split('/').all(is_part));
    if file.is_none() {
        report.error_with(path, "no dotted name", "write it like net.ipv4.ip_forward or net/ipv4/ip_forward");
    }
}

fn one_line(path: &str, value: &str, report: &mut Report<'_>) {
    if value.contains(|letter: char| letter.is_control() && letter != '\t') {
        report.error_with(path, "holds a control character", "write one line of text");
    }
}

fn variable(name: &str, value: &str, report: &mut Report<'_>) {
    let path = join("machine.env", name);
    let begins_well = !name.starts_with(|letter: char| letter.is_ascii_digit());
    if !is_name(name, |byte| byte == b'_') || !begins_well {
        let remedy = "use letters, digits and underscores, no digit first";
        report.error_with(&path, "no name of an environment variable", remedy);
    }
    if OUR_VARIABLES.contains(&name) {
        report.error_with(&path, "is set by Podium", "remove it");
    }
    if value.contains('\0') {
        report.error(&path, "holds a NUL character");
    }
}

fn files(files: &[File], report: &mut Report<'_>) {
    let mut written = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        let path = format!("machine.files[{index}].path");
        if file.path.is_empty() {
            report.error_with(&path, "is missing", "write an absolute path");
        } else if !words::is_clean_path(&file.path) {
            report.error_with(
                &path,
                format!("{:?} is no path", file.path),
                "write an absolute path without . and ..",
            );
        } else if let Some((_, remedy)) = OURS.iter().find(|(ours, _)| is_under(&file.path, ours)) {
            report.error_with(&path, format!("{} is Podium's own", file.path), *remedy);
        } else if !WRITABLE.iter().any(|root| is_under(&file.path, root) && file.path != *root) {
            let message = format!("{} is not on a writable file system", file.path);
            report.error_with(&path, message, format!("choose a path below {}", WRITABLE.join(", ")));
        }
        let replaces = file.op != FileOp::Append && !file.path.is_empty();
        if let Some(earlier) = replaces.then(|| written.insert(&file.path, index)).flatten() {
            let message = format!("{} is written by machine.files[{earlier}] already", file.path);
            report.error_with(&path, message, "keep one of them");
        }
    }
}

fn modules(kernel: &Kernel, report: &mut Report<'_>) {
    for (index, module) in kernel.modules.iter().enumerate() {
        let path = format!("machine.kernel.modules[{index}]");
        let name = &module.name;
        if name.is_empty() {
            report.error_with(&format!("{path}.name"), "is missing", "write the module's name");
        } else if !is_name(name, |byte| matches!(byte, b'_' | b'-')) || name.len() > MAX_MODULE_NAME {
            let remedy = "write it as in lsmod, without a path and without .ko";
            report.error_with(&format!("{path}.name"), format!("{name:?} is no module name"), remedy);
        }
        for (index, parameter) in module.parameters.iter().enumerate() {
            let path = format!("{path}.parameters[{index}]");
            let name = parameter.split('=').next().unwrap_or_default();
            if !is_name(name, |byte| matches!(byte, b'_' | b'-' | b'.')) {
                report.error_with(&path, format!("{parameter:?} is no parameter"), "write name=value");
            }
            one_line(&path, parameter, report);
        }
    }
}

fn mirrors(registries: &Registries, report: &mut Report<'_>) {
    for (registry, mirror) in &registries.mirrors {
        let path = join("machine.registries.mirrors", registry);
        if registry != "*" && !words::is_host_and_port(registry) {
            let remedy =
                "write its host, and a port if it has one: docker.io, example.org:5000; or \"*\" for any";
            report.error_with(&path, "no registry", remedy);
        }
        if mirror.endpoints.is_empty() {
            report.error_with(&format!("{path}.endpoints"), "is missing", "write at least one URL");
        }
        for (index, url) in mirror.endpoints.iter().enumerate() {
            if let Err(message) = words::check_url(url) {
                let path = format!("{path}.endpoints[{index}]");
                report.error_with(&path, message, "write it like https://mirror.example.org:5000");
            }
        }
    }
}
