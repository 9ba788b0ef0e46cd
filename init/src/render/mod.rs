//! From the machine config to the files that programs read: kubelet, containerd, CNI, dhcpcd, chrony, the resolver.
//!
//! [`files`] is the whole list for a boot; `prepare` writes it before anything is started, and dhcpcd's hook
//! renders the few again that a lease changes. All of it is a function of its arguments: the same config gives the
//! same bytes. No value of a config or of a DHCP server can end its line or its quotes: each is parsed and printed
//! again (addresses), held to a character set (names), or escaped (the rest); what does not pass is left out and
//! named by [`problems`].

pub mod address;
pub mod cni;
pub mod containerd;
pub mod dhcpcd;
pub mod interfaces;
pub mod kubelet;
pub mod lease;
pub mod names;
pub mod text;
pub mod time;

use crate::config::MachineConfig;
use crate::paths;
use crate::services::{CONTAINERD, ImageFacts, KUBELET, NodeFacts};

/// A file to write: all of it, by rename; folders above it are 0755.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedFile {
    /// Absolute path.
    pub path: String,
    /// Mode bits, e.g. 0o644.
    pub mode: u32,
    /// The content.
    pub bytes: Vec<u8>,
}

impl RenderedFile {
    /// A file that every program may read; none of them holds a secret.
    fn public(path: impl Into<String>, content: impl Into<String>) -> Self {
        RenderedFile { path: path.into(), mode: 0o644, bytes: content.into().into_bytes() }
    }

    /// A file for root alone.
    fn private(path: impl Into<String>, content: impl Into<String>) -> Self {
        RenderedFile { path: path.into(), mode: 0o600, bytes: content.into().into_bytes() }
    }
}

/// Every file that a boot writes before the first service starts, in no particular order.
///
/// Network files are as they are without any lease; in a container, whose runtime supplies network, names and
/// time, there are none.
pub fn files(config: &MachineConfig, facts: &ImageFacts, node: &NodeFacts) -> Vec<RenderedFile> {
    let mut files: Vec<RenderedFile> = [KUBELET, CONTAINERD]
        .into_iter()
        .filter_map(|service| file_of(service, config, facts, node))
        .collect();
    files.extend(containerd::hosts(&config.machine.registries));
    if !config.machine.files.iter().any(|file| file.path == cni::CONFLIST) {
        files.push(RenderedFile::public(cni::CONFLIST, cni::conflist()));
    }
    if !node.container {
        files.push(RenderedFile::private(paths::DHCPCD_CONF, dhcpcd::config(config, &node.interfaces)));
        files.push(RenderedFile::public(paths::CHRONY_CONF, time::config(config)));
        files.extend(names::files(config, &[], None));
        files.push(time::sources(config, &[]));
    }
    files
}

/// The one of [`files`] that containerd or the kubelet reads when it starts and at no other time.
pub fn file_of(
    service: &str,
    config: &MachineConfig,
    facts: &ImageFacts,
    node: &NodeFacts,
) -> Option<RenderedFile> {
    match service {
        KUBELET => {
            Some(RenderedFile::private(paths::KUBELET_CONFIG, kubelet::configuration(config, facts, node)))
        }
        CONTAINERD => Some(RenderedFile::private(paths::CONTAINERD_CONFIG, containerd::config(facts))),
        _ => None,
    }
}

/// The service that reads a file of [`files`] when it starts and at no other time, if it is containerd or the kubelet.
pub fn reader(path: &str) -> Option<&'static str> {
    match path {
        paths::KUBELET_CONFIG => Some(KUBELET),
        paths::CONTAINERD_CONFIG => Some(CONTAINERD),
        _ => None,
    }
}

/// The names of the folders below [`paths::CONTAINERD_HOSTS`] that the config has a file in.
pub fn registry_folders(config: &MachineConfig) -> Vec<&str> {
    config.machine.registries.mirrors.keys().filter_map(|registry| containerd::folder(registry)).collect()
}

/// What the config asks for and cannot be had on this node, one line each, for the boot log: `path: what; remedy`. Of
/// selectors see [`interfaces::unmatched`]: they are not resolved before drivers are loaded.
pub fn problems(config: &MachineConfig, node: &NodeFacts) -> Vec<String> {
    let mut problems = kubelet::problems(config);
    problems.extend(containerd::problems(&config.machine.registries));
    if !node.container {
        problems.extend(interfaces::problems(config));
        problems.extend(time::problems(config));
    }
    problems
}
