//! Processes: start the chain loader, reap whoever ended, send signals. Nobody else waits for a child of PID 1.

use super::{At, Error, Result};
use podium_init::supervisor::{Exit, Pid};
use rustix::process::{Signal, WaitOptions};
use std::io;
use std::process::{Command, Stdio};

/// This very binary, also when the file it came from was replaced or unmounted.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// Starts this binary with `args` and an empty environment. It inherits nothing but descriptors 0 to 2, and no new
/// descriptor is needed for it: it works when PID 1 has run out of them.
///
/// # Errors
/// fork or exec failed: no memory, no PID left, no /proc.
pub(crate) fn spawn_ourselves(args: &[&str]) -> Result<Pid> {
    let mut command = Command::new(OURSELVES);
    command.args(args).env_clear();
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let child = command.spawn().at("start", OURSELVES)?;
    child.id().try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidData)).at("start", OURSELVES)
}

/// Reaps one process that has ended, if there is one: a service, a helper, or an orphan.
pub(crate) fn reap() -> Option<(Pid, Exit)> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let pid = pid.as_raw_nonzero().get();
                if let Some(code) = status.exit_status() {
                    return Some((pid, Exit::Code(code)));
                }
                if let Some(signal) = status.terminating_signal() {
                    return Some((pid, Exit::Signal(signal)));
                }
                // Stopped or continued: we did not ask for these, look at the next.
            }
            // ECHILD: there are no children at all.
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Sends a signal to one process.
///
/// # Errors
/// ESRCH when it is gone; EINVAL for a number that is not a standard signal's.
pub(crate) fn signal(pid: Pid, signal: i32) -> Result<()> {
    let (process, signal) = target(pid, signal)?;
    rustix::process::kill_process(process, signal).at("signal", format!("process {pid}"))
}

/// Sends a signal to a process group.
///
/// # Errors
/// As [`signal`].
pub(crate) fn signal_group(pid: Pid, signal: i32) -> Result<()> {
    let (process, signal) = target(pid, signal)?;
    rustix::process::kill_process_group(process, signal).at("signal", format!("process group {pid}"))
}

/// Whether a process group has members; those that ended and were not reaped count.
pub(crate) fn group_exists(pid: Pid) -> bool {
    rustix::process::Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process_group(pid).is_ok())
}

/// Checks both numbers: 0 and -1 as a PID would reach others than the one that is meant.
fn target(pid: Pid, signal: i32) -> Result<(rustix::process::Pid, Signal)> {
    let process = (pid > 1).then(|| rustix::process::Pid::from_raw(pid)).flatten();
    process.zip(Signal::from_named_raw(signal)).ok_or_else(|| Error {
        action: "signal",
        object: format!("process {pid} with {signal}").into(),
        source: io::ErrorKind::InvalidInput.into(),
    })
}

/// Closes every descriptor above 2 that this process was started with, so that no child inherits one. For the
/// first lines of `main` only: later it would close our own.
pub(crate) fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return; // Without /proc we are the kernel's first process, which got 0 to 2 alone.
    };
    let open: Vec<i32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // EBADF for the one that listed the folder, closed by now.
        drop(nix::unistd::close(fd));
    }
}
