//! `machine.network`: names, addresses, and interfaces that say clearly which device they mean.

use super::super::report::Report;
use super::super::{DeviceSelector, Interface, Network, Route};
use super::words::{Subnet, is_host, is_hostname, is_name, subnet};
use std::net::IpAddr;

/// Linux's __NEW_UTS_LEN: the longest host name in bytes.
const MAX_HOSTNAME: usize = 64;
/// IFNAMSIZ less its NUL.
const MAX_INTERFACE: usize = 15;

/// Checks it all.
pub(super) fn check(network: &Network, report: &mut Report<'_>) {
    if let Some(hostname) = &network.hostname
        && (!is_hostname(hostname, MAX_HOSTNAME) || hostname.parse::<IpAddr>().is_ok())
    {
        let remedy = "use up to 64 letters, digits, inner dashes and dots (RFC 1123)";
        report.error_with("machine.network.hostname", format!("{hostname:?} is no host name"), remedy);
    }
    for (index, interface) in network.interfaces.iter().enumerate() {
        let path = format!("machine.network.interfaces[{index}]");
        which(&path, interface, report);
        let earlier = network.interfaces.iter().take(index).position(|other| same_device(other, interface));
        if let Some(earlier) = earlier {
            let message = format!("means the same device as machine.network.interfaces[{earlier}]");
            report.error_with(&path, message, "write its addresses and routes in one place");
        }
        for (index, address) in interface.addresses.iter().enumerate() {
            if subnet(address).is_none() {
                let message = format!("{address:?} is no address");
                report.error_with(
                    &format!("{path}.addresses[{index}]"),
                    message,
                    "write it like 192.168.1.10/24",
                );
            }
        }
        for (index, entry) in interface.routes.iter().enumerate() {
            route(&format!("{path}.routes[{index}]"), entry, report);
        }
    }
    for (index, server) in network.nameservers.iter().enumerate() {
        if server.parse::<IpAddr>().is_err() {
            let path = format!("machine.network.nameservers[{index}]");
            report.error_with(
                &path,
                format!("{server:?} is no address"),
                "write an IP address, no name and no port",
            );
        }
    }
    for (index, domain) in network.search_domains.iter().enumerate() {
        if !is_hostname(domain, 253) {
            report.error(
                &format!("machine.network.searchDomains[{index}]"),
                format!("{domain:?} is no domain"),
            );
        }
    }
    for (index, entry) in network.extra_host_entries.iter().enumerate() {
        let path = format!("machine.network.extraHostEntries[{index}]");
        if entry.ip.parse::<IpAddr>().is_err() {
            missing_or(&format!("{path}.ip"), &entry.ip, "no address", "write an IP address", report);
        }
        if entry.aliases.is_empty() {
            report.error_with(&format!("{path}.aliases"), "is missing", "write at least one host name");
        }
        for (index, alias) in entry.aliases.iter().enumerate() {
            if !is_host(alias) {
                report.error(&format!("{path}.aliases[{index}]"), format!("{alias:?} is no host name"));
            }
        }
    }
}

/// An interface is meant by name or by properties, not by both or neither.
fn which(path: &str, interface: &Interface, report: &mut Report<'_>) {
    match (&interface.interface, &interface.device_selector) {
        (Some(_), Some(_)) => {
            report.error_with(path, "has both interface and deviceSelector", "keep one of them");
        }
        (None, None) => report.error_with(path, "names no device", "write interface: or deviceSelector:"),
        (Some(name), None) => {
            let path = format!("{path}.interface");
            if name == "lo" {
                report.error_with(&path, "the loopback is Podium's own", "remove it");
            } else if name.len() > MAX_INTERFACE
                || !is_name(name, |byte| matches!(byte, b'-' | b'_' | b'.' | b'@'))
            {
                report.error_with(&path, format!("{name:?} is no interface name"), "write it like eth0");
            }
        }
        (None, Some(selector)) => self::selector(&format!("{path}.deviceSelector"), selector, report),
    }
}

fn selector(path: &str, selector: &DeviceSelector, report: &mut Report<'_>) {
    if *selector == DeviceSelector::default() {
        let remedy = "write busPath, hardwareAddr, pciID, driver or physical";
        report.error_with(path, "selects by nothing", remedy);
    }
    let hex_and =
        |extra: char| move |letter: char| letter.is_ascii_hexdigit() || letter == extra || letter == '*';
    let checks: [(&str, &Option<String>, &dyn Fn(&str) -> bool, &str); 4] = [
        (
            "busPath",
            &selector.bus_path,
            &|text| text.bytes().all(|byte| byte.is_ascii_graphic()),
            "0000:00:03.0",
        ),
        (
            "hardwareAddr",
            &selector.hardware_addr,
            &|text| text.chars().all(hex_and(':')),
            "52:54:00:12:34:56",
        ),
        ("pciID", &selector.pci_id, &|text| text.chars().all(hex_and(':')), "8086:100e"),
        (
            "driver",
            &selector.driver,
            &|text| is_name(text, |byte| matches!(byte, b'_' | b'-' | b'*')),
            "virtio_net",
        ),
    ];
    for (key, value, fits, example) in checks {
        if let Some(value) = value
            && (value.is_empty() || !fits(value))
        {
            let remedy = format!("write it like {example}; * stands for anything");
            report.error_with(&format!("{path}.{key}"), format!("{value:?} matches nothing"), remedy);
        }
    }
}

fn same_device(left: &Interface, right: &Interface) -> bool {
    let named = left.interface.is_some() && left.interface == right.interface;
    named || (left.device_selector.is_some() && left.device_selector == right.device_selector)
}

fn route(path: &str, route: &Route, report: &mut Report<'_>) {
    let network = match route.network.as_str() {
        "" => None,
        text => match subnet(text) {
            Some(Subnet { address, network, prefix }) if address != network => {
                let message = format!("{text} is an address in a network");
                report.error_with(&format!("{path}.network"), message, format!("write {network}/{prefix}"));
                Some(network)
            }
            Some(Subnet { network, .. }) => Some(network),
            None => {
                let message = format!("{text:?} is no network");
                report.error_with(&format!("{path}.network"), message, "write it like 10.0.0.0/8");
                None
            }
        },
    };
    let gateway = match (route.gateway.as_str(), route.gateway.parse::<IpAddr>()) {
        ("", _) => None,
        (_, Ok(gateway)) => Some(gateway),
        (text, Err(_)) => {
            let message = format!("{text:?} is no address");
            report.error_with(&format!("{path}.gateway"), message, "write an IP address");
            None
        }
    };
    if let (Some(network), Some(gateway)) = (network, gateway)
        && network.is_ipv4() != gateway.is_ipv4()
    {
        report.error(&format!("{path}.gateway"), "is of another address family than network");
    }
    if route.network.is_empty() && route.gateway.is_empty() {
        report.error_with(path, "leads nowhere", "write network:, gateway: or both");
    }
}

fn missing_or(path: &str, value: &str, what: &str, remedy: &str, report: &mut Report<'_>) {
    let message = if value.is_empty() { "is missing".to_owned() } else { format!("{value:?} is {what}") };
    report.error_with(path, message, remedy);
}
