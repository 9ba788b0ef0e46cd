//! The network interfaces of this machine as sysfs shows them, and dhcpcd's config after them.
//!
//! What selectors and the config are made from is read here; a property that cannot be read is empty, an interface
//! that vanishes meanwhile is left out. `init devices` calls [`follow`] when interfaces may have come, because a
//! selector fits only what is there. Addresses are dhcpcd's work alone.

use crate::sys::file;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podium_init::config::{InUse, MachineConfig};
use podium_init::paths;
use podium_init::render::{dhcpcd, interfaces};
use podium_init::services::InterfaceFacts;
use std::path::{Path, PathBuf};

/// One folder an interface; its `device` link leads to what is behind it.
const INTERFACES: &str = "/sys/class/net";
/// `ARPHRD_ETHER` in `<interface>/type`.
const ETHERNET: &str = "1";
/// The config in use: its text is bounded to 4 MiB, and its JSON is not much larger.
const CONFIG_LIMIT: usize = 16 << 20;
/// dhcpcd's config: a few lines an interface.
const DHCPCD_CONF_LIMIT: usize = 1 << 20;
/// dhcpcd's own; outlives one that was killed.
const DHCPCD_PID: &str = "/run/dhcpcd/pid";
/// More interfaces than this are pods', and dhcpcd's config must stay a small file.
const MAX: usize = 256;

/// All interfaces, sorted by name; none without sysfs.
pub(crate) fn present() -> Vec<InterfaceFacts> {
    in_folder(Path::new(INTERFACES))
}

/// The config in use; without one, as while the node waits for it, the default.
pub(crate) fn config_in_use() -> MachineConfig {
    let path = Path::new(paths::CONFIG_IN_USE);
    let read = || -> Result<InUse> {
        let bytes = file::read(path, CONFIG_LIMIT)?;
        serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))
    };
    read().map(|in_use| in_use.config).unwrap_or_else(|error| {
        log::warn!("network: going on without a machine config: {error:#}");
        MachineConfig::default()
    })
}

/// Renders dhcpcd's config for the interfaces that are there now; when that changes it, a running dhcpcd reads it.
///
/// # Errors
/// The file cannot be written, or dhcpcd not be told.
pub(crate) fn follow() -> Result<()> {
    let path = Path::new(paths::DHCPCD_CONF);
    let (config, present) = (config_in_use(), present());
    for line in interfaces::unmatched(&config, &present) {
        log::warn!("network: {line}");
    }
    let text = dhcpcd::config(&config, &present);
    if file::read(path, DHCPCD_CONF_LIMIT).is_ok_and(|have| have == text.as_bytes()) {
        return Ok(());
    }
    file::replace(path, text.as_bytes(), 0o600)?;
    match running_dhcpcd() {
        Some(pid) => {
            kill(pid, Signal::SIGHUP).with_context(|| format!("send SIGHUP to dhcpcd, process {pid}"))
        }
        None => Ok(()),
    }
}

/// `dhcpcd --rebind` would do, but starts a second one when none runs.
fn running_dhcpcd() -> Option<Pid> {
    let pid: i32 = file::read_line(Path::new(DHCPCD_PID)).ok()?.parse().ok()?;
    let name = file::read_line(&Path::new("/proc").join(pid.to_string()).join("comm")).ok()?;
    (name == "dhcpcd").then(|| Pid::from_raw(pid))
}

fn in_folder(folder: &Path) -> Vec<InterfaceFacts> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    // Those with a device first: they are what the bound must not cut off.
    names.sort_by_key(|name| (!folder.join(name).join("device").exists(), name.clone()));
    names.truncate(MAX);
    names.sort();
    names.into_iter().filter_map(|name| facts(folder, name)).collect()
}

/// `None` when it is gone, or is no interface (`bonding_masters`).
fn facts(folder: &Path, name: String) -> Option<InterfaceFacts> {
    let path = folder.join(&name);
    let kind = file::read_line(&path.join("type")).ok()?;
    let device = bus_device(&path);
    let id = |file: &str| {
        let text = file::read_line(&device.as_ref()?.join(file)).ok()?;
        Some(text.strip_prefix("0x").unwrap_or(&text).to_owned())
    };
    let base = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let driver = std::fs::canonicalize(path.join("device/driver")).ok();
    let wireless = path.join("phy80211").exists() || path.join("wireless").exists();
    Some(InterfaceFacts {
        mac: file::read_line(&path.join("address")).unwrap_or_default(),
        driver: driver.as_deref().and_then(base).unwrap_or_default(),
        bus_path: device.as_deref().and_then(base).unwrap_or_default(),
        pci_id: id("vendor")
            .zip(id("device"))
            .map(|(vendor, id)| format!("{vendor}:{id}"))
            .unwrap_or_default(),
        physical: device.is_some(),
        wired: kind == ETHERNET && !wireless,
        name,
    })
}

/// The device as its bus knows it: behind a virtio device that is the PCI or MMIO device that carries it.
fn bus_device(interface: &Path) -> Option<PathBuf> {
    let device = std::fs::canonicalize(interface.join("device")).ok()?;
    let is_virtio = device.file_name()?.to_str()?.starts_with("virtio");
    if is_virtio { device.parent().map(Path::to_path_buf) } else { Some(device) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A sysfs in the small: a folder of interfaces beside a folder of devices.
    fn sysfs() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let make = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        make("pci/0000:00:03.0/vendor", "0x1af4\n");
        make("pci/0000:00:03.0/device", "0x1000\n");
        make("pci/0000:00:03.0/virtio2/modalias", "virtio:d00000001v00001AF4\n");
        make("drivers/virtio_net/bind", "");
        symlink(root.join("drivers/virtio_net"), root.join("pci/0000:00:03.0/virtio2/driver")).unwrap();
        make("net/eth0/type", "1\n");
        make("net/eth0/address", "52:54:00:12:34:56\n");
        symlink(root.join("pci/0000:00:03.0/virtio2"), root.join("net/eth0/device")).unwrap();
        make("net/lo/type", "772\n");
        make("net/veth1/type", "1\n");
        make("net/bonding_masters", "");
        dir
    }

    #[test]
    fn an_interface_is_described_by_the_device_behind_it() {
        let dir = sysfs();
        let all = in_folder(&dir.path().join("net"));
        let names: Vec<&str> = all.iter().map(|facts| facts.name.as_str()).collect();
        assert_eq!(names, ["eth0", "lo", "veth1"]);
        let eth0 = InterfaceFacts {
            name: "eth0".into(),
            mac: "52:54:00:12:34:56".into(),
            driver: "virtio_net".into(),
            bus_path: "0000:00:03.0".into(),
            pci_id: "1af4:1000".into(),
            physical: true,
            wired: true,
        };
        assert_eq!(all[0], eth0);
        assert!(!all[1].wired && !all[1].physical);
        assert!(all[2].wired && !all[2].physical);
    }

    #[test]
    fn without_sysfs_there_are_none() {
        assert_eq!(in_folder(Path::new("/no/such/folder")), []);
    }
}
