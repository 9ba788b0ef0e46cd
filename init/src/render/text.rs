//! What keeps a value inside the line or the quotes it was put into.
//!
//! Names are held to their character set and refused otherwise; only TOML, which can say any string, escapes.

use std::fmt::Write;

/// The kernel's limit on an interface's name (`IFNAMSIZ` less the terminating zero).
const INTERFACE_NAME_MAX: usize = 15;

/// A TOML basic string, quotes included.
pub fn toml_string(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            // TOML wants these escaped; U+0080..=U+009F are allowed but help nobody.
            c if c.is_control() => {
                // Writing to a String never fails.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether it is a host name as of RFC 1123: labels of letters, digits and inner hyphens, at most 253 in all.
pub fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Whether it is a DNS domain to search in: a host name whose labels may also hold underscores, with or without
/// the dot at its end.
pub fn is_domain(name: &str) -> bool {
    is_hostname(&name.strip_suffix('.').unwrap_or(name).replace('_', "x"))
}

/// Whether the kernel may call an interface so and no config format sees more in it than a name. The kernel
/// allows more; nobody uses it.
pub fn is_interface(name: &str) -> bool {
    (1..=INTERFACE_NAME_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b))
}

/// Whether a pattern, in which `*` stands for any characters, fits a whole text.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, inner)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in inner {
        // The first place is as good as any: what comes after it only gets longer.
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_strings_hold_what_would_end_them() {
        assert_eq!(toml_string("a\"]\n[x\\\t\u{7f}ä"), r#""a\"]\u000A[x\\\u0009\u007Fä""#);
    }

    #[test]
    fn host_names_are_rfc_1123() {
        let long = "a".repeat(64);
        for name in ["a", "node-1", "NODE.example.org", "1.2", &"a".repeat(63)] {
            assert!(is_hostname(name), "{name}");
        }
        for name in ["", ".", "-a", "a-", "a..b", "a b", "a\nb", "a_b", "ä", "a.", &long, &"a.".repeat(127)]
        {
            assert!(!is_hostname(name), "{name:?}");
        }
    }

    #[test]
    fn search_domains_may_hold_underscores_and_a_last_dot() {
        assert!(is_domain("_tcp.example.org."));
        for name in ["", ".", "a b", "a;b", "..", "example.org\noptions ndots:9"] {
            assert!(!is_domain(name), "{name:?}");
        }
    }

    #[test]
    fn interface_names_are_names_and_nothing_else() {
        for name in ["eth0", "enp0s3", "eth0.100", "br-lan", "a@b"] {
            assert!(is_interface(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "eth*", "a\n", "sixteen-letters!", "abcdefghijklmnop"] {
            assert!(!is_interface(name), "{name:?}");
        }
    }

    #[test]
    fn globs_fit_whole_texts() {
        for (pattern, text, want) in [
            ("0000:00:03.0", "0000:00:03.0", true),
            ("0000:*", "0000:00:03.0", true),
            ("*03.0", "0000:00:03.0", true),
            ("0*:*.0", "0000:00:03.0", true),
            ("*", "", true),
            ("a*a", "a", false),
            ("a*b*c", "a-c-b", false),
            ("a", "ab", false),
            ("a*", "b", false),
            ("*ab*ab", "ab", false),
            ("*ab*ab", "xabab", true),
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }
}
