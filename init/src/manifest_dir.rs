//! The manifest directory: makes it hold the plan's manifests, keeps what can hang a kubelet out of it, and empties
//! it at shutdown. Which file is to be written is `podium_init::manifests::diff`'s decision.
//!
//! The directory is a tmpfs of its own that a kubelet watches: it is never replaced, no file is removed to be made
//! again as it was, and files of others are listed and left alone. Everything is written aside under a name with a
//! leading dot, which kubelets skip, and renamed. One file that cannot be written does not keep another from it.

use crate::sys::file;
use anyhow::{Context, Result, bail};
use podium_init::manifests::{Changes, Found, MAX_MANIFEST, Manifest, Order, diff, double, is_ours};
use podium_init::paths;
use podium_init::staticpods::{Foreign, Read};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{DirEntry, FileType, remove_file};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Files that were quarantined under one name before another name is asked for.
const MOST_OF_A_NAME: u32 = 1000;
/// Things in the quarantine on disk; more stay in memory beside the manifests, so that a loop does not fill the disk.
const MOST_QUARANTINED: usize = 200;
/// The largest file that a kubelet reads, and so the largest that can be a pod (`maxStaticPodSize` of its file source).
const KUBELET_READS: usize = 10 << 20;

/// Before the name of a file of others while the node goes down; kubelets skip names with a leading dot.
const HIDDEN: &str = ".hidden-by-shutdown-";

/// What was done to a directory.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Files written, changed ones and new ones.
    pub(crate) written: Vec<String>,
    /// Files of ours removed.
    pub(crate) deleted: usize,
    /// What is to be said of manifests that are held back or are so no longer.
    pub(crate) lines: Vec<String>,
    /// Files of ours that stay though the config does not have their pods: see `podium_init::manifests::Changes`.
    pub(crate) kept: Vec<String>,
    /// Files of others, left alone.
    pub(crate) foreign: Vec<String>,
    /// What could not be done, each with its path.
    pub(crate) failed: Vec<anyhow::Error>,
}

/// What was moved out of a kubelet's sight.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// A line for each thing.
    pub(crate) lines: Vec<String>,
    /// What could not be moved, each with its path.
    pub(crate) failed: Vec<anyhow::Error>,
}

/// Prepares the node's manifest directory before the kubelet starts; the files of others in it. Says what is remarkable,
/// never fails: a kubelet with some of the pods is better than none.
pub(crate) fn write<'m>(
    manifests: &'m [Manifest],
    order: impl FnOnce(Changes<'m>) -> Order<'m>,
) -> Vec<String> {
    let (dir, quarantine) = (Path::new(paths::MANIFESTS), Path::new(paths::QUARANTINE));
    let done = file::make_dir(dir, 0o700)
        .and_then(|()| show_again(dir))
        .and_then(|()| remove_leftovers(dir))
        .and_then(|()| sweep(dir, quarantine))
        .and_then(|moved| Ok((moved, apply(dir, manifests, &BTreeSet::new(), order)?)));
    match done {
        Ok((moved, mut applied)) => {
            for line in moved.lines.iter().chain(&applied.lines) {
                log::warn!("{line}");
            }
            applied.failed.extend(moved.failed);
            if !applied.foreign.is_empty() {
                log::info!("{}: not Podium's, left alone: {}", paths::MANIFESTS, applied.foreign.join(" "));
            }
            for error in applied.failed {
                log::error!("static pods: {error:#}");
            }
            applied.foreign
        }
        Err(error) => {
            log::error!("static pods: {error:#}; no pod of the config will run");
            Vec::new()
        }
    }
}

/// Moves what can hang a kubelet out of the directory while one runs. A kubelet that has opened a FIFO already hangs
/// until somebody opens it for writing: it is released. May run beside a change.
///
/// # Errors
/// The directory cannot be listed.
pub(crate) fn unblock() -> Result<Moved> {
    let (dir, quarantine) = (Path::new(paths::MANIFESTS), Path::new(paths::QUARANTINE));
    let fifos: Vec<OwnedFd> = entries(dir)?
        .iter()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_fifo()))
        .filter_map(|entry| {
            // Reading and writing at once never waits on Linux, and whoever waits for a writer has one now.
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::open(entry.path(), flags, Mode::empty()).ok()
        })
        .collect();
    let moved = sweep(dir, quarantine);
    // Closing them ends what the kubelet reads.
    drop(fifos);
    moved
}

/// Removes what an interrupted write left. Not while another one may be under way.
///
/// # Errors
/// The directory cannot be listed, or one of them not be removed.
pub(crate) fn remove_leftovers(dir: &Path) -> Result<()> {
    for entry in entries(dir)? {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".podium-") && name.ends_with(file::ASIDE) && !entry.path().is_dir() {
            remove_file(entry.path()).with_context(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Moves what can hang a kubelet, and what it would run in place of a file of ours, into quarantine: FIFOs, sockets,
/// devices, directories and links. One that cannot be moved does not keep another from it.
///
/// # Errors
/// The directory cannot be listed.
pub(crate) fn sweep(dir: &Path, quarantine: &Path) -> Result<Moved> {
    let mut moved = Moved::default();
    for entry in entries(dir)? {
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = match entry.file_type().with_context(|| format!("stat {}", path.display())) {
            Ok(kind) if kind.is_file() => continue,
            Ok(kind) => kind,
            Err(error) => {
                moved.failed.extend(unless_gone(&path, error));
                continue;
            }
        };
        match set_aside(dir, &name, quarantine) {
            Ok(to) => moved.lines.push(format!(
                "{}: a {} can hang the kubelet; moved to {}",
                path.display(),
                describe(kind),
                to.display()
            )),
            Err(error) => moved.failed.extend(unless_gone(&path, error)),
        }
    }
    Ok(moved)
}

/// Somebody else may remove what is about to be moved or removed: then that is done.
fn unless_gone(path: &Path, error: anyhow::Error) -> Option<anyhow::Error> {
    path.symlink_metadata().is_ok().then_some(error)
}

/// Makes the directory hold `want` and nothing else of ours, but for pods in `refused` (static pod IDs), which keep
/// the file that they have, and for what `order` holds back ([`Order::from`]: nothing).
///
/// # Errors
/// The directory cannot be listed. What fails for one file is in [`Applied::failed`].
pub(crate) fn apply<'m>(
    dir: &Path,
    want: &'m [Manifest],
    refused: &BTreeSet<String>,
    order: impl FnOnce(Changes<'m>) -> Order<'m>,
) -> Result<Applied> {
    let have: Vec<Found> = entries(dir)?.iter().filter_map(|entry| found(dir, &entry.file_name())).collect();
    let Order { deletions, writes, kept, foreign, lines } = order(diff(&have, want, refused));
    let mut applied = Applied { kept, foreign, lines, ..Applied::default() };
    for name in deletions {
        let path = dir.join(name);
        match remove_file(&path).with_context(|| format!("remove {}", path.display())) {
            Ok(()) => applied.deleted += 1,
            Err(error) => applied.failed.extend(unless_gone(&path, error)),
        }
    }
    for manifest in writes {
        match file::replace(&dir.join(&manifest.file), manifest.bytes.as_bytes(), 0o600) {
            Ok(()) => applied.written.push(manifest.file.clone()),
            Err(error) => applied.failed.push(error),
        }
    }
    Ok(applied)
}

/// Moves files of others out of the kubelet's sight that it would take for pods of ours, and takes them out of `foreign`.
/// What a kubelet has seen of such a file it forgets together with our pod: our manifest is then renamed into its place
/// once more, so that it sees that after the end of the other. A file of others is read here, so never by PID 1.
pub(crate) fn move_doubles(dir: &Path, want: &[Manifest], foreign: &mut Vec<String>) -> Moved {
    let mut moved = Moved::default();
    let mut rest = Vec::new();
    for name in foreign.drain(..) {
        let path = dir.join(&name);
        let text = file::read(&path, KUBELET_READS).unwrap_or_default();
        let Some(manifest) = double(&text, want) else {
            rest.push(name);
            continue;
        };
        let done = set_aside(dir, OsStr::new(&name), Path::new(paths::QUARANTINE)).and_then(|to| {
            file::replace(&dir.join(&manifest.file), manifest.bytes.as_bytes(), 0o600)?;
            Ok(to)
        });
        match done {
            Ok(to) => moved.lines.push(format!(
                "{}: the kubelet would take it for the pod {}/{} of the config; moved to {}",
                path.display(),
                manifest.namespace,
                manifest.name,
                to.display()
            )),
            Err(error) => moved.failed.extend(unless_gone(&path, error)),
        }
    }
    *foreign = rest;
    moved
}

/// What a file of others holds. Never by PID 1.
pub(crate) fn read_foreign(dir: &Path, name: &str) -> Foreign {
    let text = file::read(&dir.join(name), KUBELET_READS).ok();
    Foreign { file: name.to_owned(), read: text.map(|text| Read::of(&text)) }
}

/// Takes every manifest out of the kubelet's sight: it then ends their pods, each by its grace period. Ours are removed,
/// those of others get a leading dot until [`show_again`] at the next boot.
///
/// # Errors
/// The last of those that a file gave; the other files are gone all the same.
pub(crate) fn hide_all(dir: &Path) -> Result<()> {
    let mut result = Ok(());
    for entry in entries(dir)? {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let hidden = if is_ours(&name) {
            remove_file(entry.path()).with_context(|| format!("remove {}", entry.path().display()))
        } else if name.starts_with('.') {
            continue;
        } else {
            rename_new(&entry.path(), dir, &format!("{HIDDEN}{name}")).map(drop)
        };
        if hidden.is_err() {
            result = hidden;
        }
    }
    result
}

/// Gives files of others that the last shutdown has hidden their names back. The directory is a tmpfs, but not where
/// a container's volume is in its place.
fn show_again(dir: &Path) -> Result<()> {
    for entry in entries(dir)? {
        if let Some(name) = entry.file_name().to_string_lossy().strip_prefix(HIDDEN) {
            rename_new(&entry.path(), dir, name)?;
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<DirEntry>> {
    let list = || std::fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>();
    list().with_context(|| format!("list {}", dir.display()))
}

/// A file as `diff` takes it. Names with a leading dot are nobody's manifest.
fn found(dir: &Path, name: &OsStr) -> Option<Found> {
    let path = dir.join(name);
    let name = name.to_string_lossy().into_owned();
    if name.starts_with('.') {
        return None;
    }
    // One that is no file, cannot be read, or is too large differs from every manifest and is renamed over.
    let bytes = if is_ours(&name) { file::read(&path, MAX_MANIFEST).ok() } else { None };
    Some(Found { name, bytes })
}

/// Moves an entry out of the kubelet's sight: into `quarantine`, where it outlives a boot. On a node that is another
/// file system: a file is copied there, and what cannot be (a FIFO has no content) stays beside it under a name with a
/// leading dot until the next boot.
fn set_aside(dir: &Path, name: &OsStr, quarantine: &Path) -> Result<PathBuf> {
    let from = dir.join(name);
    let name = name.to_string_lossy();
    let has_room = || std::fs::read_dir(quarantine).map_or(0, Iterator::count) < MOST_QUARANTINED;
    if file::make_dir(quarantine, 0o700).is_ok() && has_room() {
        if let Ok(to) = rename_new(&from, quarantine, &name) {
            return Ok(to);
        }
        if let Ok(to) = copy_new(&from, quarantine, &name) {
            return Ok(to);
        }
    }
    rename_new(&from, dir, &format!(".quarantine-{name}"))
}

/// Copies a regular file into `folder` under the first name that is free, and removes it where it was.
fn copy_new(from: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    if !from.symlink_metadata().context("stat")?.is_file() {
        bail!("{} is no file", from.display());
    }
    let bytes = file::read(from, KUBELET_READS)?;
    let aside = folder.join(format!(".{}.copy", std::process::id()));
    file::store(&aside, &bytes, 0o600)?;
    let to = rename_new(&aside, folder, name);
    if to.is_err() {
        remove_file(&aside).with_context(|| format!("remove {}", aside.display()))?;
    }
    let to = to?;
    remove_file(from).with_context(|| format!("remove {}", from.display()))?;
    Ok(to)
}

/// Renames into `folder` under the first name that is free.
fn rename_new(from: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    for number in 0..MOST_OF_A_NAME {
        let to = if number == 0 { folder.join(name) } else { folder.join(format!("{name}.{number}")) };
        match renameat_with(CWD, from, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(to),
            Err(Errno::EXIST) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("move {} to {}", from.display(), to.display()));
            }
        }
    }
    bail!("{} holds {MOST_OF_A_NAME} files named {name}: empty it", folder.display())
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "symbolic link"
    } else {
        "device"
    }
}

#[cfg(test)]
#[path = "manifest_dir/tests.rs"] // also when an example takes this file in by its path
mod tests;
