//! Who this node is and whom it asks for names: hostname, hosts, resolv.conf.
//!
//! The config wins, then leases in the order of their interfaces' metric. Podium brings no DNS server of its own: a
//! node whose config and network name none resolves none, rather than ask a company on the internet.

use super::RenderedFile;
use super::lease::Lease;
use super::text::{is_domain, is_hostname};
use crate::config::MachineConfig;
use crate::paths;
use core::net::IpAddr;

/// The name of a node that neither its config nor DHCP names. Unique names matter only in a cluster.
const DEFAULT_HOSTNAME: &str = "podium";
/// What glibc's resolver reads (`MAXNS`), and what the kubelet lets through to pods.
const MAX_NAMESERVERS: usize = 3;
/// What the kubelet lets through to pods: 32 domains in 2048 characters; glibc has no limit any more.
const MAX_SEARCH: usize = 32;
/// See [`MAX_SEARCH`].
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// The files, from the config, the leases there are (best first) and the name the node has now.
pub fn files(config: &MachineConfig, leases: &[&Lease], now: Option<&str>) -> Vec<RenderedFile> {
    let hostname = hostname(config, leases, now);
    vec![
        RenderedFile::public(paths::RESOLV_CONF, resolv_conf(config, leases)),
        RenderedFile::public(paths::HOSTS, hosts(config, leases, &hostname)),
        RenderedFile::public(paths::HOSTNAME, format!("{hostname}\n")),
    ]
}

/// The node's name, lower case: the kubelet names the node and its pods by it. So a name that DHCP gave is kept when
/// its lease goes (a cable is pulled): `now` is what the node is called, if anything.
pub fn hostname(config: &MachineConfig, leases: &[&Lease], now: Option<&str>) -> String {
    let wanted = config.machine.network.hostname.as_deref().filter(|name| is_hostname(name));
    let given = leases.iter().find_map(|lease| lease.hostname.as_deref());
    // The kernel's own name for a node without one is `(none)`, which is no host name.
    let now = now.filter(|name| is_hostname(name) && !is_localhost(name));
    wanted.or(given).or(now).unwrap_or(DEFAULT_HOSTNAME).to_ascii_lowercase()
}

/// A name that every machine has, and so none.
pub(super) fn is_localhost(name: &str) -> bool {
    name.split('.').next() == Some("localhost")
}

fn resolv_conf(config: &MachineConfig, leases: &[&Lease]) -> String {
    let network = &config.machine.network;
    let mut servers: Vec<IpAddr> = network.nameservers.iter().filter_map(|text| text.parse().ok()).collect();
    if servers.is_empty() {
        servers = leases.iter().flat_map(|lease| lease.nameservers.iter().copied()).collect();
    }
    let mut search: Vec<&str> = network.search_domains.iter().map(String::as_str).collect();
    if search.is_empty() {
        search = leases.iter().flat_map(|lease| lease.search.iter().map(String::as_str)).collect();
    }
    let mut text = String::from("# Written by Podium from the machine config and DHCP.\n");
    for server in unique(servers).into_iter().take(MAX_NAMESERVERS) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    let search = unique(search.into_iter().filter(|domain| is_domain(domain)).collect());
    let mut line = String::new();
    for domain in search.into_iter().take(MAX_SEARCH) {
        if line.len() + 1 + domain.len() <= MAX_SEARCH_CHARACTERS {
            line.push(' ');
            line.push_str(domain);
        }
    }
    if !line.is_empty() {
        text.push_str(&format!("search{line}\n"));
    }
    text
}

fn hosts(config: &MachineConfig, leases: &[&Lease], hostname: &str) -> String {
    // A fixed address of its own for the name, so that it resolves before there is a network.
    let address =
        leases.iter().flat_map(|lease| &lease.addresses).map(|cidr| cidr.address.to_string()).next();
    let address = address.unwrap_or_else(|| "127.0.1.1".to_owned());
    let short = hostname.split('.').next().filter(|short| *short != hostname);
    let names = short.map_or_else(|| hostname.to_owned(), |short| format!("{hostname} {short}"));
    let mut text = format!(
        "# Written by Podium from the machine config and DHCP.\n\
         127.0.0.1 localhost\n\
         ::1 localhost ip6-localhost ip6-loopback\n\
         ff02::1 ip6-allnodes\n\
         ff02::2 ip6-allrouters\n\
         {address} {names}\n"
    );
    for entry in &config.machine.network.extra_host_entries {
        let aliases: Vec<&str> =
            entry.aliases.iter().map(String::as_str).filter(|name| is_hostname(name)).collect();
        if let Ok(ip) = entry.ip.parse::<IpAddr>()
            && !aliases.is_empty()
        {
            text.push_str(&format!("{ip} {}\n", aliases.join(" ")));
        }
    }
    text
}

/// Each value once, in the order of its first place.
fn unique<T: PartialEq>(values: Vec<T>) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for value in values {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}
