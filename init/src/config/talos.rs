//! Keys of Talos's machine config that Podium does not implement: known, so that they are not taken for a typing
//! error, and refused, because a config that asks for them asks for something that would not happen.

/// Mapping (as `reference.rs` writes paths) and its keys.
const KEYS: &[(&str, &[&str])] = &[
    ("", &["debug", "persist", "cluster"]),
    (
        "machine",
        &[
            "type",
            "token",
            "controlPlane",
            "disks",
            "install",
            "systemDiskEncryption",
            "features",
            "udev",
            "logging",
            "seccompProfiles",
            "baseRuntimeSpecOverrides",
            "nodeLabels",
            "nodeAnnotations",
            "nodeTaints",
        ],
    ),
    (
        "machine.kubelet",
        &[
            "image",
            "clusterDNS",
            "credentialProviderConfig",
            "defaultRuntimeSeccompProfileEnabled",
            "registerWithFQDN",
            "skipNodeRegistration",
            "disableManifestsDirectory",
        ],
    ),
    ("machine.kubelet.extraMounts[]", &["uidMappings", "gidMappings"]),
    ("machine.network", &["kubespan", "disableSearchDomain"]),
    (
        "machine.network.interfaces[]",
        &[
            "bond",
            "bridge",
            "bridgePort",
            "vlans",
            "ignore",
            "dummy",
            "dhcpOptions",
            "wireguard",
            "vip",
            "cidr",
        ],
    ),
    ("machine.network.interfaces[].deviceSelector", &["permanentAddr"]),
    ("machine.network.interfaces[].routes[]", &["source", "mtu"]),
    ("machine.registries", &["config"]),
    ("machine.time", &["disabled", "bootTimeout"]),
];

/// Remedies that say more than "remove it".
const REMEDIES: &[(&str, &str, &str)] = &[
    ("", "cluster", "remove it: a standalone node runs its static pods without a cluster"),
    ("", "persist", "remove it: a config from the STATE partition persists"),
    ("machine", "type", "remove it: every Podium node is a standalone node"),
    ("machine", "token", "remove it: a standalone node needs none"),
    ("machine", "install", "remove it: the image is written to the disk as it is"),
    ("machine", "nodeLabels", "remove it: a standalone kubelet has no node object"),
    ("machine", "nodeAnnotations", "remove it: a standalone kubelet has no node object"),
    ("machine", "nodeTaints", "remove it: a standalone kubelet has no node object"),
    ("machine.kubelet", "image", "remove it: the kubelet is part of the image"),
    ("machine.kubelet", "clusterDNS", "write clusterDNS below machine.kubelet.extraConfig"),
    (
        "machine.kubelet",
        "disableManifestsDirectory",
        "remove it: machine.pods is the only source of static pods",
    ),
    ("machine.network.interfaces[]", "cidr", "write it below addresses"),
    ("machine.time", "disabled", "remove it; without servers the ones that DHCP names are used"),
];

/// What to do about a key of Talos that Podium does not implement; `None` when it is no such key.
pub(super) fn remedy(mapping: &str, key: &str) -> Option<&'static str> {
    let is_theirs = KEYS.iter().any(|(path, keys)| *path == mapping && keys.contains(&key));
    let special = REMEDIES.iter().find(|(path, name, _)| *path == mapping && *name == key);
    is_theirs.then(|| special.map_or("remove it", |(_, _, remedy)| remedy))
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;

    #[test]
    fn no_key_is_both_implemented_and_not() {
        for (mapping, keys) in KEYS {
            let ours: Vec<&str> = reference::keys_below(mapping).collect();
            assert!(!ours.is_empty(), "{mapping} is no mapping of ours");
            for key in *keys {
                assert!(!ours.contains(key), "{mapping}.{key}");
            }
        }
    }

    #[test]
    fn every_remedy_is_for_a_listed_key() {
        for (mapping, key, text) in REMEDIES {
            assert_eq!(remedy(mapping, key), Some(*text), "{mapping}.{key}");
        }
        assert_eq!(remedy("machine", "pods"), None);
    }
}
