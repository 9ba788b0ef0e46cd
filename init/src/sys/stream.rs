//! The control socket: a listener below /run and its connections, none of which ever blocks.

use super::{At, Result};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Resource;
use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

/// Connections that the kernel keeps for us; more of them wait in their connect(2).
const BACKLOG: i32 = 64;

/// The socket that clients connect to.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

/// One connection.
#[derive(Debug)]
pub(crate) struct Stream(UnixStream);

/// Who connected, as the kernel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// 0 for one of another PID namespace.
    pub pid: i32,
    /// In our user namespace.
    pub uid: u32,
}

/// What one read or write has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// So many bytes, at least one.
    Some(usize),
    /// None: later.
    Blocked,
    /// None, and there will be none any more.
    Ended,
}

impl Listener {
    /// Makes the socket at `path` in place of one that is there: 0600, or 0660 for a group.
    ///
    /// # Errors
    /// No descriptor left, no folder, path longer than 107 bytes, a group that this namespace does not have.
    pub(crate) fn bind(path: &str, group: Option<u32>) -> Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at("remove", path),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let socket = socket.at("open a socket for", path)?;
        let address = SocketAddrUnix::new(path).at("bind", path)?;
        // By our umask nobody else may write to it, so nobody else can connect before the mode is set.
        rustix::net::bind(&socket, &address).at("bind", path)?;
        let mode = match group {
            None => 0o600,
            Some(group) => {
                std::os::unix::fs::chown(path, None, Some(group)).at("set the group of", path)?;
                0o660
            }
        };
        std::fs::set_permissions(path, Permissions::from_mode(mode)).at("set the mode of", path)?;
        rustix::net::listen(&socket, BACKLOG).at("listen on", path)?;
        Ok(Self(socket))
    }

    /// The next connection, if one waits.
    ///
    /// # Errors
    /// No descriptor or memory left: it waits on.
    pub(crate) fn accept(&self) -> Result<Option<Stream>> {
        match rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(connection) => Ok(Some(Stream(connection.into()))),
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
            Err(error) => Err(error).at("accept", "a client"),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream {
    /// Who is at the other end; was, when it connected.
    ///
    /// # Errors
    /// None that the kernel knows of.
    pub(crate) fn peer(&self) -> Result<Peer> {
        // Not rustix's: its PID is never 0, and the kernel's may be.
        let peer = getsockopt(&self.0, PeerCredentials).at("ask for", "the peer")?;
        Ok(Peer { pid: peer.pid(), uid: peer.uid() })
    }

    /// How many descriptors this process may still open; the kernel gives the lowest number that is free.
    pub(crate) fn descriptors_left(&self) -> u64 {
        let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        limit.saturating_sub(u64::try_from(self.0.as_raw_fd()).unwrap_or(0))
    }

    /// Takes what has come, up to the size of `buffer`.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Moved {
        moved(self.0.read(buffer))
    }

    /// Gives what the other end takes now.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Moved {
        moved(self.0.write(bytes))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        stream.0.into()
    }
}

fn moved(done: io::Result<usize>) -> Moved {
    match done {
        Ok(0) => Moved::Ended,
        Ok(count) => Moved::Some(count),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Moved::Blocked,
            _ => Moved::Ended,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (tempfile::TempDir, String, Listener) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket").to_str().unwrap().to_owned();
        let listener = Listener::bind(&path, None).unwrap();
        (dir, path, listener)
    }

    #[test]
    fn the_socket_is_for_its_owner_and_replaces_one_that_is_there() {
        let (_dir, path, _first) = listener();
        let _second = Listener::bind(&path, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_socket_for_a_group_is_for_that_one_too_and_for_nobody_else() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket").to_str().unwrap().to_owned();
        let group = rustix::process::getegid().as_raw();
        let _listener = Listener::bind(&path, Some(group)).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o660, group));
    }

    #[test]
    fn nothing_blocks_and_a_peer_is_known() {
        let (_dir, path, listener) = listener();
        assert!(listener.accept().unwrap().is_none());
        let mut client = UnixStream::connect(&path).unwrap();
        let mut stream = listener.accept().unwrap().unwrap();
        let ourselves =
            Peer { pid: std::process::id().try_into().unwrap(), uid: rustix::process::geteuid().as_raw() };
        assert_eq!(stream.peer().unwrap(), ourselves);
        let mut buffer = [0; 8];
        assert_eq!(stream.read(&mut buffer), Moved::Blocked);
        client.write_all(b"ab").unwrap();
        assert_eq!(stream.read(&mut buffer), Moved::Some(2));
        let chunk = vec![0; 1 << 20];
        let first_block = (0..100).map(|_| stream.write(&chunk)).find(|moved| *moved == Moved::Blocked);
        assert_eq!(first_block, Some(Moved::Blocked));
        drop(client);
        assert_eq!(stream.read(&mut buffer), Moved::Ended);
        assert_eq!(stream.write(b"x"), Moved::Ended);
    }
}
