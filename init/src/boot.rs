//! The first steps of the node stage: /proc, what the kernel must know, the command line, then every early mount.
//!
//! Nothing here ends the boot: what cannot be mounted is said with what it means, and the node goes on with what it
//! has. "Already mounted" is done, not an error: the initramfs stage or a container runtime was first. In a container
//! the host's kernel is left alone, and its kernel command line is not ours: the words come as arguments.

use crate::disks;
use crate::sys;
use anyhow::{Context, Result};
use nix::errno::Errno;
use podium_init::cmdline::{self, Cmdline};
use podium_init::mounts::{CGROUPS, EARLY, Mount, Need, What};
use podium_init::paths;
use podium_init::services::ImageFacts;
use rustix::mount::MountPropagationFlags;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Seconds from a kernel panic, so from our own death too, to the reboot: long enough to read the last line.
const PANIC_DELAY: &str = "10";
/// Inode number of the first PID namespace (`PROC_PID_INIT_INO` in the kernel's proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// Bytes of /proc/cmdline that are read; the kernel's own bound on x86 is 2 KiB, on others up to 64 KiB.
const CMDLINE_MAX: usize = 64 * 1024;
/// See kernel/ksysfs.c of the kernel.
const RCU_EXPEDITED: &str = "/sys/kernel/rcu_expedited";
/// A list of image references, a few hundred bytes each, and versions.
const FACTS_MAX: usize = 1 << 20;

/// What the first steps found; kept in [`paths::MACHINE`] for changes while the node runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// In a container the runtime supplies the mounts, and the kernel is the host's.
    pub container: bool,
    /// `/var` is a file system of its own: containerd may write there.
    pub has_data: bool,
    /// What is in STATE survives a reboot.
    pub has_state: bool,
    /// There is, or may be, a STATE that could not be mounted: what it holds is not known.
    pub lost_state: bool,
    /// The data partitions: a reset wipes these and no others.
    pub partitions: disks::Partitions,
    /// What the image says of itself.
    pub facts: ImageFacts,
}

/// The very first steps; they need nothing. `args` are PID 1's own, without its name.
pub(crate) fn begin(args: &[String]) -> (Cmdline, bool) {
    crate::kmsg::start();
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let proc = EARLY.iter().take_while(|mount| mount.target != "/sys");
    let early: Vec<_> = proc.filter_map(|mount| make(mount).err()).collect();
    let container = in_container();
    if !container {
        tell_kernel(Path::new("/proc/sys/kernel"));
        crate::kmsg::watch_console();
    }
    log::info!(
        "init {}, node stage{}",
        env!("CARGO_PKG_VERSION"),
        if container { ", in a container" } else { "" }
    );
    for error in early {
        log::error!("{error:#}");
    }
    let text = if container { args.join(" ").into_bytes() } else { kernel_words() };
    let cmdline = cmdline::parse(&text);
    for problem in &cmdline.problems {
        log::warn!("kernel command line: {problem}");
    }
    (cmdline, container)
}

/// What the kernel must know before anything else, in both stages; `folder` is its part of /proc/sys.
pub(crate) fn tell_kernel(folder: &Path) {
    let devkmsg = folder.join("printk_devkmsg");
    // First, because it is about every line from here on: by itself the kernel drops most of ten lines in five seconds.
    // EINVAL: somebody has said on the kernel command line what it shall be.
    if !sys::file::read_line(&devkmsg).is_ok_and(|text| text == "on")
        && let Err(error) = sys::file::set(&devkmsg, "on")
        && !says(&error, &[Errno::EINVAL])
    {
        log::warn!("{error:#}; lines of this log may be missing");
    }
    for (name, value, otherwise) in [
        // Without it a panic, of the kernel or of ours, would leave the machine dark for ever.
        ("panic", PANIC_DELAY, "a kernel panic will not reboot the machine"),
        // Before the first mount: the kernel asks it for the file system's module.
        ("modprobe", paths::MODPROBE, "drivers are not loaded on demand"),
    ] {
        if let Err(error) = sys::file::set(&folder.join(name), value) {
            log::warn!("{error:#}; {otherwise}");
        }
    }
}

/// Mounts what the table says, then STATE and `/var`.
pub(crate) fn mount(container: bool) -> Machine {
    let mut absent = Vec::new();
    for mount in EARLY {
        let made = if mount.target == CGROUPS && !container { hurried(|| make(mount)) } else { make(mount) };
        match made {
            Ok(Made::New | Made::WasThere) => {}
            Ok(Made::Absent) => absent.push(mount.target.as_ref()),
            Err(error) => log::error!("{error:#}; {}", consequence(&mount.target)),
        }
    }
    if !absent.is_empty() {
        log::info!("not in this kernel or machine, so not mounted: {}", absent.join(" "));
    }
    if sys::cgroup::present()
        && let Err(error) = sys::cgroup::join(sys::cgroup::OURS)
    {
        log::info!("{error}; PID 1 stays in the root cgroup");
    }
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    if let Err(error) = sys::mount::set_propagation(Path::new("/"), shared) {
        log::error!("{error}; volumes with mount propagation will not work");
    }
    if let Err(error) = sys::file::make_dir(Path::new(paths::RUN), paths::RUN_MODE) {
        log::error!("{error:#}; services cannot be started");
    }
    let facts = image_facts();
    if !container {
        // Before a file system is checked or mounted: both look at the time.
        set_clock_floor(facts.built);
    }
    let disks::Brought { has_state, lost_state, partitions } = disks::mount(container);
    Machine { container, has_state, lost_state, partitions, has_data: data_is_separate(container), facts }
}

/// Does something while the kernel waits for its readers by interrupts, which takes microseconds. By time, which is the
/// default and the better one for a running node, it takes two ticks: the mount of the cgroups stood still for that long.
/// Who has chosen otherwise on the kernel command line keeps that.
fn hurried<T>(act: impl FnOnce() -> T) -> T {
    let file = Path::new(RCU_EXPEDITED);
    let is_set =
        sys::file::read_line(file).is_ok_and(|text| text == "0") && sys::file::set(file, "1").is_ok();
    let done = act();
    if is_set && let Err(error) = sys::file::set(file, "0") {
        log::warn!("{error:#}; the kernel interrupts all processors more often than it has to");
    }
    done
}

/// What became of one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was mounted now.
    New,
    /// Something was mounted there before.
    WasThere,
    /// The kernel or the machine does not have it, and it is optional.
    Absent,
}

/// Whether a mount of the table or the plan was made already.
pub(crate) fn is_made(mount: &Mount) -> Result<bool> {
    let target = Path::new(mount.target.as_ref());
    Ok(match &mount.what {
        // A bind mount may cover another mount; what it shall show tells whether it is the one.
        What::Bind { source, .. } => {
            sys::mount::is_mount_point(target)? && is_same(Path::new(source), target)
        }
        What::FileSystem { .. } | What::Overlay { .. } => sys::mount::is_mount_point(target)?,
    })
}

/// Makes one mount of the table or the plan, unless something is mounted there already.
pub(crate) fn make(mount: &Mount) -> Result<Made> {
    let target = Path::new(mount.target.as_ref());
    if is_made(mount)? {
        tighten(mount, target);
        return Ok(Made::WasThere);
    }
    // sysfs has a folder where the kernel and the machine have the file system, and lets nobody make one. Trying to
    // mount all the same would have the kernel look for a module first.
    if mount.need == Need::IfPresent && target.starts_with("/sys") && !target.is_dir() {
        return Ok(Made::Absent);
    }
    match make_new(mount, target) {
        Ok(()) => Ok(Made::New),
        Err(error) if mount.need == Need::IfPresent && says_absent(&error) => Ok(Made::Absent),
        Err(error) => Err(error),
    }
}

fn make_new(mount: &Mount, target: &Path) -> Result<()> {
    match &mount.what {
        // A container's volume in it (/system/state) counts for more than its own folder.
        What::FileSystem { kind, .. } if kind == "tmpfs" && sys::mount::has_mounts_below(target) => {
            log::info!("{} holds volumes: no tmpfs is mounted over them", target.display());
        }
        What::FileSystem { kind, source } => {
            // Of the folders in /sys none is made; /sys itself is not there yet in an initramfs.
            if target == Path::new("/sys") || !target.starts_with("/sys") {
                make_mount_point(target)?;
            }
            sys::mount::mount(source, target, kind, mount.flags, &mount.data)?;
        }
        What::Overlay { lower, store } => {
            if is_writable(lower) {
                log::info!("{lower} is writable already");
                return Ok(());
            }
            for part in ["upper", "work"] {
                let folder = format!("{store}/{part}");
                sys::file::make_dir(Path::new(&folder), 0o755)?;
            }
            sys::mount::mount("overlay", target, "overlay", mount.flags, &mount.data)?;
        }
        What::Bind { source, recursive } => {
            let source = Path::new(source);
            if source.is_file() {
                make_file_to_cover(target)?;
            } else {
                make_mount_point(source)?;
                make_mount_point(target)?;
            }
            sys::mount::bind(source, target, *recursive)?;
            if !mount.flags.is_empty() {
                sys::mount::set_flags(target, mount.flags)?;
            }
        }
    }
    if !mount.propagation.is_empty() {
        sys::mount::set_propagation(target, mount.propagation)?;
    }
    Ok(())
}

/// Whether two paths lead to one file or folder.
fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

/// Adds the flags that a mount made by somebody else lacks. Never takes one away.
fn tighten(mount: &Mount, target: &Path) {
    let tightened = sys::mount::flags(target).and_then(|have| match have.contains(mount.flags) {
        true => Ok(()),
        false => sys::mount::set_flags(target, have | mount.flags),
    });
    if let Err(error) = tightened {
        log::warn!("{error}; it keeps the flags it was mounted with");
    }
}

/// A folder that is there, whatever its mode, is taken as it is: the image is read-only.
fn make_mount_point(folder: &Path) -> Result<()> {
    match folder.is_dir() {
        true => Ok(()),
        false => {
            std::fs::create_dir_all(folder).with_context(|| format!("make mount point {}", folder.display()))
        }
    }
}

fn make_file_to_cover(target: &Path) -> Result<()> {
    if target.exists() {
        return Ok(());
    }
    if let Some(folder) = target.parent() {
        make_mount_point(folder)?;
    }
    sys::file::replace(target, b"", 0o644)
}

/// ENODEV: no such file system in the kernel. ENOENT: sysfs has no folder for it.
fn says_absent(error: &anyhow::Error) -> bool {
    says(error, &[Errno::ENODEV, Errno::ENOENT])
}

fn says(error: &anyhow::Error, what: &[Errno]) -> bool {
    let errno = error.downcast_ref::<sys::Error>().and_then(sys::Error::errno);
    errno.is_some_and(|errno| what.contains(&Errno::from_raw(errno)))
}

/// A container's root may be writable, and then needs no overlay.
fn is_writable(folder: &str) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    accessat(CWD, folder, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

fn image_facts() -> ImageFacts {
    let read = sys::file::read(Path::new(paths::IMAGE_FACTS), FACTS_MAX)
        .and_then(|bytes| serde_json::from_slice(&bytes).context(paths::IMAGE_FACTS));
    read.unwrap_or_else(|error| {
        log::error!(
            "{error:#}; containerd and kubelet are taken for old ones: was the image built by xtask?"
        );
        ImageFacts::default()
    })
}

/// A machine whose clock lost its battery is in 1970, where no certificate is valid yet.
fn set_clock_floor(built: u64) {
    let now = clock_gettime(ClockId::Realtime);
    let floor = Timespec { tv_sec: i64::try_from(built).unwrap_or_default(), tv_nsec: 0 };
    if now.tv_sec >= floor.tv_sec {
        return;
    }
    match clock_settime(ClockId::Realtime, floor) {
        Ok(()) => log::warn!("the clock was before the time this image was built; it is set to that time"),
        Err(error) => log::error!("set the clock to the time this image was built: {error}"),
    }
}

/// What it means that this one is missing.
fn consequence(target: &str) -> &'static str {
    match target {
        CGROUPS => "containerd and kubelet need it: boot a kernel with cgroup v2 and without cgroup_no_v1",
        "/run" | "/tmp" | "/system" => "what writes there will fail: is the mount point in the image?",
        _ => "what needs it will fail",
    }
}

/// containerd would otherwise fill the root file system.
fn data_is_separate(container: bool) -> bool {
    let device = |path: &str| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let separate = device("/var").is_some_and(|var| Some(var) != device("/"));
    match (separate, container) {
        (true, _) => true,
        (false, true) => {
            log::warn!(
                "/var is no volume: images and logs end with this container, and overlays may not work in it"
            );
            true
        }
        (false, false) => {
            log::error!("/var is not a file system of its own: containerd and kubelet are not started");
            false
        }
    }
}

fn in_container() -> bool {
    match std::fs::metadata("/proc/self/ns/pid") {
        Ok(meta) => meta.ino() != FIRST_PID_NAMESPACE,
        Err(_) => false,
    }
}

fn kernel_words() -> Vec<u8> {
    sys::file::read(Path::new("/proc/cmdline"), CMDLINE_MAX).unwrap_or_else(|error| {
        log::error!("{error:#}; no words of the kernel command line are obeyed");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_lacks_counts_as_absent() {
        let error = |errno: Errno| {
            let cause = std::io::Error::from_raw_os_error(errno as i32);
            anyhow::Error::from(sys::Error { action: "mount", object: "/x".into(), cause })
        };
        assert!(says_absent(&error(Errno::ENODEV)));
        assert!(says_absent(&error(Errno::ENOENT)));
        assert!(!says_absent(&error(Errno::EPERM)));
        assert!(!says_absent(&anyhow::anyhow!("something else")));
    }

    #[test]
    fn the_kernel_is_told_to_drop_no_line_to_reboot_and_whom_to_ask_for_modules() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["printk_devkmsg", "panic", "modprobe"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        tell_kernel(dir.path());
        let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(
            [text("printk_devkmsg"), text("panic"), text("modprobe")],
            ["on", "10", "/usr/sbin/modprobe"]
        );
    }

    #[test]
    fn what_is_mounted_is_left_as_it_is() {
        let proc = EARLY.iter().find(|mount| mount.target == "/sys/kernel/tracing").unwrap();
        let mounted =
            Mount { target: "/proc".into(), flags: rustix::mount::MountFlags::empty(), ..proc.clone() };
        assert_eq!(make(&mounted).unwrap(), Made::WasThere);
    }
}
