//! The time that the last acts have, and those who want it shorter: a request for the end is heard here too.
//!
//! The loop is over, so its sources are: of all that could ask only signals are left, Ctrl-Alt-Del among them.

use crate::kmsg;
use crate::sys::clock;
use crate::sys::signals::{self, Signals};
use podium_init::clock::Time;
use podium_init::shutdown::{LastActs, request};
use std::time::Duration;

/// The last acts under way.
#[derive(Debug)]
pub(super) struct Ending {
    last: LastActs,
    /// They were blocked by the loop, so none was lost in between. Without a descriptor nobody can hurry us.
    signals: Option<Signals>,
}

impl Ending {
    pub(super) fn begin(last: LastActs) -> Self {
        Self { last, signals: signals::receive(&signals::all()).ok() }
    }

    /// What is left of the time.
    pub(super) fn left(&self) -> Duration {
        self.last.left(clock::now())
    }

    /// See [`LastActs::share`].
    pub(super) fn share(&mut self, shares: u32, most: Duration) -> Duration {
        self.hear();
        self.last.share(shares, most, clock::now())
    }

    /// The end of an act that has one of so many shares: sooner once somebody has asked again.
    pub(super) fn shortened(&mut self, until: Time, shares: u32) -> Time {
        let shares = if self.hear() { shares } else { 1 };
        until.min(clock::now() + self.last.share(shares, Duration::MAX, clock::now()))
    }

    /// Takes the signals that wait; whether one of them asks for the end.
    fn hear(&mut self) -> bool {
        let mut is_asked = false;
        for signal in self.signals.as_ref().map(Signals::take).unwrap_or_default() {
            if let Some((_, by)) = request(signal) {
                self.last.hurry(clock::now());
                kmsg::say(&format!("halt: asked again by {by}, going quicker"));
                is_asked = true;
            }
        }
        is_asked
    }
}
