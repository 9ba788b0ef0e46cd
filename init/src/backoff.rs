//! When a service that ended is started again: at once, then later and later, never not at all.
//!
//! systemd, dinit and finit give up after some restarts; on an appliance that nobody logs in to, giving up is a
//! dead node. So the delay is bounded and the number of tries is not.

use crate::clock::Time;
use std::time::Duration;

/// The delay after the second failure in a row; doubled after each further one.
pub const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The longest delay: short enough that a mended node is back within a coffee's sip, long enough to cost nothing.
pub const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A service that was up for this long starts with a clean slate.
pub const RESET_AFTER: Duration = Duration::from_secs(60);

/// The failures in a row of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay before the next start, after a life that ended at `now`.
    ///
    /// `up_since`: when that life became ready, `None` when it never did.
    pub fn next(&mut self, up_since: Option<Time>, now: Time) -> Duration {
        if up_since.is_some_and(|since| now.saturating_sub(since) >= RESET_AFTER) {
            self.failures = 0;
        }
        let delay = match self.failures {
            0 => Duration::ZERO,
            // 2^8 * 0.2 s is past the longest delay; the shift stays far from overflow.
            n => FIRST_DELAY.saturating_mul(1 << (n - 1).min(8)).min(LONGEST_DELAY),
        };
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(count: usize) -> Vec<u128> {
        let mut backoff = Backoff::default();
        (0..count).map(|_| backoff.next(None, Time::ZERO).as_millis()).collect()
    }

    #[test]
    fn first_restart_is_at_once_then_doubles_to_half_a_minute() {
        assert_eq!(delays(11), [0, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn a_minute_up_resets_it_and_less_does_not() {
        let mut backoff = Backoff::default();
        let start = Duration::from_secs(100);
        for _ in 0..4 {
            backoff.next(None, start);
        }
        let short = backoff.next(Some(start), start + Duration::from_secs(59));
        assert_eq!(short, Duration::from_millis(1_600));
        assert_eq!(backoff.next(Some(start), start + RESET_AFTER), Duration::ZERO);
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn never_gives_up() {
        let mut backoff = Backoff { failures: u32::MAX - 1 };
        for _ in 0..3 {
            assert_eq!(backoff.next(None, Time::ZERO), LONGEST_DELAY);
        }
    }
}
