//! The machine config's data, as `version: v1alpha1` with Talos's keys and meanings.
//!
//! Only what Podium implements is here; every other key is an error that names it. This file holds no logic: the
//! text is decoded and checked in `parse.rs` and `validate.rs`. PID 1 takes it as JSON from the parsing child.

use super::Seconds;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What `/run/podium/config.json` holds: the config in use, for the helpers and the operator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InUse {
    /// Where it came from, as in the boot log: `STATE`, `image default`, `kernel command line (inline)`, …; empty
    /// while the node waits for a config.
    pub source: String,
    /// [`crate::digest::fnv1a`] of the config text, 32 hex digits; tells two texts apart, proves nothing.
    pub digest: String,
    /// Its number in STATE; 0: it is not stored.
    pub generation: u64,
    /// It goes when its time is over, and the stored one of that number comes back.
    pub tried: bool,
    /// Some of its pods cannot be run: it is in force as far as it goes, and never becomes the last known good one.
    pub partial: bool,
    /// The node waits for its first config and has never had one: whoever comes by maintenance may give it.
    pub fresh: bool,
    /// The digest of the config that this boot's kernel words give, taken or not.
    pub word: Option<String>,
    /// The checked config.
    pub config: MachineConfig,
}

/// A checked machine config.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineConfig {
    /// `machine`.
    pub machine: Machine,
}

/// `machine`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    /// `machine.ca`: whose clients the network API lets in, and who signs its certificate. Without one there is no API.
    pub ca: Option<Authority>,
    /// `machine.acceptedCAs`: whose clients it lets in as well.
    #[serde(rename = "acceptedCAs")]
    pub accepted_cas: Vec<AcceptedAuthority>,
    /// `machine.certSANs`: further names and addresses of the node in that certificate.
    #[serde(rename = "certSANs")]
    pub cert_sans: Vec<String>,
    /// `machine.pods`: static pods, as written; checked by [`crate::manifests`].
    pub pods: Vec<Value>,
    /// `machine.kubelet`.
    pub kubelet: Kubelet,
    /// `machine.network`.
    pub network: Network,
    /// `machine.sysctls`: dotted name to value.
    pub sysctls: BTreeMap<String, String>,
    /// `machine.sysfs`: dotted path below /sys to value.
    pub sysfs: BTreeMap<String, String>,
    /// `machine.env`: environment of all services.
    pub env: BTreeMap<String, String>,
    /// `machine.files`.
    pub files: Vec<File>,
    /// `machine.kernel`.
    pub kernel: Kernel,
    /// `machine.registries`.
    pub registries: Registries,
    /// `machine.time`.
    pub time: TimeConfig,
    /// `machine.shutdown`.
    pub shutdown: ShutdownLimits,
}

/// `machine.ca`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authority {
    /// The certificate, base64 of PEM.
    pub crt: String,
    /// Its private key, base64 of PEM.
    pub key: Secret,
}

/// One of `machine.acceptedCAs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AcceptedAuthority {
    /// The certificate, base64 of PEM.
    pub crt: String,
}

/// A text that no log may show: it is in the JSON that PID 1 and its helpers pass on, and not in a debug output.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

/// What stands in place of a secret wherever something is shown.
pub const MASK: &str = "(secret)";
/// Keys whose values are secrets, and so is what is below them.
pub const SECRETS: &[&str] = &["machine.ca.key", "machine.kubelet.staticPodURLHeader"];

/// `machine.kubelet`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kubelet {
    /// Flags without the leading dashes, over Podium's own.
    pub extra_args: BTreeMap<String, String>,
    /// Merged into the KubeletConfiguration.
    pub extra_config: Map<String, Value>,
    /// Bind mounts made before the kubelet starts.
    pub extra_mounts: Vec<ExtraMount>,
    /// `machine.kubelet.nodeIP`.
    #[serde(rename = "nodeIP")]
    pub node_ip: NodeIp,
    /// How the manifests reach the kubelet.
    pub static_pod_delivery: Delivery,
    /// Where the kubelet looks for further pods.
    #[serde(rename = "staticPodURL")]
    pub static_pod_url: Option<String>,
    /// What it sends there, by header.
    #[serde(rename = "staticPodURLHeader")]
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    /// A pod keeps its UID when nothing but an image changes.
    #[serde(rename = "stablePodUID")]
    pub stable_pod_uid: bool,
}

impl Default for Kubelet {
    fn default() -> Self {
        Self {
            extra_args: BTreeMap::new(),
            extra_config: Map::new(),
            extra_mounts: Vec::new(),
            node_ip: NodeIp::default(),
            static_pod_delivery: Delivery::default(),
            static_pod_url: None,
            static_pod_url_header: BTreeMap::new(),
            stable_pod_uid: true,
        }
    }
}

/// `machine.kubelet.staticPodDelivery`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Delivery {
    /// The kubelet reads the manifest directory.
    #[default]
    Directory,
    /// The kubelet asks `apid podlist`, which reads the manifest directory.
    Http,
}

/// One of `machine.kubelet.extraMounts` (the OCI runtime spec's mount).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtraMount {
    /// Absolute mount point.
    pub destination: String,
    /// File system type; `bind` when empty.
    #[serde(rename = "type")]
    pub kind: String,
    /// Absolute path or device.
    pub source: String,
    /// `mount -o` words, e.g. `rbind`, `rshared`, `rw`.
    pub options: Vec<String>,
}

/// `machine.kubelet.nodeIP`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeIp {
    /// CIDRs, a leading `!` excludes: the node's address is the first that fits.
    pub valid_subnets: Vec<String>,
}

/// `machine.network`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// Static host name.
    pub hostname: Option<String>,
    /// Interfaces; with none, DHCP on every wired one.
    pub interfaces: Vec<Interface>,
    /// DNS servers, over those of DHCP.
    pub nameservers: Vec<String>,
    /// DNS search domains.
    pub search_domains: Vec<String>,
    /// Lines of /etc/hosts.
    pub extra_host_entries: Vec<HostEntry>,
}

/// One of `machine.network.interfaces`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// Kernel name, e.g. `eth0`; this or `device_selector`.
    pub interface: Option<String>,
    /// Picks by what the device is.
    pub device_selector: Option<DeviceSelector>,
    /// Use DHCP.
    pub dhcp: bool,
    /// CIDRs; a bare IP means /32 or /128.
    pub addresses: Vec<String>,
    /// Static routes.
    pub routes: Vec<Route>,
    /// Bytes; `None` keeps the device's.
    pub mtu: Option<u32>,
}

/// `deviceSelector`: every given property must match; values may hold `*`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceSelector {
    /// Bus path prefix, e.g. `00:*`, as in sysfs.
    pub bus_path: Option<String>,
    /// MAC address.
    pub hardware_addr: Option<String>,
    /// PCI `vendor:device`, e.g. `8086:100e`.
    #[serde(rename = "pciID")]
    pub pci_id: Option<String>,
    /// Kernel driver's name.
    pub driver: Option<String>,
    /// Has a device behind it, or not.
    pub physical: Option<bool>,
}

/// One static route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Route {
    /// CIDR; empty means the default route.
    pub network: String,
    /// Next hop; empty means on-link.
    pub gateway: String,
    /// Lower wins.
    pub metric: Option<u32>,
}

/// One line of /etc/hosts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEntry {
    /// Address.
    pub ip: String,
    /// Names.
    pub aliases: Vec<String>,
}

/// One of `machine.files`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct File {
    /// The whole content (`append`: what is added).
    pub content: String,
    /// Mode bits, e.g. 0o644.
    pub permissions: u32,
    /// Absolute path on a writable file system.
    pub path: String,
    /// What to do.
    pub op: FileOp,
}

/// `machine.files[].op`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileOp {
    /// Must not exist yet, or holds the same bytes.
    #[default]
    Create,
    /// Adds to the end, once.
    Append,
    /// Replaces what is there.
    Overwrite,
}

/// `machine.kernel`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kernel {
    /// Modules to load, in this order.
    pub modules: Vec<KernelModule>,
}

/// One of `machine.kernel.modules`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KernelModule {
    /// Module name.
    pub name: String,
    /// `key=value` parameters.
    pub parameters: Vec<String>,
}

/// `machine.registries`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Registries {
    /// Registry host (or `*`) to its mirrors.
    pub mirrors: BTreeMap<String, Mirror>,
}

/// One registry's mirrors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mirror {
    /// URLs, tried in this order.
    pub endpoints: Vec<String>,
    /// The path is part of the endpoint.
    pub override_path: bool,
    /// Do not fall back to the registry itself.
    pub skip_fallback: bool,
}

/// `machine.shutdown`: what is not given follows from the rest, see [`crate::shutdown::Limits`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShutdownLimits {
    /// From the request to reboot(2).
    pub total_limit: Option<Seconds>,
    /// The longest grace period that a pod is given.
    pub pods_limit: Option<Seconds>,
    /// All services together.
    pub services_limit: Option<Seconds>,
}

/// `machine.time`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TimeConfig {
    /// NTP servers, over those of DHCP.
    pub servers: Vec<String>,
}
