//! What `bin/gauge.rs` has measured of the init that it runs under, and how it tells: one line on the console.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Before the JSON of a [`Measured`].
pub const MEASURED: &str = "gauge: measured ";
/// Before the words of what went wrong.
pub const FAILED: &str = "gauge: failed: ";
/// Between two kills: an init that takes a minute up for a life of its own has forgotten the last one.
pub const BETWEEN_KILLS_SECONDS: u64 = 61;
/// How long PID 1 is left alone and its wake-ups are counted.
pub const IDLE_SECONDS: u64 = 20;
/// How many processes lose their parent and end at once.
pub const ORPHANS: usize = 1000;

/// What was seen of an init from inside its machine; times are guest time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The kernel's execution of PID 1 to the first line of a service.
    pub exec_to_service_ms: f64,
    /// SIGKILL to the first line of the next life, kill by kill.
    pub restarts_ms: Vec<f64>,
    /// The end of [`ORPHANS`] orphans to the last one's burial.
    pub reap_1000_ms: f64,
    /// PID 1's own memory (`Pss_Anon`).
    pub pss_anon_kib: u64,
    /// `Pss` of PID 1 and of the init's other processes.
    pub pss_kib: u64,
    /// How many these are, with PID 1.
    pub processes: usize,
    /// How often PID 1 has slept in [`IDLE_SECONDS`], so was woken.
    pub idle_wakeups: u64,
}

/// A record of /dev/kmsg: its stamp in microseconds, and its text.
#[must_use]
pub fn record(raw: &str) -> Option<(u64, &str)> {
    // `6,339,5140900,-;Run /sbin/init as init process`, then lines that begin with a space.
    let (head, text) = raw.split_once(';')?;
    let stamp = head.split(',').nth(2)?.parse().ok()?;
    Some((stamp, text.lines().next()?))
}

/// A number of a file such as /proc/PID/status or smaps_rollup: `name:   123 kB`.
///
/// # Errors
/// It is not there.
pub fn field(text: &str, name: &str) -> Result<u64> {
    let value =
        |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok();
    text.lines().find_map(value).with_context(|| format!("no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_stamp_and_a_first_line() {
        let raw = "6,339,5140900,-;Run /sbin/init as init process\n SUBSYSTEM=x\n";
        assert_eq!(record(raw), Some((5_140_900, "Run /sbin/init as init process")));
        assert_eq!(record("no record"), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Pss_Anon:        68 kB\nPss:        1030 kB\nvoluntary_ctxt_switches:\t12\n";
        assert_eq!(field(text, "Pss").unwrap(), 1030);
        assert_eq!(field(text, "voluntary_ctxt_switches").unwrap(), 12);
        assert!(field(text, "Pss_").is_err());
    }
}
