//! chrony's config and the file of its servers that DHCP fills.
//!
//! chronyd 4.3 needs a user `_chrony` in /etc/passwd and makes its own folders, `/run/chrony` and `/var/lib/chrony`
//! (the latter because `ntsdumpdir` names it), with all above them and as that user's. It gives up root after reading
//! the config: the sources' folder and resolv.conf must be open to others. Servers are looked up when there is a network, again and again until then.

use super::RenderedFile;
use super::lease::Lease;
use super::text::is_hostname;
use crate::config::MachineConfig;
use crate::paths;
use core::net::IpAddr;

/// For a node whose config and network name none: Talos's default, so a config means the same on both. It is one
/// anycast service that is meant for everybody; the zones of pool.ntp.org belong to their vendors.
pub const DEFAULT_TIME_SERVERS: [&str; 1] = ["time.cloudflare.com"];

/// What holds whatever the servers.
const CONFIG: &str = "\
# Written by Podium from the machine config.
driftfile /var/lib/chrony/drift
ntsdumpdir /var/lib/chrony
# A clock that is wrong by more than a second jumps, but only soon after start: later, pods rely on it.
makestep 1 3
# One bad answer must not turn the frequency upside down.
maxupdateskew 100
# The kernel then writes the clock to the RTC every 11 minutes; the next boot starts with a time that is right.
rtcsync
# chronyc speaks to the socket in /run/chrony; nothing listens on the network.
cmdport 0
";

/// The text of `chrony.conf`. Servers of the config are in it; without any, the sources' folder is.
pub fn config(config: &MachineConfig) -> String {
    let servers: Vec<&str> = wanted(config).filter(|name| is_server(name)).collect();
    if servers.is_empty() {
        return format!("{CONFIG}sourcedir {}\n", paths::CHRONY_SOURCES);
    }
    format!("{CONFIG}{}", lines(&servers))
}

/// The one file in the sources' folder: servers from DHCP, or the default's.
pub fn sources(config: &MachineConfig, leases: &[&Lease]) -> RenderedFile {
    let path = format!("{}/podium.sources", paths::CHRONY_SOURCES);
    let mut servers: Vec<String> = Vec::new();
    for server in leases.iter().flat_map(|lease| &lease.time_servers) {
        let server = server.to_string();
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        servers = DEFAULT_TIME_SERVERS.map(str::to_owned).to_vec();
    }
    if wanted(config).any(is_server) {
        servers.clear();
    }
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    RenderedFile::public(path, lines(&servers))
}

/// Servers in the config that are neither an address nor a name.
pub(super) fn problems(config: &MachineConfig) -> Vec<String> {
    wanted(config)
        .filter(|name| !is_server(name))
        .map(|name| format!("machine.time.servers: {name:?} is neither an address nor a host name; mend it"))
        .collect()
}

fn wanted(config: &MachineConfig) -> impl Iterator<Item = &str> {
    config.machine.time.servers.iter().map(String::as_str)
}

fn is_server(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || is_hostname(name)
}

/// `iburst`: four questions two seconds apart, so that the clock is right within seconds.
fn lines(servers: &[&str]) -> String {
    servers.iter().map(|server| format!("server {server} iburst\n")).collect()
}
