//! Data partitions that are of no use at boot: missing, full, or holding what Podium did not make. The node runs its
//! pods as far as it can, says what it lacks, and touches nothing that it does not know.

use super::support::{BOOT_LIMIT, HELLO, POWER_OFF_LIMIT, boot, config, hello, on_a_new_disk};
use anyhow::{Context, Result, ensure};
use podium_tests::artifacts::Image;
use podium_tests::damage;
use podium_tests::inline;
use podium_tests::markers::READY;
use std::fs::{File, metadata};

/// Longer than what is looked at of a partition.
const FOREIGN: usize = 4 << 20;

/// Bytes that are no file system's.
fn foreign() -> Vec<u8> {
    b"somebody's data\n".repeat(FOREIGN / 16)
}

#[test]
fn a_missing_state_and_a_foreign_var() -> Result<()> {
    on_a_new_disk(|disk| {
        damage::rename(disk.path(), "STATE", "STATE-OLD")?;
        let var = disk.partition("EPHEMERAL")?;
        var.overwrite(&foreign())?;
        let config = config(&[HELLO]);
        let mut machine = boot(disk, &[inline::gzip(config.as_bytes())?], &[])?;
        let line =
            machine.wait("podium: no partition has the label STATE; flash the image", BOOT_LIMIT)?.text;
        ensure!(
            line.contains("a tmpfs stands in: a config given on the kernel command line is forgotten"),
            "{line}"
        );
        let line = machine.wait("podium: EPHEMERAL on /dev/vda5: holds something", BOOT_LIMIT)?.text;
        ensure!(
            line.contains("is not formatted") && line.contains("a tmpfs stands in: container images"),
            "{line}"
        );
        machine.wait(READY, BOOT_LIMIT)?;
        ensure!(hello(&machine)?.contains("hello"));
        machine.power_off(POWER_OFF_LIMIT)?;
        ensure!(var.start(FOREIGN)? == foreign(), "what was on EPHEMERAL was changed");
        Ok(())
    })
}

#[test]
fn a_foreign_state_and_a_missing_var() -> Result<()> {
    on_a_new_disk(|disk| {
        damage::rename(disk.path(), "EPHEMERAL", "DATA")?;
        let (state, data) = (disk.partition("STATE")?, disk.partition("DATA")?);
        state.overwrite(&foreign())?;
        let config = config(&[HELLO]);
        let mut machine = boot(disk, &[inline::gzip(config.as_bytes())?], &[])?;
        let line = machine.wait("podium: STATE on /dev/vda4: holds something", BOOT_LIMIT)?.text;
        ensure!(
            line.contains("is not formatted") && line.contains("a tmpfs stands in: a config given"),
            "{line}"
        );
        let line = machine.wait("podium: no partition has the label EPHEMERAL; flash", BOOT_LIMIT)?.text;
        ensure!(line.contains("a tmpfs stands in: container images and logs are kept in memory"), "{line}");
        machine.wait(READY, BOOT_LIMIT)?;
        ensure!(hello(&machine)?.contains("hello"));
        machine.power_off(POWER_OFF_LIMIT)?;
        ensure!(state.start(FOREIGN)? == foreign(), "what was on STATE was changed");
        ensure!(data.start(4096)? == [0; 4096], "a partition of another label was written to");

        // Nobody can know that it had no config: the network gives it none.
        let mut machine = boot(disk, &["podium.config=none".to_owned()], &[])?;
        let closed = "the API takes none from anybody: STATE cannot be mounted, and may hold one";
        machine.wait(closed, BOOT_LIMIT)?;
        machine.wait("podium: devices: up", BOOT_LIMIT)?;
        machine.wait("podium: api: up", BOOT_LIMIT)?;
        machine.power_off(POWER_OFF_LIMIT)?;
        let console = machine.console.tail(1000);
        ensure!(!console.contains("give one with --insecure"), "the API takes one:\n{console}");
        ensure!(state.start(FOREIGN)? == foreign(), "what was on STATE was changed");
        Ok(())
    })
}

/// Both are full from the first boot on. Once there is room, the next boot is as any other.
#[test]
fn full_ones() -> Result<()> {
    on_a_new_disk(|disk| {
        // Nothing behind /var that it could be grown into.
        let size = metadata(Image::under_test()?.disk)?.len();
        File::options().write(true).open(disk.path())?.set_len(size)?;
        let (state, var) = (disk.partition("STATE")?, disk.partition("EPHEMERAL")?);
        for partition in [&state, &var] {
            partition.format()?;
            partition.fill("filler").context("filler")?;
        }
        let config = config(&[HELLO]);
        let mut machine = boot(disk, &[inline::gzip(config.as_bytes())?], &[])?;
        machine.wait("podium: config from kernel command line (inline): 1 pod", BOOT_LIMIT)?;
        machine.wait("No space left on device", BOOT_LIMIT)?;
        // Who looks after the power button, among others.
        machine.wait("podium: devices: up", BOOT_LIMIT)?;
        machine.power_off(POWER_OFF_LIMIT)?;
        for partition in [&state, &var] {
            partition.check_clean()?;
            partition.remove("filler")?;
        }
        let mut machine = boot(disk, &[inline::gzip(config.as_bytes())?], &[])?;
        machine.wait("podium: config from kernel command line (inline): kept in STATE", BOOT_LIMIT)?;
        machine.wait(READY, BOOT_LIMIT)?;
        ensure!(hello(&machine)?.contains("hello"));
        machine.power_off(POWER_OFF_LIMIT)
    })
}
