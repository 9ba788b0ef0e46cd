//! Times as people read them: how long ago, a date, and durations as flags take them (`1m30s`). It reads no clock: now
//! is an argument.

use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Half a year, after which a listing of files shows the year and no seconds.
const SIX_MONTHS: i64 = 180 * 86400;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A message's time; `None` when it is absent or no time at all.
pub fn of(stamp: Option<&prost_types::Timestamp>) -> Option<OffsetDateTime> {
    let stamp = stamp?;
    let nanos = i128::from(stamp.seconds) * 1_000_000_000 + i128::from(stamp.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
}

/// `2026-01-02T03:04:05Z`.
pub fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

/// How long ago, in whole seconds: `1h2m3s`. What is in the future is `0s` ago.
pub fn ago(now: OffsetDateTime, then: OffsetDateTime) -> String {
    let seconds = (now - then).as_seconds_f64().round().max(0.0);
    compact(Duration::from_secs_f64(seconds))
}

/// A duration in hours, minutes and seconds: `36h0m5s`, `2m0s`, `7s`.
pub fn compact(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A date of a file: with the time of day while it is young, with the year when it is old. In UTC.
pub fn of_file(now: OffsetDateTime, seconds: i64) -> String {
    let Ok(time) = OffsetDateTime::from_unix_timestamp(seconds) else { return String::new() };
    let month = MONTHS[usize::from(u8::from(time.month())) - 1];
    let (day, hour, minute, second) = (time.day(), time.hour(), time.minute(), time.second());
    if now.unix_timestamp() - seconds < SIX_MONTHS {
        format!("{month} {day:>2} {hour:02}:{minute:02}:{second:02}")
    } else {
        format!("{month} {day:>2} {} {hour:02}:{minute:02}", time.year())
    }
}

/// The longest duration that a flag takes: nobody waits longer, and every clock can count it.
const LONGEST: Duration = Duration::from_secs(366 * 86400);

/// A duration from a flag: numbers with `h`, `m`, `s` or `ms` behind, e.g. `1m30s`; a bare number is seconds.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write it as 90s, 1m30s or 2h");
    let bounded = |duration: Duration| {
        let longest = || format!("{text:?} is too long; at most {}h", LONGEST.as_secs() / 3600);
        (duration <= LONGEST).then_some(duration).ok_or_else(longest)
    };
    if let Ok(seconds) = text.parse::<u64>() {
        return bounded(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let seconds = match &unit[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &unit[end..];
    }
    if text.is_empty() { Err(wrong()) } else { bounded(total) }
}

/// Bytes with a unit, in powers of a thousand: `83 MB`, `4.1 kB`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 10 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    let digits = if value < 10.0 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn durations_have_seconds_and_no_days() {
        assert_eq!(ago(at(100), at(93)), "7s");
        assert_eq!(ago(at(1000), at(880)), "2m0s");
        assert_eq!(ago(at(200_000), at(200_000 - 36 * 3600 - 5)), "36h0m5s");
        assert_eq!(ago(at(5), at(9)), "0s");
    }

    #[test]
    fn flags_take_what_is_shown() {
        for (text, seconds) in
            [("90", 90.0), ("1m30s", 90.0), ("2h", 7200.0), ("500ms", 0.5), ("1.5h", 5400.0)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_secs_f64(seconds), "{text}");
        }
        let most = format!("{}ms{}ms", u64::MAX, u64::MAX);
        let wrong = [
            "",
            "x",
            "5x",
            "-3s",
            "1m30",
            "s",
            "18446744073709551615",
            "9999999h",
            "5000000000000000h5000000000000000h",
            &most,
        ];
        for wrong in wrong {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn young_files_have_seconds_and_old_ones_a_year() {
        assert_eq!(of_file(at(1_700_000_100), 1_700_000_000), "Nov 14 22:13:20");
        assert_eq!(of_file(at(1_700_000_100), 0), "Jan  1 1970 00:00");
    }

    #[test]
    fn bytes_have_at_most_three_digits() {
        for (count, text) in [(0, "0 B"), (82_854_982, "83 MB"), (4096, "4.1 kB"), (999, "999 B")] {
            assert_eq!(bytes(count), text);
        }
    }
}
