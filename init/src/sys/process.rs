//! Processes: start the chain loader, reap whoever ended, send signals. Nobody else waits for a child of PID 1.

use super::{At, Error, Result};
use podium_init::services::{HELPER_OOM_SCORE, PID_1_OOM_SCORE};
use podium_init::supervisor::{Exit, Pid};
use rustix::process::{Signal, WaitOptions};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// This very binary, also when the file it came from was replaced or unmounted.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// Variables for which an error, or a panic, walks the stack. The program in the image has no tables for that, and
/// would abort: see `no-unwind.ld`.
const BACKTRACES: [&str; 2] = ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"];

/// Executes this program once more without [`BACKTRACES`], where the kernel's command line, a container's runtime or a
/// person has set them. Comes back otherwise.
pub(crate) fn without_backtraces() {
    if BACKTRACES.iter().all(|name| std::env::var_os(name).is_none()) {
        return;
    }
    let strings = |words: &mut dyn Iterator<Item = OsString>| {
        words.map(|word| CString::new(word.into_vec()).unwrap_or_default()).collect::<Vec<_>>()
    };
    let argv = strings(&mut std::env::args_os());
    let kept = std::env::vars_os().filter(|(name, _)| BACKTRACES.iter().all(|other| name != other));
    let environment = strings(&mut kept.map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    }));
    // The kernel's own first process has no /proc yet.
    for path in [CString::new(OURSELVES).ok(), argv.first().cloned()].into_iter().flatten() {
        // Where neither can be executed nothing is lost but the backtrace.
        nix::unistd::execve(&path, &argv, &environment).ok();
    }
}

/// Starts this binary with `args` and an empty environment. It inherits nothing but descriptors 0 to 2, and no new
/// descriptor is needed for it: it works when PID 1 has run out of them.
///
/// # Errors
/// fork or exec failed: no memory, no PID left, no /proc.
pub(crate) fn spawn_ourselves(args: &[&str]) -> Result<Pid> {
    let mut command = Command::new(OURSELVES);
    command.args(args).env_clear();
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    start(&mut command)
}

/// Like [`spawn_ourselves`], with a connection as descriptors 0 and 1. Ours are closed. Like every child it inherits
/// our signal mask.
///
/// # Errors
/// As [`spawn_ourselves`], or no descriptor is left.
pub(crate) fn spawn_with(args: &[&str], connection: OwnedFd) -> Result<Pid> {
    let mut command = Command::new(OURSELVES);
    command.args(args).env_clear();
    let second = connection.try_clone().at("start", OURSELVES)?;
    command.stdin(Stdio::from(connection)).stdout(Stdio::from(second)).stderr(Stdio::inherit());
    start(&mut command)
}

fn start(command: &mut Command) -> Result<Pid> {
    let child = command.spawn().at("start", OURSELVES)?;
    child.id().try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidData)).at("start", OURSELVES)
}

/// Sets this process's `oom_score_adj`, -1000 to 1000; its children inherit it.
///
/// # Errors
/// EACCES: lowering it is not permitted, as in a container.
pub(crate) fn set_oom_score(score: i16) -> Result<()> {
    std::fs::write(OOM_SCORE, score.to_string()).at("write to", OOM_SCORE)
}

/// For a helper of PID 1, which has inherited that nothing may kill it for its memory: takes the score of the helpers
/// among the services. Any other score stays.
pub(crate) fn become_killable() {
    let inherited = std::fs::read_to_string(OOM_SCORE);
    if inherited.is_ok_and(|score| score.trim() == PID_1_OOM_SCORE.to_string()) {
        // Raising it is always permitted; what else could fail leaves it as it is.
        drop(set_oom_score(HELPER_OOM_SCORE));
    }
}

/// What [`reap`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// This one has ended, and how: a service, a helper, or an orphan.
    One(Pid, Exit),
    /// There are children, but none has ended.
    NoneEnded,
    /// There are no children at all.
    NoChildren,
}

/// Reaps one process that has ended, if there is one. Never waits.
pub(crate) fn reap() -> Reaped {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let pid = pid.as_raw_nonzero().get();
                if let Some(code) = status.exit_status() {
                    return Reaped::One(pid, Exit::Code(code));
                }
                if let Some(signal) = status.terminating_signal() {
                    return Reaped::One(pid, Exit::Signal(signal));
                }
                // Stopped or continued: we did not ask for these, look at the next.
            }
            Ok(None) => return Reaped::NoneEnded,
            // ECHILD; the call has no other error without a handler that could interrupt it.
            Err(_) => return Reaped::NoChildren,
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

/// Sends a signal to all processes but PID 1: those of the machine, or of the PID namespace.
///
/// # Errors
/// EINVAL for a number that is not a standard signal's. That nobody else is there is no error.
pub(crate) fn signal_everybody(number: i32) -> Result<()> {
    use nix::sys::signal::{Signal, kill};
    let all = nix::unistd::Pid::from_raw(-1);
    match Signal::try_from(number).and_then(|signal| kill(all, signal)) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).at("signal", "all processes"),
    }
}

/// Checks both numbers: 0 and -1 as a PID would reach others than the one that is meant.
fn target(pid: Pid, signal: i32) -> Result<(rustix::process::Pid, Signal)> {
    let process = (pid > 1).then(|| rustix::process::Pid::from_raw(pid)).flatten();
    process.zip(Signal::from_named_raw(signal)).ok_or_else(|| Error {
        action: "signal",
        object: format!("process {pid} with {signal}").into(),
        cause: io::ErrorKind::InvalidInput.into(),
    })
}

/// Lets every other process go first from here on, and so do the programs that it starts. The kernel weighs sessions
/// before it weighs the processes in them, and each service is one; without such groups the nice value does it.
///
/// # Errors
/// The nice value cannot be set.
pub(crate) fn step_back() -> Result<()> {
    const LAST: i32 = 19;
    let group = Path::new("/proc/self/autogroup");
    if group.exists() {
        std::fs::write(group, LAST.to_string()).at("write to", group)?;
    }
    rustix::process::setpriority_process(None, LAST).at("set the nice value of", "this process")
}

/// Closes every descriptor above 2 that this process was started with, so that no child inherits one. For the
/// first lines of `main` only: later it would close our own.
pub(crate) fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return; // Without /proc we are the kernel's first process, which got 0 to 2 alone.
    };
    let open: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // EBADF for the one that listed the folder, closed by now.
        let _ = nix::unistd::close(fd);
    }
}
