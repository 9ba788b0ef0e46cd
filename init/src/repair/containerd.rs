//! containerd's metadata: looked at before each start, and begun anew when containerd could not use it.
//!
//! Beginning anew: pods are ended, since nobody would know of them any more and they would keep their ports and mounts;
//! the databases are kept for inspection; everything else of containerd's goes, because a new database neither knows nor
//! tolerates it (snapshots are numbered by the database, so old ones are in the way of new ones). The image's own
//! archives are imported again by `preload`, other images pulled again. The order is such that a
//! power cut at any point is found as damage again. It decides nothing: that is `podium_init::metadata`.

use super::{log_tail, say, tell};
use crate::repair::kept::{KEPT, keep, remove};
use crate::sys::poll::{self, For};
use crate::sys::{At, cgroup, clock, file, limited};
use anyhow::Result;
use podium_init::metadata::{self, Database, LOG_TAIL, crashes_in_bolt, reason};
use podium_init::services::CONTAINERD;
use podium_init::{bolt, notices, paths, unmounts};
use rustix::mount::UnmountFlags;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// containerd's `root` and `state`.
const ROOT: &str = "/var/lib/containerd";
const STATE: &str = "/run/containerd";
/// From [`ROOT`]: its own database, and the snapshotter with its own.
const META: &str = "io.containerd.metadata.v1.bolt/meta.db";
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1.overlayfs";
/// Network namespaces of pods.
const NAMESPACES: &str = "/run/netns";
/// What CNI plugins remember of pods: addresses in use, results. Nobody would ever give those back.
const NETWORKS: &str = "/var/lib/cni";
/// The pages of a database behind these bytes are not looked at: a node with a hundred pods has some MiB.
const DATABASE_MAX: u64 = 64 << 20;
/// Pods get SIGTERM and this time; their own grace is known to a kubelet that cannot reach containerd.
const PODS_LIMIT: Duration = Duration::from_secs(10);
/// Processes end a moment after SIGKILL, and only then their mounts are free.
const KILLED_LIMIT: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// iptables may wait for somebody who changes rules.
const IPTABLES_LIMIT: Duration = Duration::from_secs(10);
const TERM: i32 = 15;
const KILL: i32 = 9;

/// The line for the log where a life begins.
pub(super) fn mark() -> String {
    metadata::mark(fs::metadata(Path::new(ROOT).join(META)).map_or(0, |meta| meta.ino()))
}

/// Looks, and has containerd begin anew when it has to.
///
/// # Errors
/// Something could not be done; containerd has its own try.
pub(super) fn repair() -> Result<()> {
    let root = Path::new(ROOT);
    let (meta, snapshotter) = (root.join(META), root.join(SNAPSHOTTER));
    let snapshots = snapshotter.join("metadata.db");
    let has_snapshots = fs::read_dir(snapshotter.join("snapshots")).is_ok_and(|mut all| all.next().is_some());
    let found = look(&meta);
    let why = reason(&found, &look(&snapshots), has_snapshots).or_else(|| {
        let inode = fs::metadata(&meta).ok()?.ino();
        let crashes =
            found == Database::Sound && crashes_in_bolt(&log_tail(CONTAINERD, LOG_TAIL).ok()?, inode);
        crashes.then(|| "it crashes in its database at each start".to_owned())
    });
    let Some(why) = why else { return Ok(()) };
    say(CONTAINERD, &format!("{why}; it begins without images and pods, the database is kept in {KEPT}"));
    end_pods()?;
    unmount_below(&[STATE, ROOT, NAMESPACES]);
    keep(&[&meta, &snapshots])?;
    for folder in [STATE, NETWORKS, NAMESPACES] {
        empty(Path::new(folder), None)?;
    }
    match fs::remove_file(paths::PRELOAD_STAMP) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).at("remove", paths::PRELOAD_STAMP)?,
        _ => {}
    }
    // While a snapshot is left, the next start finds that the database is gone.
    empty(root, Some(&snapshotter))?;
    remove(&snapshotter)?;
    file::sync_dir(root)?;
    tell(CONTAINERD, notices::ANEW)
}

/// What a database's file is.
fn look(path: &Path) -> Database {
    let read = || -> std::io::Result<Option<(Vec<u8>, u64)>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let length = file.metadata()?.len();
        let mut bytes = Vec::new();
        file.take(DATABASE_MAX).read_to_end(&mut bytes)?;
        Ok(Some((bytes, length)))
    };
    match read() {
        Ok(None | Some((_, 0))) => Database::Empty,
        Ok(Some((bytes, length))) => {
            bolt::check(&bytes, length).map_or_else(Database::Damaged, |()| Database::Sound)
        }
        Err(error) => {
            log::warn!("containerd: read {}: {error}; whether it is sound is not known", path.display());
            Database::Unknown
        }
    }
}

/// Ends what is left of pods, and then the shims, which share our own group.
fn end_pods() -> Result<()> {
    if !cgroup::present() {
        return Ok(());
    }
    if cgroup::signal(cgroup::PODS, TERM) > 0 {
        wait_for_pods(PODS_LIMIT)?;
        // Gone with the last pod, perhaps.
        drop(cgroup::kill(cgroup::PODS));
        wait_for_pods(KILLED_LIMIT)?;
        // The rules that lead a host's port to a pod; the next pod's would stand behind them.
        let flush = ["-w", "5", "-t", "nat", "-F", "CNI-HOSTPORT-DNAT"];
        if let Err(error) = limited::run("/usr/sbin/iptables", &flush, IPTABLES_LIMIT) {
            log::info!("containerd: {error:#}");
        }
    }
    let own = cgroup::own()?;
    // Run by hand it stands in somebody else's.
    if !Path::new(own.trim_start_matches('/')).starts_with(cgroup::SERVICES) {
        return Ok(());
    }
    let until = clock::now() + KILLED_LIMIT;
    while cgroup::signal(&own, KILL) > 0 && clock::now() < until {
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn wait_for_pods(limit: Duration) -> Result<()> {
    let until = clock::now() + limit;
    let Some(mut events) = cgroup::Events::open(cgroup::PODS)? else { return Ok(()) };
    while events.populated() && clock::now() < until {
        poll::wait(&[(events.as_fd(), For::Change)], Some(until.saturating_sub(clock::now())))?;
    }
    Ok(())
}

/// Undoes what is mounted below these folders, the deepest first. What is in use still goes out of sight.
fn unmount_below(folders: &[&str]) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_below =
        |path: &Path| folders.iter().any(|folder| path.starts_with(folder) && path != Path::new(folder));
    for target in unmounts::plan(&table).into_iter().filter(|target| is_below(Path::new(&target.path))) {
        let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
        if let Err(error) = rustix::mount::unmount(target.path.as_str(), flags).at("unmount", &target.path) {
            log::warn!("containerd: {error}");
        }
    }
}

/// Removes everything in a folder but one entry. A folder that is not there is empty.
fn empty(folder: &Path, but: Option<&Path>) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.at("read", folder)?,
    };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.iter().filter(|path| Some(path.as_path()) != but).try_for_each(|path| remove(path))
}
