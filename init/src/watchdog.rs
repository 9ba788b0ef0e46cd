//! The watchdog: a device that resets the machine when nobody feeds it. When it is fed, and what the kernel word says.
//!
//! PID 1 feeds it once an interval from its loop, so a loop that does not turn feeds nothing. A loop that turns and
//! leaves a deadline undone is not sane either, and feeds nothing as well.

use crate::clock::Time;
use std::time::Duration;

/// The first watchdog of the machine.
const DEVICE: &str = "/dev/watchdog0";
/// As Talos has it without a `timeout`. All that the end of the node does without the loop is fed too, so it need not be
/// longer than the longest pause of a machine that is merely busy.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Of less a busy machine would be reset; of more no device is known.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(3600);
/// Feeds within a timeout: one may come late, and one be lost.
const FEEDS: u32 = 3;
/// Such a part of the timeout a deadline may be overdue: a turn handles what is due, so one that stays is a fault.
const OVERDUE: u32 = 2;

/// Which device, and after how long without food it acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// An absolute path.
    pub device: String,
    /// In whole seconds.
    pub timeout: Duration,
}

impl Default for Setting {
    fn default() -> Self {
        Self { device: DEVICE.to_owned(), timeout: TIMEOUT }
    }
}

/// What somebody has said about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// Nothing: the first device of a machine, none in a container, where the device is the host's.
    #[default]
    Unsaid,
    /// None is used.
    Off,
    /// This one.
    Use(Setting),
}

impl Choice {
    /// Reads `off`, or a device, a timeout or both with a comma: `/dev/watchdog1,5m`.
    pub fn parse(value: &str) -> Option<Self> {
        if value == "off" {
            return Some(Self::Off);
        }
        let mut setting = Setting::default();
        for part in value.splitn(2, ',') {
            match part.starts_with('/') {
                true => part.clone_into(&mut setting.device),
                false => setting.timeout = duration(part).filter(|timeout| TIMEOUTS.contains(timeout))?,
            }
        }
        Some(Self::Use(setting))
    }

    /// The one that is used.
    pub fn setting(self, container: bool) -> Option<Setting> {
        match self {
            Self::Unsaid => (!container).then(Setting::default),
            Self::Off => None,
            Self::Use(setting) => Some(setting),
        }
    }
}

/// A whole number of seconds, minutes or hours: `90s`, `5m`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

/// What is to be done at the end of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Feed it.
    Feed,
    /// Nothing yet.
    Wait,
    /// Do not feed it: a deadline has been left undone for so long.
    Starve(Duration),
}

/// When it is fed.
#[derive(Debug)]
pub struct Feeder {
    timeout: Duration,
    next: Time,
}

impl Feeder {
    /// It was fed, or armed, `now`.
    pub fn new(timeout: Duration, now: Time) -> Self {
        Self { timeout, next: now + timeout / FEEDS }
    }

    /// When it is to be fed next.
    pub fn deadline(&self) -> Time {
        self.next
    }

    /// `earliest`: of all other deadlines, after those that had come were handled.
    pub fn due(&mut self, earliest: Option<Time>, now: Time) -> Due {
        if now < self.next {
            return Due::Wait;
        }
        self.next = now + self.timeout / FEEDS;
        let overdue = earliest.map_or(Duration::ZERO, |earliest| now.saturating_sub(earliest));
        if overdue > self.timeout / OVERDUE { Due::Starve(overdue) } else { Due::Feed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_fed_three_times_within_a_timeout_and_not_more() {
        let mut feeder = Feeder::new(at(60), at(0));
        let mut fed = 0;
        for now in 0..=600 {
            assert!(feeder.deadline() >= at(now) && feeder.deadline() <= at(now + 20));
            fed += u32::from(feeder.due(None, at(now)) == Due::Feed);
        }
        assert_eq!(fed, 30);
    }

    #[test]
    fn a_deadline_that_is_left_undone_starves_it() {
        let mut feeder = Feeder::new(at(60), at(0));
        assert_eq!(feeder.due(Some(at(19)), at(20)), Due::Feed);
        assert_eq!(feeder.due(Some(at(19)), at(40)), Due::Feed);
        assert_eq!(feeder.due(Some(at(19)), at(60)), Due::Starve(at(41)));
        // Not in every turn of a loop that spins.
        assert_eq!(feeder.due(Some(at(19)), at(61)), Due::Wait);
        assert_eq!(feeder.due(Some(at(500)), at(80)), Due::Feed);
    }

    #[test]
    fn the_word_names_a_device_a_timeout_both_or_none() {
        let used = |device: &str, seconds| {
            Some(Choice::Use(Setting { device: device.to_owned(), timeout: at(seconds) }))
        };
        for (word, expected) in [
            ("off", Some(Choice::Off)),
            ("/dev/watchdog1", used("/dev/watchdog1", 60)),
            ("5m", used("/dev/watchdog0", 300)),
            ("/dev/watchdog1,1h", used("/dev/watchdog1", 3600)),
            ("10s,/dev/watchdog", used("/dev/watchdog", 10)),
            ("2s", None),
            ("2h", None),
            ("60", None),
            ("on", None),
            ("", None),
            ("\u{e4}", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(Choice::parse(word), expected, "{word}");
        }
    }

    #[test]
    fn a_container_leaves_its_hosts_device_alone_unless_told() {
        assert_eq!(Choice::Unsaid.setting(true), None);
        assert_eq!(Choice::Unsaid.setting(false), Some(Setting::default()));
        assert_eq!(Choice::Off.setting(false), None);
        assert_eq!(Choice::Use(Setting::default()).setting(true), Some(Setting::default()));
    }
}
