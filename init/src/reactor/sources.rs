//! What the loop waits for, and for how long.

use super::{REST, Reactor};
use crate::sys::clock;
use crate::sys::poll::{self, For, Together};
use podium_init::clock::Time;
use podium_init::control::Role;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Which sources are ready.
#[derive(Debug)]
pub(super) struct Sources {
    /// One for each place.
    pub(super) sockets: Vec<bool>,
    pub(super) pods: bool,
    pub(super) watch: bool,
    pub(super) signals: bool,
    /// As [`super::clients::Clients::receive`] takes them.
    pub(super) control: Vec<bool>,
}

impl Reactor {
    /// The first deadline but the watchdog's.
    pub(super) fn deadline(&self) -> Option<Time> {
        let deadlines = [
            self.supervisor.deadline(),
            self.clients.deadline(),
            self.jobs.deadline(),
            self.policy.deadline().filter(|_| self.supervisor.shutting_down().is_none()),
            self.guard.deadline().filter(|_| self.supervisor.shutting_down().is_none()),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Sleeps until a source is ready or the first deadline has come.
    pub(super) fn wait(&mut self) -> Sources {
        self.gather_quiet();
        match self.look(self.timeout()) {
            Ok(ready) => ready,
            Err(error) => {
                self.say(format!("{error}; looking at everything in {REST:?}"));
                std::thread::sleep(REST);
                Sources {
                    sockets: vec![true; self.places.len()],
                    pods: self.pods.is_some(),
                    watch: self.watch.is_some(),
                    signals: true,
                    control: vec![true; self.clients.count() + Role::ALL.len()],
                }
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let deadline = self.deadline().into_iter().chain(self.watchdog.deadline()).min();
        let deadline = deadline.map(|deadline| deadline.saturating_sub(clock::now()));
        match (self.more_deaths || self.clients.has_line(), &self.signals) {
            (true, _) => Some(Duration::ZERO),
            (false, Some(_)) => deadline,
            (false, None) => Some(deadline.map_or(REST, |deadline| deadline.min(REST))),
        }
    }

    /// The services' sockets, the files that are watched, and where clients come: some twenty that seldom have something,
    /// while processes end all the time.
    fn quiet(&self) -> impl Iterator<Item = (BorrowedFd<'_>, For)> {
        let sockets = self.places.iter().filter_map(|place| place.socket.as_ref().map(AsFd::as_fd));
        sockets
            .chain(self.watch.as_ref().map(AsFd::as_fd))
            .chain(self.clients.listening())
            .map(|fd| (fd, For::Reading))
    }

    /// Gathers them anew when there are others than before: of none is another opened in its place. Where they cannot
    /// be gathered each is waited for by itself.
    fn gather_quiet(&mut self) {
        if self.together.as_ref().is_none_or(|together| !together.is_of(self.quiet())) {
            self.together = Together::new(self.quiet()).ok();
        }
    }

    fn look(&self, timeout: Option<Duration>) -> crate::sys::Result<Sources> {
        let mut fds: Vec<(BorrowedFd<'_>, For)> = match &self.together {
            Some(together) => vec![(together.as_fd(), For::Reading)],
            None => self.quiet().collect(),
        };
        let first = fds.len();
        fds.extend(self.pods.as_ref().map(|pods| (pods.as_fd(), For::Change)));
        fds.extend(self.signals.as_ref().map(|signals| (signals.as_fd(), For::Reading)));
        fds.extend(self.clients.connected());

        let mut of_quiet = poll::wait(&fds, timeout)?;
        let mut others = of_quiet.split_off(first).into_iter();
        if self.together.is_some() && of_quiet.contains(&true) {
            of_quiet = poll::wait(&self.quiet().collect::<Vec<_>>(), Some(Duration::ZERO))?;
        } else if self.together.is_some() {
            of_quiet.clear();
        }
        let mut of_quiet = of_quiet.into_iter();
        let mut next = |there: bool| there && of_quiet.next().unwrap_or(false);
        let sockets = self.places.iter().map(|place| next(place.socket.is_some())).collect();
        let watch = next(self.watch.is_some());
        let mut next = |there: bool| there && others.next().unwrap_or(false);
        let (pods, signals) = (next(self.pods.is_some()), next(self.signals.is_some()));
        Ok(Sources { sockets, pods, watch, signals, control: others.chain(of_quiet).collect() })
    }
}
