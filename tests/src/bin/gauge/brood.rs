//! The orphans: forks of one process that leaves them, each waiting for the end of its standard input.
//!
//! The one place of the harness with `unsafe`. A program executed for each would do without, and would have the machine
//! translate a thousand programs before and take down a thousand address spaces of their own: what is measured is an
//! init, and a fork's end is the least that a process can cost it.
#![expect(unsafe_code, reason = "no safe crate offers fork(2)")]

use anyhow::{Context, Result};
use nix::unistd::{ForkResult, fork};
use std::io::{self, Read, Write};

/// Makes `count`, says who they are, a line each, and returns in each of them when its time has come.
pub(super) fn brood(count: usize) -> Result<()> {
    let mut out = io::stdout().lock();
    for _ in 0..count {
        // SAFETY: this process has one thread, so a child has all that it had, and no lock is held by nobody.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Child => return io::stdin().read_to_end(&mut Vec::new()).map(drop).context("wait"),
            // Whole lines are written at once, so that no child has a part of one to write again.
            ForkResult::Parent { child } => writeln!(out, "{child}")?,
        }
    }
    Ok(())
}
