//! A cgroup for one node, so that nodes of tests that run side by side do not see each other's services.

use anyhow::{Context, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long the kernel may take to empty a group whose processes were killed.
const LIMIT: Duration = Duration::from_secs(10);

/// One group below the test's own; removed with all below it when dropped.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

impl Group {
    /// Makes one. `None` for somebody who is not root, where nobody delegates cgroups.
    pub(super) fn make() -> Result<Option<Self>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !super::is_root() {
            return Ok(None);
        }
        let name = format!("podium-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = own_group()?.join(name);
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Some(Self(folder)))
    }

    /// The file that a process joins by.
    pub(super) fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Killed processes leave their group a moment later, and a group with processes cannot be removed.
        let removed = super::eventually("an empty cgroup", LIMIT, || remove(&self.0).ok());
        if let Err(error) = removed {
            eprintln!("{} is left behind: {error:#}", self.0.display());
        }
    }
}

/// Removes a group and all below it, the deepest first.
fn remove(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    std::fs::remove_dir(folder)
}

/// Where this process's own cgroup2 group is, on a host with cgroup v2 alone or beside v1.
fn own_group() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        file_system.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4)).flatten()
    });
    let mount =
        mount.context("cgroup2 is mounted nowhere: `mount -t cgroup2 none /sys/fs/cgroup` or the like")?;
    let groups = std::fs::read_to_string("/proc/self/cgroup")?;
    let group =
        groups.lines().find_map(|line| line.strip_prefix("0::/")).context("no cgroup2 group of our own")?;
    Ok(Path::new(mount).join(group))
}
