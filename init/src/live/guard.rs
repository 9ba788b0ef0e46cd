//! What is done at once for a kubelet that may hang on something in the manifest directory, and how often at most.
//!
//! It does not wait for a change that runs, nor for the rest between changes: a kubelet whose file source hangs sees no
//! manifest any more. [`Guard::step`] never blocks, fails or reads a clock; only the reactor performs an [`Action`].

use crate::clock::Time;
use std::time::Duration;

/// From one restart of the kubelet to the next: whoever makes and removes FIFOs in a loop costs the node its kubelet
/// for some seconds a minute, not for good. A config's proof takes half of that.
pub const RESTART_REST: Duration = Duration::from_secs(60);
/// From one look to the next: a process each, ten a second at most.
pub const LOOK_REST: Duration = Duration::from_millis(100);
/// From a look that failed to the next: what kept it (no memory) may pass.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Something that can hang a kubelet stands in the directory.
    Blocking,
    /// Something that can was there, and is gone.
    CameAndWent,
    /// The look has ended, well or not.
    Looked(bool),
    /// [`Guard::deadline`] has come.
    Deadline,
}

/// What the reactor shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Move it out of sight.
    Unblock,
    /// Start the kubelet anew.
    Restart,
}

/// All that is kept between two events.
#[derive(Debug, Default)]
pub struct Guard {
    look: bool,
    looking: bool,
    look_at: Time,
    restart: bool,
    restart_at: Time,
}

impl Guard {
    /// Takes one event.
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Action> {
        match event {
            Event::Blocking => self.look = true,
            Event::CameAndWent => self.restart = true,
            Event::Looked(well) => {
                self.looking = false;
                self.look |= !well;
                self.look_at = now + if well { LOOK_REST } else { RETRY_DELAY };
            }
            Event::Deadline => {}
        }
        let mut actions = Vec::new();
        if self.look && !self.looking && now >= self.look_at {
            (self.look, self.looking) = (false, true);
            actions.push(Action::Unblock);
        }
        if self.restart && now >= self.restart_at {
            (self.restart, self.restart_at) = (false, now + RESTART_REST);
            actions.push(Action::Restart);
        }
        actions
    }

    /// When [`Event::Deadline`] is due, if ever.
    pub fn deadline(&self) -> Option<Time> {
        let look = (self.look && !self.looking).then_some(self.look_at);
        let restart = self.restart.then_some(self.restart_at);
        look.into_iter().chain(restart).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_is_answered_at_once_and_one_look_at_a_time() {
        let mut guard = Guard::default();
        assert_eq!(guard.step(Event::Blocking, at(5)), [Action::Unblock]);
        assert_eq!(guard.step(Event::Blocking, at(6)), [], "what came meanwhile is not lost");
        assert_eq!(guard.deadline(), None);
        assert_eq!(guard.step(Event::Looked(true), at(20)), []);
        assert_eq!(guard.deadline(), Some(at(20) + LOOK_REST));
        assert_eq!(guard.step(Event::Deadline, at(20) + LOOK_REST), [Action::Unblock]);
        guard.step(Event::Looked(true), at(200));
        assert_eq!(guard.deadline(), None);
    }

    #[test]
    fn a_look_that_failed_is_tried_again() {
        let mut guard = Guard::default();
        guard.step(Event::Blocking, at(0));
        guard.step(Event::Looked(false), at(1));
        assert_eq!(guard.deadline(), Some(at(1) + RETRY_DELAY));
        assert_eq!(guard.step(Event::Deadline, at(1) + RETRY_DELAY), [Action::Unblock]);
    }

    #[test]
    fn a_loop_of_others_does_not_keep_the_kubelet_down() {
        let mut guard = Guard::default();
        let restarts: Vec<u64> = (0..600_000)
            .step_by(100)
            .filter(|now| guard.step(Event::CameAndWent, at(*now)).contains(&Action::Restart))
            .collect();
        assert_eq!(restarts.len(), 10);
        assert_eq!(restarts.first(), Some(&0), "the first at once");
        assert_eq!(guard.deadline(), Some(at(600_000)), "and the last is not forgotten");
    }
}
