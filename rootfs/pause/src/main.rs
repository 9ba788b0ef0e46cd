//! The pod sandbox's process: holds the pod's namespaces, and reaps when it is their PID 1.
//!
//! It ends at once on SIGTERM and SIGINT, with code 0. It reads nothing, opens nothing and allocates nothing after
//! its start.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--version") {
        println!("pause {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    match hold() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pause: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits until told to end. The signals are blocked and taken one by one, so that PID 1, to whom the kernel delivers
/// no signal without a handler, gets them as well.
fn hold() -> nix::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    signals.thread_block()?;
    // One that ended before the signal was blocked has told nobody.
    reap()?;
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap()?,
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes every child that has ended; one SIGCHLD may stand for many.
fn reap() -> nix::Result<()> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}
