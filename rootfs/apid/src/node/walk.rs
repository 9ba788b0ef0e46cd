//! Opening files by paths that others chose.
//!
//! Every path is resolved below the node's root by the kernel itself (openat2), so that neither `..` nor a link leads
//! out of it, and no magic link of /proc is followed. In the folders of logs no link is followed at all, and none of
//! them can be left.

use super::output::Fault;
use crate::places::Places;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// The kernel's own bound of a path.
const PATH_MAX: usize = 4096;

/// A path of the node as somebody may see it: absolute, of bounded length.
pub(super) fn checked(path: &str) -> Result<&str, Fault> {
    if !path.starts_with('/') {
        return Err(Fault::invalid(format!("{path:?} is no absolute path; write it from / on")));
    }
    if path.len() >= PATH_MAX || path.contains('\0') {
        return Err(Fault::invalid("that is no path"));
    }
    Ok(path)
}

/// The node's root.
pub(super) fn root(places: &Places) -> Result<OwnedFd, Fault> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(places.at("/"), flags, Mode::empty()).map_err(|error| Fault::of("/", error))
}

/// Opens a path of the node for reading; never blocks on a FIFO. Links are followed inside of the root.
pub(super) fn open(places: &Places, path: &str, flags: OFlags) -> Result<OwnedFd, Fault> {
    let root = root(places)?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // The kernel takes no others beside O_PATH, which opens nothing that could block.
    let more = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
    openat2(root, checked(path)?, flags | more | OFlags::CLOEXEC, Mode::empty(), inside)
        .map_err(|error| Fault::of(path, error))
}

/// Opens a regular file for reading. What it is is seen before it is opened: to open a device, a FIFO or a socket may do
/// something by itself.
pub(super) fn regular(places: &Places, path: &str) -> Result<File, Fault> {
    let found = open(places, path, OFlags::PATH)?;
    let stat = fstat(&found).map_err(|error| Fault::of(path, error))?;
    if kind(&stat) != FileType::RegularFile {
        return Err(Fault::invalid(format!("{path} is no regular file")));
    }
    // The very file that was looked at, whatever its path leads to by now.
    let same = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(same, flags, Mode::empty());
    Ok(File::from(opened.map_err(|error| Fault::of(path, error))?))
}

/// Opens a regular file below a folder of logs. A link anywhere on the way is refused, and so is `..`.
pub(super) fn log_file(folder: impl AsFd, name: &Path) -> Result<File, Fault> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let shown = name.display().to_string();
    let fd =
        openat2(folder, name, flags, Mode::empty(), beneath).map_err(|error| Fault::of(&shown, error))?;
    let stat = fstat(&fd).map_err(|error| Fault::of(&shown, error))?;
    if kind(&stat) != FileType::RegularFile {
        return Err(Fault::denied(format!("{shown} is no regular file")));
    }
    Ok(File::from(fd))
}

/// Opens a folder below another one, no links followed.
pub(super) fn log_folder(folder: impl AsFd, name: &Path) -> Result<OwnedFd, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(folder, name, flags, Mode::empty(), beneath)
        .map_err(|error| Fault::of(&name.display().to_string(), error))
}

/// Names in a folder, sorted; the first `most` of them.
pub(super) fn names(folder: impl AsFd, most: usize) -> Vec<String> {
    let Ok(entries) = rustix::fs::Dir::read_from(folder) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").take(most).collect();
    names.sort_unstable();
    names
}

/// What a file is.
pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
