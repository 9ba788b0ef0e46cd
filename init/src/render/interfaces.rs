//! What the config wants of each network interface, with every address parsed and every selector resolved.
//!
//! dhcpcd does most of it ([`super::dhcpcd`]). What dhcpcd 9.4 cannot do is left to `ip`, in the lines of
//! [`Wanted::ip_batch`], which its hook runs: a second static address of a family, a static address beside DHCP,
//! IPv6 routes, and IPv4 routes that are on-link, have a metric or stand beside DHCP.

use super::address::Cidr;
use super::text::{glob, is_interface};
use crate::config::{DeviceSelector, Interface, MachineConfig, Route};
use crate::services::InterfaceFacts;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Interfaces that are pods' or a CNI plugin's, which no config may name: they come and go with pods, and a
/// plugin sets their addresses.
const RESERVED: [&str; 9] =
    ["veth*", "cni*", "cali*", "cilium*", "lxc*", "flannel*", "kube-*", "docker*", "dummy*"];

/// Talos's metric for a route that names none; behind dhcpcd's own, which begin at 1000.
const ROUTE_METRIC: u32 = 1024;

/// What the config says of one interface; several entries for the same one are taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Kernel name.
    pub name: String,
    /// Use DHCP.
    pub dhcp: bool,
    /// Static addresses.
    pub addresses: Vec<Cidr>,
    /// Static routes.
    pub routes: Vec<Hop>,
    /// Bytes.
    pub mtu: Option<u32>,
}

/// A static route, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Where to, without host bits.
    pub network: Cidr,
    /// Next hop; `None` is on-link.
    pub gateway: Option<IpAddr>,
    /// Lower wins.
    pub metric: Option<u32>,
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// The config's interfaces. What cannot be taken is left out, and is in [`super::problems`].
pub fn wanted(config: &MachineConfig, present: &[InterfaceFacts]) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    for entry in &config.machine.network.interfaces {
        for name in names(entry, present) {
            if let Some(wanted) = all.iter_mut().find(|wanted| wanted.name == name) {
                wanted.take(entry);
                continue;
            }
            let mut wanted = Wanted::nothing(name);
            wanted.take(entry);
            all.push(wanted);
        }
    }
    all
}

/// What the interfaces' config asks for and nobody can do, as [`super::problems`].
pub(super) fn problems(config: &MachineConfig) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, entry) in config.machine.network.interfaces.iter().enumerate() {
        let path = format!("machine.network.interfaces[{index}]");
        if let Some(name) = &entry.interface
            && !is_usable(name)
        {
            problems
                .push(format!("{path}.interface: {name:?} is no interface of the node's own; name another"));
        }
        for address in entry.addresses.iter().filter(|text| Cidr::parse(text).is_none()) {
            problems.push(format!("{path}.addresses: {address:?} is no address; write 192.0.2.5/24"));
        }
        for route in entry.routes.iter().filter(|route| Hop::parse(route).is_none()) {
            problems.push(format!(
                "{path}.routes: no route to {:?} by {:?}; write a network and a gateway of one family",
                route.network, route.gateway
            ));
        }
    }
    problems
}

/// Selectors that fit none of the interfaces there are, one line each for the boot log.
pub fn unmatched(config: &MachineConfig, present: &[InterfaceFacts]) -> Vec<String> {
    let there: Vec<String> = present.iter().filter(|facts| facts.physical).map(describe).collect();
    let there = if there.is_empty() { "no cards".to_owned() } else { there.join(", ") };
    let entries = config.machine.network.interfaces.iter().enumerate();
    entries
        .filter(|(_, entry)| entry.interface.is_none() && names(entry, present).is_empty())
        .map(|(index, _)| {
            format!("machine.network.interfaces[{index}].deviceSelector: fits none; there are {there}")
        })
        .collect()
}

impl Wanted {
    fn nothing(name: String) -> Self {
        Wanted { name, dhcp: false, addresses: Vec::new(), routes: Vec::new(), mtu: None }
    }

    fn take(&mut self, entry: &Interface) {
        self.dhcp |= entry.dhcp;
        self.addresses.extend(entry.addresses.iter().filter_map(|text| Cidr::parse(text)));
        self.routes.extend(entry.routes.iter().filter_map(Hop::parse));
        self.mtu = entry.mtu.or(self.mtu);
    }

    /// The static addresses of a family.
    pub(super) fn of_family(&self, family: Family) -> impl Iterator<Item = Cidr> {
        self.addresses.iter().copied().filter(move |cidr| Family::of(cidr.address) == family)
    }

    /// The static address of a family that dhcpcd sets: the first, and of IPv4 only without DHCP.
    pub fn main_address(&self, family: Family) -> Option<Cidr> {
        self.of_family(family).next().filter(|_| family == Family::V6 || !self.dhcp)
    }

    /// The routes that dhcpcd sets with its IPv4 address, each with its gateway.
    pub(super) fn main_routes(&self) -> impl Iterator<Item = (Cidr, Ipv4Addr)> {
        self.routes.iter().filter_map(|hop| Some((hop.network, self.main_gateway(hop)?)))
    }

    /// Lines for `ip -batch`, safe to run again: the addresses that dhcpcd does not set, and, once `up` names the
    /// family that has its address now, the routes of that family which it does not set either.
    pub fn ip_batch(&self, up: Option<Family>) -> Vec<String> {
        let mains = [self.main_address(Family::V4), self.main_address(Family::V6)];
        let others = self.addresses.iter().filter(|cidr| !mains.contains(&Some(**cidr)));
        let mut lines: Vec<String> =
            others.map(|cidr| format!("address replace {cidr} dev {}", self.name)).collect();
        for hop in &self.routes {
            if Some(Family::of(hop.network.address)) == up && self.main_gateway(hop).is_none() {
                lines.push(format!("route replace {}", self.ip_route(hop)));
            }
        }
        lines
    }

    /// The gateway of a route that dhcpcd can set: IPv4, no metric, with its static address.
    fn main_gateway(&self, hop: &Hop) -> Option<Ipv4Addr> {
        self.main_address(Family::V4)?;
        match hop.gateway {
            Some(IpAddr::V4(gateway)) if hop.metric.is_none() => Some(gateway),
            _ => None,
        }
    }

    /// A route in the words of `ip route`.
    fn ip_route(&self, hop: &Hop) -> String {
        let metric = hop.metric.unwrap_or(ROUTE_METRIC);
        let Some(gateway) = hop.gateway else {
            return format!("{} dev {} proto static metric {metric}", hop.network, self.name);
        };
        // A hosting company's gateway beside a /32: the kernel must not look for it in a network.
        let in_network = self.dhcp
            || is_link_local(gateway)
            || self.addresses.iter().any(|cidr| cidr.contains(gateway) && cidr.address != gateway);
        let onlink = if in_network { "" } else { " onlink" };
        format!("{} via {gateway} dev {} proto static metric {metric}{onlink}", hop.network, self.name)
    }
}

impl Hop {
    /// `None` when an address does not parse, or the families differ. An empty network is everything.
    fn parse(route: &Route) -> Option<Self> {
        let gateway = match route.gateway.as_str() {
            "" => None,
            text => Some(text.parse::<IpAddr>().ok()?),
        };
        let network = match (route.network.as_str(), gateway) {
            ("", Some(IpAddr::V6(_))) => Cidr { address: Ipv6Addr::UNSPECIFIED.into(), prefix: 0 },
            ("", _) => Cidr { address: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 },
            (text, _) => Cidr::parse(text)?.network(),
        };
        let one_family = gateway.is_none_or(|gateway| Family::of(gateway) == Family::of(network.address));
        one_family.then_some(Hop { network, gateway, metric: route.metric })
    }
}

/// The interfaces that an entry means.
fn names(entry: &Interface, present: &[InterfaceFacts]) -> Vec<String> {
    if let Some(name) = &entry.interface {
        return if is_usable(name) { vec![name.clone()] } else { Vec::new() };
    }
    let Some(selector) = &entry.device_selector else {
        return Vec::new();
    };
    let fitting = present.iter().filter(|facts| is_usable(&facts.name) && selects(selector, facts));
    fitting.map(|facts| facts.name.clone()).collect()
}

/// Whether the node may configure an interface of that name.
fn is_usable(name: &str) -> bool {
    is_interface(name) && name != "lo" && !RESERVED.iter().any(|pattern| glob(pattern, name))
}

/// Whether every given property fits; a selector without any fits nothing.
fn selects(selector: &DeviceSelector, facts: &InterfaceFacts) -> bool {
    let text = |pattern: &Option<String>, value: &str| {
        pattern.as_ref().map(|p| glob(&p.to_ascii_lowercase(), &value.to_ascii_lowercase()))
    };
    let checks = [
        text(&selector.bus_path, &facts.bus_path),
        text(&selector.hardware_addr, &facts.mac),
        text(&selector.pci_id, &facts.pci_id),
        text(&selector.driver, &facts.driver),
        selector.physical.map(|physical| physical == facts.physical),
    ];
    let mut given = checks.into_iter().flatten().peekable();
    given.peek().is_some() && given.all(|fits| fits)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// An interface as a person would pick it by a selector.
fn describe(facts: &InterfaceFacts) -> String {
    let mut text = facts.name.clone();
    let properties = [&facts.mac, &facts.driver, &facts.bus_path, &facts.pci_id];
    let properties: Vec<&str> = properties.iter().map(|p| p.as_str()).filter(|p| !p.is_empty()).collect();
    if !properties.is_empty() {
        text.push_str(&format!(" ({})", properties.join(" ")));
    }
    text
}
