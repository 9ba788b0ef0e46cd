//! When a service that ended is started again: at once, then later and later, never not at all.
//!
//! systemd, dinit and finit give up after some restarts; on an appliance that nobody logs in to, giving up is a
//! dead node. So the delay is bounded and the number of tries is not.
//!
//! Services that end together, for a reason that they share, must not come back together again and again. So a delay
//! is spread over its upper half; the spread comes from what is handed in, as there is no random source here.

use crate::clock::Time;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The delay after the second failure in a row; doubled after each further one.
pub const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The longest delay: short enough that a mended node is back within a coffee's sip, long enough to cost nothing.
pub const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A service that was up for this long starts with a clean slate.
pub const RESET_AFTER: Duration = Duration::from_secs(60);
/// With so many failures in a row it is a crash loop: one fault and its echo are fewer, and half a minute of waiting
/// does not pass before somebody is told.
pub const LOOP_FAILURES: u32 = 5;

/// The failures in a row of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay before the next start of `service`, after a life that ended at `now`: none after the first failure,
    /// then between half of [`full_delay`] and all of it. The same arguments give the same delay.
    ///
    /// `up_since`: when that life became ready, `None` when it never did.
    pub fn next(&mut self, service: &str, up_since: Option<Time>, now: Time) -> Duration {
        if up_since.is_some_and(|since| now.saturating_sub(since) >= RESET_AFTER) {
            self.failures = 0;
        }
        let full = full_delay(self.failures);
        let half = full / 2;
        self.failures = self.failures.saturating_add(1);
        (full - half) + half.mul_f64(spread(service, self.failures, now))
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It ends again and again.
    pub fn is_loop(&self) -> bool {
        self.failures >= LOOP_FAILURES
    }

    /// It was up for [`RESET_AFTER`].
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The longest delay after that many earlier failures in a row: none, [`FIRST_DELAY`], twice that, …,
/// [`LONGEST_DELAY`].
pub fn full_delay(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        // 2^8 * 0.2 s is past the longest delay; the shift stays far from overflow.
        n => FIRST_DELAY.saturating_mul(1 << (n - 1).min(8)).min(LONGEST_DELAY),
    }
}

/// From 0 to 1, alike for alike arguments.
fn spread(service: &str, failures: u32, now: Time) -> f64 {
    // Without keys of its own it is the same in every process.
    let mut hasher = DefaultHasher::new();
    (service, failures, now).hash(&mut hasher);
    let [low, high, ..] = hasher.finish().to_le_bytes();
    f64::from(u16::from_le_bytes([low, high])) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn first_restart_is_at_once_then_doubles_to_half_a_minute() {
        let full: Vec<u128> = (0..11).map(|failures| full_delay(failures).as_millis()).collect();
        assert_eq!(full, [0, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn a_minute_up_resets_it_and_less_does_not() {
        let mut backoff = Backoff::default();
        let start = Duration::from_secs(100);
        for _ in 0..4 {
            backoff.next("a", None, start);
        }
        assert!(!backoff.is_loop());
        let short = backoff.next("a", Some(start), start + Duration::from_secs(59));
        assert!(short >= full_delay(4) / 2 && backoff.is_loop(), "{short:?}");
        assert_eq!(backoff.next("a", Some(start), start + RESET_AFTER), Duration::ZERO);
        assert_eq!((backoff.failures(), backoff.is_loop()), (1, false));
    }

    #[test]
    fn never_gives_up() {
        let mut backoff = Backoff { failures: u32::MAX - 1 };
        for _ in 0..3 {
            assert!(backoff.next("a", None, Time::ZERO) <= LONGEST_DELAY);
        }
    }

    #[test]
    fn what_ends_together_comes_back_one_by_one() {
        let delay = |service: &str| Backoff { failures: 3 }.next(service, None, Duration::from_secs(9));
        let names: Vec<String> = (0..12).map(|n| format!("service-{n}")).collect();
        let delays: BTreeSet<Duration> = names.iter().map(|name| delay(name)).collect();
        assert_eq!(delays.len(), names.len(), "{delays:?}");
        let (first, last) = (delays.first().unwrap(), delays.last().unwrap());
        assert!(*last - *first > full_delay(3) / 4, "{delays:?}");
        assert_eq!(delay("kubelet"), delay("kubelet"), "and alike for alike arguments");
    }

    proptest! {
        #[test]
        fn a_delay_is_between_half_and_all_of_the_documented_one(
            failures in 0_u32..40, service in "[a-z]{1,8}", at in 0_u64..u64::MAX / 2,
        ) {
            let delay = Backoff { failures }.next(&service, None, Duration::from_nanos(at));
            prop_assert!(delay >= full_delay(failures) / 2 && delay <= full_delay(failures), "{:?}", delay);
        }
    }
}
