//! What dhcpcd tells its hook, checked, and what a node remembers of it.
//!
//! [`change`] reads the hook's environment: a [`Change`] to one interface's [`State`]. Everything in it came from the
//! network: addresses are parsed, names held to their character set, lists bounded, and what does not pass is
//! dropped. [`news`] says what changed for the boot log.

use super::address::Cidr;
use super::interfaces::{Family, Wanted};
use super::names::is_localhost;
use super::text::{is_domain, is_hostname, is_interface};
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Enough for any network that means well; the resolver takes three.
const MAX_SERVERS: usize = 8;
/// See [`MAX_SERVERS`].
const MAX_SEARCH: usize = 16;
/// IPv6 gives an interface several at once.
const MAX_ADDRESSES: usize = 16;
/// For an interface whose metric dhcpcd does not tell: behind all others.
const LAST_METRIC: u32 = u32::MAX;

/// The hook's environment.
pub type Env = BTreeMap<String, String>;

/// What one protocol gave to one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lease {
    /// Addresses with their prefix.
    pub addresses: Vec<Cidr>,
    /// DNS servers.
    pub nameservers: Vec<IpAddr>,
    /// DNS search domains.
    pub search: Vec<String>,
    /// The node's name.
    pub hostname: Option<String>,
    /// NTP servers.
    pub time_servers: Vec<IpAddr>,
}

/// Where a lease comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The machine config, IPv4.
    Static,
    /// DHCP.
    Dhcp,
    /// The machine config, IPv6.
    Static6,
    /// DHCPv6.
    Dhcp6,
    /// IPv6 router advertisements.
    Router,
}

/// What is known of one interface: the content of `/run/podium/network/<interface>.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Kernel name.
    pub interface: String,
    /// dhcpcd's preference; lower wins.
    pub metric: u32,
    /// What it has now.
    pub leases: BTreeMap<Source, Lease>,
}

/// What one run of the hook is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Kernel name; safe as a file's name.
    pub interface: String,
    /// dhcpcd's preference; lower wins.
    pub metric: u32,
    /// What to do with its state.
    pub what: What,
}

/// What became of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// dhcpcd begins with it: the time to set its MTU.
    Begins,
    /// A lease is there, new or renewed.
    Has(Source, Lease),
    /// These are gone.
    Lost(&'static [Source]),
    /// Nothing that matters here.
    Nothing,
}

/// Reads the environment; `wanted` is the config's word on an interface. The error says what is wrong with it.
pub fn change(env: &Env, wanted: impl Fn(&str) -> Option<Wanted>) -> Result<Change, String> {
    let get = |name: &str| env.get(name).map(String::as_str);
    let interface = get("interface").unwrap_or_default();
    if !is_interface(interface) {
        return Err(format!(
            "{interface:?} in $interface is no interface; this program is run by dhcpcd alone"
        ));
    }
    // dhcpcd does not tell of the addresses that `ip` sets, and of its own IPv6 one only that it is there.
    let fixed = |family: Family| -> Vec<Cidr> {
        wanted(interface).map(|wanted| wanted.of_family(family).collect()).unwrap_or_default()
    };
    let what = match get("reason").unwrap_or_default() {
        "PREINIT" => What::Begins,
        // Beside DHCP static addresses are `ip`'s alone, and need not wait for a server.
        "CARRIER" if wanted(interface).is_some_and(|wanted| wanted.dhcp) => {
            What::Has(Source::Static, Lease { addresses: fixed(Family::V4), ..Lease::default() })
        }
        "BOUND" | "RENEW" | "REBIND" | "REBOOT" | "INFORM" | "TIMEOUT" | "IPV4LL" => {
            What::Has(Source::Dhcp, dhcp(env))
        }
        "STATIC" => {
            let mut lease = dhcp(env);
            lease.addresses.extend(fixed(Family::V4));
            // dhcpcd's own is the first of both.
            lease.addresses.dedup();
            What::Has(Source::Static, lease)
        }
        "STATIC6" => What::Has(Source::Static6, Lease { addresses: fixed(Family::V6), ..Lease::default() }),
        "BOUND6" | "RENEW6" | "REBIND6" | "REBOOT6" | "INFORM6" => What::Has(Source::Dhcp6, dhcp6(env)),
        "ROUTERADVERT" => What::Has(Source::Router, router(env)),
        "EXPIRE" | "NAK" => What::Lost(&[Source::Dhcp]),
        "STOP" | "RELEASE" => What::Lost(&[Source::Dhcp, Source::Static]),
        "EXPIRE6" | "STOP6" | "RELEASE6" => What::Lost(&[Source::Dhcp6]),
        // dhcpcd takes every address of its own away.
        "NOCARRIER" | "DEPARTED" | "FAIL" => {
            What::Lost(&[Source::Static, Source::Dhcp, Source::Static6, Source::Dhcp6, Source::Router])
        }
        // STOPPED among them: with `persistent` addresses stay when dhcpcd ends.
        _ => What::Nothing,
    };
    let metric = get("ifmetric").and_then(|text| text.parse().ok()).unwrap_or(LAST_METRIC);
    Ok(Change { interface: interface.to_owned(), metric, what })
}

impl State {
    /// Takes a change over. A lease that holds nothing is none.
    pub fn apply(&mut self, change: &Change) {
        self.interface.clone_from(&change.interface);
        self.metric = change.metric;
        match &change.what {
            What::Has(source, lease) if *lease == Lease::default() => {
                self.leases.remove(source);
            }
            What::Has(source, lease) => {
                self.leases.insert(*source, lease.clone());
            }
            What::Lost(sources) => self.leases.retain(|source, _| !sources.contains(source)),
            What::Begins | What::Nothing => {}
        }
    }

    /// Whether the node can be reached by it.
    pub fn has_address(&self) -> bool {
        self.leases.values().any(|lease| !lease.addresses.is_empty())
    }

    /// Its addresses, each once, with where they come from.
    fn addresses(&self) -> BTreeMap<String, Source> {
        let mut all = BTreeMap::new();
        for (source, lease) in &self.leases {
            for address in &lease.addresses {
                all.entry(address.to_string()).or_insert(*source);
            }
        }
        all
    }
}

/// All leases of all interfaces, those of the preferred interface first.
pub fn best_first(states: &[State]) -> Vec<&Lease> {
    let mut states: Vec<&State> = states.iter().collect();
    states.sort_by(|a, b| (a.metric, &a.interface).cmp(&(b.metric, &b.interface)));
    states.into_iter().flat_map(|state| state.leases.values()).collect()
}

/// Lines for the boot log: addresses that came and went.
pub fn news(before: &State, after: &State) -> Vec<String> {
    let (had, has) = (before.addresses(), after.addresses());
    let name = &after.interface;
    let came = has.iter().filter(|(address, _)| !had.contains_key(*address));
    let came = came.map(|(address, source)| format!("network: {name} {address} {}", source.phrase()));
    let went = had.keys().filter(|address| !has.contains_key(*address));
    came.chain(went.map(|address| format!("network: {name} {address} is gone"))).collect()
}

impl Source {
    fn family(self) -> Family {
        match self {
            Source::Static | Source::Dhcp => Family::V4,
            Source::Static6 | Source::Dhcp6 | Source::Router => Family::V6,
        }
    }

    /// The family whose routes can be set now: those beside DHCP may need the address that it has yet to give.
    pub fn routes(self, wanted: &Wanted) -> Option<Family> {
        (self != Source::Static || !wanted.dhcp).then(|| self.family())
    }

    fn phrase(self) -> &'static str {
        match self {
            Source::Static | Source::Static6 => "by the machine config",
            Source::Dhcp => "by DHCP",
            Source::Dhcp6 => "by DHCPv6",
            Source::Router => "by router advertisement",
        }
    }
}

fn dhcp(env: &Env) -> Lease {
    let get = |name: &str| env.get(name).map_or("", String::as_str);
    let address = Cidr::parse(&format!("{}/{}", get("new_ip_address"), get("new_subnet_cidr")));
    let search = match get("new_domain_search") {
        "" => get("new_domain_name"),
        search => search,
    };
    Lease {
        addresses: address.into_iter().collect(),
        nameservers: servers(get("new_domain_name_servers")),
        search: domains(search),
        hostname: hostname(get("new_host_name")),
        time_servers: servers(get("new_ntp_servers")),
    }
}

fn dhcp6(env: &Env) -> Lease {
    let get = |name: &str| env.get(name).map_or("", String::as_str);
    let addresses = matching(env, "new_dhcp6_ia_na", "_ia_addr");
    let mut time_servers = servers(get("new_dhcp6_ntp_server_addr"));
    time_servers.extend(servers(get("new_dhcp6_sntp_servers")));
    time_servers.truncate(MAX_SERVERS);
    Lease {
        addresses: addresses.filter_map(Cidr::parse).take(MAX_ADDRESSES).collect(),
        nameservers: servers(get("new_dhcp6_name_servers")),
        search: domains(get("new_dhcp6_domain_search")),
        hostname: None,
        time_servers,
    }
}

/// `nd<n>_…` are the advertisements of the n-th router, with a count behind each option.
fn router(env: &Env) -> Lease {
    let all = |middle: &str, end: &str| -> String {
        let named = env
            .iter()
            .filter(|(name, _)| name.starts_with("nd") && name.contains(middle) && name.ends_with(end));
        named.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ")
    };
    Lease {
        addresses: matching(env, "nd", "_addr").filter_map(Cidr::parse).take(MAX_ADDRESSES).collect(),
        nameservers: servers(&all("_rdnss", "_servers")),
        search: domains(&all("_dnssl", "_search")),
        hostname: None,
        time_servers: Vec::new(),
    }
}

/// Values of the variables `<start><n><middle><m>`.
fn matching<'a>(env: &'a Env, start: &'a str, middle: &'a str) -> impl Iterator<Item = &'a str> {
    let fits = move |name: &str| {
        let Some((first, second)) = name.strip_prefix(start).and_then(|rest| rest.split_once(middle)) else {
            return false;
        };
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        number(first) && number(second)
    };
    env.iter().filter(move |(name, _)| fits(name)).map(|(_, value)| value.as_str())
}

/// Addresses that a pod can use as well: no link-local ones, which need the node's interface.
fn servers(text: &str) -> Vec<IpAddr> {
    let parsed = text.split_ascii_whitespace().filter_map(|word| word.parse::<IpAddr>().ok());
    let usable = parsed.filter(|address| {
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        !(address.is_unspecified() || address.is_multicast() || link_local)
    });
    usable.take(MAX_SERVERS).collect()
}

fn domains(text: &str) -> Vec<String> {
    let names = text.split_ascii_whitespace().filter(|name| is_domain(name));
    names.take(MAX_SEARCH).map(str::to_owned).collect()
}

/// A server that calls every node localhost names none.
fn hostname(text: &str) -> Option<String> {
    let name = Some(text).filter(|name| is_hostname(name))?;
    (!is_localhost(name)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
