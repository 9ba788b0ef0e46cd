//! Time as the decisions see it: a span since boot that somebody hands in. Never the wall clock.

/// Time since boot (`CLOCK_BOOTTIME`), so that a jump of the wall clock or a suspend changes nothing.
pub type Time = std::time::Duration;
