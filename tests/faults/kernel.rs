//! A kernel that panics, on a machine with a place that keeps its last words.

use super::support::shown;
use anyhow::{Context, Result, ensure};
use podium_tests::disk::temporary_folder;
use podium_tests::faults::Fault;
use podium_tests::inline;
use podium_tests::machine::{BOOT_LIMIT, HAND, config, hand_of, options};
use podium_tests::markers::READY;
use podium_tests::qemu::Machine;
use podium_tests::used;

const KEPT: &str = "/var/log/podium/crash";
const TOLD: &str = "podium: the kernel has kept ";
const MOVED: &str = "podium: crash logs: they are in /var/log/podium/crash now";
/// Of the flash memory behind the machine's firmware (ACPI ERST).
const FLASH: u64 = 1 << 20;

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    vec![Fault::in_machine(
        "kernel",
        "the kernel panics",
        "the machine reboots by itself, its pods run; the kernel's last words are told and kept, where they were is empty",
        panics,
    )]
}

fn panics() -> Result<String> {
    let (disk, folder) = (used::copy()?, temporary_folder()?);
    let flash = folder.path().join("erst");
    let mut options = options(&disk, &[inline::plain(config(&[HAND]).as_bytes())], &[])?;
    let backend = format!("memory-backend-file,id=erst,size={FLASH},mem-path={},share=on", flash.display());
    options.arguments.extend(["-object", &backend, "-device", "acpi-erst,memdev=erst"].map(str::to_owned));
    let machine = Machine::start(&options)?;
    let hand = hand_of(&machine)?;
    ensure!(hand.list("/sys/fs/pstore")?.is_empty());
    // The kernel counts the seconds by instructions, which takes minutes without KVM.
    let delay = hand.read("/proc/sys/kernel/panic")?;
    ensure!(delay.trim() == "10", "reboots after {delay}");
    hand.write("/proc/sys/kernel/panic", "1")?;
    let from = machine.console.mark();
    hand.make_kernel_panic();
    let panic = machine.console.wait(from, "Kernel panic - not syncing: ", BOOT_LIMIT)?;
    let from = machine.console.wait(panic.number + 1, "Rebooting in 1 seconds", BOOT_LIMIT)?.number + 1;
    machine.console.wait(from, READY, BOOT_LIMIT)?;
    let line = machine.console.wait(from, TOLD, BOOT_LIMIT)?;
    ensure!(line.text.contains("Panic#1"), "{line}");
    machine.console.wait(line.number, MOVED, BOOT_LIMIT)?;
    let names = hand.wait("the hand of the next boot", BOOT_LIMIT, |hand| hand.list(KEPT).map(Some))?;
    let words = names.iter().map(|name| hand.read(&format!("{KEPT}/{name}"))).collect::<Result<String>>()?;
    ensure!(words.contains("sysrq: Trigger a crash"), "{names:?}: {words}");
    ensure!(hand.list("/sys/fs/pstore").context("pstore")?.is_empty(), "a record was left");
    Ok(shown(&line))
}
