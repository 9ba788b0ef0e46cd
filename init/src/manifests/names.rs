//! The shapes of Kubernetes names. Each function only says whether a text has the shape; the sentence for people
//! that goes with it stands beside it.

/// What [`is_label`] asks for.
pub(super) const LABEL: &str =
    "use at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends";
/// What [`is_subdomain`] asks for.
pub(super) const SUBDOMAIN: &str = "use lower-case letters, digits, dashes and dots, with a letter or digit at both ends and around each dot";
/// What [`is_label_key`] asks for.
pub(super) const LABEL_KEY: &str = "use at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends; a domain and a slash may stand before it";
/// What [`is_label_value`] asks for.
pub(super) const LABEL_VALUE: &str =
    "use at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends";
/// What [`is_port_name`] asks for.
pub(super) const PORT_NAME: &str =
    "use at most 15 lower-case letters, digits and single dashes, at least one letter, no dash at an end";

/// A DNS-1123 label.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63
        && is_bounded_by_alphanumeric(text)
        && text.bytes().all(|byte| is_lower(byte) || byte == b'-')
}

/// A DNS-1123 subdomain: labels joined by dots, without their limit of 63.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|part| {
            is_bounded_by_alphanumeric(part) && part.bytes().all(|byte| is_lower(byte) || byte == b'-')
        })
}

/// A label's or annotation's key: `name` or `example.org/name`.
pub(super) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_subdomain(domain) && is_qualified(name),
        None => is_qualified(text),
    }
}

/// A label's value; may be empty.
pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified(text)
}

/// A port's name (IANA service name).
pub(super) fn is_port_name(text: &str) -> bool {
    text.len() <= 15
        && is_bounded_by_alphanumeric(text)
        && text.bytes().all(|byte| is_lower(byte) || byte == b'-')
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
        && !text.contains("--")
}

/// An environment variable's name, by the wide rule that kubelets have from 1.30: printable ASCII without `=`.
/// Older ones refuse more; the narrow rule would refuse what runs today.
pub(super) fn is_variable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

fn is_qualified(text: &str) -> bool {
    text.len() <= 63
        && is_bounded_by_alphanumeric(text)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_bounded_by_alphanumeric(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let long = "a".repeat(64);
        type Shape<'a> = (fn(&str) -> bool, &'a [&'a str], &'a [&'a str]);
        let shapes: [Shape<'_>; 5] = [
            (
                is_label,
                &["a", "0", "a-b", "a--b", "x9"],
                &["", "A", "-a", "a-", "a.b", "a_b", "ä", "a b", &long],
            ),
            (
                is_subdomain,
                &["a", "a.b", "a-b.c9", &long],
                &["", ".", "a.", ".a", "a..b", "a.-b", "A.b", "a/b"],
            ),
            (
                is_label_key,
                &["app", "App_1.x", "example.org/app"],
                &["", "/a", "a/", "a/b/c", "Ex.org/a", "-a", "a b", &long],
            ),
            (is_label_value, &["", "a", "A.b-c_d"], &["-", "a ", "ä", &long]),
            (is_port_name, &["http", "a-b", "9p"], &["", "80", "a--b", "-a", "HTTP", "abcdefghijklmnop"]),
        ];
        for (index, (is, good, bad)) in shapes.into_iter().enumerate() {
            for text in good {
                assert!(is(text), "shape {index}: {text:?}");
            }
            for text in bad {
                assert!(!is(text), "shape {index}: {text:?}");
            }
        }
        assert!(is_variable("a.b-C 1") && !is_variable("a=b") && !is_variable("") && !is_variable("ä"));
    }
}
