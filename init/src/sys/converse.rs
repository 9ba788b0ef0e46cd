//! A talk with one short-lived child: all of its input goes in, a bounded output comes out, within a time limit.
//!
//! Only before the loop begins, or outside of PID 1: from then on the reactor alone waits and reaps. One thread: both
//! directions are served by one poll, so that neither side can block the other, whatever the child does.

use anyhow::{Context, Result, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What is kept of a child's standard error: the end of a panic message or of a program's complaint.
const ERRORS_MAX: usize = 4096;
/// What is moved at a time: a pipe's buffer.
const CHUNK: usize = 64 * 1024;

/// What may become of a child.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of standard output; a child that says more is killed.
    pub output: usize,
    /// Time until its end; then it is killed.
    pub time: Duration,
}

/// How a talk went.
#[derive(Debug)]
pub(crate) struct Said {
    /// Standard output, cut at its limit.
    pub output: Vec<u8>,
    /// The first of standard error.
    pub errors: String,
    /// How it ended, by itself or by us.
    pub ended: ExitStatus,
    /// Which limit it was killed for.
    pub over: Option<Over>,
}

/// A limit that a child ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// [`Limits::output`].
    Output,
    /// [`Limits::time`].
    Time,
}

/// Starts a program with an empty environment and talks to it until it has ended. It is never left behind.
pub(crate) fn converse(command: &mut Command, input: &[u8], limits: Limits) -> Result<Said> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    let talked = talk(&mut child, input, limits);
    if !matches!(talked, Ok((_, _, None))) {
        // It may have ended by itself meanwhile, which is as good.
        drop(child.kill());
    }
    let ended = child.wait().with_context(|| format!("wait for {program}"))?;
    let (output, errors, over) = talked.with_context(|| format!("talk to {program}"))?;
    Ok(Said { output, errors: String::from_utf8_lossy(&errors).into_owned(), ended, over })
}

type Talk = (Vec<u8>, Vec<u8>, Option<Over>);

fn talk(child: &mut Child, mut input: &[u8], limits: Limits) -> Result<Talk> {
    let pid =
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| anyhow!("no process id"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
    let until = Instant::now() + limits.time;
    let (mut stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    for pipe in
        [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)]
    {
        rustix::io::ioctl_fionbio(pipe.ok_or_else(|| anyhow!("no pipe"))?, true)
            .context("make a pipe non-blocking")?;
    }
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    loop {
        if input.is_empty() {
            stdin = None;
        }
        // When it has ended, what it said is in the pipes: it is read below once more before the end is believed.
        let left = until.saturating_duration_since(Instant::now());
        let ended = wait(pidfd.as_fd(), stdin.as_ref(), stdout.as_ref(), stderr.as_ref(), left)?;
        if let Some(pipe) = &mut stdin {
            match pipe.write(input.get(..CHUNK).unwrap_or(input)) {
                Ok(written) => input = input.get(written..).unwrap_or_default(),
                Err(error) if is_later(&error) => {}
                // It wants no more; how it ends says whether that is well.
                Err(_) => input = &[],
            }
        }
        take(&mut stdout, &mut output, limits.output + 1)?;
        take(&mut stderr, &mut errors, ERRORS_MAX)?;
        if output.len() > limits.output {
            output.truncate(limits.output);
            return Ok((output, errors, Some(Over::Output)));
        }
        // A grandchild may hold the pipes open; once the child is gone and they are empty, nothing more is awaited.
        if ended {
            return Ok((output, errors, None));
        }
        if left.is_zero() {
            return Ok((output, errors, Some(Over::Time)));
        }
    }
}

/// Waits for any of them; the answer is whether the child has ended.
fn wait(
    pidfd: BorrowedFd<'_>,
    stdin: Option<&impl AsFd>,
    stdout: Option<&impl AsFd>,
    stderr: Option<&impl AsFd>,
    left: Duration,
) -> Result<bool> {
    let mut polled = vec![PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    polled.extend(stdin.map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
    polled.extend(stdout.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    polled.extend(stderr.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    let timeout = Timespec::try_from(left).context("a time limit")?;
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error).context("poll"),
    }
    Ok(polled.first().is_some_and(|pidfd| !pidfd.revents().is_empty()))
}

/// Reads what a pipe holds now, keeping up to `most` bytes in all and dropping the rest; closes it at its end.
fn take(pipe: &mut Option<impl Read>, into: &mut Vec<u8>, most: usize) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    // Bounded: one that writes as fast as we read must not keep us from looking at the limits.
    for _ in 0..16 {
        let Some(open) = pipe else { return Ok(()) };
        match open.read(&mut chunk) {
            Ok(0) => *pipe = None,
            Ok(length) => {
                let room = most.saturating_sub(into.len()).min(length);
                into.extend_from_slice(chunk.get(..room).unwrap_or_default());
            }
            Err(error) if is_later(&error) => return Ok(()),
            Err(error) => return Err(error).context("read from a pipe"),
        }
    }
    Ok(())
}

fn is_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(program: &str, args: &[&str], input: &[u8], output: usize, millis: u64) -> Said {
        let limits = Limits { output, time: Duration::from_millis(millis) };
        converse(Command::new(program).args(args), input, limits).unwrap()
    }

    #[test]
    fn more_than_the_pipes_hold_goes_through_in_both_directions() {
        let input = vec![b'x'; 3 << 20];
        let said = said("/bin/cat", &[], &input, 4 << 20, 30_000);
        assert!(said.output == input && said.ended.success() && said.over.is_none());
    }

    #[test]
    fn a_child_that_says_too_much_is_killed() {
        let said = said("/bin/cat", &["/dev/zero"], b"", 1000, 30_000);
        assert_eq!((said.output.len(), said.over), (1000, Some(Over::Output)));
        assert!(!said.ended.success());
    }

    #[test]
    fn a_child_that_takes_too_long_is_killed() {
        let said = said("/bin/sleep", &["60"], b"unread", 1000, 50);
        assert_eq!(said.over, Some(Over::Time));
        assert!(!said.ended.success());
    }

    #[test]
    fn a_child_that_reads_nothing_and_complains_is_heard() {
        let said = said("/bin/cat", &["/no/such/file"], &vec![b'x'; 1 << 20], 1000, 30_000);
        assert!(said.errors.contains("/no/such/file"), "{said:?}");
        assert_eq!((said.ended.code(), said.over), (Some(1), None));
    }

    #[test]
    fn endless_errors_do_not_block() {
        let said = said("/bin/sh", &["-c", "head -c 1000000 /dev/zero >&2; echo done"], b"", 1000, 30_000);
        assert_eq!((said.output.as_slice(), said.errors.len()), (&b"done\n"[..], ERRORS_MAX));
    }

    #[test]
    fn a_missing_program_is_named() {
        let limits = Limits { output: 1, time: Duration::from_secs(1) };
        let error = converse(&mut Command::new("/no/such"), b"", limits).unwrap_err();
        assert!(format!("{error:#}").starts_with("run /no/such: "), "{error:#}");
    }
}
