//! dhcpcd's config: DHCP on every wired interface, and what the machine config says otherwise.
//!
//! Checked with Debian 12's dhcpcd 9.4.1 in a network namespace:
//! - It needs no shell and no udev (`nodev`). `/run/dhcpcd` it makes itself; of [`paths::DHCPCD_DATA`] only the last
//!   folder, and on a new `/var` there is no `/var/lib`: then it keeps neither DUID nor leases.
//! - With a user `dhcpcd` in /etc/passwd it gives up root and enters that user's home, `/usr/lib/dhcpcd`, which must
//!   exist and should be empty; the hook still runs as root. Without the user it stays root.
//! - Started without any interface it waits, and takes those that appear.
//! - An interface may have one static IPv4 address (the last counts), then without DHCP, and one static IPv6 address.
//!   Routes of IPv4 alone, each with a gateway, `0.0.0.0/0` only as `routers`. The rest is for `ip`:
//!   [`super::interfaces`].
//! - It clears the environment, so the hook knows its paths by itself, and gets `STATIC6` without the address.

use super::interfaces::{Family, Wanted, wanted};
use super::text::{glob, is_hostname};
use crate::config::MachineConfig;
use crate::paths;
use crate::services::InterfaceFacts;

/// What the kernel calls wired cards; nobody here renames them. Everything else, pods' interfaces and wireless ones, is
/// touched only when the config names it. So the text does not change when pods come and go.
const WIRED: [&str; 3] = ["eth*", "en*", "usb*"];

/// For every interface.
const GLOBAL: &str = "\
# An address outlives dhcpcd: when it is restarted, pods keep their connections.
persistent
# The identity is the MAC address, as the firmware's was: the same lease after a reset, and reservations fit.
clientid
# No probe whether the address is taken: it costs seconds, and the server has looked.
noarp
noipv4ll
# The pause of up to a second that RFC 2131 wants is for rooms full of machines switched on at once.
nodelay
# There is no udev to ask.
nodev
# The servers that know a network answer at once; one that does not know the old lease may stay silent.
reboot 2
option subnet_mask, routers, classless_static_routes, interface_mtu
option host_name, domain_name, domain_name_servers, domain_search, ntp_servers
";

/// The text. Without interfaces in the config every wired one gets DHCP, as those do that the config does not name.
pub fn config(config: &MachineConfig, present: &[InterfaceFacts]) -> String {
    let wanted = wanted(config, present);
    let mut text = format!("script {}\n{GLOBAL}", paths::DHCP_HOOK);
    if let Some(hostname) = config.machine.network.hostname.as_deref().filter(|name| is_hostname(name)) {
        text.push_str(&format!("hostname {hostname}\n"));
    }
    let named = wanted.iter().map(|interface| interface.name.as_str());
    let named = named.filter(|name| !WIRED.iter().any(|pattern| glob(pattern, name)));
    let allowed: Vec<&str> = WIRED.into_iter().chain(named).collect();
    text.push_str(&format!("allowinterfaces {}\n", allowed.join(" ")));
    for interface in &wanted {
        text.push_str(&block(interface));
    }
    text
}

/// What is for one interface.
fn block(wanted: &Wanted) -> String {
    let mut text = format!("\ninterface {}\n", wanted.name);
    let v4 = wanted.main_address(Family::V4);
    match v4 {
        Some(address) => text.push_str(&format!("static ip_address={address}\n")),
        None if !wanted.dhcp => text.push_str("nodhcp\n"),
        None => {}
    }
    if let Some(address) = wanted.main_address(Family::V6) {
        text.push_str(&format!("static ip6_address={address}\n"));
    }
    let mut routers = Vec::new();
    for (network, gateway) in wanted.main_routes() {
        if network.is_default() {
            routers.push(gateway.to_string());
        } else {
            text.push_str(&format!("static routes={network} {gateway}\n"));
        }
    }
    if !routers.is_empty() {
        text.push_str(&format!("static routers={}\n", routers.join(" ")));
    }
    text
}
