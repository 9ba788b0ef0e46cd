//! The watchdog in the loop: armed as soon as its device is there, fed once an interval from then on.

use super::Reactor;
use crate::sys::{clock, watchdog};
use podium_init::clock::Time;
use podium_init::watchdog::{Due, Feeder, Setting};

/// What the loop knows of it.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// The one to use; taken once it is armed, or cannot be.
    wanted: Option<Setting>,
    feeder: Option<Feeder>,
}

impl Watchdog {
    pub(super) fn new(wanted: Option<Setting>) -> Self {
        Self { wanted, feeder: None }
    }

    /// When it is to be fed next.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.feeder.as_ref().map(Feeder::deadline)
    }
}

impl Reactor {
    /// Arms it, if its device is there by now.
    pub(super) fn arm_watchdog(&mut self) {
        let Some(Setting { device, timeout }) = self.watchdog.wanted.clone() else { return };
        let line = match watchdog::arm(&device, timeout) {
            Ok(None) => return,
            Ok(Some(timeout)) => {
                self.watchdog.feeder = Some(Feeder::new(timeout, clock::now()));
                let identity = watchdog::identity(&device).unwrap_or_else(|| "unknown".to_owned());
                format!("watchdog: {device} ({identity}) resets after {} s", timeout.as_secs())
            }
            Err(error) => format!("watchdog: {error}; a machine that hangs is not reset"),
        };
        self.watchdog.wanted = None;
        self.say(line);
    }

    /// Feeds it at the end of a turn, unless something that was due was left undone.
    pub(super) fn feed_watchdog(&mut self, now: Time) {
        let earliest = self.deadline();
        let Some(feeder) = &mut self.watchdog.feeder else { return };
        match feeder.due(earliest, now) {
            Due::Wait => {}
            Due::Feed => {
                if let Err(error) = watchdog::feed() {
                    self.say(format!("watchdog: {error}"));
                }
            }
            Due::Starve(overdue) => {
                self.say(format!("watchdog: not fed: what was due is overdue by {} s", overdue.as_secs()));
            }
        }
    }
}
