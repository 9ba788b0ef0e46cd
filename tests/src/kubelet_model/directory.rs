//! A real directory as a [`Place`]: the same operations that the model takes, by system calls.
//!
//! What concerns the kubelet itself (waiting for its list, stopping and starting it) is the caller's, by [`Steps`]: a
//! test in QEMU does it through the machine's API, one without a kubelet does nothing.

use super::{Operation, Place};
use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What a [`Directory`] leaves to its caller.
pub trait Steps {
    /// Returns when the kubelet has listed the directory again, which it does every 20 s.
    ///
    /// # Errors
    /// It cannot be told.
    fn wait_for_list(&mut self) -> Result<()>;
    /// Ends the kubelet, and nothing else.
    ///
    /// # Errors
    /// It does not end.
    fn stop_kubelet(&mut self) -> Result<()>;
    /// Starts it and returns when it has listed the directory.
    ///
    /// # Errors
    /// It does not start.
    fn start_kubelet(&mut self) -> Result<()>;
}

/// A manifest directory.
#[derive(Debug)]
pub struct Directory<S> {
    path: PathBuf,
    steps: S,
}

impl<S: Steps> Directory<S> {
    /// The directory at `path`, which exists.
    pub fn new(path: &Path, steps: S) -> Self {
        Self { path: path.to_owned(), steps }
    }

    /// Where the directory goes when another takes its place.
    fn moved_away(&self) -> PathBuf {
        self.path.with_extension("moved-away")
    }
}

impl<S: Steps> Place for Directory<S> {
    fn apply(&mut self, operation: &Operation) -> Result<()> {
        let at = |name: &str| self.path.join(name);
        match operation {
            Operation::Rename { file, bytes } => {
                let aside = at(&format!(".{file}.aside"));
                fs::write(&aside, bytes)?;
                fs::rename(&aside, at(file))
            }
            Operation::Write { file, bytes } => fs::write(at(file), bytes),
            Operation::Move { from, to } => fs::rename(at(from), at(to)),
            Operation::Delete(name) => match fs::symlink_metadata(at(name))?.is_dir() {
                true => fs::remove_dir_all(at(name)),
                false => fs::remove_file(at(name)),
            },
            Operation::Touch(name) => {
                let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
                let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
                let times = Timestamps { last_access: keep, last_modification: now };
                rustix::fs::utimensat(CWD, at(name), &times, rustix::fs::AtFlags::empty()).map_err(Into::into)
            }
            Operation::Chmod(name) => {
                let mode = fs::metadata(at(name))?.permissions().mode();
                fs::set_permissions(at(name), Permissions::from_mode(mode ^ 0o040))
            }
            Operation::Fifo(name) => {
                rustix::fs::mknodat(CWD, at(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                    .map_err(Into::into)
            }
            Operation::Symlink { file, target } => symlink(target, at(file)),
            Operation::Subdirectory(name) => fs::create_dir(at(name)),
            Operation::ReplaceDirectory(files) => {
                let aside = self.path.with_extension("aside");
                fs::create_dir(&aside)?;
                for (name, bytes) in files {
                    fs::write(aside.join(name), bytes)?;
                }
                fs::rename(&self.path, self.moved_away())?;
                fs::rename(aside, &self.path)
            }
            Operation::RemoveReplaced => fs::remove_dir_all(self.moved_away()),
            Operation::RemoveDirectory => fs::remove_dir_all(&self.path),
            Operation::Relist => return self.steps.wait_for_list(),
            Operation::StopKubelet => return self.steps.stop_kubelet(),
            Operation::StartKubelet => return self.steps.start_kubelet(),
        }
        .with_context(|| format!("{operation:?} in {}", self.path.display()))
    }
}
