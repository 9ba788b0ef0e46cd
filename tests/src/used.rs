//! A disk that a node has been on once, for tests of which the first boot is not the matter: its partitions are
//! formatted and the image's containers are imported, which is most of the work of a first boot.
//!
//! The node had no config of its own, so nothing is stored in STATE but keys. The disk lies beside the image under test
//! and is made again when that is another one; every test gets a copy.

use crate::artifacts::Image;
use crate::disk::Disk;
use crate::machine::{BOOT_LIMIT, POWER_OFF_LIMIT, boot, reported};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::Path;

/// From this line of the console on nothing of a first boot is left to do.
const IMPORTED: &str = "podium: preload: done";

/// Gives the test a disk of the image under test that a node was on; when it fails, what the services wrote there is
/// told.
///
/// # Errors
/// The test's own, or no disk could be made.
pub fn on_a_used_disk(test: impl FnOnce(&Disk) -> Result<()>) -> Result<()> {
    let disk = copy()?;
    reported(&disk, test)
}

/// A copy of it.
///
/// # Errors
/// It could not be made.
pub fn copy() -> Result<Disk> {
    let image = Image::under_test()?;
    let [used, stamp, lock] =
        ["used.img", ".used.img.stamp", ".used.img.lock"].map(|name| image.disk.with_file_name(name));
    let lock = File::create(&lock).with_context(|| lock.display().to_string())?;
    // One test makes it while the others wait, in whatever process they are.
    lock.lock()?;
    let wanted = identity(&[&image.disk, &image.kernel, &image.initramfs])?;
    if !used.exists() || fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        let disk = Disk::temporary(&image.disk)?;
        reported(&disk, |disk| {
            let mut machine = boot(disk, &[], &[])?;
            machine.wait(IMPORTED, BOOT_LIMIT)?;
            machine.power_off(POWER_OFF_LIMIT)
        })
        .context("the first boot of a disk for all tests")?;
        if stamp.exists() {
            fs::remove_file(&stamp)?;
        }
        disk.save(&used)?;
        fs::write(&stamp, wanted)?;
    }
    Disk::temporary(&used)
}

/// Tells builds apart: length and time of each file.
fn identity(files: &[&Path]) -> Result<String> {
    let mut text = String::new();
    for file in files {
        let facts = fs::metadata(file).with_context(|| file.display().to_string())?;
        text += &format!("{} {:?}\n", facts.len(), facts.modified()?);
    }
    Ok(text)
}
