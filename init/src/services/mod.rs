//! The services as data: argv, environment, needs, readiness, cgroup, stop rule.
//!
//! A [`Service`] is everything the chain loader (`init exec <service>`) and the supervisor need to know; PID 1
//! writes it to `/run/podium/services/<service>.json`. [`plan`] makes all of them from the config and from what is
//! known of image and machine. Nothing here starts anything.

mod health;
mod kubelet;
mod plan;
mod version;

pub use health::{Health, PROBE, Probe};
pub use kubelet::{NODE_IP_MARK, NODE_NAME_MARK, fill, fits};
pub use plan::{
    ABOVE_MEMORY_MIN, FOR_KUBE, FOR_SYSTEM, HELPER_OOM_SCORE, PID_1_MEMORY_MIN, PID_1_OOM_SCORE, plan,
};
pub use version::Version;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The log writer's id. It alone has no log pipe.
pub const LOG: &str = "log";
/// containerd's id. Its metadata is looked after before each of its starts.
pub const CONTAINERD: &str = "containerd";
/// The kubelet's id. Its checkpoints are looked after before each of its starts.
pub const KUBELET: &str = "kubelet";
/// Its cgroup.
pub const KUBELET_GROUP: &str = "podium/kubelet";
/// The id of the step that imports the image's own container images.
pub const PRELOAD: &str = "preload";
/// The id of the service that listens to the network.
pub const API: &str = "api";
/// User and group of [`API`], as the image's `/etc/passwd` and `/etc/group` have them.
pub const API_USER: u32 = 52;

/// One supervised program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Short name, unique: `containerd`, `kubelet`, `dhcpcd`, `chronyd`, `log`, `devices`, `preload`, `pods`, `pki`, `apid`, `api`, `podlist`, `probe`.
    pub id: String,
    /// Absolute program and its arguments.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// What must be there before this one is started.
    pub needs: Vec<Need>,
    /// When it counts as up.
    pub readiness: Readiness,
    /// How long it may stay in `Starting` before it is stopped and tried again; `None`: for ever.
    pub ready_limit: Option<Duration>,
    /// Whether its config files and what it keeps on disk are looked at before each of its starts, see
    /// `init/src/repair.rs`.
    pub looked_after: bool,
    /// When it is started again.
    pub restart: Restart,
    /// cgroup below the cgroup2 root, e.g. `podium/containerd`; made by PID 1.
    pub cgroup: String,
    /// `/proc/self/oom_score_adj`, -1000..=1000.
    pub oom_score_adj: i16,
    /// `RLIMIT_NOFILE`, soft and hard.
    pub nofile: u64,
    /// User and group id that it runs as, without any capability; `None`: root.
    pub user: Option<u32>,
    /// What its cgroup may take, and what nobody may take from it.
    pub limits: Limits,
    /// How it is stopped.
    pub stop: Stop,
    /// How it is known that it still does its work; `None`: it is not asked.
    pub health: Option<Health>,
}

/// The limits of a service's cgroup (cgroup v2). Without a controller for them they are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `memory.min` in bytes: what the kernel takes back from nobody as long as it is in use here.
    pub memory_min: u64,
    /// `memory.max` in bytes; beyond it all of its processes are killed together. `None`: no bound.
    pub memory_max: Option<u64>,
    /// `pids.max`: processes and threads; beyond it fork and clone fail with EAGAIN. `None`: no bound.
    pub pids_max: Option<u64>,
}

/// What the kubelet has to keep from pods, so that they meet the limit of their own cgroup first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// Bytes.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// A condition on another service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The other service's id.
    pub service: String,
    /// `None`: wait for it for ever. `Some(limit)`: go on without it once this one was wanted for that long.
    pub limit: Option<Duration>,
    /// One that went on without it is started anew once it is there.
    pub again: bool,
}

/// When a service counts as up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// As soon as the chain loader has executed it.
    Exec,
    /// When it sends `READY=1` to its own `$NOTIFY_SOCKET`.
    Notify,
}

/// Whether it is started again after it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// After every end.
    Always,
    /// After an end with another code than 0, or by a signal. With code 0 its work is done: it stays up, without a
    /// process (a step).
    OnFailure,
}

/// How a service is stopped: a signal, a limit, then SIGKILL to its cgroup or main process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The signal's number, e.g. 15.
    pub signal: i32,
    /// How long it has before SIGKILL.
    pub limit: Duration,
    /// Who gets the signals.
    pub scope: Scope,
}

/// Who gets a stop's signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// The main process alone: containerd's shims, and so the pods, live on.
    Main,
    /// The main process first; what is left of its cgroup is killed after it.
    Group,
}

/// What the image says of itself in `/usr/lib/podium/image.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageFacts {
    /// Hash over everything that went into the image.
    pub build_id: String,
    /// `uname -r` of the image's kernel.
    pub kernel: String,
    /// e.g. `1.6.20`.
    pub containerd: String,
    /// e.g. `1.1.5`.
    pub runc: String,
    /// e.g. `1.20.2`.
    pub kubelet: String,
    /// Image reference of the pod sandbox, e.g. `podium.local/pause:1`.
    pub pause_image: String,
    /// OCI archives below `/usr/lib/podium/images` with the image references each holds.
    pub preload: Vec<PreloadFacts>,
    /// Seconds since 1970: the wall clock is never below this.
    pub built: u64,
}

/// One preloaded OCI archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreloadFacts {
    /// File name below `/usr/lib/podium/images`.
    pub file: String,
    /// Hex sha256 of the file.
    pub sha256: String,
    /// Image references in it.
    pub images: Vec<String>,
}

/// What is known of the machine when the plan and the files are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeFacts {
    /// In a container the runtime supplies network, time and devices: no service of ours touches them.
    pub container: bool,
    /// The interfaces there are, in the kernel's order.
    pub interfaces: Vec<InterfaceFacts>,
    /// What the kubelet shows to `apid podlist`: a secret of this boot.
    pub pod_list_token: String,
}

/// One network interface as /sys shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InterfaceFacts {
    /// Kernel name, e.g. `eth0`.
    pub name: String,
    /// `52:54:00:12:34:56`; empty when it has none.
    pub mac: String,
    /// Kernel driver, e.g. `virtio_net`; empty when it has none.
    pub driver: String,
    /// Bus path, e.g. `0000:00:03.0`; empty when no device is behind it.
    pub bus_path: String,
    /// PCI `vendor:device`, e.g. `1af4:1000`; empty when it is no PCI device.
    pub pci_id: String,
    /// A device is behind it.
    pub physical: bool,
    /// Ethernet by cable: not wireless, not loopback, no tunnel.
    pub wired: bool,
}
