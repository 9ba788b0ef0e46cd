//! Signals as something to read: all of them are blocked and queue in one descriptor.
//!
//! So no handler ever runs and no signal, not even SIGTSTP or a SIGSEGV that somebody *sent*, can stop or end the
//! loop. A real fault still kills (the kernel overrides the block), and `kernel.panic` reboots.

use super::{At, Result};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The descriptor.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

/// Blocks `signals` for the calling thread and gives the descriptor where they arrive.
///
/// # Errors
/// No descriptor left.
pub(crate) fn receive(signals: &SigSet) -> Result<Signals> {
    signals.thread_block().at("block", "signals")?;
    let fd = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    fd.map(Signals).at("open", "signalfd")
}

/// All signals that can be blocked: 1 to 64 but KILL, STOP and the C library's own 32 and 33.
pub(crate) fn all() -> SigSet {
    SigSet::all()
}

impl Signals {
    /// The next signal's number, if one waits.
    pub(crate) fn next(&self) -> Option<i32> {
        let info = self.0.read_signal().ok().flatten()?;
        info.ssi_signo.try_into().ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes sure that our children start with default dispositions. A signal that was *ignored* when we were executed
/// stays ignored across exec; one with a handler becomes default again. So each ignored one gets a handler, which
/// never runs because the signal is blocked. (SIGPIPE is put back by std at each start of a program.)
pub(crate) fn unignore() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for signal in ignored(&status) {
        if !signal_hook::consts::FORBIDDEN.contains(&signal)
            && let Err(error) = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
        {
            log::warn!("signal {signal} stays ignored in services: {error}");
        }
    }
}

/// The numbers in `SigIgn:` of `/proc/<pid>/status`, but SIGPIPE.
fn ignored(status: &str) -> Vec<i32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).filter(|signal| mask >> (signal - 1) & 1 == 1 && *signal != nix::libc::SIGPIPE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_read_bit_by_bit() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\tffff\n"), [1]);
        assert_eq!(ignored("SigIgn:\t8000000000000002\n"), [2, 64]);
        assert_eq!(ignored("SigIgn:\tnonsense\n"), [0; 0]);
        assert_eq!(ignored(""), [0; 0]);
    }
}
