//! Disks and partitions as sysfs shows them, without udev.
//!
//! Lists and looks up; which partition is the right one is decided by the caller. Sizes are in bytes; the kernel
//! counts in sectors of 512 whatever the disk's own are.

use super::file::read_line;
use anyhow::{Context, Result, ensure};
use rustix::fs::{major, minor};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where sysfs lists all block devices.
const CLASS: &str = "/sys/class/block";
/// A disk has at most 128 partitions by GPT's default, a machine a few disks; more are not looked at.
const MOST_DEVICES: usize = 4096;

/// One partition, or a disk without any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    /// Kernel name, e.g. `vda2`.
    pub name: String,
    /// The disk's kernel name, e.g. `vda`; the same as `name` for a disk.
    pub disk: String,
    /// Partition number, e.g. 2; `None` for a disk.
    pub number: Option<u32>,
    /// GPT partition label; empty without one.
    pub label: String,
    /// First byte on the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

impl Block {
    /// e.g. `/dev/vda2`.
    pub(crate) fn device(&self) -> PathBuf {
        // The kernel writes `!` for `/` in names such as `cciss!c0d0p1`.
        Path::new("/dev").join(self.name.replace('!', "/"))
    }

    /// The same partition as the kernel has it now.
    ///
    /// # Errors
    /// It is not there any more, or its name is another one's.
    pub(crate) fn again(&self) -> Result<Self> {
        let now = by_name(&self.name).with_context(|| format!("{} is gone", self.device().display()))?;
        ensure!(
            (&now.disk, &now.label, now.start) == (&self.disk, &self.label, self.start),
            "{} is not the partition any more that it was at boot",
            self.device().display()
        );
        Ok(now)
    }

    /// First byte on the disk after it.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }
}

/// All block devices but empty ones (drives without a medium, unused loop devices), sorted by name.
pub(crate) fn list() -> Result<Vec<Block>> {
    let entries = std::fs::read_dir(CLASS).with_context(|| format!("list {CLASS}"))?;
    let mut blocks: Vec<Block> = entries
        .take(MOST_DEVICES)
        .filter_map(Result::ok)
        // A device may go away while it is looked at.
        .filter_map(|entry| describe(&entry.path()).ok())
        .filter(|block| block.size > 0)
        .collect();
    blocks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(blocks)
}

/// The block device by its kernel name.
pub(crate) fn by_name(name: &str) -> Result<Block> {
    describe(&Path::new(CLASS).join(name))
}

/// The disk that the file system of `path` is on, through device-mapper if need be; `None` for a file system
/// without a disk, such as a tmpfs.
pub(crate) fn disk_of(path: &Path) -> Result<Option<String>> {
    let device = std::fs::metadata(path).with_context(|| format!("stat {}", path.display()))?.dev();
    let mut node = PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)));
    if !node.exists() {
        return Ok(None);
    }
    // A verity device stands on a partition: four layers are more than any image of ours has.
    for _ in 0..4 {
        let first = std::fs::read_dir(node.join("slaves")).ok().and_then(|mut below| below.next()?.ok());
        match first {
            Some(below) => node = below.path(),
            None => break,
        }
    }
    Ok(Some(describe(&node)?.disk))
}

fn describe(node: &Path) -> Result<Block> {
    let real = node.canonicalize().with_context(|| format!("resolve {}", node.display()))?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let uevent = read_line(&real.join("uevent"))?;
    let field = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let number: Option<u32> = field("PARTN").and_then(|number| number.parse().ok());
    let sectors = |file: &str| -> Result<u64> {
        let text = read_line(&real.join(file))?;
        let sectors: u64 = text.parse().with_context(|| format!("{} {file}: {text:?}", real.display()))?;
        Ok(sectors.saturating_mul(512))
    };
    let (disk, start) = match number {
        Some(_) => (real.parent().map(name).unwrap_or_default(), sectors("start")?),
        None => (name(&real), 0),
    };
    let label = field("PARTNAME").unwrap_or_default().to_owned();
    Ok(Block { name: name(&real), disk, number, label, start, size: sectors("size")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_path_has_the_slashes_that_sysfs_cannot_have() {
        let block = Block {
            name: "cciss!c0d0p1".into(),
            disk: "cciss!c0d0".into(),
            number: Some(1),
            label: String::new(),
            start: 512,
            size: 1024,
        };
        assert_eq!(block.device(), Path::new("/dev/cciss/c0d0p1"));
        assert_eq!(block.end(), 1536);
    }

    #[test]
    fn every_listed_device_can_be_looked_up_and_has_its_disk() {
        for block in list().unwrap() {
            assert_eq!(by_name(&block.name).unwrap(), block);
            assert!(block.name.starts_with(&block.disk));
            assert_eq!(block.number.is_none(), block.name == block.disk);
        }
    }

    #[test]
    fn a_file_system_without_a_disk_has_none() {
        assert_eq!(disk_of(Path::new("/proc")).unwrap(), None);
    }
}
