//! Addresses of nodes as they are written: `10.0.0.2`, `node-1.lan:50001`, `[fd00::2]:50000`, `fd00::2`. Nothing here
//! looks a name up.

use podium_wire::PORT;
use std::fmt;
use std::net::IpAddr;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Name or address, without brackets.
    pub host: String,
    /// 50000 unless it is written.
    pub port: u16,
}

impl Endpoint {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bare = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
        let wrong = |why: &str| Err(format!("{text:?} is no address of a node: {why}"));
        if bare.parse::<IpAddr>().is_ok() {
            return Ok(Self { host: bare.to_owned(), port: PORT });
        }
        let (host, port) = match bare.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) if host.parse::<IpAddr>().is_ok() => (host, rest.strip_prefix(':')),
            Some(_) => return wrong("what stands in brackets is no IPv6 address"),
            None => match bare.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (bare, None),
            },
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
            return wrong("write HOST or HOST:PORT");
        }
        let Ok(port) = port.map_or(Ok(PORT), str::parse) else {
            return wrong("the port is no number");
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

/// `host:port`, with brackets where they are needed.
impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_address_is_understood() {
        for (text, shown) in [
            ("10.0.0.2", "10.0.0.2:50000"),
            ("10.0.0.2:7", "10.0.0.2:7"),
            ("node.lan", "node.lan:50000"),
            ("https://node.lan:50001/", "node.lan:50001"),
            ("fd00::2", "[fd00::2]:50000"),
            ("[fd00::2]:7", "[fd00::2]:7"),
            ("[fd00::2]", "[fd00::2]:50000"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), shown);
        }
        for wrong in ["", ":5", "a:b", "[x]:5", "a b", "host:99999"] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }
}
