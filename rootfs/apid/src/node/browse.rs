//! `list` and `read`: names in folders for readers, the content of files for admins.
//!
//! A walk opens each folder from the one above and follows no link below the path that was asked for, so that no
//! rename in between leads it elsewhere. Depth, entries and bytes are bounded.

use super::output::{Fault, PIECE, Sink};
use super::walk;
use crate::places::Places;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

/// A deeper tree is somebody's trap; each level is an open descriptor.
const DEPTH_MAX: usize = 64;
/// Of one list: a whole node has some hundred thousand files.
const ENTRIES_MAX: usize = 1 << 20;
/// Names of one folder that are sorted at a time.
const FOLDER_MAX: usize = 100_000;
/// Of one read: the largest log or core that somebody fetches; files of /proc may have no end.
const READ_MAX: u64 = 1 << 30;
/// A link's target.
const LINK_MAX: usize = 4096;

/// What to list.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Wanted {
    root: String,
    /// Levels below the root; 0: as deep as it goes.
    #[serde(default)]
    depth: usize,
    /// `regular`, `directory`, `symlink`; none: all.
    #[serde(default)]
    types: Vec<String>,
}

/// One file, as it is told.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    /// Its whole path.
    name: &'a str,
    /// From the root of the list on.
    relative_name: &'a str,
    size: i64,
    /// As stat(2) has it.
    mode: u32,
    /// Seconds since 1970.
    modified: i64,
    uid: u32,
    gid: u32,
    link: Option<String>,
    error: Option<String>,
}

/// A list under way.
struct List<'a> {
    sink: &'a Sink,
    wanted: &'a Wanted,
    told: usize,
}

/// Tells of a file or a folder and what is in it.
pub(super) fn list(places: &Places, wanted: &Wanted, sink: &Sink) -> Result<(), Fault> {
    let path = walk::checked(&wanted.root)?;
    let root = walk::open(places, path, OFlags::PATH)?;
    let stat = fstat(&root).map_err(|error| Fault::of(path, error))?;
    sink.begin()?;
    let mut list = List { sink, wanted, told: 0 };
    let name = if path == "/" { path } else { path.trim_end_matches('/') };
    if walk::kind(&stat) != FileType::Directory {
        return list.tell(name, name.rsplit('/').next().unwrap_or(name), &stat, None, None);
    }
    list.tell(name, ".", &stat, None, None)?;
    let folder = openat(&root, ".", FOLDER, Mode::empty()).map_err(|error| Fault::of(path, error))?;
    list.folder(folder.as_fd(), name, "", 1)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl List<'_> {
    fn folder(
        &mut self,
        folder: BorrowedFd<'_>,
        path: &str,
        relative: &str,
        depth: usize,
    ) -> Result<(), Fault> {
        for name in walk::names(folder, FOLDER_MAX) {
            let whole = format!("{}/{name}", path.trim_end_matches('/'));
            let below = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
            // One that is not there any more went meanwhile.
            let Ok(stat) = statat(folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let link = (walk::kind(&stat) == FileType::Symlink).then(|| target(folder, &name)).flatten();
            self.tell(&whole, &below, &stat, link, None)?;
            let goes_on = self.wanted.depth == 0 || depth < self.wanted.depth;
            if walk::kind(&stat) != FileType::Directory || !goes_on {
                continue;
            }
            if depth >= DEPTH_MAX {
                let error = format!("deeper than {DEPTH_MAX} folders");
                self.tell(&whole, &below, &stat, None, Some(error))?;
                continue;
            }
            match openat(folder, name.as_str(), FOLDER, Mode::empty()) {
                Ok(inner) => self.folder(inner.as_fd(), &whole, &below, depth + 1)?,
                Err(error) => self.tell(&whole, &below, &stat, None, Some(error.to_string()))?,
            }
        }
        Ok(())
    }

    fn tell(
        &mut self,
        name: &str,
        relative_name: &str,
        stat: &Stat,
        link: Option<String>,
        error: Option<String>,
    ) -> Result<(), Fault> {
        self.told += 1;
        if self.told > ENTRIES_MAX {
            return Err(Fault::invalid(format!("more than {ENTRIES_MAX} files; list a part of them")));
        }
        let word = match walk::kind(stat) {
            FileType::RegularFile => "regular",
            FileType::Directory => "directory",
            FileType::Symlink => "symlink",
            _ => "other",
        };
        if !self.wanted.types.is_empty() && !self.wanted.types.iter().any(|wanted| wanted == word) {
            return Ok(());
        }
        let (mode, modified) = (stat.st_mode, stat.st_mtime);
        let (uid, gid) = (stat.st_uid, stat.st_gid);
        let size = stat.st_size;
        self.sink.line(&Entry { name, relative_name, size, mode, modified, uid, gid, link, error })
    }
}

fn target(folder: BorrowedFd<'_>, name: &str) -> Option<String> {
    let target = readlinkat(folder, name, Vec::with_capacity(LINK_MAX)).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// The content of a regular file.
pub(super) fn read(places: &Places, path: &str, sink: &Sink) -> Result<(), Fault> {
    let file = walk::regular(places, path)?;
    sink.begin()?;
    let mut file = file.take(READ_MAX);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) if file.limit() == 0 => {
                return Err(Fault::invalid(format!("{path} is larger than {} MiB", READ_MAX >> 20)));
            }
            Ok(0) => return Ok(()),
            Ok(length) => sink.data(piece.get(..length).unwrap_or_default())?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // A file of the kernel's that has no more to say now.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(Fault::of(path, error)),
        }
    }
}
