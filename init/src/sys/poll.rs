//! Waiting: the one place where PID 1 sleeps.

use super::{At, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Something to read.
    Reading,
    /// A change of a kernfs file such as `cgroup.events` (`POLLPRI`).
    Change,
    /// Room to write.
    Writing,
    /// Only that the other end is gone, which is always told.
    End,
}

/// Waits until one of `fds` is ready or `timeout` is over (`None`: for ever). The answer has one entry for each of
/// `fds`, in order; all are false after a timeout.
///
/// # Errors
/// ENOMEM, or EINTR when a signal handler ran.
pub(crate) fn wait(fds: &[(BorrowedFd<'_>, For)], timeout: Option<Duration>) -> Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|(fd, what)| match what {
            For::Reading => PollFd::from_borrowed_fd(*fd, PollFlags::IN),
            For::Change => PollFd::from_borrowed_fd(*fd, PollFlags::PRI),
            For::Writing => PollFd::from_borrowed_fd(*fd, PollFlags::OUT),
            For::End => PollFd::from_borrowed_fd(*fd, PollFlags::empty()),
        })
        .collect();
    // A span that no Timespec holds is longer than any machine runs: then wait for ever.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    poll(&mut polled, timeout.as_ref()).at("poll", "the event sources")?;
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}
