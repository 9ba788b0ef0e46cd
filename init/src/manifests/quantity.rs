//! Kubernetes quantities: `500m`, `1.5`, `128Mi`, `1e3`. Only as much as checking and comparing them takes.
//!
//! The grammar is that of apimachinery's `resource.Quantity`: a sign, digits with at most one point, and a suffix
//! out of n u m k M G T P E, Ki Mi Gi Ti Pi Ei, or an exponent.

use serde_json::Number;

/// Parts of one: quantities are compared in billionths, the finest suffix there is.
pub(super) const NANO: i128 = 1_000_000_000;

/// The text that Kubernetes makes of a number, without an exponent.
pub(super) fn from_number(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}

/// The quantity in billionths, at most `i128::MAX`; what is finer is rounded up in size. `None` when it is none.
pub(super) fn parse(text: &str) -> Option<i128> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    let (multiply, divide) = factor(suffix)?;
    let mut nano = digits(whole).saturating_mul(NANO);
    let fine = fraction.get(..9).unwrap_or(fraction);
    let places = u32::try_from(fine.len()).ok()?;
    nano = nano.saturating_add(digits(fine).saturating_mul(10_i128.pow(9 - places)));
    if fraction.bytes().skip(9).any(|digit| digit != b'0') {
        nano = nano.saturating_add(1);
    }
    let size = nano.saturating_mul(multiply).saturating_add(divide - 1) / divide;
    Some(if negative { -size } else { size })
}

/// Digits alone, saturating: a quantity too large is still larger than any other.
fn digits(text: &str) -> i128 {
    text.bytes().fold(0, |sum: i128, digit| sum.saturating_mul(10).saturating_add((digit - b'0').into()))
}

/// What a suffix multiplies and divides by.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    let power = |exponent: u32| 10_i128.checked_pow(exponent).unwrap_or(i128::MAX);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (power(6), 1),
        "G" => (power(9), 1),
        "T" => (power(12), 1),
        "P" => (power(15), 1),
        "E" => (power(18), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            if !exponent.ends_with(|c: char| c.is_ascii_digit()) {
                return None;
            }
            let exponent: i32 = exponent.parse().ok()?;
            let size = power(exponent.unsigned_abs());
            if exponent < 0 { (1, size) } else { (size, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_the_value_that_kubernetes_gives_them() {
        for (text, nano) in [
            ("0", 0),
            ("1", NANO),
            ("+1", NANO),
            ("-1", -NANO),
            ("500m", NANO / 2),
            ("0.5", NANO / 2),
            (".5", NANO / 2),
            ("5.", 5 * NANO),
            ("1n", 1),
            ("1u", 1000),
            ("0.1n", 1),
            ("1k", 1000 * NANO),
            ("1Ki", 1024 * NANO),
            ("1.5Gi", 1536 * (1 << 20) * NANO),
            ("1E", 1_000_000_000_000_000_000 * NANO),
            ("1e3", 1000 * NANO),
            ("1E3", 1000 * NANO),
            ("1e-3", NANO / 1000),
            ("1e+2", 100 * NANO),
            ("1.0000000001", NANO + 1),
        ] {
            assert_eq!(parse(text), Some(nano), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", "-", ".", "m", "Mi", "1.2.3", "1mm", "128MB", "128mb", "1K", "1ki", "1 Gi", " 1", "1e",
            "1e+", "1ex", "0x10", "1,5", "--1", "1_000", "½",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_huge_quantity_stays_the_larger_one() {
        let huge = "9".repeat(400);
        assert!(parse(&huge) > parse("8E"));
        assert!(parse(&format!("-{huge}")) < parse("-8E"));
        assert!(parse("1e2000000000") > parse("8E"));
        assert_eq!(parse("1e-2000000000"), Some(1));
        assert_eq!(parse("1e99999999999"), None);
    }

    #[test]
    fn numbers_become_text_without_an_exponent() {
        for (json, text) in [
            ("1", "1"),
            ("0.5", "0.5"),
            ("1e3", "1000"),
            ("1e-3", "0.001"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            assert_eq!(from_number(&json.parse().unwrap()), text);
        }
    }
}
