//! Time since boot. The wall clock is never asked for a decision: it jumps.

use podium_init::clock::Time;
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`: starts with the kernel, goes on in a suspend, cannot be set.
pub(crate) fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    // Neither is ever negative for this clock.
    Time::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}
