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

/// What a read gives for each signal.
const INFO_SIZE: usize = size_of::<nix::libc::signalfd_siginfo>();
/// What a read takes; the others wait, and with them the descriptor is ready.
const AT_ONCE: usize = 8;

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
    /// The numbers of signals that wait, the first [`AT_ONCE`] of them; none when none does.
    pub(crate) fn take(&self) -> Vec<i32> {
        let mut buffer = [0; INFO_SIZE * AT_ONCE];
        let length = rustix::io::read(&self.0, &mut buffer).unwrap_or(0);
        // The number comes first, see signalfd(2).
        let number = |info: &[u8]| info.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
        buffer.get(..length).unwrap_or_default().chunks_exact(INFO_SIZE).filter_map(number).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Before another program is executed: SIGPIPE, which Rust's runtime ignores, and the signal mask as
/// they are in a new process. All others are at their defaults since [`unignore`] in PID 1.
///
/// # Errors
/// None that the kernel knows of.
pub(crate) fn reset() -> Result<()> {
    catch(nix::libc::SIGPIPE).at("reset", "SIGPIPE")?;
    SigSet::empty().thread_set_mask().at("unblock", "signals")
}

/// Makes sure that no signal is ignored but SIGPIPE, by us and so by those that we start.
pub(crate) fn unignore() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for signal in ignored(&status) {
        if let Err(error) = catch(signal) {
            log::warn!("signal {signal} stays ignored in services: {error}");
        }
    }
}

/// Gives a signal a handler. A signal that is *ignored* stays so across exec; one that is handled becomes default
/// again, and no safe call says "default" itself. The handler never runs in PID 1, where all signals are blocked.
fn catch(signal: i32) -> std::io::Result<()> {
    if signal_hook::consts::FORBIDDEN.contains(&signal) {
        return Err(std::io::ErrorKind::Unsupported.into());
    }
    signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).map(drop)
}

/// The numbers in `SigIgn:` of `/proc/<pid>/status`, but SIGPIPE and the C library's own two, which it guards.
fn ignored(status: &str) -> Vec<i32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let asked =
        |signal: &i32| mask >> (signal - 1) & 1 == 1 && ![nix::libc::SIGPIPE, 32, 33].contains(signal);
    (1..=64).filter(asked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_wait_are_taken_some_at_a_time() {
        use nix::sys::signal::{Signal, raise};
        let sent: Vec<Signal> = Signal::iterator()
            .filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGCONT))
            .take(AT_ONCE + 2)
            .collect();
        let signals = receive(&SigSet::from_iter(sent.iter().copied())).unwrap();
        assert_eq!(signals.take(), [0; 0]);
        for signal in &sent {
            raise(*signal).unwrap();
        }
        let (first, rest) = (signals.take(), signals.take());
        assert_eq!((first.len(), rest.len()), (AT_ONCE, 2));
        let mut taken: Vec<i32> = first.into_iter().chain(rest).collect();
        taken.sort_unstable();
        let mut sent: Vec<i32> = sent.into_iter().map(|signal| signal as i32).collect();
        sent.sort_unstable();
        assert_eq!(taken, sent);
    }

    #[test]
    fn the_mask_is_read_bit_by_bit() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\tffff\n"), [1]);
        assert_eq!(ignored("SigIgn:\t8000000180000002\n"), [2, 64]);
        assert_eq!(ignored("SigIgn:\tnonsense\n"), [0; 0]);
        assert_eq!(ignored(""), [0; 0]);
    }
}
