//! Waiting: the one place where PID 1 sleeps.

use super::{At, Result};
use rustix::buffer::spare_capacity;
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

/// Many descriptors to read from as one, ready when one of them is: to wait for it costs the same however many they are.
/// One that is closed leaves it by itself, and nothing may be opened by its number before that was told to
/// [`Self::change`].
#[derive(Debug)]
pub(crate) struct Together {
    epoll: OwnedFd,
    numbers: Vec<RawFd>,
}

impl Together {
    /// Of none.
    ///
    /// # Errors
    /// No descriptor or memory is left.
    pub(crate) fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).at("open", "epoll")?;
        Ok(Self { epoll, numbers: Vec::new() })
    }

    /// Whether it is of these, in this order.
    pub(crate) fn is_of<'a>(&self, fds: impl Iterator<Item = BorrowedFd<'a>>) -> bool {
        self.numbers.iter().copied().eq(fds.map(|fd| fd.as_raw_fd()))
    }

    /// Makes it be of those that are `true`; the others are those which it may have been of, and which are still open.
    /// Takes no descriptor.
    ///
    /// # Errors
    /// No memory is left; of which it is then is not known.
    pub(crate) fn change(&mut self, all: &[(BorrowedFd<'_>, bool)]) -> Result<()> {
        for (fd, wanted) in all {
            let number = fd.as_raw_fd();
            let data = epoll::EventData::new_u64(u64::from(number.unsigned_abs()));
            match (self.numbers.contains(&number), wanted) {
                (false, true) => {
                    epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN).at("add to", "epoll")?;
                }
                (true, false) => epoll::delete(&self.epoll, fd).at("take from", "epoll")?,
                _ => {}
            }
        }
        self.numbers = all.iter().filter(|(_, wanted)| *wanted).map(|(fd, _)| fd.as_raw_fd()).collect();
        Ok(())
    }

    /// The numbers of those that are ready.
    ///
    /// # Errors
    /// None that the kernel knows of.
    pub(crate) fn ready(&self) -> Result<Vec<RawFd>> {
        let mut events = Vec::with_capacity(self.numbers.len().max(1));
        epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&Timespec::default()))
            .at("look at", "epoll")?;
        Ok(events.iter().filter_map(|event| RawFd::try_from(event.data.u64()).ok()).collect())
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
        let pipes = [(); 3].map(|()| pipe_with(PipeFlags::CLOEXEC).unwrap());
        let [(quiet, _), (ready, writer), (other, other_writer)] = &pipes;
        for writer in [writer, other_writer] {
            std::fs::File::from(writer.try_clone().unwrap()).write_all(b"x").unwrap();
        }
        let mut together = Together::new().unwrap();
        let look =
            |together: &Together| wait(&[(together.as_fd(), For::Reading)], Some(Duration::ZERO)).unwrap();
        assert_eq!((look(&together), together.ready().unwrap()), (vec![false], vec![]));
        let all = |is_there: bool| [(quiet.as_fd(), true), (ready.as_fd(), is_there), (other.as_fd(), false)];
        together.change(&all(true)).unwrap();
        assert!(together.is_of([quiet, ready].into_iter().map(AsFd::as_fd)));
        for _ in 0..2 {
            assert_eq!((look(&together), together.ready().unwrap()), (vec![true], vec![ready.as_raw_fd()]));
        }
        together.change(&all(false)).unwrap();
        assert_eq!((look(&together), together.ready().unwrap()), (vec![false], vec![]));
        assert!(together.is_of([quiet.as_fd()].into_iter()) && !together.is_of([ready.as_fd()].into_iter()));
    }
}
