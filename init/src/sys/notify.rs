//! A service's readiness socket (`$NOTIFY_SOCKET`, see sd_notify(3)): one datagram socket each, made by PID 1.

use super::{At, Result};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// How long a sender waits for room in PID 1's queue. PID 1 empties it each turn; this only keeps a sender from
/// hanging when PID 1 is stopped.
const SEND_LIMIT: Duration = Duration::from_secs(1);

/// PID 1's end.
#[derive(Debug)]
pub(crate) struct Socket(UnixDatagram);

impl Socket {
    /// Makes the socket at `path`, in place of one that is there; its owner alone may send: `user`, or else root.
    ///
    /// # Errors
    /// No descriptor left, no folder, path longer than 107 bytes, a user that this namespace does not have.
    pub(crate) fn bind(path: &str, user: Option<u32>) -> Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at("remove", path),
            _ => {}
        }
        let socket = UnixDatagram::bind(path).at("bind", path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).at("set the mode of", path)?;
        if user.is_some() {
            std::os::unix::fs::chown(path, user, user).at("set the owner of", path)?;
        }
        socket.set_nonblocking(true).at("set nonblocking", path)?;
        Ok(Self(socket))
    }

    /// One message, if one waits; what does not fit into `buffer` is cut off by the kernel.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let length = self.0.recv(buffer).ok()?;
        buffer.get(..length)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends one message to the socket at `path`.
///
/// # Errors
/// Nobody listens there, or PID 1 did not read for a second.
pub(crate) fn send(path: &str, message: &str) -> Result<()> {
    let socket = UnixDatagram::unbound().at("open a socket for", path)?;
    socket.set_write_timeout(Some(SEND_LIMIT)).at("set a limit for", path)?;
    socket.send_to(message.as_bytes(), path).at("send to", path).map(drop)
}
