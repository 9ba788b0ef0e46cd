//! The first stage: finds the root file system, mounts it read-only, and becomes the PID 1 that is on it.
//!
//! A straight line: kernel's file systems -> drivers by modalias -> root partition by its label -> mount -> switch
//! root -> exec. It goes round only while the disk has not appeared: drivers bring buses, buses bring devices. It
//! never writes to a disk, and it ends in an error that says what was seen and what to do when there is no root.

use crate::sys::module::Store;
use crate::sys::{block, clock, device, file, mount, poll, root};
use crate::{boot, kmsg};
use anyhow::{Context, Result, bail};
use podium_init::blockdev::{Choice, LOADER_VARIABLE, Partition, choose, loader_disk, loader_uuid, table};
use podium_init::cmdline::{self, Cmdline};
use podium_init::mounts::{EARLY, NO_SUID_DEV};
use podium_init::paths;
use podium_init::shutdown::{LastActs, Shutdown};
use rustix::fs::inotify;
use rustix::mount::MountFlags;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Where the root is mounted before it becomes the root; the kernel's own initramfs has this folder.
const NEW_ROOT: &str = "/root";
/// What this stage needs of the early mounts, and hands over to the next.
const HANDED_OVER: [&str; 3] = ["/dev", "/proc", "/sys"];
/// Where firmware variables are.
const EFI_VARIABLES: &str = "/sys/firmware/efi/efivars";
/// How long nothing may happen in /dev before drivers and partitions are looked at again.
const LOOK_DELAY: Duration = Duration::from_millis(100);
/// When the first line about waiting is due.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest firmware variable that is read, and of /proc/cmdline.
const SMALL: usize = 64 << 10;

/// The initramfs stage: returns only when the root could not be mounted and executed.
pub(crate) fn stage() -> Result<(Shutdown, LastActs)> {
    run().map(|never| match never {})
}

fn run() -> Result<Infallible> {
    kmsg::start();
    for target in ["/proc", "/sys", "/dev"] {
        make(target)?;
    }
    boot::tell_kernel(Path::new("/proc/sys/kernel"));
    log::info!("init {}, initramfs stage", env!("CARGO_PKG_VERSION"));
    let words = file::read(Path::new("/proc/cmdline"), SMALL)?;
    // The next stage tells the problems with it.
    let cmdline = cmdline::parse(&words);

    let mut drivers = Drivers::open();
    let partition = find_root(&cmdline, &mut drivers)?;
    let kind = mount_root(&partition, &drivers)?;
    log::info!("root {} on {}, {kind}, read-only", cmdline.root, partition.device.display());
    enter_root()?;
    Ok(root::execute(paths::INIT)?)
}

/// Makes one of the early mounts.
fn make(target: &str) -> Result<()> {
    let entry =
        EARLY.iter().find(|entry| entry.target == target).context("not in the table of early mounts")?;
    boot::make(entry).map(drop)
}

/// The modules in the initramfs, and what was done with them.
struct Drivers {
    store: Option<Store>,
    /// Modaliases that had their turn.
    seen: BTreeSet<String>,
}

impl Drivers {
    /// An initramfs without modules is no fault: all drivers may be part of the kernel.
    fn open() -> Self {
        let store = Store::open().inspect_err(|error| log::info!("no modules in the initramfs: {error:#}"));
        Self { store: store.ok(), seen: BTreeSet::new() }
    }

    /// Loads the drivers of all devices that are new since the last time, and of those that they bring.
    fn coldplug(&mut self) {
        let Some(store) = &self.store else { return };
        loop {
            let present = device::bus_modaliases();
            let new: BTreeSet<&str> = present.difference(&self.seen).map(String::as_str).collect();
            let report = store.load(new, "");
            for (_, error) in report.faults() {
                log::warn!("{error}");
            }
            self.seen.extend(present);
            if report.loaded.is_empty() {
                return;
            }
        }
    }

    /// Loads a module by name, quietly: it may be part of the kernel, and the mount tells if it was needed.
    fn load(&self, name: &str) {
        if let Some(store) = &self.store {
            for (_, error) in store.load([name], "").faults() {
                log::warn!("{error}");
            }
        }
    }
}

/// Waits for the root partition to appear. When it does not, or two have its label, the error says so after a
/// table of what is there.
fn find_root(cmdline: &Cmdline, drivers: &mut Drivers) -> Result<Partition> {
    let since = clock::now();
    let changes = watch_dev();
    let loader = loader_partition(drivers);
    let mut is_told = false;
    loop {
        drivers.coldplug();
        let partitions = partitions(loader.is_some())?;
        let waited = clock::now().saturating_sub(since);
        let is_late = waited >= cmdline.root_wait;
        // The disk that we were started from is there for sure: one with the same label must not be faster.
        let is_loader_there = loader.is_none() || loader_disk(&partitions, loader.as_deref()).is_some();
        let choice = choose(&partitions, &cmdline.root, loader.as_deref());
        match choice {
            Choice::One(partition) if is_loader_there || is_late => return Ok(partition.clone()),
            Choice::Ambiguous(candidates) if is_loader_there || is_late => {
                let count = candidates.len();
                show(&format!("partitions with the label {}:", cmdline.root), candidates);
                bail!(
                    "{count} partitions have the label {}; detach the disk that is not meant, or give one of them \
                     another label",
                    cmdline.root
                );
            }
            _ if is_late => {
                match partitions.as_slice() {
                    [] => log::error!(
                        "no partition at all is seen: no disk, or no driver for it in the initramfs"
                    ),
                    _ => show("partitions seen:", &partitions),
                }
                bail!(
                    "no partition has the label {} after {} s; attach its disk, or name another: podium.root=LABEL \
                     (podium.root_wait=SECONDS waits longer)",
                    cmdline.root,
                    cmdline.root_wait.as_secs()
                );
            }
            _ => {}
        }
        if waited >= PATIENCE && !is_told {
            log::info!("waiting for a partition with the label {}", cmdline.root);
            is_told = true;
        }
        wait(changes.as_ref(), LOOK_DELAY.min(cmdline.root_wait.saturating_sub(waited)));
    }
}

/// All partitions that the kernel knows now; reads their GUIDs from the disks only if they are needed.
fn partitions(with_uuids: bool) -> Result<Vec<Partition>> {
    let blocks = block::list()?;
    let described = blocks.iter().filter_map(|block| {
        let number = block.number?;
        let disk = blocks.iter().find(|disk| disk.name == block.disk && disk.number.is_none());
        // A disk that cannot be read is not the loader's.
        let uuid = disk.filter(|_| with_uuids).and_then(|disk| {
            device::partition_uuid(&disk.device(), number).unwrap_or_else(|error| {
                log::warn!("{error}");
                None
            })
        });
        Some(Partition {
            device: block.device(),
            disk: block.disk.clone(),
            number,
            label: block.label.clone(),
            size: block.size,
            uuid,
        })
    });
    Ok(described.collect())
}

/// The PARTUUID of the partition that a loader was started from, when there was one that says so.
fn loader_partition(drivers: &Drivers) -> Option<String> {
    if !Path::new(EFI_VARIABLES).is_dir() {
        return None;
    }
    drivers.load("efivarfs");
    if let Err(error) = make(EFI_VARIABLES) {
        log::warn!("{error:#}; not known which disk the loader was on");
        return None;
    }
    // Most loaders do not set it.
    let variable = file::read(&Path::new(EFI_VARIABLES).join(LOADER_VARIABLE), SMALL).ok()?;
    loader_uuid(&variable)
}

/// Tells of nodes that appear in /dev. Without it we look every [`LOOK_DELAY`].
fn watch_dev() -> Option<OwnedFd> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let watch = inotify::init(flags).ok()?;
    inotify::add_watch(&watch, "/dev", inotify::WatchFlags::CREATE).ok()?;
    Some(watch)
}

/// Waits for a new node in /dev or the time-out, and forgets the news.
fn wait(changes: Option<&OwnedFd>, limit: Duration) {
    let fds: Vec<_> = changes.iter().map(|fd| (fd.as_fd(), poll::For::Reading)).collect();
    if let Err(error) = poll::wait(&fds, Some(limit)) {
        log::warn!("{error}");
    }
    let mut buffer = [0; 4096];
    while let Some(fd) = changes
        && rustix::io::read(fd, &mut buffer).is_ok_and(|length| length > 0)
    {}
}

/// Prints a table, a line each: control characters in labels are taken out by the log.
fn show<'a>(heading: &str, partitions: impl IntoIterator<Item = &'a Partition>) {
    log::error!("{heading}");
    for line in table(partitions) {
        log::error!("{line}");
    }
}

/// Mounts the root by what its superblock says, and gives the file system's name.
fn mount_root(partition: &Partition, drivers: &Drivers) -> Result<&'static str> {
    let shown = partition.device.display();
    let Some(kind) = device::root_filesystem(&partition.device)? else {
        bail!(
            "{shown} ({}) holds no erofs, squashfs or ext4 file system; write the image again, or name another \
             root: podium.root=LABEL",
            partition.label
        );
    };
    drivers.load(kind.name());
    let flags = NO_SUID_DEV | MountFlags::RDONLY;
    file::make_dir(Path::new(NEW_ROOT), 0o700)?;
    mount::mount(&partition.device.to_string_lossy(), Path::new(NEW_ROOT), kind.name(), flags, "")
        .with_context(|| format!("{shown} holds {}, which cannot be mounted", kind.name()))?;
    Ok(kind.name())
}

/// Makes the mounted root the root. After this there is no way back, so all that can be checked is checked first.
fn enter_root() -> Result<()> {
    let new_root = Path::new(NEW_ROOT);
    let inside = |path: &str| new_root.join(path.trim_start_matches('/'));
    if !root::is_program(&inside(paths::INIT)) {
        bail!("the root file system has no program {}; is it an image of Podium?", paths::INIT);
    }
    for target in HANDED_OVER {
        if !inside(target).is_dir() {
            bail!("the root file system has no folder {target}; is it an image of Podium?");
        }
    }
    let old_root = root::hold()?;
    for target in HANDED_OVER {
        root::move_mount(Path::new(target), &inside(target))?;
    }
    root::enter(new_root)?;
    // Memory that stays in use is no reason to stop.
    if let Err(error) = root::clear(&old_root) {
        log::warn!("the initramfs keeps its memory: {error}");
    }
    Ok(())
}
