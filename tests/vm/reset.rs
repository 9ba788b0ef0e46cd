//! A reset that a node was asked for and had not done when it lost its power: the next boot does it, before anything of
//! it is mounted, and spares what it was not asked for. A reset that nothing comes between is the end of the API's
//! session.

use super::support::{BOOT_LIMIT, POWER_OFF_LIMIT, boot, on_a_running_node};
use anyhow::{Result, ensure};
use podium_tests::disk::Disk;
use podium_tests::qemu::Machine;

/// Names what is to be wiped, from the root of STATE.
const MARK: &str = "/reset";
/// What a reset of EPHEMERAL makes go.
const LEFT: &str = "left-from-before";

/// Nothing is left to do, and nothing is damaged.
fn is_done(disk: &Disk) -> Result<()> {
    let (state, var) = (disk.partition("STATE")?, disk.partition("EPHEMERAL")?);
    state.check_clean()?;
    var.check_clean()?;
    ensure!(!state.list("/")?.contains(&"reset".to_owned()), "the mark is still there");
    Ok(())
}

/// By the power button, which is nobody's before that.
fn off(machine: &mut Machine) -> Result<()> {
    machine.wait("podium: devices: up", BOOT_LIMIT)?;
    machine.power_off(POWER_OFF_LIMIT)
}

#[test]
fn what_was_left_undone_is_done_by_the_next_boot() -> Result<()> {
    // A node with a config of its own, in STATE.
    on_a_running_node(|disk, mut machine, _| {
        machine.wait("podium: config from kernel command line (inline): kept in STATE", BOOT_LIMIT)?;
        off(&mut machine)?;

        // /var alone: the config stays.
        let var = disk.partition("EPHEMERAL")?;
        var.replace(&format!("/{LEFT}"), b"left")?;
        disk.partition("STATE")?.replace(MARK, b"[\"EPHEMERAL\"]")?;
        let mut machine = boot(disk, &[], &[])?;
        machine.wait("podium: reset: the node went down before EPHEMERAL was wiped", BOOT_LIMIT)?;
        machine.wait("podium: reset: EPHEMERAL on /dev/vda5 wiped", BOOT_LIMIT)?;
        machine.wait("podium: config from STATE: 2 pods", BOOT_LIMIT)?;
        off(&mut machine)?;
        is_done(disk)?;
        ensure!(!var.list("/")?.contains(&LEFT.to_owned()), "EPHEMERAL was not made anew");

        // Both, and /var was blank already: its power went between the two.
        var.overwrite(&vec![0; 2 << 20])?;
        disk.partition("STATE")?.replace(MARK, b"[\"STATE\",\"EPHEMERAL\"]")?;
        let mut machine = boot(disk, &["podium.config=none".to_owned()], &[])?;
        machine.wait("podium: reset: the node went down before STATE was wiped", BOOT_LIMIT)?;
        machine.wait("podium: reset: STATE on /dev/vda4 wiped", BOOT_LIMIT)?;
        machine.wait("podium: api: there is no config; give one with --insecure", BOOT_LIMIT)?;
        off(&mut machine)?;
        let console = machine.console.tail(1000);
        ensure!(!console.contains("EPHEMERAL was wiped"), "what was blank was wiped once more:\n{console}");
        is_done(disk)?;
        ensure!(
            !disk.partition("STATE")?.list("/")?.contains(&"config.yaml".to_owned()),
            "the config is still there"
        );
        Ok(())
    })
}
