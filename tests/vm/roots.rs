//! A root that cannot be booted: the initramfs stage says what it saw and what to do, and starts again.

use super::support::{BOOT_LIMIT, extra, on_a_new_disk, options};
use anyhow::{Result, ensure};
use podium_tests::artifacts::Image;
use podium_tests::damage;
use podium_tests::disk::Disk;
use podium_tests::firmware::Firmware;
use podium_tests::qemu::{ExtraDisk, Machine, Options};

/// Boots, and waits for each of `told` in this order, the last of which is what the boot ends with.
fn ends_with(disk: &Disk, words: &[&str], disks: &[ExtraDisk], told: &[&str]) -> Result<Machine> {
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let mut options = options(disk, &words, disks)?;
    options.reboots = false;
    let machine = Machine::start(&options)?;
    let mut from = 0;
    for text in told {
        from = machine.console.wait(from, text, BOOT_LIMIT)?.number + 1;
    }
    let end = machine.console.wait(from - 1, "podium: cannot go on: ", BOOT_LIMIT)?;
    ensure!(end.text.ends_with("; rebooting in 30 s"), "{end}");
    Ok(machine)
}

#[test]
fn a_label_that_no_partition_has() -> Result<()> {
    on_a_new_disk(|disk| {
        let words = ["podium.root=ROOT-C", "podium.root_wait=1"];
        let told = [
            "podium: partitions seen:",
            "partition              size  label",
            "320.0 MiB  ROOT-A",
            "no partition has the label ROOT-C after 1 s; attach its disk, or name another: podium.root=LABEL",
        ];
        let mut machine = ends_with(disk, &words, &[], &told)?;
        // QEMU was told to end with it.
        machine.wait_exit(BOOT_LIMIT)
    })
}

#[test]
fn a_machine_without_a_disk() -> Result<()> {
    let image = Image::under_test()?;
    let mut options = Options::new(&image.kernel, &image.initramfs);
    options.words = image.words;
    options.words.push("podium.root_wait=0".to_owned());
    let machine = Machine::start(&options)?;
    machine.wait(
        "podium: no partition at all is seen: no disk, or no driver for it in the initramfs",
        BOOT_LIMIT,
    )?;
    machine.wait("podium: cannot go on: no partition has the label ROOT-A after 0 s", BOOT_LIMIT)?;
    Ok(())
}

#[test]
fn two_disks_with_a_root_of_the_same_label() -> Result<()> {
    on_a_new_disk(|disk| {
        let other = ExtraDisk { path: Image::under_test()?.disk, unreadable: false };
        let told = [
            "podium: partitions with the label ROOT-A:",
            "/dev/vda2",
            "/dev/vdb2",
            "2 partitions have the label ROOT-A; detach the disk that is not meant",
        ];
        ends_with(disk, &["podium.root_wait=5"], &[other], &told).map(drop)
    })
}

/// As above, but the firmware's loader has said which disk it was on: the second one, whose root that is then.
#[test]
fn of_two_the_one_that_the_loader_was_on() -> Result<()> {
    const GUID: &str = "0f00baa5-1111-4222-8333-0123456789ab";
    on_a_new_disk(|disk| {
        let other = Disk::temporary(&Image::under_test()?.disk)?;
        damage::renumber(other.path(), "EFI", GUID)?;
        let firmware = Firmware::started_from(GUID)?;
        let mut options = options(disk, &[], &[extra(&other)])?;
        options.arguments = firmware.arguments();
        let machine = Machine::start(&options)?;
        machine.wait("podium: root ROOT-A on /dev/vdb2, erofs, read-only", BOOT_LIMIT)?;
        machine.wait(", node stage", BOOT_LIMIT).map(drop)
    })
}

#[test]
fn a_root_without_a_file_system_and_one_without_an_init() -> Result<()> {
    on_a_new_disk(|disk| {
        let told = ["holds no erofs, squashfs or ext4 file system; write the image again"];
        ends_with(disk, &["podium.root=ROOT-B"], &[], &told)?;
        let other = damage::with_partition("OTHER")?;
        other.partition("OTHER")?.format()?;
        let told = ["the root file system has no program /usr/sbin/init; is it an image of Podium?"];
        ends_with(disk, &["podium.root=OTHER"], &[extra(&other)], &told).map(drop)
    })
}
