//! What a config sets on the running system: kernel settings and modules, mounts, and the files that programs read.
//!
//! A boot does all of it, a change while the node runs only what it needs. What fails is said with what it means, and
//! the rest is done.

use crate::boot::{self, Machine};
use crate::sys::file;
use crate::sys::module::Store;
use crate::token;
use podium_init::config::MachineConfig;
use podium_init::modules::{AT_BOOT, behind_sysctl};
use podium_init::render::{self, RenderedFile, names};
use podium_init::services::{self, NodeFacts, Service};
use podium_init::sysctls::{self, Setting};
use podium_init::{mounts, paths};
use std::path::Path;

/// The loopback interface's `flags`: `IFF_UP | IFF_LOOPBACK`. The kernel adds 127.0.0.1 and ::1 itself.
const LOOPBACK_UP: &str = "0x9";
/// What cannot run without `/var`.
const NEED_DATA: [&str; 4] = ["containerd", "preload", "kubelet", "pods"];
/// Files that depend on what DHCP said as well: its hook writes them on a running node.
const OF_THE_HOOK: [&str; 4] = [paths::RESOLV_CONF, paths::HOSTS, paths::HOSTNAME, paths::DHCPCD_CONF];

/// The services of this machine under a config.
pub(crate) fn services(config: &MachineConfig, machine: &Machine, node: &NodeFacts) -> Vec<Service> {
    let mut services = services::plan(config, &machine.facts, node);
    if !machine.has_data {
        services.retain(|service| !NEED_DATA.contains(&service.id.as_str()));
    }
    services
}

/// The mounts of the config.
pub(crate) fn mounts(config: &MachineConfig) {
    for mount in mounts::plan(config) {
        if let Err(error) = boot::make(&mount) {
            log::error!("{error:#}; what needs {} will fail", mount.target);
        }
    }
}

/// sysctls, then `machine.sysfs`. What a kernel does not have is said in one line.
pub(crate) fn kernel_settings(config: &MachineConfig, container: bool) {
    let (settings, problems) = sysctls::plan(config, container);
    let (sysfs, more) = sysctls::sysfs(config);
    for problem in problems.into_iter().chain(more) {
        log::error!("{problem}");
    }
    let mut missing = Vec::new();
    for Setting { name, value, path, asked_for } in settings.iter().chain(&sysfs) {
        let path = Path::new(path);
        match file::set(path, value) {
            Ok(()) => {}
            Err(_) if !asked_for && !path.exists() => missing.push(name.as_str()),
            Err(error) if *asked_for => log::error!("{name}: {error:#}"),
            Err(error) => log::warn!("{name}: {error:#}"),
        }
    }
    if !missing.is_empty() {
        log::info!("settings that this kernel does not have: {}", missing.join(" "));
    }
}

/// What every node needs, `machine.kernel.modules` in their order, each with its parameters, and what the sysctls
/// need that are set next.
pub(crate) fn kernel_modules(config: &MachineConfig, container: bool) {
    let asked_for = &config.machine.kernel.modules;
    if container {
        if !asked_for.is_empty() {
            log::warn!("machine.kernel.modules: in a container the host loads modules");
        }
        return;
    }
    let store = match Store::open() {
        Ok(store) => store,
        Err(error) => return log::error!("{error:#}; no modules are loaded, pods may have no network"),
    };
    for (module, reason) in AT_BOOT {
        if let Err(error) = store.load([*module], "").check() {
            log::error!("module {module} ({reason}): {error:#}");
        }
    }
    for (index, module) in asked_for.iter().enumerate() {
        if let Err(error) = store.load([module.name.as_str()], &module.parameters.join(" ")).check() {
            log::error!("machine.kernel.modules[{index}] {}: {error:#}", module.name);
        }
    }
    for sysctl in config.machine.sysctls.keys() {
        // When it cannot be loaded the sysctl cannot be set, and that is said.
        if let Some(module) = behind_sysctl(sysctl) {
            store.load([module], "");
        }
    }
}

/// The config's name, or the default until DHCP gives one. A container keeps the name its runtime gave it.
pub(crate) fn hostname(config: &MachineConfig, container: bool) {
    if container && config.machine.network.hostname.is_none() {
        return;
    }
    let name = names::hostname(config, &[], None);
    if let Err(error) = rustix::system::sethostname(name.as_bytes()) {
        log::error!("set the host name {name}: {error}");
    }
}

/// Empty when it cannot be stored: the server then lets nobody in, and says why.
pub(crate) fn pod_list_token() -> String {
    token::of_this_boot().unwrap_or_else(|error| {
        log::error!("{error:#}; with staticPodDelivery: http no pod will run");
        String::new()
    })
}

/// By sysfs, without a socket.
pub(crate) fn loopback() {
    let flags = Path::new("/sys/class/net/lo/flags");
    let is_up = file::read_line(flags).is_ok_and(|text| text == LOOPBACK_UP);
    if !is_up && let Err(error) = file::set(flags, LOOPBACK_UP) {
        log::error!("loopback: {error:#}; the kubelet needs 127.0.0.1");
    }
}

/// Writes every file of a boot.
pub(crate) fn all_files(config: &MachineConfig, machine: &Machine, node: &NodeFacts) {
    write(config, node, render::files(config, &machine.facts, node));
    forget_registries(config);
}

/// Writes the files of a config on a running node, but for those that DHCP's hook writes; the paths of those that
/// changed.
pub(crate) fn changed_files(config: &MachineConfig, machine: &Machine, node: &NodeFacts) -> Vec<String> {
    let mut files = render::files(config, &machine.facts, node);
    files.retain(|rendered| {
        let is_the_hooks = OF_THE_HOOK.contains(&rendered.path.as_str());
        !is_the_hooks && !rendered.path.starts_with(paths::CHRONY_SOURCES)
    });
    let changed = write(config, node, files);
    forget_registries(config);
    changed
}

fn write(config: &MachineConfig, node: &NodeFacts, files: Vec<RenderedFile>) -> Vec<String> {
    for problem in render::problems(config, node) {
        log::error!("{problem}");
    }
    let mut changed = Vec::new();
    for rendered in files {
        let path = Path::new(&rendered.path);
        let folder = path.parent().unwrap_or(path);
        let written = std::fs::create_dir_all(folder)
            .map_err(anyhow::Error::from)
            .and_then(|()| file::update(path, &rendered.bytes, rendered.mode));
        match written {
            Ok(true) => changed.push(rendered.path),
            Ok(false) => {}
            Err(error) => {
                log::error!("{}: {error:#}; what reads it will fail or use its defaults", path.display());
            }
        }
    }
    changed
}

/// Removes the folders of registries that the config does not name: containerd reads them at each pull.
fn forget_registries(config: &MachineConfig) {
    let wanted = render::registry_folders(config);
    let entries = std::fs::read_dir(paths::CONTAINERD_HOSTS).into_iter().flatten().flatten();
    for entry in
        entries.filter(|entry| !entry.file_name().to_str().is_some_and(|name| wanted.contains(&name)))
    {
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            log::error!("remove {}: {error}; its mirrors stay in use", entry.path().display());
        }
    }
}
