//! The reader of a pipe that can be told to stop reading: then the pipe fills up, and who writes to it has to wait.

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ChildStdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What fills the pipe: a line a page, which is what a pipe takes at a time.
const PAGE: usize = 4096;
/// How often the reader looks whether it is to read.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Reads while it may.
#[derive(Debug)]
pub(crate) struct Gated {
    pipe: ChildStdout,
    is_shut: Arc<AtomicBool>,
}

/// Who tells it.
#[derive(Debug)]
pub(crate) struct Gate {
    pipe: OwnedFd,
    is_shut: Arc<AtomicBool>,
}

/// The reader of `pipe`, and who tells it.
pub(crate) fn gated(pipe: ChildStdout) -> Result<(Gated, Gate)> {
    let is_shut = Arc::new(AtomicBool::new(false));
    let gate = Gate { pipe: pipe.as_fd().try_clone_to_owned()?, is_shut: Arc::clone(&is_shut) };
    Ok((Gated { pipe, is_shut }, gate))
}

impl Read for Gated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut fds = [PollFd::new(&self.pipe, PollFlags::IN)];
            if self.is_shut.load(Ordering::SeqCst) {
                thread::sleep(Duration::try_from(LOOK).unwrap_or_default());
            } else if poll(&mut fds, Some(&LOOK))? > 0 && !self.is_shut.load(Ordering::SeqCst) {
                return self.pipe.read(buffer);
            }
        }
    }
}

impl Gate {
    /// From now on nothing is read, and the pipe is full of lines of `~`.
    pub(crate) fn shut(&self) -> Result<()> {
        self.is_shut.store(true, Ordering::SeqCst);
        // The reader may be in the middle of a read.
        thread::sleep(2 * Duration::try_from(LOOK).unwrap_or_default());
        // Linux opens the other end of a pipe this way.
        let path = format!("/proc/self/fd/{}", self.pipe.as_raw_fd());
        let writer = open(&*path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let writer = writer.with_context(|| path.clone())?;
        let mut page = [b'~'; PAGE];
        page[PAGE - 1] = b'\n';
        loop {
            match rustix::io::write(&writer, &page) {
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno).context(path),
            }
        }
    }

    /// From now on everything is read again.
    pub(crate) fn open(&self) {
        self.is_shut.store(false, Ordering::SeqCst);
    }
}
