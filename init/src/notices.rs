//! What a service says on its `$NOTIFY_SOCKET`: text of sd_notify(3) in, notices out.
//!
//! Words that are not for us (`MAINPID=`, `FDSTORE=1`, …) are passed over: the chain loader makes the main process
//! known, and what a service says does not change what PID 1 signals, but for the prober's word of the health of others and
//! containerd's that its images are gone.

use crate::clock::Time;
use std::time::Duration;

/// The longest message that is looked at; what follows is cut off. sd_notify's own users stay far below.
pub const MESSAGE_MAX: usize = 4096;
/// The chain loader says this right before it executes the program.
pub const EXECUTED: &str = "PODIUM_EXEC=1";
/// The chain loader says this, with the stage and the error behind it, when it gives up.
pub const FAILED: &str = "PODIUM_FAILED=";

/// `init pods` says this with `1` behind it when all pods run, with `0` when that is over.
pub const PODS: &str = "PODIUM_PODS=";

/// The prober says this of another service; [`health`] writes it, and what follows it stands there.
const HEALTH: &str = "PODIUM_HEALTH=";

/// The chain loader says this when containerd begins without its images: the image's own are imported once more.
pub const ANEW: &str = "PODIUM_ANEW=1";

/// A service says in words what it does; [`Status`] makes lines of them.
pub const STATUS: &str = "STATUS=";
/// The longest line that comes of a status: an address and a fingerprint fit.
pub const STATUS_MAX: usize = 240;
/// So many lines come of one service's statuses within [`STATUS_SPAN`]; what it says beyond is dropped.
pub const STATUS_BURST: usize = 6;
/// See [`STATUS_BURST`].
pub const STATUS_SPAN: Duration = Duration::from_secs(60);

/// One thing a service said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    /// `READY=1`.
    Ready,
    /// [`EXECUTED`].
    Executed,
    /// [`FAILED`]: stage and error.
    StageFailed(&'a str),
    /// [`ANEW`].
    Anew,
    /// [`PODS`]: whether all pods run.
    Pods(bool),
    /// `STATUS=`: words for people.
    Status(&'a str),
    /// What [`health`] has written.
    Health {
        /// The service that was asked.
        service: &'a str,
        /// When the question was put.
        asked: Time,
        /// What was wrong; `None`: it is healthy.
        failure: Option<&'a str>,
    },
}

/// What a service has said of itself on the console. It may be one that strangers talk to, so its words are bounded in
/// number and length and have no character that a terminal acts on.
#[derive(Debug, Default)]
pub struct Status {
    last: String,
    /// When the last lines came, newest first.
    said: [Option<Time>; STATUS_BURST],
}

impl Status {
    /// The line that these words make, if they are new and there was not too much before them.
    pub fn line(&mut self, words: &str, now: Time) -> Option<String> {
        let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
        let line: String = words.trim().chars().take(STATUS_MAX).map(printable).collect();
        let oldest = self.said.last().copied().flatten();
        let rested = oldest.is_none_or(|oldest| now.saturating_sub(oldest) >= STATUS_SPAN);
        if line.is_empty() || line == self.last || !rested {
            return None;
        }
        self.said.rotate_right(1);
        self.said[0] = Some(now);
        self.last.clone_from(&line);
        Some(line)
    }
}

/// What the prober says: the service, when it was asked in nanoseconds since boot, and what was wrong, if anything.
pub fn health(service: &str, asked: Time, failure: Option<&str>) -> String {
    let failure = failure.map(|why| format!(" {}", why.replace('\n', " "))).unwrap_or_default();
    format!("{HEALTH}{service} {}{failure}", asked.as_nanos())
}

fn parse_health(text: &str) -> Option<Notice<'_>> {
    let (service, rest) = text.split_once(' ')?;
    let (asked, failure) = match rest.split_once(' ') {
        Some((asked, failure)) => (asked, Some(failure)),
        None => (rest, None),
    };
    Some(Notice::Health { service, asked: Time::from_nanos(asked.parse().ok()?), failure })
}

/// Reads one message: a word a line. Lines that are not UTF-8 or not known are passed over.
pub fn parse(message: &[u8]) -> impl Iterator<Item = Notice<'_>> {
    message.split(|byte| *byte == b'\n').filter_map(|line| match std::str::from_utf8(line).ok()? {
        "READY=1" => Some(Notice::Ready),
        EXECUTED => Some(Notice::Executed),
        ANEW => Some(Notice::Anew),
        "PODIUM_PODS=1" => Some(Notice::Pods(true)),
        "PODIUM_PODS=0" => Some(Notice::Pods(false)),
        line => {
            let failed = line.strip_prefix(FAILED).map(Notice::StageFailed);
            let status = || line.strip_prefix(STATUS).map(Notice::Status);
            failed.or_else(status).or_else(|| line.strip_prefix(HEALTH).and_then(parse_health))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &[u8]) -> Vec<Notice<'_>> {
        parse(message).collect()
    }

    #[test]
    fn known_words_are_told_in_order() {
        assert_eq!(all(b"PODIUM_EXEC=1\nPODIUM_ANEW=1"), [Notice::Executed, Notice::Anew]);
        assert_eq!(all(b"PODIUM_PODS=1\nPODIUM_PODS=0"), [Notice::Pods(true), Notice::Pods(false)]);
        assert_eq!(all(b"STATUS=x y\nREADY=1\n"), [Notice::Status("x y"), Notice::Ready]);
        assert_eq!(
            all(b"PODIUM_FAILED=exec: /usr/bin/x: not found\nREADY=1"),
            [Notice::StageFailed("exec: /usr/bin/x: not found"), Notice::Ready]
        );
    }

    #[test]
    fn health_is_read_as_it_was_written() {
        let asked = Duration::new(12, 345);
        for failure in [None, Some("no answer"), Some("")] {
            let message = health("kubelet", asked, failure);
            assert_eq!(all(message.as_bytes()), [Notice::Health { service: "kubelet", asked, failure }]);
        }
        let two_lines = health("kubelet", asked, Some("a\nREADY=1"));
        assert_eq!(all(two_lines.as_bytes()).len(), 1, "{two_lines}");
        for text in ["", "kubelet", "kubelet x", "kubelet -1 y", "kubelet 1.5"] {
            assert_eq!(all(format!("{HEALTH}{text}").as_bytes()), [], "{text}");
        }
    }

    #[test]
    fn a_status_is_one_short_line_that_no_terminal_acts_on() {
        let line = |words: &str| Status::default().line(words, Duration::ZERO);
        assert_eq!(line(" listens on [::]:50000 ").as_deref(), Some("listens on [::]:50000"));
        assert_eq!(line("a\x1b[2J\r\u{202e}\u{85}ä").as_deref(), Some("a?[2J????"));
        assert_eq!(line(&"x".repeat(5000)).unwrap().len(), STATUS_MAX);
        assert_eq!(line(" \t"), None);
    }

    #[test]
    fn a_status_is_said_once_and_a_flood_is_not() {
        let mut status = Status::default();
        let at = Duration::from_secs;
        assert!(status.line("same", at(0)).is_some());
        assert_eq!(status.line("same", at(1000)), None);
        let said = (0..100).filter(|n| status.line(&format!("new {n}"), at(1000)).is_some()).count();
        assert_eq!(said, STATUS_BURST);
        assert_eq!(status.line("later", at(1059)), None);
        assert!(status.line("later", at(1060)).is_some());
    }

    #[test]
    fn everything_else_is_passed_over() {
        assert_eq!(all(b""), []);
        assert_eq!(all(b"READY=0\nREADY=1 \nready=1\nMAINPID=1\nFDSTORE=1"), []);
        assert_eq!(all(b"\xff\xfe\nREADY=1\0\n"), []);
        assert_eq!(all(b"\xff\nREADY=1"), [Notice::Ready]);
    }
}
