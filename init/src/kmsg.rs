//! The boot log: one line a state change, to `/dev/kmsg`, where the kernel stamps it and shows it on the console.
//!
//! Without `/dev/kmsg` (a container) lines go to `/dev/console`, and without that to stderr. A line is one write of
//! at most [`LINE_MAX`] bytes without control characters. Nothing here fails: a line that cannot be written is lost,
//! because a stuck console must not stop the node. For the same reason PID 1 keeps all but emergencies off a serial port that
//! nobody reads, once two have shown that it costs a second each: see `console.rs`.

mod console;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use std::fmt::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// The kernel refuses a longer record with EINVAL (`LOG_LINE_MAX` in printk.c is 1024 less a prefix of 48); one byte
/// of it is for the line feed.
const LINE_MAX: usize = 974;
/// What stands for the rest of a line that was too long.
const CUT: &str = "...";
/// Opened once and kept, so that a line needs no descriptor when the node has run out of them.
static KERNEL: OnceLock<OwnedFd> = OnceLock::new();
/// Hears the `log` crate's records too.
static LISTENER: OnceLock<fn(log::Level, &dyn fmt::Display)> = OnceLock::new();

/// Sends the `log` crate's records to the boot log. Called first of all, and again harmlessly.
pub(crate) fn start() {
    // Fails only when it was called before, and then there is nothing to do.
    if log::set_logger(&BootLog).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}

/// From now on a console that nobody reads is left alone. For PID 1, once `/proc` is there.
pub(crate) fn watch_console() {
    console::watch();
}

/// As [`start`], for a child that has somebody to tell as well.
pub(crate) fn start_and_tell(listener: fn(log::Level, &dyn fmt::Display)) {
    // Fails only when it was called before; then that listener hears it.
    let _ = LISTENER.set(listener);
    start();
}

/// Says one line, `podium: <line>`, at level notice.
pub(crate) fn say(line: &str) {
    write_line(log::Level::Info, &format_args!("{line}"));
}

/// Says one line at the level of an emergency, which no `loglevel=` keeps off the console.
pub(crate) fn shout(line: &dyn fmt::Display) {
    put(compose(0, line).bytes());
}

/// The `log` crate's door to [`write_line`].
struct BootLog;

impl log::Log for BootLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            write_line(record.level(), record.args());
            if let Some(listener) = LISTENER.get() {
                listener(record.level(), record.args());
            }
        }
    }

    fn flush(&self) {}
}

/// Composes and writes.
fn write_line(level: log::Level, text: &dyn fmt::Display) {
    let number = match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 5,
        log::Level::Debug | log::Level::Trace => 7,
    };
    put(compose(number, text).bytes());
}

/// Writes a composed record to the best place there is now: `/dev` may appear later than the first line.
fn put(record: &[u8]) {
    if let Some(kernel) = kernel() {
        // Without its line feed the kernel takes a record for one that may go on, and shows it only with the next.
        console::write(kernel, with_end(record, &mut [0; LINE_MAX + 1]));
        return;
    }
    // `<n>` is for the kernel alone.
    let line = record.get(3..).unwrap_or_default();
    match open_to_write("/dev/console") {
        Ok(console) => write_when_free(console.as_fd(), line),
        Err(_) => write_when_free(rustix::stdio::stderr(), line),
    }
}

/// `/dev/kmsg`, once it is there.
fn kernel() -> Option<&'static OwnedFd> {
    if KERNEL.get().is_none()
        && let Ok(file) = open_to_write("/dev/kmsg")
    {
        // Fails only when it was set meanwhile.
        let _ = KERNEL.set(file);
    }
    KERNEL.get()
}

/// Opens a device so that writing to it does not block.
fn open_to_write(path: &str) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
}

/// Writes a line and its end, unless that could block.
fn write_when_free(file: BorrowedFd<'_>, line: &[u8]) {
    let mut fds = [PollFd::new(&file, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if !matches!(poll(&mut fds, Some(&now)), Ok(1)) {
        return;
    }
    // A pipe with POLLOUT takes PIPE_BUF (4096) bytes at once. An error: see the file's doc.
    let _ = rustix::io::write(file, with_end(line, &mut [0; LINE_MAX + 1]));
}

/// `line` and a line feed, in `whole`.
fn with_end<'a>(line: &[u8], whole: &'a mut [u8; LINE_MAX + 1]) -> &'a [u8] {
    let end = line.len().min(LINE_MAX);
    if let (Some(to), Some(from)) = (whole.get_mut(..end), line.get(..end)) {
        to.copy_from_slice(from);
    }
    if let Some(last) = whole.get_mut(end) {
        *last = b'\n';
    }
    whole.get(..=end).unwrap_or_default()
}

/// A record in the making, on the stack.
struct Record {
    bytes: [u8; LINE_MAX],
    len: usize,
    cut: bool,
}

impl Record {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Takes a character if it fits into `room` bytes.
    fn push(&mut self, c: char, room: usize) -> bool {
        let mut utf8 = [0; 4];
        let text = c.encode_utf8(&mut utf8).as_bytes();
        let end = self.len + text.len();
        match self.bytes.get_mut(self.len..end) {
            Some(to) if end <= room => {
                to.copy_from_slice(text);
                self.len = end;
                true
            }
            _ => false,
        }
    }
}

impl Write for Record {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let c = if c.is_control() { ' ' } else { c };
            if self.cut || !self.push(c, LINE_MAX - CUT.len()) {
                self.cut = true;
                return Ok(());
            }
        }
        Ok(())
    }
}

/// `<level>podium: text`, without control characters, cut to [`LINE_MAX`] bytes.
fn compose(level: u8, text: &dyn fmt::Display) -> Record {
    let mut record = Record { bytes: [0; LINE_MAX], len: 0, cut: false };
    // Writing into a Record never fails; only a Display that gives up does, and then what it said stands.
    let _ = write!(record, "<{level}>podium: {text}");
    if record.cut {
        for c in CUT.chars() {
            record.push(c, LINE_MAX);
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        String::from_utf8(compose(5, &text).bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_line_carries_its_level_and_prefix() {
        assert_eq!(line("root ROOT-A on /dev/vda2"), "<5>podium: root ROOT-A on /dev/vda2");
    }

    #[test]
    fn every_line_has_its_end_and_the_longest_is_not_too_long() {
        assert_eq!(with_end(b"<5>podium: x", &mut [0; LINE_MAX + 1]), b"<5>podium: x\n");
        let long = with_end(&[b'x'; 2000], &mut [0; LINE_MAX + 1]).to_vec();
        assert_eq!((long.len(), long.last()), (975, Some(&b'\n')));
    }

    #[test]
    fn control_characters_become_blanks() {
        assert_eq!(line("a\nb\x1b[31mc\u{9b}d\0e\t"), "<5>podium: a b [31mc d e ");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character_and_says_so() {
        for c in ["x", "ä", "漢", "🦀"] {
            let line = line(&c.repeat(2000));
            assert!(line.len() <= LINE_MAX, "{}", line.len());
            assert!(line.len() > LINE_MAX - 8, "{}", line.len());
            assert!(line.ends_with(CUT));
        }
    }

    #[test]
    fn a_line_that_just_fits_is_not_cut() {
        let room = LINE_MAX - CUT.len() - "<5>podium: ".len();
        assert!(!line(&"x".repeat(room)).ends_with(CUT));
        assert!(line(&"x".repeat(room + 1)).ends_with(CUT));
    }
}
