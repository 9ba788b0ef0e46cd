//! The console behind the kernel's log, as PID 1 treats it: watched by what its lines cost, left alone when nobody reads
//! it. It decides nothing: that is [`podium_init::console`].

use super::{compose, with_end};
use crate::sys::clock;
use podium_init::console::{Patience, Verdict};
use rustix::fs::{Mode, OFlags, open};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::Duration;

/// Records of a level below its first number are shown on the console.
const SHOWN: &str = "/proc/sys/kernel/printk";
/// Emergencies alone, a panic of ours among them.
const HUSHED: u8 = 1;
/// Of PID 1 alone: others would leave the console hushed when they end.
static CONSOLE: Mutex<Option<Console>> = Mutex::new(None);

struct Console {
    patience: Patience,
    /// [`SHOWN`], open: it is needed when there may be no descriptor left.
    level: OwnedFd,
    /// The first number of it from before it was hushed.
    shown: Option<u8>,
}

/// From now on what a line costs is watched. For PID 1.
pub(super) fn watch() {
    // Without it nothing could be done about a console.
    let level = open(SHOWN, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    if let (Ok(level), Ok(mut console)) = (level, CONSOLE.lock()) {
        *console = Some(Console { patience: Patience::Open(0), level, shown: None });
    }
}

/// Writes a whole line, `<level>text`, to the kernel's log.
pub(super) fn write(kernel: &OwnedFd, line: &[u8]) {
    // Whoever holds it is in the middle of a line: nobody waits for that.
    match CONSOLE.try_lock().as_deref_mut() {
        Ok(Some(console)) => console.write(kernel, line),
        _ => put(kernel, line),
    }
}

/// What the kernel does not take is lost.
fn put(kernel: &OwnedFd, line: &[u8]) {
    let _ = rustix::io::write(kernel, line);
}

impl Console {
    fn write(&mut self, kernel: &OwnedFd, line: &[u8]) {
        if !self.patience.offers(clock::now()) || !self.show() {
            return put(kernel, line);
        }
        // One that the console does not get costs nothing, and proves nothing.
        let is_shown = self.patience == Patience::Open(0)
            || self.level().is_some_and(|level| of_line(line).is_some_and(|of_line| of_line < level));
        let before = used();
        put(kernel, line);
        let cost = used().saturating_sub(before);
        match self.patience.spent(line.len(), is_shown, cost, clock::now()) {
            Verdict::Same => {}
            Verdict::StillStalled => drop(self.hush()),
            Verdict::Stalled if self.hush() => say(
                kernel,
                &format_args!(
                    "console: stalled, {} bytes took {} ms; until it takes them lines are in the kernel's log alone \
                     (init ctl dmesg)",
                    line.len(),
                    cost.as_millis()
                ),
            ),
            Verdict::Stalled => {}
            Verdict::Back => say(
                kernel,
                &"console: takes lines again; the kernel's log has those that it missed (init ctl dmesg)",
            ),
        }
    }

    /// The kernel shows nothing but emergencies: what others say would cost them as much. When that cannot be said, the
    /// next slow line is a reason to try again.
    fn hush(&mut self) -> bool {
        self.shown = self.level().filter(|_| self.set(HUSHED));
        if self.shown.is_none() {
            self.patience = Patience::Open(1);
        }
        self.shown.is_some()
    }

    /// As before [`Self::hush`], unless somebody else has said otherwise meanwhile; whether it is so now.
    fn show(&mut self) -> bool {
        let Some(shown) = self.shown else { return true };
        let is_done = self.level().is_some_and(|now| now != HUSHED || self.set(shown));
        if is_done {
            self.shown = None;
        }
        is_done
    }

    /// Records below it are shown.
    fn level(&self) -> Option<u8> {
        let mut text = [0; 32];
        let length = rustix::io::pread(&self.level, &mut text, 0).ok()?;
        std::str::from_utf8(text.get(..length)?).ok()?.split_whitespace().next()?.parse().ok()
    }

    fn set(&self, level: u8) -> bool {
        rustix::io::pwrite(&self.level, &[b'0'.saturating_add(level)], 0).is_ok()
    }
}

/// The level of `<level>text`.
fn of_line(line: &[u8]) -> Option<u8> {
    line.get(1)?.checked_sub(b'0')
}

fn say(kernel: &OwnedFd, text: &dyn std::fmt::Display) {
    put(kernel, with_end(compose(4, text).bytes(), &mut [0; super::LINE_MAX + 1]));
}

/// What this thread has used of a processor: the kernel turns around for a port in it, and it stands while we wait.
fn used() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.try_into().unwrap_or(0), used.tv_nsec.try_into().unwrap_or(0))
}
