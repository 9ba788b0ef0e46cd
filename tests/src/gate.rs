//! The reader of a pipe that can be told to stop reading: then the pipe fills up, and who writes to it has to wait.

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ChildStdout;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What fills the pipe: a line a page, which is what a pipe takes at a time.
const PAGE: usize = 4096;
/// How often the reader looks whether it is to read.
const LOOK: Duration = Duration::from_millis(10);
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Reads while it may.
#[derive(Debug)]
pub(crate) struct Gated {
    pipe: ChildStdout,
    is_shut: Arc<Mutex<bool>>,
}

/// Who tells it.
#[derive(Debug)]
pub(crate) struct Gate {
    pipe: OwnedFd,
    is_shut: Arc<Mutex<bool>>,
}

/// The reader of `pipe`, and who tells it.
pub(crate) fn gated(pipe: ChildStdout) -> Result<(Gated, Gate)> {
    let is_shut = Arc::new(Mutex::new(false));
    let gate = Gate { pipe: pipe.as_fd().try_clone_to_owned()?, is_shut: Arc::clone(&is_shut) };
    Ok((Gated { pipe, is_shut }, gate))
}

impl Read for Gated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            {
                // Held over the read, so that nothing is read once it is shut.
                let is_shut = self.is_shut.lock().unwrap_or_else(PoisonError::into_inner);
                let mut fds = [PollFd::new(&self.pipe, PollFlags::IN)];
                if !*is_shut && poll(&mut fds, Some(&NOW))? > 0 {
                    return self.pipe.read(buffer);
                }
            }
            thread::sleep(LOOK);
        }
    }
}

impl Gate {
    /// From now on nothing is read, and the pipe is full of lines of `~`.
    pub(crate) fn shut(&self) -> Result<()> {
        let mut is_shut = self.is_shut.lock().unwrap_or_else(PoisonError::into_inner);
        // Linux opens the other end of a pipe this way.
        let path = format!("/proc/self/fd/{}", self.pipe.as_raw_fd());
        let writer = open(&*path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let writer = writer.with_context(|| path.clone())?;
        let mut page = [b'~'; PAGE];
        page[PAGE - 1] = b'\n';
        // By the byte at last: the writer's own last page may have room.
        for step in [&page[..], b"~"] {
            loop {
                match rustix::io::write(&writer, step) {
                    Ok(_) => {}
                    Err(Errno::AGAIN) => break,
                    Err(errno) => return Err(errno).context(path),
                }
            }
        }
        *is_shut = true;
        Ok(())
    }

    /// From now on everything is read again.
    pub(crate) fn open(&self) {
        *self.is_shut.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}
