//! What has happened on the node, newest last, in a ring of bounded size: the source of the control socket's events.
//!
//! Each event has a sequence number, from 1 in each life of PID 1, so that a client that comes back asks for what
//! came after the last one it has seen, and is told when that is not here any more. Nothing is stored: what must
//! outlive the node is in the logs.

use crate::clock::Time;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// How many events are kept: a whole boot has about fifty.
pub const EVENTS_MAX: usize = 256;
/// What they may take together. PID 1 aims at 250 KiB in all.
pub const BYTES_MAX: usize = 48 << 10;
/// The longest text; the end of a longer one is cut off. A failed stage's error with a path fits.
pub const TEXT_MAX: usize = 512;
/// What an event takes beside its texts: its place in the ring, and the heap's own needs for two texts.
const EVENT_COST: usize = 112;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A service: started, up, ended, …
    Service,
    /// The end of the node's life.
    Shutdown,
    /// Somebody has asked for something by the control socket.
    Control,
    /// The machine config.
    Config,
    /// PID 1 itself, and everything else.
    Node,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// From 1, without gaps, in the order of happening.
    pub seq: u64,
    /// Milliseconds since boot.
    pub at_ms: u64,
    /// What it is about.
    pub kind: Kind,
    /// The service it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Box<str>>,
    /// What that service is after it, as in the answer to `services`: where a service tells of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// One line.
    pub text: Box<str>,
}

/// Sequence numbers that are asked for and not here any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The first one that is missing.
    pub from: u64,
    /// The last one that is missing.
    pub to: u64,
}

/// The events that are kept.
#[derive(Debug, Default)]
pub struct Ring {
    events: VecDeque<Event>,
    /// How many there ever were, which is the last one's number.
    last: u64,
    bytes: usize,
}

impl Ring {
    /// Adds one; the oldest ones make room. Control characters become blanks, a long text is cut.
    pub fn push(&mut self, kind: Kind, service: Option<&str>, text: &str, now: Time) {
        self.push_state(kind, service, None, text, now);
    }

    fn push_state(
        &mut self,
        kind: Kind,
        service: Option<&str>,
        state: Option<&'static str>,
        text: &str,
        now: Time,
    ) {
        self.last += 1;
        let event = Event {
            seq: self.last,
            at_ms: millis(now),
            kind,
            service: service.map(|service| clean(service, TEXT_MAX)),
            state,
            text: clean(text, TEXT_MAX),
        };
        self.bytes += cost(&event);
        self.events.push_back(event);
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(cost(&oldest));
        }
    }

    /// Adds a line of the boot log. One that begins with a service's id, or with `shutdown`, is about that. `services`:
    /// all of them with their states.
    pub fn push_line<'a>(
        &mut self,
        line: &str,
        mut services: impl Iterator<Item = (&'a str, &'static str)>,
        now: Time,
    ) {
        let mut find = |about: &str| services.find(|(service, _)| *service == about);
        match line.split_once(": ") {
            Some(("shutdown", text)) => self.push(Kind::Shutdown, None, text, now),
            Some((about, text)) => match find(about) {
                Some((_, state)) => self.push_state(Kind::Service, Some(about), Some(state), text, now),
                None => self.push(other(line), None, line, now),
            },
            None => self.push(other(line), None, line, now),
        }
    }

    /// The number of the last event; 0 when there was none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// What came after number `since` and is not here any more.
    pub fn gap(&self, since: u64) -> Option<Gap> {
        let first = self.first();
        (since.saturating_add(1) < first).then(|| Gap { from: since + 1, to: first - 1 })
    }

    /// The first event after number `since` that is here.
    pub fn after(&self, since: u64) -> Option<&Event> {
        let place = since.saturating_add(1).saturating_sub(self.first());
        self.events.get(usize::try_from(place).ok()?)
    }

    /// The number of the oldest event that is here, or of the next one.
    fn first(&self) -> u64 {
        self.events.front().map_or(self.last + 1, |event| event.seq)
    }
}

/// Whole milliseconds.
pub fn millis(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One line without control characters, of at most `most` bytes.
pub fn clean(text: &str, most: usize) -> Box<str> {
    let cut = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= most).last();
    let text = text.get(..cut.unwrap_or(0)).unwrap_or_default();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into_boxed_str()
}

/// What a line is about that is no service's.
fn other(line: &str) -> Kind {
    let is_config = line.starts_with("config") || line.starts_with("back to config");
    if is_config { Kind::Config } else { Kind::Node }
}

fn cost(event: &Event) -> usize {
    EVENT_COST + event.text.len() + event.service.as_ref().map_or(0, |service| service.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn ring(count: usize) -> Ring {
        let mut ring = Ring::default();
        for n in 1..=count {
            ring.push(Kind::Node, None, &format!("event {n}"), Duration::from_millis(n as u64));
        }
        ring
    }

    fn numbers(ring: &Ring, mut since: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(event) = ring.after(since) {
            since = event.seq;
            numbers.push(since);
        }
        numbers
    }

    #[test]
    fn a_client_gets_what_came_after_the_last_one_it_has_seen() {
        let ring = ring(3);
        assert_eq!(numbers(&ring, 0), [1, 2, 3]);
        assert_eq!(numbers(&ring, 2), [3]);
        assert_eq!(numbers(&ring, 3), [0; 0]);
        assert_eq!((ring.gap(0), ring.gap(3), ring.last()), (None, None, 3));
        assert_eq!(numbers(&Ring::default(), 0), [0; 0]);
        assert_eq!(Ring::default().gap(0), None);
    }

    #[test]
    fn what_fell_out_is_told_as_a_gap() {
        let ring = ring(EVENTS_MAX + 10);
        assert_eq!(ring.gap(0), Some(Gap { from: 1, to: 10 }));
        assert_eq!(ring.gap(9), Some(Gap { from: 10, to: 10 }));
        assert_eq!(ring.gap(10), None);
        assert_eq!(numbers(&ring, 0).first(), Some(&11));
        assert_eq!(numbers(&ring, 0).len(), EVENTS_MAX);
    }

    #[test]
    fn a_number_that_was_not_given_yet_gives_nothing() {
        let ring = ring(3);
        assert_eq!(numbers(&ring, u64::MAX), [0; 0]);
        assert_eq!(ring.gap(u64::MAX), None);
    }

    #[test]
    fn a_line_is_about_the_service_it_begins_with() {
        let mut ring = Ring::default();
        let services = [("kubelet", "up"), ("log", "down")];
        for line in ["kubelet: up", "shutdown: reboot, asked by x", "other: down", "kubelet", "log: a: b"] {
            ring.push_line(line, services.into_iter(), Duration::ZERO);
        }
        let told: Vec<_> = ring
            .events
            .iter()
            .map(|event| (event.kind, event.service.as_deref(), event.state, &*event.text))
            .collect();
        assert_eq!(
            told,
            [
                (Kind::Service, Some("kubelet"), Some("up"), "up"),
                (Kind::Shutdown, None, None, "reboot, asked by x"),
                (Kind::Node, None, None, "other: down"),
                (Kind::Node, None, None, "kubelet"),
                (Kind::Service, Some("log"), Some("down"), "a: b"),
            ]
        );
    }

    #[test]
    fn a_text_is_one_line_of_bounded_length_cut_at_a_character() {
        assert_eq!(&*clean("a\nb\x1b[31m", 100), "a b [31m");
        assert_eq!(&*clean("aä漢", 2), "a");
        assert_eq!(&*clean("aä漢", 3), "aä");
        assert_eq!(&*clean("aä漢", 6), "aä漢");
        assert_eq!(&*clean("漢", 0), "");
    }

    #[test]
    fn an_event_is_one_json_object() {
        let mut ring = Ring::default();
        ring.push_line("log: up", [("log", "up")].into_iter(), Duration::from_micros(1_500));
        let json = serde_json::to_string(&ring.events).unwrap();
        assert_eq!(
            json,
            r#"[{"seq":1,"at_ms":1,"kind":"service","service":"log","state":"up","text":"up"}]"#
        );
    }

    proptest! {
        /// Whatever comes in: the bounds hold, numbers have no holes, and gap and events add up.
        #[test]
        fn the_ring_is_bounded_and_loses_only_the_oldest(lengths in prop::collection::vec(0_usize..900, 0..700)) {
            let mut ring = Ring::default();
            for length in &lengths {
                ring.push(Kind::Node, Some("service"), &"x".repeat(*length), Duration::ZERO);
            }
            prop_assert!(ring.events.len() <= EVENTS_MAX && ring.bytes <= BYTES_MAX);
            prop_assert_eq!(ring.bytes, ring.events.iter().map(cost).sum::<usize>());
            let lost = ring.gap(0).map_or(0, |gap| gap.to);
            let expected: Vec<u64> = (lost + 1..=lengths.len() as u64).collect();
            prop_assert_eq!(numbers(&ring, 0), expected);
        }
    }
}
