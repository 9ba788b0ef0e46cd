//! A reset's own act: what is on a data partition is forgotten, so that the next boot makes its file system anew.
//!
//! Comes after everything was unmounted, in children with a limit. The first thing written is the mark by which a boot
//! knows a file system that was cut off while it was made: from then on a power cut changes nothing. A partition that
//! is still mounted is left alone, and whatever goes wrong is said as loudly as can be; the node ends all the same.

use super::{Outcome, helper};
use crate::sys::{self, At, reboot};
use crate::{disks, kmsg};
use podium_init::shutdown::Reset;
use podium_init::superblock::{BEING_MADE, BLANK};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Some ten small writes, each waited for.
const WIPE_LIMIT: Duration = Duration::from_secs(30);
/// Disks that can forget a range do so in seconds; one that writes zeros does 100 MiB a second at the least.
const FORGET_LIMIT: Duration = Duration::from_secs(30);
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

/// Wipes the partitions of a reset, one after the other.
pub(super) fn all(reset: Reset) {
    if reboot::in_pid_namespace() {
        kmsg::shout(&format_args!("reset: NOTHING WAS WIPED: a container has no partitions of its own"));
        return;
    }
    for label in reset.partitions() {
        match disks::partition(label) {
            Ok(block) => one(label, &block.device().display().to_string()),
            Err(error) => kmsg::shout(&format_args!("reset: {label} WAS NOT WIPED: {error:#}")),
        }
    }
}

fn one(label: &str, device: &str) {
    if let Err(why) = told(&helper(&["halt", WIPE, device], WIPE_LIMIT)) {
        kmsg::shout(&format_args!("reset: {label} on {device} WAS NOT WIPED: {why}; reset it once more"));
        return;
    }
    kmsg::say(&format!("reset: {label} on {device} wiped: the next boot makes it anew"));
    // What is secret is on STATE, which is small. All of the other one is given back where the disk can do that.
    let how = if label == Reset::STATE { ZERO } else { DISCARD };
    match told(&helper(&["halt", how, device], FORGET_LIMIT)) {
        Ok(()) => kmsg::say(&format!("reset: {label} on {device}: what it held is gone from the disk")),
        Err(why) => kmsg::say(&format!(
            "reset: {label} on {device}: what it held can still be read from the disk by other means: {why}"
        )),
    }
}

fn told(outcome: &Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Failed(errno) => Err(std::io::Error::from_raw_os_error(*errno).to_string()),
        Outcome::Hung => Err("not done within its limit".to_owned()),
    }
}

/// The helper's work: the partition has no file system any more.
pub(super) fn wipe(device: &str) -> sys::Result<()> {
    let (disk, size) = open(device)?;
    let write = |bytes: &[u8], at: u64| disk.write_all_at(bytes, at).at("write to", device);
    let sync = || disk.sync_all().at("fsync", device);
    write(BEING_MADE, 0)?;
    sync()?;
    let zeros = [0; BLOCK];
    let step = u64::try_from(BLOCK).unwrap_or(u64::MAX);
    let head = (1..).map(|block| block * step).take_while(|at| *at < BLANK.min(size));
    for at in head.chain(backups(size)) {
        write(&zeros, at)?;
    }
    sync()?;
    write(&zeros, 0)?;
    sync()
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
    fn a_wiped_partition_is_blank_to_the_next_boot_and_has_no_backup() {
        let (_dir, path, disk) = partition();
        assert!(matches!(disks::probe(path.as_ref()).unwrap(), Content::Ext4(_)));
        wipe(&path).unwrap();
        assert_eq!(disks::probe(path.as_ref()).unwrap(), Content::Blank);
        for at in [GROUP + 0x38, 3 * GROUP + 0x38] {
            assert_eq!(bytes(&disk, at, 2), [0, 0], "{at}");
        }
        assert_eq!(disk.metadata().unwrap().len(), 4 * GROUP);
        wipe(&path).unwrap();
    }

    #[test]
    fn one_that_was_cut_off_after_its_mark_is_made_anew_as_well() {
        let (_dir, path, disk) = partition();
        disk.write_all_at(BEING_MADE, 0).unwrap();
        assert_eq!(disks::probe(path.as_ref()).unwrap(), Content::BeingMade);
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
        assert!(wipe("/dev/no-such").unwrap_err().to_string().starts_with("open /dev/no-such"));
    }
}
