//! The console behind the kernel's log, as PID 1 treats it: watched by what its lines cost, left alone when nobody reads
//! it. It decides nothing: that is [`podium_init::console`].

use super::{compose, with_end};
use crate::sys::{clock, file};
use podium_init::console::{Patience, Verdict};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// Records of a level below its first number are shown on the console.
const SHOWN: &str = "/proc/sys/kernel/printk";
/// Emergencies alone, a panic of ours among them.
const HUSHED: &str = "1";
/// Of PID 1 alone: others would leave the console hushed when they end.
static CONSOLE: Mutex<Option<Console>> = Mutex::new(None);

struct Console {
    patience: Patience,
    /// The first number of [`SHOWN`] from before it was hushed.
    shown: Option<String>,
}

/// From now on what a line costs is watched. For PID 1.
pub(super) fn watch() {
    if let Ok(mut console) = CONSOLE.lock() {
        *console = Some(Console { patience: Patience::Open(0), shown: None });
    }
}

/// Writes a whole line to the kernel's log.
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
        if !self.patience.offers(clock::now()) {
            return put(kernel, line);
        }
        self.show();
        let before = used();
        put(kernel, line);
        let cost = used().saturating_sub(before);
        match self.patience.spent(line.len(), cost, clock::now()) {
            Verdict::Same => {}
            Verdict::StillStalled => self.hush(),
            Verdict::Stalled => {
                self.hush();
                say(
                    kernel,
                    &format_args!(
                        "console: stalled, {} bytes took {} ms; until it takes them lines are in the kernel's log \
                         alone (init ctl dmesg)",
                        line.len(),
                        cost.as_millis()
                    ),
                );
            }
            Verdict::Back => say(
                kernel,
                &"console: takes lines again; the kernel's log has those that it missed (init ctl dmesg)",
            ),
        }
    }

    /// The kernel shows nothing but emergencies: what others say would cost them as much.
    fn hush(&mut self) {
        if let Ok(now) = file::read_line(Path::new(SHOWN))
            && file::set(Path::new(SHOWN), HUSHED).is_ok()
        {
            self.shown = now.split_whitespace().next().map(str::to_owned);
        }
    }

    /// As before [`Self::hush`], unless somebody else has said otherwise meanwhile.
    fn show(&mut self) {
        if let Some(shown) = self.shown.take()
            && file::read_line(Path::new(SHOWN))
                .is_ok_and(|now| now.split_whitespace().next() == Some(HUSHED))
        {
            // What cannot be written now could not be before either.
            let _ = file::set(Path::new(SHOWN), &shown);
        }
    }
}

fn say(kernel: &OwnedFd, text: &dyn std::fmt::Display) {
    put(kernel, with_end(compose(4, text).bytes(), &mut [0; super::LINE_MAX + 1]));
}

/// What this thread has used of a processor: the kernel turns around for a port in it, and it stands while we wait.
fn used() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.try_into().unwrap_or(0), used.tv_nsec.try_into().unwrap_or(0))
}
