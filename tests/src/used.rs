//! What is made once and used by many tests, beside the image under test: made again when that is another one.
//!
//! Here a disk that a node has been on once, for tests of which the first boot is not the matter: its partitions are
//! formatted and the image's containers are imported, which is most of the work of a first boot. The node had no config
//! of its own, so nothing is stored in STATE but keys. Every test gets a copy. A whole node that runs is in `running.rs`.

use crate::artifacts::Image;
use crate::disk::Disk;
use crate::machine::{BOOT_LIMIT, POWER_OFF_LIMIT, boot, reported};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

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
    let used = made_once(&image, "used.img", "", |used| {
        let disk = Disk::temporary(&image.disk)?;
        reported(&disk, |disk| {
            let mut machine = boot(disk, &[], &[])?;
            machine.wait(IMPORTED, BOOT_LIMIT)?;
            machine.power_off(POWER_OFF_LIMIT)
        })
        .context("the first boot of a disk for all tests")?;
        disk.save(used)
    })?;
    Disk::temporary(&used)
}

/// Where `make` has put what is called `name`, now or for an earlier test; `of` is what it depends on beside the image.
///
/// # Errors
/// It could not be made.
pub(crate) fn made_once(
    image: &Image,
    name: &str,
    of: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let made = image.disk.with_file_name(name);
    let [stamp, lock] = ["stamp", "lock"].map(|what| image.disk.with_file_name(format!(".{name}.{what}")));
    let lock = File::create(&lock).with_context(|| lock.display().to_string())?;
    // One test makes it while the others wait, in whatever process they are.
    lock.lock()?;
    let wanted = identity(&[&image.disk, &image.kernel, &image.initramfs])? + of;
    if !made.exists() || fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        if stamp.exists() {
            fs::remove_file(&stamp)?;
        }
        make(&made)?;
        fs::write(&stamp, wanted)?;
    }
    Ok(made)
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
