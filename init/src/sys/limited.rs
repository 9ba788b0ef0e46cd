//! Runs a program for at most so long: for helper processes that call programs which may hang on a dead server.
//!
//! Never in PID 1's loop, which alone waits; before the loop by [`super::tool`]. What the program prints is bounded; the
//! rest is dropped.

use super::poll::{self, For};
use super::{At, clock};
use anyhow::{Context, Result, bail};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The most of each stream that is kept.
const OUTPUT_MAX: usize = 1 << 20;
/// After this long somebody who watches wants to know that it goes on.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `program`, with the environment that we have, to its end. Gives what it printed on standard output.
///
/// # Errors
/// It cannot be started, ends with another code than 0 (then with its last line on standard error), or is not done
/// within `limit`: then it is killed.
pub(crate) fn run(program: &str, args: &[&str], limit: Duration) -> Result<String> {
    let until = clock::now() + limit;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().at("run", program)?;
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    if let Err(error) = listen(&mut child, until, &mut said, &mut complained, &mut || {}) {
        // It may have ended by itself meanwhile, which is as well.
        drop(child.kill());
        child.wait().at("wait for", program)?;
        return Err(error).with_context(|| format!("{program} {}", args.join(" ")));
    }
    let status = child.wait().at("wait for", program)?;
    if !status.success() {
        let text = String::from_utf8_lossy(&complained);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        bail!("{program} {}: {status}: {}", args.join(" "), last.trim());
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// A program that nobody waits for, with the output that we have; it has no limit, and outlives us if it hangs.
#[derive(Debug)]
pub(crate) struct Aside {
    child: Child,
    end: OwnedFd,
}

impl Aside {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(program: &str, args: &[&str]) -> Result<Self> {
        let child = Command::new(program).args(args).stdin(Stdio::null()).spawn().at("run", program)?;
        let end = pidfd_open(pid_of(&child)?, PidfdFlags::empty())?;
        Ok(Self { child, end })
    }

    /// Once this can be read, it has ended: [`Self::reap`].
    pub(crate) fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Takes it out of the kernel's table; waits if it has not ended yet.
    ///
    /// # Errors
    /// Somebody else has.
    pub(crate) fn reap(mut self) -> Result<()> {
        self.child.wait().map(drop).context("wait for a program that has ended")
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a PID")
}

/// Reads both streams until the process has ended: not until they are closed, since a child of it may hold them.
/// `patience` is called each [`PATIENCE`].
pub(super) fn listen(
    child: &mut Child,
    until: Duration,
    said: &mut Vec<u8>,
    complained: &mut Vec<u8>,
    patience: &mut dyn FnMut(),
) -> Result<()> {
    let mut next = clock::now() + PATIENCE;
    let end = pidfd_open(pid_of(child)?, PidfdFlags::empty())?;
    let (mut out, mut err) =
        (child.stdout.take().context("its output")?, child.stderr.take().context("its errors")?);
    fcntl_setfl(&out, fcntl_getfl(&out)? | OFlags::NONBLOCK)?;
    fcntl_setfl(&err, fcntl_getfl(&err)? | OFlags::NONBLOCK)?;
    let (mut out_open, mut err_open) = (true, true);
    loop {
        let left = until.saturating_sub(clock::now());
        if left.is_zero() {
            bail!("not done in time");
        }
        if clock::now() >= next {
            patience();
            next = clock::now() + PATIENCE;
        }
        let mut fds = vec![(end.as_fd(), For::Reading)];
        fds.extend(out_open.then(|| (out.as_fd(), For::Reading)));
        fds.extend(err_open.then(|| (err.as_fd(), For::Reading)));
        let ended = poll::wait(&fds, Some(left.min(PATIENCE)))?.first().copied().unwrap_or(false);
        out_open = out_open && take(&mut out, said)?;
        err_open = err_open && take(&mut err, complained)?;
        if ended {
            return Ok(());
        }
    }
}

/// Takes what is there; false when there will be no more.
fn take(from: &mut impl Read, into: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                let room = OUTPUT_MAX.saturating_sub(into.len());
                into.extend_from_slice(buffer.get(..count.min(room)).unwrap_or_default());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn it_gives_what_the_program_said() {
        assert_eq!(run("/bin/echo", &["a", "b"], LONG).unwrap(), "a b\n");
        let much = run("/usr/bin/head", &["-c", "3000000", "/dev/zero"], LONG).unwrap();
        assert_eq!(much.len(), OUTPUT_MAX);
    }

    #[test]
    fn a_failure_gives_the_last_line_of_its_errors() {
        let error = run("/bin/sh", &["-c", "echo one >&2; echo two >&2; exit 3"], LONG).unwrap_err();
        assert!(error.to_string().ends_with("exit status: 3: two"), "{error:#}");
        let error = run("/no/such/program", &[], LONG).unwrap_err();
        assert!(error.to_string().starts_with("run /no/such/program: "), "{error:#}");
    }

    #[test]
    fn one_aside_is_reaped_once_it_has_ended() {
        let aside = Aside::start("/bin/sleep", &["0.01"]).unwrap();
        assert_eq!(poll::wait(&[(aside.end(), For::Reading)], Some(LONG)).unwrap(), [true]);
        aside.reap().unwrap();
        assert!(Aside::start("/no/such/program", &[]).is_err());
    }

    #[test]
    fn one_that_hangs_is_killed() {
        let start = clock::now();
        let error = run("/bin/sleep", &["1000"], Duration::from_millis(50)).unwrap_err();
        assert_eq!(format!("{error:#}"), "/bin/sleep 1000: not done in time");
        assert!(clock::now() - start < LONG);
    }

    #[test]
    fn a_grandchild_that_keeps_the_streams_open_does_not_keep_us() {
        let start = clock::now();
        assert_eq!(run("/bin/sh", &["-c", "sleep 100 & echo done"], LONG).unwrap(), "done\n");
        assert!(clock::now() - start < Duration::from_secs(50));
    }
}
