//! Addresses with a prefix length, as configs write them and dhcpcd and `ip` take them.
//!
//! Parsing and printing again is what keeps an address in a config file to its place.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An address and the length of its network part; in JSON the text `ADDRESS/PREFIX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The address, host bits and all.
    pub address: IpAddr,
    /// 0..=32, or 0..=128.
    pub prefix: u8,
}

impl Cidr {
    /// Reads `ADDRESS/PREFIX`; a bare address is a network of its own (/32, /128).
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            // `+1` and the like are numbers to `parse`.
            Some(prefix) if !prefix.bytes().all(|b| b.is_ascii_digit()) => return None,
            Some(prefix) => prefix.parse().ok()?,
            None => whole,
        };
        (prefix <= whole).then_some(Cidr { address, prefix })
    }

    /// Whether an address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        network(self.address, self.prefix) == network(address, self.prefix)
            && self.address.is_ipv4() == address.is_ipv4()
    }

    /// The network with its host bits zero.
    #[must_use]
    pub fn network(&self) -> Self {
        Cidr { address: network(self.address, self.prefix), prefix: self.prefix }
    }

    /// Whether it is everything: a default route.
    pub fn is_default(&self) -> bool {
        self.prefix == 0
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Cidr::parse(&text).ok_or_else(|| format!("{text:?} is no address with a prefix length"))
    }
}

/// An address with its host bits zero.
fn network(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    // A shift by the whole width is what an empty prefix asks for, and what `<<` refuses.
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "/", "10.0.0.1/33", "fd00::/129", "10.0.0.1/+1", "10.0.0.1/", "10.0.0.1/8/8"] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
        for text in ["10.0.0.1\n", "10.0.0.1 gateway", "fe80::1%eth0", "010.0.0.1", "10.0.0"] {
            assert_eq!(Cidr::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_bare_address_is_a_network_of_its_own() {
        assert_eq!(Cidr::parse("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(Cidr::parse("FD00::1").unwrap().to_string(), "fd00::1/128");
    }

    #[test]
    fn containing_compares_the_network_part_and_the_family() {
        for (net, address, want) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "1.2.3.4", false),
            ("fd00::/64", "fd00::ffff:0:1", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
        ] {
            assert_eq!(Cidr::parse(net).unwrap().contains(address.parse().unwrap()), want, "{net} {address}");
        }
    }

    #[test]
    fn the_network_has_no_host_bits() {
        assert_eq!(Cidr::parse("10.1.2.3/16").unwrap().network().to_string(), "10.1.0.0/16");
        assert_eq!(Cidr::parse("fd00:1::5/0").unwrap().network().to_string(), "::/0");
    }
}
