//! `disk usage`: what files and folders take, folders with all that is in them.
//!
//! What the kernel makes up (/proc, /sys) takes nothing and is passed over. Links are not followed.

use super::output::{Fault, Sink};
use super::walk;
use crate::places::Places;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, statat};
use serde::Deserialize;
use serde_json::json;
use std::os::fd::{AsFd, BorrowedFd};

/// As in a list.
const DEPTH_MAX: usize = 64;
/// As in a list.
const ENTRIES_MAX: usize = 1 << 20;
/// As in a list.
const FOLDER_MAX: usize = 100_000;
/// Paths in one request.
const PATHS_MAX: usize = 64;
/// Magic numbers of proc and sysfs (linux/magic.h).
const MADE_UP: [i64; 2] = [0x9fa0, 0x6265_6572];
/// stat(2) counts in these, whatever the file system's own blocks are.
const BLOCK: i64 = 512;

/// What to measure.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Wanted {
    paths: Vec<String>,
    /// Levels that are told, the paths themselves the first; 0: as deep as it goes. All are measured.
    #[serde(default)]
    depth: usize,
    /// Files as well as folders.
    #[serde(default)]
    all: bool,
    /// Bytes: smaller ones are not told; of a negative one, larger ones are not.
    #[serde(default)]
    threshold: i64,
}

struct Usage<'a> {
    sink: &'a Sink,
    wanted: &'a Wanted,
    seen: usize,
}

/// Tells of each path, what is inside before what it is in.
pub(super) fn tell(places: &Places, wanted: &Wanted, sink: &Sink) -> Result<(), Fault> {
    if wanted.paths.is_empty() || wanted.paths.len() > PATHS_MAX {
        return Err(Fault::invalid(format!("name 1 to {PATHS_MAX} paths")));
    }
    let paths: Result<Vec<&str>, Fault> = wanted.paths.iter().map(|path| walk::checked(path)).collect();
    sink.begin()?;
    let mut usage = Usage { sink, wanted, seen: 0 };
    for path in paths? {
        if let Err(fault) = usage.of(places, path) {
            if sink.is_gone() || usage.seen > ENTRIES_MAX {
                return Err(fault);
            }
            sink.line(&json!({"name": path, "relative_name": path, "size": 0, "error": fault.text()}))?;
        }
    }
    Ok(())
}

impl Usage<'_> {
    fn of(&mut self, places: &Places, path: &str) -> Result<(), Fault> {
        let root = walk::open(places, path, OFlags::PATH)?;
        let stat = fstat(&root).map_err(|error| Fault::of(path, error))?;
        let mut size = taken(&stat);
        if walk::kind(&stat) == FileType::Directory {
            let folder = openat(&root, ".", FOLDER, Mode::empty()).map_err(|error| Fault::of(path, error))?;
            size += self.folder(folder.as_fd(), path, "", 1)?;
        }
        self.say(path, ".", size)
    }

    fn folder(
        &mut self,
        folder: BorrowedFd<'_>,
        path: &str,
        relative: &str,
        depth: usize,
    ) -> Result<i64, Fault> {
        if depth > DEPTH_MAX || fstatfs(folder).is_ok_and(|stat| MADE_UP.contains(&stat.f_type)) {
            return Ok(0);
        }
        let mut sum = 0;
        for name in walk::names(folder, FOLDER_MAX) {
            self.seen += 1;
            if self.seen > ENTRIES_MAX {
                return Err(Fault::invalid(format!("more than {ENTRIES_MAX} files; measure a part of them")));
            }
            let Ok(stat) = statat(folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let whole = format!("{}/{name}", path.trim_end_matches('/'));
            let below = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
            let is_folder = walk::kind(&stat) == FileType::Directory;
            let mut size = taken(&stat);
            if is_folder && let Ok(inner) = openat(folder, name.as_str(), FOLDER, Mode::empty()) {
                size += self.folder(inner.as_fd(), &whole, &below, depth + 1)?;
            }
            let is_told = self.wanted.depth == 0 || depth < self.wanted.depth;
            if is_told && (is_folder || self.wanted.all) {
                self.say(&whole, &below, size)?;
            }
            sum += size;
        }
        if self.sink.is_gone() { Err(Fault::internal("the client is gone")) } else { Ok(sum) }
    }

    fn say(&self, name: &str, relative_name: &str, size: i64) -> Result<(), Fault> {
        let is_wanted = match self.wanted.threshold {
            threshold if threshold < 0 => size <= -threshold,
            threshold => size >= threshold,
        };
        if !is_wanted {
            return Ok(());
        }
        self.sink.line(&json!({"name": name, "relative_name": relative_name, "size": size}))
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn taken(stat: &Stat) -> i64 {
    stat.st_blocks.saturating_mul(BLOCK)
}
