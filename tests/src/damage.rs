//! What befalls a disk while its machine is off: partitions that lost their label, that hold what nobody knows, that are
//! full. And a small disk with one partition of any label.

use crate::disk::{Disk, Partition, output, temporary_folder, tool};
use anyhow::{Context, Result, ensure};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The one partition of a small disk.
const SMALL: u64 = 64 << 20;
/// Room for both partition tables.
const TABLES: u64 = 4 << 20;

/// A disk with a GPT and one empty partition.
///
/// # Errors
/// It cannot be written.
pub fn with_partition(label: &str) -> Result<Disk> {
    let folder = temporary_folder()?;
    let path = folder.path().join("small.raw");
    let mut file = File::create(&path)?;
    file.set_len(SMALL + TABLES)?;
    // Without it a kernel does not look for a GPT.
    let last = u32::try_from((SMALL + TABLES) / 512 - 1)?;
    gpt::mbr::ProtectiveMBR::with_lb_size(last).overwrite_lba0(&mut file)?;
    let table = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = table.create(&path)?;
    table.add_partition(label, SMALL, gpt::partition_types::LINUX_FS, 0, None)?;
    table.write()?;
    Ok(Disk::in_folder(path, folder))
}

/// Gives a partition another label.
///
/// # Errors
/// There is no such partition.
pub fn rename(disk: &Path, label: &str, new: &str) -> Result<()> {
    change(disk, label, |partition| {
        partition.name = new.to_owned();
        Ok(())
    })
}

/// Gives a partition another GUID, as a disk of another machine has it.
///
/// # Errors
/// There is no such partition.
pub fn renumber(disk: &Path, label: &str, guid: &str) -> Result<()> {
    change(disk, label, |partition| {
        partition.part_guid = guid.parse()?;
        Ok(())
    })
}

/// Overwrites a part of a file of the root file system (erofs) where it lies on the disk.
///
/// # Errors
/// There is no such file, or it is too small to have a block of its own.
pub fn file_of_root(disk: &Disk, path: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).open(disk.path())?;
    Ok(file.write_all_at(&[0xA5; 4096], place_in_root(disk, path)?)?)
}

/// Where on the disk the middle of a file of the root file system (erofs) lies, in bytes.
///
/// # Errors
/// As [`file_of_root`].
pub fn place_in_root(disk: &Disk, path: &str) -> Result<u64> {
    let root = disk.partition("ROOT-A")?;
    let folder = temporary_folder()?;
    let copy = folder.path().join("root.erofs");
    root.copy_to(&copy)?;
    let extents = output(tool("dump.erofs").args(["-e", &format!("--path={path}")]).arg(&copy))?;
    // `NUMBER: FROM.. TO | LENGTH : FROM.. TO | LENGTH`, of the file and of the file system.
    let places: Vec<u64> = extents
        .lines()
        .filter_map(|line| line.split(" : ").nth(1)?.split("..").next()?.trim().parse().ok())
        .collect();
    let place = places.get(places.len() / 2).with_context(|| format!("{path}: no extent:\n{extents}"))?;
    Ok(root.start + place)
}

fn change(
    disk: &Path,
    label: &str,
    change: impl FnOnce(&mut gpt::partition::Partition) -> Result<()>,
) -> Result<()> {
    let mut table = GptConfig::new().writable(true).open(disk)?;
    let mut partitions = table.partitions().clone();
    let found = partitions.values_mut().find(|partition| partition.name == label);
    change(found.with_context(|| format!("no partition {label}"))?)?;
    table.update_partitions(partitions)?;
    table.write()?;
    Ok(())
}

impl Partition {
    /// Its first bytes.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn start(&self, bytes: usize) -> Result<Vec<u8>> {
        let mut start = vec![0; bytes];
        File::open(&self.path)?.read_exact_at(&mut start, self.start)?;
        Ok(start)
    }

    /// Puts bytes at its start.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn overwrite(&self, bytes: &[u8]) -> Result<()> {
        Ok(OpenOptions::new().write(true).open(&self.path)?.write_all_at(bytes, self.start)?)
    }

    /// Makes an ext4 file system in it.
    ///
    /// # Errors
    /// What mke2fs says.
    pub fn format(&self) -> Result<()> {
        let offset = format!("offset={}", self.start);
        let blocks = (self.bytes / 4096).to_string();
        let mut mke2fs = tool("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-E", &offset]);
        output(mke2fs.arg(&self.path).arg(blocks)).map(drop)
    }

    /// Fills its ext4 file system to the last block with a file of that name in its root.
    ///
    /// # Errors
    /// There is room left.
    pub fn fill(&self, name: &str) -> Result<()> {
        let folder = temporary_folder()?;
        let filler = folder.path().join("filler");
        fs::write(&filler, vec![b'x'; usize::try_from(self.bytes)?])?;
        // It writes as far as there is room, and then complains of the rest.
        let request = format!("write {} {name}", filler.display());
        output(tool("debugfs").args(["-w", "-R", &request, &self.target()]))?;
        let stats = output(tool("debugfs").args(["-R", "stats -h", &self.target()]))?;
        let free = stats.lines().find_map(|line| line.strip_prefix("Free blocks:"));
        ensure!(free.map(str::trim) == Some("0"), "{}: not full: {stats}", self.label);
        Ok(())
    }

    /// Where on the disk a file of its ext4 file system begins, in bytes.
    ///
    /// # Errors
    /// There is no such file, or it is empty.
    pub fn place(&self, path: &str) -> Result<u64> {
        let blocks = output(tool("debugfs").args(["-R", &format!("blocks {path}"), &self.target()]))?;
        let first: u64 =
            blocks.split_whitespace().next().with_context(|| format!("no block of {path}"))?.parse()?;
        let stats = output(tool("debugfs").args(["-R", "stats -h", &self.target()]))?;
        let size =
            stats.lines().find_map(|line| line.strip_prefix("Block size:")).context("no block size")?;
        Ok(self.start + first * size.trim().parse::<u64>()?)
    }

    /// Removes a file from the root of its ext4 file system.
    ///
    /// # Errors
    /// It is still there.
    pub fn remove(&self, name: &str) -> Result<()> {
        output(tool("debugfs").args(["-w", "-R", &format!("rm {name}"), &self.target()]))?;
        ensure!(!self.list("/")?.iter().any(|there| there == name), "{}: {name} is still there", self.label);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_filled_to_the_last_block_and_emptied() {
        let disk = with_partition("DATA").unwrap();
        let data = disk.partition("DATA").unwrap();
        data.format().unwrap();
        data.fill("filler").unwrap();
        data.check_clean().unwrap();
        let place = usize::try_from(data.place("/filler").unwrap() - data.start).unwrap();
        assert!(data.start(place + 8).unwrap().ends_with(b"xxxxxxxx"), "{place}");
        data.remove("filler").unwrap();
        data.check_clean().unwrap();
        assert!(data.list("/").unwrap().contains(&"lost+found".to_owned()));
    }

    #[test]
    fn a_partition_gets_another_label_and_other_bytes() {
        let disk = with_partition("STATE").unwrap();
        rename(disk.path(), "STATE", "LOST").unwrap();
        assert!(disk.partition("STATE").is_err() && rename(disk.path(), "STATE", "LOST").is_err());
        let lost = disk.partition("LOST").unwrap();
        lost.overwrite(b"foreign").unwrap();
        assert_eq!(lost.start(8).unwrap(), b"foreign\0");
    }
}
