//! Static pods: the config's `machine.pods` in, checked manifests and their problems out.

use serde::{Deserialize, Serialize};

/// One static pod, ready to be written for the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Static pod ID, `<namespace>-<name>`; unique in a plan.
    pub id: String,
    /// `metadata.namespace`; `default` when the config gives none.
    pub namespace: String,
    /// `metadata.name` as in the config; the kubelet appends `-<node name>` to it.
    pub name: String,
    /// `metadata.uid`: the same as long as nothing but an image of `spec.containers` changes.
    pub uid: String,
    /// File name below [`crate::paths::MANIFESTS`]: `podium-<namespace>-<name>.yaml`.
    pub file: String,
    /// The file's whole content: JSON, which is YAML in which every string is quoted.
    pub bytes: String,
    /// Ports of the host that it takes.
    pub host_ports: Vec<(u16, Protocol)>,
    /// Names of `spec.containers`, in order.
    pub containers: Vec<String>,
    /// Names of `spec.initContainers`, in order.
    pub init_containers: Vec<String>,
}

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
