//! `machine.network`: names, addresses, and interfaces that say clearly which device they mean.

use super::super::report::Report;
use super::super::{DeviceSelector, Interface, Network, Route};
use super::words::{Subnet, is_host, is_hostname, is_name, subnet};
use core::net::IpAddr;
use std::collections::HashMap;

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
    let mut devices = HashMap::new();
    for (index, interface) in network.interfaces.iter().enumerate() {
        let path = format!("machine.network.interfaces[{index}]");
        which(&path, interface, report);
        if let Some(earlier) = device(interface).and_then(|device| devices.insert(device, index)) {
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
    let hex: Fits = |letter| letter.is_ascii_hexdigit() || matches!(letter, ':' | '*');
    let name: Fits = |letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '*');
    let graphic: Fits = |letter| letter.is_ascii_graphic();
    for (key, value, fits, example) in [
        ("busPath", &selector.bus_path, graphic, "0000:00:03.0"),
        ("hardwareAddr", &selector.hardware_addr, hex, "52:54:00:12:34:56"),
        ("pciID", &selector.pci_id, hex, "8086:100e"),
        ("driver", &selector.driver, name, "virtio_net"),
    ] {
        if let Some(value) = value
            && (value.is_empty() || !value.chars().all(fits))
        {
            let remedy = format!("write it like {example}; * stands for anything");
            report.error_with(&format!("{path}.{key}"), format!("{value:?} matches nothing"), remedy);
        }
    }
}

type Fits = fn(char) -> bool;

/// What tells whether two entries mean the same device; `None` when that is not said clearly anyway.
fn device(interface: &Interface) -> Option<String> {
    match (&interface.interface, &interface.device_selector) {
        (Some(name), None) => Some(name.clone()),
        (None, Some(selector)) => Some(format!("{selector:?}")),
        (Some(_), Some(_)) | (None, None) => None,
    }
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
