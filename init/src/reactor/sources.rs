//! What the loop waits for, and for how long.

use super::place::Place;
use super::{REST, Reactor};
use crate::sys::clock;
use crate::sys::poll::{self, For};
use podium_init::clock::Time;
use podium_init::control::Role;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
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
    /// while processes end all the time. `false`: it is not to be waited for now.
    fn quiet(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let sockets = self.places.iter().filter_map(|place| place.socket.as_ref().map(AsFd::as_fd));
        let always = sockets.chain(self.watch.as_ref().map(AsFd::as_fd)).map(|fd| (fd, true));
        always.chain(self.clients.listeners())
    }

    /// Gathers those that are waited for now. A socket once bound stays for good, and so does a listener: by the number
    /// of one, no other is ever opened. Where they cannot be gathered each is waited for by itself from then on.
    fn gather_quiet(&mut self) {
        let Some(mut together) = self.together.take() else { return };
        let now = self.quiet().filter_map(|(fd, is_open)| is_open.then_some(fd));
        if together.is_of(now) {
            self.together = Some(together);
            return;
        }
        match together.change(&self.quiet().collect::<Vec<_>>()) {
            Ok(()) => self.together = Some(together),
            Err(error) => self.say(format!("{error}; each source is waited for by itself")),
        }
    }

    fn look(&self, timeout: Option<Duration>) -> crate::sys::Result<Sources> {
        let mut fds: Vec<(BorrowedFd<'_>, For)> = match &self.together {
            Some(together) => vec![(together.as_fd(), For::Reading)],
            None => self.quiet().filter(|(_, is_open)| *is_open).map(|(fd, _)| (fd, For::Reading)).collect(),
        };
        let first = fds.len();
        fds.extend(self.pods.as_ref().map(|pods| (pods.as_fd(), For::Change)));
        fds.extend(self.signals.as_ref().map(|signals| (signals.as_fd(), For::Reading)));
        fds.extend(self.clients.connected());

        let mut of_quiet = poll::wait(&fds, timeout)?;
        let mut others = of_quiet.split_off(first).into_iter();
        let quiet = match &self.together {
            Some(together) if of_quiet.contains(&true) => together.ready()?,
            Some(_) => Vec::new(),
            None => {
                let ready = fds.iter().zip(of_quiet).filter(|(_, is_ready)| *is_ready);
                ready.map(|((fd, _), _)| fd.as_raw_fd()).collect()
            }
        };
        let is_ready = |fd: BorrowedFd<'_>| quiet.contains(&fd.as_raw_fd());
        let mut next = |there: bool| there && others.next().unwrap_or(false);
        let (pods, signals) = (next(self.pods.is_some()), next(self.signals.is_some()));
        let socket = |place: &Place| place.socket.as_ref().is_some_and(|socket| is_ready(socket.as_fd()));
        let open = self.clients.listeners().filter_map(|(fd, is_open)| is_open.then_some(fd));
        Ok(Sources {
            sockets: self.places.iter().map(socket).collect(),
            pods,
            watch: self.watch.as_ref().is_some_and(|watch| is_ready(watch.as_fd())),
            signals,
            control: others.chain(open.map(is_ready)).collect(),
        })
    }
}
