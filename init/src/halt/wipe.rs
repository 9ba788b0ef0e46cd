//! A reset's own act: what is on a data partition is forgotten, so that the next boot makes its file system anew.
//!
//! Comes after everything was unmounted, or before anything is mounted by a boot that finds a reset left undone; all that
//! can hang is done by children with a limit. The first thing written is the mark by which a boot
//! knows a file system that was cut off while it was made: from then on a power cut changes nothing. A partition that
//! is still mounted is left alone, and whatever goes wrong is said as loudly as can be; the node then reboots, whatever
//! was asked for, since one that is off would look as if it were done, and the next boot wipes what is left.

use super::{EIO, Outcome, helper};
use crate::boot::Machine;
use crate::disks::Partitions;
use crate::sys::block::Block;
use crate::sys::{self, At, file, reboot};
use crate::{disks, kmsg};
use anyhow::Context;
use podium_init::paths;
use podium_init::shutdown::Reset;
use podium_init::superblock::{BEING_MADE, BLANK};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// One small file.
const MARK_LIMIT: Duration = Duration::from_secs(10);
/// Some ten small writes, each waited for.
const WIPE_LIMIT: Duration = Duration::from_secs(30);
/// Disks that can forget a range do so in seconds; one that writes zeros does 100 MiB a second at the least.
const FORGET_LIMIT: Duration = Duration::from_secs(30);
/// What is known of the machine: the image's versions and references, some KiB.
const MACHINE_MAX: usize = 1 << 20;
/// ext4's block on every disk of ours.
const BLOCK: usize = 4096;
/// Bytes of one of its block groups: 8 blocks of bits.
const GROUP: u64 = 8 * 4096 * 4096;

/// What a helper does to a device.
pub(super) const WIPE: &str = "wipe";
/// See [`WIPE`].
pub(super) const ZERO: &str = "zero";
/// See [`WIPE`].
pub(super) const DISCARD: &str = "discard";
/// What a helper does in STATE.
pub(super) const MARK: &str = "mark";

/// A reset on its way: what it wipes, looked up while that can still be read.
#[derive(Debug, Default)]
pub(super) struct Plan {
    partitions: Partitions,
    /// The next boot goes on where this one ends.
    is_marked: bool,
}

/// Before anything is unmounted: finds out what was mounted at boot, and leaves word of the reset in STATE.
pub(super) fn begin(reset: Reset) -> Plan {
    if reboot::in_pid_namespace() {
        return Plan::default();
    }
    let read = file::read(Path::new(paths::MACHINE), MACHINE_MAX)
        .and_then(|bytes| Ok(serde_json::from_slice::<Machine>(&bytes)?));
    let machine = match read {
        Ok(machine) => machine,
        Err(error) => {
            kmsg::shout(&format_args!("reset: {}: {error:#}", paths::MACHINE));
            return Plan::default();
        }
    };
    let mut is_marked = false;
    if machine.has_state {
        match told(&helper(&["halt", MARK, &reset.partitions().join(",")], MARK_LIMIT)) {
            Ok(()) => is_marked = true,
            Err(why) => kmsg::say(&format!(
                "reset: {}: {why}; a power cut from here on undoes it",
                paths::STATE_RESET
            )),
        }
    }
    Plan { partitions: machine.partitions, is_marked }
}

/// The helper's work: the mark of a reset of these labels, with commas between them. Its error number.
pub(super) fn mark(labels: &str) -> Result<(), i32> {
    let labels: Vec<&str> = labels.split(',').collect();
    let written = disks::write_reset(Path::new(paths::STATE_RESET), &labels);
    written.map_err(|error| {
        let number = |cause: &(dyn std::error::Error + 'static)| {
            let by_rustix = cause.downcast_ref::<rustix::io::Errno>().map(|error| error.raw_os_error());
            by_rustix.or_else(|| cause.downcast_ref::<std::io::Error>()?.raw_os_error())
        };
        error.chain().find_map(number).unwrap_or(EIO)
    })
}

/// Wipes the partitions of a reset, one after the other; whether all of them are.
pub(super) fn all(reset: Reset, plan: &Plan) -> bool {
    if reboot::in_pid_namespace() {
        kmsg::shout(&format_args!("reset: NOTHING WAS WIPED: a container has no partitions of its own"));
        return true;
    }
    let mut is_done = true;
    for label in in_order(reset) {
        if label == Reset::STATE && !is_done && plan.is_marked {
            // With its mark the next boot wipes both.
            kmsg::shout(&format_args!("reset: {label} IS NOT WIPED YET: the next boot does that"));
            continue;
        }
        // By its label another disk's might be found, once this one has gone.
        let known = plan.partitions.labelled(label).context("it was not found when the node booted");
        let wiped = known.and_then(Block::again).map_err(|error| format!("{error:#}"));
        let wiped = wiped.and_then(|block| wipe(label, &block.device().display().to_string()));
        if let Err(why) = wiped {
            is_done = false;
            let then = if plan.is_marked { "the next boot tries again" } else { "reset it once more" };
            kmsg::shout(&format_args!("reset: {label} WAS NOT WIPED: {why}; the node reboots, and {then}"));
        }
    }
    is_done
}

/// STATE, which has the mark, comes last.
fn in_order(reset: Reset) -> Vec<&'static str> {
    let mut labels = reset.partitions();
    labels.sort_by_key(|label| *label == Reset::STATE);
    labels
}

/// Wipes the one partition, which nobody has mounted, and has the disk forget what was on it; what became of that.
///
/// # Errors
/// Why it is not wiped.
pub(crate) fn wipe(label: &str, device: &str) -> Result<Outcome, String> {
    told(&helper(&["halt", WIPE, device], WIPE_LIMIT)).map_err(|why| format!("{device}: {why}"))?;
    kmsg::say(&format!("reset: {label} on {device} wiped: a boot makes it anew"));
    // What is secret is on STATE, which is small. All of the other one is given back where the disk can do that.
    let how = if label == Reset::STATE { ZERO } else { DISCARD };
    let forgotten = helper(&["halt", how, device], FORGET_LIMIT);
    match told(&forgotten) {
        Ok(()) => kmsg::say(&format!("reset: {label} on {device}: what it held is gone from the disk")),
        Err(why) => kmsg::say(&format!(
            "reset: {label} on {device}: what it held can still be read from the disk by other means: {why}"
        )),
    }
    Ok(forgotten)
}

fn told(outcome: &Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Failed(errno) => Err(std::io::Error::from_raw_os_error(*errno).to_string()),
        Outcome::Hung => Err("not done within its limit".to_owned()),
    }
}

/// One step of [`unmake`].
enum Step {
    Write(u64, &'static [u8]),
    Sync,
}

/// What makes a partition of `size` bytes blank: whatever step is the last one, the next boot makes the file system anew.
fn steps(size: u64) -> impl Iterator<Item = Step> {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let step = u64::try_from(BLOCK).unwrap_or(u64::MAX);
    let head = (1..).map(move |block| block * step).take_while(move |at| *at < BLANK.min(size));
    let begin = [Step::Write(0, BEING_MADE), Step::Sync];
    let zeros = head.chain(backups(size)).map(|at| Step::Write(at, &ZEROS));
    let end = [Step::Sync, Step::Write(0, &ZEROS), Step::Sync];
    begin.into_iter().chain(zeros).chain(end)
}

/// The helper's work: the partition has no file system any more.
pub(super) fn unmake(device: &str) -> sys::Result<()> {
    let (disk, size) = open(device)?;
    steps(size).try_for_each(|step| take(&disk, &step, device))
}

fn take(disk: &File, step: &Step, device: &str) -> sys::Result<()> {
    match step {
        Step::Write(at, bytes) => disk.write_all_at(bytes, *at).at("write to", device),
        Step::Sync => disk.sync_all().at("fsync", device),
    }
}

/// The helper's work: all of its bytes are zeros; with `discard` only where the disk forgets them without writing.
pub(super) fn forget(device: &str, discard: bool) -> sys::Result<()> {
    let (disk, size) = open(device)?;
    let how = if discard { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
    rustix::fs::fallocate(&disk, how | FallocateFlags::KEEP_SIZE, 0, size).at("write zeros to", device)?;
    disk.sync_all().at("fsync", device)
}

/// The device and its size. EBUSY when it is mounted: the kernel gives it to one alone.
fn open(device: &str) -> sys::Result<(File, u64)> {
    let flags = OFlags::WRONLY | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOCTTY;
    let disk = File::from(rustix::fs::open(device, flags, Mode::empty()).at("open", device)?);
    let size = rustix::fs::seek(&disk, SeekFrom::End(0)).at("seek in", device)?;
    Ok((disk, size))
}

/// Where the backup superblocks are: in group 1, and in those that are powers of 3, 5 and 7.
fn backups(size: u64) -> impl Iterator<Item = u64> {
    let powers = |base: u64| std::iter::successors(Some(base), move |group| group.checked_mul(base));
    let groups = move |base: u64| {
        powers(base).map_while(|group| group.checked_mul(GROUP)).take_while(move |at| *at < size)
    };
    let first = Some(GROUP).filter(|at| *at < size);
    first.into_iter().chain(groups(3)).chain(groups(5)).chain(groups(7))
}

#[cfg(test)]
mod tests {
    use super::*;
    use podium_init::superblock::Content;

    #[test]
    fn backup_superblocks_are_where_ext4_has_them() {
        let groups = |size: u64| backups(size).map(|at| at / GROUP).collect::<Vec<_>>();
        assert_eq!(groups(GROUP), [0; 0]);
        assert_eq!(groups(GROUP + 1), [1]);
        assert_eq!(groups(50 * GROUP), [1, 3, 9, 27, 5, 25, 7, 49]);
        assert!(groups(u64::MAX).len() < 60);
    }

    /// The superblock's magic number, where the first one and a backup have it.
    fn partition() -> (tempfile::TempDir, String, File) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let disk = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        disk.set_len(4 * GROUP).unwrap();
        for at in [1080, GROUP + 0x38, 3 * GROUP + 0x38] {
            disk.write_all_at(&[0x53, 0xEF], at).unwrap();
        }
        disk.write_all_at(b"content", 2 << 20).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path, disk)
    }

    fn bytes(disk: &File, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![1; count];
        disk.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    #[test]
    fn the_partition_with_the_mark_is_wiped_last() {
        let both = Reset { state: true, ephemeral: true, reboot: false };
        assert_eq!(in_order(both), [Reset::EPHEMERAL, Reset::STATE]);
    }

    #[test]
    fn a_wiped_partition_is_blank_to_the_next_boot_and_has_no_backup() {
        let (_dir, path, disk) = partition();
        assert!(matches!(disks::probe(path.as_ref()).unwrap(), Content::Ext4(_)));
        unmake(&path).unwrap();
        assert_eq!(disks::probe(path.as_ref()).unwrap(), Content::Blank);
        for at in [GROUP + 0x38, 3 * GROUP + 0x38] {
            assert_eq!(bytes(&disk, at, 2), [0, 0], "{at}");
        }
        assert_eq!(disk.metadata().unwrap().len(), 4 * GROUP);
        unmake(&path).unwrap();
    }

    #[test]
    fn one_that_was_cut_off_after_any_step_is_made_anew_as_well() {
        let (_dir, path, disk) = partition();
        let all: Vec<Step> = steps(4 * GROUP).collect();
        for (done, step) in all.iter().enumerate() {
            take(&disk, step, &path).unwrap();
            let wanted = if done + 2 < all.len() { Content::BeingMade } else { Content::Blank };
            assert_eq!(disks::probe(path.as_ref()).unwrap(), wanted, "step {done} of {}", all.len());
        }
    }

    #[test]
    fn what_is_forgotten_reads_as_zeros() {
        let (_dir, path, disk) = partition();
        forget(&path, true).unwrap();
        assert_eq!(bytes(&disk, 2 << 20, 7), [0; 7]);
        assert_eq!(disk.metadata().unwrap().len(), 4 * GROUP);
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        assert!(unmake("/dev/no-such").unwrap_err().to_string().starts_with("open /dev/no-such"));
    }
}
