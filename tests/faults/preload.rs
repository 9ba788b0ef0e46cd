//! An image whose own archives of containers are damaged, as by a disk that has lost a sector.

use super::support::shown;
use anyhow::{Context, Result, ensure};
use podium_tests::artifacts::Image;
use podium_tests::damage;
use podium_tests::disk::Disk;
use podium_tests::faults::Fault;
use podium_tests::hand;
use podium_tests::hand::Hand;
use podium_tests::inline;
use podium_tests::machine::{BOOT_LIMIT, HAND, HELLO, POWER_OFF_LIMIT, boot, config};

const ARCHIVE: &str = "/usr/lib/podium/images/hello.tar";

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    vec![Fault::in_machine(
        "containerd",
        "an archive of the image's preload is damaged",
        "told by its name; its pod says why it does not run; pods of the other archives run",
        damaged,
    )]
}

fn damaged() -> Result<String> {
    // Nothing is imported yet.
    let disk = Disk::temporary(&Image::under_test()?.disk)?;
    damage::file_of_root(&disk, ARCHIVE)?;
    let mut machine = boot(&disk, &[inline::plain(config(&[HELLO, HAND]).as_bytes())], &[])?;
    let line = machine.wait("podium: preload: hello.tar: ", BOOT_LIMIT)?;
    let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
    let reason = hand.wait("the reason of the pod", BOOT_LIMIT, |hand| {
        let said = hand.ctl("pods status")?.out;
        let is_it = |line: &&str| line.starts_with("default-hello ") && line.contains("ErrImageNeverPull");
        Ok(said.lines().find(is_it).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")))
    })?;
    let service = hand.ctl("service preload")?;
    ensure!(service.ok && !service.out.contains("done"), "{service:?}");
    machine.power_off(POWER_OFF_LIMIT).context("power off")?;
    Ok(format!("{}; {reason}", shown(&line)))
}
