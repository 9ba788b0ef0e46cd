//! The one door to the kernel: a function is one or two system calls and puts the path into its error.
//!
//! Nothing here decides anything. An error says what was tried, on what, and why it failed: [`Error`].

pub(crate) mod block;
pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod converse;
pub(crate) mod device;
pub(crate) mod file;
pub(crate) mod heap;
mod ioctl;
pub(crate) mod limited;
pub(crate) mod module;
pub(crate) mod mount;
pub(crate) mod notify;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod reboot;
pub(crate) mod rights;
pub(crate) mod root;
pub(crate) mod signals;
pub(crate) mod stream;
pub(crate) mod tool;
pub(crate) mod watchdog;

use std::io;
use std::path::PathBuf;

/// A system call that failed: `open /dev/kmsg: No such file or directory (os error 2)`.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {cause}", .object.display())]
pub(crate) struct Error {
    /// What was tried, a verb: `open`, `mount`.
    pub action: &'static str,
    /// A path, or what else it was tried on: `process 12`.
    pub object: PathBuf,
    /// Why it failed. It is in the text, and so not a `source` that `{:#}` would print once more.
    pub cause: io::Error,
}

/// What the doors give back.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Adds the verb and the path to a bare error of std, rustix or nix.
pub(crate) trait At<T> {
    /// `open(path).at("open", path)?`
    ///
    /// # Errors
    /// The one it was called on, as an [`Error`].
    fn at(self, action: &'static str, object: impl Into<PathBuf>) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, action: &'static str, object: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|error| Error { action, object: object.into(), cause: error.into() })
    }
}

impl Error {
    /// The error number, e.g. 2 for ENOENT.
    pub(crate) fn errno(&self) -> Option<i32> {
        self.cause.raw_os_error()
    }
}
