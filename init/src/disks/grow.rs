//! The last partition of the root's disk takes the disk's free end: sfdisk writes the table, partx tells the kernel.

use super::SLACK;
use crate::sys::block::{self, Block};
use crate::sys::tool;
use anyhow::{Context, Result, bail};

const SFDISK: &str = "/usr/sbin/sfdisk";
const PARTX: &str = "/usr/bin/partx";

/// Gives the free end of the disk to its last partition. The backup GPT moves along; nothing else changes.
/// A failure is said and leaves the partition as it is.
pub(super) fn grow_partition(block: &Block, blocks: &[Block]) -> Option<Block> {
    let disk = blocks.iter().find(|disk| disk.name == block.disk && disk.number.is_none())?;
    let is_last = blocks.iter().all(|other| other.disk != block.disk || other.start <= block.start);
    if !is_last || disk.size.saturating_sub(block.end()) <= SLACK {
        return None;
    }
    let grown = grow_by_sfdisk(block, disk);
    match &grown {
        Ok(new) => log::info!(
            "{} on {}: partition grown from {} to {} MiB",
            block.label,
            block.device().display(),
            block.size >> 20,
            new.size >> 20
        ),
        Err(error) => log::error!("{} keeps its size: {error:#}", block.device().display()),
    }
    grown.ok()
}

fn grow_by_sfdisk(block: &Block, disk: &Block) -> Result<Block> {
    let number = block.number.context("it has no partition number")?.to_string();
    let device = disk.device().display().to_string();
    // The disk is in use by the root, so the kernel cannot read the whole table anew: it is told of the one partition.
    let args =
        ["--quiet", "--no-reread", "--no-tell-kernel", "--force", "--wipe=never", "--wipe-partitions=never"];
    tool::must(SFDISK, &[args.as_slice(), &["-N", &number, &device]].concat(), b", +\n")?;
    tool::must(PARTX, &["--update", "--nr", &number, &device], b"")?;
    let new = block::by_name(&block.name)?;
    if new.size <= block.size {
        bail!(
            "{SFDISK} changed the partition table, the kernel still has the old size; the next boot sees the new"
        );
    }
    Ok(new)
}
