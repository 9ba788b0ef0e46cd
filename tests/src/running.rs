//! A node that runs, for tests of which the boot is not the matter: the demo pod and the hand are up, their config is
//! the last known good one.
//!
//! One machine boots for all of them. When it is at rest it is stopped, and its disk, its memory and what its console
//! has said are kept beside the image under test; every test goes on from a copy, a second or two later. The guest's
//! clock goes on, too: it is behind the host's by as long as that was ago.

use crate::artifacts::Image;
use crate::disk::Disk;
use crate::frozen::Frozen;
use crate::hand::{self, Hand};
use crate::inline;
use crate::machine::{BOOT_LIMIT, HAND, HELLO, config, hand_of, hello, options, reported};
use crate::qemu::{Machine, Options};
use crate::used::{self, made_once};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Nothing of a boot is left to do after it.
const AT_REST: &str = "podium: config 1: kubelet and pods are up; it is the last known good one";
const DISK: &str = "disk.img";
const MEMORY: &str = "memory";
const CONSOLE: &str = "console";

/// A node of the test's own, and the way into it.
#[derive(Debug)]
pub struct Running {
    /// What it runs on.
    pub disk: Disk,
    /// It.
    pub machine: Machine,
    /// The hand inside.
    pub hand: Hand,
}

impl Running {
    /// Its config, which was given on the kernel command line and is in STATE.
    #[must_use]
    pub fn config() -> String {
        config(&[HELLO, HAND])
    }

    /// The words of its kernel command line beside the image's.
    #[must_use]
    pub fn words() -> [String; 1] {
        [inline::plain(Self::config().as_bytes())]
    }

    /// Goes on from where it was stopped.
    ///
    /// # Errors
    /// It could not be made, or QEMU cannot go on from it.
    pub fn resume() -> Result<Self> {
        let image = Image::under_test()?;
        let wanted = identity(&image)?;
        let kept = made_once(&image, "running", &wanted, make)?;
        let disk = Disk::temporary(&kept.join(DISK))?;
        let frozen = Frozen {
            memory: kept.join(MEMORY),
            console: fs::read_to_string(kept.join(CONSOLE)).context("what its console said")?,
        };
        let options = Options { frozen: Some(frozen), ..options(&disk, &Self::words(), &[])? };
        let machine = Machine::start(&options).context("a running node from its memory")?;
        let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
        Ok(Self { disk, machine, hand })
    }
}

/// Gives the test one; when it fails, what the services wrote on its disk is told.
///
/// # Errors
/// The test's own, or [`Running::resume`]'s.
pub fn on_a_running_node(test: impl FnOnce(&Disk, Machine, Hand) -> Result<()>) -> Result<()> {
    let Running { disk, machine, hand } = Running::resume()?;
    reported(&disk, |disk| test(disk, machine, hand))
}

/// What the memory is of, and who can read it.
fn identity(image: &Image) -> Result<String> {
    let version =
        Command::new("qemu-system-x86_64").arg("--version").output().context("qemu-system-x86_64")?;
    let mut options = Options::new(&image.kernel, &image.initramfs);
    options.words = [image.words.clone(), Running::words().to_vec()].concat();
    Ok(format!("{}{:?}\n", String::from_utf8_lossy(&version.stdout), options.command_line()))
}

/// Boots it, and leaves in the folder `kept` what is needed to go on.
fn make(kept: &Path) -> Result<()> {
    if kept.exists() {
        fs::remove_dir_all(kept)?;
    }
    fs::create_dir(kept)?;
    let disk = used::copy()?;
    reported(&disk, |disk| {
        let mut machine = Machine::start(&options(disk, &Running::words(), &[])?)?;
        machine.wait(AT_REST, BOOT_LIMIT)?;
        hand_of(&machine)?;
        ensure!(hello(&machine)?.contains("hello"));
        machine.freeze(&kept.join(MEMORY))?;
        fs::write(kept.join(CONSOLE), machine.console.text())?;
        disk.save(&kept.join(DISK))
    })
    .context("the boot of a running node for all tests")
}
