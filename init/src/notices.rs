//! What a service says on its `$NOTIFY_SOCKET`: text of sd_notify(3) in, notices out.
//!
//! Words that are not for us (`MAINPID=`, `FDSTORE=1`, …) are passed over: the chain loader makes the main process
//! known, and nothing a service says may change what PID 1 signals.

/// The longest message that is looked at; what follows is cut off. sd_notify's own users stay far below.
pub const MESSAGE_MAX: usize = 4096;
/// The chain loader says this right before it executes the program.
pub const EXECUTED: &str = "PODIUM_EXEC=1";
/// The chain loader says this, with the stage and the error behind it, when it gives up.
pub const FAILED: &str = "PODIUM_FAILED=";

/// `init pods` says this with `1` behind it when all pods run, with `0` when that is over.
pub const PODS: &str = "PODIUM_PODS=";

/// One thing a service said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    /// `READY=1`.
    Ready,
    /// [`EXECUTED`].
    Executed,
    /// [`FAILED`]: stage and error.
    StageFailed(&'a str),
    /// [`PODS`]: whether all pods run.
    Pods(bool),
}

/// Reads one message: a word a line. Lines that are not UTF-8 or not known are passed over.
pub fn parse(message: &[u8]) -> impl Iterator<Item = Notice<'_>> {
    message.split(|byte| *byte == b'\n').filter_map(|line| match std::str::from_utf8(line).ok()? {
        "READY=1" => Some(Notice::Ready),
        EXECUTED => Some(Notice::Executed),
        "PODIUM_PODS=1" => Some(Notice::Pods(true)),
        "PODIUM_PODS=0" => Some(Notice::Pods(false)),
        line => line.strip_prefix(FAILED).map(Notice::StageFailed),
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
        assert_eq!(all(b"PODIUM_EXEC=1"), [Notice::Executed]);
        assert_eq!(all(b"PODIUM_PODS=1\nPODIUM_PODS=0"), [Notice::Pods(true), Notice::Pods(false)]);
        assert_eq!(all(b"STATUS=x\nREADY=1\n"), [Notice::Ready]);
        assert_eq!(
            all(b"PODIUM_FAILED=exec: /usr/bin/x: not found\nREADY=1"),
            [Notice::StageFailed("exec: /usr/bin/x: not found"), Notice::Ready]
        );
    }

    #[test]
    fn everything_else_is_passed_over() {
        assert_eq!(all(b""), []);
        assert_eq!(all(b"READY=0\nREADY=1 \nready=1\nMAINPID=1\nFDSTORE=1"), []);
        assert_eq!(all(b"\xff\xfe\nREADY=1\0\n"), []);
        assert_eq!(all(b"\xff\nREADY=1"), [Notice::Ready]);
    }
}
