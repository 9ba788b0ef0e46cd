//! Makes a PID 1 fail that has no way to be asked for it: by ptrace(2), as a broken kernel or broken memory would.
//!
//! A panic: from now on the kernel answers each of its close(2) with EIO. Podium itself does not care, but Rust's own
//! library panics when a folder that was listed cannot be closed. A fault: its next instruction is at address 0.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc::{EIO, SYS_close};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::sync::mpsc;
use std::thread;

/// From when this returns, each close(2) of the process fails, until it ends or this process does.
///
/// # Errors
/// The process cannot be traced.
pub fn fail_each_close(pid: i32) -> Result<()> {
    let (attached, is_attached) = mpsc::channel();
    // Who attaches must be who traces, and it waits for the tracee all its life.
    thread::spawn(move || {
        let pid = Pid::from_raw(pid);
        let begun = stop(pid).and_then(|()| Ok(ptrace::syscall(pid, None)?));
        let is_traced = begun.is_ok();
        // Who asked may have gone.
        drop(attached.send(begun));
        if is_traced && let Err(error) = follow(pid) {
            eprintln!("process {pid} is no longer traced: {error:#}");
        }
    });
    is_attached.recv().context("the tracing thread is gone")?
}

/// Lets the process go on at address 0, where nothing is.
///
/// # Errors
/// The process cannot be traced.
pub fn fault(pid: i32) -> Result<()> {
    let pid = Pid::from_raw(pid);
    stop(pid)?;
    let mut registers = ptrace::getregs(pid)?;
    registers.rip = 0;
    // It may be stopped in a system call that would be made again: at an address of the kernel's choice.
    registers.orig_rax = u64::MAX;
    ptrace::setregs(pid, registers)?;
    Ok(ptrace::detach(pid, None)?)
}

/// Stops the process for as long as this process lives: its loop does not turn any more.
///
/// # Errors
/// The process cannot be traced.
pub fn hang(pid: i32) -> Result<()> {
    let (attached, is_attached) = mpsc::channel();
    // A tracee goes on when the thread that traces it ends.
    thread::spawn(move || {
        // Who asked may have gone.
        drop(attached.send(stop(Pid::from_raw(pid))));
        loop {
            thread::park();
        }
    });
    is_attached.recv().context("the tracing thread is gone")?
}

fn stop(pid: Pid) -> Result<()> {
    ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD).context("trace it")?;
    ptrace::interrupt(pid)?;
    match waitpid(pid, Some(WaitPidFlag::__WALL))? {
        WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..) => Ok(()),
        other => bail!("not stopped but {other:?}"),
    }
}

/// From system call to system call, to the end of the process.
fn follow(pid: Pid) -> Result<()> {
    let mut is_inside = false;
    loop {
        let signal = match waitpid(pid, Some(WaitPidFlag::__WALL))? {
            WaitStatus::PtraceSyscall(_) => {
                is_inside = !is_inside;
                if !is_inside {
                    spoil_close(pid)?;
                }
                None
            }
            WaitStatus::Stopped(_, Signal::SIGTRAP) | WaitStatus::PtraceEvent(..) => None,
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(()),
            _ => continue,
        };
        match ptrace::syscall(pid, signal) {
            // It was killed while it was stopped.
            Err(Errno::ESRCH) => return Ok(()),
            done => done?,
        }
    }
}

/// At the end of a system call: a close was done, but tells an error.
fn spoil_close(pid: Pid) -> Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    if i64::try_from(registers.orig_rax) == Ok(SYS_close) {
        registers.rax = (-i64::from(EIO)).cast_unsigned();
        ptrace::setregs(pid, registers)?;
    }
    Ok(())
}
