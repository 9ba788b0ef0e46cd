//! How often somebody has asked for the end: the second request makes it quicker, many at once skip everything.

use crate::clock::Time;
use std::time::Duration;

/// This many requests within [`AT_ONCE_WITHIN`] skip every phase.
pub(super) const AT_ONCE_REQUESTS: usize = 7;
/// See [`AT_ONCE_REQUESTS`].
const AT_ONCE_WITHIN: Duration = Duration::from_secs(2);

/// The last ones, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Requests([Option<Time>; AT_ONCE_REQUESTS]);

impl Requests {
    /// Counts one; true when it is the last of many at once.
    pub(super) fn add(&mut self, now: Time) -> bool {
        self.0.rotate_right(1);
        if let Some(newest) = self.0.first_mut() {
            *newest = Some(now);
        }
        self.0.iter().all(|at| at.is_some_and(|at| now.saturating_sub(at) <= AT_ONCE_WITHIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_in_two_seconds_are_at_once_and_seven_slow_ones_are_not() {
        let last = |pause: u64| {
            let mut requests = Requests::default();
            (0..7).map(|n| requests.add(Duration::from_millis(n * pause))).collect::<Vec<_>>()
        };
        assert_eq!(last(300), [false, false, false, false, false, false, true]);
        assert_eq!(last(350), [false; 7]);
    }
}
