//! Modules that are loaded by name. A driver comes by its device's modalias, and most of the rest by the kernel
//! calling `modprobe`; this is the remainder, each with its reason.

/// Loaded by PID 1 before the node is prepared. An image that lacks one says so and goes on.
pub const AT_BOOT: &[(&str, &str)] = &[
    // Else the kernel asks for it at the first overlay mount, by a process.
    ("overlay", "for /etc/kubernetes and the like, and for every container"),
    // Nothing asks the kernel for it, and its sysctls (net.bridge.*) exist only with it.
    ("br_netfilter", "without it traffic between pods of one bridge passes by iptables"),
];

/// Loaded by `init devices` after the drivers, while containerd and the kubelet are still starting. The kernel
/// would ask for each when the first pod gets its network, one process a module and one after the other, on the way
/// to the first pod.
pub const SOON: &[(&str, &str)] = &[
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
}
