//! The node's own addresses: what its interfaces have now, and what the leases of its network say.
//!
//! Addresses of one link and of pods' own bridges are left out: nobody reaches the API by them from outside.

use crate::files;
use crate::places::Places;
use podium_init::paths;
use podium_init::render::lease::State;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A lease file has a KiB.
const LEASE_MAX: u64 = 64 << 10;
/// What pods' networks call their interfaces.
const OF_PODS: [&str; 6] = ["cni", "veth", "flannel", "cali", "lxc", "docker"];

/// All of them.
pub(super) fn all(places: &Places) -> BTreeSet<IpAddr> {
    let mut all = of_interfaces();
    all.extend(of_leases(places));
    all.retain(is_reachable);
    all
}

fn of_interfaces() -> BTreeSet<IpAddr> {
    let found = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let found = found.filter(|one| !OF_PODS.iter().any(|prefix| one.interface_name.starts_with(prefix)));
    let addresses = found.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    addresses.collect()
}

fn of_leases(places: &Places) -> Vec<IpAddr> {
    let entries = std::fs::read_dir(places.at(paths::NETWORK)).into_iter().flatten().flatten();
    let states = entries.filter_map(|entry| {
        serde_json::from_slice::<State>(&files::read(&entry.path(), LEASE_MAX).ok()?).ok()
    });
    let leases = states.flat_map(|state| state.leases.into_values());
    leases.flat_map(|lease| lease.addresses).map(|address| address.address).collect()
}

fn is_reachable(address: &IpAddr) -> bool {
    let of_link = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !of_link && !address.is_loopback() && !address.is_unspecified()
}
