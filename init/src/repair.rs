//! `init repair PROGRAM ARGS`: what stands before containerd at each of its starts. It looks whether containerd's
//! metadata can be used, lets containerd begin anew if not, and becomes PROGRAM.
//!
//! Beginning anew: pods are ended, since nobody would know of them any more and they would keep their ports and mounts;
//! the databases are kept for inspection; everything else of containerd's goes, because a new database neither knows nor
//! tolerates it (snapshots are numbered by the database, so old ones are in the way of new ones). The image's own
//! archives are imported again by `preload`, other images pulled again. The order is such that a
//! power cut at any point is found as damage again. It decides nothing: that is `podium_init::metadata`.

use crate::kmsg;
use crate::sys::poll::{self, For};
use crate::sys::{At, cgroup, clock, file, limited, notify, signals};
use anyhow::{Context, Result};
use podium_init::metadata::{Database, LOG_TAIL, crashes_in_bolt, mark, reason};
use podium_init::{bolt, notices, paths, unmounts};
use rustix::mount::UnmountFlags;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
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
/// Where damaged databases are kept, the last so many of them.
const KEPT: &str = "/var/lib/podium/damaged";
const KEPT_MAX: usize = 3;
/// containerd's log.
const LOG: &str = "/var/log/podium/containerd.log";
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

/// Looks, repairs, and becomes the program in `args`.
///
/// # Errors
/// Returns only when that cannot be executed. What could not be repaired is said, and containerd has its own try.
pub(crate) fn run(args: &[String]) -> Result<()> {
    kmsg::start();
    let program = args.first().context("usage: init repair PROGRAM ARGS")?;
    if let Err(error) = repair() {
        log::error!("containerd: {error:#}; its metadata stays as it is");
    }
    let inode = fs::metadata(Path::new(ROOT).join(META)).map_or(0, |meta| meta.ino());
    // Nobody to tell when the pipe is full or gone.
    drop(writeln!(std::io::stdout(), "{}", mark(inode)));
    signals::reset()?;
    let argv = args.iter().map(|arg| CString::new(arg.as_str())).collect::<Result<Vec<_>, _>>()?;
    let pairs = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        CString::new(name.into_vec())
    });
    let env = pairs.collect::<Result<Vec<_>, _>>()?;
    let path = CString::new(program.as_str())?;
    let Err(error) = nix::unistd::execve(&path, &argv, &env).at("exec", program);
    let text = format!("{error:#}");
    tell(&format!("{}{text}", notices::FAILED)).context(text)
}

fn repair() -> Result<()> {
    let root = Path::new(ROOT);
    let (meta, snapshotter) = (root.join(META), root.join(SNAPSHOTTER));
    let snapshots = snapshotter.join("metadata.db");
    let has_snapshots = fs::read_dir(snapshotter.join("snapshots")).is_ok_and(|mut all| all.next().is_some());
    let found = look(&meta);
    let why = reason(&found, &look(&snapshots), has_snapshots).or_else(|| {
        let inode = fs::metadata(&meta).ok()?.ino();
        let crashes = found == Database::Sound && crashes_in_bolt(&log_tail().ok()?, inode);
        crashes.then(|| "it crashes in its database at each start".to_owned())
    });
    let Some(why) = why else { return Ok(()) };
    say(&format!("{why}; it begins without images and pods, the database is kept in {KEPT}"));
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
    tell(notices::ANEW)
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

fn log_tail() -> std::io::Result<String> {
    let mut file = File::open(LOG)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Has PID 1 say a line, which makes an event of it too; it stands in the service's log as well.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "podium: {line}"));
    if tell(&format!("{}{line}", notices::STATUS)).is_err() {
        kmsg::say(&format!("containerd: {line}"));
    }
}

fn tell(message: &str) -> Result<()> {
    let socket = std::env::var("NOTIFY_SOCKET").context("NOTIFY_SOCKET is not set: not started by PID 1")?;
    Ok(notify::send(&socket, message)?)
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

/// Moves databases into a new folder below [`KEPT`], and removes the oldest ones there.
fn keep(databases: &[&Path]) -> Result<()> {
    let mut before: Vec<u64> = match fs::read_dir(KEPT) {
        Ok(all) => all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => Vec::new(),
    };
    before.sort_unstable();
    let folder = Path::new(KEPT).join((before.last().copied().unwrap_or_default() + 1).to_string());
    for old in before.iter().rev().skip(KEPT_MAX - 1) {
        remove(&Path::new(KEPT).join(old.to_string()))?;
    }
    fs::create_dir_all(&folder).at("make", &folder)?;
    for database in databases {
        let kept = folder.join(database.file_name().unwrap_or_default());
        let moved = match fs::rename(database, &kept) {
            // A container may have a volume of its own for containerd.
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                fs::copy(database, &kept).and_then(|_| fs::remove_file(database))
            }
            other => other,
        };
        match moved {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).at("move aside", *database)?,
            _ => {}
        }
    }
    file::sync_dir(Path::new(KEPT))
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

fn remove(path: &Path) -> Result<()> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Ok(Err(error).at("remove", path)?),
        _ => Ok(()),
    }
}
