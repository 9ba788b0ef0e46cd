//! What names, addresses, paths and URLs look like. Pure questions about one text each.

use core::net::IpAddr;

/// Letters and digits of ASCII and what `also` allows, at least one.
pub(super) fn is_name(text: &str, also: fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also(byte))
}

/// A host name as in RFC 1123: labels of up to 63 letters, digits and inner dashes; all in all up to `most` bytes.
pub(super) fn is_hostname(text: &str, most: usize) -> bool {
    let is_label = |label: &str| {
        label.len() <= 63
            && is_name(label, |byte| byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= most && text.split('.').all(is_label)
}

/// A host name or an address.
pub(super) fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || (is_hostname(text, 253) && !looks_like_address(text))
}

/// Four numbers that are no address are a typing error, no name.
fn looks_like_address(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// `host`, `host:port`, `[v6]:port`.
pub(super) fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or_default())),
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port_fits =
        port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+'));
    let host_fits =
        if text.starts_with('[') { host.parse::<core::net::Ipv6Addr>().is_ok() } else { is_host(host) };
    host_fits && port_fits
}

/// An http(s) URL without credentials, query and fragment.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else { return Err(format!("{url:?} does not begin with http:// or https://")) };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        return Err("holds a password or a user name".into());
    }
    if !is_host_and_port(host) {
        return Err(format!("{url:?} names no host"));
    }
    let fits =
        |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'\\' | b'<' | b'>');
    if path.bytes().all(fits) { Ok(()) } else { Err(format!("{url:?} is no URL of a mirror")) }
}

/// An address with a prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet {
    /// The address, host bits included.
    pub address: IpAddr,
    /// The address with all host bits zero.
    pub network: IpAddr,
    /// The length of the network part.
    pub prefix: u8,
}

/// `10.0.0.1/8`, or an address alone, which is a host's.
pub(super) fn subnet(text: &str) -> Option<Subnet> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => prefix.parse().ok()?,
        Some(_) => return None,
        None => most,
    };
    let host_bits = u32::from(most.checked_sub(prefix)?);
    let network = match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
    };
    Some(Subnet { address, network, prefix })
}

/// An absolute path that is written in the one way it can be: no `.`, `..`, `//` or slash at its end.
pub(super) fn is_clean_path(path: &str) -> bool {
    let part_fits = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= 255;
    path.len() < 4096
        && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part_fits))
        && !path.contains(char::is_control)
}

/// Whether a clean path is this one or below it.
pub(super) fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["a", "A-1", "node-1.example.org", "1.example", "9.9.9.9", "fe80::1"] {
            assert!(is_host(good), "{good}");
        }
        for bad in
            ["", "-a", "a-", "a..b", ".a", "a.", "a_b", "a b", "ä", "1.2.3", "1.2.3.256", &"a".repeat(64)]
        {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn hosts_with_ports() {
        for good in ["docker.io", "example.org:5000", "10.0.0.1:1", "[::1]:5000", "[fd00::1]"] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in ["", "a:", "a:0", "a:65536", "a:+1", "[::1", "[::1]5000", "[a]:1", "a:b:1", "https://a"] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }

    #[test]
    fn urls() {
        for good in ["http://a", "https://a/", "https://a:5000/v2/x%20y", "http://[::1]:1/x"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "a",
            "ftp://a",
            "http://",
            "http:///x",
            "http://u:p@a",
            "http://a/x?y",
            "http://a/ b",
            "http://a/\n",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn subnets() {
        for (text, want) in [
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("fd00::1/64", Some("fd00::/64")),
            ("::/0", Some("::/0")),
            ("10.1.2.3/33", None),
            ("fd00::/129", None),
            ("10.1.2/8", None),
            ("10.1.2.3/", None),
            ("10.1.2.3/+8", None),
            ("", None),
        ] {
            let got = subnet(text).map(|subnet| format!("{}/{}", subnet.network, subnet.prefix));
            assert_eq!(got.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn paths() {
        for good in ["/a", "/a/b.c", "/var/ä"] {
            assert!(is_clean_path(good), "{good}");
        }
        for bad in ["", "/", "a", "/a/", "//a", "/a/../b", "/./a", "/a\nb", "/a\0"] {
            assert!(!is_clean_path(bad), "{bad}");
        }
        assert!(is_under("/var/a", "/var") && is_under("/var", "/var") && !is_under("/variable", "/var"));
    }
}
