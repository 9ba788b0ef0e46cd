//! What every job of PID 1 begins with, and its client: the connection that PID 1 has handed over.
//!
//! A job is a one-shot child of the loop (see `reactor/jobs.rs`). It has a cgroup and a session of its own, and a
//! client's connection as descriptors 0 and 1. A client that is gone or does not read ends it: [`Gone`].

use crate::sys::{At, cgroup, signals};
use anyhow::{Context, Result};
use podium_init::control::{self, Refusal};
use serde_json::Value;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The cgroup of all jobs.
const CGROUP: &str = "podium/jobs";
/// How long a client may take nothing of its answer: somebody who looks at it may scroll, and nobody waits for us.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// The client is gone, or does not read. Nobody is left to be told.
#[derive(Debug, thiserror::Error)]
#[error("the client is gone")]
pub(crate) struct Gone;

/// The other end of the connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    /// The line with `ok` was sent: what goes wrong after it is a line of its own.
    begun: bool,
}

/// The first thing that a job does. It has inherited PID 1's signal mask, which is full.
///
/// # Errors
/// No permission to join the cgroup.
pub(crate) fn enter() -> Result<()> {
    signals::reset()?;
    // It leads a session already when it was started by hand.
    let _ = rustix::process::setsid();
    if cgroup::present() {
        cgroup::join(CGROUP)?;
    }
    Ok(())
}

impl Client {
    /// The one on descriptor 0.
    ///
    /// # Errors
    /// That is no socket: the job was started by hand.
    pub(crate) fn on_stdin() -> Result<Self> {
        let stdin = rustix::stdio::stdin().try_clone_to_owned().at("take", "descriptor 0")?;
        let stream = UnixStream::from(stdin);
        stream.peer_addr().at("ask for", "the client on descriptor 0").context("PID 1 starts this")?;
        Self::new(stream)
    }

    fn new(stream: UnixStream) -> Result<Self> {
        // PID 1, which never waits, had it non-blocking.
        stream.set_nonblocking(false).at("set blocking", "the connection")?;
        stream.set_write_timeout(Some(READ_LIMIT)).at("set a limit for", "the connection")?;
        Ok(Self { stream, begun: false })
    }

    /// Sends one object as a line.
    ///
    /// # Errors
    /// [`Gone`].
    pub(crate) fn send(&mut self, line: &Value) -> Result<()> {
        self.send_line(&format!("{line}\n"))
    }

    /// Sends a line that is JSON already, with its line feed.
    ///
    /// # Errors
    /// [`Gone`].
    pub(crate) fn send_line(&mut self, line: &str) -> Result<()> {
        self.begun = true;
        self.stream.write_all(line.as_bytes()).map_err(|_: io::Error| Gone.into())
    }

    /// Tells why there is no answer, or why it ends here. A client that is gone is told nothing.
    pub(crate) fn fail(&mut self, why: &anyhow::Error) {
        if why.is::<Gone>() {
            return;
        }
        let refusal = match why.downcast_ref::<Refusal>() {
            Some(refusal) => refusal.clone(),
            None => Refusal::new(format!("{why:#}"), ""),
        };
        // Gone by now.
        drop(self.send_line(&control::refusal(&refusal)));
    }

    /// Whether it was told anything.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
impl Client {
    /// One of a test, with its other end.
    pub(crate) fn pair() -> (Self, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Self::new(ours).unwrap(), theirs)
    }
}
