//! The pod network of a standalone node: a bridge with masquerading, and host ports.
//!
//! The file's name sorts behind any that a user brings with a lower number, and a `machine.files` entry of the same
//! path replaces it. containerd adds the loopback interface by itself.

use serde_json::json;

/// Where it is written.
pub const CONFLIST: &str = "/etc/cni/net.d/10-podium.conflist";

/// Addresses of pods: 253 of them, more than the kubelet's 110 pods a node, out of the range that kubeadm's users know
/// as pods'.
const POD_SUBNET: &str = "10.244.0.0/24";
/// `cni` is a prefix that dhcpcd is told to leave alone, and that operators know.
const BRIDGE: &str = "cni0";
/// A tmpfs: after a reboot no pod has its address any more, so neither must a reservation live on.
const RESERVATIONS: &str = "/run/cni/networks";

/// The text.
pub fn conflist() -> String {
    let conflist = json!({
        // What the CNI plugins 1.x and containerd since 1.6 speak.
        "cniVersion": "1.0.0",
        "name": "podium",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                "ipMasq": true,
                // A pod may reach itself through its host port.
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": RESERVATIONS,
                    "ranges": [[{"subnet": POD_SUBNET}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{conflist:#}\n")
}
