//! cgroup v2: join, limit, kill, watch. Where there is no cgroup2 (some containers) a group simply is not there.

use super::{At, Result};
use podium_init::clock::Time;
use podium_init::mounts::CGROUPS as ROOT;
use podium_init::usage::{self, Usage};
use std::fs::{File, OpenOptions, create_dir_all};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Ticks a second in /proc/PID/stat: the kernel's interface to programs has 100 on every x86.
const USER_HZ: u64 = 100;
/// What is read of a file with numbers; the longest, `cpu.stat`, has some hundred bytes.
const TEXT_MAX: u64 = 4096;

/// More pods than a kubelet runs by far.
const PODS_MAX: usize = 1000;

/// PID 1's own group, and its helpers'. Outside of the services': nothing that is done to those reaches it. With PID 1
/// in the root group of a container no controller could be had in any group below.
pub(crate) const OURS: &str = "init";
/// The group above those of all services.
pub(crate) const SERVICES: &str = "podium";

/// The group above those of all pods.
pub(crate) const PODS: &str = "kubepods";
/// Where the kubelet puts the cgroups of pods, by their QoS class: `pod<uid>` in one of these.
pub(crate) const POD_FOLDERS: [&str; 3] = ["kubepods", "kubepods/burstable", "kubepods/besteffort"];

/// The calling process's own group, as the other functions take it.
///
/// # Errors
/// /proc cannot be read, or there is no cgroup2.
pub(crate) fn own() -> Result<String> {
    let path = "/proc/self/cgroup";
    let text = std::fs::read_to_string(path).at("read", path)?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    own.map(str::to_owned).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)).at("find cgroup2 in", path)
}

/// Whether cgroup2 is mounted at its place; a cgroup v1 host mounts a tmpfs there.
pub(crate) fn present() -> bool {
    folder("cgroup.controllers").exists()
}

/// Moves the calling process into a group, which is made when it is missing.
///
/// # Errors
/// No permission, a read-only cgroup2, or a group that may not have processes.
pub(crate) fn join(group: &str) -> Result<()> {
    let folder = folder(group);
    let procs = folder.join("cgroup.procs");
    match write(&procs, "0") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_dir_all(&folder).at("make cgroup", &folder)?;
            write(&procs, "0").at("join", procs)
        }
        done => done.at("join", procs),
    }
}

/// Makes a group, if it is missing, with these controllers in it. Called before the first process joins.
///
/// # Errors
/// No permission, or no such controller: it belongs to cgroup v1, or processes stand in a group above.
pub(crate) fn make(group: &str, controllers: &[&str]) -> Result<()> {
    let folder = folder(group);
    create_dir_all(&folder).at("make cgroup", &folder)?;
    let file = folder.join("cgroup.controllers");
    let have = std::fs::read_to_string(&file).at("read", file)?;
    for controller in controllers.iter().filter(|name| !have.split_whitespace().any(|have| have == **name)) {
        for parent in above(&folder).into_iter().rev() {
            let file = parent.join("cgroup.subtree_control");
            write(&file, &format!("+{controller}")).at("enable a controller by", file)?;
        }
    }
    Ok(())
}

/// Sets `memory.min` in bytes, of a group.
///
/// # Errors
/// No permission, or no memory controller.
pub(crate) fn protect_memory(group: &str, least: u64) -> Result<()> {
    let file = folder(group).join("memory.min");
    write(&file, &least.to_string()).at("set", file)
}

/// Bounds the memory of a group: beyond `most` bytes, swap included, all of its processes are killed together.
///
/// # Errors
/// As [`protect_memory`].
pub(crate) fn limit_memory(group: &str, most: u64) -> Result<()> {
    let folder = folder(group);
    let limit = folder.join("memory.max");
    write(&limit, &most.to_string()).at("set", limit)?;
    let together = folder.join("memory.oom.group");
    write(&together, "1").at("set", together)?;
    // Absent in a kernel without swap.
    match write(&folder.join("memory.swap.max"), "0") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).at("set memory.swap.max of", folder)
        }
        _ => Ok(()),
    }
}

/// Bounds how many processes and threads a group may have.
///
/// # Errors
/// No permission, or no pids controller.
pub(crate) fn limit_pids(group: &str, most: u64) -> Result<()> {
    let file = folder(group).join("pids.max");
    write(&file, &most.to_string()).at("set", file)
}

/// Sends SIGKILL to every process of a group and of the groups below it, also to those it forks meanwhile.
///
/// # Errors
/// ENOENT when there is no such group.
pub(crate) fn kill(group: &str) -> Result<()> {
    let file = folder(group).join("cgroup.kill");
    write(&file, "1").at("write 1 to", file)
}

/// Sends a signal to every other process of a group and of the groups below it; how many there were. One that ends or is
/// forked meanwhile may be missed: [`kill`] misses none. Without such a group there are none.
pub(crate) fn signal(group: &str, number: i32) -> usize {
    let mut count = 0;
    let mut folders = vec![folder(group)];
    while let Some(folder) = folders.pop() {
        let pids = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        // 0 is a process of another PID namespace.
        let others = |pid: &i32| *pid > 1 && u32::try_from(*pid) != Ok(std::process::id());
        for pid in pids.lines().filter_map(|line| line.parse().ok()).filter(others) {
            count += usize::from(super::process::signal(pid, number).is_ok());
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    count
}

/// What a group's processes use; unknown where there is no such group or controller.
pub(crate) fn usage(group: &str) -> Usage {
    Usage::parse(text(group, "memory.current").as_deref(), text(group, "cpu.stat").as_deref())
}

/// How many times the OOM killer has acted in a group or below it, since the group was made.
pub(crate) fn oom_kills(group: &str) -> Option<u64> {
    text(group, "memory.events").as_deref().and_then(usage::oom_kills)
}

/// Whether a pod has no process any more, the sandbox's included. Without cgroup2 that is not known, and is denied.
pub(crate) fn pod_is_gone(uid: &str) -> bool {
    let is_empty = |folder: &str| match Events::open(&format!("{folder}/pod{uid}")) {
        Ok(Some(mut events)) => !events.populated(),
        Ok(None) => true,
        Err(_) => false,
    };
    present() && POD_FOLDERS.into_iter().all(is_empty)
}

/// Whether a pod is known to have a process. Without cgroup2 nothing is known.
pub(crate) fn pod_runs(uid: &str) -> bool {
    let has_some = |folder: &str| {
        Events::open(&format!("{folder}/pod{uid}"))
            .is_ok_and(|events| events.is_some_and(|mut all| all.populated()))
    };
    present() && POD_FOLDERS.into_iter().any(has_some)
}

/// Since when the first process of a group runs; `None`: it has none. Without cgroup2 that is not known, and it counts as
/// one that has always run.
pub(crate) fn running_since(group: &str) -> Option<Time> {
    if !present() {
        return Some(Time::ZERO);
    }
    let processes = std::fs::read_to_string(folder(group).join("cgroup.procs")).ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", processes.lines().next()?)).ok()?;
    // After the name, which may hold anything: the state, and from there the 20th, in ticks since boot.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(Time::from_millis(ticks.saturating_mul(1000 / USER_HZ)))
}

/// The UIDs of pods that have processes, sorted; at most [`PODS_MAX`].
pub(crate) fn pods_with_processes() -> Vec<String> {
    let pods = POD_FOLDERS.into_iter().flat_map(|parent| {
        let entries = std::fs::read_dir(folder(parent)).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("pod")?.to_owned()))
    });
    let mut uids: Vec<String> = pods.take(PODS_MAX).filter(|uid| !pod_is_gone(uid)).collect();
    uids.sort();
    uids
}

/// `cgroup.events` of a group: readable at once, then watched with [`super::poll::For::Change`].
#[derive(Debug)]
pub(crate) struct Events(File);

impl Events {
    /// Opens it; `None` when there is no such group, which then has no processes.
    ///
    /// # Errors
    /// No descriptor left.
    pub(crate) fn open(group: &str) -> Result<Option<Self>> {
        let path = folder(group).join("cgroup.events");
        match File::open(&path) {
            Ok(file) => Ok(Some(Self(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("open", path),
        }
    }

    /// Whether the group or one below it has processes. Also acknowledges a change. A group that was removed
    /// (ENODEV) has none.
    pub(crate) fn populated(&mut self) -> bool {
        let mut text = [0; 256];
        let length = self.0.rewind().and_then(|()| self.0.read(&mut text)).unwrap_or(0);
        text.get(..length).is_some_and(says_populated)
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The text of `cgroup.events`: `populated 1`, `frozen 0`.
fn says_populated(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| line == b"populated 1")
}

/// A group's folder, or a file of the root group.
fn folder(group: &str) -> PathBuf {
    Path::new(ROOT).join(group.trim_start_matches('/'))
}

/// The text of one of a group's files, if it is there.
fn text(group: &str, file: &str) -> Option<String> {
    let mut text = String::new();
    File::open(folder(group).join(file)).ok()?.take(TEXT_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The groups above one, from the nearest to the root.
fn above(folder: &Path) -> Vec<&Path> {
    folder.ancestors().skip(1).take_while(|parent| parent.starts_with(ROOT)).collect()
}

/// One write to a file that is there.
fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn populated_is_read_from_its_own_line() {
        assert!(says_populated(b"populated 1\nfrozen 0\n"));
        assert!(!says_populated(b"populated 0\nfrozen 1\n"));
        assert!(!says_populated(b"frozen 1\n"));
        assert!(!says_populated(b""));
    }

    #[test]
    fn the_groups_above_end_with_the_root() {
        let folder = folder("podium/log");
        assert_eq!(above(&folder), [Path::new("/sys/fs/cgroup/podium"), Path::new("/sys/fs/cgroup")]);
    }

    #[test]
    fn a_group_stays_below_the_root() {
        assert_eq!(folder("/podium/log"), Path::new("/sys/fs/cgroup/podium/log"));
    }
}
