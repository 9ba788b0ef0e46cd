//! Every key of the machine config that Podium implements: the one table from which the parser knows what is
//! known, and from which the README's reference is made. Tests hold it against the schema in both directions, and
//! put all examples together into one config that must be accepted.

/// One documented key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// From the root; `[]` is an item of a list, `<name>` a name of the user's choice.
    pub path: &'static str,
    /// What its value is.
    pub kind: &'static str,
    /// What it does, and what holds without it.
    pub meaning: &'static str,
    /// A YAML value on one line; empty for a mapping, whose keys follow.
    pub example: &'static str,
}

const fn key(path: &'static str, kind: &'static str, meaning: &'static str, example: &'static str) -> Key {
    Key { path, kind, meaning, example }
}

/// All keys; a mapping comes before its own.
pub const KEYS: &[Key] = &[
    key("version", "text", "Version of the config's format, always `v1alpha1`. Required.", "v1alpha1"),
    key("machine", "mapping", "The machine. Required.", ""),
    key(
        "machine.ca",
        "mapping",
        "Whose clients the network API lets in, and who signs its certificate. With none, port 50000 is closed.",
        "",
    ),
    key(
        "machine.ca.crt",
        "base64 of PEM",
        "The certificate. Required.",
        "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tClRtOGdZMlZ5ZEdsbWFXTmhkR1U9Ci0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K",
    ),
    key(
        "machine.ca.key",
        "base64 of PEM",
        "Its private key, which no diff, problem or log shows. Required.",
        "LS0tLS1CRUdJTiBFRDI1NTE5IFBSSVZBVEUgS0VZLS0tLS0KVG04Z2EyVjUKLS0tLS1FTkQgRUQyNTUxOSBQUklWQVRFIEtFWS0tLS0tCg==",
    ),
    key(
        "machine.acceptedCAs",
        "list of mappings",
        "Whose clients are let in as well: for a change of the CA.",
        "",
    ),
    key(
        "machine.acceptedCAs[].crt",
        "base64 of PEM",
        "The certificate. Required.",
        "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tClRtOGdZMlZ5ZEdsbWFXTmhkR1U9Ci0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K",
    ),
    key(
        "machine.certSANs",
        "list of host names",
        "Further names and addresses of the node in its certificate.",
        "[node-1.example.org]",
    ),
    key(
        "machine.pods",
        "list of pods",
        "Static pods, as in a Kubernetes manifest. A pod with an error is left out and told; the others run.",
        "[{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: web, image: nginx}]}}]",
    ),
    key("machine.kubelet", "mapping", "The kubelet.", ""),
    key(
        "machine.kubelet.extraArgs",
        "mapping of texts",
        "Flags of the kubelet, without the leading dashes. Flags that Podium sets itself are refused.",
        "{v: 2}",
    ),
    key(
        "machine.kubelet.extraConfig",
        "mapping",
        "Merged into the KubeletConfiguration. Keys that Podium sets itself are refused.",
        "{maxPods: 50}",
    ),
    key(
        "machine.kubelet.extraMounts",
        "list of mappings",
        "Mounts made before the kubelet starts, for pods that use the same path by `hostPath`; one whose disk comes later is made then, and holds those pods until that.",
        "",
    ),
    key("machine.kubelet.extraMounts[].destination", "path", "Mount point. Required.", "/var/mnt/data"),
    key("machine.kubelet.extraMounts[].type", "text", "File system type; `bind` without it.", "bind"),
    key("machine.kubelet.extraMounts[].source", "path", "What is mounted. Required.", "/var/lib/data"),
    key(
        "machine.kubelet.extraMounts[].options",
        "list of texts",
        "Words as after `mount -o`.",
        "[rbind, rshared, rw]",
    ),
    key("machine.kubelet.nodeIP", "mapping", "Which of the node's addresses the kubelet uses.", ""),
    key(
        "machine.kubelet.nodeIP.validSubnets",
        "list of subnets",
        "The first address in one of these is the node's; a leading `!` excludes a subnet. The kubelet waits 10 s for \
         it, and is started anew if it comes later.",
        "[10.0.0.0/8, \"!10.0.3.0/24\"]",
    ),
    key(
        "machine.kubelet.staticPodDelivery",
        "`directory` or `http`",
        "How the pods reach the kubelet: it reads their directory (without it), or asks a server on loopback each second.",
        "directory",
    ),
    key(
        "machine.kubelet.staticPodURL",
        "URL",
        "Where the kubelet looks for further pods, beside the config's. Not with `staticPodDelivery: http`.",
        "https://pods.example.org/node-1",
    ),
    key(
        "machine.kubelet.staticPodURLHeader",
        "mapping of lists of texts",
        "What the kubelet sends there, by header.",
        "{Authorization: [Bearer secret]}",
    ),
    key(
        "machine.kubelet.stablePodUID",
        "true or false",
        "A pod whose image alone changes keeps its UID, so that the kubelet restarts the container in place; `true` without it. With `false` each change is a new pod.",
        "true",
    ),
    key("machine.network", "mapping", "The network. Without it: DHCP on every wired interface.", ""),
    key("machine.network.hostname", "host name", "Host name; without it DHCP's.", "node-1"),
    key(
        "machine.network.interfaces",
        "list of mappings",
        "Network interfaces; a wired one that is not listed gets DHCP.",
        "",
    ),
    key(
        "machine.network.interfaces[].interface",
        "text",
        "Its kernel name. Either this or `deviceSelector`.",
        "eth0",
    ),
    key(
        "machine.network.interfaces[].deviceSelector",
        "mapping",
        "Picks interfaces by what they are; all given properties must match, `*` stands for anything.",
        "",
    ),
    key(
        "machine.network.interfaces[].deviceSelector.busPath",
        "pattern",
        "Its place on the bus, as sysfs names it.",
        "\"0000:00:03*\"",
    ),
    key(
        "machine.network.interfaces[].deviceSelector.hardwareAddr",
        "pattern",
        "Its MAC address.",
        "\"52:54:00:*\"",
    ),
    key(
        "machine.network.interfaces[].deviceSelector.pciID",
        "pattern",
        "PCI vendor and device.",
        "\"1af4:*\"",
    ),
    key("machine.network.interfaces[].deviceSelector.driver", "pattern", "Its kernel driver.", "virtio_net"),
    key(
        "machine.network.interfaces[].deviceSelector.physical",
        "true or false",
        "Whether a device is behind it.",
        "true",
    ),
    key(
        "machine.network.interfaces[].dhcp",
        "true or false",
        "Ask DHCP for an address; `false` without it.",
        "false",
    ),
    key(
        "machine.network.interfaces[].addresses",
        "list of addresses",
        "Static addresses with their prefix length; without one it is a host's (32 or 128).",
        "[192.168.1.10/24, \"fd00::10/64\"]",
    ),
    key("machine.network.interfaces[].routes", "list of mappings", "Static routes.", ""),
    key(
        "machine.network.interfaces[].routes[].network",
        "subnet",
        "Where it leads; without it the default route.",
        "10.0.0.0/8",
    ),
    key(
        "machine.network.interfaces[].routes[].gateway",
        "address",
        "Next hop; without it on the link.",
        "192.168.1.1",
    ),
    key("machine.network.interfaces[].routes[].metric", "number", "The lower wins.", "1024"),
    key(
        "machine.network.interfaces[].mtu",
        "number, 68 to 65535",
        "Largest packet; without it the device's.",
        "1400",
    ),
    key(
        "machine.network.nameservers",
        "list of addresses",
        "DNS servers, instead of those of DHCP.",
        "[9.9.9.9]",
    ),
    key(
        "machine.network.searchDomains",
        "list of domains",
        "DNS search domains, instead of those of DHCP.",
        "[example.org]",
    ),
    key("machine.network.extraHostEntries", "list of mappings", "Lines of /etc/hosts.", ""),
    key("machine.network.extraHostEntries[].ip", "address", "The address. Required.", "192.168.1.20"),
    key(
        "machine.network.extraHostEntries[].aliases",
        "list of host names",
        "Its names, at least one.",
        "[registry.example.org]",
    ),
    key(
        "machine.sysctls",
        "mapping of texts",
        "Kernel parameters below /proc/sys, by dotted name, over Podium's own. The kubelet sets `vm.overcommit_memory`, `vm.panic_on_oom`, `kernel.panic`, `kernel.panic_on_oops` and `kernel.keys.root_*` itself.",
        "{net.ipv4.ip_forward: 1}",
    ),
    key(
        "machine.sysfs",
        "mapping of texts",
        "Values below /sys, by dotted path.",
        "{devices.system.cpu.cpu0.cpufreq.scaling_governor: performance}",
    ),
    key(
        "machine.env",
        "mapping of texts",
        "Environment of all services.",
        "{HTTPS_PROXY: \"http://proxy:3128\"}",
    ),
    key("machine.files", "list of mappings", "Files written before the kubelet starts.", ""),
    key("machine.files[].content", "text", "The content; with `append` what is added.", "\"hello\\n\""),
    key(
        "machine.files[].permissions",
        "mode bits",
        "In octal, `0o600` or `0600`; 0o644 without it.",
        "0o600",
    ),
    key(
        "machine.files[].path",
        "path",
        "On a writable file system: below /var, /opt, /etc/cni, /etc/kubernetes or /usr/libexec/kubernetes. Required.",
        "/var/lib/web/index.html",
    ),
    key(
        "machine.files[].op",
        "`create`, `append` or `overwrite`",
        "`create` (without it) wants the file to be absent or the same, `append` adds once, `overwrite` replaces.",
        "overwrite",
    ),
    key("machine.kernel", "mapping", "The kernel.", ""),
    key("machine.kernel.modules", "list of mappings", "Modules to load, in this order.", ""),
    key("machine.kernel.modules[].name", "text", "The module. Required.", "nbd"),
    key(
        "machine.kernel.modules[].parameters",
        "list of texts",
        "Its parameters. Those of a driver in the initramfs, such as `virtio_net`, are words of the \
         kernel command line: `virtio_net.napi_tx=0`.",
        "[nbds_max=4]",
    ),
    key("machine.registries", "mapping", "Image registries.", ""),
    key("machine.registries.mirrors", "mapping", "Mirrors by registry; `*` is any registry.", ""),
    key("machine.registries.mirrors.<name>", "mapping", "One registry's mirrors.", ""),
    key(
        "machine.registries.mirrors.<name>.endpoints",
        "list of URLs",
        "Mirrors, tried in this order, then the registry itself. At least one.",
        "[\"http://10.0.2.2:5000\"]",
    ),
    key(
        "machine.registries.mirrors.<name>.overridePath",
        "true or false",
        "The URL's path is the whole API path, `/v2` is not added.",
        "false",
    ),
    key(
        "machine.registries.mirrors.<name>.skipFallback",
        "true or false",
        "Do not try the registry itself.",
        "true",
    ),
    key(
        "machine.shutdown",
        "mapping",
        "How long a shutdown takes at the most: of pods, of services, and of the last acts (kill, unmount, sync), which get what the others leave. Asked for twice it waits for no pod.",
        "",
    ),
    key(
        "machine.shutdown.totalLimit",
        "duration, up to 1h",
        "From the request to the call of reboot(2); without it 20s more than pods and services have, which is 60s.",
        "2m",
    ),
    key(
        "machine.shutdown.podsLimit",
        "duration, up to 1h",
        "The longest `terminationGracePeriodSeconds` that a pod gets; without it what the total leaves, else 30s.",
        "1m30s",
    ),
    key(
        "machine.shutdown.servicesLimit",
        "duration, up to 1h",
        "For the services after that, each told to end and then killed; 10s without it.",
        "10s",
    ),
    key("machine.time", "mapping", "The clock.", ""),
    key(
        "machine.time.servers",
        "list of host names",
        "NTP servers, instead of those of DHCP.",
        "[time.example.org]",
    ),
];

/// The keys directly below a mapping, by its path; the root's is empty.
pub(super) fn keys_below(mapping: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |key| {
        let rest = key.path.strip_prefix(mapping)?;
        let name = if mapping.is_empty() { rest } else { rest.strip_prefix('.')? };
        (!name.contains(['.', '[', '<'])).then_some(name)
    })
}

/// The README's table of [`KEYS`].
pub fn reference() -> String {
    let mut table = String::from("| key | value | meaning | example |\n|---|---|---|---|\n");
    for Key { path, kind, meaning, example } in KEYS {
        let example = if example.is_empty() { String::new() } else { format!("`{example}`") };
        table += &format!("| `{path}` | {kind} | {meaning} | {example} |\n");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_below_a_mapping_are_its_own() {
        let below = |mapping| keys_below(mapping).collect::<Vec<_>>();
        assert_eq!(below(""), ["version", "machine"]);
        assert_eq!(below("machine.registries.mirrors.<name>"), ["endpoints", "overridePath", "skipFallback"]);
        assert_eq!(below("machine.network.extraHostEntries[]"), ["ip", "aliases"]);
        assert_eq!(below("machine.kubelet.extraMounts"), [""; 0]);
    }

    #[test]
    fn no_key_is_listed_twice_and_none_breaks_the_table() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|other| other.path != key.path), "{}", key.path);
            let texts = [key.path, key.kind, key.meaning, key.example];
            assert!(texts.iter().all(|text| !text.contains(['|', '\n'])), "{}", key.path);
        }
    }
}
