//! Durations as the kubelet's config writes them, in whole seconds: `45s`, `1m30s`, `1h`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Hours, minutes, seconds, each at most once and in this order.
const UNITS: [(char, u64); 3] = [('h', 3600), ('m', 60), ('s', 1)];

/// A duration in whole seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Seconds(pub u64);

impl Seconds {
    /// The same for the rest of the program.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no duration like 45s, 1m30s or 1h");
        let (mut rest, mut total, mut units) = (text, 0_u64, UNITS.iter());
        while let Some(end) = rest.find(|letter: char| !letter.is_ascii_digit()) {
            let (number, unit) = rest.split_at_checked(end).ok_or_else(wrong)?;
            let letter = unit.chars().next().ok_or_else(wrong)?;
            let (_, worth) = units.find(|(known, _)| *known == letter).ok_or_else(wrong)?;
            let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*worth));
            total = seconds.and_then(|seconds| total.checked_add(seconds)).ok_or_else(wrong)?;
            rest = unit.get(letter.len_utf8()..).unwrap_or_default();
        }
        if rest.is_empty() && !text.is_empty() { Ok(Self(total)) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for Seconds {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Seconds> for String {
    fn from(seconds: Seconds) -> Self {
        seconds.to_string()
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        for (unit, worth) in UNITS {
            if left >= worth {
                write!(f, "{}{unit}", left / worth)?;
                left %= worth;
            }
        }
        if self.0 == 0 { f.write_str("0s") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_in_one_way() {
        for (text, seconds, again) in [
            ("45s", 45, "45s"),
            ("1m30s", 90, "1m30s"),
            ("90s", 90, "1m30s"),
            ("1h", 3600, "1h"),
            ("0s", 0, "0s"),
        ] {
            assert_eq!(text.parse(), Ok(Seconds(seconds)), "{text}");
            assert_eq!(Seconds(seconds).to_string(), again);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "45",
            "s",
            "45 s",
            "-1s",
            "+1s",
            "1.5s",
            "30s1m",
            "1s1s",
            "1d",
            "1ms",
            "1ä",
            "99999999999999999999s",
        ] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
        assert!(format!("{}h", u64::MAX).parse::<Seconds>().is_err());
    }
}
