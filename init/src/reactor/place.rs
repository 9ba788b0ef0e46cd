//! What belongs to one service in the loop: its socket, its log pipe, its process.

use crate::child;
use crate::sys::{cgroup, file, notify};
use anyhow::{Context, Result};
use podium_init::notices::Status;
use podium_init::services::{LOG, Service};
use podium_init::supervisor::{Exit, Pid};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;

/// One service; its index in the list is the supervisor's [`podium_init::supervisor::Id`].
#[derive(Debug)]
pub(super) struct Place {
    pub(super) service: String,
    pub(super) cgroup: String,
    /// Who speaks on its socket; `None`: root.
    user: Option<u32>,
    pub(super) socket: Option<notify::Socket>,
    /// Both ends of its log pipe, so that neither a new logger nor a new service finds it closed.
    pipe: Option<OwnedFd>,
    pub(super) pid: Option<Pid>,
    /// How often the OOM killer had acted in its cgroup before this life: the cgroup outlives its processes.
    oom_kills: u64,
    /// What it has said on the console.
    pub(super) status: Status,
    /// Its chain loader has said how far it came: once each, then whoever it became cannot flood the console with it.
    pub(super) is_executed: bool,
    pub(super) has_failed: bool,
    /// The config has no use for it any more.
    pub(super) dropped: bool,
}

impl Place {
    /// With nothing open yet.
    pub(super) fn new(service: &Service) -> Self {
        let (id, cgroup) = (service.id.clone(), service.cgroup.clone());
        Self {
            service: id,
            cgroup,
            user: service.user,
            socket: None,
            pipe: None,
            pid: None,
            oom_kills: 0,
            status: Status::default(),
            is_executed: false,
            has_failed: false,
            dropped: false,
        }
    }

    /// Called before each start.
    pub(super) fn count_oom_kills(&mut self) {
        self.oom_kills = cgroup::oom_kills(&self.cgroup).unwrap_or(self.oom_kills);
    }

    /// How it ended, with the kernel's word for a SIGKILL that nobody has sent.
    pub(super) fn judge(&self, exit: Exit) -> Exit {
        let is_killed = exit.signal() == Some(nix::libc::SIGKILL);
        if is_killed && cgroup::oom_kills(&self.cgroup).is_some_and(|kills| kills > self.oom_kills) {
            return Exit::OomKilled;
        }
        exit
    }

    /// Makes what is missing of the service's socket and log pipe.
    pub(super) fn equip(&mut self) -> Result<()> {
        if self.socket.is_none() {
            self.socket = Some(notify::Socket::bind(&child::notify_socket(&self.service), self.user)?);
        }
        // The log writer's own words go to the console: in its pipe they would come back to it.
        if self.pipe.is_none() && self.service != LOG {
            self.pipe = Some(open_pipe(&child::log_pipe(&self.service))?);
        }
        Ok(())
    }
}

/// Writes what the chain loader reads.
pub(super) fn describe(service: &Service) -> Result<()> {
    let path = child::description(&service.id);
    file::replace(Path::new(&path), &serde_json::to_vec(service)?, 0o600)
}

/// Makes a FIFO, if it is not there, and opens both of its ends.
fn open_pipe(path: &str) -> Result<OwnedFd> {
    match nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(error) => return Err(error).with_context(|| format!("make pipe {path}")),
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {path}"))
}
