//! The watchdog of the real image, which in this machine is the kernel's own.

use super::support::{BOOT_LIMIT, HAND, POWER_OFF_LIMIT, boot, config, hand_of, on_a_used_disk};
use anyhow::{Result, ensure};
use podium_tests::inline;
use podium_tests::markers::READY;

#[test]
fn a_pid_1_that_hangs_is_reset_and_a_power_off_is_not() -> Result<()> {
    on_a_used_disk(|disk| {
        let words = [inline::plain(config(&[HAND]).as_bytes()), "podium.watchdog=20s".to_owned()];
        let mut machine = boot(disk, &words, &[])?;
        machine.wait("podium: watchdog: /dev/watchdog0 (Software Watchdog) resets after 20 s", BOOT_LIMIT)?;
        let hand = hand_of(&machine)?;
        let state = |name: &str| hand.read(&format!("/sys/class/watchdog/watchdog0/{name}"));
        ensure!(state("state")?.trim() == "active" && state("timeout")?.trim() == "20");
        let from = machine.console.mark();
        hand.make_init_hang()?;
        // Nothing of a shutdown: the kernel begins anew.
        let line = machine.console.wait(from, "podium: init ", BOOT_LIMIT)?;
        let between = machine.console.lines();
        let said = between.iter().find(|said| {
            said.number >= from && said.number < line.number && said.text.starts_with("podium: shutdown")
        });
        ensure!(said.is_none(), "{said:?}");
        machine.console.wait(line.number, READY, BOOT_LIMIT)?;
        let from = machine.console.mark();
        machine.power_off(POWER_OFF_LIMIT)?;
        let again = machine
            .console
            .lines()
            .into_iter()
            .find(|said| said.number >= from && said.text.contains("podium: init "));
        ensure!(again.is_none(), "{again:?}");
        Ok(())
    })
}
