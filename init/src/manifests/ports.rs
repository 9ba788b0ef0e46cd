//! Ports of the host: which a pod takes, and which two pods cannot have at a time.
//!
//! As the kubelet's admission has it (pkg/scheduler/framework/plugins/nodeports, types.go HostPortInfo): number and
//! protocol are the same, and the address too, or one of them is every address.

use super::envelope::Pod;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A port's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// The default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the host that a pod takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// From 1.
    pub number: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// `None`: on every address.
    pub address: Option<IpAddr>,
}

impl HostPort {
    pub(super) fn key(&self) -> (u16, Protocol) {
        (self.number, self.protocol)
    }

    /// Whether a second pod cannot have this one while the first has the other.
    pub fn collides(&self, other: &Self) -> bool {
        let same_address = match (self.address, other.address) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        self.key() == other.key() && same_address
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host port {} ({})", self.number, format!("{:?}", self.protocol).to_uppercase())
    }
}

/// The ports of the host that a pod takes: every `hostPort`, and with `hostNetwork` every `containerPort`. Sidecars
/// count; init containers that end do not, since the pod's own containers may take up their ports.
pub(super) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let host_network = spec.host_network == Some(true);
    let sidecars =
        spec.init_containers.iter().flatten().filter(|each| each.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let fallback = if host_network { port.container_port } else { 0 };
            let number = port.host_port.filter(|number| *number != 0).unwrap_or(fallback);
            let number = u16::try_from(number).ok().filter(|number| *number != 0)?;
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            let address = port.host_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
            Some(HostPort { number, protocol, address: address.filter(|ip| !ip.is_unspecified()) })
        })
        .collect()
}

/// The paths of the host that a pod mounts.
pub(super) fn host_paths(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.host_path.as_ref()?.path.clone())).collect()
}
