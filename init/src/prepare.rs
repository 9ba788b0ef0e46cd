//! Everything between the config and the loop: kernel settings, names, mounts, files, manifests, and the plan.
//!
//! The order matters at one place: a pod's hostPath file is there before its manifest, and all manifests before the
//! kubelet. [`Ready`] is the proof of it. A step that fails is said with what it means, and the next one is taken.

mod files;

use crate::boot::{self, Machine};
use crate::load::Loaded;
use crate::manifest_dir;
use crate::sys::file;
use crate::sys::module::Store;
use podium_init::config::MachineConfig;
use podium_init::modules::{AT_BOOT, behind_sysctl};
use podium_init::mounts;
use podium_init::render::{self, names};
use podium_init::services::{self, NodeFacts, Service};
use podium_init::sysctls::{self, Setting};
use std::path::Path;

/// The loopback interface's `flags`: `IFF_UP | IFF_LOOPBACK`. The kernel adds 127.0.0.1 and ::1 itself.
const LOOPBACK_UP: &str = "0x9";
/// What cannot run without `/var`.
const NEED_DATA: [&str; 4] = ["containerd", "preload", "kubelet", "pods"];

/// Proof that the manifests are on disk: only [`prepare`] makes it, and the reactor takes it.
#[derive(Debug)]
pub(crate) struct Ready {
    /// What to supervise, in order.
    pub services: Vec<Service>,
    /// Keeps others from making one.
    _made_here: (),
}

/// Prepares the node.
pub(crate) fn prepare(machine: &Machine, loaded: &Loaded) -> Ready {
    let config = &loaded.config;
    kernel_modules(config, machine.container);
    kernel_settings(config, machine.container);
    hostname(config, machine.container);
    loopback();
    for mount in mounts::plan(config) {
        if let Err(error) = boot::make(&mount) {
            log::error!("{error:#}; what needs {} will fail", mount.target);
        }
    }
    files::write(&config.machine.files);
    let node = NodeFacts { container: machine.container, interfaces: crate::network::present() };
    rendered_files(config, machine, &node);
    manifest_dir::write(&loaded.manifests);
    let mut services = services::plan(config, &machine.facts, &node);
    if !machine.has_data {
        services.retain(|service| !NEED_DATA.contains(&service.id.as_str()));
    }
    Ready { services, _made_here: () }
}

/// sysctls, then `machine.sysfs`. What a kernel does not have is said in one line.
fn kernel_settings(config: &MachineConfig, container: bool) {
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
fn kernel_modules(config: &MachineConfig, container: bool) {
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
fn hostname(config: &MachineConfig, container: bool) {
    if container && config.machine.network.hostname.is_none() {
        return;
    }
    let name = names::hostname(config, &[], None);
    if let Err(error) = rustix::system::sethostname(name.as_bytes()) {
        log::error!("set the host name {name}: {error}");
    }
}

/// By sysfs, without a socket.
fn loopback() {
    let flags = Path::new("/sys/class/net/lo/flags");
    let is_up = file::read_line(flags).is_ok_and(|text| text == LOOPBACK_UP);
    if !is_up && let Err(error) = file::set(flags, LOOPBACK_UP) {
        log::error!("loopback: {error:#}; the kubelet needs 127.0.0.1");
    }
}

fn rendered_files(config: &MachineConfig, machine: &Machine, node: &NodeFacts) {
    for problem in render::problems(config, node) {
        log::error!("{problem}");
    }
    for rendered in render::files(config, &machine.facts, node) {
        let path = Path::new(&rendered.path);
        let folder = path.parent().unwrap_or(path);
        let written = std::fs::create_dir_all(folder)
            .map_err(anyhow::Error::from)
            .and_then(|()| file::update(path, &rendered.bytes, rendered.mode));
        if let Err(error) = written {
            log::error!("{}: {error:#}; what reads it will fail or use its defaults", path.display());
        }
    }
}
