//! What services say on their notify sockets: readiness for the supervisor, words for the console.
//!
//! Each socket gives a bounded number of messages a turn. What a message may mean is decided in the library
//! (`notices.rs`). Nobody's word changes what PID 1 signals, but for two: the prober's of the health of others, and
//! containerd's that its images are gone.

use super::Reactor;
use crate::sys::clock;
use podium_init::clock::Time;
use podium_init::notices::{self, MESSAGE_MAX, Notice};
use podium_init::services::{API, CONTAINERD, KUBELET, PRELOAD, PROBE};
use podium_init::supervisor::{Event, Id};

/// Messages of one service a turn; a service that floods its socket fills only its own queue.
const MESSAGES_A_TURN: usize = 16;

impl Reactor {
    /// Takes what a service has said.
    pub(super) fn hear(&mut self, id: Id) {
        let mut buffer = [0; MESSAGE_MAX];
        for _ in 0..MESSAGES_A_TURN {
            let socket = self.places.get(id.0).and_then(|place| place.socket.as_ref());
            let Some(message) = socket.and_then(|socket| socket.receive(&mut buffer)) else { return };
            for notice in notices::parse(message) {
                match notice {
                    Notice::Ready => {
                        // It may have been the driver's.
                        self.arm_watchdog();
                        self.step(Event::Ready(id));
                    }
                    Notice::Executed => self.executed(id),
                    Notice::Anew => self.import_again(id),
                    Notice::StageFailed(text) => self.stage_failed(id, text),
                    Notice::Pods(up) => self.pods_are(id, up),
                    Notice::Status(words) => self.take_status(id, words),
                    Notice::Health { service, asked, failure } => {
                        self.take_health(id, service, asked, failure);
                    }
                }
            }
        }
    }

    /// The services that the console has to speak for: whoever stands before a node without a config learns from one
    /// where the node can be given one, containerd's and the kubelet's tell of what had to be moved out of their way.
    fn take_status(&mut self, id: Id, words: &str) {
        let Some(place) = self.places.get_mut(id.0).filter(|place| speaks(&place.service)) else { return };
        if let Some(line) = place.status.line(words, clock::now()) {
            let line = format!("{}: {line}", place.service);
            self.say(line);
        }
    }

    /// What the prober says; nobody else's word for another service counts.
    fn take_health(&mut self, id: Id, service: &str, asked: Time, failure: Option<&str>) {
        if self.places.get(id.0).is_none_or(|place| place.service != PROBE) {
            return;
        }
        if let Some(of) = self.places.iter().position(|place| place.service == service) {
            self.step(Event::Probed(Id(of), asked, failure.map(str::to_owned)));
        }
    }

    /// containerd has lost its images: the step that was done is to be done again.
    fn import_again(&mut self, id: Id) {
        let is = |id: usize, name: &str| self.places.get(id).is_some_and(|place| place.service == name);
        if is(id.0, CONTAINERD)
            && let Some(preload) = (0..self.places.len()).find(|place| is(*place, PRELOAD))
        {
            self.step(Event::Restart(Id(preload)));
        }
    }

    fn executed(&mut self, id: Id) {
        let Some(place) = self.places.get_mut(id.0).filter(|place| !place.is_executed) else { return };
        place.is_executed = true;
        let line = format!("{}: exec", place.service);
        self.say(line);
        self.step(Event::Executed(id));
    }

    fn stage_failed(&mut self, id: Id, text: &str) {
        let Some(place) = self.places.get_mut(id.0).filter(|place| !place.has_failed) else { return };
        place.has_failed = true;
        self.step(Event::StageFailed(id, text.to_owned()));
    }
}

/// Whether a service may say a line on the console, by `STATUS=`.
fn speaks(service: &str) -> bool {
    [API, CONTAINERD, KUBELET].contains(&service)
}
