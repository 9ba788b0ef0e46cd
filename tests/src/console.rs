//! A machine's serial console: every line with the wall time it came at and the kernel's own stamp.
//!
//! A thread reads, nobody else does; waiting is on a condition variable and always has a limit. A failed wait
//! carries the last lines, so that a test's error alone tells what the machine was doing. Control characters are
//! dropped here, once, for all who print or match lines.

use anyhow::{Result, bail};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many lines a failed wait shows.
pub(crate) const SHOWN_ON_FAILURE: usize = 40;
/// A longer line is cut: a guest gone mad must not fill the memory.
const LONGEST_LINE: u64 = 8192;
/// Lines kept; later ones still reach the echo but match nothing.
const MOST_LINES: usize = 200_000;
/// The kernel's last words: no wait can succeed after them.
const FATAL: &str = "Kernel panic - not syncing";

/// One line of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Place in the log, from 0.
    pub number: usize,
    /// Since the machine was started, by the host's clock.
    pub wall: Duration,
    /// The `[    1.234567]` that the kernel wrote before it.
    pub kernel: Option<Duration>,
    /// Without stamp, control characters and line end.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kernel {
            Some(stamp) => {
                write!(f, "{:8.3} [{:12.6}] {}", self.wall.as_secs_f64(), stamp.as_secs_f64(), self.text)
            }
            None => write!(f, "{:8.3} {}", self.wall.as_secs_f64(), self.text),
        }
    }
}

/// Where lines go as they come, beside being kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// Nowhere.
    No,
    /// To this process's standard output, as they are.
    Stdout,
    /// To this process's standard error, as they are.
    Stderr,
}

/// What a machine has written so far. Clones see the same lines.
#[derive(Debug, Clone, Default)]
pub struct Console {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    readers: usize,
}

impl Console {
    /// Reads `source` to its end in a thread of its own; `prefix` stands before each of its lines.
    pub fn follow(
        &self,
        source: impl Read + Send + 'static,
        prefix: &'static str,
        started: Instant,
        echo: Echo,
    ) {
        self.lock().readers += 1;
        let console = self.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut raw = Vec::new();
            loop {
                raw.clear();
                match source.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut raw) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
                console.add(&raw, prefix, started.elapsed(), echo);
            }
            console.lock().readers -= 1;
            console.shared.changed.notify_all();
        });
    }

    /// All that was written so far, as it was written.
    #[must_use]
    pub fn text(&self) -> String {
        let raw = |line: Line| match line.kernel {
            Some(stamp) => format!("[{:5}.{:06}] {}\n", stamp.as_secs(), stamp.subsec_micros(), line.text),
            None => format!("{}\n", line.text),
        };
        self.lines().into_iter().map(raw).collect()
    }

    /// What an earlier part of the machine's life has written.
    pub(crate) fn begin_with(&self, text: &str) {
        for line in text.lines() {
            self.add(line.as_bytes(), "", Duration::ZERO, Echo::No);
        }
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.lock().lines.clone()
    }

    /// The first line so far, from number `from` on, that contains `text`.
    #[must_use]
    pub fn find(&self, from: usize, text: &str) -> Option<Line> {
        self.lock().lines.iter().skip(from).find(|line| line.text.contains(text)).cloned()
    }

    /// The number the next line will have: a wait from here sees only what comes now.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.lock().lines.len()
    }

    /// The last `count` lines, one a line.
    #[must_use]
    pub fn tail(&self, count: usize) -> String {
        let state = self.lock();
        let first = state.lines.len().saturating_sub(count);
        state.lines.iter().skip(first).map(|line| format!("{line}\n")).collect()
    }

    /// True once the machine's process has closed its output.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.lock().readers == 0
    }

    /// True once the guest's kernel has said its last words.
    #[must_use]
    pub fn panicked(&self) -> bool {
        self.lock().lines.iter().any(|line| line.text.contains(FATAL))
    }

    /// The first line from number `from` on that contains `text`; waits for it up to `limit`.
    ///
    /// # Errors
    /// When the limit passes, the machine ends or its kernel panics first; the error holds the last lines.
    pub fn wait(&self, from: usize, text: &str, limit: Duration) -> Result<Line> {
        self.wait_for(from, &format!("\"{text}\""), limit, |line| line.text.contains(text))
    }

    /// Like [`Console::wait`] for any condition; `what` says in the error what was waited for.
    ///
    /// # Errors
    /// As [`Console::wait`].
    pub fn wait_for(
        &self,
        from: usize,
        what: &str,
        limit: Duration,
        found: impl Fn(&Line) -> bool,
    ) -> Result<Line> {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        let mut next = from;
        loop {
            for line in state.lines.iter().skip(next) {
                if found(line) {
                    return Ok(line.clone());
                }
            }
            let panicked = state.lines.iter().skip(next).any(|line| line.text.contains(FATAL));
            next = next.max(state.lines.len());
            let left = deadline.saturating_duration_since(Instant::now());
            let reason = if panicked {
                "the guest's kernel panicked".to_owned()
            } else if state.readers == 0 {
                "the machine ended".to_owned()
            } else if left.is_zero() {
                format!("{} s passed", limit.as_secs())
            } else {
                state =
                    self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            };
            drop(state);
            bail!("waiting for {what}: {reason}; the console's last lines:\n{}", self.tail(SHOWN_ON_FAILURE));
        }
    }

    fn add(&self, raw: &[u8], prefix: &str, wall: Duration, echo: Echo) {
        let clean = printable(&String::from_utf8_lossy(raw));
        let (kernel, text) = split_stamp(&clean);
        let shown = format!("{prefix}{clean}\n");
        // A closed terminal must not stop the machine: what cannot be shown is still kept.
        let shown = match echo {
            Echo::No => Ok(()),
            Echo::Stdout => std::io::stdout().write_all(shown.as_bytes()),
            Echo::Stderr => std::io::stderr().write_all(shown.as_bytes()),
        };
        drop(shown);
        let mut state = self.lock();
        let number = state.lines.len();
        if number < MOST_LINES {
            state.lines.push(Line { number, wall, kernel, text: format!("{prefix}{text}") });
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops line ends, control characters and terminal escapes (`ESC [ … letter`).
fn printable(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut characters = raw.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next() == Some('[') {
                for end in characters.by_ref() {
                    if end.is_ascii_alphabetic() {
                        break;
                    }
                }
            }
        } else if character == '\t' || !character.is_control() {
            text.push(character);
        }
    }
    text
}

/// Takes `[    1.234567] ` off a line.
fn split_stamp(line: &str) -> (Option<Duration>, &str) {
    let stamp = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).and_then(|(stamp, text)| {
        let (seconds, micros) = stamp.trim().split_once('.')?;
        let known = Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?);
        (micros.len() == 6).then_some((known, text.strip_prefix(' ').unwrap_or(text)))
    });
    match stamp {
        Some((stamp, text)) => (Some(stamp), text),
        None => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console_of(text: &'static str) -> Console {
        let console = Console::default();
        console.follow(text.as_bytes(), "", Instant::now(), Echo::No);
        console
    }

    #[test]
    fn the_kernels_stamp_is_taken_off() {
        assert_eq!(
            split_stamp("[    1.234567] podium: x"),
            (Some(Duration::from_micros(1_234_567)), "podium: x")
        );
        assert_eq!(split_stamp("[12345.000001] a]b"), (Some(Duration::from_micros(12_345_000_001)), "a]b"));
        assert_eq!(split_stamp("[  OK  ] no stamp"), (None, "[  OK  ] no stamp"));
        assert_eq!(split_stamp("plain"), (None, "plain"));
    }

    #[test]
    fn escapes_and_line_ends_are_dropped() {
        assert_eq!(printable("\u{1b}[31mred\u{1b}[0m\u{7} end\r\n"), "red end");
    }

    #[test]
    fn what_was_written_before_is_as_it_was() {
        let (before, after) = (console_of("[    1.234567] podium: x\nplain\n"), Console::default());
        before.wait(0, "plain", Duration::from_secs(5)).unwrap();
        after.begin_with(&before.text());
        let (mut before, after) = (before.lines(), after.lines());
        before.iter_mut().for_each(|line| line.wall = Duration::ZERO);
        assert_eq!(after, before);
    }

    #[test]
    fn a_wait_finds_a_line_that_is_there_or_comes() {
        let console = console_of("one\ntwo\nthree two\n");
        assert_eq!(console.wait(0, "two", Duration::from_secs(5)).unwrap().number, 1);
        assert_eq!(console.wait(2, "two", Duration::from_secs(5)).unwrap().number, 2);
    }

    #[test]
    fn a_wait_on_a_machine_that_ended_fails_at_once_with_its_last_lines() {
        let error = console_of("one\nlast words\n")
            .wait(0, "never", Duration::from_secs(60))
            .unwrap_err()
            .to_string();
        assert!(error.contains("the machine ended") && error.contains("last words"), "{error}");
    }

    #[test]
    fn a_kernel_panic_ends_a_wait() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let console = Console::default();
        console.follow(reader, "", Instant::now(), Echo::No);
        writer.write_all(b"[    1.000000] Kernel panic - not syncing: no init\n").unwrap();
        let error = console.wait(0, "never", Duration::from_secs(60)).unwrap_err().to_string();
        assert!(error.contains("panicked"), "{error}");
    }

    #[test]
    fn a_wait_ends_at_its_limit() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let console = Console::default();
        console.follow(reader, "", Instant::now(), Echo::No);
        let error = console.wait(0, "never", Duration::from_millis(20)).unwrap_err().to_string();
        assert!(error.contains("passed"), "{error}");
    }
}
