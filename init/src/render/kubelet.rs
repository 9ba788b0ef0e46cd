//! The KubeletConfiguration, as JSON.
//!
//! Said here is what a standalone node needs otherwise than by default, and what must not change between versions.
//! Left out with reason:
//! - `shutdownGracePeriod`: it asks systemd-logind. PID 1 removes the manifests instead, which ends pods gracefully.
//! - `fileCheckFrequency` (20 s), image garbage collection: the defaults are right. New manifests are
//!   seen by inotify within half a second; the interval is only for a lost event.
//! - `systemReserved.ephemeral-storage`: on a disk smaller than the reservation the kubelet would not start.
//! - `volumePluginDir`: its default is writable on a node, and 1.20 knows the key by another name.
//!
//! `machine.kubelet.extraConfig` is merged over it, except for [`OURS`].

use crate::config::{Delivery, Kubelet, MachineConfig};
use crate::paths;
use crate::services::{FOR_KUBE, FOR_SYSTEM, ImageFacts, NodeFacts, Reserved, Version};
use serde_json::{Map, Value, json};

/// What no config may change, because PID 1 counts on it: it writes manifests to the one path, speaks to containerd on
/// the other, and asks for the kubelet's health.
/// apid asks it for its pods with a certificate of the node's own.
pub const OURS: [&str; 8] = [
    "apiVersion",
    "kind",
    "staticPodPath",
    "staticPodURL",
    "staticPodURLHeader",
    "containerRuntimeEndpoint",
    "tlsCertFile",
    "tlsPrivateKeyFile",
];

/// With delivery by http, how often the kubelet asks: the default of 20 s would be the delay of each change, and more
/// than half of the time that pods have to end at a shutdown. An answer costs some KiB over loopback.
const HTTP_CHECK_FREQUENCY: &str = "1s";

/// The file's text for the kubelet in the image.
pub fn configuration(config: &MachineConfig, facts: &ImageFacts, node: &NodeFacts) -> String {
    let mut whole = defaults(facts);
    for (key, value) in &config.machine.kubelet.extra_config {
        if !OURS.contains(&key.as_str()) {
            merge(whole.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
    merge(whole.entry("authentication").or_insert(Value::Null), &doors());
    whole.extend(sources(&config.machine.kubelet, node));
    format!("{:#}\n", Value::Object(whole))
}

/// Keys of `extraConfig` that are not taken.
pub(super) fn problems(config: &MachineConfig) -> Vec<String> {
    let keys = config.machine.kubelet.extra_config.keys();
    keys.filter(|key| OURS.contains(&key.as_str()))
        .map(|key| format!("machine.kubelet.extraConfig.{key}: set by Podium, not taken; remove it"))
        .collect()
}

/// Who is let in, whatever a config says: who has a certificate of the node's own CA, or of a CA that the config
/// names, which `apid pki` adds to the same file.
fn doors() -> Value {
    json!({"anonymous": {"enabled": false}, "x509": {"clientCAFile": paths::KUBELET_CLIENT_CA}})
}

/// Where the pods come from.
fn sources(kubelet: &Kubelet, node: &NodeFacts) -> Map<String, Value> {
    let mut sources = Map::new();
    let mut set = |key: &str, value: Value| sources.insert(key.to_owned(), value);
    match kubelet.static_pod_delivery {
        Delivery::Directory => {
            set("staticPodPath", paths::MANIFESTS.into());
            if let Some(url) = &kubelet.static_pod_url {
                set("staticPodURL", url.as_str().into());
                set("staticPodURLHeader", json!(kubelet.static_pod_url_header));
            }
        }
        Delivery::Http => {
            set("staticPodURL", format!("http://127.0.0.1:{}/pods", paths::POD_LIST_PORT).into());
            set("staticPodURLHeader", json!({"Authorization": [format!("Bearer {}", node.pod_list_token)]}));
            set("httpCheckFrequency", HTTP_CHECK_FREQUENCY.into());
        }
    }
    sources
}

/// Podium's own configuration.
fn defaults(facts: &ImageFacts) -> Map<String, Value> {
    let whole = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        // Debian's and Podium's containerd both run without systemd.
        "cgroupDriver": "cgroupfs",
        // Who has no certificate gets 401. apid is on the node itself, so the API need not be reachable from elsewhere;
        // a config that brings a CA of its own sets `address` as well.
        "authentication": {"webhook": {"enabled": false}},
        "tlsCertFile": paths::KUBELET_CERT,
        "tlsPrivateKeyFile": paths::KUBELET_KEY,
        "authorization": {"mode": "AlwaysAllow"},
        "address": "127.0.0.1",
        "readOnlyPort": 0,
        // False would also stop the health endpoint.
        "enableServer": true,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        // `/etc/resolv.conf` is a link to it; while that is missing no pod starts.
        "resolvConf": paths::RESOLV_CONF,
        // A node with swap is better than one that does not start.
        "failSwapOn": false,
        // The defaults, fixed: the disk that an operator plans for does not change with the kubelet.
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
        // A pod that eats all memory, or forks without end, meets the limit of the pods' cgroup before it takes what
        // these need.
        "systemReserved": reserved("50m", FOR_SYSTEM),
        "kubeReserved": reserved("50m", FOR_KUBE),
        // The defaults. Said, because a kubelet drops all of them for a config that names one.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "10%",
            "nodefs.inodesFree": "5%",
            "imagefs.available": "15%",
        },
    });
    let mut whole = match whole {
        Value::Object(map) => map,
        // `json!` with braces is an object.
        _ => Map::new(),
    };
    if Version::parse(&facts.kubelet) >= Version::new(1, 27) {
        let endpoint = format!("unix://{}", paths::CONTAINERD_SOCKET);
        whole.insert("containerRuntimeEndpoint".to_owned(), endpoint.into());
    }
    whole
}

/// A reservation as the kubelet's quantities.
fn reserved(cpu: &str, what: Reserved) -> Value {
    json!({"cpu": cpu, "memory": format!("{}Mi", what.memory >> 20), "pid": what.pids.to_string()})
}

/// Puts `over` over `base`: maps are merged key by key, everything else is replaced.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.as_str()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(mut base: Value, over: &Value) -> Value {
        merge(&mut base, over);
        base
    }

    #[test]
    fn maps_are_merged_and_everything_else_is_replaced() {
        assert_eq!(
            merged(
                json!({"a": {"x": 1, "y": 2}, "l": [1, 2], "s": "t"}),
                &json!({"a": {"y": 3, "z": {}}, "l": [9], "s": {"u": 1}, "n": null}),
            ),
            json!({"a": {"x": 1, "y": 3, "z": {}}, "l": [9], "s": {"u": 1}, "n": null})
        );
    }
}
