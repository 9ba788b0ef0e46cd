//! Waiting: the one place where PID 1 sleeps.

use super::{At, Result};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
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

/// Many descriptors as one, ready when one of them is: to wait for it costs the same however many they are. One that is
/// closed leaves it by itself.
#[derive(Debug)]
pub(crate) struct Together {
    epoll: OwnedFd,
    numbers: Vec<RawFd>,
}

impl Together {
    /// # Errors
    /// No descriptor or memory is left.
    pub(crate) fn new<'a>(fds: impl Iterator<Item = (BorrowedFd<'a>, For)>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).at("open", "epoll")?;
        let mut numbers = Vec::new();
        for (fd, what) in fds {
            let flags = match what {
                For::Reading => epoll::EventFlags::IN,
                For::Change => epoll::EventFlags::PRI,
                For::Writing => epoll::EventFlags::OUT,
                For::End => epoll::EventFlags::empty(),
            };
            epoll::add(&epoll, fd, epoll::EventData::new_u64(0), flags).at("add to", "epoll")?;
            numbers.push(fd.as_raw_fd());
        }
        Ok(Self { epoll, numbers })
    }

    /// Whether it is made of these. One that was closed, and another opened by the same number, is not told from it.
    pub(crate) fn is_of<'a>(&self, fds: impl Iterator<Item = (BorrowedFd<'a>, For)>) -> bool {
        self.numbers.iter().copied().eq(fds.map(|(fd, _)| fd.as_raw_fd()))
    }
}

impl AsFd for Together {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::Write;

    #[test]
    fn many_are_ready_when_one_is_and_as_long_as_it_is() {
        let (quiet, _other) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (ready, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let all = || [&quiet, &ready].map(|fd| (fd.as_fd(), For::Reading)).into_iter();
        let together = Together::new(all()).unwrap();
        assert!(together.is_of(all()) && !together.is_of(all().take(1)) && !together.is_of(all().rev()));
        let look = || wait(&[(together.as_fd(), For::Reading)], Some(Duration::ZERO)).unwrap();
        assert_eq!(look(), [false]);
        std::fs::File::from(writer).write_all(b"x").unwrap();
        assert_eq!((look(), look()), (vec![true], vec![true]), "nobody has read it");
        drop(ready);
        assert_eq!(look(), [false], "what is closed leaves it");
    }
}
