//! How much patience PID 1 has with the console. The kernel writes a line to it in the time of who says it, and waits
//! up to 10 ms for each byte that a serial port does not take (`wait_for_xmitr` in 8250_port.c): with a reader that
//! has stopped, a line costs a second, and a shutdown minutes. Decides only; whoever writes the lines tells what they cost.

use crate::clock::Time;
use std::time::Duration;

/// Of our own processor's time, which the kernel spends turning around. 9600 baud need 1 ms.
const MOST_A_BYTE: Duration = Duration::from_millis(3);
/// The kernel writes its stamp before each line.
const STAMP: usize = 16;
/// Somebody else's line that ours has to wait for, at 9600 baud.
const FOREIGN: Duration = Duration::from_millis(120);
/// One alone may have had to write what others had said before it.
const SLOW_IN_A_ROW: u32 = 2;
/// A line that tries in vain costs a second again.
const REST: Duration = Duration::from_secs(60);

/// What has become of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new.
    Same,
    /// It is to get no lines from now on.
    Stalled,
    /// It was tried, and does not take them yet.
    StillStalled,
    /// It takes lines again.
    Back,
}

/// What is known of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It takes lines; so many in a row were slow.
    Open(u32),
    /// It gets none since then.
    Resting(Time),
}

impl Patience {
    /// Asked before each line: whether the console gets it.
    #[must_use]
    pub fn offers(self, now: Time) -> bool {
        match self {
            Self::Open(_) => true,
            Self::Resting(since) => now.saturating_sub(since) >= REST,
        }
    }

    /// A line of `bytes` has cost so much of the writer's processor time; one that the kernel was not to show proves
    /// nothing when it cost nothing.
    pub fn spent(&mut self, bytes: usize, is_shown: bool, cost: Duration, now: Time) -> Verdict {
        let bytes = u32::try_from(bytes.saturating_add(STAMP)).unwrap_or(u32::MAX);
        let is_slow = cost > MOST_A_BYTE.saturating_mul(bytes).saturating_add(FOREIGN);
        let (next, verdict) = match (*self, is_slow) {
            (Self::Open(slow), false) if !is_shown => (Self::Open(slow), Verdict::Same),
            (Self::Resting(since), false) if !is_shown => (Self::Resting(since), Verdict::StillStalled),
            (Self::Open(_), false) => (Self::Open(0), Verdict::Same),
            (Self::Open(slow), true) if slow + 1 < SLOW_IN_A_ROW => (Self::Open(slow + 1), Verdict::Same),
            (Self::Open(_), true) => (Self::Resting(now), Verdict::Stalled),
            (Self::Resting(_), true) => (Self::Resting(now), Verdict::StillStalled),
            (Self::Resting(_), false) => (Self::Open(0), Verdict::Back),
        };
        *self = next;
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: usize = 80;
    const STUCK: Duration = Duration::from_millis(800);
    const SLOW_PORT: Duration = Duration::from_millis(84);

    fn at(seconds: u64) -> Time {
        Time::from_secs(seconds)
    }

    #[test]
    fn a_slow_port_is_no_stalled_one() {
        let mut patience = Patience::Open(0);
        for second in 0..100 {
            assert_eq!(patience.spent(LINE, true, SLOW_PORT, at(second)), Verdict::Same);
            assert!(patience.offers(at(second)));
        }
    }

    #[test]
    fn one_line_that_had_to_write_a_backlog_changes_nothing() {
        let mut patience = Patience::Open(0);
        for second in 0..100 {
            let cost = if second % 2 == 0 { STUCK } else { SLOW_PORT };
            assert_eq!(patience.spent(LINE, true, cost, at(second)), Verdict::Same);
        }
    }

    #[test]
    fn a_stalled_one_is_tried_once_a_minute_until_it_takes_a_line() {
        let mut patience = Patience::Open(0);
        assert_eq!(patience.spent(LINE, true, STUCK, at(0)), Verdict::Same);
        assert_eq!(patience.spent(LINE, true, STUCK, at(1)), Verdict::Stalled);
        assert!(!patience.offers(at(60)));
        assert!(patience.offers(at(61)));
        assert_eq!(patience.spent(LINE, true, STUCK, at(62)), Verdict::StillStalled);
        assert!(!patience.offers(at(121)));
        assert!(patience.offers(at(122)));
        assert_eq!(patience.spent(LINE, true, SLOW_PORT, at(123)), Verdict::Back);
        assert!(patience.offers(at(123)));
        assert_eq!(patience.spent(LINE, true, STUCK, at(124)), Verdict::Same);
    }

    #[test]
    fn a_short_line_that_waited_for_a_long_one_of_somebody_else_changes_nothing() {
        let mut patience = Patience::Open(0);
        for second in 0..100 {
            assert_eq!(patience.spent(30, true, Duration::from_millis(150), at(second)), Verdict::Same);
        }
        // At 10 ms a byte it takes three times that.
        assert_eq!(patience.spent(30, true, Duration::from_millis(450), at(100)), Verdict::Same);
        assert_eq!(patience.spent(30, true, Duration::from_millis(450), at(101)), Verdict::Stalled);
    }

    #[test]
    fn a_line_that_is_not_shown_proves_nothing() {
        let mut patience = Patience::Open(0);
        assert_eq!(patience.spent(LINE, true, STUCK, at(0)), Verdict::Same);
        assert_eq!(patience.spent(LINE, false, Duration::ZERO, at(1)), Verdict::Same);
        assert_eq!(patience.spent(LINE, true, STUCK, at(2)), Verdict::Stalled);
        assert_eq!(patience.spent(LINE, false, Duration::ZERO, at(63)), Verdict::StillStalled);
        assert!(patience.offers(at(64)));
        assert_eq!(patience.spent(LINE, true, SLOW_PORT, at(64)), Verdict::Back);
    }
}
