//! A root that cannot be booted: the initramfs stage says what it saw and what to do, and starts again.

use super::support::shown;
use anyhow::{Result, ensure};
use podium_tests::artifacts::Image;
use podium_tests::console::Line;
use podium_tests::damage;
use podium_tests::disk::Disk;
use podium_tests::faults::Fault;
use podium_tests::firmware::Firmware;
use podium_tests::machine::{BOOT_LIMIT, extra, options};
use podium_tests::qemu::{ExtraDisk, Machine, Options};

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    let told = "told with what was seen and what to do; the machine starts again after 30 s";
    let fault = |name, expected, run: fn() -> Result<String>| Fault::in_machine("boot", name, expected, run);
    vec![
        fault("no disk at all", told, without_a_disk),
        fault("no partition has the root's label", told, without_the_label),
        fault("two disks have a root of that label", told, two_of_one_label),
        fault(
            "two disks have one, and the firmware's loader was on the second",
            "that one's root is taken",
            the_loaders,
        ),
        fault("a root without a file system, and one without an init", told, of_no_use),
        fault(
            "2 KiB of words, unknown ones and a quote that is never closed among them",
            "told; what came before is obeyed",
            words,
        ),
    ]
}

fn new_disk() -> Result<Disk> {
    Disk::temporary(&Image::under_test()?.disk)
}

/// Boots, and waits for each of `told` in this order, the last of which is what the boot ends with.
fn ends_with(disk: &Disk, words: &[&str], disks: &[ExtraDisk], told: &[&str]) -> Result<(Machine, Line)> {
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
    Ok((machine, end))
}

fn without_the_label() -> Result<String> {
    let words = ["podium.root=ROOT-C", "podium.root_wait=1"];
    let told = [
        "podium: partitions seen:",
        "partition              size  label",
        "320.0 MiB  ROOT-A",
        "no partition has the label ROOT-C after 1 s; attach its disk, or name another: podium.root=LABEL",
    ];
    let disk = new_disk()?;
    let (mut machine, end) = ends_with(&disk, &words, &[], &told)?;
    // QEMU was told to end with it.
    machine.wait_exit(BOOT_LIMIT)?;
    Ok(shown(&end))
}

fn without_a_disk() -> Result<String> {
    let image = Image::under_test()?;
    let mut options = Options::new(&image.kernel, &image.initramfs);
    options.words = image.words;
    options.words.push("podium.root_wait=0".to_owned());
    let machine = Machine::start(&options)?;
    machine.wait(
        "podium: no partition at all is seen: no disk, or no driver for it in the initramfs",
        BOOT_LIMIT,
    )?;
    let end =
        machine.wait("podium: cannot go on: no partition has the label ROOT-A after 0 s", BOOT_LIMIT)?;
    Ok(shown(&end))
}

fn two_of_one_label() -> Result<String> {
    let disk = new_disk()?;
    let other = ExtraDisk { path: Image::under_test()?.disk, unreadable: false };
    let told = [
        "podium: partitions with the label ROOT-A:",
        "/dev/vda2",
        "/dev/vdb2",
        "2 partitions have the label ROOT-A; detach the disk that is not meant",
    ];
    let (_machine, end) = ends_with(&disk, &["podium.root_wait=5"], &[other], &told)?;
    Ok(shown(&end))
}

fn the_loaders() -> Result<String> {
    const GUID: &str = "0f00baa5-1111-4222-8333-0123456789ab";
    let disk = new_disk()?;
    let other = new_disk()?;
    damage::renumber(other.path(), "EFI", GUID)?;
    let firmware = Firmware::started_from(GUID)?;
    let mut options = options(&disk, &[], &[extra(&other)])?;
    options.arguments = firmware.arguments();
    let machine = Machine::start(&options)?;
    let root = machine.wait("podium: root ROOT-A on /dev/vdb2, erofs, read-only", BOOT_LIMIT)?;
    machine.wait(", node stage", BOOT_LIMIT)?;
    Ok(shown(&root))
}

fn of_no_use() -> Result<String> {
    let disk = new_disk()?;
    let told = ["holds no erofs, squashfs or ext4 file system; write the image again"];
    let (_, empty) = ends_with(&disk, &["podium.root=ROOT-B"], &[], &told)?;
    let other = damage::with_partition("OTHER")?;
    other.partition("OTHER")?.format()?;
    let told = ["the root file system has no program /usr/sbin/init; is it an image of Podium?"];
    let (_, bare) = ends_with(&disk, &["podium.root=OTHER"], &[extra(&other)], &told)?;
    Ok(format!("{}; {}", shown(&empty), shown(&bare)))
}

/// A kernel for x86 takes 2 KiB, and cuts the rest off without a word.
fn words() -> Result<String> {
    const MOST: usize = 2047;
    let disk = new_disk()?;
    let mut options = options(&disk, &[], &[])?;
    let right = "podium.watchdog=20s";
    options.words.push(right.to_owned());
    let wrong = ["podium.confg=/a", "podium.root_wait=3601", "podium.config=\"/no such"];
    let room = MOST - options.words.iter().map(|word| word.len() + 1).sum::<usize>();
    let filler = room - wrong.iter().map(|word| word.len() + 1).sum::<usize>();
    options.words.push("q".repeat(filler - 1));
    options.words.extend(wrong.map(str::to_owned));
    let machine = Machine::start(&options)?;
    let unknown =
        machine.wait("podium.confg: warning: unknown word, did you mean podium.config?", BOOT_LIMIT)?;
    let range = machine.wait("podium.root_wait: warning: ", BOOT_LIMIT)?;
    machine.wait("podium: config from kernel command line (/no such", BOOT_LIMIT)?;
    machine.wait("podium: config from image default: 1 pod", BOOT_LIMIT)?;
    machine.wait(" resets after 20 s", BOOT_LIMIT)?;
    Ok(format!("{}; {}", shown(&unknown), shown(&range)))
}
