//! Modules that are loaded by name. A driver comes by its device's modalias, and most of the rest by the kernel
//! calling `modprobe`; this is the remainder, each with its reason.

/// Loaded by PID 1 before the node is prepared. An image that lacks one says so and goes on.
pub const AT_BOOT: &[(&str, &str)] = &[
    // Else the kernel asks for it at the first overlay mount, by a process.
    ("overlay", "for /etc/kubernetes and the like, and for every container"),
];

/// Loaded by `init devices` after the drivers, while containerd and the kubelet are still starting: seconds before
/// the first pod gets its network. For all but the first the kernel would ask then, one process a module and one
/// after the other, on the way to the first pod.
pub const SOON: &[(&str, &str)] = &[
    ("br_netfilter", "nothing asks for it; without it traffic between pods of one bridge passes by iptables"),
    ("veth", "a pod's end of the bridge plugin's cable"),
    (
        "nf_conntrack",
        "address translation, and net.netfilter.nf_conntrack_max, which the kubelet and kube-proxy set",
    ),
    ("nft_compat", "the xt_ matches and targets under iptables-nft"),
    ("nft_chain_nat", "the nat table of iptables-nft"),
    ("xt_comment", "each rule of a CNI plugin carries a comment"),
    ("xt_MASQUERADE", "the bridge plugin's ipMasq"),
    ("xt_nat", "DNAT of the portmap plugin"),
    ("xt_mark", "portmap and the kubelet mark packets"),
    ("xt_addrtype", "portmap: only what is for this node"),
    ("xt_conntrack", "portmap and kube-proxy: state of a connection"),
    ("xt_tcpudp", "portmap: the port"),
    ("xt_multiport", "portmap: the ports"),
];

/// The kernel's own watchdog; no device asks for it.
pub const SOFT_WATCHDOG: &str = "softdog";

/// Beginnings of sysctl names, and the module that makes them exist.
const BEHIND_SYSCTLS: &[(&str, &str)] = &[
    ("net.bridge.", "br_netfilter"),
    ("net.netfilter.nf_conntrack", "nf_conntrack"),
    ("net.nf_conntrack", "nf_conntrack"),
    ("net.ipv4.vs.", "ip_vs"),
];

/// The module that must be loaded before a sysctl can be set, if it is not there from the start. The name may be
/// written with dots or slashes.
pub fn behind_sysctl(sysctl: &str) -> Option<&'static str> {
    let sysctl = sysctl.replace('/', ".");
    BEHIND_SYSCTLS.iter().find(|(start, _)| sysctl.starts_with(start)).map(|(_, module)| *module)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::name;
    use std::collections::BTreeSet;

    #[test]
    fn each_is_named_once_in_the_kernels_form_with_a_reason() {
        let all: Vec<_> = AT_BOOT.iter().chain(SOON).collect();
        let names: BTreeSet<_> = all.iter().map(|(module, _)| module).collect();
        assert_eq!(names.len(), all.len());
        for (module, reason) in all {
            assert_eq!(*module, name(module));
            assert!(!reason.is_empty());
        }
    }

    #[test]
    fn a_sysctl_leads_to_its_module() {
        assert_eq!(behind_sysctl("net.bridge.bridge-nf-call-iptables"), Some("br_netfilter"));
        assert_eq!(behind_sysctl("net/netfilter/nf_conntrack_max"), Some("nf_conntrack"));
        assert_eq!(behind_sysctl("net.nf_conntrack_max"), Some("nf_conntrack"));
        assert_eq!(behind_sysctl("net.ipv4.ip_forward"), None);
        assert_eq!(behind_sysctl(""), None);
    }
}
