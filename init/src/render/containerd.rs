//! containerd's config: `version = 2` for 1.x, `version = 3` for 2.x, and a `hosts.toml` for each mirrored registry.
//!
//! Only what differs from containerd's defaults is written, so that its own choices hold. Plugins that no node
//! uses are disabled: each costs start time, and some probe for kernel modules. The config holds nothing that a
//! user wrote; mirrors do, and their values are escaped.

use super::RenderedFile;
use super::text::{is_hostname, toml_string};
use crate::config::{Mirror, Registries};
use crate::paths;
use crate::services::{ImageFacts, Version};

/// Everything that must survive a reboot: images, the database.
const ROOT: &str = "/var/lib/containerd";
/// Everything that must not: sockets, shims.
const STATE: &str = "/run/containerd";

/// Snapshotters for disks nobody has here (overlayfs is the one in use), tracing without a collector, and installing
/// programs from images into /opt. An ID that a version does not know is no error. The runtime before shims of version
/// 2 (`io.containerd.runtime.v1.linux`) is used by nobody, but containerd 1.6 does not start its tasks without it.
const DISABLED: [&str; 8] = [
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];

/// The text of `config.toml` for the containerd in the image.
pub fn config(facts: &ImageFacts) -> String {
    let second = Version::parse(&facts.containerd) >= Version::new(2, 0);
    let mut text = format!("version = {}\n", if second { 3 } else { 2 });
    let disabled: String = DISABLED.iter().map(|id| format!("  {},\n", toml_string(id))).collect();
    // The chain loader sets the same score; with 0 here containerd would give its shims 1, and pods as much.
    text.push_str(&format!(
        "root = \"{ROOT}\"\nstate = \"{STATE}\"\noom_score = -999\ndisabled_plugins = [\n{disabled}]\n\n\
         [grpc]\naddress = \"{}\"\n\n",
        paths::CONTAINERD_SOCKET
    ));
    text.push_str(&if second { second_cri(facts) } else { first_cri(facts) });
    text
}

/// One `hosts.toml` for each registry with mirrors, below containerd's `config_path`.
pub(super) fn hosts(registries: &Registries) -> Vec<RenderedFile> {
    let mirrors = registries.mirrors.iter().filter(|(_, mirror)| !mirror.endpoints.is_empty());
    mirrors
        .filter_map(|(registry, mirror)| {
            let path = format!("{}/{}/hosts.toml", paths::CONTAINERD_HOSTS, folder(registry)?);
            Some(RenderedFile::private(path, hosts_toml(mirror)))
        })
        .collect()
}

/// Registries whose names cannot be a folder's.
pub(super) fn problems(registries: &Registries) -> Vec<String> {
    let names = registries.mirrors.keys().filter(|name| folder(name).is_none());
    names
        .map(|name| {
            format!(
                "machine.registries.mirrors.{name:?}: no registry is called so; write HOST, HOST:PORT or *"
            )
        })
        .collect()
}

/// A pod that is not root may listen on port 80 and send pings, in its own network namespace: the default of 2.x.
const UNPRIVILEGED: &str = "enable_unprivileged_ports = true\nenable_unprivileged_icmp = true\n";

/// containerd 1.x: one plugin is all of CRI.
fn first_cri(facts: &ImageFacts) -> String {
    let cri = "[plugins.\"io.containerd.grpc.v1.cri\"";
    format!(
        "{cri}]\nsandbox_image = {pause}\n{UNPRIVILEGED}\n{cri}.cni]\nbin_dir = \"{bin}\"\nconf_dir = \"{conf}\"\n\n\
         {cri}.containerd]\ndefault_runtime_name = \"runc\"\n\n\
         {cri}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\n\
         {cri}.containerd.runtimes.runc.options]\nSystemdCgroup = false\n\n\
         {cri}.registry]\nconfig_path = \"{hosts}\"\n",
        pause = toml_string(&facts.pause_image),
        bin = paths::CNI_PLUGINS,
        conf = paths::CNI_CONFIG,
        hosts = paths::CONTAINERD_HOSTS,
    )
}

/// containerd 2.x: images and runtime are plugins of their own.
fn second_cri(facts: &ImageFacts) -> String {
    let images = "[plugins.'io.containerd.cri.v1.images'";
    let runtime = "[plugins.'io.containerd.cri.v1.runtime'";
    format!(
        "{images}.pinned_images]\nsandbox = {pause}\n\n{images}.registry]\nconfig_path = \"{hosts}\"\n\n\
         {runtime}.cni]\nbin_dirs = [\"{bin}\"]\nconf_dir = \"{conf}\"\n\n\
         {runtime}.containerd]\ndefault_runtime_name = \"runc\"\n\n\
         {runtime}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\n\
         {runtime}.containerd.runtimes.runc.options]\nSystemdCgroup = false\n",
        pause = toml_string(&facts.pause_image),
        bin = paths::CNI_PLUGINS,
        conf = paths::CNI_CONFIG,
        hosts = paths::CONTAINERD_HOSTS,
    )
}

/// Endpoints in their order, which containerd keeps. containerd falls back to the registry itself unless `server`
/// names another: with `skipFallback` that is the last endpoint, once more, for a file without a `host` table is an
/// error to it, and then the registry itself is asked.
fn hosts_toml(mirror: &Mirror) -> String {
    let settings = if mirror.override_path { "override_path = true\n" } else { "" };
    let settings = format!("capabilities = [\"pull\", \"resolve\"]\n{settings}");
    let mut text = String::new();
    if let Some(last) = mirror.endpoints.last().filter(|_| mirror.skip_fallback) {
        text.push_str(&format!("server = {}\n{settings}", toml_string(last)));
    }
    for endpoint in &mirror.endpoints {
        let gap = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{gap}[host.{}]\n{settings}", toml_string(endpoint)));
    }
    text
}

/// A registry's folder: `HOST`, `HOST:PORT`, and `_default` for `*`. `None` when the name could lead elsewhere.
pub(super) fn folder(registry: &str) -> Option<&str> {
    if registry == "*" {
        return Some("_default");
    }
    let (host, port) = registry.rsplit_once(':').unwrap_or((registry, "0"));
    (is_hostname(host) && port.parse::<u16>().is_ok()).then_some(registry)
}
