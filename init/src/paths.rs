//! Every fixed path of a running node, in one place: what the image holds, and what PID 1 makes.

/// PID 1 itself; the same binary answers the kernel as `modprobe` and dhcpcd as its hook.
pub const INIT: &str = "/usr/sbin/init";
/// What the kernel calls for a missing module (`/proc/sys/kernel/modprobe`); a link to [`INIT`].
pub const MODPROBE: &str = "/usr/sbin/modprobe";
/// dhcpcd's script; a link to [`INIT`].
pub const DHCP_HOOK: &str = "/usr/lib/podium/dhcp-hook";
/// What the image is made of: JSON, see [`crate::services::ImageFacts`].
pub const IMAGE_FACTS: &str = "/usr/lib/podium/image.json";
/// The image's default machine config.
pub const IMAGE_CONFIG: &str = "/usr/lib/podium/machine.yaml";
/// OCI archives that are imported into containerd when it does not hold them yet.
pub const IMAGE_PRELOAD: &str = "/usr/lib/podium/images";
/// Kernel modules, one folder a kernel release.
pub const MODULES: &str = "/usr/lib/modules";

/// PID 1's own run-time folder. What is not for everybody in it is 0600, or in a folder of mode 0700.
pub const RUN: &str = "/run/podium";
/// chronyd, which is not root, must pass through it to [`RESOLV_CONF`] and [`CHRONY_SOURCES`], and list nothing.
pub const RUN_MODE: u32 = 0o711;
/// One sd_notify socket a service: `/run/podium/notify/<service>`.
pub const NOTIFY: &str = "/run/podium/notify";
/// Each socket in it is 0600 and its service's own; a service that is not root must pass through to it.
pub const NOTIFY_MODE: u32 = 0o711;
/// What the chain loader reads: `/run/podium/services/<service>.json`, see [`crate::services::Service`].
pub const SERVICES: &str = "/run/podium/services";
/// One FIFO a service: its stdout and stderr, read by `init log`.
pub const LOG_PIPES: &str = "/run/podium/logs";
/// The control socket, 0600: see [`crate::control`].
pub const CONTROL_SOCKET: &str = "/run/podium/init.sock";
/// Where the helper that asks the kubelet answers, 0600.
pub const POD_STATUS_SOCKET: &str = "/run/podium/apid.sock";
/// The static pods that there should be, 0600: JSON.
pub const PODS: &str = "/run/podium/pods.json";
/// Where the config in use came from, and its checked form.
pub const CONFIG_IN_USE: &str = "/run/podium/config.json";
/// The text of the config in use as it was given, for those who show it or compare with it.
pub const CONFIG_TEXT: &str = "/run/podium/config.yaml";
/// The config that was in force before the one that is only tried.
pub const BEFORE_TRY: &str = "/run/podium/before-try.json";
/// The text of that config.
pub const BEFORE_TRY_TEXT: &str = "/run/podium/before-try.yaml";
/// The limits of a shutdown in the config in use, for PID 1: JSON, see [`crate::config::ShutdownLimits`].
pub const SHUTDOWN_LIMITS: &str = "/run/podium/shutdown.json";
/// What is known of the machine since the boot: JSON, for changes while it runs.
pub const MACHINE: &str = "/run/podium/machine.json";
/// The static pods: JSON, see [`crate::staticpods::StaticPods`].
pub const STATIC_PODS: &str = "/run/podium/pods.json";
/// The same list, for the versions of the next boot.
pub const POD_VERSIONS: &str = "/var/lib/podium/pods.json";
/// Which manifests are held back, and for what: JSON, see [`crate::manifests::Holds`].
pub const HOLDS: &str = "/run/podium/holds.json";
/// Whoever makes mounts of the config holds this file's lock.
pub const MOUNTS_LOCK: &str = "/run/podium/mounts.lock";
/// Whoever writes [`CONFIG_IN_USE`] and what follows from it, or the latter again, holds this file's lock.
pub const CONFIG_LOCK: &str = "/run/podium/config.lock";
/// What a change leaves for PID 1: JSON, see [`crate::live::Report`].
pub const CHANGE_REPORT: &str = "/run/podium/change.json";
/// What dhcpcd's hook keeps, one file an interface.
pub const NETWORK: &str = "/run/podium/network";
/// `/etc/resolv.conf`, `/etc/hosts` and `/etc/hostname` of the image are links to these.
pub const RESOLV_CONF: &str = "/run/podium/resolv.conf";
/// See [`RESOLV_CONF`].
pub const HOSTS: &str = "/run/podium/hosts";
/// See [`RESOLV_CONF`].
pub const HOSTNAME: &str = "/run/podium/hostname";
/// Written by PID 1 before containerd starts.
pub const CONTAINERD_CONFIG: &str = "/run/podium/containerd/config.toml";
/// containerd's per-registry folders (`config_path`).
pub const CONTAINERD_HOSTS: &str = "/run/podium/containerd/hosts";
/// The one containerd's socket.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// dhcpcd's DUID and leases, as Debian has it.
pub const DHCPCD_DATA: &str = "/var/lib/dhcpcd";
/// dhcpcd's config, written by PID 1.
pub const DHCPCD_CONF: &str = "/run/podium/dhcpcd.conf";
/// chrony's config, written by PID 1.
pub const CHRONY_CONF: &str = "/run/podium/chrony/chrony.conf";
/// chrony's `sourcedir`: NTP servers learnt by DHCP.
pub const CHRONY_SOURCES: &str = "/run/podium/chrony/sources";

/// The network API's way to the node, 0710 root and [`crate::services::API`]'s group: sockets of mode 0660, one a role.
pub const API: &str = "/run/podium/api";
/// Nobody else may pass through it.
pub const API_MODE: u32 = 0o710;
/// PID 1's socket for who may look: see [`crate::control::Role`].
pub const API_INIT_READER: &str = "/run/podium/api/init-reader.sock";
/// As [`API_INIT_READER`], for anybody while the node has never had a config: it takes the first one, and no other.
pub const API_INIT_MAINTENANCE: &str = "/run/podium/api/init-maintenance.sock";
/// As [`API_INIT_READER`], for who may run the node as well.
pub const API_INIT_OPERATOR: &str = "/run/podium/api/init-operator.sock";
/// As [`API_INIT_READER`], for who may change the node as well.
pub const API_INIT_ADMIN: &str = "/run/podium/api/init-admin.sock";
/// The socket of `apid serve` for who may look.
pub const API_NODE_READER: &str = "/run/podium/api/node-reader.sock";
/// As [`API_NODE_READER`], for who may read files as well.
pub const API_NODE_ADMIN: &str = "/run/podium/api/node-admin.sock";

/// The node's API helper.
pub const APID: &str = "/usr/bin/apid";
/// What `apid pki` makes anew at each boot, 0700: certificates and keys of the kubelet and of apid.
pub const PKI: &str = "/run/podium/pki";
/// The kubelet's serving certificate.
pub const KUBELET_CERT: &str = "/run/podium/pki/kubelet.crt";
/// Its key.
pub const KUBELET_KEY: &str = "/run/podium/pki/kubelet.key";
/// Whose clients the kubelet lets in: the node's own CA, and the one that the config names.
pub const KUBELET_CLIENT_CA: &str = "/run/podium/pki/kubelet-client-ca.crt";
/// Answers `pod status`: one JSON object a line, root only.
pub const APID_SOCKET: &str = "/run/podium/apid.sock";
/// What the kubelet shows to `apid podlist`: 64 hex digits, made anew at each boot, 0600.
pub const POD_LIST_TOKEN: &str = "/run/podium/podlist.token";
/// Which pods the kubelet refuses, as `apid podlist` has found: JSON, 0600.
pub const POD_LIST_REFUSED: &str = "/run/podium/podlist-refused.json";
/// Where `apid podlist` listens on loopback: beside the kubelet's own health port (10248), and nobody's in Kubernetes.
pub const POD_LIST_PORT: u16 = 10247;

/// The STATE partition's mount point, 0700.
pub const STATE: &str = "/system/state";
/// The stored machine config; a person may put one there.
pub const STATE_CONFIG: &str = "/system/state/config.yaml";
/// What else is kept of configs: the last known good one, one that waits for the next boot, the history.
pub const STATE_CONFIGS: &str = "/system/state/config";
/// A reset that is not over: the labels of what is to be wiped, JSON.
pub const STATE_RESET: &str = "/system/state/reset";
/// The node's own CA, 0700; in [`PKI`] when this cannot be written.
pub const STATE_PKI: &str = "/system/state/pki";
/// Upper and work folders of the overlays that make `/etc/kubernetes` and the like writable.
pub const OVERLAYS: &str = "/var/system/overlays";
/// Logs of services.
pub const LOGS: &str = "/var/log/podium";
/// What the kernel has kept of crashes.
pub const CRASH_LOGS: &str = "/var/log/podium/crash";
/// Static pod manifests: a tmpfs of its own, 0700.
pub const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// What the manifest writer moves out of the kubelet's way.
pub const QUARANTINE: &str = "/var/lib/podium/quarantine";
/// Which archives of [`IMAGE_PRELOAD`] were imported: JSON, see [`crate::archives::Stamp`].
pub const PRELOAD_STAMP: &str = "/var/lib/podium/preload.json";
/// KubeletConfiguration, written before the kubelet starts; not on a disk, which may be full.
pub const KUBELET_CONFIG: &str = "/run/podium/kubelet.json";
/// The kubelet's node name in this boot: one that changed would rename every pod.
pub const NODE_NAME: &str = "/run/podium/node-name";
/// The kubelet's `--root-dir`.
pub const KUBELET_ROOT: &str = "/var/lib/kubelet";
/// CNI configs; PID 1 writes `10-podium.conflist` when no file of the user's takes that name.
pub const CNI_CONFIG: &str = "/etc/cni/net.d";
/// CNI plugins: the image's, with the user's over them.
pub const CNI_PLUGINS: &str = "/opt/cni/bin";
