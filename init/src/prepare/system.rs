//! What a config sets on the running system: kernel settings and modules, mounts, and the files that programs read.
//!
//! A boot does all of it, a change while the node runs only what it needs. What fails is said with what it means, and
//! the rest is done.

use crate::boot::Machine;
use crate::sys::file;
use crate::sys::module::Store;
use crate::token;
use anyhow::{Context, Result};
use podium_init::config::MachineConfig;
use podium_init::modules::{AT_BOOT, behind_sysctl};
use podium_init::paths;
use podium_init::render::{self, RenderedFile, names};
use podium_init::services::{self, NodeFacts, Service};
use podium_init::sysctls::{self, Setting};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

/// The loopback interface's `flags`: `IFF_UP | IFF_LOOPBACK`. The kernel adds 127.0.0.1 and ::1 itself.
const LOOPBACK_UP: &str = "0x9";
/// What cannot run without `/var`.
const NEED_DATA: [&str; 4] = ["containerd", "preload", "kubelet", "pods"];
/// What does not run before there is a config.
const NEED_CONFIG: [&str; 2] = ["kubelet", "pods"];
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

/// Those of a node that waits for its config: its name and addresses are not known yet, and a pod keeps its node's name
/// for life, so nothing is there that would start one.
pub(crate) fn services_without_config(machine: &Machine, node: &NodeFacts) -> Vec<Service> {
    let mut services = services(&MachineConfig::default(), machine, node);
    services.retain(|service| !NEED_CONFIG.contains(&service.id.as_str()));
    services
}

/// Folders on a new `/var` that somebody writes into and nobody makes; `root` is `/`. dhcpcd makes the last folder of
/// its path and none above it. Where programs still say `/var/run`, as containerd does of the pods' network namespaces,
/// it is `/run`: what they leave there must not outlive a boot.
pub(crate) fn folders(root: &Path, container: bool) {
    let own =
        Path::new(paths::POD_VERSIONS).parent().map(|folder| (folder, "versions of static pods are lost"));
    let dhcpcd = (Path::new(paths::DHCPCD_DATA), "dhcpcd forgets its DUID and its leases at a reboot");
    for (folder, otherwise) in own.into_iter().chain((!container).then_some(dhcpcd)) {
        let folder = root.join(folder.strip_prefix("/").unwrap_or(folder));
        // Debian's mode for dhcpcd: its files are root's, and 0640.
        if let Err(error) = file::make_dir(&folder, 0o755) {
            log::error!("{error:#}; {otherwise}");
        }
    }
    let run = root.join("var/run");
    if !container
        && !run.is_symlink()
        && !run.exists()
        && let Err(error) = std::os::unix::fs::symlink("../run", &run)
    {
        log::error!("link {} to /run: {error}; what belongs there is kept over a reboot", run.display());
    }
    if let Err(error) = link_cni(root) {
        log::error!("{error:#}; pods may get no network, or after a power cut not be removed");
    }
}

/// What CNI knows of pods ends with a boot, as their networks do. Nobody syncs those files: a power cut leaves empty ones,
/// and with such a one neither the old pod can be removed nor the new one started, for ever.
fn link_cni(root: &Path) -> Result<()> {
    const TARGET: &str = "../../run/cni";
    file::make_dir(&root.join("run/cni"), 0o700)?;
    let link = root.join("var/lib/cni");
    if std::fs::read_link(&link).is_ok_and(|target| target == Path::new(TARGET)) {
        return Ok(());
    }
    let removed = if link.is_symlink() || link.is_file() {
        std::fs::remove_file(&link)
    } else {
        std::fs::remove_dir_all(&link)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", link.display()))?;
        }
        _ => {}
    }
    std::os::unix::fs::symlink(TARGET, &link).with_context(|| format!("link {}", link.display()))
}

/// sysctls, then `machine.sysfs`. What a kernel does not have is said in one line.
pub(crate) fn kernel_settings(config: &MachineConfig, container: bool) {
    let (settings, problems) = sysctls::plan(config, container);
    let (sysfs, more) = sysctls::sysfs(config);
    for problem in problems.into_iter().chain(more) {
        log::error!("{problem}");
    }
    let (mut missing, mut late) = (Vec::new(), Vec::new());
    for Setting { name, value, path, asked_for } in settings.iter().chain(&sysfs) {
        let path = Path::new(path);
        match file::set(path, value) {
            Ok(()) => {}
            Err(_) if !asked_for && !path.exists() => missing.push(name.as_str()),
            // In a container nobody looks for devices.
            Err(_) if !container && !path.exists() => late.push(name.as_str()),
            Err(error) if *asked_for => log::error!("{name}: {error:#}"),
            Err(error) => log::warn!("{name}: {error:#}"),
        }
    }
    if !missing.is_empty() {
        log::info!("settings that this kernel does not have: {}", missing.join(" "));
    }
    if !late.is_empty() {
        log::warn!("settings that are not there yet, set once their device is: {}", late.join(" "));
    }
}

/// Sets what the config asks for of devices that have appeared: what was not there when somebody last looked
/// (`unset`), and at the first look everything. Gives what is not there still.
pub(crate) fn late_settings(config: &MachineConfig, unset: Option<&BTreeSet<String>>) -> BTreeSet<String> {
    let (settings, _) = sysctls::plan(config, true);
    let (sysfs, _) = sysctls::sysfs(config);
    set_late(settings.iter().chain(&sysfs), unset)
}

fn set_late<'a>(
    settings: impl Iterator<Item = &'a Setting>,
    unset: Option<&BTreeSet<String>>,
) -> BTreeSet<String> {
    let mut missing = BTreeSet::new();
    for Setting { name, value, path, .. } in settings {
        let path = Path::new(path);
        if !path.exists() {
            missing.insert(name.clone());
        } else if unset.is_none_or(|unset| unset.contains(name)) {
            match file::set(path, value) {
                Ok(()) if unset.is_some() => log::info!("{name}: set, now that its device is there"),
                Ok(()) => {}
                Err(error) => log::error!("{name}: {error:#}"),
            }
        }
    }
    missing
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
        let report = store.load([module.name.as_str()], &module.parameters.join(" "));
        let is_in_vain = !module.parameters.is_empty() && report.was_there();
        if let Err(error) = report.check() {
            log::error!("machine.kernel.modules[{index}] {}: {error:#}", module.name);
        } else if is_in_vain {
            log::warn!(
                "machine.kernel.modules[{index}] {name}: it is loaded already and keeps its parameters; give them on the \
                 kernel command line: {name}.PARAMETER=VALUE",
                name = module.name
            );
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

/// Writes every file of a boot; the paths of those that changed.
pub(crate) fn all_files(config: &MachineConfig, machine: &Machine, node: &NodeFacts) -> Vec<String> {
    let changed = write(config, node, render::files(config, &machine.facts, node));
    forget_registries(config);
    changed
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_var_gets_the_folders_that_nobody_else_makes() {
        for container in [false, true] {
            let root = tempfile::tempdir().unwrap();
            for _ in 0..2 {
                folders(root.path(), container);
                let mode = |path: &str| {
                    Some(std::fs::metadata(root.path().join(path)).ok()?.permissions().mode() & 0o7777)
                };
                assert_eq!(mode("var/lib/podium"), Some(0o755));
                // A container's network is its runtime's.
                assert_eq!(mode("var/lib/dhcpcd"), (!container).then_some(0o755));
                let run = std::fs::read_link(root.path().join("var/run"));
                assert_eq!(run.ok().as_deref(), (!container).then_some(Path::new("../run")));
            }
        }
    }

    #[test]
    fn what_cni_has_left_on_a_disk_makes_room_for_a_link() {
        let root = tempfile::tempdir().unwrap();
        let results = root.path().join("var/lib/cni/results");
        std::fs::create_dir_all(&results).unwrap();
        std::fs::write(results.join("podium-1234-eth0"), "").unwrap();
        for _ in 0..2 {
            folders(root.path(), false);
            let link = root.path().join("var/lib/cni");
            assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("../../run/cni"));
            assert_eq!(std::fs::read_dir(&link).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_setting_of_a_device_is_set_when_that_appears_and_not_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("eth0");
        let settings = [Setting {
            name: "net.eth0".into(),
            value: "1".into(),
            path: path.display().to_string(),
            asked_for: true,
        }];
        let missing = set_late(settings.iter(), None);
        assert!(missing.contains("net.eth0"));
        std::fs::write(&path, "0").unwrap();
        let missing = set_late(settings.iter(), Some(&missing));
        assert!(missing.is_empty());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1");
        std::fs::write(&path, "2").unwrap();
        set_late(settings.iter(), Some(&missing));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2", "somebody else has set it since");
    }
}
