//! The kubelet's command line, for every version from 1.20 to today's.
//!
//! Flags are few: what a KubeletConfiguration can say is said there ([`crate::render::kubelet`]). What is left differs by
//! version, and a flag that a kubelet does not know ends it at once, so each has its range in [`flags`].
//! `machine.kubelet.extraArgs` replace ours by name and are added otherwise.

use super::{ImageFacts, Version};
use crate::config::MachineConfig;
use crate::paths;
use crate::render::address::Cidr;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use serde_json::Value;

/// The program.
const PROGRAM: &str = "/usr/bin/kubelet";

/// `port` of a KubeletConfiguration that does not say it.
const PORT: u16 = 10250;

/// Stands before the subnets in a `--node-ip` that only [`fill`] can complete: addresses come after the plan.
pub const NODE_IP_MARK: &str = "--node-ip=@";

/// A `--hostname-override` that [`fill`] completes with the name that the node had when its kubelet first started.
pub const NODE_NAME_MARK: &str = "--hostname-override=@";

/// The whole argv.
pub(super) fn argv(config: &MachineConfig, facts: &ImageFacts) -> Vec<String> {
    let kubelet = &config.machine.kubelet;
    let mut flags = flags(config, facts);
    for (name, value) in &kubelet.extra_args {
        match flags.iter_mut().find(|(ours, _)| ours == name) {
            Some(flag) => flag.1.clone_from(value),
            None => flags.push((name.clone(), value.clone())),
        }
    }
    let flags = flags.into_iter().map(|(name, value)| format!("--{name}={value}"));
    std::iter::once(PROGRAM.to_owned()).chain(flags).collect()
}

/// Where a program on the node reaches it: `address:port` by the config, loopback unless it listens elsewhere alone.
pub(super) fn listens_at(config: &MachineConfig) -> SocketAddr {
    let given = |key: &str| config.machine.kubelet.extra_config.get(key);
    let port = given("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let address = given("address").and_then(Value::as_str).and_then(|text| text.parse::<IpAddr>().ok());
    let address = address.filter(|address| !address.is_unspecified());
    SocketAddr::new(address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port.unwrap_or(PORT))
}

/// Completes an argv when its program is started: `--node-ip=@SUBNETS` becomes the first of `addresses` that fits,
/// or is left out, and the kubelet then takes the address of the default route; `--hostname-override=@` is given `name`.
/// Everything else stays as it is.
///
/// Subnets are those of `machine.kubelet.nodeIP.validSubnets`, split by commas: an address fits when it is in one
/// of them (in any, when all are exclusions) and in none that has a leading `!`.
pub fn fill(argv: &[String], addresses: &[IpAddr], name: Option<&str>) -> Vec<String> {
    let complete = |arg: &String| match arg.strip_prefix(NODE_IP_MARK) {
        None if arg == NODE_NAME_MARK => name.map(|name| format!("--hostname-override={name}")),
        None => Some(arg.clone()),
        Some(subnets) => node_ip(subnets, addresses).map(|address| format!("--node-ip={address}")),
    };
    argv.iter().filter_map(complete).collect()
}

/// Podium's own flags, in this order.
fn flags(config: &MachineConfig, facts: &ImageFacts) -> Vec<(String, String)> {
    let version = Version::parse(&facts.kubelet);
    let mut flags = Vec::new();
    let mut add = |name: &str, value: &str| flags.push((name.to_owned(), value.to_owned()));
    add("config", paths::KUBELET_CONFIG);
    add("root-dir", paths::KUBELET_ROOT);
    // Docker was the default up to 1.23; the flag went with dockershim's last traces in 1.27.
    if version <= Version::new(1, 23) {
        add("container-runtime", "remote");
    }
    // From 1.27 it is `containerRuntimeEndpoint` of the KubeletConfiguration.
    if version < Version::new(1, 27) {
        add("container-runtime-endpoint", &format!("unix://{}", paths::CONTAINERD_SOCKET));
    }
    // Keeps the kubelet's garbage collection off an image that no registry has. Since 1.35 the flag is gone, and
    // the kubelet asks the runtime what is pinned; containerd pins its sandbox image since 1.7.
    if version <= Version::new(1, 34) {
        add("pod-infra-container-image", &facts.pause_image);
    }
    // Without it the kubelet takes the kernel's host name anew at each start, and DHCP may have given another one.
    let hostname = config.machine.network.hostname.as_ref().map(|name| name.to_ascii_lowercase());
    add("hostname-override", hostname.as_deref().unwrap_or("@"));
    let subnets = &config.machine.kubelet.node_ip.valid_subnets;
    if !subnets.is_empty() {
        add("node-ip", &format!("@{}", subnets.join(",")));
    }
    flags
}

/// Whether one of these addresses can be the node's by `machine.kubelet.nodeIP.validSubnets`; without subnets any.
pub fn fits(valid_subnets: &[String], addresses: &[IpAddr]) -> bool {
    match valid_subnets {
        [] => !addresses.is_empty(),
        subnets => node_ip(&subnets.join(","), addresses).is_some(),
    }
}

/// The first address that fits, IPv4 before IPv6: that is the family of the pod network.
fn node_ip(subnets: &str, addresses: &[IpAddr]) -> Option<IpAddr> {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for subnet in subnets.split(',').map(str::trim) {
        match subnet.strip_prefix('!') {
            Some(subnet) => outside.extend(Cidr::parse(subnet)),
            None => inside.extend(Cidr::parse(subnet)),
        }
    }
    let fits = |address: &IpAddr| {
        (inside.is_empty() || inside.iter().any(|net| net.contains(*address)))
            && !outside.iter().any(|net| net.contains(*address))
    };
    let first = |want: fn(&IpAddr) -> bool| addresses.iter().copied().filter(want).find(fits);
    first(IpAddr::is_ipv4).or_else(|| first(IpAddr::is_ipv6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(mark: &str, addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        fill(&["kubelet".to_owned(), format!("--node-ip={mark}"), "--v=2".to_owned()], &addresses, None)
    }

    #[test]
    fn node_ip_is_the_first_present_address_that_fits() {
        let present = ["fd00::5", "192.168.1.7", "10.0.0.4", "10.1.0.4"];
        for (subnets, want) in [
            ("@10.0.0.0/8", "10.0.0.4"),
            ("@10.0.0.0/8,!10.0.0.0/16", "10.1.0.4"),
            ("@!192.168.0.0/16", "10.0.0.4"),
            ("@fd00::/8", "fd00::5"),
            ("@fd00::/8, 192.168.0.0/16", "192.168.1.7"),
        ] {
            assert_eq!(filled(subnets, &present)[1], format!("--node-ip={want}"), "{subnets}");
        }
    }

    #[test]
    fn the_node_name_is_the_one_that_is_handed_in() {
        let argv = [NODE_NAME_MARK.to_owned(), "--hostname-override=other".to_owned()];
        let filled = fill(&argv, &[], Some("first"));
        assert_eq!(filled, ["--hostname-override=first", "--hostname-override=other"]);
        assert_eq!(fill(&argv, &[], None), ["--hostname-override=other"]);
    }

    #[test]
    fn an_address_fits_by_the_subnets_or_without_any() {
        let address: IpAddr = "fe80::1".parse().unwrap();
        assert!(fits(&[], &[address]) && !fits(&[], &[]));
        assert!(!fits(&["10.0.0.0/8".to_owned()], &[address]));
        assert!(fits(&["10.0.0.0/8".to_owned()], &[address, "10.1.1.1".parse().unwrap()]));
    }

    #[test]
    fn without_a_fitting_address_the_flag_is_left_out() {
        assert_eq!(filled("@172.16.0.0/12", &["10.0.0.4"]), ["kubelet", "--v=2"]);
        assert_eq!(filled("@10.0.0.0/8", &[]), ["kubelet", "--v=2"]);
    }

    #[test]
    fn it_is_reached_where_the_config_lets_it_listen() {
        let at = |extra: Value| {
            let mut config = MachineConfig::default();
            config.machine.kubelet.extra_config = extra.as_object().unwrap().clone();
            listens_at(&config).to_string()
        };
        assert_eq!(at(serde_json::json!({})), "127.0.0.1:10250");
        assert_eq!(at(serde_json::json!({"address": "0.0.0.0", "port": 10350})), "127.0.0.1:10350");
        assert_eq!(at(serde_json::json!({"address": "::"})), "127.0.0.1:10250");
        assert_eq!(at(serde_json::json!({"address": "192.0.2.1"})), "192.0.2.1:10250");
        assert_eq!(at(serde_json::json!({"address": 7, "port": "x"})), "127.0.0.1:10250");
    }

    #[test]
    fn a_plain_node_ip_is_left_alone() {
        assert_eq!(filled("10.9.9.9", &["10.0.0.4"])[1], "--node-ip=10.9.9.9");
    }
}
